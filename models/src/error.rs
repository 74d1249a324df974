//! What can go wrong in pretraining, checkpoints and export: which thing, and what to do.

use std::path::{Path, PathBuf};

use foresee_runtime::RuntimeError;

/// Every failure of this crate. The text is one line that names the thing and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A recipe that cannot be read or that asks for what cannot be.
    #[error("recipe {name}: {problem}")]
    Recipe {
        /// Recipe name or file.
        name: String,
        /// Key, value and fix.
        problem: String,
    },
    /// Training data that cannot be used.
    #[error("{}: {problem}", path.display())]
    Data {
        /// File or folder.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A checkpoint or tensor file that cannot be read or does not fit.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A tensor that is missing, extra or of the wrong shape.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// Its name in the state dictionary.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A device that this build or this machine lacks.
    #[error("device {name}: {problem}")]
    Device {
        /// As it was asked for.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Training that cannot go on.
    #[error("training: {0}")]
    Training(String),
    /// A file that cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A failure in the runtime's files, cards or preprocessing.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

impl ModelsError {
    /// The same, with the file whose tensor it is about.
    pub(crate) fn in_checkpoint(self, path: &Path) -> Self {
        match self {
            Self::Tensor { name, problem } => {
                Self::Checkpoint { path: path.to_path_buf(), problem: format!("tensor {name} {problem}") }
            }
            other => other,
        }
    }
}
