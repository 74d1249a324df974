//! The loop's side: observations in.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::zenoh::liveliness::LivelinessToken;
use ::zenoh::pubsub::Subscriber;
use foresee_firmware_config::{DeviceProfile, Pace};

use super::joints::JointReader;
use super::link::{Delivery, Letter, Mailbox, Message, ZenohLink};
use super::sequence::{Place, Sequence};
use crate::ends::{FrameSource, Observation, SourceEvent, extra_frames};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::wire::{self, EpisodePhase, extra_image};

/// How long a robot may obey another loop before this one gives up.
const PATIENCE_WITH_ANOTHER: Duration = Duration::from_secs(2);

/// What waits for the loop in lockstep, where the robot waits as well.
const NUM_WAITING: usize = 16;
/// Events that wait for the loop at a fixed pace, beside the latest of the rest: more than a robot has to say while a loop is busy.
const NUM_EVENTS_WAITING: usize = 1024;
/// A message that cannot be read, and a publisher that started again, are said this often.
const SAY_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug)]
enum Arrival {
    Image(Letter),
    /// Of a camera beside the first.
    ExtraImage(usize, Letter),
    Joints(Letter),
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

/// Observations of a robot, over zenoh. In lockstep every frame is taken in order. At a fixed rate the latest image and joint state win,
/// the images that they overtook count as dropped, and a message that cannot be read counts as none.
pub struct ZenohSource {
    arrivals: Receiver<Arrival>,
    mailbox: Mailbox<Arrival>,
    extra: Vec<ExtraCamera>,
    is_lockstep: bool,
    joints: JointReader,
    joint_sequence: Sequence,
    unreadable: Told,
    restarts: Told,
    tell: fn(&str),
    /// In lockstep.
    last_sequence: Option<u64>,
    /// At a fixed pace.
    sequence: Sequence,
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
        let is_lockstep = matches!(profile.pace, Pace::Lockstep { .. });
        let (delivery, capacity) = match is_lockstep {
            true => (Delivery::InOrder, NUM_WAITING),
            false => (Delivery::Latest, NUM_EVENTS_WAITING),
        };
        let (mailbox, arrivals) = Mailbox::new(capacity);
        let mut subscribers = vec![
            link.letters("camera/image", (&mailbox, delivery), Arrival::Image)?,
            link.letters("joint_states", (&mailbox, delivery), Arrival::Joints)?,
            link.subscriber("episode", &mailbox, Arrival::Episode)?,
            link.watch("robot", &mailbox, |is_here| Arrival::Robot { is_here })?,
            link.watch_numbers("obeys", &mailbox, |number, is_so| Arrival::Obeys { number, is_so })?,
        ];
        let extra = extra_frames(profile).into_iter();
        let extra: Vec<_> = extra
            .map(|(name, latest)| ExtraCamera { topic: extra_image(&name), latest, sequence: Sequence::default() })
            .collect();
        for (idx, ExtraCamera { topic, .. }) in extra.iter().enumerate() {
            let arrival = move |letter| Arrival::ExtraImage(idx, letter);
            subscribers.push(link.letters(topic, (&mailbox, delivery), arrival)?);
        }
        // Last: whoever sees the token knows that the subscriptions stand.
        let token = link.appear("loop")?;
        Ok(Self {
            arrivals,
            mailbox,
            extra,
            is_lockstep,
            joints: JointReader::new(profile),
            joint_sequence: Sequence::default(),
            unreadable: Told::default(),
            restarts: Told::default(),
            tell: |_| {},
            last_sequence: None,
            sequence: Sequence::default(),
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

    /// Says by `tell`, now and then, what could not be read, and whose publisher started again.
    #[must_use]
    pub fn telling(mut self, tell: fn(&str)) -> Self {
        self.tell = tell;
        self
    }

    /// Hears what has arrived without waiting, for a loop whose frames come from its own camera; that camera's images are passed over.
    #[cfg(feature = "camera")]
    pub(super) fn hear(&mut self) -> Result<Option<SourceEvent>, RuntimeError> {
        while let Ok(arrival) = self.arrivals.try_recv() {
            match arrival {
                Arrival::Joints(letter) => self.take_joints(letter)?,
                Arrival::Episode(message) => {
                    if let Some(event) = self.take_episode(&message)? {
                        return Ok(Some(event));
                    }
                }
                Arrival::ExtraImage(idx, letter) => self.take_extra(idx, letter)?,
                Arrival::Obeys { number, is_so } => self.take_obeyed(number, is_so),
                Arrival::Image(letter) => drop(letter.open()),
                Arrival::Robot { .. } => {}
            }
        }
        self.must_be_obeyed()?;
        Ok(None)
    }

    /// The latest joint state in the profile's order; `false` when none has come.
    pub(super) fn latest_joints(&self, joints: &mut JointState) -> bool {
        let Some(latest) = self.joints.latest() else { return false };
        joints.stamp = latest.stamp;
        joints.positions.clone_from(&latest.positions);
        joints.velocities.clone_from(&latest.velocities);
        true
    }

    /// The latest of each camera beside the first.
    pub(super) fn latest_extra(&self, frames: &mut [Frame]) {
        frames.iter_mut().zip(&self.extra).for_each(|(frame, extra)| frame.copy_from(&extra.latest));
    }

    fn take_extra(&mut self, idx: usize, letter: Letter) -> Result<(), RuntimeError> {
        let Some(message) = letter.open() else { return Ok(()) };
        let Some(ExtraCamera { topic, latest, sequence }) = self.extra.get_mut(idx) else { return Ok(()) };
        let place = sequence.next(message.sequence);
        let read = wire::decode_image(&message.payload.to_bytes(), latest).map_err(|problem| bad(topic, problem));
        if read.is_ok() {
            latest.sequence = place.sequence;
        }
        note_restart(&mut self.restarts, self.tell, topic, place);
        self.heed(read).map(drop)
    }

    /// What was read, or nothing when that was not to be: a driver that sends what is none does not end the loop. In lockstep the
    /// same would come again for ever.
    fn heed<T>(&mut self, read: Result<T, RuntimeError>) -> Result<Option<T>, RuntimeError> {
        match read {
            Err(error) if !self.is_lockstep => {
                self.unreadable.note(self.tell, |num| format!("{error}; it counts as none ({num} so far)"));
                Ok(None)
            }
            read => read.map(Some),
        }
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
        let Some(joints_stamp) = self.joints.latest().map(|joints| joints.stamp) else {
            self.num_dropped += 1;
            return Ok(false);
        };
        let Some(sequence) = self.place(message) else { return Ok(false) };
        let read = wire::decode_image(&message.payload.to_bytes(), &mut observation.frame);
        if self.heed(read.map_err(|problem| bad("camera/image", problem)))?.is_none() {
            self.num_dropped += 1;
            return Ok(false);
        }
        self.arrived = Some(message.arrived);
        observation.frame.sequence = sequence;
        if self.is_lockstep && joints_stamp != observation.frame.stamp {
            let stamps = (observation.frame.stamp.nanos, joints_stamp.nanos);
            let problem = format!(
                "frame of {} ns came with joints of {} ns; in lockstep they belong together",
                stamps.0, stamps.1
            );
            return Err(bad("joint_states", problem));
        }
        self.latest_extra(&mut observation.extra);
        Ok(self.latest_joints(&mut observation.joints))
    }

    /// The frame's sequence. In lockstep a robot repeats a frame that was not answered in time: `None`.
    fn place(&mut self, message: &Message) -> Option<u64> {
        if !self.is_lockstep {
            let place = self.sequence.next(message.sequence);
            self.num_dropped = self.num_dropped.saturating_add(place.num_missing);
            note_restart(&mut self.restarts, self.tell, "camera/image", place);
            return Some(place.sequence);
        }
        let next = self.last_sequence.map_or(0, |last| last.saturating_add(1));
        let sequence = message.sequence.unwrap_or(next);
        if self.last_sequence.is_some() {
            let num_missing = sequence.checked_sub(next)?;
            self.num_dropped = self.num_dropped.saturating_add(num_missing);
        }
        self.last_sequence = Some(sequence);
        Some(sequence)
    }

    fn take_episode(&mut self, message: &Message) -> Result<Option<SourceEvent>, RuntimeError> {
        let read = wire::decode_episode(&message.payload.to_bytes()).map_err(|problem| bad("episode", problem));
        let Some((_, phase, episode)) = self.heed(read)? else { return Ok(None) };
        Ok(Some(match phase {
            EpisodePhase::Started => SourceEvent::EpisodeStarted(episode),
            EpisodePhase::Ended => SourceEvent::EpisodeEnded(episode),
            EpisodePhase::Finished => SourceEvent::Finished,
        }))
    }

    /// Takes what came beside an image, up to the next event: the latest joints go with it.
    fn take_beside(&mut self) -> Result<(), RuntimeError> {
        while let Ok(arrival) = self.arrivals.try_recv() {
            match arrival {
                Arrival::Joints(letter) => self.take_joints(letter)?,
                Arrival::ExtraImage(idx, letter) => self.take_extra(idx, letter)?,
                other => {
                    self.kept = Some(other);
                    break;
                }
            }
        }
        Ok(())
    }

    fn take_joints(&mut self, letter: Letter) -> Result<(), RuntimeError> {
        let Some(message) = letter.open() else { return Ok(()) };
        note_restart(&mut self.restarts, self.tell, "joint_states", self.joint_sequence.next(message.sequence));
        let read = self.joints.read(&message).map_err(|problem| bad("joint_states", problem));
        self.heed(read).map(drop)
    }
}

/// A camera beside the first.
struct ExtraCamera {
    topic: String,
    latest: Frame,
    sequence: Sequence,
}

/// What is counted, and said now and then.
#[derive(Default)]
struct Told {
    num: u64,
    said: Option<Instant>,
}

impl Told {
    fn note(&mut self, tell: fn(&str), words: impl FnOnce(u64) -> String) {
        self.num += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tell(&words(self.num));
        }
    }
}

fn note_restart(restarts: &mut Told, tell: fn(&str), topic: &str, place: Place) {
    let Some(before) = place.restarted_after else { return };
    let now = place.sequence;
    restarts.note(tell, |num| {
        format!("{topic}: its sequence went back from {before} to {now}: the publisher started again, and is followed ({num} so far)")
    });
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
                Arrival::Image(letter) => {
                    if !self.is_lockstep {
                        self.take_beside()?;
                    }
                    let Some(message) = letter.open() else { continue };
                    if self.take_image(&message, observation)? {
                        return Ok(SourceEvent::Observed);
                    }
                }
                Arrival::Joints(letter) => self.take_joints(letter)?,
                Arrival::ExtraImage(idx, letter) => self.take_extra(idx, letter)?,
                Arrival::Episode(message) => {
                    if let Some(event) = self.take_episode(&message)? {
                        return Ok(event);
                    }
                }
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

    fn num_unreadable(&self) -> u64 {
        self.unreadable.num
    }

    fn num_restarts(&self) -> u64 {
        self.restarts.num
    }
}

fn bad(topic: &str, problem: String) -> RuntimeError {
    RuntimeError::Message { topic: topic.to_owned(), problem }
}
