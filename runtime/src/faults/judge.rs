//! The joints of a row: every command is looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foresee_firmware_config::DeviceProfile;

use super::PERIOD;
use crate::ends::Actuator;
use crate::error::RuntimeError;
use crate::safety::SafeCommand;

/// A command as it reached the joints.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) at: Instant,
    /// Neither held nor clamped.
    pub(super) is_free: bool,
    pub(super) is_held: bool,
    /// Held, and the same as the held one before: the safe action has brought the joints to where they stay.
    pub(super) is_at_rest: bool,
    pub(super) is_safe: bool,
}

/// The joints: looks at every command.
pub(super) struct Judge {
    limits: Vec<(f64, f64, f64)>,
    last: Option<SafeCommand>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Judge {
    pub(super) fn new(profile: &DeviceProfile) -> (Self, Arc<Mutex<Vec<Sent>>>) {
        let limits = profile.joints.iter().map(|joint| (joint.minimum, joint.maximum, joint.max_rate_per_second));
        let sent = Arc::<Mutex<Vec<Sent>>>::default();
        (Self { limits: limits.collect(), last: None, sent: Arc::clone(&sent) }, sent)
    }

    fn is_at_rest(&self, command: &SafeCommand) -> bool {
        let is_held = |command: &SafeCommand| command.verdict().held.is_some();
        self.last.as_ref().is_some_and(|last| {
            let mut changes = command.values().iter().zip(last.values()).map(|(value, last)| (value - last).abs());
            is_held(command) && is_held(last) && changes.all(|change| change < 1e-9)
        })
    }

    fn is_safe(&self, command: &SafeCommand) -> bool {
        let elapsed = self.last.as_ref().map_or(PERIOD, |last| command.time().since(last.time()));
        command.values().len() == self.limits.len()
            && command.values().iter().zip(&self.limits).enumerate().all(|(joint_idx, (value, limits))| {
                let (minimum, maximum, rate) = limits;
                let last = self.last.as_ref().and_then(|last| last.values().get(joint_idx));
                let change = (value - last.copied().unwrap_or(0.0)).abs();
                let is_in_rate = change <= rate * elapsed.min(2 * PERIOD).as_secs_f64() + 1e-12;
                value.is_finite() && (minimum..=maximum).contains(&value) && is_in_rate
            })
    }
}

impl Actuator for Judge {
    fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        let (at, verdict) = (Instant::now(), command.verdict());
        let is_held = verdict.held.is_some();
        let is_free = !is_held && verdict.num_clamped == 0;
        let (is_at_rest, is_safe) = (self.is_at_rest(command), self.is_safe(command));
        let sent = Sent { at, is_free, is_held, is_at_rest, is_safe };
        self.last = Some(command.clone());
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        Ok(())
    }
}
