//! What a recipe computes: encodings of the views, decoders over them, weighted losses.

mod decode;
mod latent;

use burn::tensor::{Device, Int, Tensor, TensorData};

use self::decode::run_term;
use self::latent::run_latent;
pub(crate) use self::latent::{Latent, balanced_kl, read_values, straight_through};
use crate::blocks::{StackShape, run_blocks};
use crate::error::ModelsError;
use crate::fused::linear;
use crate::mask::Mask;
use crate::positions::Rotation;
use crate::recipe::{BlockKind, EncoderRecipe, EncodingRecipe, Positions, Recipe};
use crate::weights::Weights;

/// Added to the variance of a patch of the target.
const TARGET_EPSILON: f64 = 1e-6;

/// The random draws of one batch; whoever injects them decides what the step computes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draws {
    /// For each encoding, its mask if it has one.
    pub(crate) masks: Vec<Option<Mask>>,
    /// For each encoding, standard normal noise `[N, 3, S, S]` if it takes any.
    pub(crate) noises: Vec<Option<Vec<f32>>>,
    /// How the latent is sampled, if there is one.
    pub(crate) latent: LatentDraw,
    /// Seed of what decoders drop; none in evaluation.
    pub(crate) dropout: Option<u64>,
    /// Whether the latent comes from the prior: what the method predicts without having seen the future.
    pub(crate) samples_prior: bool,
}

/// How the classes of the latent are chosen.
#[derive(Clone, Debug, Default)]
pub(crate) enum LatentDraw {
    /// There is no latent.
    #[default]
    Absent,
    /// `[N, groups]` uniform draws, turned into classes by the posterior's distribution.
    Uniforms(Vec<f32>),
    /// `[N, groups]` classes.
    Classes(Vec<usize>),
}

/// What one batch gave.
pub(crate) struct Outcome {
    /// The weighted sum, what is minimised.
    pub(crate) total: Tensor<1>,
    /// Each term before its weight, by name; the divergence is `kl`.
    pub(crate) terms: Vec<(String, Tensor<1>)>,
    /// For each term of the recipe, the predicted patches `[N, L, 3pp]`.
    pub(crate) predictions: Vec<Tensor<3>>,
    /// The recipe's latent, if it has one.
    pub(crate) latent: Option<Latent>,
}

/// One call of the encoder.
pub(crate) struct Encoded {
    /// `[N, class tokens + visible, D]` after the final norm.
    pub(crate) tokens: Tensor<3>,
    /// What was hidden, if anything.
    pub(crate) mask: Option<Mask>,
}

impl Encoded {
    /// `[N, D]`; the recipe was checked to have a class token.
    pub(crate) fn class_token(&self) -> Tensor<2> {
        let [num_samples, _, dim] = self.tokens.dims();
        self.tokens.clone().narrow(1, 0, 1).reshape([num_samples, dim])
    }
}

/// The losses of `views` (each `[N, 3T, S, S]`, normalised) under `draws`.
pub(crate) fn run_method(
    recipe: &Recipe,
    weights: &Weights,
    (views, draws): (&[Tensor<4>], &Draws),
) -> Result<Outcome, ModelsError> {
    let mut encodings = Vec::with_capacity(recipe.encodings.len());
    for (encoding_idx, encoding) in recipe.encodings.iter().enumerate() {
        let view = views
            .get(encoding.view)
            .ok_or_else(|| ModelsError::Training(format!("view {} is missing", encoding.view)))?;
        let noise = draws.noises.get(encoding_idx).and_then(Option::as_deref);
        let image = add_noise(view.clone(), noise, encoding);
        let mask = draws.masks.get(encoding_idx).cloned().flatten();
        encodings.push(encode(&recipe.encoder, weights, image, mask)?);
    }
    let latent = run_latent(recipe, weights, &encodings, draws)?;
    let mut total: Option<Tensor<1>> = None;
    let mut add = |loss: Tensor<1>| {
        total = Some(match total.take() {
            Some(total) => total + loss,
            None => loss,
        });
    };
    let mut terms = Vec::new();
    let mut predictions = Vec::new();
    for term in &recipe.terms {
        let (loss, prediction) = run_term((recipe, term), weights, (&encodings, latent.as_ref(), draws), views)?;
        add(loss.clone().mul_scalar(term.weight));
        terms.push((term.name.clone(), loss));
        predictions.push(prediction);
    }
    if let Some(latent) = &latent {
        add(latent.kl_loss.clone().mul_scalar(latent.kl_weight));
        terms.push(("kl".to_string(), latent.kl.clone()));
    }
    let total = total.ok_or_else(|| ModelsError::Training("the recipe has no term".to_string()))?;
    Ok(Outcome { total, terms, predictions, latent })
}

/// One call of the encoder: `image` `[N, 3, S, S]` -> `[N, class tokens + visible, D]`.
pub(crate) fn encode(
    encoder: &EncoderRecipe,
    weights: &Weights,
    image: Tensor<4>,
    mask: Option<Mask>,
) -> Result<Encoded, ModelsError> {
    let [num_samples, ..] = image.dims();
    let [dim, num_patches] = [encoder.dim, encoder.num_patches()];
    let num_class_tokens = encoder.num_class_tokens();
    let mut patches = by_slices(image, encoder, patches_in_filter_order);
    let mut positions = match encoder.positions {
        Positions::SinCos => {
            let table = weights.get("pos_embed", [num_patches + num_class_tokens, dim])?;
            Some(table.narrow(0, num_class_tokens, num_patches).unsqueeze::<3>())
        }
        Positions::Rope100 => None,
    };
    if let Some(mask) = &mask {
        // Hidden patches are dropped before the embedding: the same values as after it, for a quarter of the work.
        patches = select_rows(patches, &sample_rows(mask, true));
        let shape = [num_samples, mask.num_visible, dim];
        positions = positions.map(|table| select_rows(table, &sample_rows(mask, false)).reshape(shape));
        patches = patches.reshape([num_samples, mask.num_visible, encoder.patch_values()]);
    }
    let weight = weights.get("patch_embed.proj.weight", [dim, encoder.patch_values()])?;
    let bias = weights.get("patch_embed.proj.bias", [dim])?;
    let mut x = linear(patches, weight, bias);
    if let Some(positions) = positions {
        x = x + positions;
    }
    if encoder.class_token {
        // The class token's own position is the zero row of the table.
        let class_token = weights.get("cls_token", [1, 1, dim])?.expand([num_samples, 1, dim]);
        x = Tensor::cat(vec![class_token, x], 1);
    }
    let rotation = (encoder.positions == Positions::Rope100).then(|| {
        let head_dim = encoder.dim / encoder.heads;
        let visible = mask.as_ref().map(|mask| (mask.visible.as_slice(), mask.num_visible));
        rotation_of(encoder, visible, head_dim, weights.device())
    });
    let rotations = rotation.map(|rotation| [rotation.clone(), rotation]);
    let shape =
        StackShape { depth: encoder.depth, heads: encoder.heads, mlp_dim: encoder.mlp_dim, rotations, dropout: None };
    let x = run_blocks(weights, ("blocks", BlockKind::SelfOnly, shape), x, None)?;
    Ok(Encoded { tokens: weights.norm("norm", x)?, mask })
}

/// The turn of the visible patches, or of all.
pub(crate) fn rotation_of(
    encoder: &EncoderRecipe,
    visible: Option<(&[usize], usize)>,
    head_dim: usize,
    device: &Device,
) -> Rotation {
    let columns = encoder.image_size / encoder.patch_size;
    let all: Vec<usize> = (0..encoder.num_patches()).collect();
    Rotation::new(visible.unwrap_or((&all, all.len())), [columns, head_dim], device)
}

/// `[N, 3, S, S]` -> `[N, L, 3pp]`, inside a patch channel, row, column: the order of a convolution's filter.
pub(crate) fn patches_in_filter_order(image: Tensor<4>, patch: usize) -> Tensor<3> {
    let [num_samples, channels, height, width] = image.dims();
    let [rows, columns] = [height / patch, width / patch];
    let grid = image.reshape([num_samples, channels, rows, patch, columns, patch]);
    grid.permute([0, 2, 4, 1, 3, 5]).reshape([num_samples, rows * columns, channels * patch * patch])
}

/// `[N, 3, S, S]` -> `[N, L, 3pp]`, inside a patch row, column, channel: the order of targets and predictions (MAE's `patchify`).
pub(crate) fn patchify(image: Tensor<4>, patch: usize) -> Tensor<3> {
    let [num_samples, channels, height, width] = image.dims();
    let [rows, columns] = [height / patch, width / patch];
    let grid = image.reshape([num_samples, channels, rows, patch, columns, patch]);
    grid.permute([0, 2, 4, 3, 5, 1]).reshape([num_samples, rows * columns, patch * patch * channels])
}

/// Cuts each slice of `[N, 3T, S, S]` into patches: `[N, L, 3tpp]`, slice after slice.
fn by_slices(clip: Tensor<4>, encoder: &EncoderRecipe, cut: fn(Tensor<4>, usize) -> Tensor<3>) -> Tensor<3> {
    if encoder.num_slices() == 1 {
        return cut(clip, encoder.patch_size);
    }
    let [num_samples, channels, height, width] = clip.dims();
    let num_slices = encoder.num_slices();
    let slices = clip.reshape([num_samples * num_slices, channels / num_slices, height, width]);
    let patches = cut(slices, encoder.patch_size);
    let [_, per_slice, values] = patches.dims();
    patches.reshape([num_samples, num_slices * per_slice, values])
}

/// Patches normalised one by one with the unbiased variance: `(x - mean) / sqrt(var + 1e-6)`.
pub(crate) fn normalise_patches(patches: Tensor<3>) -> Tensor<3> {
    let [_, _, count] = patches.dims();
    let centred = patches.clone() - patches.mean_dim(2);
    let variance = centred.clone().square().sum_dim(2).div_scalar(count.saturating_sub(1).max(1) as f64);
    centred / variance.add_scalar(TARGET_EPSILON).sqrt()
}

/// Rows of `x` `[N, T, C]` as if it were `[N T, C]` -> `[1, rows, C]`.
pub(crate) fn select_rows(x: Tensor<3>, rows: &[usize]) -> Tensor<3> {
    let [num_samples, num_tokens, dim] = x.dims();
    let indices = row_indices(rows, &x.device().inner());
    x.reshape([num_samples * num_tokens, dim]).select(0, indices).unsqueeze::<3>()
}

/// Row numbers as a tensor.
pub(crate) fn row_indices(rows: &[usize], device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

/// The visible patches as rows of `[N L, C]` (`of_batch`) or of one table `[L, C]`.
fn sample_rows(mask: &Mask, of_batch: bool) -> Vec<usize> {
    let stride = if of_batch { mask.num_patches } else { 0 };
    let num_visible = mask.num_visible.max(1);
    mask.visible.iter().enumerate().map(|(idx, &patch)| idx / num_visible * stride + patch).collect()
}

fn add_noise(view: Tensor<4>, noise: Option<&[f32]>, encoding: &EncodingRecipe) -> Tensor<4> {
    match noise {
        Some(noise) => {
            let noise = Tensor::from_data(TensorData::new(noise.to_vec(), view.dims()), &view.device());
            view + noise.mul_scalar(encoding.noise)
        }
        None => view,
    }
}
