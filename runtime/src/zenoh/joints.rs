//! Joint states as they come: for the loop with its frames, and for the safe action at any moment.

use std::sync::{Mutex, PoisonError};

use foresee_firmware_config::DeviceProfile;

use super::link::{Hearing, Message, ZenohLink};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::safety::SharedFilter;
use crate::time::Clock;
use crate::wire::{NamedJoints, decode_joints};

/// Reads joint states into the profile's order; keeps its buffers.
pub(super) struct JointReader {
    names: Vec<String>,
    /// Lent to the decoder.
    named: NamedJoints,
    latest: Option<JointState>,
}

impl JointReader {
    pub(super) fn new(profile: &DeviceProfile) -> Self {
        let names = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        Self { names, named: NamedJoints::default(), latest: None }
    }

    /// The latest that could be read, in the profile's order.
    pub(super) fn latest(&self) -> Option<&JointState> {
        self.latest.as_ref()
    }

    /// Every joint of the profile, in its order, or what is wrong; then the last one stays.
    pub(super) fn read(&mut self, message: &Message) -> Result<(), String> {
        decode_joints(&message.payload.to_bytes(), &mut self.named)?;
        let NamedJoints { names, state } = &self.named;
        if let Some(missing) = self.names.iter().find(|name| !names.contains(name)) {
            return Err(format!("has no joint `{missing}` of the profile; it has: {}", names.join(", ")));
        }
        let joints = self.latest.get_or_insert_with(|| JointState::zeros(self.names.len()));
        joints.stamp = state.stamp;
        let slots = joints.positions.iter_mut().zip(&mut joints.velocities);
        for (wanted, (position, velocity)) in self.names.iter().zip(slots) {
            let states = names.iter().zip(state.positions.iter().zip(&state.velocities));
            let found = states.into_iter().find(|(name, _)| *name == wanted);
            found.into_iter().for_each(|(_, found)| (*position, *velocity) = (*found.0, *found.1));
        }
        Ok(())
    }
}

/// Shows a fixed pace's filter every joint state as it comes, for as long as what it gives lives: a safe action that works against
/// the joints' velocity sees it even while no frame comes, or the loop hangs. What cannot be read is the loop's to tell.
///
/// # Errors
/// [`RuntimeError::Transport`].
pub fn show_joints(link: &ZenohLink, profile: &DeviceProfile, filter: SharedFilter) -> Result<Hearing, RuntimeError> {
    let reader = Mutex::new(JointReader::new(profile));
    link.attend("joint_states", move |message| {
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Ok(()), Some(joints)) = (reader.read(message), reader.latest()) {
            filter.lock().see(joints, Clock::Wall.moment());
        }
    })
}
