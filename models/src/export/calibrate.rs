//! Weights made ready for 8 bits (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438, eq. 4): channels whose activations are large on the
//! calibration frames are divided, and the weights that take them multiplied, so that both lose little when they are rounded. What is
//! computed stays the same in f32.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use foresee_runtime::EncoderInput;

use crate::encoder::{EncoderWeights, TrainedEncoder};
use crate::error::ModelsError;
use crate::fused::gelu;
use crate::method::read_values;
use crate::parameters::{Parameter, Parameters};
use crate::recipe::EncoderRecipe;
use crate::weights::attend;

/// The share of the difficulty that moves to the weights (the paper's alpha).
const MOVED_SHARE: f32 = 0.5;
/// Channels that are smaller than this say nothing.
const LEAST_MAXIMUM: f32 = 1e-5;
/// Frames that go through the network at a time.
const BATCH: usize = 4;

/// Weights with the same function, easier to round.
pub(super) struct Smoothed {
    pub(super) parameters: Parameters,
    /// For layers whose input nothing before them could divide, what it is still to be divided by.
    pub(super) divisors: BTreeMap<String, Vec<f32>>,
}

/// Smooths every linear layer of every block by what `frames` give.
pub(super) fn smooth(
    weights: &EncoderWeights,
    trained: &TrainedEncoder,
    frames: &[EncoderInput],
) -> Result<Smoothed, ModelsError> {
    let maxima = input_maxima(&weights.recipe.encoder, trained, frames)?;
    let dim = weights.recipe.encoder.dim;
    let mut smoothed = Smoother {
        entries: weights.parameters.iter().map(|(name, parameter)| (name.to_string(), parameter.clone())).collect(),
    };
    let mut divisors = BTreeMap::new();
    for block_idx in 0..weights.recipe.encoder.depth {
        let block = format!("blocks.{block_idx}");
        for (norm, linear) in [("norm1", "attn.qkv"), ("norm2", "mlp.fc1")] {
            let by = smoothed.divisors(&format!("{block}.{linear}"), &maxima)?;
            smoothed.multiply_inputs(&format!("{block}.{linear}"), &by)?;
            for part in ["weight", "bias"] {
                smoothed.divide(&format!("{block}.{norm}.{part}"), &by, (0, 1))?;
            }
        }
        // What the heads mix is linear in the values: the last third of the fused weight's rows.
        let proj = format!("{block}.attn.proj");
        let by = smoothed.divisors(&proj, &maxima)?;
        smoothed.multiply_inputs(&proj, &by)?;
        smoothed.divide(&format!("{block}.attn.qkv.weight"), &by, (2 * dim, dim))?;
        smoothed.divide(&format!("{block}.attn.qkv.bias"), &by, (2 * dim, 1))?;
        let fc2 = format!("{block}.mlp.fc2");
        let by = smoothed.divisors(&fc2, &maxima)?;
        smoothed.multiply_inputs(&fc2, &by)?;
        divisors.insert(fc2, by);
    }
    Ok(Smoothed { parameters: Parameters::from_entries(smoothed.entries), divisors })
}

struct Smoother {
    entries: BTreeMap<String, Parameter>,
}

impl Smoother {
    /// `max|x|^a / max|w|^(1 - a)` of each input channel of a layer.
    fn divisors(&self, layer: &str, maxima: &BTreeMap<String, Vec<f32>>) -> Result<Vec<f32>, ModelsError> {
        let name = format!("{layer}.weight");
        let missing = || ModelsError::Tensor { name: name.clone(), problem: "is missing".to_string() };
        let weight = self.entries.get(&name).ok_or_else(missing)?;
        let inputs = maxima.get(layer).ok_or_else(missing)?;
        let mut largest = vec![0.0_f32; inputs.len()];
        for row in weight.values.chunks_exact(inputs.len().max(1)) {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
        }
        let divisor = |(input, weight): (&f32, f32)| {
            let [input, weight] = [input.max(LEAST_MAXIMUM), weight.max(LEAST_MAXIMUM)];
            (input.powf(MOVED_SHARE) / weight.powf(1.0 - MOVED_SHARE)).clamp(1e-3, 1e3)
        };
        Ok(inputs.iter().zip(largest).map(divisor).collect())
    }

    /// Multiplies the columns of `[out, in]`.
    fn multiply_inputs(&mut self, layer: &str, by: &[f32]) -> Result<(), ModelsError> {
        let weight = self.entry(&format!("{layer}.weight"))?;
        for row in weight.values.chunks_exact_mut(by.len().max(1)) {
            row.iter_mut().zip(by).for_each(|(value, by)| *value *= by);
        }
        Ok(())
    }

    /// Divides `by.len()` rows of `width` values from row `first` on, each by its own.
    fn divide(&mut self, name: &str, by: &[f32], (first, width): (usize, usize)) -> Result<(), ModelsError> {
        let parameter = self.entry(name)?;
        for (row, by) in parameter.values.chunks_exact_mut(width).skip(first).zip(by) {
            row.iter_mut().for_each(|value| *value /= by);
        }
        Ok(())
    }

    fn entry(&mut self, name: &str) -> Result<&mut Parameter, ModelsError> {
        let missing = || ModelsError::Tensor { name: name.to_string(), problem: "is missing".to_string() };
        self.entries.get_mut(name).ok_or_else(missing)
    }
}

/// The largest size of each input channel of each linear layer of the blocks.
fn input_maxima(
    encoder: &EncoderRecipe,
    trained: &TrainedEncoder,
    frames: &[EncoderInput],
) -> Result<BTreeMap<String, Vec<f32>>, ModelsError> {
    let mut maxima = BTreeMap::new();
    let mut note = |name: String, x: &Tensor<3>| -> Result<(), ModelsError> {
        let [_, _, channels] = x.dims();
        let values = read_values(x.clone().into_data())?;
        let largest: &mut Vec<f32> = maxima.entry(name).or_insert_with(|| vec![0.0; channels]);
        for row in values.chunks_exact(channels.max(1)) {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
        }
        Ok(())
    };
    let weights = trained.weights();
    let [size, dim, grid] = [encoder.image_size, encoder.dim, encoder.image_size / encoder.patch_size];
    for part in frames.chunks(BATCH) {
        let values: Vec<f32> = part.iter().flat_map(|input| input.data.iter().copied()).collect();
        let images = Tensor::from_data(TensorData::new(values, [part.len(), 3, size, size]), weights.device());
        let (mut x, rotations) = trained.embed_grid(images, [grid, grid])?;
        for block_idx in 0..encoder.depth {
            let block = format!("blocks.{block_idx}");
            let normed = weights.norm(&format!("{block}.norm1"), x.clone())?;
            note(format!("{block}.attn.qkv"), &normed)?;
            let fused = weights.linear(&format!("{block}.attn.qkv"), 3 * dim, normed)?;
            let mixed =
                attend([fused], encoder.heads, (rotations.as_ref().map(|[queries, keys]| [queries, keys]), None));
            note(format!("{block}.attn.proj"), &mixed)?;
            x = x + weights.linear(&format!("{block}.attn.proj"), dim, mixed)?;
            let normed = weights.norm(&format!("{block}.norm2"), x.clone())?;
            note(format!("{block}.mlp.fc1"), &normed)?;
            let hidden = gelu(weights.linear(&format!("{block}.mlp.fc1"), encoder.mlp_dim, normed)?);
            note(format!("{block}.mlp.fc2"), &hidden)?;
            x = x + weights.linear(&format!("{block}.mlp.fc2"), dim, hidden)?;
        }
    }
    Ok(maxima)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator, normals};
    use crate::recipe::Recipe;

    #[test]
    fn smoothing_changes_the_weights_and_not_the_function() {
        let mut recipe = Recipe::load("mae-64").expect("a recipe");
        (recipe.encoder.image_size, recipe.encoder.depth) = (32, 2);
        let parameters = Parameters::initialise(&recipe, 1);
        let trained = TrainedEncoder::new(&recipe, &parameters);
        let data = normals(&mut generator(2, Stream::Preview, [0, 0]), 3 * 32 * 32);
        let inputs = [EncoderInput { height: 32, width: 32, data }];
        let weights = EncoderWeights { recipe: recipe.clone(), parameters, seed: None };
        let Smoothed { mut parameters, divisors } = smooth(&weights, &trained, &inputs).expect("smooths");
        assert_eq!(divisors.keys().collect::<Vec<_>>(), ["blocks.0.mlp.fc2", "blocks.1.mlp.fc2"]);
        let before = weights.parameters.get("blocks.1.attn.qkv.weight").expect("a weight");
        assert_ne!(parameters.get("blocks.1.attn.qkv.weight").expect("a weight"), before);
        // The training framework has no place for the last divisors: they go back into the weights.
        for (layer, by) in &divisors {
            for (name, parameter) in parameters.iter_mut() {
                if name == format!("{layer}.weight") {
                    parameter.values.chunks_exact_mut(by.len()).for_each(|row| {
                        row.iter_mut().zip(by).for_each(|(value, by)| *value /= by);
                    });
                }
            }
        }
        let [wanted, found] = [&weights.parameters, &parameters]
            .map(|parameters| TrainedEncoder::new(&recipe, parameters).features(&inputs).expect("features"));
        let worst = wanted[0].tokens.iter().zip(&found[0].tokens).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }
}
