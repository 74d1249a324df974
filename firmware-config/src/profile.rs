//! The checked profile: what the rest of Foresee reads.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::control::{BudgetProfile, RatesProfile, SafetyProfile, ThreadsProfile, WatchdogProfile};
use crate::joint::{JointLink, PositionLimits};
use crate::lens::IntrinsicsProfile;
use crate::rig::ExtraCameraProfile;

/// A device, checked: every range holds, every required key is there.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceProfile {
    /// Built-in name or file stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The `<robot>` of the keys `foresee/<robot>/...`.
    pub robot: String,
    /// The computer, where the profile says what it is.
    pub hardware: Option<HardwareProfile>,
    /// The camera that the control loop looks through.
    pub camera: CameraProfile,
    /// Cameras beside it; their features are put behind its own, in this order.
    pub extra_cameras: Vec<ExtraCameraProfile>,
    /// The camera's calibration, of the camera's size.
    pub intrinsics: Option<IntrinsicsProfile>,
    /// Where the camera is mounted.
    pub mount: Option<MountProfile>,
    /// Commanded joints, in command order; at least one.
    pub joints: Vec<JointProfile>,
    /// Engines and threads.
    pub inference: InferenceProfile,
    /// What starts a tick.
    pub pace: Pace,
    /// Power mode and clocks of a Jetson.
    pub power: Option<PowerProfile>,
    /// When heat degrades the loop; `None`: temperatures are not looked at.
    pub thermal: Option<ThermalProfile>,
    /// Resident memory that the loop's process may take.
    pub max_resident_mebibytes: Option<u64>,
    /// Loopback address of the health page and metrics; `None`: no page.
    pub health: Option<SocketAddr>,
    /// Transport.
    pub zenoh: ZenohProfile,
    /// The safe action, and the box that no link may leave.
    pub safety: SafetyProfile,
    /// The independent watchdog.
    pub watchdog: WatchdogProfile,
    /// How long a tick may take; `None`: neither proved nor watched.
    pub budget: Option<BudgetProfile>,
    /// Scheduling.
    pub threads: ThreadsProfile,
    /// Encoder and policy at rates of their own.
    pub rates: RatesProfile,
}

/// The computer, as its data sheet has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareProfile {
    /// Processor cores.
    pub cpu_cores: u32,
    /// Main memory.
    pub memory_mebibytes: u64,
}

/// The image that the camera delivers, and how to get it.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraProfile {
    /// Camera name in the model or driver.
    pub name: String,
    /// Device, address, pipeline, file or folder; `None`: frames come over zenoh.
    pub device: Option<String>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Channel order and type.
    pub encoding: PixelEncoding,
    /// Frames a second to ask the driver for.
    pub rate_hertz: Option<f64>,
    /// Pixel format to ask the driver for: V4L2's four letters.
    pub format: Option<[u8; 4]>,
    /// Fixed exposure time; `None`: the driver chooses.
    pub exposure_millis: Option<f64>,
    /// First pause before a camera that went away is tried again.
    pub reconnect_millis: u64,
}

/// Where a camera is mounted.
#[derive(Clone, Debug, PartialEq)]
pub struct MountProfile {
    /// The frame that the camera is fixed to.
    pub parent: String,
    /// Position of the camera in the parent frame.
    pub parent_from_camera_metres: [f64; 3],
    /// Orientation of the camera (x right, y down, z forward) in the parent frame; of length 1.
    pub parent_from_camera_quaternion_wxyz: [f64; 4],
}

/// Power mode and clocks of a Jetson.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerProfile {
    /// NAME of the mode in /etc/nvpmodel.conf.
    pub nvpmodel_mode: String,
    /// Hold the clocks at the mode's maximum.
    pub lock_clocks: bool,
}

/// When heat degrades the loop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThermalProfile {
    /// From here on; `None`: from the kernel's own throttling points.
    pub degraded_above_celsius: Option<f64>,
    /// How far below it must have cooled before the loop is normal again.
    pub hysteresis_celsius: f64,
    /// How often the temperatures are read.
    pub poll_millis: u64,
}

/// Pixel encodings, named as in ROS 2 `sensor_msgs/image_encodings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PixelEncoding {
    /// 8-bit red, green, blue.
    Rgb8,
    /// 8-bit blue, green, red (OpenCV's order).
    Bgr8,
    /// `Y0 U Y1 V` for each two pixels (V4L2's YUYV); even width.
    Yuyv,
    /// A plane of luma, then `U V` for each two by two pixels; even width and height.
    Nv12,
    /// A JPEG file an image (V4L2's MJPG).
    Jpeg,
}

impl PixelEncoding {
    /// The format that a driver must give for an encoding that is taken as it comes: V4L2's four letters.
    pub fn driver_format(self) -> Option<[u8; 4]> {
        match self {
            Self::Rgb8 | Self::Bgr8 => None,
            Self::Yuyv => Some(*b"YUYV"),
            Self::Nv12 => Some(*b"NV12"),
            Self::Jpeg => Some(*b"MJPG"),
        }
    }

    /// Whether a pixel is three bytes side by side.
    pub fn is_interleaved_rgb(self) -> bool {
        matches!(self, Self::Rgb8 | Self::Bgr8)
    }

    /// The name used in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rgb8 => "rgb8",
            Self::Bgr8 => "bgr8",
            Self::Yuyv => "yuyv",
            Self::Nv12 => "nv12",
            Self::Jpeg => "jpeg",
        }
    }
}

/// One commanded joint and what the safety filter allows it. Units follow `command`.
#[derive(Clone, Debug, PartialEq)]
pub struct JointProfile {
    /// Joint (and actuator) name.
    pub name: String,
    /// What a command means.
    pub command: CommandKind,
    /// Smallest command.
    pub minimum: f64,
    /// Largest command.
    pub maximum: f64,
    /// Whether a joint that takes positions turns without end: the range then bounds what is asked for, modulo a turn, and not where the
    /// joint is.
    pub continuous: bool,
    /// Largest change of the command per second.
    pub max_rate_per_second: f64,
    /// Largest change of that rate per second; `None`: no limit.
    pub max_acceleration_per_second_squared: Option<f64>,
    /// Largest change of that acceleration per second; only with an acceleration; `None`: no limit.
    pub max_jerk_per_second_cubed: Option<f64>,
    /// Where the safe action `return_home` goes, and what a velocity or torque is before the first command; in the range. `None`: the
    /// value nearest to zero, and no `return_home`.
    pub home: Option<f64>,
    /// Command units per radian per second, for the safe action `damp`; 0: none.
    pub damping_per_radian_per_second: f64,
    /// Limits of the measured position, for velocities and torques.
    pub position: Option<PositionLimits>,
    /// Where the joint sits, for the workspace.
    pub link: Option<JointLink>,
}

/// What a joint command means; the SI unit is in the name. Of a slide joint or a tendon, metres stand for radians and newtons for
/// newton metres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Fraction of the actuator's full torque, or of the range of a control without a unit, -1 to 1.
    TorqueNormalised,
    /// Newton metres.
    TorqueNewtonMetres,
    /// Radians per second.
    VelocityRadiansPerSecond,
    /// Radians.
    PositionRadians,
}

impl CommandKind {
    /// The name used in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::TorqueNormalised => "torque_normalised",
            Self::TorqueNewtonMetres => "torque_newton_metres",
            Self::VelocityRadiansPerSecond => "velocity_radians_per_second",
            Self::PositionRadians => "position_radians",
        }
    }
}

/// Engines, in the order in which `auto` tries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceProfile {
    /// At least one.
    pub providers: Vec<Provider>,
    /// The type of the weights that the device is to run; `None`: any.
    pub precision: Option<Precision>,
    /// Threads inside one inference; at least 1.
    pub intra_threads: usize,
}

/// The type of a model's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point, where the provider has it.
    F16,
    /// 8-bit integers, by the calibration that was exported with the model.
    Int8,
}

impl Precision {
    /// The name used in profiles, on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// What runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// ONNX Runtime with NVIDIA TensorRT.
    Tensorrt,
    /// ONNX Runtime with NVIDIA CUDA.
    Cuda,
    /// ONNX Runtime on the CPU.
    Cpu,
    /// tract, pure Rust, on the CPU.
    Tract,
}

impl Provider {
    /// Every provider, fastest hardware first.
    pub const ALL: [Self; 4] = [Self::Tensorrt, Self::Cuda, Self::Cpu, Self::Tract];

    /// The name used in profiles, on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensorrt => "tensorrt",
            Self::Cuda => "cuda",
            Self::Cpu => "cpu",
            Self::Tract => "tract",
        }
    }
}

/// What starts a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Every frame is answered before the next is taken; time is the frame's stamp (simulation).
    Lockstep {
        /// The simulated time from one frame to the next.
        period_millis: f64,
        /// How long the simulation waits for the answer to a frame.
        answer_timeout_millis: u64,
    },
    /// A monotonic clock; the latest frame wins.
    Fixed {
        /// Ticks per second.
        rate_hertz: f64,
        /// Older frames count as a fault.
        max_frame_age_millis: u64,
    },
}

impl Pace {
    /// The nominal time from one tick to the next.
    pub fn period(self) -> Duration {
        match self {
            Self::Lockstep { period_millis, .. } => Duration::from_nanos((period_millis * 1e6).round() as u64),
            Self::Fixed { rate_hertz, .. } => Duration::from_secs_f64(1.0 / rate_hertz),
        }
    }
}

/// What a zenoh session is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ZenohMode {
    /// Speaks with whom it connects to, and who connects to it.
    #[default]
    Peer,
    /// Speaks with one router, which passes everything on.
    Client,
}

/// Where zenoh listens and connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZenohProfile {
    /// A client has endpoints to connect to, and listens nowhere.
    pub mode: ZenohMode,
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub listen: Vec<String>,
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub connect: Vec<String>,
    /// Large payloads through POSIX shared memory.
    pub shared_memory: bool,
}
