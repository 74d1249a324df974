//! The loop: what happens each tick, and the run that goes from event to event until the source has no more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foresee_firmware_config::{CameraProfile, DeviceProfile, Pace};

use crate::command::Action;
use crate::encoder::{Encoder, EncoderInput, Features};
use crate::ends::{Actuator, Episode, FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::policy::Policy;
use crate::preprocess::Preprocessor;
use crate::safety::{Hold, SafeCommand, SafetyFilter, Verdict};
use crate::time::{Clock, Stamp};

/// How long the run waits for an event before it looks whether it was asked to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// The stages of a tick, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Frame -> encoder input.
    Preprocess,
    /// Encoder input -> features.
    Encode,
    /// Features and joint state -> action.
    Policy,
    /// Action -> safe command.
    Safety,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 4] = [Self::Preprocess, Self::Encode, Self::Policy, Self::Safety];

    /// The name used in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preprocess => "preprocess",
            Self::Encode => "encode",
            Self::Policy => "policy",
            Self::Safety => "safety",
        }
    }
}

/// The account of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickReport {
    /// Wall time of each stage in nanoseconds, in [`Stage::ALL`]'s order; 0 for a stage that was not reached.
    pub stage_nanos: [u64; 4],
    /// The stage that failed, if one did; its words are in [`ControlLoop::failure`].
    pub failed: Option<Stage>,
    /// What the safety filter did.
    pub verdict: Verdict,
}

impl TickReport {
    /// Frame in memory to command in memory, in nanoseconds.
    pub fn total_nanos(&self) -> u64 {
        self.stage_nanos.iter().sum()
    }
}

/// Preprocessing, encoder, policy and safety filter with their buffers. After the first tick, a tick allocates nothing of its own.
pub struct ControlLoop {
    camera: CameraProfile,
    pace: Pace,
    clock: Clock,
    preprocessor: Preprocessor,
    encoder: Box<dyn Encoder>,
    policy: Box<dyn Policy>,
    filter: SafetyFilter,
    input: EncoderInput,
    features: Features,
    action: Action,
    failure: Option<RuntimeError>,
    /// The newest stamp of this episode.
    newest: Stamp,
}

impl ControlLoop {
    /// A loop for the profile's joints and pace.
    ///
    /// # Errors
    /// [`RuntimeError::Card`] when the encoder's card has no preprocessing that can be done.
    pub fn new(
        encoder: Box<dyn Encoder>,
        policy: Box<dyn Policy>,
        profile: &DeviceProfile,
    ) -> Result<Self, RuntimeError> {
        let card = encoder.card();
        let problem = || format!("the card of encoder `{}` has no preprocessing; export the encoder again", card.name);
        let preprocessing = card.preprocessing.as_ref();
        let preprocessing =
            preprocessing.ok_or_else(|| RuntimeError::Card { path: card.model.clone().into(), problem: problem() })?;
        let preprocessor = Preprocessor::new(preprocessing)?;
        let input = EncoderInput::zeros(preprocessing.height, preprocessing.width);
        let action = Action { values: vec![0.0; profile.joints.len()] };
        let filter = SafetyFilter::new(&profile.joints, profile.pace.period());
        Ok(Self {
            camera: profile.camera.clone(),
            pace: profile.pace,
            clock: Clock::Wall,
            preprocessor,
            encoder,
            policy,
            filter,
            input,
            features: Features::zeros(0, 0),
            action,
            failure: None,
            newest: Stamp::default(),
        })
    }

    /// Takes the age of frames from another clock than the machine's; only a fixed pace asks for their age. With a driven clock
    /// [`run`] waits for no period.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A new episode begins: policy and filter forget.
    pub fn reset(&mut self) {
        self.policy.reset();
        self.filter.reset();
        self.newest = Stamp::default();
    }

    /// Answers an observation; the answer is [`ControlLoop::command`]. There always is one: a stage that fails is data for the safety filter.
    pub fn tick(&mut self, observation: &Observation) -> TickReport {
        let mut report = TickReport::default();
        self.failure = None;
        let stamp = observation.frame.stamp;
        if self.is_stale(stamp) {
            report.verdict = self.filter.hold(stamp, Hold::StaleFrame).verdict();
            return report;
        }
        self.newest = stamp;
        if let Err((stage, error)) = self.decide(observation, &mut report) {
            report.failed = Some(stage);
            self.failure = Some(error);
        }
        let started = Instant::now();
        let action = report.failed.is_none().then_some(&self.action);
        let command = self.filter.filter(stamp, action);
        report.verdict = command.verdict();
        report.stage_nanos[Stage::Safety as usize] = nanos_since(started);
        report
    }

    /// The answer to the last observation.
    pub fn command(&self) -> &SafeCommand {
        self.filter.last()
    }

    /// Why the last tick's stage failed, if one did.
    pub fn failure(&self) -> Option<&RuntimeError> {
        self.failure.as_ref()
    }

    /// The encoder that runs.
    pub fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    /// The frame is older than one before it, or than the pace allows. Simulated time does not age.
    fn is_stale(&self, stamp: Stamp) -> bool {
        if stamp < self.newest {
            return true;
        }
        match self.pace {
            Pace::Lockstep { .. } => false,
            Pace::Fixed { max_frame_age_millis, .. } => {
                self.clock.now().since(stamp) > Duration::from_millis(max_frame_age_millis)
            }
        }
    }

    fn decide(&mut self, observation: &Observation, report: &mut TickReport) -> Result<(), (Stage, RuntimeError)> {
        let mut timed = |stage: Stage, work: &mut dyn FnMut() -> Result<(), RuntimeError>| {
            let started = Instant::now();
            let done = work();
            report.stage_nanos[stage as usize] = nanos_since(started);
            done.map_err(|error| (stage, error))
        };
        timed(Stage::Preprocess, &mut || {
            check_camera(&observation.frame, &self.camera)?;
            self.preprocessor.run(&observation.frame, &mut self.input)
        })?;
        timed(Stage::Encode, &mut || self.encoder.encode(&self.input, &mut self.features))?;
        timed(Stage::Policy, &mut || self.policy.act(&self.features, &observation.joints, &mut self.action))
    }
}

fn check_camera(frame: &Frame, camera: &CameraProfile) -> Result<(), RuntimeError> {
    if (frame.width, frame.height, frame.encoding) == (camera.width, camera.height, camera.encoding) {
        return Ok(());
    }
    let Frame { width, height, encoding, .. } = frame;
    Err(RuntimeError::Frame(format!(
        "{width}x{height} {encoding:?} where the profile's camera `{}` gives {}x{} {:?}; make camera and profile agree",
        camera.name, camera.width, camera.height, camera.encoding
    )))
}

fn nanos_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What a run tells while it goes. Whoever listens must not hold the loop back.
#[derive(Debug)]
pub enum LoopEvent<'a> {
    /// A frame was answered.
    Ticked {
        /// What was seen.
        observation: &'a Observation,
        /// What was sent.
        command: &'a SafeCommand,
        /// How the tick went.
        report: TickReport,
        /// The failing stage's words, if one failed.
        failure: Option<&'a RuntimeError>,
        /// Frames lost before the loop so far.
        num_dropped: u64,
    },
    /// An episode began.
    EpisodeStarted(&'a Episode),
    /// An episode is over.
    EpisodeEnded(&'a Episode),
    /// Nothing came for a while; the loop goes on waiting.
    Waiting,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The source has no more.
    Finished,
    /// The stop flag was set.
    Stopped,
}

/// The two ends of a run.
pub struct Ends<'a> {
    /// Where observations come from.
    pub source: &'a mut dyn FrameSource,
    /// Where commands go.
    pub actuator: &'a mut dyn Actuator,
}

/// Answers observation after observation until the source has no more or `stop` is set. At a fixed pace it waits for each period,
/// sends the last command again when no frame comes in time, and stops the joints before it ends, however it ends.
///
/// # Errors
/// What an end says when it is broken for good. A failing stage inside a tick is not an error: the safety filter answers it.
pub fn run(
    mut ends: Ends<'_>,
    control_loop: &mut ControlLoop,
    stop: &AtomicBool,
    listener: &mut dyn FnMut(LoopEvent<'_>) -> Result<(), RuntimeError>,
) -> Result<RunEnd, RuntimeError> {
    let camera = &control_loop.camera;
    let mut observation = Observation::blank(camera.width, camera.height, control_loop.action.values.len());
    let is_fixed = matches!(control_loop.pace, Pace::Fixed { .. });
    // Replayed time is as fast as the log is read.
    let mut metronome = match control_loop.clock {
        Clock::Wall if is_fixed => Some(Metronome::new(control_loop.pace.period())),
        _ => None,
    };
    let ended = loop {
        if stop.load(Ordering::Relaxed) {
            break Ok(RunEnd::Stopped);
        }
        match step(&mut ends, control_loop, &mut observation, listener) {
            Ok(Stepped::Ticked) => metronome.iter_mut().for_each(Metronome::wait),
            Ok(Stepped::Heard) => {}
            Ok(Stepped::Finished) => break Ok(RunEnd::Finished),
            Err(error) => break Err(error),
        }
    };
    if is_fixed {
        let command = control_loop.filter.stop(control_loop.clock.now());
        let stopped = ends.actuator.send(observation.frame.sequence, command);
        return ended.and_then(|ended| stopped.map(|()| ended));
    }
    ended
}

enum Stepped {
    Ticked,
    Heard,
    Finished,
}

/// One event of the source.
fn step(
    ends: &mut Ends<'_>,
    control_loop: &mut ControlLoop,
    observation: &mut Observation,
    listener: &mut dyn FnMut(LoopEvent<'_>) -> Result<(), RuntimeError>,
) -> Result<Stepped, RuntimeError> {
    let patience = match control_loop.pace {
        Pace::Lockstep { .. } => LOOK_UP,
        Pace::Fixed { max_frame_age_millis, .. } => LOOK_UP.min(Duration::from_millis(max_frame_age_millis)),
    };
    match ends.source.next(observation, patience)? {
        SourceEvent::Observed => {
            let report = control_loop.tick(observation);
            let (command, failure) = (control_loop.command(), control_loop.failure());
            ends.actuator.send(observation.frame.sequence, command)?;
            let num_dropped = ends.source.num_dropped();
            listener(LoopEvent::Ticked { observation, command, report, failure, num_dropped })?;
            return Ok(Stepped::Ticked);
        }
        SourceEvent::EpisodeStarted(episode) => {
            control_loop.reset();
            listener(LoopEvent::EpisodeStarted(&episode))?;
        }
        SourceEvent::EpisodeEnded(episode) => listener(LoopEvent::EpisodeEnded(&episode))?,
        SourceEvent::Finished => return Ok(Stepped::Finished),
        SourceEvent::TimedOut => {
            if let Pace::Fixed { .. } = control_loop.pace {
                let command = control_loop.filter.hold(control_loop.clock.now(), Hold::StaleFrame);
                ends.actuator.send(observation.frame.sequence, command)?;
            }
            listener(LoopEvent::Waiting)?;
        }
    }
    Ok(Stepped::Heard)
}

/// The period of a fixed pace.
struct Metronome {
    period: Duration,
    deadline: Instant,
}

impl Metronome {
    fn new(period: Duration) -> Self {
        Self { period, deadline: Instant::now() }
    }

    /// Waits until the next period begins. A loop that is late does not hurry to catch up.
    fn wait(&mut self) {
        self.deadline += self.period;
        let now = Instant::now();
        match self.deadline.checked_duration_since(now) {
            Some(left) => std::thread::sleep(left),
            None => self.deadline = now,
        }
    }
}
