//! The two ends of the loop: where observations come from and where commands go. Simulation replaces these and nothing between.

use std::time::Duration;

use foresee_firmware_config::{CameraProfile, DeviceProfile, PixelEncoding};
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::safety::SafeCommand;

/// What a tick sees: an image and the joint state that goes with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The image of the profile's camera.
    pub frame: Frame,
    /// The latest images of the cameras beside it, in the profile's order; with stamp 0 where none has come yet.
    pub extra: Vec<Frame>,
    /// The joints, at the frame's stamp or the latest known.
    pub joints: JointState,
}

impl Observation {
    /// A black frame (width, height in pixels) and zero joint state, to lend to a source.
    pub fn blank(width: u32, height: u32, num_joints: usize) -> Self {
        let frame = Frame::black(width, height, PixelEncoding::Rgb8);
        Self { frame, extra: Vec::new(), joints: JointState::zeros(num_joints) }
    }

    /// Black frames of every camera of a profile and zero joint state.
    pub fn of(profile: &DeviceProfile) -> Self {
        let black = |camera: &CameraProfile| Frame::black(camera.width, camera.height, camera.encoding);
        Self {
            frame: black(&profile.camera),
            extra: profile.extra_cameras.iter().map(|extra| black(&extra.camera)).collect(),
            joints: JointState::zeros(profile.joints.len()),
        }
    }
}

/// Names and black frames of the cameras beside the first, for a source to keep the latest in.
pub(crate) fn extra_frames(profile: &DeviceProfile) -> Vec<(String, Frame)> {
    let names = profile.extra_cameras.iter().map(|extra| extra.camera.name.clone());
    names.zip(Observation::of(profile).extra).collect()
}

/// One episode as the environment tells it. On the wire as `foresee_msgs/msg/Episode`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Counts from 0.
    pub index: u32,
    /// The seed of its reset.
    pub seed: u64,
    /// Task name, such as `dmc/reacher-easy`.
    pub task: String,
    /// Sum of rewards so far.
    pub episode_return: f64,
    /// Control steps so far.
    pub num_steps: u32,
    /// Whether the task counts as solved.
    pub success: bool,
}

/// What a source has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// A new observation was written into the lent one.
    Observed,
    /// An episode begins: policies and filters forget.
    EpisodeStarted(Episode),
    /// An episode is over.
    EpisodeEnded(Episode),
    /// Nothing more will come.
    Finished,
    /// Nothing came in time.
    TimedOut,
}

/// Where observations come from: zenoh, a camera, the simulator in this process, a log.
pub trait FrameSource {
    /// Waits at most `timeout` for the next event; an observation is written into the lent buffer.
    ///
    /// # Errors
    /// [`RuntimeError`] when the source is broken for good; a slow one gives [`SourceEvent::TimedOut`].
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError>;
    /// When the last observation reached this process, where the source knows.
    fn arrived(&self) -> Option<std::time::Instant> {
        None
    }
    /// Frames lost between the source and the loop so far (gaps in the sequence).
    fn num_dropped(&self) -> u64;
    /// Messages that could not be read so far, each of which counts as none.
    fn num_unreadable(&self) -> u64 {
        0
    }
    /// Times that the sequence of a stream went back so far: its publisher started again.
    fn num_restarts(&self) -> u64 {
        0
    }
}

/// Where commands go. Takes nothing but what the safety filter made, and no empty command.
pub trait Actuator {
    /// Sends the command that answers the observation `sequence`.
    ///
    /// # Errors
    /// [`RuntimeError`] when the command cannot be sent.
    fn send(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError>;
}

/// Sends a command, unless it is empty.
///
/// # Errors
/// As [`Actuator::send`].
pub(crate) fn send(actuator: &mut dyn Actuator, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
    if command.is_empty() { Ok(()) } else { actuator.send(sequence, command) }
}
