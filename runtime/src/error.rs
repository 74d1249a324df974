//! What can go wrong in the runtime: what it is, which thing, and what to do.

use std::path::PathBuf;

/// Every failure of this crate. The text is one line that names the thing and the fix.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A model card that is not one, or not one of this model.
    #[error("{}: {problem}", path.display())]
    Card {
        /// The card.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A model that an engine cannot load or that did not prove itself.
    #[error("{}: {problem}", path.display())]
    Model {
        /// The model.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An engine or its library is not there.
    #[error("provider {provider}: {problem}")]
    Provider {
        /// What was asked for.
        provider: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An inference failed.
    #[error("inference with {model}: {problem}")]
    Inference {
        /// The model.
        model: String,
        /// What the engine said.
        problem: String,
    },
    /// The declared latency budget does not hold on this machine.
    #[error(
        "budget: {stage} took {millis:.2} ms (95 of 100 ticks) where the profile declares at most {limit_millis} ms; declare more, take a smaller model or a faster provider, or free the machine"
    )]
    Budget {
        /// The stage, or `total`.
        stage: String,
        /// Measured.
        millis: f64,
        /// Declared.
        limit_millis: f64,
    },
    /// An image that is not what it should be.
    #[error("frame: {0}")]
    Frame(String),
    /// A file that is no whole picture.
    #[error("{}: {fault}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        fault: crate::picture::PictureFault,
    },
    /// A message that cannot be decoded.
    #[error("message on {topic}: {problem}")]
    Message {
        /// Key or topic.
        topic: String,
        /// What is wrong.
        problem: String,
    },
    /// The transport failed.
    #[error("zenoh: {0}")]
    Transport(String),
    /// A log that cannot be written or read.
    #[error("log {}: {problem}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A camera or video file that cannot be opened or read.
    #[error("camera {name}: {problem}")]
    Camera {
        /// Device or file.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An end of the loop (simulator, recorder) failed for good.
    #[error("{name}: {problem}")]
    End {
        /// Which end.
        name: String,
        /// What is wrong and what to do.
        problem: String,
    },
}
