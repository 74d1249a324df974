//! A trained encoder in the training framework: what the exported file must reproduce.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use foresee_runtime::{EncoderInput, Features};

use crate::checkpoint::{Checkpoint, load_tensors};
use crate::error::ModelsError;
use crate::import::WEIGHTS_FORMAT;
use crate::method::{encode, read_values};
use crate::parameters::Parameters;
use crate::recipe::{EncoderRecipe, Recipe};
use crate::weights::Weights;

/// An encoder ready to run on the CPU device.
pub struct TrainedEncoder {
    encoder: EncoderRecipe,
    weights: Weights,
}

/// The encoder of a checkpoint or of imported weights.
///
/// # Errors
/// [`ModelsError`] when the file is not a checkpoint.
pub fn load_encoder(checkpoint: &Path) -> Result<TrainedEncoder, ModelsError> {
    let weights = EncoderWeights::load(checkpoint)?;
    Ok(TrainedEncoder::new(&weights.recipe, &weights.parameters))
}

/// An encoder's weights with the recipe that they are of.
#[derive(Clone, Debug, PartialEq)]
pub struct EncoderWeights {
    /// The method; only its encoder and normalisation matter here.
    pub recipe: Recipe,
    /// At least the encoder's.
    pub parameters: Parameters,
    /// The seed that it was trained with, if it was trained here.
    pub seed: Option<u64>,
}

impl EncoderWeights {
    /// From a checkpoint of `foresee pretrain` or a file of `foresee import`.
    ///
    /// # Errors
    /// [`ModelsError`] when the file is neither.
    pub fn load(path: &Path) -> Result<Self, ModelsError> {
        let (tensors, facts) = load_tensors(path)?;
        if facts.get("format").is_none_or(|format| format != WEIGHTS_FORMAT) {
            let Checkpoint { recipe, parameters, place, .. } = Checkpoint::load(path)?;
            return Ok(Self { recipe, parameters, seed: Some(place.seed) });
        }
        let recipe = Recipe::parse(&path.display().to_string(), facts.get("recipe").map_or("", String::as_str))?;
        let parameters = Parameters::encoder_from_tensors(&recipe, tensors)?;
        Ok(Self { recipe, parameters, seed: None })
    }
}

impl TrainedEncoder {
    /// An encoder with these weights.
    pub fn new(recipe: &Recipe, parameters: &Parameters) -> Self {
        Self { encoder: recipe.encoder.clone(), weights: Weights::upload(parameters, &Device::flex()) }
    }

    /// Features of whole images: tokens `[L, D]` after the final norm, class token `[D]` (the mean token where the method has none).
    ///
    /// # Errors
    /// [`ModelsError::Training`] when an input is not of the encoder's size.
    pub fn features(&self, inputs: &[EncoderInput]) -> Result<Vec<Features>, ModelsError> {
        let size = self.encoder.image_size;
        let mut values = Vec::with_capacity(inputs.len() * 3 * size * size);
        for input in inputs {
            if (input.width, input.height) != (size, size) || input.data.len() != 3 * size * size {
                let (width, height) = (input.width, input.height);
                return Err(ModelsError::Training(format!(
                    "input {width}x{height} is not of the encoder's {size}x{size}"
                )));
            }
            values.extend_from_slice(&input.data);
        }
        let images = TensorData::new(values, [inputs.len(), 3, size, size]);
        let images = Tensor::from_data(images, self.weights.device());
        let encoded = encode(&self.encoder, &self.weights, images, None)?;
        let [num_class_tokens, num_tokens, dim] =
            [self.encoder.num_class_tokens(), self.encoder.num_patches(), self.encoder.dim];
        let tokens = encoded.tokens.clone().narrow(1, num_class_tokens, num_tokens);
        let cls = if num_class_tokens == 1 {
            encoded.class_token()
        } else {
            tokens.clone().mean_dim(1).reshape([inputs.len(), dim])
        };
        let [tokens, cls] = [read_values(tokens.into_data())?, read_values(cls.into_data())?];
        let samples = tokens.chunks_exact(num_tokens * dim).zip(cls.chunks_exact(dim));
        let to_features =
            |(tokens, cls): (&[f32], &[f32])| Features { num_tokens, dim, tokens: tokens.to_vec(), cls: cls.to_vec() };
        Ok(samples.map(to_features).collect())
    }
}
