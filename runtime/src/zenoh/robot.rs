//! The robot's side (a driver, or the simulator): observations out, commands in.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::zenoh::Wait;
use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::{Publisher, Subscriber};

use super::link::{Mailbox, Message, ZenohLink, transport};
use crate::ends::{Episode, Observation};
use crate::error::RuntimeError;
use crate::time::Stamp;
use crate::wire::{self, EpisodePhase, NamedCommand};

#[derive(Debug)]
enum Arrival {
    Command(Message),
    Loop { is_here: bool },
}

/// How waiting for a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandWait {
    /// The command was written into the lent buffer.
    Answered,
    /// Nothing came in time.
    TimedOut,
    /// The loop left.
    LoopLeft,
}

/// A robot over zenoh: publishes observations, obeys commands.
pub struct ZenohRobot {
    images: Publisher<'static>,
    joint_states: Publisher<'static>,
    episodes: Publisher<'static>,
    arrivals: Receiver<Arrival>,
    joint_names: Vec<String>,
    is_loop_here: bool,
    command: NamedCommand,
    bytes: Vec<u8>,
    _subscribers: Vec<Subscriber<()>>,
    _token: LivelinessToken,
}

impl ZenohRobot {
    /// Declares the robot's keys for joints of these names, then tells the loop that the robot is here.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn new(link: &ZenohLink, joint_names: Vec<String>) -> Result<Self, RuntimeError> {
        let (mailbox, arrivals) = Mailbox::new();
        let subscribers = vec![
            link.subscriber("joint_command", &mailbox, Arrival::Command)?,
            link.watch("loop", &mailbox, |is_here| Arrival::Loop { is_here })?,
        ];
        Ok(Self {
            images: link.publisher("camera/image")?,
            joint_states: link.publisher("joint_states")?,
            episodes: link.publisher("episode")?,
            arrivals,
            joint_names,
            is_loop_here: false,
            command: NamedCommand::default(),
            bytes: Vec::new(),
            _subscribers: subscribers,
            _token: link.appear("robot")?,
        })
    }

    /// Waits until a loop is here; gives whether one is.
    pub fn wait_for_loop(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_loop_here {
            match self.arrivals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Arrival::Loop { is_here }) => self.is_loop_here = is_here,
                // A command that nobody waits for answers nothing.
                Ok(Arrival::Command(_)) => {}
                Err(_) => break,
            }
        }
        self.is_loop_here
    }

    /// Publishes joint state, then image, of one observation. The joint state is in the order of this robot's joint names.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn publish(&mut self, observation: &Observation) -> Result<(), RuntimeError> {
        let sequence = observation.frame.sequence.to_le_bytes();
        wire::encode_joints(&self.joint_names, &observation.joints, &mut self.bytes);
        self.joint_states.put(self.bytes.as_slice()).attachment(sequence).wait().map_err(transport)?;
        wire::encode_image(&observation.frame, &mut self.bytes);
        // The message takes the buffer as it is: one copy of the pixels, into the message.
        let image = std::mem::take(&mut self.bytes);
        self.images.put(image).attachment(sequence).wait().map_err(transport)
    }

    /// Says that an episode began, ended, or that there are no more.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn announce(&mut self, stamp: Stamp, phase: EpisodePhase, episode: &Episode) -> Result<(), RuntimeError> {
        wire::encode_episode(stamp, phase, episode, &mut self.bytes);
        self.episodes.put(self.bytes.as_slice()).wait().map_err(transport)
    }

    /// Waits for the command that answers the observation `sequence`; writes it in the order of this robot's joint names.
    /// Commands that answer other observations are passed over.
    ///
    /// # Errors
    /// [`RuntimeError::Message`] when the command cannot be read or lacks a joint.
    pub fn wait_command(
        &mut self,
        sequence: u64,
        timeout: Duration,
        values: &mut [f64],
    ) -> Result<CommandWait, RuntimeError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.arrivals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Arrival::Command(message)) if message.sequence == Some(sequence) => {
                    self.read_command(&message, values)?;
                    return Ok(CommandWait::Answered);
                }
                Ok(Arrival::Command(_)) => {}
                Ok(Arrival::Loop { is_here }) => {
                    self.is_loop_here = is_here;
                    if !is_here {
                        return Ok(CommandWait::LoopLeft);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(CommandWait::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Ok(CommandWait::LoopLeft),
            }
        }
    }

    fn read_command(&mut self, message: &Message, values: &mut [f64]) -> Result<(), RuntimeError> {
        let bad = |problem| RuntimeError::Message { topic: "joint_command".to_owned(), problem };
        wire::decode_command(&message.payload.to_bytes(), &mut self.command).map_err(bad)?;
        for (name, value) in self.joint_names.iter().zip(values) {
            let idx = self.command.names.iter().position(|known| known == name);
            let Some(found) = idx.and_then(|idx| self.command.values.get(idx)) else {
                let known = self.command.names.join(", ");
                return Err(bad(format!("has no joint `{name}` of this robot; it has: {known}")));
            };
            *value = *found;
        }
        Ok(())
    }
}
