//! The safety filter: the only maker of commands.
//!
//! What always holds, for whatever comes in: a command has one finite value a joint, in the joint's range; a position that begins
//! outside its range begins where it is measured, and only moves back in; with the one before it a command
//! keeps rate, acceleration and jerk, in the safe action as in normal work ([`motion`] says why they can be kept together). Where
//! the profile gives a workspace and the joints take positions, the commanded pose and the whole stop from it lie in the box. Joints
//! that take velocities brake before their position limits if they follow their commands; from torques only the ones that push
//! towards a limit within braking distance are taken away, since what a torque does is the load's matter.
//!
//! It always answers. Where it is not known where a joint that takes positions is (it was never measured, or the robot fell silent
//! while it rested) the answer has no values, and nothing is sent: the joint stays where it is, and any value would move it, however
//! far it is from there.

mod limits;
mod motion;
mod seen;
mod shared;
mod verdict;
mod workspace;

use std::time::Duration;

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile, Pace, SafeAction, SafetyProfile};

use self::limits::Governor;
use self::seen::Seen;
pub use self::shared::SharedFilter;
pub use self::verdict::{Hold, SafetyState, Verdict};
use crate::command::Action;
use crate::joints::JointState;
use crate::time::Stamp;

/// A joint that needs longer than an hour to stop, such as one without any rate, does not stop.
const LONGEST_STOP_SECONDS: f64 = 3600.0;
/// A stop for good damps no longer than this: a load that sinks never comes to rest.
const LONGEST_DAMPING: Duration = Duration::from_secs(2);
/// What counts as still, in radians (or metres) per second.
const STILL_PER_SECOND: f64 = 0.01;
/// A joint this near its command, in radians, is where it was commanded to be: what a load or a servo leaves.
const NEAR_RADIANS: f64 = 0.05;

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

    /// One value a joint, in the profile's order and units; none where [`SafeCommand::is_empty`].
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Whether it says nothing, and is not to be sent: where a joint that takes positions stands was never measured.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
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

/// Makes a [`SafeCommand`] of whatever a tick brings; always answers, and never outside a limit. Before a joint that takes positions was
/// measured the answer is empty.
#[derive(Clone, Debug)]
pub struct SafetyFilter {
    governor: Governor,
    action: SafeAction,
    period: Duration,
    state: SafetyState,
    is_degraded: bool,
    is_throttled: bool,
    /// When the last command was made; `None`: none was yet, and positions begin where the joints are.
    last_time: Option<Stamp>,
    /// Since when the robot is silent while its joints rest, on the clock that limits count by.
    silent_since: Option<Stamp>,
    /// Whether positions begin anew with the next measurement: the robot fell silent.
    begins_again: bool,
    /// When a stop for good began, on the clock that limits count by.
    stopped_at: Option<Stamp>,
    seen: Seen,
    last: SafeCommand,
}

impl SafetyFilter {
    /// A filter for these joints, ticked about every `period`, with the safe action [`SafeAction::Stop`] and no workspace.
    /// The rate limit grants the first command one period, and any later one at most two: a jump of the clock must not become a
    /// jump of a joint. A joint whose limits are not finite or upside down, which no checked profile has, stays at zero. Joint
    /// states do not age.
    pub fn new(joints: &[JointProfile], period: Duration) -> Self {
        Self::with(joints, period, &SafetyProfile::default(), None)
    }

    /// The filter that a profile describes. At a fixed pace joint states become as old as frames may, and no action is followed
    /// without one that is newer.
    pub fn of(profile: &DeviceProfile) -> Self {
        let max_joint_age = match profile.pace {
            Pace::Lockstep { .. } => None,
            Pace::Fixed { max_frame_age_millis, .. } => Some(Duration::from_millis(max_frame_age_millis)),
        };
        Self::with(&profile.joints, profile.pace.period(), &profile.safety, max_joint_age)
    }

    fn with(
        joints: &[JointProfile],
        period: Duration,
        safety: &SafetyProfile,
        max_joint_age: Option<Duration>,
    ) -> Self {
        let (stamp, time) = (Stamp::default(), Stamp::default());
        let mut filter = Self {
            governor: Governor::new(joints, safety.workspace.as_ref()),
            action: safety.action,
            period,
            state: SafetyState::Starting,
            is_degraded: false,
            is_throttled: false,
            last_time: None,
            silent_since: None,
            begins_again: false,
            stopped_at: None,
            seen: Seen::nothing(joints.len(), max_joint_age),
            last: SafeCommand { stamp, values: Vec::new(), verdict: Verdict::default(), ordinal: 0, time },
        };
        filter.publish();
        filter
    }

    /// A new episode begins in lockstep: every joint was put elsewhere, nothing is known of it, and no fault is latched.
    pub fn reset(&mut self) {
        self.governor.rest();
        (self.last_time, self.silent_since, self.begins_again, self.stopped_at) = (None, None, false, None);
        self.seen.forget();
        self.is_degraded = false;
        self.state = SafetyState::Starting;
        self.last.verdict = Verdict::default();
        self.publish();
    }

    /// Ends a latched fault; a stop stays one.
    pub fn clear(&mut self) {
        if let SafetyState::Stopped { reason: Hold::NotFinite } = self.state {
            self.state = SafetyState::Starting;
            self.seen.forget();
        }
    }

    /// What the joints are doing.
    pub fn state(&self) -> SafetyState {
        self.state
    }

    /// The last command made; before the first, what joints that take no positions begin from.
    pub fn last(&self) -> &SafeCommand {
        &self.last
    }

    /// Whether an action is only followed with a joint state. At a fixed pace always: a policy acts on the joints, too.
    pub fn needs_joints(&self) -> bool {
        self.seen.max_age().is_some()
            || self.governor.needs_joints()
            || self.action == SafeAction::Damp
            || !self.has_begun()
    }

    /// Takes the measured joints, for the limits that need them and for where a position begins. Their age counts from their stamp:
    /// `now` is the time on its clock, and on the one that limits count by.
    pub fn see(&mut self, joints: &JointState, now: impl Into<Moment>) {
        self.seen.take(joints, now.into());
    }

    /// Says that something is not as declared, or that it is again; shown in the state of the commands that follow.
    pub fn degrade(&mut self, is_degraded: bool) {
        self.is_degraded = is_degraded;
    }

    /// Says that the machine throttles, or that it does no more; shown as what is degraded.
    pub(crate) fn throttle(&mut self, is_throttled: bool) {
        self.is_throttled = is_throttled;
    }

    /// The command for an action; the safe action when there is none (`None`: a stage failed) or it is not sound.
    pub fn filter(&mut self, moment: impl Into<Moment>, action: Option<&Action>) -> &SafeCommand {
        let moment = moment.into();
        match action.ok_or(Hold::StageFailed).and_then(|action| self.check(action, moment.time).map(|()| action)) {
            Ok(action) => self.follow(moment, action),
            Err(why) => self.hold(moment, why),
        }
    }

    /// The safe action, for a reason that ends by itself ([`Hold::NotFinite`] does not).
    pub fn hold(&mut self, moment: impl Into<Moment>, why: Hold) -> &SafeCommand {
        let moment = moment.into();
        self.state = self.state.holding(moment.stamp, why);
        self.act_safely(moment)
    }

    /// The safe action from now on.
    pub fn stop(&mut self, moment: impl Into<Moment>) -> &SafeCommand {
        self.state = SafetyState::Stopped { reason: Hold::Stopped };
        self.act_safely(moment.into())
    }

    /// Whether the safe action has brought every command to where it stays.
    pub fn is_at_rest(&self) -> bool {
        self.moving().next().is_none()
    }

    /// The joints that are not at rest yet.
    pub(crate) fn moving(&self) -> impl Iterator<Item = &str> {
        self.governor.moving(self.action).filter(|_| self.has_begun())
    }

    /// The stamp of the last joint state that came, whatever it is worth.
    pub(crate) fn joint_stamp(&self) -> Option<Stamp> {
        self.seen.stamp()
    }

    /// The joints that stand outside their range, where they are and what the range is; for people.
    pub(crate) fn outside(&self) -> Vec<String> {
        if self.has_begun() { self.governor.outside(self.seen.latest()).collect() } else { Vec::new() }
    }

    /// The time in which the safe action certainly ends, by the joints' limits, if nothing is in its way.
    pub(crate) fn longest_stop(&self) -> Duration {
        let seconds = Duration::from_secs_f64(self.governor.stop_seconds(self.action).min(LONGEST_STOP_SECONDS));
        match self.action {
            SafeAction::Damp => seconds + LONGEST_DAMPING,
            SafeAction::Hold | SafeAction::Stop | SafeAction::ReturnHome => seconds,
        }
    }

    /// Whether it is known what commands go on from.
    fn has_begun(&self) -> bool {
        self.last_time.is_some() || !self.governor.has_positions()
    }

    fn check(&self, action: &Action, time: Stamp) -> Result<(), Hold> {
        if let SafetyState::Stopped { reason } = self.state {
            return Err(reason);
        }
        if action.values.len() != self.governor.num_joints() {
            return Err(Hold::WrongLength);
        }
        if !self.seen.is_finite() || action.values.iter().any(|value| !value.is_finite()) {
            return Err(Hold::NotFinite);
        }
        let joints = self.seen.joints(time);
        if self.needs_joints() && joints.is_none() {
            return Err(Hold::NoJointState);
        }
        match joints {
            Some(joints) if !self.governor.can_stop_inside(joints) => Err(Hold::OutsideWorkspace),
            _ => Ok(()),
        }
    }

    fn follow(&mut self, moment: Moment, action: &Action) -> &SafeCommand {
        // An action is followed only where commands have begun, or can.
        let elapsed = self.elapse(moment).unwrap_or_default();
        let seconds = (elapsed, self.period.as_secs_f64());
        self.last.verdict = self.governor.follow(&action.values, self.seen.joints(moment.time), seconds);
        self.state = match (self.last.verdict.held, self.is_degraded || self.is_throttled, self.state) {
            (Some(why), _, state) => state.holding(moment.stamp, why),
            (None, false, _) => SafetyState::Normal,
            (None, true, SafetyState::Degraded { since }) => SafetyState::Degraded { since },
            (None, true, _) => SafetyState::Degraded { since: moment.stamp },
        };
        self.made(moment)
    }

    fn act_safely(&mut self, moment: Moment) -> &SafeCommand {
        self.forget_if_silent(moment.time);
        let held = match (self.elapse(moment), self.state) {
            (None, _) => Some(Hold::Unmeasured),
            (Some(elapsed), state) => {
                let is_damped = self.is_damped(moment.time);
                let joints = self.seen.joints(moment.time).filter(|_| is_damped);
                self.governor.act_safely(self.action, joints, elapsed);
                state.reason()
            }
        };
        self.last.verdict = Verdict { held, ..Verdict::default() };
        self.made(moment)
    }

    /// A robot that stays silent while its joints rest may have been switched off: where they are is to be measured again. Until
    /// then nothing is sent if every joint takes positions; velocities and torques at rest are said again and again.
    fn forget_if_silent(&mut self, time: Stamp) {
        let max_age = self.seen.max_age().filter(|_| self.seen.joints(time).is_none() && self.governor.has_positions());
        let Some(max_age) = max_age.filter(|_| self.last_time.is_some() && self.is_at_rest()) else {
            self.silent_since = None;
            return;
        };
        // What a lossy link swallowed was said again meanwhile.
        if time.since(*self.silent_since.get_or_insert(time)) > max_age {
            self.begins_again = true;
            self.last_time = self.last_time.filter(|_| !self.governor.are_positions());
        }
    }

    /// Whether a safe action still works against the joints' velocity: once they are to stop for good, until they are still.
    fn is_damped(&mut self, time: Stamp) -> bool {
        if self.state != (SafetyState::Stopped { reason: Hold::Stopped }) {
            return true;
        }
        let since = *self.stopped_at.get_or_insert(time);
        time.since(since) <= LONGEST_DAMPING && self.seen.joints(time).is_some_and(|joints| !is_still(joints))
    }

    /// Seconds that the limits may count: nothing when time stands still or turns back. `None`: it is not known where to begin.
    fn elapse(&mut self, moment: Moment) -> Option<f64> {
        let joints = self.seen.joints(moment.time);
        // Where a joint is about where it was commanded to be, the command stays: a load must not sink a bit at each silence.
        let near = if self.begins_again { NEAR_RADIANS } else { 0.0 };
        let elapsed = match self.last_time {
            Some(last) => {
                let _ = self.begins_again && self.governor.begin(joints, near);
                moment.time.since(last).min(self.period.saturating_mul(2))
            }
            None if self.governor.begin(joints, near) => self.period,
            None => return None,
        };
        self.begins_again &= joints.is_none();
        self.last_time = Some(moment.time);
        Some(elapsed.as_secs_f64())
    }

    fn made(&mut self, moment: Moment) -> &SafeCommand {
        (self.last.stamp, self.last.time) = (moment.stamp, moment.time);
        self.publish();
        &self.last
    }

    fn publish(&mut self) {
        self.last.ordinal += 1;
        self.last.values.clear();
        if self.has_begun() {
            self.last.values.extend(self.governor.values());
        }
    }
}

/// Whether no joint moves, but for the noise of its measurement.
fn is_still(joints: &JointState) -> bool {
    joints.velocities.iter().all(|velocity| velocity.abs() <= STILL_PER_SECOND)
}

/// Whether a command of this kind is where the joint is to be.
fn is_position(kind: CommandKind) -> bool {
    kind == CommandKind::PositionRadians
}

#[cfg(test)]
mod tests;
