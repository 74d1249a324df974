//! The filter as the loop and the watchdog share it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foresee_firmware_config::DeviceProfile;

use super::{SafetyFilter, SafetyState};
use crate::time::Stamp;

/// The one safety filter of a robot: the loop commands through it, and the watchdog stops through it. Locked for microseconds.
#[derive(Clone, Debug)]
pub struct SharedFilter(Arc<Mutex<SafetyFilter>>);

impl SharedFilter {
    /// The filter that a profile describes.
    pub(crate) fn of(profile: &DeviceProfile) -> Self {
        Self(Arc::new(Mutex::new(SafetyFilter::of(profile))))
    }

    /// What the joints are doing.
    pub fn state(&self) -> SafetyState {
        self.lock().state()
    }

    /// The joints that the safe action has not brought to rest yet.
    pub fn moving(&self) -> Vec<String> {
        self.lock().moving().map(str::to_owned).collect()
    }

    /// The stamp of the last joint state that came, whatever it is worth.
    pub fn joint_stamp(&self) -> Option<Stamp> {
        self.lock().joint_stamp()
    }

    /// The joints that stand outside their range, where they are and what the range is; for people.
    pub fn outside(&self) -> Vec<String> {
        self.lock().outside()
    }

    /// The time in which the safe action certainly ends, by the joints' limits, if nothing is in its way.
    pub(crate) fn longest_stop(&self) -> Duration {
        self.lock().longest_stop()
    }

    /// How long the joints are given to come to rest: twice what their limits need, and a second, since a busy machine runs threads late.
    pub fn stop_patience(&self) -> Duration {
        2 * self.longest_stop() + Duration::from_secs(1)
    }

    /// Says that the machine throttles, or that it does no more: until then what the joints do is [`SafetyState::Degraded`].
    pub fn throttle(&self, is_throttled: bool) {
        self.lock().throttle(is_throttled);
    }

    /// Ends a latched fault; a stop stays one.
    pub fn clear_fault(&self) {
        self.lock().clear();
    }

    /// A thread that panicked while it held the lock left values that are still whole.
    pub(crate) fn lock(&self) -> MutexGuard<'_, SafetyFilter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
