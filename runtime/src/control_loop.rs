//! The loop: what happens each tick.

use std::time::{Duration, Instant};

use foresee_firmware_config::{BudgetProfile, DeviceProfile, Pace, RatesProfile};

use crate::admission::Admission;
use crate::budget::{BudgetState, BudgetWatch, prove};
use crate::chunk::{ChunkPlayer, ChunkSummary};
use crate::command::Action;
use crate::encoder::{Encoder, Features};
use crate::ends::Observation;
use crate::error::RuntimeError;
use crate::policy::Policy;
use crate::rig::CameraRig;
use crate::safety::{Hold, Moment, SafeCommand, SharedFilter, Verdict};
use crate::statistics::LoopStatistics;
use crate::time::{Clock, Stamp};

/// Ticks of the self-test that are not counted: engines allocate and caches fill.
const NUM_WARM_UP: u32 = 5;

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
    /// Exposure to arrival in nanoseconds, where both clocks are known.
    pub arrival_nanos: Option<u64>,
    /// Arrival to the beginning of the tick in nanoseconds, where the source knows when a frame arrived.
    pub wait_nanos: Option<u64>,
    /// Sending the command, in nanoseconds; `None` before it is sent.
    pub publish_nanos: Option<u64>,
}

impl TickReport {
    /// Wall time of a stage in nanoseconds.
    pub fn nanos(&self, stage: Stage) -> u64 {
        let [preprocess, encode, policy, safety] = self.stage_nanos;
        match stage {
            Stage::Preprocess => preprocess,
            Stage::Encode => encode,
            Stage::Policy => policy,
            Stage::Safety => safety,
        }
    }

    /// Frame in memory to command in memory, in nanoseconds.
    pub fn total_nanos(&self) -> u64 {
        self.stage_nanos.iter().sum()
    }
}

/// Preprocessing, encoder, policy and safety filter with their buffers. After the first tick, a tick allocates nothing of its own.
pub struct ControlLoop {
    pub(crate) pace: Pace,
    pub(crate) clock: Clock,
    /// Black frames and joints at zero, of the profile's sizes.
    blank: Observation,
    rig: CameraRig,
    encoder: Box<dyn Encoder>,
    policy: Box<dyn Policy>,
    filter: SharedFilter,
    rates: RatesProfile,
    num_joints: usize,
    features: Features,
    /// What the policy wants: `[T, J]`.
    wanted: Action,
    chunks: ChunkPlayer,
    action: Action,
    command: SafeCommand,
    admission: Admission,
    budget: Option<BudgetWatch>,
    /// Ticks that were decided in this episode.
    num_decided: u32,
    failure: Option<RuntimeError>,
}

impl ControlLoop {
    /// A loop for the profile's joints and pace.
    ///
    /// # Errors
    /// As [`CameraRig::new`].
    pub fn new(
        encoder: Box<dyn Encoder>,
        policy: Box<dyn Policy>,
        profile: &DeviceProfile,
    ) -> Result<Self, RuntimeError> {
        let rig = CameraRig::new(profile, encoder.as_ref())?;
        let num_joints = profile.joints.len();
        let filter = SharedFilter::of(profile);
        let command = filter.lock().last().clone();
        Ok(Self {
            pace: profile.pace,
            clock: Clock::Wall,
            blank: Observation::of(profile),
            rig,
            encoder,
            policy,
            rates: profile.rates,
            num_joints,
            features: Features::zeros(0, 0),
            wanted: Action { values: vec![0.0; num_joints] },
            chunks: ChunkPlayer::new(num_joints, &profile.rates),
            action: Action { values: vec![0.0; num_joints] },
            command,
            filter,
            admission: Admission::new(profile.pace),
            budget: profile.budget.map(BudgetWatch::new),
            num_decided: 0,
            failure: None,
        })
    }

    /// Takes the age of frames from another clock than the machine's; only a fixed pace asks for their age. With a driven clock
    /// [`run`] waits for no period.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// A new episode begins: the policy and what was kept for it forget. In lockstep the joints were put elsewhere, and the filter
    /// forgets as well; at a fixed pace they and the time go on, and so do limits and faults.
    pub fn reset(&mut self) {
        self.policy.reset();
        self.rig.reset();
        self.chunks.reset();
        self.num_decided = 0;
        if let Pace::Lockstep { .. } = self.pace {
            self.filter.lock().reset();
            self.admission.reset();
        }
    }

    /// Answers an observation; the answer is [`ControlLoop::command`]. There always is one: a stage that fails is data for the safety filter.
    pub fn tick(&mut self, observation: &Observation) -> TickReport {
        let mut report = TickReport::default();
        self.failure = None;
        let stamp = observation.frame.stamp;
        let mut held = self.admission.refuse(&observation.frame, &self.clock);
        if held == Some(Hold::ClockJumped) {
            self.chunks.reset();
        }
        let mut is_degraded = false;
        if held.is_none() {
            held = self.refuse_others(observation);
        }
        if held.is_some() {
            self.look_anew();
        } else {
            self.admission.note(stamp);
            if let Err((stage, error)) = self.decide(observation, &mut report) {
                self.look_anew();
                report.failed = Some(stage);
                self.failure = Some(error);
                held = Some(Hold::StageFailed);
            } else if self.admission.is_too_old(stamp, &self.clock) || self.rig.has_old(&self.clock) {
                self.look_anew();
                held = Some(Hold::StaleFrame);
            } else {
                let budget = self.look_at_budget(&report);
                is_degraded = budget == BudgetState::Late;
                held = (budget == BudgetState::Broken).then_some(Hold::OverBudget);
            }
        }
        if held.is_none() && !self.is_plain() && !self.chunks.play(stamp, &mut self.action) {
            held = Some(Hold::NoAction);
        }
        let started = Instant::now();
        self.answer(observation, held, is_degraded);
        report.verdict = self.command.verdict();
        report.stage_nanos[Stage::Safety as usize] = nanos_since(started);
        report
    }

    /// Why the cameras beside the first are not to be answered, if they are not; the failure says which.
    fn refuse_others(&mut self, observation: &Observation) -> Option<Hold> {
        let (name, why) = self.rig.refuse(observation, &self.clock)?;
        self.failure = Some(RuntimeError::Frame(format!("camera `{name}`: {}", why.words())));
        Some(why)
    }

    fn answer(&mut self, observation: &Observation, held: Option<Hold>, is_degraded: bool) {
        let action = if self.is_plain() { &self.wanted } else { &self.action };
        let mut filter = self.filter.lock();
        // The time counts once nobody else can command.
        let moment = self.moment(observation.frame.stamp);
        filter.see(&observation.joints, Moment { stamp: self.now(moment.stamp), ..moment });
        filter.degrade(is_degraded);
        let command = match held {
            Some(why) => filter.hold(moment, why),
            None => filter.filter(moment, Some(action)),
        };
        self.command.copy_from(command);
    }

    /// The answer to the last observation.
    pub fn command(&self) -> &SafeCommand {
        &self.command
    }

    /// The filter, for a watchdog.
    pub fn filter(&self) -> SharedFilter {
        self.filter.clone()
    }

    /// A connection was lost: nothing that was kept is played or acted on again.
    pub(crate) fn forget(&mut self) {
        self.chunks.forget();
        self.look_anew();
    }

    /// The next tick that is decided sees and acts anew, whatever the rates: what was kept is of a time before a hold.
    fn look_anew(&mut self) {
        self.rig.look_anew();
        self.num_decided = 0;
    }

    /// Measures ticks on pictures of noise, with nothing sent, and compares them with the profile's budget and the cameras' own; `None`
    /// where none is declared.
    ///
    /// # Errors
    /// [`RuntimeError::Budget`] when the budget does not hold here, and what a failing stage says.
    pub fn prove_budget(&mut self, budget: Option<&BudgetProfile>) -> Result<Option<LoopStatistics>, RuntimeError> {
        let Some(budget) = budget else { return Ok(None) };
        let measured = self.self_test(budget.self_test_ticks);
        let cameras = self.rig.prove_budgets();
        self.reset();
        self.rig.forget_accounts();
        self.chunks = ChunkPlayer::new(self.num_joints, &self.rates);
        measured.and_then(|measured| prove(budget, &measured).and(cameras).map(|()| Some(measured)))
    }

    fn self_test(&mut self, num_ticks: u32) -> Result<LoopStatistics, RuntimeError> {
        let mut measured = LoopStatistics::default();
        let mut observation = self.blank.clone();
        for tick in 0..num_ticks.saturating_add(NUM_WARM_UP) {
            for frame in std::iter::once(&mut observation.frame).chain(&mut observation.extra) {
                frame.sequence = u64::from(tick);
                frame.fill_with_noise(tick);
            }
            let mut report = TickReport::default();
            self.decide(&observation, &mut report).map_err(|(_, error)| error)?;
            if tick >= NUM_WARM_UP {
                measured.record(&report);
                self.rig.account(&self.clock, false);
            }
        }
        Ok(measured)
    }

    /// A frame of every camera and a joint state, to lend to a source.
    pub(crate) fn blank(&self) -> Observation {
        self.blank.clone()
    }

    /// The cameras, with what became of their frames.
    pub fn cameras(&self) -> &CameraRig {
        &self.rig
    }

    /// What became of the policy's chunks.
    pub fn chunks(&self) -> ChunkSummary {
        self.chunks.summary()
    }

    /// Why the last tick's stage failed, if one did.
    pub fn failure(&self) -> Option<&RuntimeError> {
        self.failure.as_ref()
    }

    /// The encoder that runs.
    pub fn encoder(&self) -> &dyn Encoder {
        self.encoder.as_ref()
    }

    /// Whether every tick decides anew and one action is all that the policy gives: nothing is kept from tick to tick.
    fn is_plain(&self) -> bool {
        self.rates.policy_every_ticks == 1 && self.wanted.values.len() <= self.num_joints
    }

    /// The time that stamps are compared with: in lockstep the observation's own.
    fn now(&self, stamp: Stamp) -> Stamp {
        match self.pace {
            Pace::Lockstep { .. } => stamp,
            Pace::Fixed { .. } => self.clock.now(),
        }
    }

    /// Limits count by a clock that does not jump, unless the time itself is given.
    pub(crate) fn moment(&self, stamp: Stamp) -> Moment {
        let is_free = matches!(self.pace, Pace::Fixed { .. }) && self.clock.is_real();
        Moment { stamp, time: if is_free { Clock::Monotonic.now() } else { stamp } }
    }

    fn look_at_budget(&mut self, report: &TickReport) -> BudgetState {
        let is_watched = matches!(self.pace, Pace::Fixed { .. }) && self.clock.is_real();
        let of_cameras = self.rig.account(&self.clock, is_watched);
        match &mut self.budget {
            Some(budget) if is_watched => budget.look(report).max(of_cameras),
            _ => of_cameras,
        }
    }

    /// Exposure to arrival, at a fixed pace on a real clock.
    pub(crate) fn arrival_nanos(&self, stamp: Stamp, wait_nanos: Option<u64>) -> Option<u64> {
        let wait = wait_nanos.filter(|_| matches!(self.pace, Pace::Fixed { .. }) && self.clock.is_real())?;
        u64::try_from(self.clock.now().since(stamp).as_nanos()).ok().map(|age| age.saturating_sub(wait))
    }

    /// Whether a frame of this stamp is older than frames may be; in lockstep none is.
    pub(crate) fn is_too_old(&self, stamp: Stamp) -> bool {
        self.admission.is_too_old(stamp, &self.clock)
    }

    /// When a frame of this stamp becomes too old; `None`: never, or it is.
    pub(crate) fn time_to_hold(&self, stamp: Stamp) -> Option<Duration> {
        self.admission.time_left(stamp, &self.clock)
    }

    /// The safe action, without a frame.
    pub(crate) fn hold(&mut self, why: Hold) {
        let mut filter = self.filter.lock();
        let moment = self.moment(self.clock.now());
        self.command.copy_from(filter.hold(moment, why));
    }

    pub(crate) fn stop(&mut self) {
        let mut filter = self.filter.lock();
        let moment = self.moment(self.clock.now());
        self.command.copy_from(filter.stop(moment));
    }

    pub(crate) fn decide(
        &mut self,
        observation: &Observation,
        report: &mut TickReport,
    ) -> Result<(), (Stage, RuntimeError)> {
        let tick = self.num_decided;
        let mut timed = |stage: Stage, work: &mut dyn FnMut() -> Result<(), RuntimeError>| {
            let started = Instant::now();
            let done = work();
            report.stage_nanos[stage as usize] = nanos_since(started);
            done.map_err(|error| (stage, error))
        };
        if tick.is_multiple_of(self.rates.encode_every_ticks) {
            timed(Stage::Preprocess, &mut || self.rig.look(observation))?;
            timed(Stage::Encode, &mut || self.rig.encode(self.encoder.as_mut(), &mut self.features))?;
        } else {
            self.rig.check(observation).map_err(|error| (Stage::Preprocess, error))?;
        }
        if tick.is_multiple_of(self.rates.policy_every_ticks) {
            timed(Stage::Policy, &mut || self.policy.act(&self.features, &observation.joints, &mut self.wanted))?;
            if !self.is_plain() {
                let (stamp, now) = (observation.frame.stamp, self.now(observation.frame.stamp));
                self.chunks.take(stamp, &self.wanted.values, now);
            }
        }
        self.num_decided = tick.wrapping_add(1);
        Ok(())
    }
}

pub(crate) fn nanos_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
