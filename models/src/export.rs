//! A checkpoint's encoder as an ONNX file and its card.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foresee_runtime::{
    CARD_FORMAT, EncoderInput, Golden, ModelCard, ModelKind, OnnxDim, OnnxFilter, OnnxGraph, OnnxNorm, OnnxValue,
    Provenance, TensorCard, TensorData, sha256_file, write_model,
};

use crate::encoder::{EncoderWeights, TrainedEncoder};
use crate::error::ModelsError;
use crate::frames::preprocessing_card;
use crate::parameters::Parameters;
use crate::random::{Stream, generator, normals};
use crate::recipe::{EncoderRecipe, Positions};

/// Largest difference from the training framework that a card allows.
const GOLDEN_TOLERANCE: f32 = 1e-4;
/// The seed of the golden input.
const GOLDEN_SEED: u64 = 20_261_120;

/// How to export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// What `foresee pretrain` or `foresee import` wrote.
    pub checkpoint: PathBuf,
    /// The `.onnx` to write; the card goes beside it.
    pub output: PathBuf,
    /// For people, such as `mae-64`.
    pub name: String,
    /// What made it. The recipe and, unless given, the seed are filled in.
    pub provenance: Provenance,
}

/// Writes `<output>` and its card: input `image` `[B, 3, S, S]`, outputs `tokens` `[B, N, D]` and `cls` `[B, D]`. The card's golden
/// output is what the training framework computes.
///
/// # Errors
/// [`ModelsError`] when the checkpoint is none or the files cannot be written; nothing is left half-written.
pub fn export(options: &ExportOptions) -> Result<ModelCard, ModelsError> {
    let weights = EncoderWeights::load(&options.checkpoint)?;
    let encoder = &weights.recipe.encoder;
    let bytes = encoder_graph(encoder, &weights.parameters, &options.name)?.to_bytes();
    let golden = golden(&weights)?;
    let file_name = options.output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recipe = serde_json::to_value(&weights.recipe).map_err(|error| ModelsError::Training(error.to_string()))?;
    let mut provenance = Provenance { recipe, ..options.provenance.clone() };
    if provenance.seeds.is_empty() {
        provenance.seeds.extend(weights.seed);
    }
    write_model(&options.output, &bytes)?;
    let card = ModelCard {
        format: CARD_FORMAT,
        kind: ModelKind::Encoder,
        name: options.name.clone(),
        model: file_name,
        sha256: sha256_file(&options.output)?,
        inputs: vec![tensor_card("image", &[1, 3, encoder.image_size, encoder.image_size])],
        outputs: vec![
            tensor_card("tokens", &[1, encoder.num_patches(), encoder.dim]),
            tensor_card("cls", &[1, encoder.dim]),
        ],
        preprocessing: Some(preprocessing_card(encoder.image_size, weights.recipe.data.mean, weights.recipe.data.std)),
        external: Vec::new(),
        interface: None,
        joints: Vec::new(),
        encoder_sha256: None,
        golden,
        provenance,
    };
    save_card(&card, &options.output)?;
    Ok(card)
}

/// A model without its card would not be served: it goes when the card cannot be written.
fn save_card(card: &ModelCard, output: &Path) -> Result<(), ModelsError> {
    card.save(output).map_err(|error| {
        // The card's failure is the one to report.
        let _ = std::fs::remove_file(output);
        ModelsError::from(error)
    })
}

/// The encoder on whole images as an ONNX graph.
///
/// # Errors
/// [`ModelsError::Tensor`] when a weight is missing, [`ModelsError::Training`] for rotary positions, which are not written yet.
pub fn encoder_graph(encoder: &EncoderRecipe, parameters: &Parameters, name: &str) -> Result<OnnxGraph, ModelsError> {
    let mut writer = GraphWriter { graph: OnnxGraph::new(name), encoder, parameters };
    let [size, dim, num_patches] = [encoder.image_size, encoder.dim, encoder.num_patches()];
    let image = writer
        .graph
        .add_input("image", &[OnnxDim::Batch, OnnxDim::Fixed(3), OnnxDim::Fixed(size), OnnxDim::Fixed(size)]);
    let mut x = writer.embed(&image)?;
    for block_idx in 0..encoder.depth {
        x = writer.block(&format!("blocks.{block_idx}"), &x)?;
    }
    let x = writer.norm("norm", &x)?;
    let first = encoder.num_class_tokens() as i64;
    let (tokens, cls) = if encoder.class_token {
        let cls = writer.graph.slice(&x, 1, 0..1);
        (writer.graph.slice(&x, 1, first..first + num_patches as i64), writer.graph.reshape(&cls, &[0, dim as i64]))
    } else {
        (x.clone(), writer.graph.reduce_mean(&x, &[1]))
    };
    writer.graph.add_output("tokens", &tokens, &[OnnxDim::Batch, OnnxDim::Fixed(num_patches), OnnxDim::Fixed(dim)]);
    writer.graph.add_output("cls", &cls, &[OnnxDim::Batch, OnnxDim::Fixed(dim)]);
    Ok(writer.graph)
}

struct GraphWriter<'a> {
    graph: OnnxGraph,
    encoder: &'a EncoderRecipe,
    parameters: &'a Parameters,
}

impl GraphWriter<'_> {
    /// Patch embedding, class token and positions. A zero row is padded in where the class token goes, and one table holds the class
    /// token and all positions, so that no node depends on the batch size.
    fn embed(&mut self, image: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let [dim, num_patches, patch] = [self.encoder.dim, self.encoder.num_patches(), self.encoder.patch_size];
        if self.encoder.positions != Positions::SinCos {
            return Err(ModelsError::Training("rotary positions cannot be exported yet".to_string()));
        }
        let weight = self.constant("patch_embed.proj.weight")?;
        let bias = self.constant("patch_embed.proj.bias")?;
        let patches = self.graph.conv(image, &OnnxFilter { weight, bias, kernel: patch, stride: patch });
        let patches = self.graph.reshape(&patches, &[0, dim as i64, num_patches as i64]);
        let mut x = self.graph.transpose(&patches, &[0, 2, 1]);
        let mut table = self.parameters.get("pos_embed")?.values.clone();
        if self.encoder.class_token {
            let class_token = &self.parameters.get("cls_token")?.values;
            table.iter_mut().zip(class_token).for_each(|(value, class)| *value += class);
            x = self.graph.pad_zeros(&x, &[0, 1, 0, 0, 0, 0]);
        }
        let num_tokens = num_patches + self.encoder.num_class_tokens();
        let table = self.graph.add_constant("class_token_and_positions", &[1, num_tokens, dim], &table);
        Ok(self.graph.add(&x, &table))
    }

    fn block(&mut self, name: &str, x: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let normed = self.norm(&format!("{name}.norm1"), x)?;
        let mixed = self.attention(&format!("{name}.attn"), &normed)?;
        let x = self.graph.add(x, &mixed);
        let normed = self.norm(&format!("{name}.norm2"), &x)?;
        let hidden = self.linear(&format!("{name}.mlp.fc1"), &normed)?;
        let hidden = self.graph.gelu(&hidden);
        let hidden = self.linear(&format!("{name}.mlp.fc2"), &hidden)?;
        Ok(self.graph.add(&x, &hidden))
    }

    /// The scale `1 / sqrt(d)` is folded into the queries' weight and bias.
    fn attention(&mut self, name: &str, x: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let [dim, heads] = [self.encoder.dim, self.encoder.heads];
        let scale = 1.0 / ((dim / heads) as f32).sqrt();
        let mut weight = transposed(self.parameters, &format!("{name}.qkv.weight"))?;
        weight.chunks_exact_mut(3 * dim).for_each(|row| row.iter_mut().take(dim).for_each(|value| *value *= scale));
        let mut bias = self.parameters.get(&format!("{name}.qkv.bias"))?.values.clone();
        bias.iter_mut().take(dim).for_each(|value| *value *= scale);
        let weight = self.graph.add_constant(&format!("{name}.qkv.weight"), &[dim, 3 * dim], &weight);
        let bias = self.graph.add_constant(&format!("{name}.qkv.bias"), &[3 * dim], &bias);
        let fused = self.graph.linear(x, &weight, &bias);
        let num_tokens = (self.encoder.num_patches() + self.encoder.num_class_tokens()) as i64;
        let [dim, heads] = [dim as i64, heads as i64];
        let mut parts = Vec::with_capacity(3);
        for (part_idx, part) in self.graph.split(&fused, 2, &[dim; 3]).iter().enumerate() {
            let part = self.graph.reshape(part, &[0, num_tokens, heads, dim / heads]);
            let keys = part_idx == 1;
            parts.push(self.graph.transpose(&part, if keys { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] }));
        }
        let [q, k, v] = parts.as_slice() else { return self.linear(&format!("{name}.proj"), &fused) };
        let scores = self.graph.matmul(q, k);
        let shares = self.graph.softmax(&scores, -1);
        let mixed = self.graph.matmul(&shares, v);
        let mixed = self.graph.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.graph.reshape(&mixed, &[0, num_tokens, dim]);
        self.linear(&format!("{name}.proj"), &mixed)
    }

    fn linear(&mut self, name: &str, x: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let weight_name = format!("{name}.weight");
        let shape: Vec<usize> = self.parameters.get(&weight_name)?.shape.iter().rev().copied().collect();
        let weight = self.graph.add_constant(&weight_name, &shape, &transposed(self.parameters, &weight_name)?);
        let bias = self.constant(&format!("{name}.bias"))?;
        Ok(self.graph.linear(x, &weight, &bias))
    }

    fn norm(&mut self, name: &str, x: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let weight = self.constant(&format!("{name}.weight"))?;
        let bias = self.constant(&format!("{name}.bias"))?;
        Ok(self.graph.layer_norm(x, &OnnxNorm { weight, bias, epsilon: 1e-6 }))
    }

    fn constant(&mut self, name: &str) -> Result<OnnxValue, ModelsError> {
        let parameter = self.parameters.get(name)?;
        Ok(self.graph.add_constant(name, &parameter.shape, &parameter.values))
    }
}

/// `[out, in]` -> `[in, out]`.
fn transposed(parameters: &Parameters, name: &str) -> Result<Vec<f32>, ModelsError> {
    let parameter = parameters.get(name)?;
    let inputs = parameter.shape.last().copied().unwrap_or(1).max(1);
    let column = |input: usize| parameter.values.iter().skip(input).step_by(inputs).copied();
    Ok((0..inputs).flat_map(column).collect())
}

/// A fixed input of standard normal values, and what the training framework makes of it.
fn golden(weights: &EncoderWeights) -> Result<Golden, ModelsError> {
    let encoder = &weights.recipe.encoder;
    let size = encoder.image_size;
    let data = normals(&mut generator(GOLDEN_SEED, Stream::Preview, [0, 0]), 3 * size * size);
    let input = EncoderInput { height: size, width: size, data };
    let trained = TrainedEncoder::new(&weights.recipe, &weights.parameters);
    let features = trained.features(std::slice::from_ref(&input))?.pop();
    let features = features.ok_or_else(|| ModelsError::Training("the encoder gave nothing".to_string()))?;
    let tokens = TensorData::new(&[1, features.num_tokens, features.dim], &features.tokens);
    let cls = TensorData::new(&[1, features.dim], &features.cls);
    Ok(Golden {
        inputs: BTreeMap::from([("image".to_string(), TensorData::new(&[1, 3, size, size], &input.data))]),
        outputs: BTreeMap::from([("tokens".to_string(), tokens), ("cls".to_string(), cls)]),
        tolerance: GOLDEN_TOLERANCE,
    })
}

fn tensor_card(name: &str, shape: &[usize]) -> TensorCard {
    TensorCard::f32(name, shape)
}
