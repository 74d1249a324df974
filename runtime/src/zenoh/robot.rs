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

/// What a robot at a fixed rate obeys: the answer to a frame that it sent lately, and never an older one than before. What waited in a
/// socket while the connection was away is not played when it is back.
#[derive(Clone, Copy, Debug)]
pub struct CommandGate {
    /// Frames that may have been sent since the one that a command answers.
    max_frames: u64,
    next_sequence: u64,
    last_obeyed: Option<u64>,
    num_refused: u64,
}

impl CommandGate {
    /// Obeys answers to the last `max_frames` frames.
    pub fn new(max_frames: u64) -> Self {
        Self { max_frames, next_sequence: 0, last_obeyed: None, num_refused: 0 }
    }

    /// A frame is sent.
    pub fn sent(&mut self, sequence: u64) {
        self.next_sequence = sequence + 1;
    }

    /// Whether a command that answers this frame is obeyed; a command that answers none is not.
    pub fn admits(&mut self, sequence: Option<u64>) -> bool {
        let is_good = sequence.is_some_and(|sequence| {
            let is_known = sequence < self.next_sequence && self.next_sequence - sequence <= self.max_frames;
            // The watchdog's commands answer the same frame again.
            is_known && self.last_obeyed.is_none_or(|last| sequence >= last)
        });
        if is_good {
            self.last_obeyed = sequence;
        } else {
            self.num_refused += 1;
        }
        is_good
    }

    /// Commands refused so far.
    pub fn num_refused(&self) -> u64 {
        self.num_refused
    }
}

/// How a publisher of this robot is declared.
type Declare = fn(&ZenohLink, &str) -> Result<Publisher<'static>, RuntimeError>;

/// Commands that wait for the robot.
const NUM_WAITING: usize = 16;
/// A loop that has not commanded for this long may be followed by another.
const TAKEOVER: Duration = Duration::from_secs(1);

/// The loop that is obeyed.
struct Master {
    number: u64,
    last: Instant,
    /// Tells every loop.
    _token: LivelinessToken,
}

/// A robot over zenoh: publishes observations, obeys commands of one loop.
pub struct ZenohRobot {
    link: ZenohLink,
    master: Option<Master>,
    num_foreign: u64,
    declare: Declare,
    images: Publisher<'static>,
    /// Of the cameras beside the first.
    extra_images: Vec<Publisher<'static>>,
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
        Self::publishing(link, joint_names, ZenohLink::publisher)
    }

    /// As [`ZenohRobot::new`], for a robot at a fixed rate: what the network does not take is dropped, so that a network that is
    /// gone never keeps the robot from looking after its joints.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn at_fixed_rate(link: &ZenohLink, joint_names: Vec<String>) -> Result<Self, RuntimeError> {
        Self::publishing(link, joint_names, ZenohLink::prompt_publisher)
    }

    fn publishing(link: &ZenohLink, joint_names: Vec<String>, declare: Declare) -> Result<Self, RuntimeError> {
        let (mailbox, arrivals) = Mailbox::new(NUM_WAITING);
        let subscribers = vec![
            link.subscriber("joint_command", &mailbox, Arrival::Command)?,
            link.watch("loop", &mailbox, |is_here| Arrival::Loop { is_here })?,
        ];
        Ok(Self {
            link: link.clone(),
            master: None,
            num_foreign: 0,
            images: declare(link, "camera/image")?,
            extra_images: Vec::new(),
            joint_states: declare(link, "joint_states")?,
            episodes: declare(link, "episode")?,
            declare,
            arrivals,
            joint_names,
            is_loop_here: false,
            command: NamedCommand::default(),
            bytes: Vec::new(),
            _subscribers: subscribers,
            _token: link.appear("robot")?,
        })
    }

    /// Publishes the images of cameras of these names, too: [`Observation::extra`] in this order.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn with_cameras(mut self, link: &ZenohLink, names: &[String]) -> Result<Self, RuntimeError> {
        let publisher = |name: &String| (self.declare)(link, &wire::extra_image(name));
        self.extra_images = names.iter().map(publisher).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// Waits until a loop is here and hears images, joint states and episodes; gives whether one is.
    pub fn wait_for_loop(&mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while !self.is_loop_here {
            match self.arrivals.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Arrival::Loop { is_here }) => self.take_loop(is_here),
                // A command that nobody waits for answers nothing.
                Ok(Arrival::Command(_)) => {}
                Err(_) => break,
            }
        }
        // Through a router the loop can be known before what it subscribes to is.
        while self.is_loop_here && !self.is_heard() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.is_loop_here && self.is_heard()
    }

    fn is_heard(&self) -> bool {
        let mut publishers = [&self.images, &self.joint_states, &self.episodes].into_iter().chain(&self.extra_images);
        publishers.all(|publisher| publisher.matching_status().wait().is_ok_and(|status| status.matching()))
    }

    /// Publishes the images of the cameras beside the first, joint state, then image, of one observation. The joint state is in the order of this robot's joint names.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn publish(&mut self, observation: &Observation) -> Result<(), RuntimeError> {
        for (publisher, frame) in self.extra_images.iter().zip(&observation.extra) {
            wire::encode_image(frame, &mut self.bytes);
            let image = std::mem::take(&mut self.bytes);
            publisher.put(image).attachment(frame.sequence.to_le_bytes()).wait().map_err(transport)?;
        }
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
                Ok(Arrival::Command(message)) if message.sequence == Some(sequence) && self.obeys(&message)? => {
                    self.read_command(&message, values)?;
                    return Ok(CommandWait::Answered);
                }
                Ok(Arrival::Command(_)) => {}
                Ok(Arrival::Loop { is_here }) => {
                    self.take_loop(is_here);
                    if !is_here {
                        return Ok(CommandWait::LoopLeft);
                    }
                }
                Err(RecvTimeoutError::Timeout) => return Ok(CommandWait::TimedOut),
                Err(RecvTimeoutError::Disconnected) => return Ok(CommandWait::LoopLeft),
            }
        }
    }

    /// The newest command that came and is not older than one before it or than the gate allows; writes it in the order of this
    /// robot's joint names. For a robot at a fixed rate. `None`: none came that may be obeyed.
    ///
    /// # Errors
    /// As [`ZenohRobot::wait_command`].
    pub fn newest_command(&mut self, gate: &mut CommandGate, values: &mut [f64]) -> Result<Option<u64>, RuntimeError> {
        let mut newest = None;
        while let Ok(arrival) = self.arrivals.try_recv() {
            match arrival {
                Arrival::Command(message) if self.obeys(&message)? && gate.admits(message.sequence) => {
                    newest = Some(message);
                }
                Arrival::Command(_) => {}
                Arrival::Loop { is_here } => self.take_loop(is_here),
            }
        }
        let Some(message) = newest else { return Ok(None) };
        self.read_command(&message, values)?;
        Ok(message.sequence)
    }

    /// Commands of another loop than the one that is obeyed, so far: none of them was.
    pub fn num_foreign(&self) -> u64 {
        self.num_foreign
    }

    fn take_loop(&mut self, is_here: bool) {
        self.is_loop_here = is_here;
        if !is_here {
            self.master = None;
        }
    }

    /// Whether a command comes from the loop that is obeyed; the first that commands is, until it is gone or silent.
    fn obeys(&mut self, message: &Message) -> Result<bool, RuntimeError> {
        // Who does not say is alone.
        let Some(number) = message.number else { return Ok(true) };
        match &mut self.master {
            Some(master) if master.number == number => {
                master.last = Instant::now();
                Ok(true)
            }
            Some(master) if master.last.elapsed() < TAKEOVER => {
                self.num_foreign += 1;
                Ok(false)
            }
            _ => {
                let token = self.link.appear(&format!("obeys/{number}"))?;
                self.master = Some(Master { number, last: Instant::now(), _token: token });
                Ok(true)
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

#[cfg(test)]
mod tests {
    use super::CommandGate;

    #[test]
    fn only_answers_to_late_frames_are_obeyed_and_never_an_older_one() {
        let mut gate = CommandGate::new(5);
        assert!(!gate.admits(Some(0)), "nothing was sent yet");
        (0..=20).for_each(|sequence| gate.sent(sequence));
        for (sequence, expected) in [
            (Some(15), false),
            (Some(16), true),
            (Some(18), true),
            (Some(18), true),
            (Some(17), false),
            (Some(21), false),
            (None, false),
        ] {
            assert_eq!(gate.admits(sequence), expected, "{sequence:?}");
        }
        assert_eq!(gate.num_refused(), 5);
    }
}
