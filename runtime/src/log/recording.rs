//! The recorder's thread: takes what the loop and its ends leave, and writes it in the order in which a reader wants it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use super::recorder::{Entry, Sent, Shared, Told};
use super::{CommandTopic, LogWriter, RECORDER_RECORD};
use crate::ends::{Episode, Observation};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::time::Stamp;
use crate::wire::EpisodePhase;

/// An idle recorder flushes after this.
const IDLE: Duration = Duration::from_secs(1);

/// The thread's side.
pub(super) struct Work {
    pub(super) writer: LogWriter,
    pub(super) names: Vec<String>,
    pub(super) max_bytes: u64,
    pub(super) give_observation: SyncSender<Box<Observation>>,
    pub(super) give_sent: SyncSender<Box<Sent>>,
    pub(super) give_told: SyncSender<Box<Told>>,
    pub(super) shared: Arc<Shared>,
    /// An episode that began, until its first frame comes.
    pub(super) begun: Option<(Stamp, Episode)>,
    /// A command, until the frame that it answers comes, or something else.
    pub(super) sent: Option<Box<Sent>>,
    /// Stamp and sequence of the last frame of each camera beside the first: a slow one's is written once.
    pub(super) written: Vec<Option<(Stamp, u64)>>,
}

impl Work {
    pub(super) fn run(mut self, to_write: &Receiver<Entry>) -> Result<(), RuntimeError> {
        while self.writer.num_bytes() < self.max_bytes {
            let done = match to_write.recv_timeout(IDLE) {
                Ok(Entry::End) | Err(RecvTimeoutError::Disconnected) => return self.finish(),
                Ok(entry) => self.take(entry),
                Err(RecvTimeoutError::Timeout) => self.write_sent().and_then(|()| self.writer.flush()),
            };
            if let Err(error) = done {
                self.shared.failed.store(true, Ordering::Relaxed);
                self.let_go(to_write);
                return Err(error);
            }
        }
        self.shared.full.store(true, Ordering::Relaxed);
        self.let_go(to_write);
        self.finish()
    }

    /// The log has ended: what comes is counted, and its buffers go back.
    fn let_go(&self, to_write: &Receiver<Entry>) {
        for entry in to_write {
            if let Entry::End = entry {
                return;
            }
            self.shared.drop_one();
            self.give_back(entry);
        }
    }

    fn finish(mut self) -> Result<(), RuntimeError> {
        self.write_begun(None)?;
        self.write_sent()?;
        let facts = [("num_written", &self.shared.num_written), ("num_dropped", &self.shared.num_dropped)]
            .map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed).to_string()));
        self.writer.write_facts(RECORDER_RECORD, &BTreeMap::from(facts))?;
        self.writer.finish()
    }

    fn take(&mut self, entry: Entry) -> Result<(), RuntimeError> {
        let written = match &entry {
            Entry::Observed(observation) => self.write_observation(observation),
            Entry::Told(told) => self.write_told(told),
            Entry::Facts(name, facts) => self.writer.write_facts(name, facts),
            Entry::Sent(_) => self.write_sent(),
            Entry::End => Ok(()),
        };
        match (&written, entry) {
            (Ok(()), Entry::Sent(sent)) => self.sent = Some(sent),
            (Ok(()), entry) => {
                let is_observation = matches!(entry, Entry::Observed(_));
                self.shared.num_written.fetch_add(u64::from(is_observation), Ordering::Relaxed);
                self.give_back(entry);
            }
            (Err(_), _) => self.shared.drop_one(),
        }
        written
    }

    /// A buffer goes back; if the recorder is gone, nobody needs it.
    fn give_back(&self, entry: Entry) {
        let _ = match entry {
            Entry::Observed(slot) => self.give_observation.try_send(slot).is_ok(),
            Entry::Sent(slot) => self.give_sent.try_send(slot).is_ok(),
            Entry::Told(slot) => self.give_told.try_send(slot).is_ok(),
            Entry::Facts(..) | Entry::End => false,
        };
    }

    /// A command is sent before the frame that it answers is shown here, and written after it.
    fn write_observation(&mut self, observation: &Observation) -> Result<(), RuntimeError> {
        let stamp = observation.frame.stamp;
        if self.sent.as_ref().is_some_and(|sent| sent.stamp != stamp) {
            self.write_sent()?;
        }
        self.write_begun(Some(stamp))?;
        self.write_extra(&observation.extra)?;
        self.writer.write_frame(&observation.frame)?;
        self.writer.write_joints(&self.names, &observation.joints)?;
        self.write_sent()
    }

    fn write_told(&mut self, told: &Told) -> Result<(), RuntimeError> {
        self.write_sent()?;
        self.write_begun(None)?;
        if told.phase == EpisodePhase::Started {
            self.begun = Some((told.stamp, told.episode.clone()));
            return Ok(());
        }
        self.writer.write_episode(told.stamp, told.phase, &told.episode)
    }

    fn write_sent(&mut self) -> Result<(), RuntimeError> {
        let Some(sent) = self.sent.take() else { return Ok(()) };
        let written = self.writer.write_command(CommandTopic::JointCommand, &self.names, (sent.stamp, &sent.values));
        self.give_back(Entry::Sent(sent));
        written
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
