//! A fitted policy on disk: one safetensors file, written whole or not at all.

use std::collections::HashMap;
use std::path::Path;

use foresee_runtime::{PolicyConditions, write_atomically};
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};

use crate::error::PoliciesError;
use crate::head::{Dense, HeadShape, HeadWeights};
use crate::inputs::{InputScaling, PositionEncoding};
use crate::progress::EpochReport;
use crate::samples::JointRange;
use crate::train_bc::BcOptions;

pub(crate) const CHECKPOINT_FORMAT: u32 = 1;
/// The key of the header in the file's metadata.
const HEADER_KEY: &str = "foresee_policy";
/// The largest head that [`BcOptions`] allows on a large encoder stays well below.
const MAX_CHECKPOINT_BYTES: u64 = 1 << 30;

/// A fitted policy: what [`crate::export_policy`] turns into ONNX.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyCheckpoint {
    pub(crate) header: CheckpointHeader,
    pub(crate) weights: HeadWeights,
    pub(crate) scaling: InputScaling,
    pub(crate) golden: GoldenInput,
}

/// Everything but the numbers of the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointHeader {
    pub(crate) format: u32,
    pub(crate) shape: HeadShape,
    pub(crate) position_encoding: PositionEncoding,
    pub(crate) joints: Vec<JointRange>,
    pub(crate) encoder_sha256: String,
    pub(crate) options: BcOptions,
    pub(crate) num_episodes: usize,
    pub(crate) num_samples: usize,
    pub(crate) epochs: Vec<EpochReport>,
    /// Cameras and period of the demonstrations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) conditions: Option<PolicyConditions>,
}

/// One held-out sample as it came, on which an exported model proves itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GoldenInput {
    /// `[N, D]`.
    pub(crate) tokens: Vec<f32>,
    /// `[2J]`.
    pub(crate) joints: Vec<f32>,
}

impl PolicyCheckpoint {
    /// What every epoch measured, in order.
    pub fn epochs(&self) -> &[EpochReport] {
        &self.header.epochs
    }

    /// Hex sha256 of the encoder whose features it was fitted on.
    pub fn encoder_sha256(&self) -> &str {
        &self.header.encoder_sha256
    }

    /// Writes it to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`PoliciesError::Runtime`] when the folder cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), PoliciesError> {
        let problem = |problem: String| PoliciesError::Checkpoint { path: path.to_path_buf(), problem };
        let header = serde_json::to_string(&self.header).map_err(|error| problem(error.to_string()))?;
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = self
            .tensors()
            .into_iter()
            .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views
            .and_then(|views| serialize(views, Some(HashMap::from([(HEADER_KEY.to_owned(), header)]))))
            .map_err(|error| problem(error.to_string()))?;
        Ok(write_atomically(path, &bytes)?)
    }

    /// Reads what [`PolicyCheckpoint::save`] wrote.
    ///
    /// # Errors
    /// [`PoliciesError::File`] when it cannot be read, [`PoliciesError::Checkpoint`] when it is not a policy's checkpoint.
    pub fn load(path: &Path) -> Result<Self, PoliciesError> {
        let file = |source| PoliciesError::File { path: path.to_path_buf(), source };
        let problem = |problem: String| PoliciesError::Checkpoint { path: path.to_path_buf(), problem };
        let num_bytes = std::fs::metadata(path).map_err(file)?.len();
        if num_bytes > MAX_CHECKPOINT_BYTES {
            return Err(problem(format!("{num_bytes} bytes, a policy has at most {MAX_CHECKPOINT_BYTES}")));
        }
        let bytes = std::fs::read(path).map_err(file)?;
        Self::parse(&bytes).map_err(problem)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| format!("not safetensors: {error}"))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(HEADER_KEY));
        let header = header.ok_or("holds no policy; give what `foresee train bc` wrote")?;
        let header: CheckpointHeader = serde_json::from_str(header).map_err(|error| format!("header: {error}"))?;
        if header.format != CHECKPOINT_FORMAT {
            return Err(format!("format {} where this version reads {CHECKPOINT_FORMAT}; train again", header.format));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| format!("not safetensors: {error}"))?;
        let read = |name: &str, wanted: &[usize]| read_tensor(&tensors, name, wanted);
        let shape = &header.shape;
        check_shape(&header)?;
        let dense = |name: &str, inputs: usize, outputs: usize| -> Result<Dense, String> {
            Ok(Dense {
                num_inputs: inputs,
                num_outputs: outputs,
                weight: read(&format!("{name}.weight"), &[inputs, outputs])?,
                bias: read(&format!("{name}.bias"), &[outputs])?,
            })
        };
        let layers = shape.dense_sizes().into_iter().enumerate();
        let weights = HeadWeights {
            token: dense("token", shape.token_dim, shape.token_width)?,
            dense: layers
                .map(|(layer_idx, (inputs, outputs))| dense(&format!("dense.{layer_idx}"), inputs, outputs))
                .collect::<Result<_, _>>()?,
        };
        let scaling = InputScaling {
            position_encoding: header.position_encoding,
            token_mean: read("scaling.token_mean", &[shape.token_dim])?,
            token_scale: read("scaling.token_scale", &[shape.token_dim])?,
            joint_mean: read("scaling.joint_mean", &[shape.num_joint_inputs])?,
            joint_scale: read("scaling.joint_scale", &[shape.num_joint_inputs])?,
        };
        let golden = GoldenInput {
            tokens: read("golden.tokens", &[shape.num_tokens, shape.token_dim])?,
            joints: read("golden.joints", &[2 * header.joints.len()])?,
        };
        Ok(Self { header, weights, scaling, golden })
    }

    /// Every tensor: name, shape, row-major values.
    fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let shape = &self.header.shape;
        let vector = |name: &str, values| (name.to_owned(), vec![shape.token_dim], values);
        let joint_vector = |name: &str, values| (name.to_owned(), vec![shape.num_joint_inputs], values);
        let mut tensors: Vec<(String, Vec<usize>, &[f32])> = vec![
            vector("scaling.token_mean", self.scaling.token_mean.as_slice()),
            vector("scaling.token_scale", self.scaling.token_scale.as_slice()),
            joint_vector("scaling.joint_mean", self.scaling.joint_mean.as_slice()),
            joint_vector("scaling.joint_scale", self.scaling.joint_scale.as_slice()),
            ("golden.tokens".to_owned(), vec![shape.num_tokens, shape.token_dim], self.golden.tokens.as_slice()),
            ("golden.joints".to_owned(), vec![self.golden.joints.len()], self.golden.joints.as_slice()),
        ];
        let names = ["token".to_owned()].into_iter().chain((0..).map(|layer_idx| format!("dense.{layer_idx}")));
        for (name, dense) in names.zip([&self.weights.token].into_iter().chain(&self.weights.dense)) {
            let Dense { num_inputs, num_outputs, weight, bias } = dense;
            tensors.push((format!("{name}.weight"), vec![*num_inputs, *num_outputs], weight.as_slice()));
            tensors.push((format!("{name}.bias"), vec![*num_outputs], bias.as_slice()));
        }
        tensors
    }
}

/// Whether the network is one for these joints, and of a size that a file can hold.
fn check_shape(header: &CheckpointHeader) -> Result<(), String> {
    let (shape, num_joints) = (&header.shape, header.joints.len());
    let num_inputs = header.position_encoding.num_inputs(num_joints);
    if shape.num_joint_inputs != num_inputs || shape.num_actions != num_joints {
        return Err(format!(
            "header: {} joint inputs and {} actions for {num_joints} joints, which give {num_inputs} and take {num_joints}",
            shape.num_joint_inputs, shape.num_actions
        ));
    }
    let sizes = [shape.num_tokens, shape.token_dim, shape.token_width].into_iter().chain(shape.hidden_widths.clone());
    match sizes.into_iter().find(|size| *size as u64 > MAX_CHECKPOINT_BYTES / 4) {
        Some(size) => Err(format!("header: a width of {size} is more than a policy's file can hold")),
        None => Ok(()),
    }
}

fn read_tensor(tensors: &SafeTensors<'_>, name: &str, wanted: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = tensors.tensor(name).map_err(|error| format!("{name}: {error}"))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != wanted {
        return Err(format!("{name} is {:?} {:?}, not F32 {wanted:?}", tensor.dtype(), tensor.shape()));
    }
    let (values, _) = tensor.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(format!("{name} holds values that are not finite"))
    }
}
