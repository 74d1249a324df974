//! The methods that are compared, each as its recipe brought to one small size: 64 x 64 pixels, the same encoder, the same decoder.

use anyhow::bail;
use foresee_models::{MemoryRecipe, Recipe, recipe_cost};

/// One row of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) source: Source,
}

/// Where a row's features come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    RawPixels,
    /// The encoder as it starts.
    Random,
    Trained {
        recipe: &'static str,
        latent: Latent,
    },
}

/// Whether a recipe keeps its latent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Latent {
    AsPublished,
    /// The deterministic twin: the future is predicted from the present frame alone.
    Removed,
}

pub(crate) const METHODS: &[Method] = &[
    Method { name: "raw pixels", source: Source::RawPixels },
    Method { name: "random encoder", source: Source::Random },
    trained("MAE", "mae"),
    trained("SiamMAE", "siam-mae"),
    trained("CropMAE", "crop-mae"),
    trained("RSP", "rsp"),
    trained("ToBo", "tobo"),
    Method { name: "RSP without latent", source: Source::Trained { recipe: "rsp", latent: Latent::Removed } },
];

const fn trained(name: &'static str, recipe: &'static str) -> Method {
    Method { name, source: Source::Trained { recipe, latent: Latent::AsPublished } }
}

/// The same for every method.
const PEAK_LEARNING_RATE: f64 = 1e-3;
pub(crate) const BATCH: usize = 8;

impl Method {
    /// The small recipe whose steps take this much compute.
    ///
    /// # Errors
    /// When nothing is trained, or the compute is not enough for a step.
    pub(crate) fn recipe(&self, tflop: f64) -> anyhow::Result<Recipe> {
        match self.source {
            Source::Trained { recipe, latent } => {
                let mut recipe = small_recipe(recipe, tflop)?;
                if latent == Latent::Removed {
                    remove_latent(&mut recipe);
                    set_steps(&mut recipe, tflop)?;
                }
                Ok(recipe)
            }
            Source::RawPixels | Source::Random => bail!("{}: is not trained", self.name),
        }
    }

    /// Whether its first term predicts all of a later frame.
    pub(crate) fn predicts_future(&self) -> bool {
        matches!(self.source, Source::Trained { recipe: "rsp", .. })
    }
}

/// A recipe that comes with the crate, at the small size, with the steps that this much compute affords.
///
/// # Errors
/// When there is no such recipe, or the compute is not enough for a step.
pub(crate) fn small_recipe(name: &str, tflop: f64) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::load(name)?;
    recipe.name = format!("{name}-small");
    let encoder = &mut recipe.encoder;
    (encoder.image_size, encoder.patch_size) = (64, 8);
    (encoder.dim, encoder.depth, encoder.heads, encoder.mlp_dim) = (96, 4, 3, 384);
    for decoder in recipe.decoders.values_mut() {
        (decoder.dim, decoder.depth, decoder.heads, decoder.mlp_dim) = (64, 2, 4, 256);
    }
    for encoding in &mut recipe.encodings {
        // Of 64 patches at least one must stay: 1.5 % of them is less.
        encoding.mask_ratio = encoding.mask_ratio.min(0.98);
    }
    recipe.data.stored_size = 96;
    // It saves decoding, and these frames lie in memory: every method takes as many samples a step.
    recipe.data.repeated_sampling = 1;
    recipe.optimiser.batch_size = BATCH;
    recipe.optimiser.base_learning_rate = PEAK_LEARNING_RATE * 256.0 / BATCH as f64;
    set_steps(&mut recipe, tflop)?;
    Ok(recipe)
}

fn set_steps(recipe: &mut Recipe, tflop: f64) -> anyhow::Result<()> {
    let step_tflop = recipe_cost(recipe).step_gflops * recipe.samples_per_step() as f64 / 1000.0;
    let steps = (tflop / step_tflop).round() as usize;
    if steps < 10 {
        bail!(
            "--compute {tflop}: recipe {} makes {steps} steps of it; give at least {:.2}",
            recipe.name,
            10.0 * step_tflop
        );
    }
    recipe.optimiser.steps = steps;
    recipe.optimiser.warm_up_steps = steps / 10;
    Ok(())
}

fn remove_latent(recipe: &mut Recipe) {
    recipe.name = format!("{}-without-latent", recipe.name);
    if let Some(latent) = recipe.latent.take() {
        // What only the posterior saw is not computed.
        recipe.encodings.retain(|encoding| encoding.name != latent.posterior);
    }
    for term in &mut recipe.terms {
        term.memory.retain(|part| !matches!(part, MemoryRecipe::Latent { .. }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_gets_the_same_compute_and_the_same_encoder() {
        let encoder = small_recipe("mae", 1.0).unwrap().encoder;
        let trained = METHODS.iter().filter(|method| matches!(method.source, Source::Trained { .. }));
        let mut num_trained = 0;
        for method in trained {
            let recipe = method.recipe(1.0).unwrap();
            let text = toml::to_string(&recipe).unwrap();
            Recipe::parse(method.name, &text).unwrap();
            assert_eq!(recipe.encoder, encoder, "{}", method.name);
            assert_eq!(recipe.samples_per_step(), BATCH, "{}", method.name);
            let tflop = recipe_cost(&recipe).step_gflops * (recipe.optimiser.steps * BATCH) as f64 / 1000.0;
            assert!((tflop - 1.0).abs() < 0.01, "{}: {tflop}", method.name);
            num_trained += 1;
        }
        assert_eq!(num_trained, 6);
        assert!(small_recipe("mae", 1e-6).unwrap_err().to_string().contains("--compute"));
        assert!(METHODS[0].recipe(1.0).is_err());
    }
}
