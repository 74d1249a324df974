//! `foresee camera`: which cameras are here, what one gives, and its calibration.

mod calibrate;
mod poses;
mod preview;
mod tables;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use foresee_firmware_config::{CameraProfile, IntrinsicsProfile, PixelEncoding, load};
use foresee_runtime::{
    CameraDevice, CameraOptions, CameraSource, Clock, FrameSource, Observation, SourceEvent, list_cameras,
};
use serde_json::json;

use crate::words::{print, say};

/// How long a camera may give nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `foresee camera`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the cameras of this machine, and what stands against each.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take some frames: size, format, rate and age as they come; the last one as a picture.
    Preview(preview::Arguments),
    /// Measure focal lengths, principal point and distortion with a checkerboard; with poses of the gripper, where the camera is mounted.
    Calibrate(calibrate::Arguments),
}

/// A camera, or the one of a profile.
#[derive(Args)]
struct DeviceArguments {
    /// /dev/video0, csi:0, rtsp://..., `gstreamer: PIPELINE ! appsink`, a video or a folder of images [default: the profile's]
    #[arg(value_name = "DEVICE", required_unless_present = "profile")]
    device: Option<String>,
    /// Take size, format, rate and exposure from this profile's [camera].
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
}

/// Exit code 1 when there is no camera that can be used, or a calibration is too coarse.
///
/// # Errors
/// One line that names the camera, file or profile and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::List { json } => list(*json),
        What::Preview(arguments) => preview::act(arguments),
        What::Calibrate(arguments) => calibrate::act(arguments),
    }
}

fn list(as_json: bool) -> anyhow::Result<ExitCode> {
    let cameras = list_cameras();
    if as_json {
        let rows: Vec<_> = cameras
            .iter()
            .map(|camera| json!({ "device": camera.device, "name": camera.name, "problem": camera.problem }))
            .collect();
        print(&serde_json::to_string_pretty(&json!({ "cameras": rows }))?);
    } else if cameras.is_empty() {
        say("no Video4Linux camera; is one connected? csi:N, rtsp://... and gstreamer: are not listed");
    } else {
        for camera in &cameras {
            let problem = camera.problem.as_deref().unwrap_or("can be opened");
            print(&format!("{:<14} {:<32} {problem}", camera.device.display(), camera.name));
        }
    }
    let is_usable = cameras.iter().any(|camera| camera.problem.is_none());
    Ok(ExitCode::from(u8::from(!is_usable)))
}

impl DeviceArguments {
    /// The profile's calibration.
    fn lens(&self) -> anyhow::Result<Option<IntrinsicsProfile>> {
        Ok(self.profile.as_deref().map(load).transpose()?.and_then(|profile| profile.intrinsics))
    }

    fn open(&self) -> anyhow::Result<(CameraSource, CameraDevice)> {
        let camera = match &self.profile {
            Some(profile) => load(profile)?.camera,
            None => CameraProfile {
                name: "camera".to_owned(),
                device: None,
                width: 640,
                height: 480,
                encoding: PixelEncoding::Bgr8,
                rate_hertz: None,
                format: None,
                exposure_millis: None,
                reconnect_millis: 250,
            },
        };
        let named = self.device.as_deref().or(camera.device.as_deref());
        let named = named.with_context(|| {
            format!(
                "profile {}: has no camera.device; give one on the command line",
                self.profile.as_deref().unwrap_or_default()
            )
        })?;
        let device = CameraDevice::parse(named).map_err(anyhow::Error::msg)?;
        // A profile says what must come; without one, whatever comes is taken.
        let options = CameraOptions { camera, clock: Clock::Wall, any_size: self.profile.is_none() };
        Ok((CameraSource::open(&device, options)?, device))
    }
}

/// The next frame; `None` when the source has no more or was stopped.
fn next(source: &mut CameraSource, observation: &mut Observation, stop: &AtomicBool) -> anyhow::Result<Option<()>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match source.next(observation, Duration::from_millis(100))? {
            SourceEvent::Observed => return Ok(Some(())),
            SourceEvent::Finished => return Ok(None),
            _ if Instant::now() > deadline => {
                bail!(
                    "no frame came for {} s: {}",
                    PATIENCE.as_secs(),
                    source.lost().unwrap_or("the driver is silent")
                );
            }
            _ => {}
        }
    }
}
