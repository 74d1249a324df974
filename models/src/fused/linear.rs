//! A linear layer whose weight's gradient comes in the weight's own order, so that nothing is turned.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::{Tensor, TensorData};

use super::{Place, like, place_of, recording};
use crate::account::{Pass, Timer, Work};
use crate::kernels;
use crate::matrix::{Matrix, MatrixMut};

/// `x W^T + b` over all rows of `x` `[.., in]`; `weight` `[out, in]`, `bias` `[out]`.
pub(crate) fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let _timer = Timer::start(Work::Linear, Pass::Forward);
    let records = x.is_autodiff() || weight.is_autodiff() || bias.is_autodiff();
    let (x, weight, bias) =
        if records { (recording(x), recording(weight), recording(bias)) } else { (x, weight, bias) };
    match (place_of(&x), place_of(&weight), place_of(&bias)) {
        (Place::Recording(x), Place::Recording(weight), Place::Recording(bias)) => {
            let [rows, weights, biases] = [&x, &weight, &bias].map(|part| part.primitive().to_contiguous());
            let y = forward(&rows, &weights, &biases);
            let step = Linear.prepare::<NoCheckpointing>([x.node(), weight.node(), bias.node()]);
            Tensor::from_primitive::<Autodiff<Flex>>(match step.compute_bound().stateful() {
                OpsKind::Tracked(step) => step.finish((rows, weights), y),
                OpsKind::UnTracked(step) => step.finish(y),
            })
        }
        (Place::Plain(x), Place::Plain(weight), Place::Plain(bias)) => {
            let [x, weight, bias] = [x, weight, bias].map(|part| part.to_contiguous());
            Tensor::from_primitive::<Flex>(forward(&x, &weight, &bias))
        }
        _ => elsewhere(x, weight, bias),
    }
}

/// As the framework does it.
fn elsewhere<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<D> {
    let mut shape = x.dims();
    let [outputs, inputs] = weight.dims();
    let num_rows = shape.iter().product::<usize>() / inputs.max(1);
    shape[D - 1] = outputs;
    burn::tensor::module::linear(x.reshape([num_rows, inputs]), weight.swap_dims(0, 1), Some(bias)).reshape(shape)
}

fn forward(x: &FlexTensor, weight: &FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let (x_values, biases) = (x.storage::<f32>(), bias.storage::<f32>());
    let [outputs, inputs, num_rows] = sizes(x, weight);
    let mut y = biases.repeat(num_rows);
    let weights = Matrix::new(weight.storage(), [outputs, inputs], inputs);
    let rows = Matrix::new(x_values, [num_rows, inputs], inputs);
    MatrixMut::new(&mut y, [num_rows, outputs], outputs).add(rows, weights.transposed());
    let mut shape = x.shape();
    if let Some(last) = shape.last_mut() {
        *last = outputs;
    }
    FlexTensor::from_data(TensorData::new(y, shape))
}

/// Outputs, inputs and rows.
fn sizes(x: &FlexTensor, weight: &FlexTensor) -> [usize; 3] {
    let [outputs, inputs] = weight.shape().dims();
    [outputs, inputs, x.shape().num_elements() / inputs.max(1)]
}

#[derive(Debug)]
struct Linear;

impl Backward<Flex, 3> for Linear {
    type State = (FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let _timer = Timer::start(Work::Linear, Pass::Backward);
        let (x, weight) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let [outputs, inputs, num_rows] = sizes(&x, &weight);
        let of_y = Matrix::new(gradient.storage(), [num_rows, outputs], outputs);
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(parent) = of_x {
            let mut values = vec![0.0; num_rows * inputs];
            let weights = Matrix::new(weight.storage(), [outputs, inputs], inputs);
            MatrixMut::new(&mut values, [num_rows, inputs], inputs).set(of_y, weights);
            gradients.register::<Flex>(parent.id, like(&x, values));
        }
        if let Some(parent) = of_weight {
            let mut values = vec![0.0; outputs * inputs];
            let rows = Matrix::new(x.storage(), [num_rows, inputs], inputs);
            MatrixMut::new(&mut values, [outputs, inputs], inputs).set(of_y.transposed(), rows);
            gradients.register::<Flex>(parent.id, like(&weight, values));
        }
        if let Some(parent) = of_bias {
            let sums = kernels::sum_rows(gradient.storage(), outputs);
            gradients.register::<Flex>(parent.id, FlexTensor::from_data(TensorData::new(sums, [outputs])));
        }
    }
}
