//! Recording a robot from the wire: its frames, joint states, commands and a teleoperator's commands into a log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::zenoh::pubsub::Subscriber;
use foresee_firmware_config::{DeviceProfile, PixelEncoding};

use super::link::{Mailbox, Message, ZenohLink};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::log::{CommandTopic, LogWriter};
use crate::wire::{self, NamedCommand, NamedJoints, extra_image};

/// Messages that may wait to be written.
const NUM_WAITING: usize = 128;
const POLL: Duration = Duration::from_millis(100);

/// What was recorded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Images of the first camera.
    pub num_frames: u64,
    /// Images of the other cameras.
    pub num_extra_frames: u64,
    /// Joint states.
    pub num_joint_states: u64,
    /// Messages of `joint_command`.
    pub num_commands: u64,
    /// Messages of `expert_command`.
    pub num_expert_commands: u64,
    /// Messages that cannot be read.
    pub num_unreadable: u64,
    /// Messages for which there was no room, because the disk is too slow.
    pub num_dropped: u64,
}

/// When a recording ends by itself.
#[derive(Clone, Copy, Debug)]
pub struct LiveLimits {
    /// After this time; `None`: not by time.
    pub duration: Option<Duration>,
    /// When the file is as large as this.
    pub max_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum Topic {
    Image,
    Extra(usize),
    Joints,
    Command(CommandTopic),
    Episode,
}

/// Writes what a robot and its teleoperator send into a log, until it is asked to stop.
pub struct LiveLog {
    arrivals: Receiver<(Topic, Message)>,
    mailbox: Mailbox<(Topic, Message)>,
    writer: LogWriter,
    counts: LiveCounts,
    /// The first problem with a message.
    problem: Option<String>,
    frame: Frame,
    joints: NamedJoints,
    command: NamedCommand,
    _subscribers: Vec<Subscriber<()>>,
}

impl LiveLog {
    /// Subscribes to the keys of the profile's robot; the writer's header names the profile's extra cameras.
    ///
    /// # Errors
    /// [`RuntimeError::Transport`].
    pub fn new(link: &ZenohLink, profile: &DeviceProfile, writer: LogWriter) -> Result<Self, RuntimeError> {
        let (mailbox, arrivals) = Mailbox::new(NUM_WAITING);
        let extra = profile.extra_cameras.iter().enumerate();
        let extra = extra.map(|(idx, extra)| (extra_image(&extra.camera.name), Topic::Extra(idx)));
        let own = [
            ("camera/image", Topic::Image),
            ("joint_states", Topic::Joints),
            ("joint_command", Topic::Command(CommandTopic::JointCommand)),
            ("expert_command", Topic::Command(CommandTopic::ExpertCommand)),
            ("episode", Topic::Episode),
        ];
        let topics = own.map(|(name, topic)| (name.to_owned(), topic)).into_iter().chain(extra);
        let subscribe =
            |(name, topic): (String, Topic)| link.subscriber(&name, &mailbox, move |message| (topic, message));
        let subscribers = topics.map(subscribe).collect::<Result<_, _>>()?;
        Ok(Self {
            arrivals,
            mailbox,
            writer,
            counts: LiveCounts::default(),
            problem: None,
            frame: Frame::black(1, 1, PixelEncoding::Rgb8),
            joints: NamedJoints::default(),
            command: NamedCommand::default(),
            _subscribers: subscribers,
        })
    }

    /// Records until `stop` or a limit, and closes the log. `observe` is called about ten times a second.
    ///
    /// # Errors
    /// [`RuntimeError::Log`] when the log cannot be written.
    pub fn run(
        mut self,
        limits: LiveLimits,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(&LiveCounts),
    ) -> Result<(LiveCounts, Option<String>), RuntimeError> {
        let (began, mut observed) = (Instant::now(), Instant::now());
        while !stop.load(Ordering::Relaxed)
            && limits.duration.is_none_or(|duration| began.elapsed() < duration)
            && self.writer.num_bytes() < limits.max_bytes
        {
            match self.arrivals.recv_timeout(POLL) {
                Ok((topic, message)) => self.write(topic, &message)?,
                Err(RecvTimeoutError::Timeout) => self.writer.flush()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if observed.elapsed() >= POLL {
                observed = Instant::now();
                self.counts.num_dropped = self.mailbox.num_dropped();
                observe(&self.counts);
            }
        }
        self.counts.num_dropped = self.mailbox.num_dropped();
        self.writer.finish()?;
        Ok((self.counts, self.problem))
    }

    fn write(&mut self, topic: Topic, message: &Message) -> Result<(), RuntimeError> {
        let bytes = message.payload.to_bytes();
        let Self { frame, joints, command, writer, counts, .. } = self;
        let read = match topic {
            Topic::Image | Topic::Extra(_) => wire::decode_image(&bytes, frame),
            Topic::Joints => wire::decode_joints(&bytes, joints),
            Topic::Command(_) => wire::decode_command(&bytes, command),
            Topic::Episode => wire::decode_episode(&bytes).map(|_| ()),
        };
        if let Err(problem) = read {
            counts.num_unreadable += 1;
            self.problem.get_or_insert(format!("{topic:?}: {problem}"));
            return Ok(());
        }
        match topic {
            Topic::Image => {
                frame.sequence = message.sequence.unwrap_or(counts.num_frames);
                counts.num_frames += 1;
                writer.write_frame(frame)
            }
            Topic::Extra(camera_idx) => {
                frame.sequence = message.sequence.unwrap_or(counts.num_extra_frames);
                counts.num_extra_frames += 1;
                writer.write_extra_frame(camera_idx, frame)
            }
            Topic::Joints => {
                counts.num_joint_states += 1;
                writer.write_joints(&joints.names, &joints.state)
            }
            Topic::Command(topic) => {
                match topic {
                    CommandTopic::JointCommand => counts.num_commands += 1,
                    CommandTopic::ExpertCommand => counts.num_expert_commands += 1,
                }
                writer.write_command(topic, &command.names, (command.stamp, &command.values))
            }
            Topic::Episode => match wire::decode_episode(&bytes) {
                Ok((stamp, phase, episode)) => writer.write_episode(stamp, phase, &episode),
                Err(_) => Ok(()),
            },
        }
    }
}

impl std::fmt::Debug for LiveLog {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LiveLog").field("counts", &self.counts).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::zenoh::Wait;
    use foresee_firmware_config::ZenohProfile;

    use super::*;
    use crate::joints::JointState;
    use crate::log::{LogEntry, LogHeader, LogReader};
    use crate::time::Stamp;
    use crate::zenoh::free_loopback_endpoint;

    #[test]
    fn what_a_robot_and_its_teleoperator_send_is_recorded_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.mcap");
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        let endpoint = free_loopback_endpoint().unwrap();
        let zenoh = |listen: bool| {
            let (here, none) = (vec![endpoint.clone()], Vec::new());
            let (listen, connect) = if listen { (here, none) } else { (none, here) };
            ZenohProfile { listen, connect, ..ZenohProfile::default() }
        };
        let robot = ZenohLink::open(&profile.robot, &zenoh(true)).unwrap();
        let names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        let publishers = ["camera/image", "joint_states", "expert_command"].map(|name| robot.publisher(name).unwrap());
        let link = ZenohLink::open(&profile.robot, &zenoh(false)).unwrap();
        let writer =
            LogWriter::create(&path, &LogHeader { robot: profile.robot.clone(), ..LogHeader::default() }).unwrap();
        let live = LiveLog::new(&link, &profile, writer).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (limits, stopper) = (LiveLimits { duration: None, max_bytes: u64::MAX }, Arc::clone(&stop));
        let recording = std::thread::spawn(move || {
            // Ends once everything has come.
            let mut observe = |counts: &LiveCounts| {
                let all =
                    [counts.num_frames, counts.num_joint_states, counts.num_expert_commands, counts.num_unreadable];
                stopper.store(all == [10, 10, 10, 1], Ordering::Relaxed);
            };
            live.run(limits, &stop, &mut observe).unwrap()
        });
        for publisher in &publishers {
            while !publisher.matching_status().wait().unwrap().matching() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let mut bytes = Vec::new();
        for number in 0..10 {
            let mut frame = Frame::black(4, 4, PixelEncoding::Rgb8);
            frame.stamp.nanos = 1_000_000_000 + number * 20_000_000;
            wire::encode_image(&frame, &mut bytes);
            publishers[0].put(bytes.clone()).wait().unwrap();
            // Measured before the image was taken: the log's own time goes on all the same.
            let stamp = Stamp { nanos: frame.stamp.nanos - 3_000_000 };
            let state = JointState { stamp, positions: vec![0.1; 2], velocities: vec![0.0; 2] };
            wire::encode_joints(&names, &state, &mut bytes);
            publishers[1].put(bytes.clone()).wait().unwrap();
            wire::encode_command(&names, frame.stamp, &[0.5, -0.5], &mut bytes);
            publishers[2].put(bytes.clone()).wait().unwrap();
        }
        publishers[1].put(vec![1, 2, 3]).wait().unwrap();
        let (counts, problem) = recording.join().unwrap();
        assert_eq!((counts.num_frames, counts.num_unreadable, counts.num_dropped), (10, 1, 0));
        assert!(problem.unwrap().contains("Joints"));
        let entries: Vec<LogEntry> = LogReader::open(&path).unwrap().collect::<Result<_, _>>().unwrap();
        let num_expert = entries
            .iter()
            .filter(|entry| matches!(entry, LogEntry::Command { topic: CommandTopic::ExpertCommand, .. }));
        assert_eq!((entries.len(), num_expert.count()), (30, 10));
    }
}
