//! From a profile as written to one that can be relied on: every range and every pair of values that must agree.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::control::{budget, rates, safety, threads, watchdog};
use crate::encoding::encoding;
use crate::joint::dynamics;
use crate::lens::intrinsics;
use crate::profile::{
    CameraProfile, CommandKind, DeviceProfile, HardwareProfile, InferenceProfile, JointProfile, MountProfile, Pace,
    PowerProfile, ThermalProfile, ZenohMode, ZenohProfile,
};
use crate::raw::{
    PaceKind, RawCamera, RawHardware, RawHealth, RawInference, RawJoint, RawMount, RawPace, RawPower, RawProfile,
    RawThermal, RawZenoh,
};
use crate::rig::extra_cameras;

const MAX_CAMERA_PIXELS: u32 = 16_384;
const DEFAULT_RECONNECT_MILLIS: u64 = 250;

/// What is wrong with a value; who knows the text adds the place.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    /// Dotted path.
    pub(crate) key: String,
    /// `None` when the key is missing.
    pub(crate) value: Option<String>,
    pub(crate) rule: String,
}

pub(crate) type Checked<T> = Result<T, Problem>;

/// Checks everything but what only the machine can tell.
pub(crate) fn check(raw: RawProfile, name: &str) -> Checked<DeviceProfile> {
    let robot = raw.robot.ok_or_else(|| missing("robot", "the robot's name in zenoh keys, such as \"reacher\""))?;
    key_part("robot", &robot)?;
    let hardware = raw.hardware.map(hardware).transpose()?;
    let camera = camera(raw.camera.ok_or_else(|| missing("camera", "a table with name, width, height, encoding"))?)?;
    let intrinsics = raw.intrinsics.map(|raw| intrinsics(&raw, &camera)).transpose()?;
    let pace =
        pace(&raw.pace.ok_or_else(|| missing("pace", "a table with kind = \"lockstep\" or \"fixed\""))?, &camera)?;
    let extra_cameras = extra_cameras(raw.extra_cameras.unwrap_or_default(), &camera, pace)?;
    let inference = raw.inference.ok_or_else(|| missing("inference", "a table with providers, intra_threads"))?;
    let memory_mebibytes = raw.memory.map(|memory| memory.max_resident_mebibytes);
    if let Some(mebibytes) = memory_mebibytes {
        within("memory.max_resident_mebibytes", mebibytes, 64..=1 << 20)?;
        if let Some(hardware) = hardware.filter(|hardware| mebibytes > hardware.memory_mebibytes) {
            let rule = format!("the device has {}: hardware.memory_mebibytes", hardware.memory_mebibytes);
            return Err(wrong("memory.max_resident_mebibytes", mebibytes, &rule));
        }
    }
    let joints = joints(raw.joints.ok_or_else(|| missing("joints", "at least one [[joints]] table"))?)?;
    Ok(DeviceProfile {
        name: name.to_owned(),
        description: raw.description.unwrap_or_default(),
        robot,
        safety: safety(raw.safety.unwrap_or_default(), &joints)?,
        watchdog: watchdog(&raw.watchdog.unwrap_or_default(), pace)?,
        budget: budget(raw.budget)?,
        threads: threads(raw.threads.unwrap_or_default(), hardware)?,
        rates: rates(&raw.rates.unwrap_or_default(), pace)?,
        joints,
        inference: self::inference(inference, hardware)?,
        hardware,
        camera,
        extra_cameras,
        intrinsics,
        mount: raw.mount.map(mount).transpose()?,
        pace,
        power: raw.power.map(power).transpose()?,
        thermal: raw.thermal.map(thermal).transpose()?,
        max_resident_mebibytes: memory_mebibytes,
        health: raw.health.map(|raw| health(&raw)).transpose()?,
        zenoh: zenoh(raw.zenoh.ok_or_else(|| missing("zenoh", "a table with listen, connect, shared_memory"))?)?,
    })
}

fn missing(key: &str, rule: &str) -> Problem {
    Problem { key: key.to_owned(), value: None, rule: rule.to_owned() }
}

pub(crate) fn wrong(key: &str, value: impl Display, rule: &str) -> Problem {
    Problem { key: key.to_owned(), value: Some(value.to_string()), rule: rule.to_owned() }
}

pub(crate) fn within<T: PartialOrd + Display>(key: &str, found: T, range: RangeInclusive<T>) -> Checked<()> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(wrong(key, found, &format!("must lie from {} to {}", range.start(), range.end())))
}

pub(crate) fn finite(key: &str, values: &[f64]) -> Checked<()> {
    match values.iter().find(|found| !found.is_finite()) {
        Some(found) => Err(wrong(key, found, "must be finite")),
        None => Ok(()),
    }
}

pub(crate) fn key_part(key: &str, text: &str) -> Checked<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.chars().all(allowed) {
        return Ok(());
    }
    Err(wrong(key, format!("{text:?}"), "use letters, digits, `-` and `_` only: it becomes part of zenoh keys"))
}

fn hardware(raw: RawHardware) -> Checked<HardwareProfile> {
    within("hardware.cpu_cores", raw.cpu_cores, 1..=1024)?;
    within("hardware.memory_mebibytes", raw.memory_mebibytes, 64..=1 << 24)?;
    Ok(HardwareProfile { cpu_cores: raw.cpu_cores, memory_mebibytes: raw.memory_mebibytes })
}

pub(crate) fn camera(raw: RawCamera) -> Checked<CameraProfile> {
    within("camera.width", raw.width, 1..=MAX_CAMERA_PIXELS)?;
    within("camera.height", raw.height, 1..=MAX_CAMERA_PIXELS)?;
    if let Some(rate) = raw.rate_hertz {
        within("camera.rate_hertz", rate, 0.1..=10_000.0)?;
    }
    let format = raw.format.map(|format| {
        let letters: Result<[u8; 4], _> = format.as_bytes().try_into();
        letters.ok().filter(|letters| letters.iter().all(u8::is_ascii_alphanumeric)).ok_or_else(|| {
            wrong(
                "camera.format",
                format!("{format:?}"),
                "four letters or digits, such as \"MJPG\", \"YUYV\" or \"NV12\"",
            )
        })
    });
    if let Some(millis) = raw.exposure_millis {
        within("camera.exposure_millis", millis, 0.01..=10_000.0)?;
        if let Some(rate) = raw.rate_hertz.filter(|rate| millis * rate > 1000.0) {
            let rule = format!("is longer than a frame at camera.rate_hertz = {rate}: at most {}", 1000.0 / rate);
            return Err(wrong("camera.exposure_millis", millis, &rule));
        }
    }
    let reconnect_millis = raw.reconnect_millis.unwrap_or(DEFAULT_RECONNECT_MILLIS);
    within("camera.reconnect_millis", reconnect_millis, 1..=5000)?;
    let camera = CameraProfile {
        name: raw.name,
        device: raw.device,
        width: raw.width,
        height: raw.height,
        encoding: raw.encoding,
        rate_hertz: raw.rate_hertz,
        format: format.transpose()?,
        exposure_millis: raw.exposure_millis,
        reconnect_millis,
    };
    encoding(&camera)?;
    Ok(camera)
}

fn mount(raw: RawMount) -> Checked<MountProfile> {
    finite("mount.parent_from_camera_metres", &raw.parent_from_camera_metres)?;
    let length = raw.parent_from_camera_quaternion_wxyz.iter().map(|part| part * part).sum::<f64>().sqrt();
    if !length.is_finite() || (length - 1.0).abs() > 1e-3 {
        let rule = "a quaternion w, x, y, z of length 1";
        return Err(wrong(
            "mount.parent_from_camera_quaternion_wxyz",
            format!("{:?}", raw.parent_from_camera_quaternion_wxyz),
            rule,
        ));
    }
    Ok(MountProfile {
        parent: raw.parent,
        parent_from_camera_metres: raw.parent_from_camera_metres,
        parent_from_camera_quaternion_wxyz: raw.parent_from_camera_quaternion_wxyz,
    })
}

fn joints(joints: Vec<RawJoint>) -> Checked<Vec<JointProfile>> {
    if joints.is_empty() {
        return Err(wrong("joints", "[]", "name at least one joint"));
    }
    let mut checked: Vec<JointProfile> = Vec::with_capacity(joints.len());
    for (joint_idx, joint) in joints.into_iter().enumerate() {
        let key = |field: &str| format!("joints[{joint_idx}].{field}");
        if checked.iter().any(|other| other.name == joint.name) {
            return Err(wrong(&key("name"), format!("{:?}", joint.name), "is given twice; joint names are unique"));
        }
        if !(joint.minimum.is_finite() && joint.maximum.is_finite() && joint.minimum < joint.maximum) {
            let range = format!("{} with maximum = {}", joint.minimum, joint.maximum);
            return Err(wrong(&key("minimum"), range, "both must be finite and minimum < maximum"));
        }
        if !(joint.max_rate_per_second.is_finite() && joint.max_rate_per_second > 0.0) {
            return Err(wrong(&key("max_rate_per_second"), joint.max_rate_per_second, "must be finite and > 0"));
        }
        if joint.command == CommandKind::TorqueNormalised {
            within(&key("minimum"), joint.minimum, -1.0..=1.0)?;
            within(&key("maximum"), joint.maximum, -1.0..=1.0)?;
        }
        let raw = joint.dynamics();
        let joint = JointProfile {
            name: joint.name,
            command: joint.command,
            minimum: joint.minimum,
            maximum: joint.maximum,
            continuous: false,
            max_rate_per_second: joint.max_rate_per_second,
            max_acceleration_per_second_squared: None,
            max_jerk_per_second_cubed: None,
            home: None,
            damping_per_radian_per_second: 0.0,
            position: None,
            link: None,
        };
        checked.push(dynamics(joint, &raw, &key)?);
    }
    Ok(checked)
}

fn inference(raw: RawInference, hardware: Option<HardwareProfile>) -> Checked<InferenceProfile> {
    within("inference.intra_threads", raw.intra_threads, 1..=256)?;
    if let Some(hardware) = hardware.filter(|hardware| raw.intra_threads > hardware.cpu_cores as usize) {
        let rule = format!("the device has {} cores: hardware.cpu_cores", hardware.cpu_cores);
        return Err(wrong("inference.intra_threads", raw.intra_threads, &rule));
    }
    if raw.providers.is_empty() {
        return Err(wrong("inference.providers", "[]", "name at least one of tensorrt, cuda, cpu, tract"));
    }
    let names: Vec<_> = raw.providers.iter().map(|provider| provider.name()).collect();
    if names.iter().enumerate().any(|(idx, name)| names.iter().take(idx).any(|other| other == name)) {
        return Err(wrong("inference.providers", format!("{names:?}"), "names a provider twice"));
    }
    Ok(InferenceProfile { providers: raw.providers, precision: raw.precision, intra_threads: raw.intra_threads })
}

fn pace(raw: &RawPace, camera: &CameraProfile) -> Checked<Pace> {
    let refuse = |key: &str, is_given: bool, kind: &str| match is_given {
        true => Err(wrong(&format!("pace.{key}"), "given", &format!("does not go with kind = \"{kind}\""))),
        false => Ok(()),
    };
    match raw.kind {
        PaceKind::Lockstep => {
            refuse("rate_hertz", raw.rate_hertz.is_some(), "lockstep")?;
            refuse("max_frame_age_millis", raw.max_frame_age_millis.is_some(), "lockstep")?;
            let need = |key| missing(key, "kind = \"lockstep\" has period_millis and answer_timeout_millis");
            let period_millis = raw.period_millis.ok_or_else(|| need("pace.period_millis"))?;
            let answer_timeout_millis = raw.answer_timeout_millis.ok_or_else(|| need("pace.answer_timeout_millis"))?;
            if camera.device.is_some() {
                return Err(wrong(
                    "pace.kind",
                    "\"lockstep\"",
                    "a camera has its own time: with camera.device the kind is \"fixed\"",
                ));
            }
            within("pace.period_millis", period_millis, 0.1..=60_000.0)?;
            within("pace.answer_timeout_millis", answer_timeout_millis, 1..=3_600_000)?;
            Ok(Pace::Lockstep { period_millis, answer_timeout_millis })
        }
        PaceKind::Fixed => {
            refuse("period_millis", raw.period_millis.is_some(), "fixed")?;
            refuse("answer_timeout_millis", raw.answer_timeout_millis.is_some(), "fixed")?;
            let need = |key| missing(key, "kind = \"fixed\" has rate_hertz and max_frame_age_millis");
            let rate_hertz = raw.rate_hertz.ok_or_else(|| need("pace.rate_hertz"))?;
            let max_frame_age_millis = raw.max_frame_age_millis.ok_or_else(|| need("pace.max_frame_age_millis"))?;
            within("pace.rate_hertz", rate_hertz, 0.1..=10_000.0)?;
            within("pace.max_frame_age_millis", max_frame_age_millis, 1..=60_000)?;
            if max_frame_age_millis as f64 * rate_hertz <= 1000.0 {
                let rule = format!(
                    "a command is in force for a period of {:.1} ms (pace.rate_hertz = {rate_hertz}): give more than that and the camera's latency",
                    1000.0 / rate_hertz
                );
                return Err(wrong("pace.max_frame_age_millis", max_frame_age_millis, &rule));
            }
            if let Some(rate) = camera.rate_hertz.filter(|rate| max_frame_age_millis as f64 * rate < 1000.0) {
                let rule = format!(
                    "the camera gives a frame every {:.1} ms (camera.rate_hertz = {rate}): every other would be late",
                    1000.0 / rate
                );
                return Err(wrong("pace.max_frame_age_millis", max_frame_age_millis, &rule));
            }
            Ok(Pace::Fixed { rate_hertz, max_frame_age_millis })
        }
    }
}

fn power(raw: RawPower) -> Checked<PowerProfile> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if raw.nvpmodel_mode.is_empty() || !raw.nvpmodel_mode.chars().all(allowed) {
        let rule = "a NAME of /etc/nvpmodel.conf, such as \"15W\" or \"MAXN\"";
        return Err(wrong("power.nvpmodel_mode", format!("{:?}", raw.nvpmodel_mode), rule));
    }
    Ok(PowerProfile { nvpmodel_mode: raw.nvpmodel_mode, lock_clocks: raw.lock_clocks })
}

fn thermal(raw: RawThermal) -> Checked<ThermalProfile> {
    if let Some(celsius) = raw.degraded_above_celsius {
        within("thermal.degraded_above_celsius", celsius, 30.0..=125.0)?;
    }
    within("thermal.hysteresis_celsius", raw.hysteresis_celsius, 0.0..=30.0)?;
    within("thermal.poll_millis", raw.poll_millis, 100..=60_000)?;
    Ok(ThermalProfile {
        degraded_above_celsius: raw.degraded_above_celsius,
        hysteresis_celsius: raw.hysteresis_celsius,
        poll_millis: raw.poll_millis,
    })
}

fn health(raw: &RawHealth) -> Checked<SocketAddr> {
    let rule = "a loopback address and port, such as \"127.0.0.1:9464\": the page has no password";
    let address: Option<SocketAddr> = raw.listen.parse().ok();
    address
        .filter(|address| address.ip().is_loopback())
        .ok_or_else(|| wrong("health.listen", format!("{:?}", raw.listen), rule))
}

/// Whether this is `PROTOCOL/HOST:PORT` (of tcp, tls, udp and quic), or an address of another protocol of zenoh's.
pub fn is_endpoint(endpoint: &str) -> bool {
    match endpoint.split_once('/') {
        Some(("tcp" | "tls" | "udp" | "quic", address)) => {
            let port = address.split(['?', '#']).next().and_then(|address| address.rsplit_once(':'));
            port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        }
        Some((protocol, address)) => !protocol.is_empty() && !address.is_empty(),
        None => false,
    }
}

fn zenoh(raw: RawZenoh) -> Checked<ZenohProfile> {
    for (key, endpoints) in [("listen", &raw.listen), ("connect", &raw.connect)] {
        for (idx, endpoint) in endpoints.iter().enumerate() {
            if !is_endpoint(endpoint) {
                let rule = "PROTOCOL/HOST:PORT, such as \"tcp/127.0.0.1:7447\"";
                return Err(wrong(&format!("zenoh.{key}[{idx}]"), format!("{endpoint:?}"), rule));
            }
        }
    }
    let RawZenoh { mode, listen, connect, shared_memory } = raw;
    let mode = mode.unwrap_or_default();
    if mode == ZenohMode::Client && connect.len() != 1 {
        let rule = "needs the address of its one router: connect = [\"tcp/127.0.0.1:7447\"]; or mode = \"peer\"";
        return Err(wrong("zenoh.mode", "\"client\"", rule));
    }
    if mode == ZenohMode::Client && !listen.is_empty() {
        let rule = "does not go with mode = \"client\": a client listens nowhere; give [], or mode = \"peer\"";
        return Err(wrong("zenoh.listen", format!("{listen:?}"), rule));
    }
    Ok(ZenohProfile { mode, listen, connect, shared_memory })
}
