//! A model's weights on a device, as leaves of the gradient graph, and the layers that read them by name.

use std::array;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};

use crate::blocks::Dropout;
use crate::device::Arithmetic;
use crate::error::ModelsError;
use crate::fused::{self, gelu, linear, scaled_softmax};
use crate::parameters::Parameters;
use crate::positions::Rotation;

/// Of every norm in this family.
const NORM_EPSILON: f64 = 1e-6;

/// Weights on a device. Each tensor is flat; layers give it its shape.
pub(crate) struct Weights {
    leaves: BTreeMap<String, Tensor<1>>,
    device: Device,
    arithmetic: Arithmetic,
    /// What layers got and gave, if that is wanted.
    trace: Option<Mutex<Vec<Traced>>>,
}

/// What a layer got or gave.
pub(crate) struct Traced {
    pub(crate) layer: String,
    pub(crate) side: Side,
    /// Flat.
    pub(crate) values: Tensor<1>,
}

/// Of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    In,
    Out,
}

impl Weights {
    /// Copies the weights to `device`; those that train require gradients if the device records them.
    pub(crate) fn upload(parameters: &Parameters, device: &Device) -> Self {
        let leaves = parameters
            .iter()
            .map(|(name, parameter)| {
                let count = parameter.values.len();
                let leaf = Tensor::from_data(TensorData::new(parameter.values.clone(), [count]), device);
                let trains = device.is_autodiff() && !parameter.frozen;
                (name.to_string(), if trains { leaf.require_grad() } else { leaf.inner() })
            })
            .collect();
        Self { leaves, device: device.clone().inner(), arithmetic: Arithmetic::F32, trace: None }
    }

    /// The same values, shared where the device can, as leaves of a graph of their own.
    pub(crate) fn fork(&self) -> Self {
        let fork = |leaf: &Tensor<1>| {
            let values = leaf.clone().inner();
            if leaf.is_require_grad() { values.autodiff().require_grad() } else { values }
        };
        let leaves = self.leaves.iter().map(|(name, leaf)| (name.clone(), fork(leaf))).collect();
        Self { leaves, device: self.device.clone(), arithmetic: self.arithmetic, trace: None }
    }

    /// The same weights with matrix products in these numbers.
    pub(crate) fn with_arithmetic(self, arithmetic: Arithmetic) -> Self {
        Self { arithmetic, ..self }
    }

    /// The same weights; from now on what norms and linear layers get and give is kept.
    pub(crate) fn traced(self) -> Self {
        Self { trace: Some(Mutex::default()), ..self }
    }

    /// What was kept, in the order of the calls.
    pub(crate) fn take_trace(&self) -> Vec<Traced> {
        let trace = self.trace.as_ref().map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner));
        trace.map(|mut trace| std::mem::take(&mut *trace)).unwrap_or_default()
    }

    fn note<const D: usize>(&self, layer: &str, side: Side, values: &Tensor<D>) {
        if let Some(trace) = &self.trace {
            let values = values.clone().reshape([values.dims().iter().product::<usize>()]);
            let traced = Traced { layer: layer.to_string(), side, values };
            trace.lock().unwrap_or_else(PoisonError::into_inner).push(traced);
        }
    }

    /// Where constants belong.
    pub(crate) fn device(&self) -> &Device {
        &self.device
    }

    /// Takes the gradient of each weight that has one.
    pub(crate) fn take_gradients(&self, gradients: &mut Gradients) -> impl Iterator<Item = (&str, TensorData)> {
        self.leaves.iter().filter_map(move |(name, leaf)| {
            let gradient = leaf.grad_remove(gradients)?;
            Some((name.as_str(), gradient.into_data()))
        })
    }

    /// The tensor of this name in this shape.
    pub(crate) fn get<const D: usize>(&self, name: &str, shape: [usize; D]) -> Result<Tensor<D>, ModelsError> {
        let fail = |problem: String| ModelsError::Tensor { name: name.to_string(), problem };
        let leaf = self.leaves.get(name).ok_or_else(|| fail("is missing".to_string()))?;
        let [count] = leaf.dims();
        if count != shape.iter().product::<usize>() {
            return Err(fail(format!("has {count} values; it is used as {shape:?}")));
        }
        Ok(leaf.clone().reshape(shape))
    }

    /// As [`Self::inner_linear`] with some `rows` of a weight `[_, in]` and its bias.
    pub(crate) fn linear_rows<const D: usize>(
        &self,
        (weight, bias): (&str, &str),
        rows: Rows,
        x: Tensor<D>,
    ) -> Result<Tensor<D>, ModelsError> {
        let inputs = x.dims()[D - 1];
        self.note(weight, Side::In, &x);
        let weight = self.get(weight, [rows.of, inputs])?.narrow(0, rows.start, rows.count);
        let bias = self.get(bias, [rows.of])?.narrow(0, rows.start, rows.count);
        Ok(self.product(x, weight, bias))
    }

    /// `x W^T + b` to `outputs` values, in f32.
    pub(crate) fn linear<const D: usize>(
        &self,
        name: &str,
        outputs: usize,
        x: Tensor<D>,
    ) -> Result<Tensor<D>, ModelsError> {
        self.inner_linear(name, outputs, x).map(to_f32)
    }

    /// The same in the numbers of the product: what feeds the next one.
    pub(crate) fn inner_linear<const D: usize>(
        &self,
        name: &str,
        outputs: usize,
        x: Tensor<D>,
    ) -> Result<Tensor<D>, ModelsError> {
        let inputs = x.dims()[D - 1];
        let weight = self.get(&format!("{name}.weight"), [outputs, inputs])?;
        let bias = self.get(&format!("{name}.bias"), [outputs])?;
        self.note(name, Side::In, &x);
        let y = self.product(x, weight, bias);
        self.note(name, Side::Out, &y);
        Ok(y)
    }

    /// `x W^T + b` with the factors in this model's arithmetic.
    fn product<const D: usize>(&self, x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
        match self.arithmetic {
            Arithmetic::F32 => linear(x, weight, bias),
            Arithmetic::Bf16 => {
                let (weight, bias) = (to_dtype(weight, DType::BF16), to_dtype(bias, DType::BF16));
                linear(to_dtype(x, DType::BF16), weight, bias)
            }
        }
    }

    /// Normalises over the last dimension with the biased variance.
    pub(crate) fn norm(&self, name: &str, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let weight = self.get(&format!("{name}.weight"), [dim])?;
        let bias = self.get(&format!("{name}.bias"), [dim])?;
        self.note(name, Side::In, &x);
        let y = layer_norm(x, weight, bias);
        self.note(name, Side::Out, &y);
        Ok(y)
    }

    /// `outer(GELU(inner(x)))` with the exact GELU.
    pub(crate) fn mlp(&self, [inner, outer]: [&str; 2], hidden: usize, x: Tensor<3>) -> Result<Tensor<3>, ModelsError> {
        let [_, _, dim] = x.dims();
        let hidden = gelu(self.inner_linear(inner, hidden, x)?);
        self.linear(outer, dim, hidden)
    }

    /// `2(ReLU(0(x)))`: the heads of the latent.
    pub(crate) fn relu_mlp(
        &self,
        name: &str,
        [hidden, outputs]: [usize; 2],
        x: Tensor<2>,
    ) -> Result<Tensor<2>, ModelsError> {
        let hidden = relu(self.linear(&format!("{name}.0"), hidden, x)?);
        self.linear(&format!("{name}.2"), outputs, hidden)
    }
}

/// Normalises over the last dimension with the biased variance and epsilon 1e-6.
pub(crate) fn layer_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, bias: Tensor<1>) -> Tensor<D> {
    fused::layer_norm(x, (weight, bias), NORM_EPSILON)
}

/// In f32, the numbers of all that is no matrix product.
fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    to_dtype(x, DType::F32)
}

/// In these numbers; what is in them already is passed on.
fn to_dtype<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(FloatDType::from(dtype)) }
}

/// Some rows of a fused weight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    /// Rows in all.
    pub(crate) of: usize,
    /// The first.
    pub(crate) start: usize,
    /// How many.
    pub(crate) count: usize,
}

/// `softmax(q k^T / sqrt d) v` over `heads` heads -> `[N, T, C]`. The sources are `[q | k | v]` `[N, T, 3C]`, or `q` `[N, T, C]` and
/// `[k | v]` `[N, S, 2C]`, or each apart. Rotary positions, if any, turn the queries and the keys; dropout, if any, takes shares of
/// attention away.
pub(crate) fn attend<const SOURCES: usize>(
    sources: [Tensor<3>; SOURCES],
    heads: usize,
    (rotations, dropout): (Option<[&Rotation; 2]>, Option<&Dropout>),
) -> Tensor<3> {
    if rotations.is_none()
        && dropout.is_none()
        && let Some(mixed) = fused::attention(&sources, heads)
    {
        return mixed;
    }
    let [num_samples, num_queries, width] = sources[0].dims();
    let dim = if SOURCES == 1 { width / 3 } else { width };
    let [q, k, v] = array::from_fn(|part_idx: usize| {
        let source_idx = part_idx.min(SOURCES - 1);
        sources[source_idx].clone().narrow(2, (part_idx - source_idx) * dim, dim)
    });
    let head_dim = dim / heads;
    let split = |x: Tensor<3>| {
        let [_, num_tokens, _] = x.dims();
        x.reshape([num_samples, num_tokens, heads, head_dim]).swap_dims(1, 2)
    };
    let numbers = v.dtype();
    let (q, k) = match rotations {
        Some([of_queries, of_keys]) => (of_queries.turn(split(to_f32(q))), of_keys.turn(split(to_f32(k)))),
        None => (split(q), split(k)),
    };
    let scores = to_dtype(q, numbers).matmul(to_dtype(k, numbers).swap_dims(2, 3));
    let mut shares = scaled_softmax(to_f32(scores), 1.0 / (head_dim as f32).sqrt());
    if let Some(dropout) = dropout {
        shares = dropout.drop(shares);
    }
    let mixed = to_dtype(shares, numbers).matmul(split(v));
    mixed.swap_dims(1, 2).reshape([num_samples, num_queries, dim])
}
