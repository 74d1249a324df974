//! Reading a log, whole or cut.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use mcap::records::{Record, op};
use mcap::sans_io::{LinearReadEvent, LinearReader};

use super::scan::{self, are_lengths_honest};
use super::topics::{LogTopics, Resolved, Role};
use super::{CommandTopic, HEADER_RECORD, LogHeader, MODELS_RECORD, RECORDER_RECORD, Topic};
use crate::ends::Episode;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::time::Stamp;
use crate::wire::{self, EpisodePhase, NamedCommand, NamedJoints};

const NOT_CLOSED: &str = "it was not closed: its writer was killed, and what it had not yet flushed is missing";

/// One message of a log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEntry {
    /// What the first camera saw.
    Frame(Frame),
    /// What a camera beside it saw.
    ExtraFrame {
        /// The camera's name.
        camera: String,
        /// What it saw.
        frame: Frame,
    },
    /// Joint states, in the order of `names`.
    Joints {
        /// Joint names.
        names: Vec<String>,
        /// Their states.
        state: JointState,
    },
    /// Joint commands, in the order of `names`.
    Command {
        /// Executed, or the expert's word.
        topic: CommandTopic,
        /// Joint names.
        names: Vec<String>,
        /// The stamp of the image that it answers.
        stamp: Stamp,
        /// One value a joint, in the profile's units.
        values: Vec<f64>,
    },
    /// An episode begins or ends.
    Episode {
        /// Which of the two.
        phase: EpisodePhase,
        /// When, on the environment's clock.
        stamp: Stamp,
        /// The episode.
        episode: Episode,
    },
}

/// Reads a log from front to back; iterates over its entries in the order in which they were written. A log that was cut (by a
/// kill, or in copying) gives all its whole chunks, and then reports it in [`LogReader::truncation`]. Topics that are not ours are
/// passed over; those whose names could be ours are listed in [`LogReader::passed_over`].
pub struct LogReader {
    path: PathBuf,
    file: File,
    mcap: LinearReader,
    channels: Resolved,
    /// Our own logs bear a tail without checksum until they are closed.
    is_ours: bool,
    header: LogHeader,
    recorder: BTreeMap<String, String>,
    num_swaps: u64,
    first: Option<LogEntry>,
    truncation: Option<String>,
    /// The data section is over, or cannot be read further.
    done: bool,
}

impl LogReader {
    /// Opens a log with all topics of a robot, and reads its header.
    ///
    /// # Errors
    /// As [`LogReader::open_with`].
    pub fn open(path: &Path) -> Result<Self, RuntimeError> {
        Self::open_with(path, &LogTopics::all())
    }

    /// Opens a log, decides which of its topics are read, and reads its header.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when it cannot be opened, [`RuntimeError::Log`] when it is no log with topics of a robot, or when several
    /// topics could be meant.
    pub fn open_with(path: &Path, topics: &LogTopics) -> Result<Self, RuntimeError> {
        let log = |problem: String| RuntimeError::Log { path: path.to_path_buf(), problem };
        let scan = scan::scan(path)?;
        let robot = scan.header.get("robot").map(String::as_str).unwrap_or_default();
        let channels = topics.resolve(robot, &scan.channels).map_err(log)?;
        let file = File::open(path).map_err(|source| RuntimeError::File { path: path.to_path_buf(), source })?;
        let mut reader = Self {
            path: path.to_path_buf(),
            file,
            mcap: scan::records(),
            channels,
            is_ours: scan.is_ours,
            header: LogHeader::default(),
            recorder: BTreeMap::new(),
            num_swaps: 0,
            first: None,
            truncation: None,
            done: false,
        };
        reader.first = reader.next_entry().transpose()?;
        if reader.first.is_none() && reader.channels.roles.is_empty() {
            let none = || match scan.channels.len() {
                0 => "it holds no topic".to_owned(),
                num_topics => {
                    format!("none of its {num_topics} topics is a robot's, as camera/image or joint_states is")
                }
            };
            let why = reader.truncation.take().unwrap_or_else(none);
            return Err(log(format!("is no log of Foresee: {why}; give an .mcap file that `record` or `run` wrote")));
        }
        Ok(reader)
    }

    /// What the log was made with.
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// Why the log ends before its end, if it does; known once every entry was read.
    pub fn truncation(&self) -> Option<&str> {
        self.truncation.as_deref()
    }

    /// Observations that the recorder dropped, if the log was finished by one; known once every entry was read.
    pub fn num_dropped(&self) -> Option<u64> {
        self.recorder.get("num_dropped")?.parse().ok()
    }

    /// How often other models took over while the log was written, as far as it was read.
    pub fn num_swaps(&self) -> u64 {
        self.num_swaps
    }

    /// Topics that could be meant by their names, and are not read, with the reason; only those with messages. Known once every entry was
    /// read.
    pub fn passed_over(&self) -> Vec<String> {
        let seen = self.channels.passed_over.values().filter(|passed| passed.num_messages > 0);
        seen.map(|passed| {
            format!(
                "{} messages of topic `{}` are passed over: it {}",
                passed.num_messages, passed.topic, passed.reason
            )
        })
        .collect()
    }

    fn next_entry(&mut self) -> Option<Result<LogEntry, RuntimeError>> {
        while !self.done {
            match self.next_step() {
                Ok(None) => {}
                Ok(Some(entry)) => return Some(Ok(entry)),
                Err(Stop::Cut(why)) => {
                    self.done = true;
                    self.truncation = Some(why);
                }
                Err(Stop::End) => self.done = true,
                Err(Stop::Bad { topic, problem }) => {
                    return Some(Err(RuntimeError::Message {
                        topic: format!("{} {topic}", self.path.display()),
                        problem,
                    }));
                }
            }
        }
        None
    }

    /// One record, or a piece of file for it.
    fn next_step(&mut self) -> Result<Option<LogEntry>, Stop> {
        let event = match self.mcap.next_event() {
            None => return Err(Stop::Cut("it ends without an end of data".to_owned())),
            Some(event) => event.map_err(|error| Stop::Cut(error.to_string()))?,
        };
        let (opcode, data) = match event {
            LinearReadEvent::ReadRequest(num_bytes) => {
                scan::feed(&mut self.mcap, &mut self.file, num_bytes).map_err(|error| Stop::Cut(error.to_string()))?;
                return Ok(None);
            }
            LinearReadEvent::Record { opcode, data } => (opcode, data),
        };
        let is_ours = match opcode {
            op::METADATA => are_lengths_honest(data, 0, 1),
            op::MESSAGE | op::DATA_END => true,
            _ => return Ok(None),
        };
        if !is_ours {
            return Err(Stop::Cut("a record claims a text that is longer than itself".to_owned()));
        }
        match mcap::parse_record(opcode, data).map_err(|error| Stop::Cut(error.to_string()))? {
            Record::Metadata(metadata) => {
                match metadata.name.as_str() {
                    HEADER_RECORD => self.header = header_of(&metadata.metadata),
                    RECORDER_RECORD => self.recorder = metadata.metadata,
                    MODELS_RECORD => self.num_swaps += 1,
                    _ => {}
                }
                Ok(None)
            }
            Record::Message { header, data } => {
                if let Some(passed) = self.channels.passed_over.get_mut(&header.channel_id) {
                    passed.num_messages += 1;
                }
                let Some(role) = self.channels.roles.get(&header.channel_id) else { return Ok(None) };
                match role {
                    Role::Of(topic) => {
                        let decoded = decode(*topic, header.sequence, &data);
                        decoded.map(Some).map_err(|problem| Stop::Bad { topic: topic.name(), problem })
                    }
                    Role::Extra(camera) => {
                        let decoded = decode_frame(header.sequence, &data);
                        let entry = |frame| Some(LogEntry::ExtraFrame { camera: camera.clone(), frame });
                        decoded.map(entry).map_err(|problem| Stop::Bad { topic: "camera/<name>/image", problem })
                    }
                }
            }
            // A checksum of 0 is none, as most writers leave it; of our own logs it is the tail that stands until they are closed.
            Record::DataEnd(end) if end.data_section_crc == 0 && self.is_ours => Err(Stop::Cut(NOT_CLOSED.to_owned())),
            Record::DataEnd(_) => Err(Stop::End),
            _ => Ok(None),
        }
    }
}

impl Iterator for LogReader {
    type Item = Result<LogEntry, RuntimeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.first.take() {
            return Some(Ok(entry));
        }
        self.next_entry()
    }
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogReader").field("path", &self.path).finish_non_exhaustive()
    }
}

enum Stop {
    End,
    Cut(String),
    Bad { topic: &'static str, problem: String },
}

fn decode_frame(sequence: u32, data: &[u8]) -> Result<Frame, String> {
    let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
    wire::decode_image(data, &mut frame)?;
    frame.sequence = u64::from(sequence);
    Ok(frame)
}

fn decode(topic: Topic, sequence: u32, data: &[u8]) -> Result<LogEntry, String> {
    Ok(match topic {
        Topic::Image => LogEntry::Frame(decode_frame(sequence, data)?),
        Topic::JointStates => {
            let mut joints = NamedJoints::default();
            wire::decode_joints(data, &mut joints)?;
            LogEntry::Joints { names: joints.names, state: joints.state }
        }
        Topic::JointCommand | Topic::ExpertCommand => {
            let mut command = NamedCommand::default();
            wire::decode_command(data, &mut command)?;
            let topic =
                if topic == Topic::JointCommand { CommandTopic::JointCommand } else { CommandTopic::ExpertCommand };
            LogEntry::Command { topic, names: command.names, stamp: command.stamp, values: command.values }
        }
        Topic::Episode => {
            let (stamp, phase, episode) = wire::decode_episode(data)?;
            LogEntry::Episode { phase, stamp, episode }
        }
    })
}

/// The inverse of what the writer does; a header of a later version loses what this one does not know.
fn header_of(facts: &BTreeMap<String, String>) -> LogHeader {
    let text = |key: &str| facts.get(key).cloned().unwrap_or_default();
    fn json<T: serde::de::DeserializeOwned + Default>(text: &str) -> T {
        serde_json::from_str(text).unwrap_or_default()
    }
    LogHeader {
        robot: text("robot"),
        profile: text("profile"),
        joints: json(&text("joints")),
        cameras: json(&text("cameras")),
        encoder: json(&text("encoder")),
        policy: json(&text("policy")),
        git_revision: text("git_revision"),
        facts: json(&text("facts")),
    }
}
