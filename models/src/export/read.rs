//! An f32 ONNX file of this exporter as weights again: its card has the recipe, its constants have the names of the weights.

use std::path::Path;

use foresee_runtime::{ModelCard, read_onnx_constants};

use super::graph::{TABLE, query_scale};
use super::{ExportResults, Precision};
use crate::checkpoint::NamedTensors;
use crate::encoder::EncoderWeights;
use crate::error::ModelsError;
use crate::parameters::{Parameters, encoder_specs};
use crate::recipe::Recipe;

/// The encoder of `path` and the card beside it.
pub(crate) fn weights_of_onnx(path: &Path) -> Result<EncoderWeights, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let card = ModelCard::load(path)?;
    let recipe: Recipe = serde_json::from_value(card.provenance.recipe.clone()).map_err(|_| {
        fail("has a card without a recipe of an encoder; give one that foresee export encoder wrote".to_string())
    })?;
    recipe.validate()?;
    let results: Option<ExportResults> = serde_json::from_value(card.provenance.results.clone()).ok();
    let lower = match results.map(|results| results.precision) {
        Some(Precision::F16) => Some("f16"),
        Some(Precision::Int8) => Some("int8"),
        Some(Precision::F32) | None => None,
    };
    if let Some(lower) = lower {
        return Err(fail(format!("was exported in {lower}; give the f32 export or the checkpoint that it is of")));
    }
    let bytes = std::fs::read(path).map_err(|source| ModelsError::File { path: path.to_path_buf(), source })?;
    let mut constants = read_onnx_constants(&bytes).map_err(fail)?;
    let encoder = &recipe.encoder;
    let dim = encoder.dim;
    let mut tensors = NamedTensors::new();
    if let Some((_, mut table)) = constants.remove(TABLE) {
        let shape = vec![1, table.len() / dim.max(1), dim];
        if encoder.class_token {
            // The class token's own position is the zero row of the table.
            let class_token: Vec<f32> = table.iter_mut().take(dim).map(std::mem::take).collect();
            tensors.insert("cls_token".to_string(), (vec![1, 1, dim], class_token));
        }
        tensors.insert("pos_embed".to_string(), (shape, table));
    }
    for spec in encoder_specs(&recipe) {
        let Some((shape, mut values)) = constants.remove(&spec.name) else { continue };
        if spec.name.ends_with("attn.qkv.weight") || spec.name.ends_with("attn.qkv.bias") {
            let scale = query_scale(encoder);
            values.chunks_exact_mut(3 * dim).for_each(|row| row.iter_mut().take(dim).for_each(|value| *value /= scale));
        }
        let tensor = match shape.as_slice() {
            &[inputs, outputs] => (vec![outputs, inputs], transpose(&values, outputs)),
            _ => (shape, values),
        };
        tensors.insert(spec.name, tensor);
    }
    let parameters = Parameters::encoder_from_tensors(&recipe, tensors).map_err(|error| error.in_checkpoint(path))?;
    Ok(EncoderWeights { parameters, recipe, seed: card.provenance.seeds.first().copied() })
}

/// `[in, out]` -> `[out, in]`.
fn transpose(values: &[f32], outputs: usize) -> Vec<f32> {
    (0..outputs).flat_map(|output| values.iter().skip(output).step_by(outputs.max(1)).copied()).collect()
}
