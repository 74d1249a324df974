//! The checked profile: what the rest of Foresee reads.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::control::{
    BudgetProfile, JointLink, PositionLimits, RatesProfile, SafetyProfile, ThreadsProfile, WatchdogProfile,
};

/// A device, checked: every range holds, every required key is there.
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceProfile {
    /// Built-in name or file stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The `<robot>` of the keys `foresee/<robot>/...`.
    pub robot: String,
    /// The camera that the control loop looks through.
    pub camera: CameraProfile,
    /// Commanded joints, in command order; at least one.
    pub joints: Vec<JointProfile>,
    /// Engines and threads.
    pub inference: InferenceProfile,
    /// What starts a tick.
    pub pace: Pace,
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

/// The image that the camera delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraProfile {
    /// Camera name in the model or driver.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Channel order and type.
    pub encoding: PixelEncoding,
}

/// Pixel encodings, named as in ROS 2 `sensor_msgs/image_encodings`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PixelEncoding {
    /// 8-bit red, green, blue.
    Rgb8,
    /// 8-bit blue, green, red (OpenCV's order).
    Bgr8,
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
    /// Largest change of the command per second.
    pub max_rate_per_second: f64,
    /// Largest change of that rate per second; `None`: no limit.
    pub max_acceleration_per_second_squared: Option<f64>,
    /// Largest change of that acceleration per second; only with an acceleration; `None`: no limit.
    pub max_jerk_per_second_cubed: Option<f64>,
    /// Where the safe action `return_home` goes, and what a command is before the first one; in the range.
    pub home: f64,
    /// Command units per radian per second, for the safe action `damp`; 0: none.
    pub damping_per_radian_per_second: f64,
    /// Limits of the measured position, for velocities and torques.
    pub position: Option<PositionLimits>,
    /// Where the joint sits, for the workspace.
    pub link: Option<JointLink>,
}

/// What a joint command means; the SI unit is in the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Fraction of the actuator's full torque, -1 to 1.
    TorqueNormalised,
    /// Newton metres.
    TorqueNewtonMetres,
    /// Radians per second.
    VelocityRadiansPerSecond,
    /// Radians.
    PositionRadians,
}

/// Engines, in the order in which `auto` tries them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceProfile {
    /// At least one.
    pub providers: Vec<Provider>,
    /// Threads inside one inference; at least 1.
    pub intra_threads: usize,
}

/// What runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        period_millis: u64,
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
            Self::Lockstep { period_millis, .. } => Duration::from_millis(period_millis),
            Self::Fixed { rate_hertz, .. } => Duration::from_secs_f64(1.0 / rate_hertz),
        }
    }
}

/// Where zenoh listens and connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZenohProfile {
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub listen: Vec<String>,
    /// Endpoints such as `tcp/127.0.0.1:7447`; empty: none.
    pub connect: Vec<String>,
    /// Large payloads through POSIX shared memory.
    pub shared_memory: bool,
}
