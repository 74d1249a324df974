//! The policy network: a narrow linear map a token, then a small perceptron over all tokens and the joints.
//!
//! Keeping every token's place in the input of the perceptron is what lets it tell where things are; a mean over tokens or the
//! class token alone would not.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::activation::{relu, tanh};
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::error::PoliciesError;

/// The sizes of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadShape {
    /// N.
    pub(crate) num_tokens: usize,
    /// D.
    pub(crate) token_dim: usize,
    /// What a token is mapped to.
    pub(crate) token_width: usize,
    /// Values that describe the joints.
    pub(crate) num_joint_inputs: usize,
    /// Widths of the hidden layers.
    pub(crate) hidden_widths: Vec<usize>,
    /// J.
    pub(crate) num_actions: usize,
}

impl HeadShape {
    /// Inputs and outputs of the dense layers after the token map.
    pub(crate) fn dense_sizes(&self) -> Vec<(usize, usize)> {
        let first = self.num_tokens * self.token_width + self.num_joint_inputs;
        let widths: Vec<usize> =
            [first].into_iter().chain(self.hidden_widths.clone()).chain([self.num_actions]).collect();
        widths.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect()
    }
}

/// A dense layer as plain numbers: `y = x W + b`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dense {
    pub(crate) num_inputs: usize,
    pub(crate) num_outputs: usize,
    /// `[num_inputs, num_outputs]`, row-major.
    pub(crate) weight: Vec<f32>,
    /// `[num_outputs]`.
    pub(crate) bias: Vec<f32>,
}

impl Dense {
    /// Uniform within `1 / sqrt(num_inputs)` (Kaiming uniform with gain `1 / sqrt(3)`, PyTorch's default for linear layers).
    fn random(num_inputs: usize, num_outputs: usize, generator: &mut StdRng) -> Self {
        let bound = 1.0 / (num_inputs as f32).sqrt();
        let mut draw = |count: usize| (0..count).map(|_| generator.random_range(-bound..bound)).collect();
        Self { num_inputs, num_outputs, weight: draw(num_inputs * num_outputs), bias: draw(num_outputs) }
    }

    fn to_linear(&self, device: &Device) -> Linear {
        let weight = TensorData::new(self.weight.clone(), [self.num_inputs, self.num_outputs]);
        let bias = TensorData::new(self.bias.clone(), [self.num_outputs]);
        Linear { weight: Param::from_data(weight, device), bias: Some(Param::from_data(bias, device)) }
    }

    fn of_linear(linear: &Linear) -> Result<Self, PoliciesError> {
        let [num_inputs, num_outputs] = linear.weight.val().dims();
        let weight = values(linear.weight.val())?;
        let bias = linear.bias.as_ref().map_or_else(|| Ok(vec![0.0; num_outputs]), |bias| values(bias.val()))?;
        Ok(Self { num_inputs, num_outputs, weight, bias })
    }
}

/// The network as plain numbers: what is checkpointed and exported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeadWeights {
    /// D -> token width.
    pub(crate) token: Dense,
    /// The perceptron, the action layer last.
    pub(crate) dense: Vec<Dense>,
}

impl HeadWeights {
    /// Fresh weights, the same for the same generator.
    pub(crate) fn random(shape: &HeadShape, generator: &mut StdRng) -> Self {
        let token = Dense::random(shape.token_dim, shape.token_width, generator);
        let dense = shape.dense_sizes().into_iter().map(|(inputs, outputs)| Dense::random(inputs, outputs, generator));
        Self { token, dense: dense.collect() }
    }
}

/// The network on a device.
#[derive(Module, Debug)]
pub(crate) struct Head {
    token: Linear,
    dense: Vec<Linear>,
}

impl Head {
    pub(crate) fn new(weights: &HeadWeights, device: &Device) -> Self {
        Self {
            token: weights.token.to_linear(device),
            dense: weights.dense.iter().map(|dense| dense.to_linear(device)).collect(),
        }
    }

    pub(crate) fn weights(&self) -> Result<HeadWeights, PoliciesError> {
        let dense = self.dense.iter().map(Dense::of_linear).collect::<Result<_, _>>()?;
        Ok(HeadWeights { token: Dense::of_linear(&self.token)?, dense })
    }

    /// Normalised tokens `[B, N, D]` and joint inputs `[B, I]` -> actions `[B, J]` within -1 to 1.
    pub(crate) fn forward(&self, tokens: Tensor<3>, joints: Tensor<2>) -> Tensor<2> {
        let [batch, num_tokens, dim] = tokens.dims();
        let mapped = self.token.forward(tokens.reshape([batch * num_tokens, dim]));
        let [_, width] = mapped.dims();
        let mut hidden = Tensor::cat(vec![mapped.reshape([batch, num_tokens * width]), joints], 1);
        let last = self.dense.len().saturating_sub(1);
        for (layer_idx, layer) in self.dense.iter().enumerate() {
            hidden = layer.forward(hidden);
            hidden = if layer_idx == last { tanh(hidden) } else { relu(hidden) };
        }
        hidden
    }
}

/// The values of a tensor, row-major.
pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, PoliciesError> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| PoliciesError::Training(format!("a tensor cannot be read: {error}")))
}
