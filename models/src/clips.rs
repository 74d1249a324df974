//! Where training frames come from: clips of consecutive frames behind one trait. Logs and images implement it here, videos and
//! simulators in `launch`, which knows OpenCV and MuJoCo.

use foresee_runtime::Frame;

use crate::error::ModelsError;

/// Clips that can be read by several threads at once, each with a reader of its own.
pub trait ClipSource: Sync {
    /// What it is, in one line.
    fn description(&self) -> String;

    /// Clips in all.
    fn num_clips(&self) -> usize;

    /// What a message calls this clip: a file, an episode.
    fn clip_name(&self, clip_idx: usize) -> String;

    /// A reader for the calling thread.
    ///
    /// # Errors
    /// [`ModelsError`] when nothing can be read at all.
    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError>;

    /// Samples of one epoch: one a clip, unless a source knows better.
    fn num_samples(&self) -> usize {
        self.num_clips()
    }

    /// Where a sample of an epoch is taken.
    fn sample(&self, sample_idx: usize) -> SamplePlace {
        SamplePlace { clip_idx: sample_idx, frame_idx: None }
    }

    /// Whether no clip has a second frame, so that nothing can be learnt from pairs.
    fn is_still(&self) -> bool {
        false
    }

    /// What could not be read so far, one line each.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Reads one clip at a time, forwards.
pub trait ClipReader {
    /// Goes to the start of a clip and says how many frames it claims to have.
    ///
    /// # Errors
    /// [`ModelsError`] when the clip cannot be read; it is then skipped, counted and listed.
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError>;

    /// Reads a frame of the open clip; the index is never below that of the last call.
    ///
    /// # Errors
    /// As [`ClipReader::open`].
    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError>;
}

/// Where a sample is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplePlace {
    /// Which clip.
    pub clip_idx: usize,
    /// Which of its frames, for views of one frame; drawn if none is named.
    pub frame_idx: Option<usize>,
}

/// What a call of [`ClipReader::read`] gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The frame.
    Frame,
    /// The clip is shorter than it claimed.
    Ended {
        /// Frames that it really has.
        num_frames: usize,
    },
}
