//! What can go wrong with policies: what it is, which thing, and what to do.

use std::path::PathBuf;

use foresee_runtime::RuntimeError;
use foresee_sim::SimError;

/// Every failure of this crate. The text is one line that names the thing and the fix.
#[derive(Debug, thiserror::Error)]
pub enum PoliciesError {
    /// The simulator refused.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// A model, a log or a frame is not what it should be.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A task without a scripted expert.
    #[error("task {task} has no scripted expert; these have one: {known}")]
    NoExpert {
        /// What was asked for.
        task: String,
        /// Tasks with an expert.
        known: String,
    },
    /// A task whose episodes nothing ends.
    #[error("task {task} has no time limit, so that an episode would never end; evaluate one that has")]
    Endless {
        /// What was asked for.
        task: String,
    },
    /// An option outside its range.
    #[error("{option} = {value}: {rule}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// A folder of recordings that does not fit what is asked of it.
    #[error("recordings in {}: {problem}", folder.display())]
    Recordings {
        /// The folder.
        folder: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A value of a demonstration that is not finite.
    #[error(
        "{}: frame {frame_idx}: the {quantity} of joint `{joint}` is {value}; remove the log, or record it again with finite values",
        path.display()
    )]
    NotFinite {
        /// The log.
        path: PathBuf,
        /// The frame that it belongs to, counted from 0.
        frame_idx: usize,
        /// Command, position or velocity.
        quantity: &'static str,
        /// The joint.
        joint: String,
        /// The value.
        value: f64,
    },
    /// A feature of a demonstration's frame that cannot be kept.
    #[error(
        "{}: frame {frame_idx}: the encoder gives {value}, which is not finite or beyond what f16 holds (65504); use another encoder, or remove the log",
        path.display()
    )]
    Feature {
        /// The log.
        path: PathBuf,
        /// The frame, counted from 0.
        frame_idx: usize,
        /// The feature.
        value: f32,
    },
    /// Demonstrations of which too much lies out of range.
    #[error(
        "{what}{more}; at most {max_percent} % of a log may: {hint}? Convert the recordings or correct the profile, or give --allow-out-of-range, which clamps commands to the range"
    )]
    OutOfRange {
        /// Log, joint, share and range of the worst.
        what: String,
        /// How many more there are.
        more: String,
        /// Largest share allowed.
        max_percent: f64,
        /// What may be wrong.
        hint: &'static str,
    },
    /// A checkpoint that is not one.
    #[error("checkpoint {}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Training went wrong.
    #[error("training: {0}")]
    Training(String),
}
