//! From a fitted policy to an ONNX file and its card.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData as BurnData};
use foresee_runtime::{
    CARD_FORMAT, Golden, ModelCard, ModelKind, OnnxDim, OnnxGraph, OnnxValue, Provenance, TensorCard, TensorData,
    sha256_file, write_model,
};
use serde_json::json;

use crate::checkpoint::{GoldenInput, PolicyCheckpoint};
use crate::error::PoliciesError;
use crate::head::{Dense, Head, values};
use crate::inputs::PositionEncoding;

/// Largest difference that an engine may have from the training framework on the golden input.
const GOLDEN_TOLERANCE: f32 = 1e-4;

/// What the exporter cannot know by itself.
#[derive(Clone, Debug, Default)]
pub struct ExportNotes {
    /// The model's name in the card.
    pub name: String,
    /// The exact command lines that made it, in order.
    pub commands: Vec<String>,
    /// Git revision of the code.
    pub git_revision: String,
    /// What the demonstrations were.
    pub data: String,
    /// Seeds of the demonstrations; the seed of the fit is added.
    pub seeds: Vec<u64>,
    /// What was measured with it, by name.
    pub results: serde_json::Value,
}

/// Writes `<model>.onnx` (inputs `tokens [B, N, D]`, `joints [B, 2J]`; output `action [B, J]` in the joints' units), then its card beside it.
///
/// # Errors
/// [`PoliciesError::Runtime`] when a file cannot be written, [`PoliciesError::Training`] when the network's output is not finite.
pub fn export_policy(
    checkpoint: &PolicyCheckpoint,
    model: &Path,
    notes: &ExportNotes,
) -> Result<ModelCard, PoliciesError> {
    let action = act(checkpoint, &checkpoint.golden)?;
    write_model(model, &graph(checkpoint).to_bytes())?;
    let header = &checkpoint.header;
    let num_joints = header.joints.len();
    let tensor = TensorCard::f32;
    let tokens_shape = [1, header.shape.num_tokens, header.shape.token_dim];
    let data = |name: &str, shape: &[usize], values: &[f32]| (name.to_owned(), TensorData::new(shape, values));
    let mut recipe = json!({ "behaviour_cloning": header.options });
    header.conditions.iter().for_each(|conditions| conditions.in_recipe(&mut recipe));
    let best = header.epochs.iter().rfind(|epoch| epoch.best);
    let card = ModelCard {
        format: CARD_FORMAT,
        kind: ModelKind::Policy,
        name: notes.name.clone(),
        model: model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256_file(model)?,
        inputs: vec![tensor("tokens", &tokens_shape), tensor("joints", &[1, 2 * num_joints])],
        outputs: vec![tensor("action", &[1, num_joints])],
        external: Vec::new(),
        interface: None,
        preprocessing: None,
        joints: header.joints.iter().map(|joint| joint.name.clone()).collect(),
        encoder_sha256: Some(header.encoder_sha256.clone()),
        golden: Golden {
            inputs: [
                data("tokens", &tokens_shape, &checkpoint.golden.tokens),
                data("joints", &[1, 2 * num_joints], &checkpoint.golden.joints),
            ]
            .into(),
            outputs: [data("action", &[1, num_joints], &action)].into(),
            tolerance: GOLDEN_TOLERANCE,
        },
        provenance: Provenance {
            commands: notes.commands.clone(),
            seeds: notes.seeds.iter().copied().chain([header.options.seed]).collect(),
            git_revision: notes.git_revision.clone(),
            data: format!("{} ({} episodes, {} frames)", notes.data, header.num_episodes, header.num_samples),
            recipe,
            results: json!({ "fit": best, "measured": notes.results }),
        },
    };
    card.save(model)?;
    Ok(card)
}

/// What the training framework makes of raw tokens `[N, D]` and joint state `[2J]`, in the joints' units.
fn act(checkpoint: &PolicyCheckpoint, input: &GoldenInput) -> Result<Vec<f32>, PoliciesError> {
    let shape = &checkpoint.header.shape;
    let (mut tokens, mut joints) = (Vec::new(), Vec::new());
    checkpoint.scaling.push_tokens(input.tokens.iter().copied(), &mut tokens);
    checkpoint.scaling.push_joints(&input.joints, &mut joints);
    let device = Device::flex();
    let head = Head::new(&checkpoint.weights, &device);
    let tokens = BurnData::new(tokens, [1, shape.num_tokens, shape.token_dim]);
    let joints = BurnData::new(joints, [1, shape.num_joint_inputs]);
    let scaled = values(head.forward(Tensor::from_data(tokens, &device), Tensor::from_data(joints, &device)))?;
    let (middles, half_ranges) = ranges(checkpoint);
    let action: Vec<f32> = scaled
        .iter()
        .zip(middles.iter().zip(&half_ranges))
        .map(|(value, (middle, half))| middle + value * half)
        .collect();
    if !action.iter().all(|value| value.is_finite()) {
        return Err(PoliciesError::Training(format!("the policy answers {action:?}; train it again")));
    }
    Ok(action)
}

fn graph(checkpoint: &PolicyCheckpoint) -> OnnxGraph {
    let shape = &checkpoint.header.shape;
    let num_joints = checkpoint.header.joints.len();
    let mut graph = OnnxGraph::new("policy");
    let tokens =
        graph.add_input("tokens", &[OnnxDim::Batch, OnnxDim::Fixed(shape.num_tokens), OnnxDim::Fixed(shape.token_dim)]);
    let joints = graph.add_input("joints", &[OnnxDim::Batch, OnnxDim::Fixed(2 * num_joints)]);

    let Dense { num_inputs, num_outputs, weight, bias } = scaled_token_map(checkpoint);
    let weight = graph.add_constant("token.weight", &[num_inputs, num_outputs], &weight);
    let bias = graph.add_constant("token.bias", &[num_outputs], &bias);
    let mapped = graph.linear(&tokens, &weight, &bias);
    let flat = graph.reshape(&mapped, &[0, to_i64(shape.num_tokens * shape.token_width)]);
    let joint_inputs = add_joint_inputs(&mut graph, checkpoint, &joints);

    let mut hidden = graph.concat(&[&flat, &joint_inputs], 1);
    let last = checkpoint.weights.dense.len().saturating_sub(1);
    for (layer_idx, dense) in checkpoint.weights.dense.iter().enumerate() {
        let weight = graph.add_constant(
            &format!("dense.{layer_idx}.weight"),
            &[dense.num_inputs, dense.num_outputs],
            &dense.weight,
        );
        let bias = graph.add_constant(&format!("dense.{layer_idx}.bias"), &[dense.num_outputs], &dense.bias);
        hidden = graph.gemm(&hidden, &weight, &bias);
        hidden = if layer_idx == last { graph.tanh(&hidden) } else { graph.relu(&hidden) };
    }
    let (middles, half_ranges) = ranges(checkpoint);
    let half_range = graph.add_constant("action.half_range", &[num_joints], &half_ranges);
    let middle = graph.add_constant("action.middle", &[num_joints], &middles);
    let scaled = graph.mul(&hidden, &half_range);
    let action = graph.add(&scaled, &middle);
    graph.add_output("action", &action, &[OnnxDim::Batch, OnnxDim::Fixed(num_joints)]);
    graph
}

/// The token map with the tokens' normalisation folded in: `((x - m) s) W + b = x (s W) + (b - m (s W))`.
fn scaled_token_map(checkpoint: &PolicyCheckpoint) -> Dense {
    let mut dense = checkpoint.weights.token.clone();
    let mut bias: Vec<f64> = dense.bias.iter().map(|value| f64::from(*value)).collect();
    let scaling = checkpoint.scaling.token_mean.iter().zip(&checkpoint.scaling.token_scale);
    for (row, (mean, scale)) in dense.weight.chunks_exact_mut(dense.num_outputs.max(1)).zip(scaling) {
        for (weight, bias) in row.iter_mut().zip(&mut bias) {
            *weight *= scale;
            *bias -= f64::from(*mean) * f64::from(*weight);
        }
    }
    dense.bias = bias.into_iter().map(|value| value as f32).collect();
    dense
}

/// `joints [B, 2J]` -> normalised joint inputs `[B, I]`.
fn add_joint_inputs(graph: &mut OnnxGraph, checkpoint: &PolicyCheckpoint, joints: &OnnxValue) -> OnnxValue {
    let num_joints = to_i64(checkpoint.header.joints.len());
    let encoded = match checkpoint.scaling.position_encoding {
        PositionEncoding::Angle => {
            let positions = graph.slice(joints, 1, 0..num_joints);
            let velocities = graph.slice(joints, 1, num_joints..2 * num_joints);
            let sines = graph.add_node("Sin", &[&positions], Vec::new());
            let cosines = graph.add_node("Cos", &[&positions], Vec::new());
            graph.concat(&[&sines, &cosines, &velocities], 1)
        }
        PositionEncoding::Linear => joints.clone(),
    };
    let num_inputs = [checkpoint.scaling.joint_mean.len()];
    let mean = graph.add_constant("joints.mean", &num_inputs, &checkpoint.scaling.joint_mean);
    let scale = graph.add_constant("joints.scale", &num_inputs, &checkpoint.scaling.joint_scale);
    let centred = graph.sub(&encoded, &mean);
    graph.mul(&centred, &scale)
}

/// Middles and half ranges of the joints' commands.
fn ranges(checkpoint: &PolicyCheckpoint) -> (Vec<f32>, Vec<f32>) {
    checkpoint
        .header
        .joints
        .iter()
        .map(|joint| {
            let (middle, half_range) = joint.middle_and_half_range();
            (middle as f32, half_range as f32)
        })
        .unzip()
}

fn to_i64(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use foresee_firmware_config::Provider;
    use foresee_runtime::{
        Action, EngineOptions, Features, JointState, Policy, PreprocessingCard, Resize, open_policy,
    };

    use super::*;
    use crate::samples::Samples;
    use crate::train_bc::BcOptions;
    use crate::train_bc::tests::{fit, options, samples};

    /// As much of an encoder's card as a policy is checked against.
    fn encoder_card(samples: &Samples) -> ModelCard {
        let tensor = TensorCard::f32;
        let preprocessing = PreprocessingCard {
            width: 2,
            height: 2,
            resize: Resize::BilinearAntialias,
            crop: None,
            mean: [0.5; 3],
            std: [0.5; 3],
            hash: String::new(),
        };
        ModelCard {
            format: CARD_FORMAT,
            kind: ModelKind::Encoder,
            name: "test".to_owned(),
            model: "test.onnx".to_owned(),
            sha256: samples.encoder_sha256.clone(),
            inputs: vec![tensor("image", &[1, 3, 2, 2])],
            outputs: vec![
                tensor("tokens", &[1, samples.num_tokens, samples.token_dim]),
                tensor("cls", &[1, samples.token_dim]),
            ],
            external: Vec::new(),
            interface: None,
            preprocessing: Some(preprocessing.with_hash()),
            joints: Vec::new(),
            encoder_sha256: None,
            golden: Golden { inputs: [].into(), outputs: [].into(), tolerance: 1e-4 },
            provenance: Provenance::default(),
        }
    }

    fn open(samples: &Samples, model: &Path) -> Box<dyn Policy> {
        let engine = EngineOptions::exactly(Provider::Tract);
        let names: Vec<String> = samples.joints.iter().map(|joint| joint.name.clone()).collect();
        open_policy(model, &encoder_card(samples), &names, &engine).expect("admitted")
    }

    fn check(options: &BcOptions) {
        let samples = samples(12);
        let checkpoint = fit(&samples, options).expect("fitted");
        let folder = tempfile::tempdir().expect("a folder");
        let model: PathBuf = folder.path().join("policy.onnx");
        let notes = ExportNotes { name: "test".to_owned(), seeds: vec![3], ..ExportNotes::default() };
        let card = export_policy(&checkpoint, &model, &notes).expect("exported");
        assert_eq!(ModelCard::load(&model).expect("loads"), card);
        assert_eq!(card.provenance.seeds, [3, options.seed]);

        let mut policy = open(&samples, &model);
        let mut action = Action { values: vec![0.0; 2] };
        for at in samples.idxs_where(|_| true) {
            let input =
                GoldenInput { tokens: samples.tokens_of(at).collect(), joints: samples.joint_state_of(at).to_vec() };
            let mut features = Features::zeros(samples.num_tokens, samples.token_dim);
            features.tokens.clone_from(&input.tokens);
            let (positions, velocities) = input.joints.split_at(2);
            let wide = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect();
            let joints =
                JointState { positions: wide(positions), velocities: wide(velocities), ..JointState::default() };
            policy.act(&features, &joints, &mut action).expect("acted");
            for (served, trained) in action.values.iter().zip(act(&checkpoint, &input).expect("acted")) {
                assert!((served - f64::from(trained)).abs() < 1e-4, "{served} {trained}");
                assert!((-2.0..=1.0).contains(served), "{served} is out of the joint's range");
            }
        }
    }

    #[test]
    fn the_exported_policy_computes_what_was_trained() {
        check(&options());
        check(&BcOptions { position_encoding: PositionEncoding::Linear, hidden_widths: Vec::new(), ..options() });
        check(&BcOptions { token_width: 1, hidden_widths: vec![5], num_epochs: 2, ..options() });
    }
}
