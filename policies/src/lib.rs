//! How policies are made and measured: scripted experts, recordings of what they do, behaviour cloning, evaluation.
//!
//! ```text
//! expert -record-> MCAP logs -load_demonstrations (Preprocessor, ONNX encoder)-> Samples -fit_policy-> PolicyCheckpoint
//!   -export_policy-> ONNX policy and card -evaluate_visual-> Summary
//! ```
//!
//! Depends on `foresee-sim` and `foresee-runtime`; the feature `train` adds the training framework. It knows no encoder but an
//! ONNX file and its card.

mod actor;
mod error;
mod evaluate;
mod experts;
mod progress;
mod record;
mod statistics;

#[cfg(feature = "train")]
mod checkpoint;
#[cfg(feature = "train")]
mod demonstrations;
#[cfg(feature = "train")]
mod export;
#[cfg(feature = "train")]
mod head;
#[cfg(feature = "train")]
mod inputs;
#[cfg(feature = "train")]
mod samples;
#[cfg(feature = "train")]
mod train_bc;

pub use actor::{SmoothRandom, StateActor, UniformRandom};
pub use error::PoliciesError;
pub use evaluate::{VisualEvaluation, VisualOutcome, evaluate_state, evaluate_visual};
pub use experts::{EXPERTS, ExpertEntry, expert_for};
pub use progress::{EpochReport, Progress, Watch};
pub use record::{Behaviour, Disturbance, Keep, PolicyActor, RecordOptions, RecordReport, logs_in, record};
pub use statistics::{EpisodeResult, INTERVAL_METHOD, Summary};

#[cfg(feature = "train")]
pub use checkpoint::PolicyCheckpoint;
#[cfg(feature = "train")]
pub use demonstrations::{DataReport, DemonstrationOptions, OutOfRange, load_demonstrations};
#[cfg(feature = "train")]
pub use export::{ExportNotes, export_policy};
#[cfg(feature = "train")]
pub use inputs::PositionEncoding;
#[cfg(feature = "train")]
pub use samples::{JointRange, Samples};
#[cfg(feature = "train")]
pub use train_bc::{BcOptions, fit_policy};
