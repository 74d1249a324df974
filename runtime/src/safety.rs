//! The safety filter: the only maker of commands.

use std::time::Duration;

use foresee_firmware_config::JointProfile;

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
}

/// Makes a [`SafeCommand`] of whatever a tick brings; always answers.
#[derive(Clone, Debug)]
pub struct SafetyFilter {
    joints: Vec<JointProfile>,
    period: Duration,
    is_at_rest: bool,
    previous: SafeCommand,
}

impl SafetyFilter {
    /// A filter for these joints, ticked about every `period`. It starts from the value nearest to zero that each range allows.
    pub fn new(joints: &[JointProfile], period: Duration) -> Self {
        let values = joints.iter().map(|joint| 0.0_f64.clamp(joint.minimum, joint.maximum)).collect();
        let previous = SafeCommand { stamp: Stamp::default(), values, verdict: Verdict::default() };
        Self { joints: joints.to_vec(), period, is_at_rest: true, previous }
    }

    /// A new episode begins: the command before it is the resting one, a period ago.
    pub fn reset(&mut self) {
        self.is_at_rest = true;
        for (value, joint) in self.previous.values.iter_mut().zip(&self.joints) {
            *value = 0.0_f64.clamp(joint.minimum, joint.maximum);
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
        let since_previous = stamp.since(self.previous.stamp);
        let elapsed = if self.is_at_rest { self.period } else { since_previous }.as_secs_f64();
        self.is_at_rest = false;
        self.previous.stamp = stamp;
        self.previous.verdict = Verdict::default();
        let hold = match action {
            None => Some(Hold::StageFailed),
            Some(action) if action.values.len() != self.joints.len() => Some(Hold::WrongLength),
            Some(action) if action.values.iter().any(|value| !value.is_finite()) => Some(Hold::NotFinite),
            Some(_) => None,
        };
        self.previous.verdict.held = hold;
        if let (None, Some(action)) = (hold, action) {
            for ((joint, safe), wanted) in self.joints.iter().zip(&mut self.previous.values).zip(&action.values) {
                let clamped = wanted.clamp(joint.minimum, joint.maximum);
                let largest_change = joint.max_rate_per_second * elapsed;
                let limited = clamped.clamp(*safe - largest_change, *safe + largest_change);
                self.previous.verdict.num_clamped += u32::from(clamped != *wanted);
                self.previous.verdict.num_rate_limited += u32::from(limited != clamped);
                *safe = limited.clamp(joint.minimum, joint.maximum);
            }
        }
        &self.previous
    }
}
