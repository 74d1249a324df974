//! The model card: a JSON file beside each ONNX file that says what the model is, what it expects, and how it proves itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the card's layout.
pub const CARD_FORMAT: u32 = 1;

/// What an ONNX file is. Stored as `<model>.card.json` beside `<model>.onnx`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelCard {
    /// [`CARD_FORMAT`].
    pub format: u32,
    /// Encoder or policy.
    pub kind: ModelKind,
    /// For people, such as `mae-64`.
    pub name: String,
    /// File name of the ONNX file, in the card's folder.
    pub model: String,
    /// Hex sha256 of the ONNX file.
    pub sha256: String,
    /// Inputs, in graph order.
    pub inputs: Vec<TensorCard>,
    /// Outputs, in graph order.
    pub outputs: Vec<TensorCard>,
    /// How an image becomes the input (encoders only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<PreprocessingCard>,
    /// Joint names in the order of the action (policies only).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joints: Vec<String>,
    /// Hex sha256 of the encoder whose features the policy was trained on (policies only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_sha256: Option<String>,
    /// Input and output that every engine must reproduce.
    pub golden: Golden,
    /// What made it.
    pub provenance: Provenance,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelKind {
    /// `image [B, 3, H, W]` -> `tokens [B, N, D]`, `cls [B, D]`.
    Encoder,
    /// `tokens [B, N, D]`, `joints [B, 2J]` (positions, then velocities) -> `action [B, J]`.
    Policy,
}

/// One input or output; f32.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorCard {
    /// Name in the graph.
    pub name: String,
    /// Shape with the batch as 1.
    pub shape: Vec<usize>,
}

/// How an image becomes the encoder's input. One implementation serves training, simulation and robot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessingCard {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The resampling.
    pub resize: Resize,
    /// Subtracted from red, green, blue in 0..1.
    pub mean: [f32; 3],
    /// Divides after that.
    pub std: [f32; 3],
    /// Hex sha256 of the parameters above, by `PreprocessingCard::compute_hash`.
    pub hash: String,
}

/// Resampling kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Triangle kernel widened by the scale when shrinking (as PIL and torchvision `antialias=True`).
    BilinearAntialias,
}

/// What every engine must reproduce before the model is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Input tensors by name.
    pub inputs: BTreeMap<String, TensorData>,
    /// Output tensors by name, as the training framework computed them.
    pub outputs: BTreeMap<String, TensorData>,
    /// Largest absolute difference allowed.
    pub tolerance: f32,
}

/// A tensor in a card: f32, little-endian, base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorData {
    /// Shape.
    pub shape: Vec<usize>,
    /// Base64 of the little-endian f32 values, row-major.
    pub f32_base64: String,
}

/// What made a model: enough to make it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The exact command lines, in order.
    pub commands: Vec<String>,
    /// Seeds used.
    pub seeds: Vec<u64>,
    /// Git revision of the code.
    pub git_revision: String,
    /// Data: what it was, how much.
    pub data: String,
    /// Recipe name and its parameters.
    pub recipe: serde_json::Value,
    /// What was measured, by name.
    pub results: serde_json::Value,
}
