//! The safety filter: the only maker of commands.

use std::time::Duration;

use foresee_firmware_config::{CommandKind, JointProfile};

use crate::command::Action;
use crate::time::Stamp;

/// A command that passed the safety filter: finite, in range, within the rate. Cannot be made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct SafeCommand {
    stamp: Stamp,
    values: Vec<f64>,
    verdict: Verdict,
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
}

/// What the filter did to an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Joints whose value was moved into the range.
    pub num_clamped: u32,
    /// Joints whose change was slowed to the allowed rate.
    pub num_rate_limited: u32,
    /// Why the last safe command was held instead, if it was.
    pub held: Option<Hold>,
}

/// Why a command was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The action held NaN or infinity.
    NotFinite,
    /// The action had the wrong number of values.
    WrongLength,
    /// A stage before the filter failed.
    StageFailed,
    /// The frame was older than the profile allows or than one before it, or none came in time.
    StaleFrame,
    /// The loop stops: the last command of all.
    Stopped,
}

/// Makes a [`SafeCommand`] of whatever a tick brings; always answers, and never with a value that is not finite, outside the
/// joint's range, or further from the last one than the joint's rate allows.
#[derive(Clone, Debug)]
pub struct SafetyFilter {
    joints: Vec<JointProfile>,
    period: Duration,
    is_at_rest: bool,
    previous: SafeCommand,
}

impl SafetyFilter {
    /// A filter for these joints, ticked about every `period`. It starts from the value nearest to zero that each range allows.
    /// The rate limit grants the first command one period, and any later one at most two: a jump of the clock must not become a
    /// jump of a joint. A joint whose limits are not finite or upside down, which no checked profile has, stays at zero.
    pub fn new(joints: &[JointProfile], period: Duration) -> Self {
        let joints: Vec<_> = joints.iter().cloned().map(tame).collect();
        let values = joints.iter().map(resting_value).collect();
        let previous = SafeCommand { stamp: Stamp::default(), values, verdict: Verdict::default() };
        Self { joints, period, is_at_rest: true, previous }
    }

    /// A new episode begins: the command before it is the resting one, a period ago.
    pub fn reset(&mut self) {
        self.is_at_rest = true;
        for (value, joint) in self.previous.values.iter_mut().zip(&self.joints) {
            *value = resting_value(joint);
        }
        self.previous.verdict = Verdict::default();
    }

    /// The last command made; at rest, the resting one.
    pub fn last(&self) -> &SafeCommand {
        &self.previous
    }

    /// Clamps to the range, limits the rate since the last command, and holds the last command when the action is absent
    /// (`None`: a stage failed), not finite or of the wrong length.
    pub fn filter(&mut self, stamp: Stamp, action: Option<&Action>) -> &SafeCommand {
        let action = match action {
            None => return self.hold(stamp, Hold::StageFailed),
            Some(action) if action.values.len() != self.joints.len() => return self.hold(stamp, Hold::WrongLength),
            Some(action) if action.values.iter().any(|value| !value.is_finite()) => {
                return self.hold(stamp, Hold::NotFinite);
            }
            Some(action) => action,
        };
        self.limit(stamp, &action.values)
    }

    /// Another filter's command, held to what this one gave last: the two differ once one of them has stopped the joints.
    pub(crate) fn follow(&mut self, command: &SafeCommand) -> &SafeCommand {
        if let Some(why) = command.verdict.held {
            return self.hold(command.stamp, why);
        }
        self.limit(command.stamp, &command.values);
        let Verdict { num_clamped, num_rate_limited, .. } = command.verdict;
        let verdict = &mut self.previous.verdict;
        verdict.num_clamped = verdict.num_clamped.max(num_clamped);
        verdict.num_rate_limited = verdict.num_rate_limited.max(num_rate_limited);
        &self.previous
    }

    /// Range and rate, for finite values, one a joint.
    fn limit(&mut self, stamp: Stamp, values: &[f64]) -> &SafeCommand {
        let elapsed = self.elapsed(stamp).as_secs_f64();
        let mut verdict = Verdict::default();
        for ((joint, safe), wanted) in self.joints.iter().zip(&mut self.previous.values).zip(values) {
            let largest_change = joint.max_rate_per_second * elapsed;
            let clamped = bound(*wanted, joint.minimum, joint.maximum);
            let limited = bound(clamped, *safe - largest_change, *safe + largest_change);
            verdict.num_clamped += u32::from(clamped != *wanted);
            verdict.num_rate_limited += u32::from(limited != clamped);
            // Rounding must not carry a value across its limit.
            *safe = bound(limited, joint.minimum, joint.maximum);
        }
        self.previous.stamp = stamp;
        self.previous.verdict = verdict;
        self.is_at_rest = false;
        &self.previous
    }

    /// Gives the last command again, under a new stamp.
    pub fn hold(&mut self, stamp: Stamp, why: Hold) -> &SafeCommand {
        self.previous.stamp = stamp;
        self.previous.verdict = Verdict { held: Some(why), ..Verdict::default() };
        &self.previous
    }

    /// The last command before the loop ends: no torque, no speed, and the position where it is.
    pub fn stop(&mut self, stamp: Stamp) -> &SafeCommand {
        for (value, joint) in self.previous.values.iter_mut().zip(&self.joints) {
            match joint.command {
                CommandKind::PositionRadians => {}
                CommandKind::TorqueNormalised
                | CommandKind::TorqueNewtonMetres
                | CommandKind::VelocityRadiansPerSecond => *value = resting_value(joint),
            }
        }
        self.hold(stamp, Hold::Stopped)
    }

    /// How long the rate limit may count: nothing when time stands still or turns back.
    fn elapsed(&self, stamp: Stamp) -> Duration {
        if self.is_at_rest {
            return self.period;
        }
        stamp.since(self.previous.stamp).min(self.period.saturating_mul(2))
    }
}

/// The value nearest to zero in the joint's range.
fn resting_value(joint: &JointProfile) -> f64 {
    bound(0.0, joint.minimum, joint.maximum)
}

/// Unlike `clamp` this has no bounds on which it panics.
fn bound(value: f64, low: f64, high: f64) -> f64 {
    value.max(low).min(high)
}

fn tame(joint: JointProfile) -> JointProfile {
    let rate = joint.max_rate_per_second;
    let is_sound = joint.minimum.is_finite() && joint.maximum.is_finite() && joint.minimum <= joint.maximum;
    let (minimum, maximum) = if is_sound { (joint.minimum, joint.maximum) } else { (0.0, 0.0) };
    JointProfile { minimum, maximum, max_rate_per_second: if rate.is_finite() { rate.max(0.0) } else { 0.0 }, ..joint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn joint(minimum: f64, maximum: f64, max_rate_per_second: f64) -> JointProfile {
        let command = CommandKind::TorqueNormalised;
        JointProfile {
            name: "joint".to_owned(),
            command,
            minimum,
            maximum,
            max_rate_per_second,
            max_acceleration_per_second_squared: None,
            max_jerk_per_second_cubed: None,
            home: 0.0,
            damping_per_radian_per_second: 0.0,
            position: None,
            link: None,
        }
    }

    fn action(value: f64) -> Action {
        Action { values: vec![value] }
    }

    fn millis(millis: u64) -> Stamp {
        Stamp { nanos: millis * 1_000_000 }
    }

    #[test]
    fn each_limit_is_kept_and_told() {
        let mut filter = SafetyFilter::new(&[joint(-1.0, 1.0, 10.0)], Duration::from_millis(20));
        let mut check = |stamp, value, expected: f64, verdict: Verdict| {
            let command = filter.filter(stamp, Some(&action(value)));
            assert!((command.values()[0] - expected).abs() < 1e-12, "{command:?}");
            assert_eq!((command.verdict(), command.stamp()), (verdict, stamp));
        };
        let (free, held) = (Verdict::default(), |why| Verdict { held: Some(why), ..Verdict::default() });
        let slowed = Verdict { num_rate_limited: 1, ..free };
        check(millis(1000), 0.9, 0.2, slowed);
        check(millis(1010), 0.25, 0.25, free);
        check(millis(1010), 0.5, 0.25, slowed);
        check(millis(1020), f64::NAN, 0.25, held(Hold::NotFinite));
        check(millis(1030), f64::INFINITY, 0.25, held(Hold::NotFinite));
        check(millis(9000), -7.0, -0.15, Verdict { num_clamped: 1, num_rate_limited: 1, held: None });
        check(millis(500), 1.0, -0.15, slowed);
        check(millis(510), 1.0, -0.05, slowed);
        let command = filter.filter(millis(520), None);
        assert_eq!(command.verdict().held, Some(Hold::StageFailed));
        assert_eq!(filter.filter(millis(530), Some(&Action::default())).verdict().held, Some(Hold::WrongLength));
        assert_eq!(filter.stop(millis(540)).values(), [0.0]);
        filter.reset();
        assert_eq!(filter.filter(millis(0), Some(&action(1.0))).values(), [0.2]);
    }

    #[test]
    fn a_position_is_held_when_the_loop_stops() {
        let position = JointProfile { command: CommandKind::PositionRadians, ..joint(-3.0, 3.0, 100.0) };
        let mut filter = SafetyFilter::new(&[position], Duration::from_millis(50));
        filter.filter(millis(10), Some(&action(2.0)));
        assert_eq!(filter.stop(millis(20)).values(), [2.0]);
    }

    fn any_value() -> impl Strategy<Value = f64> {
        prop_oneof![proptest::num::f64::ANY, -2.0..2.0, Just(f64::NAN), Just(f64::MAX), Just(-0.0)]
    }

    #[derive(Clone, Debug)]
    enum Tick {
        Filter(u64, Vec<f64>),
        Fail(u64),
        Reset,
        Stop(u64),
    }

    fn any_tick() -> impl Strategy<Value = Tick> {
        let stamp = || prop_oneof![0_u64..2_000_000_000, proptest::num::u64::ANY];
        prop_oneof![
            6 => (stamp(), prop::collection::vec(any_value(), 2)).prop_map(|(stamp, values)| Tick::Filter(stamp, values)),
            1 => (stamp(), prop::collection::vec(any_value(), 0..4)).prop_map(|(stamp, values)| Tick::Filter(stamp, values)),
            1 => stamp().prop_map(Tick::Fail),
            1 => Just(Tick::Reset),
            1 => stamp().prop_map(Tick::Stop),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn whatever_comes_the_command_is_safe(
            limits in prop::collection::vec((any_value(), any_value(), any_value()), 2),
            ticks in prop::collection::vec(any_tick(), 1..40),
        ) {
            let joints: Vec<_> = limits.iter().map(|(low, high, rate)| joint(*low, *high, *rate)).collect();
            let period = Duration::from_millis(20);
            let mut filter = SafetyFilter::new(&joints, period);
            let sound = filter.joints.clone();
            let mut last: Option<SafeCommand> = None;
            for tick in &ticks {
                let (command, is_limited) = match tick {
                    Tick::Filter(nanos, values) => {
                        let action = Action { values: values.clone() };
                        (filter.filter(Stamp { nanos: *nanos }, Some(&action)), true)
                    }
                    Tick::Fail(nanos) => (filter.filter(Stamp { nanos: *nanos }, None), true),
                    Tick::Stop(nanos) => (filter.stop(Stamp { nanos: *nanos }), false),
                    Tick::Reset => {
                        filter.reset();
                        last = None;
                        continue;
                    }
                };
                prop_assert_eq!(command.values().len(), 2);
                for (joint_idx, (value, joint)) in command.values().iter().zip(&sound).enumerate() {
                    prop_assert!(value.is_finite());
                    prop_assert!(*value >= joint.minimum && *value <= joint.maximum);
                    if let (Some(last), true) = (&last, is_limited) {
                        let seconds = command.stamp().since(last.stamp()).min(2 * period).max(Duration::ZERO).as_secs_f64();
                        let change = (value - last.values()[joint_idx]).abs();
                        // The first command after a reset is granted a whole period, wherever its stamp lies.
                        let granted = joint.max_rate_per_second * seconds.max(if last.verdict.held.is_some() { 0.02 } else { 0.0 });
                        prop_assert!(change <= granted * (1.0 + 1e-9) + 1e-12 * value.abs(), "{change} {granted}");
                    }
                }
                last = Some(command.clone());
            }
        }
    }
}
