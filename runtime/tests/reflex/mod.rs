//! A small policy and what it sees, for the tests of the loop.

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{Action, Features, JointState, Observation, Policy, RuntimeError, Stamp};

/// Turns the mean of the pixels and the joint positions into torques; fails or misbehaves where it is told to.
pub(crate) struct Reflex {
    pub(crate) num_acts: u64,
    pub(crate) misbehave: fn(u64, &mut Action) -> Result<(), RuntimeError>,
}

impl Policy for Reflex {
    fn reset(&mut self) {}

    fn act(&mut self, features: &Features, joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let brightness: f32 = features.cls.iter().sum::<f32>() / features.cls.len() as f32;
        action.values.clear();
        action.values.extend(joints.positions.iter().map(|position| f64::from(brightness) - position));
        self.num_acts += 1;
        (self.misbehave)(self.num_acts - 1, action)
    }
}

pub(crate) fn profile() -> DeviceProfile {
    foresee_firmware_config::load("desktop-sim").unwrap()
}

pub(crate) fn observe(observation: &mut Observation, tick: u64) {
    let stamp = Stamp { nanos: tick * 20_000_000 };
    (observation.frame.stamp, observation.frame.sequence, observation.joints.stamp) = (stamp, tick, stamp);
    let bytes = observation.frame.data.iter_mut().enumerate();
    bytes.for_each(|(at, byte)| *byte = (at as u64 * 31 + tick * 17) as u8);
    observation.joints.positions.fill(tick as f64 / 100.0);
    for frame in &mut observation.extra {
        (frame.stamp, frame.sequence) = (stamp, tick);
        frame.data.fill(tick as u8);
    }
}

pub(crate) fn spoil(tick: u64, spoil: impl FnOnce()) -> Result<(), RuntimeError> {
    if tick == 5 {
        spoil();
    }
    Ok(())
}
