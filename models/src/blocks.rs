//! Transformer blocks: the encoder's, and the four that the published decoders are made of.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use rand::RngCore;

use crate::error::ModelsError;
use crate::fused::gelu;
use crate::positions::Rotation;
use crate::random::{Stream, generator};
use crate::recipe::BlockKind;
use crate::weights::{Rows, Weights, attend};

/// The sizes of a stack of blocks.
#[derive(Clone, Debug)]
pub(crate) struct StackShape {
    pub(crate) depth: usize,
    pub(crate) heads: usize,
    pub(crate) mlp_dim: usize,
    /// Of the tokens and of the memory, with rotary positions.
    pub(crate) rotations: Option<[Rotation; 2]>,
    /// In training, if the method has any.
    pub(crate) dropout: Option<Dropout>,
}

/// Sets a share of the values to 0 and scales the rest up, drawn on the host so that a resumed run drops the same.
#[derive(Clone, Debug)]
pub(crate) struct Dropout {
    share: f64,
    seed: u64,
    /// Calls so far.
    place: Cell<u64>,
}

impl Dropout {
    pub(crate) fn new(share: f64, seed: u64) -> Self {
        Self { share, seed, place: Cell::new(0) }
    }

    pub(crate) fn drop<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut random = generator(self.seed, Stream::Dropout, [self.place.replace(self.place.get() + 1), 0]);
        let kept = (1.0 / (1.0 - self.share)) as f32;
        let least = (self.share * 2_f64.powi(32)) as u32;
        let factors = (0..x.dims().iter().product()).map(|_| if random.next_u32() < least { 0.0 } else { kept });
        let factors = TensorData::new(factors.collect::<Vec<f32>>(), x.dims());
        let factors = Tensor::from_data(factors, &x.device().inner());
        x * factors
    }
}

/// Runs `<name>_blocks` or `blocks` over `x` `[N, T, C]`; `memory` `[N, S, C]` is the same for every block.
pub(crate) fn run_blocks(
    weights: &Weights,
    (prefix, kind, shape): (&str, BlockKind, StackShape),
    mut x: Tensor<3>,
    memory: Option<&Tensor<3>>,
) -> Result<Tensor<3>, ModelsError> {
    for block_idx in 0..shape.depth {
        let block = Block { weights, name: format!("{prefix}.{block_idx}"), shape: &shape };
        x = match kind {
            BlockKind::SelfOnly => block.self_only(x)?,
            BlockKind::CrossSelf => block.cross_self(x, memory)?,
            BlockKind::CrossMlpSelfPost => block.cross_mlp_self_post(x, need(memory, &block.name)?)?,
            BlockKind::SelfCross => block.self_cross(x, need(memory, &block.name)?)?,
        };
    }
    Ok(x)
}

struct Block<'a> {
    weights: &'a Weights,
    name: String,
    shape: &'a StackShape,
}

impl Block<'_> {
    fn self_only(&self, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let x = x.clone() + self.fused_self(self.norm("norm1", x)?)?;
        Ok(x.clone() + self.mlp("mlp", self.norm("norm2", x)?)?)
    }

    fn cross_self(&self, x: Tensor<3>, memory: Option<&Tensor<3>>) -> Result<Tensor<3>, ModelsError> {
        let x = match memory {
            Some(memory) => {
                let memory = self.norm("norm_kv1", memory.clone())?;
                x.clone() + self.cross_with_fused_memory(self.norm("norm1", x)?, memory)?
            }
            None => x,
        };
        let x = x.clone() + self.fused_self(self.norm("norm3", x)?)?;
        Ok(x.clone() + self.mlp("mlp2", self.norm("norm4", x)?)?)
    }

    fn cross_mlp_self_post(&self, x: Tensor<3>, memory: &Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let looked = self.torch_attention("multihead_attn", x.clone(), Some(memory.clone()))?;
        let x = self.norm("norm2", x + self.drop(looked))?;
        let [inner, outer] = ["linear1", "linear2"].map(|layer| format!("{}.{layer}", self.name));
        let hidden = self.drop(gelu(self.weights.linear(&inner, self.shape.mlp_dim, x.clone())?));
        let hidden = self.weights.linear(&outer, x.dims()[2], hidden)?;
        let x = self.norm("norm3", x + self.drop(hidden))?;
        let mixed = self.torch_attention("self_attn", x.clone(), None)?;
        self.norm("norm1", x + self.drop(mixed))
    }

    fn self_cross(&self, x: Tensor<3>, memory: &Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let x = x.clone() + self.fused_self(self.norm("norm1", x)?)?;
        let memory = self.norm("norm_y", memory.clone())?;
        let x = x.clone() + self.cross_with_three(self.norm("norm2", x)?, memory)?;
        Ok(x.clone() + self.mlp("mlp", self.norm("norm3", x)?)?)
    }

    /// Self-attention with one weight whose rows are `[q | k | v]`.
    fn fused_self(&self, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let fused = self.weights.inner_linear(&format!("{}.attn.qkv", self.name), 3 * dim, x)?;
        let mixed = attend([fused], self.shape.heads, (self.turns([0, 0]), None));
        self.weights.linear(&format!("{}.attn.proj", self.name), dim, mixed)
    }

    /// Cross-attention with `q` apart and one weight whose rows are `[k | v]`.
    fn cross_with_fused_memory(&self, x: Tensor<3>, memory: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let q = self.weights.inner_linear(&format!("{}.cattn.q", self.name), dim, x)?;
        let fused = self.weights.inner_linear(&format!("{}.cattn.kv", self.name), 2 * dim, memory)?;
        let mixed = attend([q, fused], self.shape.heads, (self.turns([0, 1]), None));
        self.weights.linear(&format!("{}.cattn.proj", self.name), dim, mixed)
    }

    /// As `torch.nn.MultiheadAttention` lays it out; without a memory over itself.
    fn torch_attention(&self, layer: &str, x: Tensor<3>, memory: Option<Tensor<3>>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let [weight, bias] = ["in_proj_weight", "in_proj_bias"].map(|leaf| format!("{}.{layer}.{leaf}", self.name));
        let rows = |start, count, x| {
            let rows = Rows { of: 3 * dim, start: start * dim, count: count * dim };
            self.weights.linear_rows((&weight, &bias), rows, x)
        };
        let how = (None, self.shape.dropout.as_ref());
        let mixed = match memory {
            Some(memory) => attend([rows(0, 1, x)?, rows(1, 2, memory)?], self.shape.heads, how),
            None => attend([rows(0, 3, x)?], self.shape.heads, how),
        };
        self.weights.linear(&format!("{}.{layer}.out_proj", self.name), dim, mixed)
    }

    /// Cross-attention with three layers apart.
    fn cross_with_three(&self, x: Tensor<3>, memory: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let layer = |layer: &str, x| self.weights.inner_linear(&format!("{}.cross_attn.{layer}", self.name), dim, x);
        let parts = [layer("projq", x)?, layer("projk", memory.clone())?, layer("projv", memory)?];
        let mixed = attend(parts, self.shape.heads, (self.turns([0, 1]), None));
        self.weights.linear(&format!("{}.cross_attn.proj", self.name), dim, mixed)
    }

    fn drop<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.shape.dropout {
            Some(dropout) => dropout.drop(x),
            None => x,
        }
    }

    fn turns(&self, [of_queries, of_keys]: [usize; 2]) -> Option<[&Rotation; 2]> {
        let rotations = self.shape.rotations.as_ref()?;
        Some([rotations.get(of_queries)?, rotations.get(of_keys)?])
    }

    fn norm(&self, layer: &str, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        self.weights.norm(&format!("{}.{layer}", self.name), x)
    }

    fn mlp(&self, layer: &str, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [inner, outer] = ["fc1", "fc2"].map(|part| format!("{}.{layer}.{part}", self.name));
        self.weights.mlp([&inner, &outer], self.shape.mlp_dim, x)
    }
}

fn need<'a>(memory: Option<&'a Tensor<3>>, name: &str) -> Result<&'a Tensor<3>, ModelsError> {
    let missing =
        || ModelsError::Tensor { name: name.to_string(), problem: "looks at a memory, and there is none".into() };
    memory.ok_or_else(missing)
}
