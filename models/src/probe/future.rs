//! How well a recipe's first term predicts a later frame: by the posterior's sample, the prior's, without a latent, and by the earlier
//! frame itself.

use burn::tensor::Device;
use foresee_runtime::{EncoderInput, Frame, Preprocessor};
use serde::{Deserialize, Serialize};

use crate::checkpoint::Checkpoint;
use crate::error::ModelsError;
use crate::method::{Draws, normalise_patches, patchify, read_values, run_method};
use crate::patches::patch_scale;
use crate::random::{Stream, generator};
use crate::recipe::{Recipe, TokensRecipe, ViewsKind};
use crate::step::{draw, to_views};
use crate::weights::Weights;

/// Samples of the prior whose predictions are averaged.
const NUM_PRIOR_SAMPLES: u64 = 8;
/// Pairs that go through the network at a time.
const BATCH: usize = 16;

/// Peak signal-to-noise ratios in decibels, of the mean squared error over all pairs. Predictions are of normalised patches and get the
/// target's own patch means and deviations back, all alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FuturePsnr {
    /// From the posterior's sample, which saw the later frame.
    pub posterior: Option<f64>,
    /// From one sample of the prior.
    pub prior: Option<f64>,
    /// The mean of eight predictions from the prior.
    pub prior_mean: Option<f64>,
    /// A recipe without a latent.
    pub deterministic: Option<f64>,
    /// The earlier frame in place of a prediction, brought to the later one's patch means and deviations as the predictions are.
    pub copy: f64,
}

/// Over pairs of an earlier and a later frame.
///
/// # Errors
/// [`ModelsError`] when the recipe's first term does not predict all of a later frame from an earlier one, or there is no pair.
pub fn future_psnr(checkpoint: &Checkpoint, pairs: &[[Frame; 2]], seed: u64) -> Result<FuturePsnr, ModelsError> {
    let recipe = &checkpoint.recipe;
    check(recipe, pairs.len())
        .map_err(|problem| ModelsError::Training(format!("recipe {}: {problem}", recipe.name)))?;
    let device = Device::flex();
    let weights = Weights::upload(&checkpoint.parameters, &device);
    let mut errors = [const { Vec::new() }; 4];
    for (part_idx, part) in pairs.chunks(BATCH).enumerate() {
        let batches = inputs(checkpoint, part)?;
        let views = to_views(batches, recipe, &device);
        let scene = Pairs { checkpoint, views: &views, scale: scales(checkpoint, &views)? };
        let sources = |sample: u64| -> Draws {
            let source = |idx| generator(seed, Stream::Preview, [(part_idx * BATCH + idx) as u64, 1 + sample]);
            draw(recipe, &mut (0..part.len()).map(source).collect::<Vec<_>>())
        };
        let predict = |sample: u64, samples_prior: bool| -> Result<Vec<f32>, ModelsError> {
            let draws = Draws { samples_prior, dropout: None, ..sources(sample) };
            let outcome = run_method(recipe, &weights, (&views, &draws))?;
            outcome.predictions.into_iter().next().map_or(Ok(Vec::new()), |patches| read_values(patches.into_data()))
        };
        errors[0].push(scene.error(&predict(0, false)?)?);
        if recipe.latent.is_some() {
            let first = predict(0, true)?;
            errors[1].push(scene.error(&first)?);
            let mut mean = first;
            for sample in 1..NUM_PRIOR_SAMPLES {
                mean.iter_mut().zip(predict(sample, true)?).for_each(|(sum, value)| *sum += value);
            }
            mean.iter_mut().for_each(|sum| *sum /= NUM_PRIOR_SAMPLES as f32);
            errors[2].push(scene.error(&mean)?);
        }
        let copied = views.first().cloned().ok_or_else(|| ModelsError::Training("no view".to_string()))?;
        let copied = normalise_patches(patchify(copied, recipe.encoder.patch_size));
        errors[3].push(scene.error(&read_values(copied.into_data())?)?);
    }
    let psnr = |errors: &[(f64, usize)]| {
        let (sum, count) = errors.iter().fold((0.0, 0), |(sum, count), part| (sum + part.0, count + part.1));
        (count > 0).then(|| -10.0 * (sum / count as f64).max(1e-12).log10())
    };
    let [first, prior, prior_mean, copy] = errors.each_ref().map(|errors| psnr(errors));
    let (posterior, deterministic) = if recipe.latent.is_some() { (first, None) } else { (None, first) };
    Ok(FuturePsnr { posterior, prior, prior_mean, deterministic, copy: copy.unwrap_or(f64::NAN) })
}

/// Whether the first term's prediction is the later frame, whole.
fn check(recipe: &Recipe, num_pairs: usize) -> Result<(), String> {
    let kind = recipe.views.kind;
    if kind != ViewsKind::FramePair {
        return Err(format!("views.kind is {kind:?}; only a frame pair has a later frame to predict"));
    }
    let term = recipe.terms.first().ok_or("has no term")?;
    if term.target_view != 1 || term.tokens != TokensRecipe::All {
        let (name, view, tokens) = (&term.name, term.target_view, term.tokens);
        return Err(format!(
            "terms.{name} predicts {tokens:?} of view {view}; for a future frame it must be all of view 1"
        ));
    }
    if !term.normalised {
        return Err(format!(
            "terms.{} predicts plain pixels; this measures predictions of normalised patches",
            term.name
        ));
    }
    if num_pairs == 0 { Err("there is no pair of frames".to_string()) } else { Ok(()) }
}

struct Pairs<'a> {
    checkpoint: &'a Checkpoint,
    views: &'a [burn::tensor::Tensor<4>],
    /// Deviation of each patch of the target.
    scale: Vec<f32>,
}

impl Pairs<'_> {
    /// Sum of squared errors in 0..1 pixels, and how many there are.
    fn error(&self, predicted: &[f32]) -> Result<(f64, usize), ModelsError> {
        let recipe = &self.checkpoint.recipe;
        let target = self.views.get(1).cloned().ok_or_else(|| ModelsError::Training("no later frame".to_string()))?;
        let target = read_values(normalise_patches(patchify(target, recipe.encoder.patch_size)).into_data())?;
        let per_patch = recipe.encoder.patch_values();
        let patches = predicted.chunks_exact(per_patch).zip(target.chunks_exact(per_patch)).zip(&self.scale);
        let mut sum = 0.0;
        for ((predicted, target), scale) in patches {
            for ((a, b), std) in predicted.iter().zip(target).zip(recipe.data.std.iter().cycle()) {
                sum += f64::from((a - b) * scale * std).powi(2);
            }
        }
        Ok((sum, predicted.len()))
    }
}

/// `[3, S, S]` of each frame, normalised: earlier ones, later ones.
fn inputs(checkpoint: &Checkpoint, pairs: &[[Frame; 2]]) -> Result<Vec<Vec<f32>>, ModelsError> {
    let size = checkpoint.recipe.encoder.image_size;
    let data = &checkpoint.recipe.data;
    let mut preprocessor = Preprocessor::new(&data.preprocessing(size))?;
    let mut input = EncoderInput::zeros(size, size);
    let mut batches = vec![Vec::new(); 2];
    for pair in pairs {
        for (frame, batch) in pair.iter().zip(&mut batches) {
            preprocessor.run(frame, &mut input)?;
            batch.extend_from_slice(&input.data);
        }
    }
    Ok(batches)
}

/// The unbiased deviation of each patch of the later frames.
fn scales(checkpoint: &Checkpoint, views: &[burn::tensor::Tensor<4>]) -> Result<Vec<f32>, ModelsError> {
    let encoder = &checkpoint.recipe.encoder;
    let Some(target) = views.get(1) else { return Ok(Vec::new()) };
    let values = read_values(patchify(target.clone(), encoder.patch_size).into_data())?;
    let scale = |patch: &[f32]| patch_scale(patch)[1];
    Ok(values.chunks_exact(encoder.patch_values()).map(scale).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_predicts_no_whole_later_frame_is_refused() {
        let check = |name: &str, wanted: &str| {
            let problem = check(&Recipe::load(name).expect("a recipe"), 1).expect_err(wanted);
            assert!(problem.contains(wanted), "{name}: {problem}");
        };
        check("mae-64", "views.kind is Single");
        check("crop-mae", "views.kind is NestedCrops");
        check("siam-mae", "predicts Hidden of view 1");
        let mut recipe = Recipe::load("rsp-64").expect("a recipe");
        assert!(super::check(&recipe, 1).is_ok() && super::check(&recipe, 0).is_err());
        recipe.terms[0].target_view = 0;
        assert!(super::check(&recipe, 1).is_err_and(|problem| problem.contains("All of view 0")));
    }
}
