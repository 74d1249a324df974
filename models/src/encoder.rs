//! A trained encoder in the training framework: what the exported file must reproduce.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use foresee_runtime::{EncoderInput, Features};

use crate::blocks::{StackShape, run_blocks};
use crate::checkpoint::{Checkpoint, load_tensors};
use crate::error::ModelsError;
use crate::export::weights_of_onnx;
use crate::fused::linear;
use crate::import::WEIGHTS_FORMAT;
use crate::method::{patches_in_filter_order, read_values};
use crate::parameters::Parameters;
use crate::positions::{Rotation, Stretch, interpolate_positions};
use crate::recipe::{BlockKind, EncoderRecipe, Positions, Recipe};
use crate::weights::Weights;

/// An encoder ready to run on the CPU device.
pub struct TrainedEncoder {
    encoder: EncoderRecipe,
    weights: Weights,
    /// The position table as it was trained; empty with rotary positions.
    positions: Vec<f32>,
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
    /// From a checkpoint of `foresee pretrain`, a file of `foresee import`, or an f32 ONNX file of `foresee export encoder` with its card.
    ///
    /// # Errors
    /// [`ModelsError`] when the file is none of them.
    pub fn load(path: &Path) -> Result<Self, ModelsError> {
        if path.extension().is_some_and(|extension| extension == "onnx") {
            return weights_of_onnx(path);
        }
        let (tensors, facts) = load_tensors(path).map_err(|error| match error {
            ModelsError::Checkpoint { path, problem } => {
                let fix = "give what foresee pretrain, foresee import or foresee export encoder wrote";
                ModelsError::Checkpoint { path, problem: format!("{problem}; {fix}") }
            }
            other => other,
        })?;
        if facts.get("format").is_none_or(|format| format != WEIGHTS_FORMAT) {
            let Checkpoint { recipe, parameters, place, .. } = Checkpoint::load(path)?;
            return Ok(Self { recipe, parameters, seed: Some(place.seed) });
        }
        let recipe = Recipe::parse(&path.display().to_string(), facts.get("recipe").map_or("", String::as_str))?;
        let parameters =
            Parameters::encoder_from_tensors(&recipe, tensors).map_err(|error| error.in_checkpoint(path))?;
        Ok(Self { recipe, parameters, seed: None })
    }
}

/// Features of some images of one size, patch by patch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GridFeatures {
    /// Patches down.
    pub rows: usize,
    /// Patches across.
    pub columns: usize,
    /// Values of one patch.
    pub dim: usize,
    /// `[T, rows * columns, dim]`, row-major, after the final norm.
    pub tokens: Vec<f32>,
    /// `[T, dim]`: the class token after the final norm, the mean token where the method has none; empty where there is neither.
    pub cls: Vec<f32>,
}

impl TrainedEncoder {
    /// An encoder with these weights.
    pub fn new(recipe: &Recipe, parameters: &Parameters) -> Self {
        let positions = parameters.get("pos_embed").map_or_else(|_| Vec::new(), |table| table.values.clone());
        Self { encoder: recipe.encoder.clone(), weights: Weights::upload(parameters, &Device::flex()), positions }
    }

    /// Features of whole images: tokens `[L, D]` after the final norm, class token `[D]` (the mean token where the method has none).
    ///
    /// # Errors
    /// [`ModelsError::Training`] when an input is not of the encoder's size.
    pub fn features(&self, inputs: &[EncoderInput]) -> Result<Vec<Features>, ModelsError> {
        let size = self.encoder.image_size;
        if let Some(input) = inputs.iter().find(|input| (input.width, input.height) != (size, size)) {
            let (width, height) = (input.width, input.height);
            let problem = format!("input {width}x{height} is not of the encoder's {size}x{size}");
            return Err(ModelsError::Training(problem));
        }
        let GridFeatures { dim, tokens, cls, .. } = self.grid_features(inputs)?;
        let num_tokens = self.encoder.num_patches();
        let samples = tokens.chunks_exact(num_tokens * dim).zip(cls.chunks_exact(dim));
        let to_features =
            |(tokens, cls): (&[f32], &[f32])| Features { num_tokens, dim, tokens: tokens.to_vec(), cls: cls.to_vec() };
        Ok(samples.map(to_features).collect())
    }

    /// Features of images of any one size that the patches divide; a position table of another grid is stretched as DINO does.
    ///
    /// # Errors
    /// [`ModelsError::Training`] when the sizes differ or the patch does not divide them.
    pub fn grid_features(&self, inputs: &[EncoderInput]) -> Result<GridFeatures, ModelsError> {
        let [dim, patch] = [self.encoder.dim, self.encoder.patch_size];
        let Some(first) = inputs.first() else { return Ok(GridFeatures { dim, ..GridFeatures::default() }) };
        let [height, width] = [first.height, first.width];
        let mut values = Vec::with_capacity(inputs.len() * 3 * height * width);
        for input in inputs {
            let is_whole = input.height.is_multiple_of(patch) && input.width.is_multiple_of(patch);
            if [input.height, input.width] != [height, width] || input.data.len() != 3 * height * width || !is_whole {
                let problem = format!(
                    "input {}x{} must be as large as the first, {width}x{height}, in whole patches of {patch}",
                    input.width, input.height
                );
                return Err(ModelsError::Training(problem));
            }
            values.extend_from_slice(&input.data);
        }
        let images = TensorData::new(values, [inputs.len(), 3, height, width]);
        let [rows, columns] = [height / patch, width / patch];
        let encoded = self.encode_grid(Tensor::from_data(images, self.weights.device()), [rows, columns])?;
        let tokens = encoded.clone().narrow(1, self.encoder.num_class_tokens(), rows * columns);
        let cls = if self.encoder.class_token { encoded.narrow(1, 0, 1) } else { tokens.clone().mean_dim(1) };
        let [tokens, cls] = [read_values(tokens.into_data())?, read_values(cls.into_data())?];
        Ok(GridFeatures { rows, columns, dim, tokens, cls })
    }

    /// `[N, 3, H, W]` -> `[N, class tokens + rows * columns, D]`: what `encode` computes, on any grid.
    fn encode_grid(&self, images: Tensor<4>, grid: [usize; 2]) -> Result<Tensor<3>, ModelsError> {
        let (x, rotations) = self.embed_grid(images, grid)?;
        let EncoderRecipe { depth, heads, mlp_dim, .. } = self.encoder;
        let shape = StackShape { depth, heads, mlp_dim, rotations, dropout: None };
        self.weights.norm("norm", run_blocks(&self.weights, ("blocks", BlockKind::SelfOnly, shape), x, None)?)
    }

    /// What the first block sees, and the turns of rotary positions.
    pub(crate) fn embed_grid(
        &self,
        images: Tensor<4>,
        [rows, columns]: [usize; 2],
    ) -> Result<(Tensor<3>, Option<[Rotation; 2]>), ModelsError> {
        let Self { encoder, weights, .. } = self;
        if encoder.frames > 1 {
            let frames = encoder.frames;
            return Err(ModelsError::Training(format!(
                "the encoder sees clips of {frames} frames; images have one each"
            )));
        }
        let [num_samples, ..] = images.dims();
        let [dim, num_class_tokens] = [encoder.dim, encoder.num_class_tokens()];
        let weight = weights.get("patch_embed.proj.weight", [dim, encoder.patch_values()])?;
        let bias = weights.get("patch_embed.proj.bias", [dim])?;
        let mut x = linear(patches_in_filter_order(images, encoder.patch_size), weight, bias);
        if encoder.positions == Positions::SinCos {
            let grid = ([rows, columns], Stretch::DinoScale);
            let table = interpolate_positions(&self.positions, (dim, num_class_tokens), grid);
            let table = table.ok_or_else(|| ModelsError::Tensor {
                name: "pos_embed".to_string(),
                problem: "is not of a square grid".to_string(),
            })?;
            let patches = table.get(num_class_tokens * dim..).unwrap_or_default().to_vec();
            x = x + Tensor::from_data(TensorData::new(patches, [1, rows * columns, dim]), weights.device());
        }
        if encoder.class_token {
            let class_token = weights.get("cls_token", [1, 1, dim])?.expand([num_samples, 1, dim]);
            x = Tensor::cat(vec![class_token, x], 1);
        }
        let rotations = (encoder.positions == Positions::Rope100).then(|| {
            let patches: Vec<usize> = (0..rows * columns).collect();
            let head_dim = dim / encoder.heads;
            let rotation = Rotation::new((&patches, patches.len()), [columns, head_dim], weights.device());
            [rotation.clone(), rotation]
        });
        Ok((x, rotations))
    }

    /// Its weights on the device.
    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::encode;
    use crate::random::{Stream, generator, normals};

    #[test]
    fn on_its_own_grid_it_computes_what_training_computes() {
        for name in ["mae-64", "croco"] {
            let mut recipe = Recipe::load(name).expect("a recipe");
            (recipe.encoder.image_size, recipe.encoder.patch_size, recipe.encoder.depth) = (32, 8, 2);
            let encoder = &recipe.encoder;
            let parameters = Parameters::initialise(&recipe, 3);
            let trained = TrainedEncoder::new(&recipe, &parameters);
            let data = normals(&mut generator(5, Stream::Preview, [0, 0]), 2 * 3 * 32 * 32);
            let input = |data: &[f32]| EncoderInput { height: 32, width: 32, data: data.to_vec() };
            let inputs: Vec<EncoderInput> = data.chunks_exact(3 * 32 * 32).map(input).collect();
            let features = trained.grid_features(&inputs).expect("features");
            let images = Tensor::from_data(TensorData::new(data, [2, 3, 32, 32]), trained.weights.device());
            let encoded = encode(encoder, &trained.weights, images, None).expect("encodes").tokens;
            let tokens = encoded.narrow(1, encoder.num_class_tokens(), encoder.num_patches());
            assert_eq!(features.tokens, read_values(tokens.into_data()).expect("values"), "{name}");
            let wide = EncoderInput::zeros(16, 40);
            let features = trained.grid_features(&[wide]).expect("another grid");
            assert_eq!([features.rows, features.columns, features.cls.len()], [2, 5, encoder.dim]);
        }
    }
}
