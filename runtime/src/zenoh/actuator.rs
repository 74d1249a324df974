//! The loop's side: commands out.

use ::zenoh::Wait;
use ::zenoh::pubsub::Publisher;
use foresee_firmware_config::{DeviceProfile, Pace};

use super::link::{ZenohLink, transport};
use crate::ends::Actuator;
use crate::error::RuntimeError;
use crate::safety::SafeCommand;
use crate::wire;

/// Commands to a robot, over zenoh.
pub struct ZenohActuator {
    publisher: Publisher<'static>,
    number: u64,
    joint_names: Vec<String>,
    bytes: Vec<u8>,
}

impl ZenohActuator {
    /// Declares the command key.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn new(link: &ZenohLink, profile: &DeviceProfile) -> Result<Self, RuntimeError> {
        let joint_names = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        // In lockstep a lost command would be waited for; at a fixed pace the next one is on its way.
        let publisher = match profile.pace {
            Pace::Lockstep { .. } => link.publisher("joint_command")?,
            Pace::Fixed { .. } => link.prompt_publisher("joint_command")?,
        };
        Ok(Self { publisher, number: link.number(), joint_names, bytes: Vec::new() })
    }
}

impl Actuator for ZenohActuator {
    fn send(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        wire::encode_command(&self.joint_names, command.stamp(), command.values(), &mut self.bytes);
        let mut attachment = [0; 16];
        let [answered, number] = [sequence, self.number].map(u64::to_le_bytes);
        attachment.iter_mut().zip(answered.iter().chain(&number)).for_each(|(to, from)| *to = *from);
        let put = self.publisher.put(self.bytes.as_slice()).attachment(attachment);
        put.wait().map_err(transport)
    }
}
