//! The two ends of the loop inside one process: a camera source and an actuator over one environment, in lockstep.
//!
//! The source shows a state, the command that answers it makes the next one; simulated time stands still in between.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{
    Actuator, Episode, Frame, FrameSource, JointState, Observation, RuntimeError, SafeCommand, SourceEvent,
};

use crate::camera::Camera;
use crate::environment::{Environment, Transition};
use crate::error::SimError;
use crate::fit::CommandMap;
use crate::physics::PhysicsWarning;
use crate::randomisation::SensorFaults;

/// Which episodes are played, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpisodePlan {
    /// Seed of the first episode; each episode is the first of its own seed, counting up by one.
    pub first_seed: u64,
    /// How many.
    pub num_episodes: u32,
}

impl EpisodePlan {
    /// Whether there is a seed for every episode.
    ///
    /// # Errors
    /// [`SimError::Seed`] names the first that is none.
    pub fn check(&self) -> Result<(), SimError> {
        let last = self.first_seed.saturating_add(u64::from(self.num_episodes.saturating_sub(1)));
        if u32::try_from(last).is_ok() { Ok(()) } else { Err(SimError::Seed { seed: last }) }
    }
}

/// Makes the two ends over what is played.
pub fn in_process_ends(player: EpisodePlayer) -> (SimSource, SimActuator) {
    let player = Rc::new(RefCell::new(player));
    (SimSource { player: Rc::clone(&player) }, SimActuator { player })
}

/// Plays a plan's episodes: shows observations, takes actions. The ends, in this process or over a transport, drive it.
#[derive(Debug)]
pub struct EpisodePlayer {
    environment: Environment,
    camera: Camera,
    /// Beside the first.
    extra: Vec<Camera>,
    plan: EpisodePlan,
    episode: Episode,
    phase: Phase,
    sequence: u64,
    faults: Option<SensorFaults>,
    num_dropped: u64,
    /// Of which episode, and what.
    warnings: Vec<(u32, PhysicsWarning)>,
    /// The last action.
    action: Vec<f64>,
    /// The profile's joints; `None`: commands are actions.
    joints: Option<CommandMap>,
    all_joints: JointState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next event starts the episode of this index.
    Between(u32),
    /// The next event shows the state.
    ToObserve,
    /// A command must come.
    ToAct,
    /// The next event ends the episode.
    Ended,
}

impl EpisodePlayer {
    /// A player at the beginning of its plan. Its camera has the faults that the environment's randomisation names.
    pub fn new(environment: Environment, camera: Camera, plan: EpisodePlan) -> Self {
        let faults = environment.randomisation().cloned().map(SensorFaults::new);
        Self {
            environment,
            camera,
            extra: Vec::new(),
            plan,
            episode: Episode::default(),
            phase: Phase::Between(0),
            sequence: 0,
            faults,
            num_dropped: 0,
            warnings: Vec::new(),
            action: Vec::new(),
            joints: None,
            all_joints: JointState::default(),
        }
    }

    /// Shows what these cameras see, too: [`Observation::extra`] in this order. Randomised camera faults stay the first camera's.
    #[must_use]
    pub fn with_cameras(self, extra: Vec<Camera>) -> Self {
        Self { extra, ..self }
    }

    /// Takes commands and gives joint states in a profile's order and units, rather than the actuators'.
    #[must_use]
    pub fn with_joints(self, joints: CommandMap) -> Self {
        Self { joints: Some(joints), ..self }
    }

    /// The environment that is played.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Frames that the camera dropped; their sequence numbers are left out.
    pub fn num_dropped(&self) -> u64 {
        self.num_dropped
    }

    /// Episodes that were cut off because the simulation diverged, and why.
    pub fn warnings(&self) -> &[(u32, PhysicsWarning)] {
        &self.warnings
    }

    /// The next event; an observation is written into the lent buffer. While a command is awaited: [`SourceEvent::TimedOut`].
    ///
    /// # Errors
    /// [`SimError`] when a reset or the renderer fails.
    pub fn next_event(&mut self, observation: &mut Observation) -> Result<SourceEvent, SimError> {
        match self.phase {
            Phase::Between(index) if index >= self.plan.num_episodes => Ok(SourceEvent::Finished),
            Phase::Between(index) => {
                let seed = self.plan.first_seed.saturating_add(u64::from(index));
                self.environment.reset(seed)?;
                self.environment.write_idle_action(&mut self.action);
                if let Some(faults) = &mut self.faults {
                    faults.begin(seed);
                }
                let task = self.environment.spec().name.clone();
                self.episode = Episode { index, seed, task, ..Episode::default() };
                self.phase = Phase::ToObserve;
                Ok(SourceEvent::EpisodeStarted(self.episode.clone()))
            }
            Phase::ToObserve => {
                if self.drop_frames()? {
                    return self.next_event(observation);
                }
                self.observe(observation)?;
                self.phase = Phase::ToAct;
                Ok(SourceEvent::Observed)
            }
            Phase::ToAct => Ok(SourceEvent::TimedOut),
            Phase::Ended => {
                self.phase = Phase::Between(self.episode.index + 1);
                Ok(SourceEvent::EpisodeEnded(self.episode.clone()))
            }
        }
    }

    /// Applies the command that answers the last observation; `None` when no answer is awaited (it is dropped).
    ///
    /// # Errors
    /// [`SimError::ActionLength`], [`SimError::ActionNotFinite`].
    pub fn act(&mut self, command: &[f64]) -> Result<Option<Transition>, SimError> {
        if self.phase != Phase::ToAct {
            return Ok(None);
        }
        match &self.joints {
            Some(joints) => joints.write_action(&self.episode.task, command, &mut self.action)?,
            None => {
                self.action.clear();
                self.action.extend_from_slice(command);
            }
        }
        self.advance().map(Some)
    }

    /// Lets the world go on under the last command for as long as frames are dropped; true when that ended the episode. An
    /// episode's first frame always arrives: before it there is no command.
    fn drop_frames(&mut self) -> Result<bool, SimError> {
        while self.episode.num_steps > 0 && self.faults.as_mut().is_some_and(SensorFaults::drops_next) {
            self.sequence += 1;
            self.num_dropped += 1;
            if self.advance()?.is_last() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn advance(&mut self) -> Result<Transition, SimError> {
        let transition = self.environment.step(&self.action)?;
        self.episode.episode_return += transition.reward;
        self.episode.num_steps += 1;
        self.episode.success = transition.success;
        self.warnings.extend(transition.warning.map(|warning| (self.episode.index, warning)));
        self.phase = if transition.is_last() { Phase::Ended } else { Phase::ToObserve };
        Ok(transition)
    }

    fn observe(&mut self, observation: &mut Observation) -> Result<(), SimError> {
        let frame = &mut observation.frame;
        frame.data.resize(self.camera.num_bytes(), 0);
        self.camera.render_frame(&mut self.environment, frame)?;
        frame.sequence = self.sequence;
        render_extra(&mut self.extra, &mut self.environment, (self.sequence, &mut observation.extra))?;
        self.sequence += 1;
        if let Some(faults) = &mut self.faults {
            faults.spoil(frame);
        }
        match &self.joints {
            Some(joints) => {
                self.environment.write_joint_state(&mut self.all_joints);
                joints.select_joints(&self.all_joints, &mut observation.joints);
            }
            None => self.environment.write_joint_state(&mut observation.joints),
        }
        Ok(())
    }
}

/// What the cameras beside the first see, as frame number `sequence`.
///
/// # Errors
/// [`SimError`] when the renderer fails.
pub fn render_extra(
    cameras: &mut [Camera],
    environment: &mut Environment,
    (sequence, frames): (u64, &mut Vec<Frame>),
) -> Result<(), SimError> {
    frames.resize_with(cameras.len(), || Frame::black(0, 0, PixelEncoding::Rgb8));
    for (camera, frame) in cameras.iter_mut().zip(frames) {
        frame.data.resize(camera.num_bytes(), 0);
        camera.render_frame(environment, frame)?;
        frame.sequence = sequence;
    }
    Ok(())
}

/// The source end: shows the environment's states as its camera sees them.
#[derive(Debug)]
pub struct SimSource {
    player: Rc<RefCell<EpisodePlayer>>,
}

/// The actuator end: every command is one control step.
#[derive(Debug)]
pub struct SimActuator {
    player: Rc<RefCell<EpisodePlayer>>,
}

impl FrameSource for SimSource {
    fn next(&mut self, observation: &mut Observation, _timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        self.player.borrow_mut().next_event(observation).map_err(end_failed)
    }

    fn num_dropped(&self) -> u64 {
        self.player.borrow().num_dropped
    }
}

impl Actuator for SimActuator {
    fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        self.player.borrow_mut().act(command.values()).map(|_| ()).map_err(end_failed)
    }
}

fn end_failed(error: SimError) -> RuntimeError {
    RuntimeError::End { name: "simulator".to_string(), problem: error.to_string() }
}
