//! Writing a log.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcap::records::{MessageHeader, Metadata};

use super::sink::Sink;
use super::{CHUNK_BYTES, CommandTopic, HEADER_RECORD, LogHeader, Topic};
use crate::ends::Episode;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::joints::JointState;
use crate::time::Stamp;
use crate::wire::{self, EpisodePhase, MessageKind, extra_image};

/// What is not yet in the file is at most this old, while something is being written.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);
/// A message this much ahead of the log's time is stamped by another clock than the images.
const OTHER_CLOCK_NANOS: u64 = 60_000_000_000;
/// What the steps of a recording earned.
const REWARD_TOPIC: &str = "reward";
/// An image this much before the log's time is of a clock that was set back.
const CLOCK_RESET_NANOS: u64 = 1_000_000_000;

/// Writes an MCAP log (profile `ros2`, CDR, zstd chunks). After each flush, every megabyte or second, the file is a valid MCAP
/// file; [`LogWriter::finish`] adds the index. Dropping it finishes it too, without telling of failure.
pub struct LogWriter {
    path: PathBuf,
    /// `None` once finished, or after a failed write.
    mcap: Option<mcap::Writer<Sink>>,
    /// In the file.
    num_bytes: Arc<AtomicU64>,
    /// Channel ids in the order of [`Topic::ALL`], then of the header's cameras, then of rewards.
    channels: Vec<u16>,
    /// Messages so far, likewise.
    sequences: Vec<u32>,
    message: Vec<u8>,
    chunk_bytes: usize,
    flushed: Instant,
    timeline: Timeline,
}

impl LogWriter {
    /// Creates (or replaces) the file and writes the header.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when the file cannot be created, [`RuntimeError::Log`] when it cannot be written.
    pub fn create(path: &Path, header: &LogHeader) -> Result<Self, RuntimeError> {
        let file = File::create(path).map_err(|source| RuntimeError::File { path: path.to_path_buf(), source })?;
        let log = |problem: String| RuntimeError::Log { path: path.to_path_buf(), problem };
        let sink = Sink::new(file);
        let num_bytes = sink.count();
        let (mcap, channels) = begin(sink, header).map_err(|error| log(error.to_string()))?;
        let mut writer = Self {
            path: path.to_path_buf(),
            mcap: Some(mcap),
            num_bytes,
            sequences: vec![0; channels.len()],
            channels,
            message: Vec::new(),
            chunk_bytes: 0,
            flushed: Instant::now(),
            timeline: Timeline::default(),
        };
        let header = serde_json::to_value(header).map_err(|error| log(error.to_string()))?;
        writer.write_facts(HEADER_RECORD, &to_facts(&header))?;
        writer.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file, as of the last flush.
    pub fn num_bytes(&self) -> u64 {
        self.num_bytes.load(Ordering::Relaxed)
    }

    /// Writes an image; its sequence becomes the message's (low 32 bits).
    ///
    /// # Errors
    /// [`RuntimeError::Log`], here and below, when the file cannot be written; nothing more is written after that.
    pub fn write_frame(&mut self, frame: &Frame) -> Result<(), RuntimeError> {
        wire::encode_image(frame, &mut self.message);
        self.write(Topic::Image as usize, frame.stamp, Some(frame.sequence as u32))
    }

    /// Writes an image of the header's camera number `camera_idx`.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_extra_frame(&mut self, camera_idx: usize, frame: &Frame) -> Result<(), RuntimeError> {
        wire::encode_image(frame, &mut self.message);
        self.write(Topic::ALL.len() + camera_idx, frame.stamp, Some(frame.sequence as u32))
    }

    /// Writes joint states under these names.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_joints(&mut self, names: &[String], joints: &JointState) -> Result<(), RuntimeError> {
        wire::encode_joints(names, joints, &mut self.message);
        self.write(Topic::JointStates as usize, joints.stamp, None)
    }

    /// Writes joint commands under these names; `stamp` is that of the image that they answer.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_command(
        &mut self,
        topic: CommandTopic,
        names: &[String],
        (stamp, values): (Stamp, &[f64]),
    ) -> Result<(), RuntimeError> {
        wire::encode_command(names, stamp, values, &mut self.message);
        self.write(Topic::from(topic) as usize, stamp, None)
    }

    /// Writes that an episode begins or ends at `stamp`.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_episode(&mut self, stamp: Stamp, phase: EpisodePhase, episode: &Episode) -> Result<(), RuntimeError> {
        if phase == EpisodePhase::Started {
            self.timeline.continue_at(stamp);
        }
        wire::encode_episode(stamp, phase, episode, &mut self.message);
        self.write(Topic::Episode as usize, stamp, None)
    }

    /// Writes what the step earned that answers the image of this stamp.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_reward(&mut self, stamp: Stamp, reward: f64) -> Result<(), RuntimeError> {
        wire::encode_reward(stamp, reward, &mut self.message);
        self.write(self.channels.len().saturating_sub(1), stamp, None)
    }

    /// Writes named facts, as an MCAP metadata record.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn write_facts(&mut self, name: &str, facts: &BTreeMap<String, String>) -> Result<(), RuntimeError> {
        let metadata = Metadata { name: name.to_owned(), metadata: facts.clone() };
        self.with_mcap(|mcap| mcap.write_metadata(&metadata))
    }

    /// Puts everything so far into the file; it is then a valid MCAP file.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn flush(&mut self) -> Result<(), RuntimeError> {
        self.chunk_bytes = 0;
        self.flushed = Instant::now();
        self.with_mcap(mcap::Writer::flush)
    }

    /// Writes the index and closes the file.
    ///
    /// # Errors
    /// As [`LogWriter::write_frame`].
    pub fn finish(mut self) -> Result<(), RuntimeError> {
        self.finish_once()
    }

    fn finish_once(&mut self) -> Result<(), RuntimeError> {
        let Some(mut mcap) = self.mcap.take() else { return Ok(()) };
        let log = |problem: String| RuntimeError::Log { path: self.path.clone(), problem };
        mcap.finish().map_err(|error| log(error.to_string()))?;
        mcap.into_inner().close().map_err(|error| log(error.to_string()))
    }

    /// Writes what lies encoded in `message`.
    fn write(&mut self, channel_idx: usize, stamp: Stamp, sequence: Option<u32>) -> Result<(), RuntimeError> {
        let (Some(channel_id), Some(count)) =
            (self.channels.get(channel_idx).copied(), self.sequences.get_mut(channel_idx))
        else {
            return Ok(());
        };
        let log_time = match channel_idx == Topic::Image as usize {
            true => self.timeline.of_image(stamp),
            false => self.timeline.of_other(stamp),
        };
        let header =
            MessageHeader { channel_id, sequence: sequence.unwrap_or(*count), log_time, publish_time: stamp.nanos };
        *count = count.wrapping_add(1);
        let message = std::mem::take(&mut self.message);
        let written = self.with_mcap(|mcap| mcap.write_to_known_channel(&header, &message));
        self.chunk_bytes += message.len();
        self.message = message;
        written?;
        if self.chunk_bytes >= CHUNK_BYTES || self.flushed.elapsed() >= FLUSH_PERIOD {
            self.flush()?;
        }
        Ok(())
    }

    /// A failed write ends the log where it was last whole.
    fn with_mcap(
        &mut self,
        write: impl FnOnce(&mut mcap::Writer<Sink>) -> mcap::McapResult<()>,
    ) -> Result<(), RuntimeError> {
        let log = |problem: String| RuntimeError::Log { path: self.path.clone(), problem };
        let Some(mcap) = &mut self.mcap else {
            return Err(log("is closed after an earlier failure".to_owned()));
        };
        let written = write(mcap);
        written.map_err(|error| {
            // What it still holds never reaches the file: the sink writes on flush alone.
            self.mcap = None;
            log(format!("{error}; what was written before stays readable"))
        })
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        // A destructor has nobody to tell; `finish` tells.
        let _ = self.finish_once();
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Writes the file header and one channel a topic and camera, and one of rewards.
fn begin(sink: Sink, header: &LogHeader) -> mcap::McapResult<(mcap::Writer<Sink>, Vec<u16>)> {
    let options = mcap::WriteOptions::new()
        .profile("ros2")
        .library(concat!("foresee ", env!("CARGO_PKG_VERSION")))
        .compression(Some(mcap::Compression::Zstd))
        .compression_level(1)
        .compression_threads(0)
        .chunk_size(None)
        .disable_seeking(true);
    let mut mcap = options.create(sink)?;
    let topics = Topic::ALL.into_iter().map(|topic| (topic.name().to_owned(), topic.kind()));
    let cameras = header.cameras.iter().map(|name| (extra_image(name), MessageKind::Image));
    let reward = std::iter::once((REWARD_TOPIC.to_owned(), MessageKind::Reward));
    let mut channels = Vec::with_capacity(Topic::ALL.len() + header.cameras.len() + 1);
    for (topic, kind) in topics.chain(cameras).chain(reward) {
        let schema = mcap.add_schema(kind.type_name(), "ros2msg", kind.definition().as_bytes())?;
        channels.push(mcap.add_channel(schema, &format!("/{}/{topic}", header.robot), "cdr", &BTreeMap::new())?);
    }
    Ok((mcap, channels))
}

/// A JSON object as text by key: strings as they are, all else as JSON.
fn to_facts(value: &serde_json::Value) -> BTreeMap<String, String> {
    let object = value.as_object().into_iter().flatten();
    object.map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect()
}

/// A log's own time, which never turns back: messages lie in its order, within chunks and across them, as readers without an index
/// want them. The stamps of messages may turn back: joints are measured before or after an image, a simulation starts again.
#[derive(Debug, Default)]
struct Timeline {
    offset_nanos: u64,
    latest: u64,
}

impl Timeline {
    /// An episode begins at `stamp`: if that is in the past, it follows what was last written.
    fn continue_at(&mut self, stamp: Stamp) {
        if stamp.nanos.saturating_add(self.offset_nanos) < self.latest {
            self.offset_nanos = self.latest.saturating_sub(stamp.nanos).saturating_add(1);
        }
    }

    /// Of an image: the camera's clock is the log's.
    fn of_image(&mut self, stamp: Stamp) -> u64 {
        if stamp.nanos.saturating_add(self.offset_nanos).saturating_add(CLOCK_RESET_NANOS) < self.latest {
            // The clock was set back.
            self.continue_at(stamp);
        }
        self.latest = self.latest.max(stamp.nanos.saturating_add(self.offset_nanos));
        self.latest
    }

    /// Of another message. What lies far ahead is of another clock, and moves nothing.
    fn of_other(&mut self, stamp: Stamp) -> u64 {
        let log_time = stamp.nanos.saturating_add(self.offset_nanos);
        if self.latest == 0 || log_time <= self.latest.saturating_add(OTHER_CLOCK_NANOS) {
            self.latest = self.latest.max(log_time);
        }
        self.latest
    }
}
