//! The encoder on whole images as an ONNX graph, in each precision.

use std::collections::BTreeMap;

use foresee_runtime::{OnnxDim, OnnxFilter, OnnxGraph, OnnxNorm, OnnxType, OnnxValue, QuantisedWeight};

use crate::error::ModelsError;
use crate::parameters::Parameters;
use crate::positions::rotary_tables;
use crate::recipe::{EncoderRecipe, Positions};

/// The name of the one table that holds the class token and all positions.
pub(super) const TABLE: &str = "class_token_and_positions";

/// What the graph computes in.
#[derive(Clone, Copy, Debug)]
pub(super) enum GraphPrecision<'a> {
    F32,
    F16,
    Int8 {
        /// By the name of a linear layer, what its weight's rows were multiplied by and its input is still to be divided by.
        divisors: Option<&'a BTreeMap<String, Vec<f32>>>,
    },
}

/// The encoder on whole images as an ONNX graph in f32.
///
/// # Errors
/// [`ModelsError::Tensor`] when a weight is missing.
pub fn encoder_graph(encoder: &EncoderRecipe, parameters: &Parameters, name: &str) -> Result<OnnxGraph, ModelsError> {
    graph_in((encoder, parameters), name, GraphPrecision::F32)
}

/// As [`encoder_graph`], in any precision; input and outputs are f32.
pub(super) fn graph_in(
    (encoder, parameters): (&EncoderRecipe, &Parameters),
    name: &str,
    precision: GraphPrecision<'_>,
) -> Result<OnnxGraph, ModelsError> {
    let mut writer = GraphWriter { graph: OnnxGraph::new(name), encoder, parameters, precision, rotary: None };
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

/// The residual sum, norms, softmax and GELU are f32 in every precision; only what goes into matrix products is narrower.
struct GraphWriter<'a> {
    graph: OnnxGraph,
    encoder: &'a EncoderRecipe,
    parameters: &'a Parameters,
    precision: GraphPrecision<'a>,
    /// Cosines and sines of rotary positions.
    rotary: Option<[OnnxValue; 2]>,
}

impl GraphWriter<'_> {
    /// Patch embedding, class token and positions. A zero row is padded in where the class token goes, and one table holds the class
    /// token and all positions, so that no node depends on the batch size.
    fn embed(&mut self, image: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let [dim, num_patches, patch] = [self.encoder.dim, self.encoder.num_patches(), self.encoder.patch_size];
        let image = self.narrow(image);
        let weight = self.narrow_constant("patch_embed.proj.weight")?;
        let bias = self.narrow_constant("patch_embed.proj.bias")?;
        let patches = self.graph.conv(&image, &OnnxFilter { weight, bias, kernel: patch, stride: patch });
        let patches = self.widen(&patches);
        let patches = self.graph.reshape(&patches, &[0, dim as i64, num_patches as i64]);
        let mut x = self.graph.transpose(&patches, &[0, 2, 1]);
        if self.encoder.positions == Positions::Rope100 {
            let head_dim = dim / self.encoder.heads;
            let columns = self.encoder.image_size / patch;
            let tables = rotary_tables(&(0..num_patches).collect::<Vec<_>>(), [columns, head_dim]);
            let shape = [1, 1, num_patches, head_dim];
            let [cosines, sines] = tables;
            let cosines = self.graph.add_constant("rotary_cosines", &shape, &cosines);
            let sines = self.graph.add_constant("rotary_sines", &shape, &sines);
            self.rotary = Some([self.narrow(&cosines), self.narrow(&sines)]);
            return Ok(x);
        }
        let mut table = self.parameters.get("pos_embed")?.values.clone();
        if self.encoder.class_token {
            let class_token = &self.parameters.get("cls_token")?.values;
            table.iter_mut().zip(class_token).for_each(|(value, class)| *value += class);
            x = self.graph.pad_zeros(&x, &[0, 1, 0, 0, 0, 0]);
        }
        let num_tokens = num_patches + self.encoder.num_class_tokens();
        let table = self.graph.add_constant(TABLE, &[1, num_tokens, dim], &table);
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
        let scale = query_scale(self.encoder);
        let name_of_qkv = format!("{name}.qkv");
        let mut weight = transposed(self.parameters, &format!("{name_of_qkv}.weight"))?;
        weight.chunks_exact_mut(3 * dim).for_each(|row| row.iter_mut().take(dim).for_each(|value| *value *= scale));
        let mut bias = self.parameters.get(&format!("{name_of_qkv}.bias"))?.values.clone();
        bias.iter_mut().take(dim).for_each(|value| *value *= scale);
        let fused = self.product(&name_of_qkv, x, (&weight, &bias));
        // Half precision goes on in halves up to the softmax; 8 bits are for weights, not for scores.
        let fused = self.narrow(&fused);
        let num_tokens = (self.encoder.num_patches() + self.encoder.num_class_tokens()) as i64;
        let [dim, heads] = [dim as i64, heads as i64];
        let mut parts = Vec::with_capacity(3);
        for (part_idx, part) in self.graph.split(&fused, 2, &[dim; 3]).iter().enumerate() {
            let part = self.graph.reshape(part, &[0, num_tokens, heads, dim / heads]);
            let [is_keys, turns] = [part_idx == 1, part_idx < 2 && self.rotary.is_some()];
            let part = if turns {
                let part = self.graph.transpose(&part, &[0, 2, 1, 3]);
                let part = self.turn(&part);
                if is_keys { self.graph.transpose(&part, &[0, 1, 3, 2]) } else { part }
            } else {
                self.graph.transpose(&part, if is_keys { &[0, 2, 3, 1] } else { &[0, 2, 1, 3] })
            };
            parts.push(part);
        }
        let [q, k, v] = parts.as_slice() else { return self.linear(&format!("{name}.proj"), &fused) };
        let scores = self.graph.matmul(q, k);
        let scores = self.widen(&scores);
        let shares = self.graph.softmax(&scores, -1);
        let shares = self.narrow(&shares);
        let mixed = self.graph.matmul(&shares, v);
        let mixed = self.graph.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.graph.reshape(&mixed, &[0, num_tokens, dim]);
        let mixed = self.widen(&mixed);
        self.linear(&format!("{name}.proj"), &mixed)
    }

    /// `[B, H, T, d]` turned by its place: `x cos + partners sin`.
    fn turn(&mut self, x: &OnnxValue) -> OnnxValue {
        let Some([cosines, sines]) = self.rotary.clone() else { return x.clone() };
        let quarter = (self.encoder.dim / self.encoder.heads / 4) as i64;
        let quarters = self.graph.split(x, 3, &[quarter; 4]);
        let [first, second, third, fourth] = quarters.as_slice() else { return x.clone() };
        let [second, fourth] = [second, fourth].map(|part| self.graph.add_node("Neg", &[part], Vec::new()));
        let partners = self.graph.concat(&[&second, first, &fourth, third], 3);
        let [kept, turned] = [self.graph.mul(x, &cosines), self.graph.mul(&partners, &sines)];
        self.graph.add(&kept, &turned)
    }

    fn linear(&mut self, name: &str, x: &OnnxValue) -> Result<OnnxValue, ModelsError> {
        let weight = transposed(self.parameters, &format!("{name}.weight"))?;
        let bias = self.parameters.get(&format!("{name}.bias"))?.values.clone();
        Ok(self.product(name, x, (&weight, &bias)))
    }

    /// `x @ weight + bias` in the graph's precision, f32 in and out; `weight` `[in, out]`.
    fn product(&mut self, name: &str, x: &OnnxValue, (weight, bias): (&[f32], &[f32])) -> OnnxValue {
        let outputs = bias.len();
        let shape = [weight.len() / outputs.max(1), outputs];
        let [weight_name, bias_name] = [format!("{name}.weight"), format!("{name}.bias")];
        match self.precision {
            GraphPrecision::F32 => {
                let weight = self.graph.add_constant(&weight_name, &shape, weight);
                let bias = self.graph.add_constant(&bias_name, &[outputs], bias);
                self.graph.linear(x, &weight, &bias)
            }
            GraphPrecision::F16 => {
                let weight = self.graph.add_half_constant(&weight_name, &shape, weight);
                let bias = self.graph.add_half_constant(&bias_name, &[outputs], bias);
                let x = self.narrow(x);
                let product = self.graph.linear(&x, &weight, &bias);
                self.widen(&product)
            }
            GraphPrecision::Int8 { divisors } => {
                let divisors = divisors.and_then(|divisors| divisors.get(name));
                let divided = divisors.map(|divisors| {
                    let inverse: Vec<f32> = divisors.iter().map(|divisor| 1.0 / divisor).collect();
                    let inverse = self.graph.add_constant(&format!("{name}.input_scale"), &[inverse.len()], &inverse);
                    self.graph.mul(x, &inverse)
                });
                let bias = self.graph.add_constant(&bias_name, &[outputs], bias);
                let weight = QuantisedWeight::nearest(weight, outputs);
                self.graph.quantised_linear(divided.as_ref().unwrap_or(x), (&weight_name, &weight), &bias)
            }
        }
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

    /// A constant in what matrix products take.
    fn narrow_constant(&mut self, name: &str) -> Result<OnnxValue, ModelsError> {
        match self.precision {
            GraphPrecision::F16 => {
                let parameter = self.parameters.get(name)?;
                Ok(self.graph.add_half_constant(name, &parameter.shape, &parameter.values))
            }
            GraphPrecision::F32 | GraphPrecision::Int8 { .. } => self.constant(name),
        }
    }

    /// To halves, in half precision.
    fn narrow(&mut self, x: &OnnxValue) -> OnnxValue {
        match self.precision {
            GraphPrecision::F16 => self.graph.cast(x, OnnxType::F16),
            GraphPrecision::F32 | GraphPrecision::Int8 { .. } => x.clone(),
        }
    }

    /// Back to f32, in half precision.
    fn widen(&mut self, x: &OnnxValue) -> OnnxValue {
        match self.precision {
            GraphPrecision::F16 => self.graph.cast(x, OnnxType::F32),
            GraphPrecision::F32 | GraphPrecision::Int8 { .. } => x.clone(),
        }
    }
}

/// What the queries' weight and bias are multiplied by: `1 / sqrt(d)`.
pub(super) fn query_scale(encoder: &EncoderRecipe) -> f32 {
    1.0 / ((encoder.dim / encoder.heads.max(1)) as f32).sqrt()
}

/// `[out, in]` -> `[in, out]`.
fn transposed(parameters: &Parameters, name: &str) -> Result<Vec<f32>, ModelsError> {
    let parameter = parameters.get(name)?;
    let inputs = parameter.shape.last().copied().unwrap_or(1).max(1);
    let column = |input: usize| parameter.values.iter().skip(input).step_by(inputs).copied();
    Ok((0..inputs).flat_map(column).collect())
}
