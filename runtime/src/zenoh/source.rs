//! The loop's side: observations in, commands out.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::zenoh::Wait;
use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::{Publisher, Subscriber};
use foresee_firmware_config::{DeviceProfile, Pace};

use super::link::{Mailbox, Message, ZenohLink, transport};
use crate::ends::{Actuator, FrameSource, Observation, SourceEvent, extra_frames};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::safety::SafeCommand;
use crate::wire::{self, EpisodePhase, NamedJoints, extra_image};

/// How long a robot may obey another loop before this one gives up.
const PATIENCE_WITH_ANOTHER: Duration = Duration::from_secs(2);

#[derive(Debug)]
enum Arrival {
    Image(Message),
    /// Of a camera beside the first.
    ExtraImage(usize, Message),
    Joints(Message),
    Episode(Message),
    Robot {
        is_here: bool,
    },
    /// Whom the robot obeys.
    Obeys {
        number: u64,
        is_so: bool,
    },
}

/// Observations of a robot, over zenoh. In lockstep every frame is taken in order; at a fixed rate the latest wins and the ones it overtook count as dropped.
pub struct ZenohSource {
    arrivals: Receiver<Arrival>,
    mailbox: Mailbox<Arrival>,
    joint_names: Vec<String>,
    /// Names and latest frames of the cameras beside the first.
    extra: Vec<(String, Frame)>,
    is_lockstep: bool,
    joints: NamedJoints,
    last_sequence: Option<u64>,
    arrived: Option<Instant>,
    num_dropped: u64,
    /// This loop's number among the robot's.
    number: u64,
    robot: String,
    /// Since when the robot has obeyed another loop.
    obeys_another: Option<(u64, Instant)>,
    kept: Option<Arrival>,
    _subscribers: Vec<Subscriber<()>>,
    _token: LivelinessToken,
}

impl ZenohSource {
    /// Subscribes to the robot's keys, then tells the robot that the loop is here.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn new(link: &ZenohLink, profile: &DeviceProfile) -> Result<Self, RuntimeError> {
        let (mailbox, arrivals) = Mailbox::new();
        let mut subscribers = vec![
            link.subscriber("camera/image", &mailbox, Arrival::Image)?,
            link.subscriber("joint_states", &mailbox, Arrival::Joints)?,
            link.subscriber("episode", &mailbox, Arrival::Episode)?,
            link.watch("robot", &mailbox, |is_here| Arrival::Robot { is_here })?,
            link.watch_numbers("obeys", &mailbox, |number, is_so| Arrival::Obeys { number, is_so })?,
        ];
        let extra = extra_frames(profile);
        for (idx, (name, _)) in extra.iter().enumerate() {
            let arrival = move |message| Arrival::ExtraImage(idx, message);
            subscribers.push(link.subscriber(&extra_image(name), &mailbox, arrival)?);
        }
        // Last: whoever sees the token knows that the subscriptions stand.
        let token = link.appear("loop")?;
        Ok(Self {
            arrivals,
            mailbox,
            joint_names: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
            extra,
            is_lockstep: matches!(profile.pace, Pace::Lockstep { .. }),
            joints: NamedJoints::default(),
            last_sequence: None,
            arrived: None,
            num_dropped: 0,
            number: link.number(),
            robot: link.robot().to_owned(),
            obeys_another: None,
            kept: None,
            _subscribers: subscribers,
            _token: token,
        })
    }

    /// Hears what has arrived without waiting, for a loop whose frames come from its own camera; that camera's images are passed over.
    #[cfg(feature = "camera")]
    pub(super) fn hear(&mut self) -> Result<Option<SourceEvent>, RuntimeError> {
        while let Ok(arrival) = self.arrivals.try_recv() {
            match arrival {
                Arrival::Joints(message) => self.take_joints(&message)?,
                Arrival::Episode(message) => return self.episode(&message).map(Some),
                Arrival::ExtraImage(idx, message) => self.take_extra(idx, &message)?,
                Arrival::Obeys { number, is_so } => self.take_obeyed(number, is_so),
                Arrival::Image(_) | Arrival::Robot { .. } => {}
            }
        }
        self.must_be_obeyed()?;
        Ok(None)
    }

    /// The latest joint state in the profile's order; `false` when none has come.
    #[cfg(feature = "camera")]
    pub(super) fn latest_joints(&self, joints: &mut JointState) -> Result<bool, RuntimeError> {
        if self.joints.names.is_empty() {
            return Ok(false);
        }
        self.write_joints(joints).map(|()| true)
    }

    /// The latest of each camera beside the first.
    pub(super) fn latest_extra(&self, frames: &mut [Frame]) {
        frames.iter_mut().zip(&self.extra).for_each(|(frame, (_, latest))| frame.copy_from(latest));
    }

    fn take_extra(&mut self, idx: usize, message: &Message) -> Result<(), RuntimeError> {
        let Some((name, latest)) = self.extra.get_mut(idx) else { return Ok(()) };
        wire::decode_image(&message.payload.to_bytes(), latest).map_err(|problem| bad(&extra_image(name), problem))?;
        latest.sequence = message.sequence.unwrap_or(latest.sequence + 1);
        Ok(())
    }

    fn take_obeyed(&mut self, number: u64, is_so: bool) {
        if is_so && number != self.number {
            self.obeys_another = Some((number, Instant::now()));
        } else if is_so || self.obeys_another.is_some_and(|(other, _)| other == number) {
            self.obeys_another = None;
        }
    }

    /// Two loops do not share a robot. A robot needs a moment to see that the loop before this one is gone.
    fn must_be_obeyed(&self) -> Result<(), RuntimeError> {
        if self.obeys_another.is_none_or(|(_, since)| since.elapsed() < PATIENCE_WITH_ANOTHER) {
            return Ok(());
        }
        let robot = &self.robot;
        Err(RuntimeError::Transport(format!(
            "robot `{robot}` obeys another loop, and no command of this one; end the other first (foresee stop)"
        )))
    }

    /// Takes an image; gives whether it is a new one (a robot in lockstep repeats a frame that was not answered in time).
    /// Through a router an image may come before the first joint state: such a one is dropped and counted, and may come again.
    fn take_image(&mut self, message: &Message, observation: &mut Observation) -> Result<bool, RuntimeError> {
        if self.joints.names.is_empty() {
            self.num_dropped += 1;
            return Ok(false);
        }
        let next = self.last_sequence.map_or(0, |last| last + 1);
        let sequence = message.sequence.unwrap_or(next);
        if self.last_sequence.is_some() {
            if sequence < next {
                return Ok(false);
            }
            self.num_dropped += sequence - next;
        }
        self.last_sequence = Some(sequence);
        self.arrived = Some(message.arrived);
        wire::decode_image(&message.payload.to_bytes(), &mut observation.frame)
            .map_err(|problem| bad("camera/image", problem))?;
        observation.frame.sequence = sequence;
        if self.is_lockstep && self.joints.state.stamp != observation.frame.stamp {
            let stamps = (observation.frame.stamp.nanos, self.joints.state.stamp.nanos);
            let problem = format!(
                "frame of {} ns came with joints of {} ns; in lockstep they belong together",
                stamps.0, stamps.1
            );
            return Err(bad("joint_states", problem));
        }
        self.latest_extra(&mut observation.extra);
        self.write_joints(&mut observation.joints)?;
        Ok(true)
    }

    /// The latest joint state in the profile's order.
    fn write_joints(&self, joints: &mut JointState) -> Result<(), RuntimeError> {
        joints.stamp = self.joints.state.stamp;
        joints.positions.resize(self.joint_names.len(), 0.0);
        joints.velocities.resize(self.joint_names.len(), 0.0);
        let slots = joints.positions.iter_mut().zip(&mut joints.velocities);
        for (name, (position, velocity)) in self.joint_names.iter().zip(slots) {
            let idx = self.joints.names.iter().position(|known| known == name);
            let state = &self.joints.state;
            let found = idx.and_then(|idx| Some((state.positions.get(idx)?, state.velocities.get(idx)?)));
            let Some((found_position, found_velocity)) = found else {
                let known = self.joints.names.join(", ");
                return Err(bad("joint_states", format!("has no joint `{name}` of the profile; it has: {known}")));
            };
            (*position, *velocity) = (*found_position, *found_velocity);
        }
        Ok(())
    }

    fn episode(&mut self, message: &Message) -> Result<SourceEvent, RuntimeError> {
        let (_, phase, episode) =
            wire::decode_episode(&message.payload.to_bytes()).map_err(|problem| bad("episode", problem))?;
        Ok(match phase {
            EpisodePhase::Started => SourceEvent::EpisodeStarted(episode),
            EpisodePhase::Ended => SourceEvent::EpisodeEnded(episode),
            EpisodePhase::Finished => SourceEvent::Finished,
        })
    }

    /// At a fixed rate: whatever is newer than `message` and already here takes its place.
    fn latest(&mut self, mut message: Message) -> Result<Message, RuntimeError> {
        while let Ok(arrival) = self.arrivals.try_recv() {
            match arrival {
                // The one overtaken is a gap in the sequence, and counted there.
                Arrival::Image(newer) => message = newer,
                Arrival::Joints(joints) => self.take_joints(&joints)?,
                Arrival::ExtraImage(idx, image) => self.take_extra(idx, &image)?,
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        Ok(message)
    }

    fn take_joints(&mut self, message: &Message) -> Result<(), RuntimeError> {
        wire::decode_joints(&message.payload.to_bytes(), &mut self.joints)
            .map_err(|problem| bad("joint_states", problem))
    }
}

impl FrameSource for ZenohSource {
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let deadline = Instant::now() + timeout;
        self.must_be_obeyed()?;
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            let arrival = match self.kept.take().map_or_else(|| self.arrivals.recv_timeout(remaining), Ok) {
                Ok(arrival) => arrival,
                Err(RecvTimeoutError::Timeout) => return Ok(SourceEvent::TimedOut),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(RuntimeError::Transport("the session is closed".to_owned()));
                }
            };
            match arrival {
                Arrival::Image(message) => {
                    let message = if self.is_lockstep { message } else { self.latest(message)? };
                    if self.take_image(&message, observation)? {
                        return Ok(SourceEvent::Observed);
                    }
                }
                Arrival::Joints(message) => self.take_joints(&message)?,
                Arrival::ExtraImage(idx, message) => self.take_extra(idx, &message)?,
                Arrival::Episode(message) => return self.episode(&message),
                Arrival::Obeys { number, is_so } => self.take_obeyed(number, is_so),
                Arrival::Robot { is_here: true } => self.last_sequence = None,
                // At a fixed pace a robot may come back; until then frames are missing, and the joints are held.
                Arrival::Robot { is_here: false } if !self.is_lockstep => {}
                Arrival::Robot { is_here: false } => {
                    return Err(RuntimeError::Transport(
                        "the robot left before it said that it had finished".to_owned(),
                    ));
                }
            }
        }
    }

    fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    fn num_dropped(&self) -> u64 {
        self.num_dropped + self.mailbox.num_dropped()
    }
}

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

fn bad(topic: &str, problem: String) -> RuntimeError {
    RuntimeError::Message { topic: topic.to_owned(), problem }
}
