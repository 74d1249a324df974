//! The joints of a row: they go where they are commanded to, and every command is looked at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile};

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

/// Where the joints are, in radians.
#[derive(Clone, Debug)]
pub(super) struct Positions(Arc<Mutex<Vec<f64>>>);

impl Positions {
    /// Every joint at home, or where it may be.
    fn of(joints: &[JointProfile]) -> Self {
        let start = |joint: &JointProfile| match joint.position {
            Some(limits) => 0.5 * (limits.minimum_radians + limits.maximum_radians),
            None if joint.command == CommandKind::PositionRadians => start(joint),
            None => 0.0,
        };
        Self(Arc::new(Mutex::new(joints.iter().map(start).collect())))
    }

    /// Writes them into the buffer.
    pub(super) fn read(&self, positions: &mut Vec<f64>) {
        positions.clone_from(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn follow(&self, joints: &[JointProfile], command: &SafeCommand) {
        let mut positions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((joint, position), value) in joints.iter().zip(positions.iter_mut()).zip(command.values()) {
            if joint.command == CommandKind::PositionRadians {
                *position = *value;
            }
        }
    }
}

/// What a joint's command goes on from.
fn start(joint: &JointProfile) -> f64 {
    joint.home.unwrap_or(0.0_f64.max(joint.minimum).min(joint.maximum))
}

/// The joints: looks at every command.
pub(super) struct Judge {
    joints: Vec<JointProfile>,
    positions: Positions,
    last: Option<SafeCommand>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Judge {
    pub(super) fn new(profile: &DeviceProfile) -> (Self, Positions, Arc<Mutex<Vec<Sent>>>) {
        let (positions, sent) = (Positions::of(&profile.joints), Arc::<Mutex<Vec<Sent>>>::default());
        let judge =
            Self { joints: profile.joints.clone(), positions: positions.clone(), last: None, sent: Arc::clone(&sent) };
        (judge, positions, sent)
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
        command.values().len() == self.joints.len()
            && command.values().iter().zip(&self.joints).enumerate().all(|(joint_idx, (value, joint))| {
                let last = self.last.as_ref().and_then(|last| last.values().get(joint_idx).copied());
                let change = (value - last.unwrap_or_else(|| start(joint))).abs();
                let is_in_rate = change <= joint.max_rate_per_second * elapsed.min(2 * PERIOD).as_secs_f64() + 1e-12;
                let is_in_range = joint.continuous || (joint.minimum..=joint.maximum).contains(value);
                value.is_finite() && is_in_range && is_in_rate
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
        self.positions.follow(&self.joints, command);
        self.last = Some(command.clone());
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        Ok(())
    }
}
