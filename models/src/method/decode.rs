//! One term of a recipe: queries and memory into a decoder, its prediction, its loss.

use burn::tensor::{Tensor, TensorData};

use super::latent::Latent;
use super::{Draws, Encoded, by_slices, normalise_patches, patchify, rotation_of, row_indices};
use crate::blocks::{Dropout, StackShape, run_blocks};
use crate::error::ModelsError;
use crate::mask::HIDDEN;
use crate::parameters::mask_token_name;
use crate::recipe::{DecoderRecipe, MemoryRecipe, Positions, QueriesRecipe, Recipe, TermRecipe, TokensRecipe};
use crate::weights::Weights;

/// The loss of one term before its weight, and its prediction `[N, L, 3pp]`.
pub(super) fn run_term(
    (recipe, term): (&Recipe, &TermRecipe),
    weights: &Weights,
    (encodings, latent, draws): (&[Encoded], Option<&Latent>, &Draws),
    views: &[Tensor<4>],
) -> Result<(Tensor<1>, Tensor<3>), ModelsError> {
    let decoder = recipe.decoders.get(&term.decoder).ok_or_else(|| missing(&term.decoder))?;
    let part = Decoding { recipe, decoder, name: &term.decoder, weights, encodings };
    let queries = match &term.queries {
        QueriesRecipe::Filled { encoding, embed, class_token_of } => {
            part.filled(part.encoded(encoding)?, embed, class_token_of.as_deref())?
        }
        QueriesRecipe::MaskTokens => part.mask_tokens()?,
    };
    let mut parts = Vec::with_capacity(term.memory.len());
    for memory in &term.memory {
        parts.push(part.memory(memory, latent)?);
    }
    let memory = if parts.len() > 1 { Some(Tensor::cat(parts, 1)) } else { parts.pop() };
    let rotations = (recipe.encoder.positions == Positions::Rope100).then(|| {
        let turn = rotation_of(&recipe.encoder, None, decoder.dim / decoder.heads, weights.device());
        [turn.clone(), turn]
    });
    let dropout = draws.dropout.filter(|_| decoder.dropout > 0.0).map(|seed| Dropout::new(decoder.dropout, seed));
    let shape = StackShape { depth: decoder.depth, heads: decoder.heads, mlp_dim: decoder.mlp_dim, rotations, dropout };
    let prefix = format!("{}_blocks", term.decoder);
    let x = run_blocks(weights, (&prefix, decoder.block, shape), queries, memory.as_ref())?;
    let x = weights.norm(&format!("{}_norm", term.decoder), x)?;
    let encoder = &recipe.encoder;
    let x = x.narrow(1, encoder.num_class_tokens(), encoder.num_patches());
    let prediction = weights.linear(&format!("{}_pred", term.decoder), encoder.patch_values(), x)?;
    let view = views.get(term.target_view).ok_or_else(|| missing(&term.name))?;
    let target = by_slices(view.clone(), encoder, patchify);
    let target = if term.normalised { normalise_patches(target) } else { target };
    let errors = (prediction.clone() - target).square().mean_dim(2);
    let loss = match term.tokens {
        TokensRecipe::All => errors.mean(),
        TokensRecipe::Hidden => part.mean_over_hidden(errors, term.target_view)?,
    };
    Ok((loss, prediction))
}

struct Decoding<'a> {
    recipe: &'a Recipe,
    decoder: &'a DecoderRecipe,
    name: &'a str,
    weights: &'a Weights,
    encodings: &'a [Encoded],
}

impl Decoding<'_> {
    fn encoded(&self, name: &str) -> Result<&Encoded, ModelsError> {
        self.recipe.encoding_idx(name).and_then(|idx| self.encodings.get(idx)).ok_or_else(|| missing(name))
    }

    fn num_samples(&self) -> usize {
        self.encodings.first().map_or(0, |encoded| encoded.tokens.dims()[0])
    }

    fn num_tokens(&self) -> usize {
        self.recipe.encoder.num_patches() + self.recipe.encoder.num_class_tokens()
    }

    /// `[1, T, C]`, or nothing with rotary positions.
    fn positions(&self) -> Result<Option<Tensor<3>>, ModelsError> {
        match self.recipe.encoder.positions {
            Positions::SinCos => {
                let shape = [1, self.num_tokens(), self.decoder.dim];
                self.weights.get(&format!("{}_pos_embed", self.name), shape).map(Some)
            }
            Positions::Rope100 => Ok(None),
        }
    }

    fn add_positions(&self, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        Ok(match self.positions()? {
            Some(positions) => x + positions,
            None => x,
        })
    }

    fn mask_token(&self) -> Result<Tensor<3>, ModelsError> {
        self.weights.get(&mask_token_name(self.name), [1, 1, self.decoder.dim])
    }

    fn mask_tokens(&self) -> Result<Tensor<3>, ModelsError> {
        let shape = [self.num_samples(), self.num_tokens(), self.decoder.dim];
        self.add_positions(self.mask_token()?.expand(shape))
    }

    /// Class token first, visible tokens at their places, the mask token elsewhere; one gather over all rows.
    fn filled(&self, encoded: &Encoded, embed: &str, class_token_of: Option<&str>) -> Result<Tensor<3>, ModelsError> {
        let dim = self.decoder.dim;
        let embedded = self.weights.linear(embed, dim, encoded.tokens.clone())?;
        let [num_samples, num_seen, _] = embedded.dims();
        let num_class_tokens = self.recipe.encoder.num_class_tokens();
        let mask_row = num_samples * num_seen;
        let mut tables = vec![embedded.reshape([mask_row, dim]), self.mask_token()?.reshape([1, dim])];
        if let Some(other) = class_token_of {
            tables.push(self.weights.linear(embed, dim, self.encoded(other)?.class_token())?);
        }
        let mut rows = Vec::with_capacity(num_samples * self.num_tokens());
        for sample in 0..num_samples {
            let first = sample * num_seen;
            if num_class_tokens == 1 {
                rows.push(if class_token_of.is_some() { mask_row + 1 + sample } else { first });
            }
            let num_patches = self.recipe.encoder.num_patches();
            rows.extend((0..num_patches).map(|patch| match &encoded.mask {
                None => first + num_class_tokens + patch,
                Some(mask) => match mask.places.get(sample * num_patches + patch) {
                    Some(&place) if place != HIDDEN => first + num_class_tokens + place,
                    _ => mask_row,
                },
            }));
        }
        let table = Tensor::cat(tables, 0);
        let indices = row_indices(&rows, self.weights.device());
        self.add_positions(table.select(0, indices).reshape([num_samples, self.num_tokens(), dim]))
    }

    fn memory(&self, part: &MemoryRecipe, latent: Option<&Latent>) -> Result<Tensor<3>, ModelsError> {
        match part {
            MemoryRecipe::Tokens { encoding, embed, positions } => {
                let tokens = self.encoded(encoding)?.tokens.clone();
                let embedded = self.weights.linear(embed, self.decoder.dim, tokens)?;
                if *positions { self.add_positions(embedded) } else { Ok(embedded) }
            }
            MemoryRecipe::Filled { encoding, embed } => self.filled(self.encoded(encoding)?, embed, None),
            MemoryRecipe::Latent { embed } => {
                let sample = latent.ok_or_else(|| missing("latent"))?.sample.clone();
                let [num_samples, _] = sample.dims();
                let token = self.weights.linear(embed, self.decoder.dim, sample)?;
                Ok(token.reshape([num_samples, 1, self.decoder.dim]))
            }
        }
    }

    /// `errors` `[N, L, 1]`, averaged over the hidden patches of the whole batch.
    fn mean_over_hidden(&self, errors: Tensor<3>, view: usize) -> Result<Tensor<1>, ModelsError> {
        let encoded = self.recipe.masked_encoding_idx(view).and_then(|idx| self.encodings.get(idx));
        let mask = encoded.and_then(|encoded| encoded.mask.as_ref()).ok_or_else(|| missing("mask"))?;
        let hidden = mask.hidden();
        let num_hidden: f32 = hidden.iter().sum();
        let shape = [mask.num_samples(), mask.num_patches, 1];
        let hidden = Tensor::from_data(TensorData::new(hidden, shape), self.weights.device());
        Ok((errors * hidden).sum().div_scalar(num_hidden.max(1.0)))
    }
}

fn missing(name: &str) -> ModelsError {
    ModelsError::Training(format!("{name} is missing from this step"))
}
