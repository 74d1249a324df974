//! Recording beside the loop: a thread of its own, a fixed pool of buffers, and a count of what did not fit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use foresee_firmware_config::DeviceProfile;

use super::{CommandTopic, LogWriter, RECORDER_RECORD};
use crate::ends::{Episode, Observation};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::safety::SafeCommand;
use crate::time::Stamp;
use crate::wire::EpisodePhase;

/// Episode events have slots of their own, so that a flood of frames never costs one.
const NUM_EPISODE_SLOTS: usize = 16;
/// An idle recorder flushes after this.
const IDLE: Duration = Duration::from_secs(1);

/// How a recorder buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderOptions {
    /// Observations that may wait to be written; each has a preallocated frame.
    pub num_slots: usize,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self { num_slots: 64 }
    }
}

/// What a recorder did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecorderSummary {
    /// Observations written.
    pub num_written: u64,
    /// Observations and episode events that found no free slot or could not be written.
    pub num_dropped: u64,
}

/// Writes what the loop shows it into a log, from a thread of its own. Showing never blocks and never allocates: without a
/// free slot the observation is dropped and counted, and the count is written into the log at its end.
#[derive(Debug)]
pub struct Recorder {
    free_ticks: Receiver<Box<Slot>>,
    free_episodes: Receiver<Box<Slot>>,
    filled: Option<SyncSender<Box<Slot>>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<(), RuntimeError>>>,
}

#[derive(Debug, Default)]
struct Shared {
    num_written: AtomicU64,
    num_dropped: AtomicU64,
    failed: AtomicBool,
}

#[derive(Debug)]
enum Content {
    Tick,
    Episode(EpisodePhase),
}

/// What one event needs; every buffer has its final size from the start.
#[derive(Debug)]
struct Slot {
    content: Content,
    observation: Observation,
    stamp: Stamp,
    values: Vec<f64>,
    episode: Episode,
}

impl Recorder {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`RuntimeError::Log`] when no thread can be started.
    pub fn start(writer: LogWriter, profile: &DeviceProfile, options: RecorderOptions) -> Result<Self, RuntimeError> {
        let num_joints = profile.joints.len();
        // Room for a task's name: copying into it then allocates nothing.
        let episode = || Episode { task: String::with_capacity(256), ..Episode::default() };
        let slot = |observation| Slot {
            content: Content::Tick,
            observation,
            stamp: Stamp::default(),
            values: vec![0.0; num_joints],
            episode: episode(),
        };
        let num_slots = options.num_slots.max(1);
        let (filled, to_write) = sync_channel(num_slots + NUM_EPISODE_SLOTS);
        let (give_tick, free_ticks) = sync_channel(num_slots);
        let (give_episode, free_episodes) = sync_channel(NUM_EPISODE_SLOTS);
        for _ in 0..num_slots {
            let _ = give_tick.try_send(Box::new(slot(Observation::of(profile))));
        }
        for _ in 0..NUM_EPISODE_SLOTS {
            let _ = give_episode.try_send(Box::new(slot(Observation::blank(0, 0, num_joints))));
        }
        let shared = Arc::<Shared>::default();
        let path = writer.path().to_path_buf();
        let work = Work {
            writer,
            names: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
            give_tick,
            give_episode,
            shared: Arc::clone(&shared),
            begun: None,
            written: vec![None; profile.extra_cameras.len()],
        };
        let thread = std::thread::Builder::new()
            .name("foresee-recorder".to_owned())
            .spawn(move || work.run(&to_write))
            .map_err(|error| RuntimeError::Log { path, problem: format!("no thread for the recorder: {error}") })?;
        Ok(Self { free_ticks, free_episodes, filled: Some(filled), shared, thread: Some(thread) })
    }

    /// Records what a tick saw and did.
    pub fn observe(&self, observation: &Observation, command: &SafeCommand) {
        let Ok(mut slot) = self.free_ticks.try_recv() else { return self.drop_one() };
        slot.content = Content::Tick;
        // Field by field: a derived `clone_from` would allocate anew.
        let (from, to) = (observation, &mut slot.observation);
        to.frame.copy_from(&from.frame);
        to.extra.iter_mut().zip(&from.extra).for_each(|(to, from)| to.copy_from(from));
        to.joints.stamp = from.joints.stamp;
        to.joints.positions.clone_from(&from.joints.positions);
        to.joints.velocities.clone_from(&from.joints.velocities);
        slot.stamp = command.stamp();
        slot.values.clear();
        slot.values.extend_from_slice(command.values());
        self.hand_over(slot);
    }

    /// Records that an episode begins or ends. A beginning is written with the stamp of its first frame, which is yet to come.
    pub fn episode(&self, stamp: Stamp, phase: EpisodePhase, episode: &Episode) {
        let Ok(mut slot) = self.free_episodes.try_recv() else { return self.drop_one() };
        slot.content = Content::Episode(phase);
        slot.stamp = stamp;
        copy_episode(episode, &mut slot.episode);
        self.hand_over(slot);
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

    /// Writes what waits, the count of what was dropped, and the index.
    ///
    /// # Errors
    /// [`RuntimeError::Log`] when something could not be written.
    pub fn finish(mut self) -> Result<RecorderSummary, RuntimeError> {
        self.join()?;
        Ok(self.summary())
    }

    fn join(&mut self) -> Result<(), RuntimeError> {
        self.filled = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            // A panic in the recorder has told of itself; the log was closed by its destructor.
            Some(Err(_)) | None => Ok(()),
        }
    }

    fn hand_over(&self, slot: Box<Slot>) {
        if self.filled.as_ref().is_none_or(|filled| filled.try_send(slot).is_err()) {
            self.drop_one();
        }
    }

    fn drop_one(&self) {
        self.shared.num_dropped.fetch_add(1, Ordering::Relaxed);
    }
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

/// The thread's side.
struct Work {
    writer: LogWriter,
    names: Vec<String>,
    give_tick: SyncSender<Box<Slot>>,
    give_episode: SyncSender<Box<Slot>>,
    shared: Arc<Shared>,
    /// An episode that began, until its first frame comes.
    begun: Option<(Stamp, Episode)>,
    /// Stamp and sequence of the last frame of each camera beside the first: a slow one's is written once.
    written: Vec<Option<(Stamp, u64)>>,
}

impl Work {
    fn run(mut self, to_write: &Receiver<Box<Slot>>) -> Result<(), RuntimeError> {
        let mut failure = None;
        loop {
            let written = match to_write.recv_timeout(IDLE) {
                Ok(slot) => {
                    let written = if failure.is_none() { self.write(&slot) } else { Ok(()) };
                    self.count(failure.is_none() && written.is_ok(), &slot.content);
                    // The slot goes back; if the recorder is gone, nobody needs it.
                    let _ = match slot.content {
                        Content::Tick => self.give_tick.try_send(slot),
                        Content::Episode(_) => self.give_episode.try_send(slot),
                    };
                    written
                }
                Err(RecvTimeoutError::Timeout) if failure.is_none() => self.writer.flush(),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = written {
                self.shared.failed.store(true, Ordering::Relaxed);
                failure = Some(error);
            }
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.write_begun(None)?;
        let facts = [("num_written", &self.shared.num_written), ("num_dropped", &self.shared.num_dropped)]
            .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed).to_string()));
        self.writer.write_facts(RECORDER_RECORD, &BTreeMap::from(facts))?;
        self.writer.finish()
    }

    fn count(&self, written: bool, content: &Content) {
        match (written, content) {
            (true, Content::Tick) => self.shared.num_written.fetch_add(1, Ordering::Relaxed),
            (true, Content::Episode(_)) => 0,
            (false, _) => self.shared.num_dropped.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// Before the first camera's frame: whoever reads that has seen what the loop saw.
    fn write_extra(&mut self, frames: &[Frame]) -> Result<(), RuntimeError> {
        for (camera_idx, (frame, written)) in frames.iter().zip(&mut self.written).enumerate() {
            let now = Some((frame.stamp, frame.sequence));
            if *written != now {
                self.writer.write_extra_frame(camera_idx, frame)?;
                *written = now;
            }
        }
        Ok(())
    }

    fn write(&mut self, slot: &Slot) -> Result<(), RuntimeError> {
        match slot.content {
            Content::Tick => {
                self.write_begun(Some(slot.observation.frame.stamp))?;
                self.write_extra(&slot.observation.extra)?;
                self.writer.write_frame(&slot.observation.frame)?;
                self.writer.write_joints(&self.names, &slot.observation.joints)?;
                if slot.values.is_empty() {
                    // Nothing was sent.
                    return Ok(());
                }
                self.writer.write_command(CommandTopic::JointCommand, &self.names, (slot.stamp, &slot.values))
            }
            Content::Episode(EpisodePhase::Started) => {
                self.write_begun(None)?;
                self.begun = Some((slot.stamp, slot.episode.clone()));
                Ok(())
            }
            Content::Episode(phase) => {
                self.write_begun(None)?;
                self.writer.write_episode(slot.stamp, phase, &slot.episode)
            }
        }
    }

    /// Writes the episode that began, if one waits, at `stamp` or else at the one that it came with.
    fn write_begun(&mut self, stamp: Option<Stamp>) -> Result<(), RuntimeError> {
        match self.begun.take() {
            Some((came_with, episode)) => {
                self.writer.write_episode(stamp.unwrap_or(came_with), EpisodePhase::Started, &episode)
            }
            None => Ok(()),
        }
    }
}
