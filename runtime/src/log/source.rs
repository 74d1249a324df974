//! A log as the two ends of a loop: its observations come again, and the commands that answer them are kept for comparison.

use std::path::Path;
use std::time::Duration;

use foresee_firmware_config::DeviceProfile;

use super::{CommandTopic, LogEntry, LogHeader, LogReader, LogTopics};
use crate::ends::{Actuator, FrameSource, Observation, SourceEvent, extra_frames};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::safety::SafeCommand;
use crate::time::{Clock, Stamp};
use crate::wire::EpisodePhase;

/// A command as it was executed.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordedCommand {
    /// The stamp of the image that it answers; the time at which it was made when it answers none.
    pub stamp: Stamp,
    /// One value a joint, in the profile's order and units.
    pub values: Vec<f64>,
}

/// Plays a log as fast as it is asked. A frame comes with the joint state that stands right behind it, as our writers have it, whatever
/// the two stamps: a robot measures them at different times. Where none stands there, or the log's first joint state comes before its
/// first frame, it comes with the latest before it.
pub struct LogSource {
    reader: LogReader,
    path: String,
    joint_names: Vec<String>,
    /// Names and latest frames of the cameras beside the first.
    extra: Vec<(String, Frame)>,
    /// A frame whose joint states may still come.
    waiting: Option<Frame>,
    joints: JointState,
    /// Whether joint states stand before the frames that they go with; `None`: neither came yet.
    joints_lead: Option<bool>,
    /// What came while a frame had to be given first.
    kept: Option<LogEntry>,
    recorded: Vec<RecordedCommand>,
    /// How many commands were there when each episode began.
    episodes: Vec<usize>,
    last_sequence: Option<u64>,
    num_dropped: u64,
    clock: Clock,
}

impl LogSource {
    /// Opens a log for the cameras and joints of this profile.
    ///
    /// # Errors
    /// As [`LogReader::open_with`].
    pub fn open(path: &Path, profile: &DeviceProfile) -> Result<Self, RuntimeError> {
        Self::open_with(path, profile, &LogTopics::of_profile(profile))
    }

    /// Opens a log with these topics of it.
    ///
    /// # Errors
    /// As [`LogReader::open_with`].
    pub fn open_with(path: &Path, profile: &DeviceProfile, topics: &LogTopics) -> Result<Self, RuntimeError> {
        Ok(Self {
            reader: LogReader::open_with(path, topics)?,
            path: path.display().to_string(),
            joint_names: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
            extra: extra_frames(profile),
            waiting: None,
            joints: JointState::zeros(profile.joints.len()),
            joints_lead: None,
            kept: None,
            recorded: Vec::new(),
            episodes: Vec::new(),
            last_sequence: None,
            num_dropped: 0,
            clock: Clock::driven(),
        })
    }

    /// What the log was made with.
    pub fn header(&self) -> &LogHeader {
        self.reader.header()
    }

    /// A clock that stands at the stamp of the frame last given: for the loop that is to see them as fresh as they were.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The commands that were executed, of the part of the log that was played.
    pub fn recorded(&self) -> &[RecordedCommand] {
        &self.recorded
    }

    /// How many of them came before each episode that began.
    pub fn recorded_before_episodes(&self) -> &[usize] {
        &self.episodes
    }

    /// As [`LogReader::truncation`].
    pub fn truncation(&self) -> Option<&str> {
        self.reader.truncation()
    }

    /// As [`LogReader::passed_over`].
    pub fn passed_over(&self) -> Vec<String> {
        self.reader.passed_over()
    }

    /// As [`LogReader::num_dropped`].
    pub fn num_unrecorded(&self) -> Option<u64> {
        self.reader.num_dropped()
    }

    /// As [`LogReader::num_swaps`].
    pub fn num_swaps(&self) -> u64 {
        self.reader.num_swaps()
    }

    /// Takes an entry; says whether `waiting` is now to be given.
    fn take(&mut self, entry: LogEntry) -> Result<Taken, RuntimeError> {
        // Whatever is not the frame's own joint state ends the wait for that.
        let is_own_joints = self.waiting.is_some() && matches!(entry, LogEntry::Joints { .. });
        if self.waiting.is_some() && !is_own_joints {
            self.kept = Some(entry);
            return Ok(Taken::FrameIsReady);
        }
        match entry {
            LogEntry::Frame(frame) => {
                let is_ready = *self.joints_lead.get_or_insert(false);
                self.waiting = Some(frame);
                Ok(if is_ready { Taken::FrameIsReady } else { Taken::Nothing })
            }
            LogEntry::ExtraFrame { camera, frame } => {
                let known = self.extra.iter_mut().find(|(name, _)| *name == camera);
                known.into_iter().for_each(|(_, latest)| latest.copy_from(&frame));
                Ok(Taken::Nothing)
            }
            LogEntry::Joints { names, state } => {
                self.joints_lead.get_or_insert(true);
                self.take_joints(&names, &state)?;
                Ok(if is_own_joints { Taken::FrameIsReady } else { Taken::Nothing })
            }
            LogEntry::Command { topic: CommandTopic::JointCommand, names, stamp, values } => {
                let values = self.in_order(&names, &values)?;
                self.recorded.push(RecordedCommand { stamp, values });
                Ok(Taken::Nothing)
            }
            LogEntry::Command { topic: CommandTopic::ExpertCommand, .. } => Ok(Taken::Nothing),
            LogEntry::Episode { phase, episode, .. } => Ok(match phase {
                EpisodePhase::Started => {
                    self.episodes.push(self.recorded.len());
                    Taken::Event(SourceEvent::EpisodeStarted(episode))
                }
                EpisodePhase::Ended => Taken::Event(SourceEvent::EpisodeEnded(episode)),
                EpisodePhase::Finished => Taken::Event(SourceEvent::Finished),
            }),
        }
    }

    fn take_joints(&mut self, names: &[String], state: &JointState) -> Result<(), RuntimeError> {
        let (positions, velocities) =
            (self.in_order(names, &state.positions)?, self.in_order(names, &state.velocities)?);
        self.joints = JointState { stamp: state.stamp, positions, velocities };
        Ok(())
    }

    /// Values in the profile's order.
    fn in_order(&self, names: &[String], values: &[f64]) -> Result<Vec<f64>, RuntimeError> {
        let value_of = |wanted: &String| {
            let found = names.iter().zip(values).find(|(name, _)| *name == wanted).map(|(_, value)| *value);
            found.ok_or_else(|| RuntimeError::Message {
                topic: self.path.clone(),
                problem: format!("has no joint `{wanted}` of the profile; it has {}", names.join(", ")),
            })
        };
        self.joint_names.iter().map(value_of).collect()
    }

    fn give(&mut self, frame: Frame, observation: &mut Observation) -> SourceEvent {
        let expected = self.last_sequence.map_or(frame.sequence, |last| last + 1);
        self.num_dropped += frame.sequence.saturating_sub(expected);
        self.last_sequence = Some(frame.sequence);
        self.clock.advance(frame.stamp);
        observation.frame = frame;
        let latest = self.extra.iter().map(|(_, latest)| latest);
        observation.extra.iter_mut().zip(latest).for_each(|(to, from)| to.copy_from(from));
        observation.joints.clone_from(&self.joints);
        SourceEvent::Observed
    }
}

enum Taken {
    Nothing,
    FrameIsReady,
    Event(SourceEvent),
}

impl FrameSource for LogSource {
    fn next(&mut self, observation: &mut Observation, _timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        loop {
            let taken = match self.kept.take().map(Ok).or_else(|| self.reader.next()) {
                Some(entry) => self.take(entry?)?,
                None if self.waiting.is_some() => Taken::FrameIsReady,
                None => Taken::Event(SourceEvent::Finished),
            };
            match taken {
                Taken::Nothing => {}
                Taken::FrameIsReady => {
                    if let Some(frame) = self.waiting.take() {
                        return Ok(self.give(frame, observation));
                    }
                }
                Taken::Event(event) => return Ok(event),
            }
        }
    }

    fn num_dropped(&self) -> u64 {
        self.num_dropped
    }
}

/// An actuator that moves nothing and keeps every command.
#[derive(Clone, Debug, Default)]
pub struct CommandRecorder {
    /// In the order in which they were sent.
    pub commands: Vec<RecordedCommand>,
}

impl Actuator for CommandRecorder {
    fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        self.commands.push(RecordedCommand { stamp: command.stamp(), values: command.values().to_vec() });
        Ok(())
    }
}
