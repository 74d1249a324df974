//! A discrete latent between two views: prior, posterior, straight-through sample, balanced divergence (RSP, section 3.2; the
//! sampling is DreamerV2's).

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Tensor, TensorData};

use super::{Draws, Encoded, LatentDraw};
use crate::error::ModelsError;
use crate::recipe::{LatentRecipe, Recipe};
use crate::weights::Weights;

/// The latent of one batch.
pub(crate) struct Latent {
    /// `[N, groups * classes]`: the posterior's sample (or the prior's, if asked), one-hot, with its gradient.
    pub(crate) sample: Tensor<2>,
    /// Balanced divergence in nats, batch mean.
    pub(crate) kl: Tensor<1>,
    /// The same with the free nats: no gradient below them.
    pub(crate) kl_loss: Tensor<1>,
    /// Its weight in the loss.
    pub(crate) kl_weight: f64,
    /// `[N, groups, classes]`.
    pub(crate) posterior_logits: Tensor<3>,
    /// `[N, groups, classes]`.
    pub(crate) prior_logits: Tensor<3>,
}

/// Runs the latent of a recipe, if it has one.
pub(super) fn run_latent(
    recipe: &Recipe,
    weights: &Weights,
    encodings: &[Encoded],
    draws: &Draws,
) -> Result<Option<Latent>, ModelsError> {
    let Some(latent) = &recipe.latent else { return Ok(None) };
    let class_token = |name: &str| {
        let encoded = recipe.encoding_idx(name).and_then(|idx| encodings.get(idx));
        encoded.map(Encoded::class_token).ok_or_else(|| ModelsError::Training(format!("encoding {name} is missing")))
    };
    let [source, target] = [class_token(&latent.prior)?, class_token(&latent.posterior)?];
    let widths = [2 * recipe.encoder.dim, latent.groups * latent.classes];
    let both = Tensor::cat(vec![source.clone(), target], 1);
    let posterior_logits = grouped(weights.relu_mlp("to_posterior", widths, both)?, latent);
    let prior_logits = grouped(weights.relu_mlp("to_prior", widths, source)?, latent);
    let logits = if draws.samples_prior { &prior_logits } else { &posterior_logits };
    let sample = straight_through(logits, &draws.latent)?;
    let (kl, kl_loss) = balanced_kl(&posterior_logits, &prior_logits, latent);
    let [num_samples, groups, classes] = sample.dims();
    let sample = sample.reshape([num_samples, groups * classes]);
    Ok(Some(Latent { sample, kl, kl_loss, kl_weight: latent.kl_weight, posterior_logits, prior_logits }))
}

/// The balanced divergence (batch mean) and what of it is minimised: `max(kl, free nats)`, clamped after the mean, so that its
/// gradient is exactly 0 below.
pub(crate) fn balanced_kl(posterior: &Tensor<3>, prior: &Tensor<3>, latent: &LatentRecipe) -> (Tensor<1>, Tensor<1>) {
    let moving_posterior = kl_divergence(posterior.clone(), prior.clone().detach());
    let moving_prior = kl_divergence(posterior.clone().detach(), prior.clone());
    let kl = moving_posterior.mul_scalar(latent.kl_posterior_share)
        + moving_prior.mul_scalar(1.0 - latent.kl_posterior_share);
    (kl.clone(), kl.clamp_min(latent.kl_free_nats))
}

/// `onehot(class) + p - stop_gradient(p)`: the value of the sample, the gradient of the probabilities.
pub(crate) fn straight_through(logits: &Tensor<3>, draw: &LatentDraw) -> Result<Tensor<3>, ModelsError> {
    let [num_samples, groups, classes] = logits.dims();
    let probabilities = softmax(logits.clone(), 2);
    let chosen = match draw {
        LatentDraw::Classes(chosen) => chosen.clone(),
        LatentDraw::Uniforms(draws) => {
            let values = read_values(probabilities.clone().detach().into_data())?;
            values.chunks_exact(classes).zip(draws).map(|(row, draw)| choose(row, *draw)).collect()
        }
        LatentDraw::Absent => Vec::new(),
    };
    if chosen.len() != num_samples * groups || chosen.iter().any(|&class| class >= classes) {
        return Err(ModelsError::Training(format!("the latent needs {num_samples} x {groups} draws below {classes}")));
    }
    let mut one_hot = vec![0.0_f32; num_samples * groups * classes];
    for (row, class) in one_hot.chunks_exact_mut(classes).zip(chosen) {
        if let Some(value) = row.get_mut(class) {
            *value = 1.0;
        }
    }
    let one_hot = Tensor::from_data(TensorData::new(one_hot, [num_samples, groups, classes]), &logits.device().inner());
    Ok((probabilities.clone() - probabilities.detach()) + one_hot)
}

/// f32 values of a tensor's data.
pub(crate) fn read_values(data: TensorData) -> Result<Vec<f32>, ModelsError> {
    data.try_into_vec::<f32>().map_err(|error| ModelsError::Training(format!("tensor data: {error:?}")))
}

fn grouped(logits: Tensor<2>, latent: &LatentRecipe) -> Tensor<3> {
    let [num_samples, _] = logits.dims();
    logits.reshape([num_samples, latent.groups, latent.classes])
}

/// `mean over the batch, sum over the groups, of sum p (log p - log q)`.
fn kl_divergence(p_logits: Tensor<3>, q_logits: Tensor<3>) -> Tensor<1> {
    let [num_samples, ..] = p_logits.dims();
    let log_p = log_softmax(p_logits.clone(), 2);
    let log_q = log_softmax(q_logits, 2);
    (softmax(p_logits, 2) * (log_p - log_q)).sum().div_scalar(num_samples as f64)
}

/// The first class at which the cumulative probability passes the draw.
fn choose(probabilities: &[f32], draw: f32) -> usize {
    let mut sum = 0.0;
    let passed = probabilities.iter().position(|probability| {
        sum += probability;
        draw < sum
    });
    passed.unwrap_or(probabilities.len().saturating_sub(1))
}
