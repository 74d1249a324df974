//! Admits a policy that was exported elsewhere: `tokens` and `joints` in, `action` out.

use std::path::Path;

use super::explore::Explorer;
use super::{Admitted, MAX_MODEL_BYTES, blank_card, describe, fill_golden};
use crate::card::{ElementType, ModelCard, ModelKind, Provenance, TensorCard};
use crate::engine::{EngineOptions, Refusal, adapters, open_policy};
use crate::error::RuntimeError;
use crate::files::read_limited;
use crate::onnx::{OnnxAxis, OnnxSummary, type_name};

/// The contract, for messages.
const CONTRACT: &str = "a policy takes `tokens` [1, N, D] (the encoder's, of all cameras) and `joints` [1, 2J] (positions, then velocities, in the profile's order) and gives `action` [1, J], or a chunk [1, T, J]; export it with these names and sizes, or open ones (`input_names`, `output_names`)";
/// `TensorProto.DataType` of f16.
const DATA_FLOAT16: i32 = 10;

/// What a policy is admitted for.
#[derive(Clone, Debug)]
pub struct PolicyAdmitOptions {
    /// For people.
    pub name: String,
    /// Joint names in the order of the action.
    pub joints: Vec<String>,
    /// Largest difference from the golden output; 1e-4 of the largest value when absent, 2e-2 in f16.
    pub tolerance: Option<f32>,
    /// What made it, as far as is known.
    pub provenance: Provenance,
}

/// Writes the card of a policy for the features of this encoder and proves it once.
///
/// # Errors
/// As [`super::admit_encoder`]; [`RuntimeError::Model`] also when its tensors are not those of a policy of this encoder and these joints.
pub fn admit_policy(
    model: &Path,
    encoder: &ModelCard,
    options: &PolicyAdmitOptions,
    engine: &EngineOptions,
) -> Result<Admitted, RuntimeError> {
    let refuse = |problem: String| RuntimeError::Model { path: model.to_path_buf(), problem };
    let bytes = read_limited(model, MAX_MODEL_BYTES)?;
    let summary = OnnxSummary::parse(&bytes).map_err(refuse)?;
    let mut card = blank_card(model, &summary, ModelKind::Policy, (&options.name, &options.provenance))?;
    card.joints.clone_from(&options.joints);
    card.encoder_sha256 = Some(encoder.identity());
    card.inputs = inputs_of(&summary, encoder, (engine.num_cameras, options.joints.len())).map_err(refuse)?;
    let external = card.load_external(model)?;
    summary.check_is_function(&["action"]).map_err(refuse)?;
    let explorer = Explorer { path: model, bytes: &bytes, external: &external, summary: &summary, engine };
    let exploration = explorer.run(&card).map_err(|refusal| match refusal {
        Refusal::Provider(problem) => RuntimeError::Provider { provider: describe(&engine.choice), problem },
        Refusal::Model(problem) => refuse(problem),
    })?;
    let Some(action) = exploration.outputs.iter().find(|output| output.card.name == "action") else {
        return Err(refuse(format!(
            "has no floating output `action`; outputs: {}; {CONTRACT}",
            exploration.describe()
        )));
    };
    exploration.judge(&["action"], &summary).map_err(refuse)?;
    fill_golden(&mut card, &[action], &exploration.golden_inputs, options.tolerance);
    adapters::check_policy(&card, (encoder, engine.num_cameras), &options.joints)
        .map_err(|problem| refuse(format!("{problem}; {CONTRACT}")))?;
    card.save(model)?;
    let proof = EngineOptions { trust: Default::default(), ..engine.clone() };
    let policy = open_policy(model, encoder, &options.joints, &proof).inspect_err(|_| {
        // A card that does not prove itself helps nobody; the proof's failure is the one to report.
        let _ = std::fs::remove_file(ModelCard::path_of(model));
    })?;
    let Some(report) = policy.report().cloned() else { return Err(refuse("has no engine".to_owned())) };
    let mut notes = vec![format!("policy: joints {} of the encoder {}", options.joints.join(", "), encoder.name)];
    notes.extend(exploration.dropout_note(&summary));
    Ok(Admitted { card, report, notes })
}

/// The cards of `tokens` and `joints` in graph order.
fn inputs_of(
    summary: &OnnxSummary,
    encoder: &ModelCard,
    (num_cameras, num_joints): (usize, usize),
) -> Result<Vec<TensorCard>, String> {
    let (num_tokens, dim) = encoder.feature_shape()?;
    let wanted = [("tokens", vec![1, num_cameras * num_tokens, dim]), ("joints", vec![1, 2 * num_joints])];
    let names: Vec<&str> = summary.inputs.iter().map(|input| input.name.as_str()).collect();
    if names.len() != wanted.len() || !wanted.iter().all(|(name, _)| names.contains(name)) {
        return Err(format!("has the inputs {}; {CONTRACT}", names.join(", ")));
    }
    let mut cards = Vec::new();
    for input in &summary.inputs {
        let Some((name, shape)) = wanted.iter().find(|(name, _)| *name == input.name) else { continue };
        if ![1, DATA_FLOAT16].contains(&input.data_type) {
            return Err(format!("input `{name}` is {}, and f32 and f16 are understood", type_name(input.data_type)));
        }
        let fits = input.shape.as_ref().is_none_or(|axes| {
            let fits = |(axis, size): (&OnnxAxis, &usize)| !matches!(axis, OnnxAxis::Fixed(fixed) if fixed != size);
            axes.len() == shape.len() && axes.iter().zip(shape).all(fits)
        });
        if !fits {
            return Err(format!(
                "declares another shape of `{name}` than {shape:?}, which this encoder ({num_tokens} tokens of {dim}), {num_cameras} cameras and {num_joints} joints give; {CONTRACT}"
            ));
        }
        let element = if input.data_type == DATA_FLOAT16 { ElementType::F16 } else { ElementType::F32 };
        cards.push(TensorCard { element, ..TensorCard::f32(name, shape) });
    }
    Ok(cards)
}
