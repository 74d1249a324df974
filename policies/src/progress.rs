//! What long jobs tell while they run, and how they are asked to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};

use crate::statistics::EpisodeResult;

/// One thing that a job has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// An episode was played for a result.
    Played {
        /// Episodes so far, this one among them.
        num_played: usize,
        /// Episodes asked for.
        num_wanted: usize,
        /// This one.
        episode: EpisodeResult,
    },
    /// An episode was recorded, or played and not kept.
    Recorded {
        /// Episodes that the folder holds.
        num_held: usize,
        /// Episodes asked for.
        num_wanted: usize,
        /// This one.
        episode: EpisodeResult,
        /// Whether it passed the filter and was written.
        kept: bool,
    },
    /// Demonstrations were read and matched; none of their frames is encoded yet.
    #[cfg(feature = "train")]
    Inspected(Box<crate::demonstrations::DataReport>),
    /// Frames of one log went through the encoder.
    Encoded {
        /// Logs so far.
        num_logs: usize,
        /// Logs there are.
        num_logs_total: usize,
        /// Frames so far.
        num_frames: usize,
    },
    /// A pass over the training samples is done.
    Epoch(EpochReport),
}

/// One pass over the training samples. Losses are mean squared errors of actions scaled to -1 to 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// Counts from 1.
    pub epoch: usize,
    /// Epochs asked for.
    pub num_epochs: usize,
    /// Mean over the epoch's batches as they came.
    pub train_loss: f64,
    /// Over the episodes held out, after the epoch.
    pub validation_loss: f64,
    /// Whether this is the lowest validation loss so far, whose weights are kept.
    pub best: bool,
}

/// Who watches a job: is told of progress, and may ask it to stop at the next safe point.
pub struct Watch<'a> {
    /// Told of everything.
    pub observe: &'a mut dyn FnMut(Progress),
    /// Set to stop; what is complete by then is kept.
    pub stop: &'a AtomicBool,
}

impl Watch<'_> {
    pub(crate) fn tell(&mut self, progress: Progress) {
        (self.observe)(progress);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
