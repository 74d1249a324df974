//! From pixels to features.

use std::collections::BTreeMap;

use foresee_firmware_config::Provider;
use serde::{Deserialize, Serialize};

use crate::card::ModelCard;
use crate::error::RuntimeError;

/// Preprocessed images: NCHW with C = 3, normalised f32; one image, unless the encoder was opened for several.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderInput {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// `3 * height * width` values an image, planes red, green, blue.
    pub data: Vec<f32>,
}

impl EncoderInput {
    /// All zero, of the given size in pixels.
    pub fn zeros(height: usize, width: usize) -> Self {
        Self::batch(1, height, width)
    }

    /// All zero, of so many images of the given size in pixels.
    pub fn batch(num_images: usize, height: usize, width: usize) -> Self {
        Self { height, width, data: vec![0.0; num_images * 3 * height * width] }
    }
}

/// What an encoder says of one image, or of several: one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    /// N, patch tokens of all images (the class tokens are apart, in `cls`).
    pub num_tokens: usize,
    /// D.
    pub dim: usize,
    /// `[N, D]`, row-major.
    pub tokens: Vec<f32>,
    /// `[D]`: the class token after the final norm; one an image.
    pub cls: Vec<f32>,
}

impl Features {
    /// All zero, `[num_tokens, dim]` and `[dim]`.
    pub fn zeros(num_tokens: usize, dim: usize) -> Self {
        Self { num_tokens, dim, tokens: vec![0.0; num_tokens * dim], cls: vec![0.0; dim] }
    }
}

/// What really runs a model: in the live table, the log, and every result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineReport {
    /// What runs.
    pub provider: Provider,
    /// Engine and version, such as `onnxruntime 1.31.1`.
    pub engine: String,
    /// Why this one: asked for, or which others were tried and what each said.
    pub reason: String,
    /// Threads inside one inference.
    pub intra_threads: usize,
    /// The type that most weights have, such as `f32` or `int8`.
    #[serde(default)]
    pub precision: String,
    /// Nodes of the optimised graph by what runs them, in the engine's own words, such as `CPUExecutionProvider`.
    #[serde(default)]
    pub nodes: BTreeMap<String, usize>,
    /// Images that go through it at a time.
    #[serde(default = "one")]
    pub images: usize,
    /// Hex of the ed25519 key that signed the card, when it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
    /// Hex sha256 of the model file; with weights in other files, of all their hashes ([`ModelCard::identity`]).
    pub model_sha256: String,
}

fn one() -> usize {
    1
}

/// Turns an image into features. The caller lends both buffers; after the first call nothing is allocated by the adapter.
pub trait Encoder: Send {
    /// The card that the encoder was admitted with.
    fn card(&self) -> &ModelCard;
    /// What runs it.
    fn report(&self) -> &EngineReport;
    /// Images that it takes at a time.
    fn num_images(&self) -> usize {
        1
    }
    /// `input` `[K, 3, H, W]` -> `features` `[K N, D]` and `[K D]`, for K of [`Encoder::num_images`].
    ///
    /// # Errors
    /// [`RuntimeError::Inference`] when the engine fails or gives another shape than the card says.
    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError>;
}
