//! Recording beside the loop: a thread of its own, a fixed pool of buffers, and a count of what did not fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use foresee_firmware_config::{DeviceProfile, PixelEncoding};

use super::recording::Work;
use super::{LogWriter, MODELS_RECORD};
use crate::ends::{Actuator, Episode, Observation};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::safety::SafeCommand;
use crate::swap::PairReport;
use crate::time::Stamp;
use crate::wire::EpisodePhase;

/// Episode events have slots of their own, so that a flood of frames never costs one.
const NUM_EPISODE_SLOTS: usize = 16;
/// Commands come more often than frames: a watchdog sends its own between two.
const COMMANDS_A_TICK: usize = 4;
/// Facts that may wait to be written.
const NUM_FACTS: usize = 8;
/// Frames wait in at most this much memory, though some always can.
const MAX_BUFFERED_BYTES: usize = 256 << 20;
const MIN_SLOTS: usize = 4;
/// A JPEG file has a byte a pixel at most, where it is not smaller than this: twice what a camera of high quality gives.
const SMALL_JPEG_BYTES: usize = 64 << 10;

/// How a recorder buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// Observations that may wait to be written; each has a preallocated frame. Fewer where the frames are large.
    pub num_slots: usize,
    /// The log ends when its file is as large as this.
    pub max_bytes: u64,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { num_slots: 64, max_bytes: u64::MAX }
    }
}

/// What a recorder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderSummary {
    /// Observations written.
    pub num_written: u64,
    /// Observations, commands and episode events that found no free slot or were not written.
    pub num_dropped: u64,
}

/// Writes what the loop shows it into a log, from a thread of its own. Showing never blocks and never allocates: without a
/// free slot the observation is dropped and counted, and the count is written into the log at its end.
#[derive(Debug)]
pub struct Recorder {
    free_observations: Receiver<Box<Observation>>,
    free_episodes: Receiver<Box<Told>>,
    /// What a buffer has room for, one a camera.
    frame_bytes: Vec<usize>,
    /// Until somebody takes it.
    tap: Option<CommandTap>,
    filled: SyncSender<Entry>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), RuntimeError>>>,
}

/// Records commands where they are sent, from whichever thread that is.
#[derive(Debug)]
pub struct CommandTap {
    free: Receiver<Box<Sent>>,
    filled: SyncSender<Entry>,
    shared: Arc<Shared>,
}

/// Records facts that come up while a log is written.
#[derive(Clone, Debug)]
pub struct FactTap(SyncSender<Entry>);

/// An actuator all of whose commands are recorded: the loop's, a watchdog's, and the last stop.
pub struct RecordedActuator {
    /// Where the commands go.
    pub actuator: Box<dyn Actuator + Send>,
    /// Where they are recorded.
    pub tap: CommandTap,
}

impl Actuator for RecordedActuator {
    fn send(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        self.actuator.send(sequence, command)?;
        self.tap.record(command);
        Ok(())
    }
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) num_written: AtomicU64,
    pub(super) num_dropped: AtomicU64,
    pub(super) failed: AtomicBool,
    pub(super) full: AtomicBool,
}

/// What goes to the thread; every buffer has its final size from the start.
#[derive(Debug)]
pub(super) enum Entry {
    Observed(Box<Observation>),
    Sent(Box<Sent>),
    Told(Box<Told>),
    Facts(String, BTreeMap<String, String>),
    /// Nothing more is to be written, whoever else may still hold the other end.
    End,
}

#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) stamp: Stamp,
    pub(super) values: Vec<f64>,
}

#[derive(Debug)]
pub(super) struct Told {
    pub(super) phase: EpisodePhase,
    pub(super) stamp: Stamp,
    pub(super) episode: Episode,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`RuntimeError::Log`] when no thread can be started.
    pub fn start(writer: LogWriter, profile: &DeviceProfile, options: RecorderOptions) -> Result<Self, RuntimeError> {
        let num_joints = profile.joints.len();
        let blank = Observation::of(profile);
        let frame_bytes: Vec<usize> = std::iter::once(&blank.frame).chain(&blank.extra).map(room).collect();
        let most_slots = MAX_BUFFERED_BYTES / frame_bytes.iter().sum::<usize>().max(1);
        let num_slots = options.num_slots.min(MIN_SLOTS.max(most_slots)).max(1);
        let num_commands = COMMANDS_A_TICK * num_slots;
        // Room for a task's name: copying into it then allocates nothing.
        let episode = || Episode { task: String::with_capacity(256), ..Episode::default() };
        let told = || Box::new(Told { phase: EpisodePhase::Started, stamp: Stamp::default(), episode: episode() });
        let sent = || Box::new(Sent { stamp: Stamp::default(), values: vec![0.0; num_joints] });
        let observation = || {
            // Cloned memory has no more room than what lies in it.
            let mut slot = Box::new(blank.clone());
            let frames = std::iter::once(&mut slot.frame).chain(&mut slot.extra);
            frames.zip(&frame_bytes).for_each(|(frame, bytes)| frame.data.reserve(bytes - frame.data.len()));
            slot
        };
        let (give_observation, free_observations) = pool(num_slots, observation);
        let (give_sent, free_commands) = pool(num_commands, sent);
        let (give_told, free_episodes) = pool(NUM_EPISODE_SLOTS, told);
        let (filled, to_write) = sync_channel(num_slots + num_commands + NUM_EPISODE_SLOTS + NUM_FACTS);
        let shared = Arc::<Shared>::default();
        let path = writer.path().to_path_buf();
        let work = Work {
            writer,
            names: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
            max_bytes: options.max_bytes,
            give_observation,
            give_sent,
            give_told,
            shared: Arc::clone(&shared),
            begun: None,
            sent: None,
            written: vec![None; profile.extra_cameras.len()],
        };
        let thread = std::thread::Builder::new()
            .name("foresee-recorder".to_owned())
            .spawn(move || work.run(&to_write))
            .map_err(|error| RuntimeError::Log { path, problem: format!("no thread for the recorder: {error}") })?;
        let tap = CommandTap { free: free_commands, filled: filled.clone(), shared: Arc::clone(&shared) };
        let (tap, thread) = (Some(tap), Some(thread));
        Ok(Self { free_observations, free_episodes, frame_bytes, tap, filled, shared, thread })
    }

    /// Records commands; whoever sends them takes it, once.
    pub fn take_command_tap(&mut self) -> Option<CommandTap> {
        self.tap.take()
    }

    /// Records facts; anybody may have one.
    pub fn fact_tap(&self) -> FactTap {
        FactTap(self.filled.clone())
    }

    /// Records what a tick saw; what it commanded is recorded by the [`CommandTap`]. A frame that is larger than what the profile's camera
    /// gives has no room, and is counted as dropped.
    pub fn observe(&self, observation: &Observation) {
        let mut frames = std::iter::once(&observation.frame).chain(&observation.extra).zip(&self.frame_bytes);
        if frames.any(|(frame, room)| frame.data.len() > *room) {
            return self.shared.drop_one();
        }
        let Ok(mut slot) = self.free_observations.try_recv() else { return self.shared.drop_one() };
        // Field by field: a derived `clone_from` would allocate anew.
        let (from, to) = (observation, slot.as_mut());
        to.frame.copy_from(&from.frame);
        to.extra.iter_mut().zip(&from.extra).for_each(|(to, from)| to.copy_from(from));
        to.joints.stamp = from.joints.stamp;
        to.joints.positions.clone_from(&from.joints.positions);
        to.joints.velocities.clone_from(&from.joints.velocities);
        self.shared.hand_over(&self.filled, Entry::Observed(slot));
    }

    /// Records that an episode begins or ends. A beginning is written with the stamp of its first frame, which is yet to come.
    pub fn episode(&self, stamp: Stamp, phase: EpisodePhase, episode: &Episode) {
        let Ok(mut slot) = self.free_episodes.try_recv() else { return self.shared.drop_one() };
        (slot.phase, slot.stamp) = (phase, stamp);
        copy_episode(episode, &mut slot.episode);
        self.shared.hand_over(&self.filled, Entry::Told(slot));
    }

    /// What it did so far.
    pub fn summary(&self) -> RecorderSummary {
        RecorderSummary {
            num_written: self.shared.num_written.load(Ordering::Relaxed),
            num_dropped: self.shared.num_dropped.load(Ordering::Relaxed),
        }
    }

    /// Whether writing has failed: the disk may be full. [`Recorder::finish`] says why.
    pub fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Whether the log has ended because it is as large as it may be.
    pub fn is_full(&self) -> bool {
        self.shared.full.load(Ordering::Relaxed)
    }

    /// Writes what waits, the count of what was dropped, and the index.
    ///
    /// # Errors
    /// [`RuntimeError::Log`] when something could not be written.
    pub fn finish(mut self) -> Result<RecorderSummary, RuntimeError> {
        self.join()?;
        Ok(self.summary())
    }

    fn join(&mut self) -> Result<(), RuntimeError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        // Waits until there is room; a thread that is gone has ended already.
        let _ = self.filled.send(Entry::End);
        // A panic in the recorder has told of itself; the log was closed by its destructor.
        thread.join().unwrap_or(Ok(()))
    }
}

impl CommandTap {
    /// Records a command that was sent, with its own stamp.
    pub fn record(&self, command: &SafeCommand) {
        if command.values().is_empty() {
            // Nothing was sent.
            return;
        }
        let Ok(mut slot) = self.free.try_recv() else { return self.shared.drop_one() };
        slot.stamp = command.stamp();
        slot.values.clear();
        slot.values.extend_from_slice(command.values());
        self.shared.hand_over(&self.filled, Entry::Sent(slot));
    }
}

impl FactTap {
    /// Writes that these models answer from now on.
    pub fn record_models(&self, models: &PairReport) {
        let fact = |(role, report)| Some((role, serde_json::to_string(&report).ok()?));
        self.record(MODELS_RECORD, models.by_role().into_iter().filter_map(fact).collect());
    }

    /// Writes an MCAP metadata record, if there is room for it.
    pub fn record(&self, name: &str, facts: BTreeMap<String, String>) {
        let _ = self.0.try_send(Entry::Facts(name.to_owned(), facts));
    }
}

impl Shared {
    fn hand_over(&self, filled: &SyncSender<Entry>, entry: Entry) {
        if filled.try_send(entry).is_err() {
            self.drop_one();
        }
    }

    pub(super) fn drop_one(&self) {
        self.num_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bytes that a frame of a camera may have.
fn room(blank: &Frame) -> usize {
    match blank.encoding {
        PixelEncoding::Jpeg => (blank.width as usize * blank.height as usize).max(SMALL_JPEG_BYTES),
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 | PixelEncoding::Yuyv | PixelEncoding::Nv12 => blank.num_bytes(),
    }
}

/// So many buffers, and the way back for them.
fn pool<T>(num_slots: usize, slot: impl Fn() -> Box<T>) -> (SyncSender<Box<T>>, Receiver<Box<T>>) {
    let (give, free) = sync_channel(num_slots);
    for _ in 0..num_slots {
        let _ = give.try_send(slot());
    }
    (give, free)
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A destructor has nobody to tell; `finish` tells.
        let _ = self.join();
    }
}

/// Keeps the name's buffer, as a derived `clone_from` would not.
fn copy_episode(from: &Episode, to: &mut Episode) {
    let mut task = std::mem::take(&mut to.task);
    task.clone_from(&from.task);
    let Episode { index, seed, task: _, episode_return, num_steps, success } = *from;
    *to = Episode { index, seed, task, episode_return, num_steps, success };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogHeader;

    #[test]
    fn large_jpeg_files_wait_in_no_more_memory_than_other_frames() {
        let folder = tempfile::tempdir().unwrap();
        let camera = "[camera]\nname = \"c\"\nwidth = 8000\nheight = 4000\nencoding = \"jpeg\"\n";
        let text = format!("inherit = \"desktop-sim\"\n{camera}");
        let profile = foresee_firmware_config::parse("mine", &text).unwrap();
        let writer = LogWriter::create(&folder.path().join("log.mcap"), &LogHeader::default()).unwrap();
        let recorder = Recorder::start(writer, &profile, RecorderOptions::default()).unwrap();
        let slots: Vec<_> = std::iter::from_fn(|| recorder.free_observations.try_recv().ok()).collect();
        let reserved: usize = slots.iter().map(|slot| slot.frame.data.capacity()).sum();
        assert!(slots.len() == 8 && reserved == MAX_BUFFERED_BYTES / 32_000_000 * 32_000_000, "{reserved}");
        drop(slots);
        recorder.finish().unwrap();
    }
}
