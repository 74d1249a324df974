//! The safety filter: the only maker of commands.
//!
//! What always holds, for whatever comes in: a command has one finite value a joint, in the joint's range; with the one before it
//! it keeps rate, acceleration and jerk, in the safe action as in normal work ([`motion`] says why they can be kept together). Where
//! the profile gives a workspace and the joints take positions, the commanded pose and the whole stop from it lie in the box. Joints
//! that take velocities brake before their position limits if they follow their commands; from torques only the ones that push
//! towards a limit within braking distance are taken away, since what a torque does is the load's matter.

mod limits;
mod motion;
mod workspace;

use std::time::Duration;

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile, SafeAction, SafetyProfile};

use self::limits::Governor;
use crate::command::Action;
use crate::joints::JointState;
use crate::time::Stamp;

/// A command that passed the safety filter: finite, and within every limit. Cannot be made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct SafeCommand {
    stamp: Stamp,
    values: Vec<f64>,
    verdict: Verdict,
    ordinal: u64,
    time: Stamp,
}

impl SafeCommand {
    /// The observation's stamp that it answers.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// One value a joint, in the profile's order and units.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// What the filter did.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// When it was made, on the clock that limits count by.
    pub(crate) fn time(&self) -> Stamp {
        self.time
    }

    /// Counts up by one a command of its filter; the largest is the one in force.
    pub(crate) fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Takes over another's content without allocating.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        (self.stamp, self.verdict) = (other.stamp, other.verdict);
        (self.ordinal, self.time) = (other.ordinal, other.time);
        self.values.clone_from(&other.values);
    }
}

/// What the filter did to an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Joints whose value was moved into the range.
    pub num_clamped: u32,
    /// Joints that were slowed to their rate, acceleration or jerk.
    pub num_rate_limited: u32,
    /// Joints kept back from a position limit or from the side of the workspace.
    pub num_position_limited: u32,
    /// Why the safe action was taken instead, if it was.
    pub held: Option<Hold>,
}

/// Why the safe action is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The action or the joint state held NaN or infinity: a latched fault, until [`SafetyFilter::clear`].
    NotFinite,
    /// The action had the wrong number of values.
    WrongLength,
    /// A stage before the filter failed.
    StageFailed,
    /// The frame was older than the profile allows or than one before it, or none came in time.
    StaleFrame,
    /// Frames have come without any change for too long.
    FrozenFrame,
    /// No command was made in time: something hangs.
    NoCommand,
    /// The machine's clock jumped, or a frame's stamp lies in the future.
    ClockJumped,
    /// Ticks took longer than the declared budget.
    OverBudget,
    /// No action that is still valid: the chunk is used up or too old.
    NoAction,
    /// The joint state is missing or too old where limits need it.
    NoJointState,
    /// A link is outside the workspace, or could not stop inside it.
    OutsideWorkspace,
    /// The loop stops, by the operator, a signal or its end: the last commands of all.
    Stopped,
}

impl Hold {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotFinite => "an action or joint state that is not finite; latched until the fault is cleared",
            Self::WrongLength => "an action with the wrong number of values",
            Self::StageFailed => "a stage failed",
            Self::StaleFrame => "no frame that is new enough",
            Self::FrozenFrame => "a camera that shows the same frame again and again",
            Self::NoCommand => "no command in time; a stage hangs",
            Self::ClockJumped => "a clock that jumped",
            Self::OverBudget => "ticks longer than the declared budget",
            Self::NoAction => "no action that is still valid",
            Self::NoJointState => "no joint state that is new enough",
            Self::OutsideWorkspace => "a link outside the workspace",
            Self::Stopped => "a stop",
        }
    }
}

/// What the joints are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SafetyState {
    /// Nothing was commanded yet.
    #[default]
    Starting,
    /// The policy is followed.
    Normal,
    /// The policy is followed, and something is not as it was declared.
    Degraded {
        /// Since when.
        since: Stamp,
    },
    /// The safe action is taken; the next sound action ends it.
    Holding {
        /// Since when.
        since: Stamp,
        /// Why.
        reason: Hold,
    },
    /// The safe action is taken, and nothing but a reset, or clearing the fault, ends it.
    Stopped {
        /// Why.
        reason: Hold,
    },
}

/// When something happens: as the observation says it, and on the clock that limits count by (the same in lockstep and replay;
/// monotonic where the machine's time may jump).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The observation's stamp.
    pub stamp: Stamp,
    /// The time that rates are counted in.
    pub time: Stamp,
}

impl From<Stamp> for Moment {
    fn from(stamp: Stamp) -> Self {
        Self { stamp, time: stamp }
    }
}

/// Makes a [`SafeCommand`] of whatever a tick brings; always answers, and never outside a limit.
#[derive(Clone, Debug)]
pub struct SafetyFilter {
    governor: Governor,
    action: SafeAction,
    period: Duration,
    state: SafetyState,
    is_degraded: bool,
    /// When the last command was made; `None`: at rest.
    last_time: Option<Stamp>,
    joints: JointState,
    joints_are: Measured,
    last: SafeCommand,
}

/// What is known of the joints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    Unknown,
    Known,
    NotFinite,
}

impl SafetyFilter {
    /// A filter for these joints, ticked about every `period`, with the safe action [`SafeAction::Stop`] and no workspace.
    /// The rate limit grants the first command one period, and any later one at most two: a jump of the clock must not become a
    /// jump of a joint. A joint whose limits are not finite or upside down, which no checked profile has, stays at zero.
    pub fn new(joints: &[JointProfile], period: Duration) -> Self {
        Self::with(joints, period, &SafetyProfile::default())
    }

    /// The filter that a profile describes.
    pub fn of(profile: &DeviceProfile) -> Self {
        Self::with(&profile.joints, profile.pace.period(), &profile.safety)
    }

    fn with(joints: &[JointProfile], period: Duration, safety: &SafetyProfile) -> Self {
        let governor = Governor::new(joints, safety.workspace.as_ref());
        let values = governor.values().collect();
        let (stamp, time) = (Stamp::default(), Stamp::default());
        let last = SafeCommand { stamp, values, verdict: Verdict::default(), ordinal: 0, time };
        Self {
            governor,
            action: safety.action,
            period,
            state: SafetyState::Starting,
            is_degraded: false,
            last_time: None,
            joints: JointState::zeros(joints.len()),
            joints_are: Measured::Unknown,
            last,
        }
    }

    /// A new episode begins: every joint is at its home, nothing is known of it, and no fault is latched.
    pub fn reset(&mut self) {
        self.governor.rest();
        self.last_time = None;
        self.joints_are = Measured::Unknown;
        self.is_degraded = false;
        self.state = SafetyState::Starting;
        self.last.verdict = Verdict::default();
        self.publish();
    }

    /// Ends a latched fault; a stop stays one.
    pub fn clear(&mut self) {
        if let SafetyState::Stopped { reason: Hold::NotFinite } = self.state {
            self.state = SafetyState::Starting;
            self.joints_are = Measured::Unknown;
        }
    }

    /// What the joints are doing.
    pub fn state(&self) -> SafetyState {
        self.state
    }

    /// The last command made; at rest, every joint at home.
    pub fn last(&self) -> &SafeCommand {
        &self.last
    }

    /// Whether commands can only be made with a joint state.
    pub fn needs_joints(&self) -> bool {
        self.governor.needs_joints() || self.action == SafeAction::Damp
    }

    /// Takes the measured joints, for the limits that need them and for where a position begins.
    pub fn see(&mut self, joints: &JointState) {
        let num_joints = self.last.values.len();
        if [joints.positions.len(), joints.velocities.len()] != [num_joints; 2] {
            self.joints_are = Measured::Unknown;
            return;
        }
        self.joints.stamp = joints.stamp;
        self.joints.positions.clone_from(&joints.positions);
        self.joints.velocities.clone_from(&joints.velocities);
        let is_finite = joints.positions.iter().chain(&joints.velocities).all(|value| value.is_finite());
        self.joints_are = if is_finite { Measured::Known } else { Measured::NotFinite };
    }

    /// Says that something is not as declared, or that it is again; shown in the state of the commands that follow.
    pub fn degrade(&mut self, is_degraded: bool) {
        self.is_degraded = is_degraded;
    }

    /// The command for an action; the safe action when there is none (`None`: a stage failed) or it is not sound.
    pub fn filter(&mut self, moment: impl Into<Moment>, action: Option<&Action>) -> &SafeCommand {
        let moment = moment.into();
        match action.ok_or(Hold::StageFailed).and_then(|action| self.check(action).map(|()| action)) {
            Ok(action) => self.follow(moment, action),
            Err(why) => self.hold(moment, why),
        }
    }

    /// The safe action, for a reason that ends by itself ([`Hold::NotFinite`] does not).
    pub fn hold(&mut self, moment: impl Into<Moment>, why: Hold) -> &SafeCommand {
        let moment = moment.into();
        self.state = match (self.state, why) {
            (SafetyState::Stopped { reason }, _) => SafetyState::Stopped { reason },
            (_, Hold::NotFinite | Hold::Stopped) => SafetyState::Stopped { reason: why },
            (SafetyState::Holding { since, .. }, _) => SafetyState::Holding { since, reason: why },
            _ => SafetyState::Holding { since: moment.stamp, reason: why },
        };
        self.act_safely(moment)
    }

    /// The safe action from now on.
    pub fn stop(&mut self, moment: impl Into<Moment>) -> &SafeCommand {
        self.state = SafetyState::Stopped { reason: Hold::Stopped };
        self.act_safely(moment.into())
    }

    /// Whether the safe action has brought every command to where it stays.
    pub fn is_at_rest(&self) -> bool {
        self.governor.is_at_rest(self.action)
    }

    fn check(&self, action: &Action) -> Result<(), Hold> {
        if let SafetyState::Stopped { reason } = self.state {
            return Err(reason);
        }
        if action.values.len() != self.last.values.len() {
            return Err(Hold::WrongLength);
        }
        if self.joints_are == Measured::NotFinite || action.values.iter().any(|value| !value.is_finite()) {
            return Err(Hold::NotFinite);
        }
        if self.needs_joints() && self.joints_are != Measured::Known {
            return Err(Hold::NoJointState);
        }
        match self.measured() {
            Some(joints) if !self.governor.can_stop_inside(joints, self.last_time.is_none()) => {
                Err(Hold::OutsideWorkspace)
            }
            _ => Ok(()),
        }
    }

    fn measured(&self) -> Option<&JointState> {
        (self.joints_are == Measured::Known).then_some(&self.joints)
    }

    fn follow(&mut self, moment: Moment, action: &Action) -> &SafeCommand {
        let elapsed = self.elapse(moment);
        let joints = (self.joints_are == Measured::Known).then_some(&self.joints);
        self.last.verdict = self.governor.follow(&action.values, joints, (elapsed, self.period.as_secs_f64()));
        self.state = match (self.is_degraded, self.state) {
            (false, _) => SafetyState::Normal,
            (true, SafetyState::Degraded { since }) => SafetyState::Degraded { since },
            (true, _) => SafetyState::Degraded { since: moment.stamp },
        };
        self.made(moment)
    }

    fn act_safely(&mut self, moment: Moment) -> &SafeCommand {
        let elapsed = self.elapse(moment);
        let joints = (self.joints_are == Measured::Known).then_some(&self.joints);
        self.governor.act_safely(self.action, joints, elapsed);
        let held = match self.state {
            SafetyState::Holding { reason, .. } | SafetyState::Stopped { reason } => Some(reason),
            _ => None,
        };
        self.last.verdict = Verdict { held, ..Verdict::default() };
        self.made(moment)
    }

    /// Seconds that the limits may count: nothing when time stands still or turns back.
    fn elapse(&mut self, moment: Moment) -> f64 {
        let elapsed = match self.last_time {
            Some(last) => moment.time.since(last).min(self.period.saturating_mul(2)),
            None => {
                let joints = (self.joints_are == Measured::Known).then_some(&self.joints);
                self.governor.begin(joints);
                self.period
            }
        };
        self.last_time = Some(moment.time);
        elapsed.as_secs_f64()
    }

    fn made(&mut self, moment: Moment) -> &SafeCommand {
        (self.last.stamp, self.last.time) = (moment.stamp, moment.time);
        self.publish();
        &self.last
    }

    fn publish(&mut self) {
        self.last.ordinal += 1;
        self.last.values.clear();
        self.last.values.extend(self.governor.values());
    }
}

/// Whether a command of this kind is where the joint is to be.
fn is_position(kind: CommandKind) -> bool {
    kind == CommandKind::PositionRadians
}

#[cfg(test)]
mod tests;
