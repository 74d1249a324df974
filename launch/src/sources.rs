//! Where a loop's observations come from: cameras of this computer, and the robot over zenoh.

#[cfg(feature = "camera")]
use foresee_firmware_config::CameraProfile;
use foresee_firmware_config::DeviceProfile;
#[cfg(feature = "camera")]
use foresee_runtime::{CameraDevice, CameraOptions, CameraRobot, CameraSource, CamerasBeside, Clock, LiveCamera};
use foresee_runtime::{FrameSource, ZenohLink, ZenohSource};

use crate::words::say_later;

/// Frames from the profile's camera where it names one, else from the robot; joint states from the robot.
#[cfg(feature = "camera")]
pub(crate) fn open_source(link: &ZenohLink, profile: &DeviceProfile) -> anyhow::Result<Box<dyn FrameSource>> {
    let joints = ZenohSource::new(link, profile)?.telling(say_later);
    let first: Box<dyn FrameSource> = match open_camera(&profile.camera, "camera.device")? {
        Some(camera) => Box::new(CameraRobot::new(camera, joints)),
        None => Box::new(joints),
    };
    let mut beside = Vec::new();
    for (place, extra) in profile.extra_cameras.iter().enumerate() {
        let camera = open_camera(&extra.camera, &format!("extra_cameras[{place}].device"))?;
        beside.extend(camera.map(|camera| (place, camera)));
    }
    Ok(if beside.is_empty() { first } else { Box::new(CamerasBeside::new(first, beside)) })
}

/// `None`: its frames come over zenoh.
#[cfg(feature = "camera")]
fn open_camera(camera: &CameraProfile, key: &str) -> anyhow::Result<Option<LiveCamera>> {
    let Some(device) = &camera.device else { return Ok(None) };
    let device = CameraDevice::parse(device).map_err(|problem| anyhow::anyhow!("{key}: {problem}"))?;
    let options = CameraOptions { camera: camera.clone(), clock: Clock::Wall, any_size: false };
    Ok(Some(LiveCamera::start(CameraSource::open(&device, options)?)?))
}

#[cfg(not(feature = "camera"))]
pub(crate) fn open_source(link: &ZenohLink, profile: &DeviceProfile) -> anyhow::Result<Box<dyn FrameSource>> {
    let others = profile.extra_cameras.iter().map(|extra| &extra.camera);
    if let Some(device) = std::iter::once(&profile.camera).chain(others).find_map(|camera| camera.device.as_ref()) {
        anyhow::bail!(
            "profile {}: device = {device:?}: this build has no cameras; build with --features camera, or leave the key out and let the robot publish the images",
            profile.name
        );
    }
    Ok(Box::new(ZenohSource::new(link, profile)?.telling(say_later)))
}
