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
