//! `foresee camera preview`: some frames of a camera, told as they come, and the last one as a picture, straightened where the profile says so.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Args;
use foresee_runtime::{Clock, Frame, Observation, straighten, to_rgb};
use serde_json::json;

use super::{DeviceArguments, next};
use crate::stop;
use crate::words::print;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames to take.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Picture of the last frame.
    #[arg(long, default_value = "preview.png", value_name = "FILE.png")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let (mut source, device) = arguments.device.open()?;
    let lens = arguments.device.lens()?;
    let mode = source.mode().cloned();
    let mut observation = Observation::blank(1, 1, 0);
    let (mut arrivals, mut oldest_millis) = (Vec::new(), 0.0_f64);
    while arrivals.len() < arguments.frames as usize {
        if next(&mut source, &mut observation, &stop)?.is_none() {
            break;
        }
        arrivals.push(Instant::now());
        let age = Clock::Wall.now().since(observation.frame.stamp);
        oldest_millis = oldest_millis.max(age.as_secs_f64() * 1e3);
    }
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { bail!("{device}: gives no frame") };
    let seconds = last.duration_since(*first).as_secs_f64();
    let rate = if seconds > 0.0 { (arrivals.len() - 1) as f64 / seconds } else { 0.0 };
    let straight = lens.map(|lens| straighten(&observation.frame, &lens)).transpose()?.flatten();
    let straightened = lens.filter(|_| straight.is_some()).map(|lens| lens.distortion_model());
    picture(straight.as_ref().unwrap_or(&observation.frame), &arguments.out)?;
    let age = device.is_live().then_some(oldest_millis);
    let frame = &observation.frame;
    if arguments.json {
        let mode = mode.map(|mode| {
            json!({ "width": mode.width, "height": mode.height, "rate_hertz": mode.rate_hertz, "format": mode.format, "backend": mode.backend })
        });
        let result = json!({
            "device": device.to_string(), "frames": arrivals.len(), "width": frame.width, "height": frame.height,
            "measured_rate_hertz": rate, "oldest_millis": age, "mode": mode, "picture": arguments.out,
            "straightened": straightened,
        });
        print(&serde_json::to_string_pretty(&result)?);
    } else {
        let told = mode.map_or_else(String::new, |mode| {
            format!(
                "; the driver says {} {} at {:.1} Hz through {}",
                mode.format,
                format_args!("{}x{}", mode.width, mode.height),
                mode.rate_hertz,
                mode.backend
            )
        });
        let age = age.map_or_else(String::new, |millis| format!(", at most {millis:.1} ms old"));
        print(&format!(
            "{device}: {} frames of {}x{} at {rate:.1} Hz{age}{told}",
            arrivals.len(),
            frame.width,
            frame.height
        ));
        let how = straightened.map_or_else(String::new, |model| format!(" (straightened: {model})"));
        print(&format!("  {}{how}", arguments.out.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn picture(frame: &Frame, file: &Path) -> anyhow::Result<()> {
    let image = to_rgb(frame)?;
    let image = image::RgbImage::from_raw(image.width, image.height, image.data).context("a frame of another size")?;
    image.save(file).with_context(|| format!("{}: cannot be written", file.display()))
}
