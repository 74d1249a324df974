//! The profile as written: TOML tables with strict keys. What a value must be is checked in `check.rs`, once.
//!
//! The sentences over the keys are what an editor shows: the JSON schema is made of these types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::{RawBudget, RawRates, RawSafety, RawThreads, RawWatchdog};
use crate::joint::RawDynamics;
use crate::lens::RawIntrinsics;
use crate::profile::{CommandKind, PixelEncoding, Precision, Provider, ZenohMode};
use crate::rig::RawExtraCamera;

/// A device profile of Foresee: what a robot's computer, camera and joints are.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Foresee device profile", rename = "DeviceProfile")]
pub(crate) struct RawProfile {
    /// A built-in profile or a .toml file beside this one. A table given here replaces the inherited table whole.
    pub(crate) inherit: Option<String>,
    /// One line for people.
    pub(crate) description: Option<String>,
    /// The robot's name in zenoh keys `foresee/<robot>/...`: letters, digits, `-` and `_`.
    pub(crate) robot: Option<String>,
    /// The computer, as its data sheet has it; other values are held against it.
    pub(crate) hardware: Option<RawHardware>,
    /// The camera that the loop looks through.
    pub(crate) camera: Option<RawCamera>,
    /// The camera's calibration, as `foresee camera calibrate` writes it.
    pub(crate) intrinsics: Option<RawIntrinsics>,
    /// Cameras beside the first one; their features are put behind the first one's, in this order.
    pub(crate) extra_cameras: Option<Vec<RawExtraCamera>>,
    /// Where the camera is mounted, as `foresee camera calibrate --poses` writes it.
    pub(crate) mount: Option<RawMount>,
    /// Commanded joints, in command order.
    pub(crate) joints: Option<Vec<RawJoint>>,
    /// Engines, precision and threads.
    pub(crate) inference: Option<RawInference>,
    /// What starts a tick.
    pub(crate) pace: Option<RawPace>,
    /// Power mode and clocks of a Jetson.
    pub(crate) power: Option<RawPower>,
    /// When heat makes the loop say that it is degraded.
    pub(crate) thermal: Option<RawThermal>,
    /// How much memory the loop may take.
    pub(crate) memory: Option<RawMemory>,
    /// The health page and metrics.
    pub(crate) health: Option<RawHealth>,
    /// Where zenoh listens and connects.
    pub(crate) zenoh: Option<RawZenoh>,
    /// The safe action, and the box that no link may leave.
    pub(crate) safety: Option<RawSafety>,
    /// The independent watchdog.
    pub(crate) watchdog: Option<RawWatchdog>,
    /// How long a tick may take; proved at start-up and watched while running.
    pub(crate) budget: Option<RawBudget>,
    /// Scheduling, priorities, cores.
    pub(crate) threads: Option<RawThreads>,
    /// Encoder and policy at rates of their own.
    pub(crate) rates: Option<RawRates>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHardware {
    /// Processor cores.
    pub(crate) cpu_cores: u32,
    /// Main memory.
    pub(crate) memory_mebibytes: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCamera {
    /// Camera name in the model or driver.
    pub(crate) name: String,
    /// `/dev/video0`, `csi:0` (a Jetson's), `rtsp://...`, `gstreamer: PIPELINE ! appsink`, a video file or a folder of images; without it frames come over zenoh.
    pub(crate) device: Option<String>,
    /// Pixels, 1 to 16384.
    pub(crate) width: u32,
    /// Pixels, 1 to 16384.
    pub(crate) height: u32,
    /// How the loop gets the image: `rgb8`, `bgr8`, or as a driver gives it: `yuyv`, `nv12`, `jpeg`.
    pub(crate) encoding: PixelEncoding,
    /// Frames a second to ask the driver for.
    pub(crate) rate_hertz: Option<f64>,
    /// Pixel format to ask the driver for, as V4L2's four letters: `MJPG`, `YUYV`, `NV12`, ...
    pub(crate) format: Option<String>,
    /// Fixed exposure time; without it the driver chooses.
    pub(crate) exposure_millis: Option<f64>,
    /// How long a camera that went away is waited for before it is tried again, at first; doubles up to 5 s.
    pub(crate) reconnect_millis: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMount {
    /// The frame that the camera is fixed to, such as `gripper` or `base`.
    pub(crate) parent: String,
    /// Position of the camera in the parent frame: x, y, z.
    pub(crate) parent_from_camera_metres: [f64; 3],
    /// Orientation of the camera (x right, y down, z forward) in the parent frame, of length 1: w, x, y, z.
    pub(crate) parent_from_camera_quaternion_wxyz: [f64; 4],
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawJoint {
    /// Joint (and actuator) name.
    pub(crate) name: String,
    /// What a command means; its SI unit is in the name.
    pub(crate) command: CommandKind,
    /// Smallest command.
    pub(crate) minimum: f64,
    /// Largest command.
    pub(crate) maximum: f64,
    /// A joint that takes positions and turns without end (URDF's `continuous`); its range is one turn or more. False without it.
    pub(crate) continuous: Option<bool>,
    /// Largest change of the command per second.
    pub(crate) max_rate_per_second: f64,
    /// Largest change of the rate per second; no limit without it.
    pub(crate) max_acceleration_per_second_squared: Option<f64>,
    /// Largest change of the acceleration per second; only with an acceleration.
    pub(crate) max_jerk_per_second_cubed: Option<f64>,
    /// Where the safe action `return_home` goes; required by it.
    pub(crate) home: Option<f64>,
    /// Command units per radian per second, for the safe action `damp`.
    pub(crate) damping_per_radian_per_second: Option<f64>,
    /// Smallest measured position, for velocities and torques.
    pub(crate) minimum_position_radians: Option<f64>,
    /// Largest measured position, for velocities and torques.
    pub(crate) maximum_position_radians: Option<f64>,
    /// The deceleration that the joint certainly manages.
    pub(crate) braking_radians_per_second_squared: Option<f64>,
    /// Axis of rotation, of length 1, in the frame of the origin.
    pub(crate) axis: Option<[f64; 3]>,
    /// Origin in the frame of the joint before it; the first: of the base.
    pub(crate) origin_metres: Option<[f64; 3]>,
    /// Fixed roll, pitch, yaw of the origin.
    pub(crate) origin_radians: Option<[f64; 3]>,
}

impl RawJoint {
    pub(crate) fn dynamics(&self) -> RawDynamics {
        RawDynamics {
            max_acceleration_per_second_squared: self.max_acceleration_per_second_squared,
            max_jerk_per_second_cubed: self.max_jerk_per_second_cubed,
            home: self.home,
            continuous: self.continuous,
            damping_per_radian_per_second: self.damping_per_radian_per_second,
            minimum_position_radians: self.minimum_position_radians,
            maximum_position_radians: self.maximum_position_radians,
            braking_radians_per_second_squared: self.braking_radians_per_second_squared,
            axis: self.axis,
            origin_metres: self.origin_metres,
            origin_radians: self.origin_radians,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawInference {
    /// In the order in which `--provider auto` tries them.
    pub(crate) providers: Vec<Provider>,
    /// The type of the weights that the device is to run: a model of another is served, and told. Any without it.
    pub(crate) precision: Option<Precision>,
    /// Threads inside one inference.
    pub(crate) intra_threads: usize,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPace {
    /// `lockstep`: simulated time, every frame answered. `fixed`: a monotonic clock, the latest frame wins.
    pub(crate) kind: PaceKind,
    /// Lockstep: simulated time from frame to frame; a fraction such as 12.5 is fine.
    pub(crate) period_millis: Option<f64>,
    /// Lockstep: how long the simulation waits for an answer.
    pub(crate) answer_timeout_millis: Option<u64>,
    /// Fixed: ticks a second.
    pub(crate) rate_hertz: Option<f64>,
    /// Fixed: older frames count as a fault.
    pub(crate) max_frame_age_millis: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PaceKind {
    Lockstep,
    Fixed,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPower {
    /// Name of the mode in the device's /etc/nvpmodel.conf, such as `15W` or `MAXN`; its number differs from board to board.
    pub(crate) nvpmodel_mode: String,
    /// Hold the clocks at the mode's maximum (`jetson_clocks`).
    pub(crate) lock_clocks: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawThermal {
    /// From here the loop is degraded; without it, from the kernel's own throttling points.
    pub(crate) degraded_above_celsius: Option<f64>,
    /// How far below it must have cooled before the loop is normal again.
    pub(crate) hysteresis_celsius: f64,
    /// How often the temperatures are read.
    pub(crate) poll_millis: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMemory {
    /// Resident memory of the loop's process; the systemd unit enforces it.
    pub(crate) max_resident_mebibytes: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHealth {
    /// Loopback address of /healthz, /readyz and /metrics, such as `127.0.0.1:9464`.
    pub(crate) listen: String,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawZenoh {
    /// `peer`: speaks with whom it connects to and who connects to it; `client`: everything goes through the router at `connect`. `peer` without it.
    pub(crate) mode: Option<ZenohMode>,
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub(crate) listen: Vec<String>,
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub(crate) connect: Vec<String>,
    /// Large payloads through POSIX shared memory.
    pub(crate) shared_memory: bool,
}

impl RawProfile {
    /// A table given here replaces the inherited one whole, so that no half of a table comes from elsewhere unseen.
    pub(crate) fn over(self, parent: Self) -> Self {
        Self {
            inherit: self.inherit,
            description: self.description.or(parent.description),
            robot: self.robot.or(parent.robot),
            hardware: self.hardware.or(parent.hardware),
            camera: self.camera.or(parent.camera),
            intrinsics: self.intrinsics.or(parent.intrinsics),
            mount: self.mount.or(parent.mount),
            joints: self.joints.or(parent.joints),
            inference: self.inference.or(parent.inference),
            pace: self.pace.or(parent.pace),
            power: self.power.or(parent.power),
            thermal: self.thermal.or(parent.thermal),
            memory: self.memory.or(parent.memory),
            health: self.health.or(parent.health),
            zenoh: self.zenoh.or(parent.zenoh),
            safety: self.safety.or(parent.safety),
            watchdog: self.watchdog.or(parent.watchdog),
            budget: self.budget.or(parent.budget),
            threads: self.threads.or(parent.threads),
            rates: self.rates.or(parent.rates),
            extra_cameras: self.extra_cameras.or(parent.extra_cameras),
        }
    }
}
