//! LayerNorm, GELU, linear layers and attention as single steps of the gradient graph on the CPU device. The framework takes each
//! apart into up to twenty passes over memory; these make one each way. Other devices get the framework's own.

mod attention;
mod linear;

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, TensorMetadata};
use burn::tensor::{DType, Tensor, TensorData};

pub(crate) use self::attention::attention;
pub(crate) use self::linear::linear;
use crate::account::{Pass, Timer, Work};
use crate::kernels::{self, Normed};

/// Where a tensor lives.
enum Place {
    /// On the CPU, recording.
    Recording(FloatTensor<Autodiff<Flex>>),
    /// On the CPU, plain.
    Plain(FlexTensor),
    /// On another device, or in other numbers than f32.
    Elsewhere,
}

fn place_of<const D: usize>(x: &Tensor<D>) -> Place {
    if x.dtype() != DType::F32 {
        Place::Elsewhere
    } else if x.is_autodiff() {
        x.clone().try_into_primitive::<Autodiff<Flex>>().map_or(Place::Elsewhere, Place::Recording)
    } else {
        x.clone().try_into_primitive::<Flex>().map_or(Place::Elsewhere, Place::Plain)
    }
}

/// The same values where a graph is recorded.
fn recording<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if x.is_autodiff() { x } else { x.autodiff() }
}

/// `x * 0.5 * (1 + erf(x / sqrt 2))`.
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let _timer = Timer::start(Work::Activation, Pass::Forward);
    match place_of(&x) {
        Place::Recording(primitive) => {
            let x = primitive.primitive().to_contiguous();
            let (values, slopes) = kernels::gelu_with_slope(x.storage());
            let [values, slopes] = [values, slopes].map(|values| like(&x, values));
            let step = Gelu.prepare::<NoCheckpointing>([primitive.node()]).compute_bound().stateful();
            Tensor::from_primitive::<Autodiff<Flex>>(match step {
                OpsKind::Tracked(step) => step.finish(slopes, values),
                OpsKind::UnTracked(step) => step.finish(values),
            })
        }
        Place::Plain(primitive) => {
            let x = primitive.to_contiguous();
            Tensor::from_primitive::<Flex>(like(&x, kernels::gelu_with_slope(x.storage()).0))
        }
        Place::Elsewhere => burn::tensor::activation::gelu(x),
    }
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let _timer = Timer::start(Work::Activation, Pass::Backward);
        let slopes = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, gradients, |gradient| {
            let gradient = gradient.to_contiguous();
            like(&slopes, kernels::multiply(gradient.storage(), slopes.storage()))
        });
    }
}

/// `softmax(scale * x)` over the last dimension.
pub(crate) fn scaled_softmax<const D: usize>(x: Tensor<D>, scale: f32) -> Tensor<D> {
    let _timer = Timer::start(Work::Attention, Pass::Forward);
    let dim = x.dims().last().copied().unwrap_or(1);
    match place_of(&x) {
        Place::Recording(primitive) => {
            let x = primitive.primitive().to_contiguous();
            let y = softmax(&x, dim, scale);
            let step = Softmax.prepare::<NoCheckpointing>([primitive.node()]).compute_bound().stateful();
            Tensor::from_primitive::<Autodiff<Flex>>(match step {
                OpsKind::Tracked(step) => step.finish((y.clone(), scale), y),
                OpsKind::UnTracked(step) => step.finish(y),
            })
        }
        Place::Plain(primitive) => {
            let x = primitive.to_contiguous();
            Tensor::from_primitive::<Flex>(softmax(&x, dim, scale))
        }
        Place::Elsewhere => burn::tensor::activation::softmax(x.mul_scalar(scale), D - 1),
    }
}

fn softmax(x: &FlexTensor, dim: usize, scale: f32) -> FlexTensor {
    let mut values = x.storage().to_vec();
    kernels::softmax(&mut values, dim, scale);
    like(x, values)
}

#[derive(Debug)]
struct Softmax;

impl Backward<Flex, 1> for Softmax {
    type State = (FlexTensor, f32);

    fn backward(self, ops: Ops<(FlexTensor, f32), 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let _timer = Timer::start(Work::Attention, Pass::Backward);
        let (y, scale) = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, gradients, |gradient| {
            let gradient = gradient.to_contiguous();
            let dim = y.shape().last().copied().unwrap_or(1);
            let mut values = gradient.storage().to_vec();
            kernels::softmax_backward(&mut values, y.storage(), (dim, scale));
            like(&y, values)
        });
    }
}

/// Normalises over the last dimension with the biased variance.
pub(crate) fn layer_norm<const D: usize>(
    x: Tensor<D>,
    (weight, bias): (Tensor<1>, Tensor<1>),
    epsilon: f64,
) -> Tensor<D> {
    let _timer = Timer::start(Work::Norm, Pass::Forward);
    match (place_of(&x), place_of(&weight), place_of(&bias)) {
        (Place::Recording(x), Place::Recording(weight), Place::Recording(bias)) => {
            let [rows, weights, biases] = [&x, &weight, &bias].map(|part| part.primitive().to_contiguous());
            let (y, normed) =
                kernels::layer_norm(rows.storage(), weights.storage(), (biases.storage(), epsilon as f32));
            let y = like(&rows, y);
            let nodes = [x.node(), weight.node(), bias.node()];
            let step = LayerNorm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
            Tensor::from_primitive::<Autodiff<Flex>>(match step {
                OpsKind::Tracked(step) => step.finish((weights, Arc::new(normed)), y),
                OpsKind::UnTracked(step) => step.finish(y),
            })
        }
        (Place::Plain(x), Place::Plain(weight), Place::Plain(bias)) => {
            let [x, weight, bias] = [x, weight, bias].map(|part| part.to_contiguous());
            let (y, _) = kernels::layer_norm(x.storage(), weight.storage(), (bias.storage(), epsilon as f32));
            Tensor::from_primitive::<Flex>(like(&x, y))
        }
        _ => burn::tensor::module::layer_norm(x, weight, Some(bias), epsilon),
    }
}

#[derive(Debug)]
struct LayerNorm;

impl Backward<Flex, 3> for LayerNorm {
    type State = (FlexTensor, Arc<Normed>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let _timer = Timer::start(Work::Norm, Pass::Backward);
        let (weight, normed) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let parts = kernels::layer_norm_backward(gradient.storage(), weight.storage(), &normed);
        for ((parent, values), shape) in ops.parents.iter().zip(parts).zip([&gradient, &weight, &weight]) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, like(shape, values));
            }
        }
    }
}

/// A tensor of these values in the shape of another.
fn like(other: &FlexTensor, values: Vec<f32>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, other.shape()))
}
