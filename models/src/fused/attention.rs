//! Attention over all heads as one step of the gradient graph: heads are read and written where they lie, side by side in the
//! tokens, and a head's scores stay in the cache between their products and the softmax.

use std::array;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::NoCheckpointing;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, TensorMetadata};
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::{Place, like, place_of};
use crate::account::{Pass, Timer, Work};
use crate::kernels;
use crate::matrix::{Matrix, MatrixMut};

/// `softmax(q k^T / sqrt d) v` over `heads` heads -> `[N, T, C]`, or `None` on another device than the CPU. `sources` are `[q | k | v]`
/// `[N, T, 3C]`, or `q` `[N, T, C]` and `[k | v]` `[N, S, 2C]`, or each apart.
pub(crate) fn attention<const SOURCES: usize>(sources: &[Tensor<3>; SOURCES], heads: usize) -> Option<Tensor<3>> {
    let _timer = Timer::start(Work::Attention, Pass::Forward);
    let mut nodes = Vec::with_capacity(SOURCES);
    let mut tensors = Vec::with_capacity(SOURCES);
    for source in sources {
        match place_of(source) {
            Place::Recording(primitive) => {
                nodes.push(primitive.node());
                tensors.push(primitive.primitive().to_contiguous());
            }
            Place::Plain(primitive) => tensors.push(primitive.to_contiguous()),
            Place::Elsewhere => return None,
        }
    }
    let tensors: [FlexTensor; SOURCES] = tensors.try_into().ok()?;
    let layout = Layout::of(&tensors, heads)?;
    let (mixed, shares) = layout.forward(&tensors);
    if nodes.is_empty() {
        return Some(Tensor::from_primitive::<Flex>(mixed));
    }
    let nodes: [_; SOURCES] = nodes.try_into().ok()?;
    let step = Attention.prepare::<NoCheckpointing>(nodes).compute_bound().stateful();
    Some(Tensor::from_primitive::<Autodiff<Flex>>(match step {
        OpsKind::Tracked(step) => step.finish((tensors, layout, Arc::new(shares)), mixed),
        OpsKind::UnTracked(step) => step.finish(mixed),
    }))
}

/// Where the heads of queries, keys and values lie in `SOURCES` tensors.
#[derive(Clone, Copy, Debug)]
struct Layout<const SOURCES: usize> {
    num_samples: usize,
    heads: usize,
    head_dim: usize,
    /// Tokens in a sample of each source.
    tokens: [usize; SOURCES],
    /// Values in a token of each source.
    widths: [usize; SOURCES],
}

#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

impl<const SOURCES: usize> Layout<SOURCES> {
    /// `None` where shapes do not fit.
    fn of(tensors: &[FlexTensor; SOURCES], heads: usize) -> Option<Self> {
        let shapes: [[usize; 3]; SOURCES] = array::from_fn(|idx| tensors[idx].shape().dims());
        let first = shapes.first()?;
        let dim = if SOURCES == 1 { first[2] / 3 } else { first[2] };
        let head_dim = dim / heads.max(1);
        let (tokens, widths) = (shapes.map(|shape| shape[1]), shapes.map(|shape| shape[2]));
        let layout = Self { num_samples: first[0], heads, head_dim, tokens, widths };
        let fits = |(idx, shape): (usize, &[usize; 3])| {
            let num_parts =
                [Part::Queries, Part::Keys, Part::Values].iter().filter(|part| layout.place(**part).0 == idx);
            shape[0] == first[0] && shape[2] == num_parts.count() * heads * head_dim
        };
        (shapes.iter().enumerate().all(fits) && tokens.last() == tokens.get(layout.place(Part::Keys).0))
            .then_some(layout)
    }

    /// The source that holds a part, and the first of its columns.
    fn place(&self, part: Part) -> (usize, usize) {
        let source = (part as usize).min(SOURCES - 1);
        (source, (part as usize - source) * self.heads * self.head_dim)
    }

    fn num_tokens(&self, part: Part) -> usize {
        self.tokens[self.place(part).0]
    }

    /// Where a head's `[tokens, head_dim]` begin in their source, and how far apart its rows are.
    fn head(&self, part: Part, [sample, head]: [usize; 2]) -> (usize, [usize; 2], usize) {
        let (source, column) = self.place(part);
        let (tokens, width) = (self.tokens[source], self.widths[source]);
        (sample * tokens * width + column + head * self.head_dim, [tokens, self.head_dim], width)
    }

    fn read<'a>(&self, tensors: &'a [FlexTensor; SOURCES], part: Part, place: [usize; 2]) -> Matrix<'a> {
        let (start, shape, stride) = self.head(part, place);
        Matrix::new(&tensors[self.place(part).0].storage()[start..], shape, stride)
    }

    fn write<'a>(&self, vectors: &'a mut [Vec<f32>; SOURCES], part: Part, place: [usize; 2]) -> MatrixMut<'a> {
        let (start, shape, stride) = self.head(part, place);
        MatrixMut::new(&mut vectors[self.place(part).0][start..], shape, stride)
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// What the heads mix `[N, T, C]`, and the shares `[N, heads, T, S]`.
    fn forward(&self, tensors: &[FlexTensor; SOURCES]) -> (FlexTensor, Vec<f32>) {
        let [num_queries, num_keys] = [Part::Queries, Part::Keys].map(|part| self.num_tokens(part));
        let dim = self.heads * self.head_dim;
        let mut shares = vec![0.0; self.num_samples * self.heads * num_queries * num_keys];
        let mut mixed = vec![0.0; self.num_samples * num_queries * dim];
        let of_samples = mixed.par_chunks_mut((num_queries * dim).max(1));
        let of_heads = shares.par_chunks_mut((self.heads * num_queries * num_keys).max(1));
        of_samples.zip(of_heads).enumerate().for_each(|(sample, (mixed, shares))| {
            for (head, shares) in shares.chunks_exact_mut((num_queries * num_keys).max(1)).enumerate() {
                let [q, k, v] =
                    [Part::Queries, Part::Keys, Part::Values].map(|part| self.read(tensors, part, [sample, head]));
                MatrixMut::new(shares, [num_queries, num_keys], num_keys).set(q, k.transposed());
                kernels::softmax(shares, num_keys, self.scale());
                let shares = Matrix::new(shares, [num_queries, num_keys], num_keys);
                MatrixMut::new(&mut mixed[head * self.head_dim..], [num_queries, self.head_dim], dim).set(shares, v);
            }
        });
        let shape = [self.num_samples, num_queries, dim];
        (FlexTensor::from_data(TensorData::new(mixed, shape)), shares)
    }

    /// The gradient of each source from that of what the heads mixed.
    fn backward(&self, tensors: &[FlexTensor; SOURCES], (shares, of_mixed): (&[f32], &[f32])) -> [Vec<f32>; SOURCES] {
        let [num_queries, num_keys] = [Part::Queries, Part::Keys].map(|part| self.num_tokens(part));
        let dim = self.heads * self.head_dim;
        let mut of_sources: [Vec<f32>; SOURCES] =
            array::from_fn(|idx| vec![0.0; self.num_samples * self.tokens[idx] * self.widths[idx]]);
        let mut of_scores = vec![0.0; num_queries * num_keys];
        for (place_idx, shares) in shares.chunks_exact((num_queries * num_keys).max(1)).enumerate() {
            let place @ [sample, head] = [place_idx / self.heads, place_idx % self.heads];
            let [q, k, v] = [Part::Queries, Part::Keys, Part::Values].map(|part| self.read(tensors, part, place));
            let start = sample * num_queries * dim + head * self.head_dim;
            let of_head = Matrix::new(&of_mixed[start..], [num_queries, self.head_dim], dim);
            MatrixMut::new(&mut of_scores, [num_queries, num_keys], num_keys).set(of_head, v.transposed());
            kernels::softmax_backward(&mut of_scores, shares, (num_keys, self.scale()));
            let shares = Matrix::new(shares, [num_queries, num_keys], num_keys);
            self.write(&mut of_sources, Part::Values, place).set(shares.transposed(), of_head);
            let of_scores = Matrix::new(&of_scores, [num_queries, num_keys], num_keys);
            self.write(&mut of_sources, Part::Queries, place).set(of_scores, k);
            self.write(&mut of_sources, Part::Keys, place).set(of_scores.transposed(), q);
        }
        of_sources
    }
}

#[derive(Debug)]
struct Attention;

impl<const SOURCES: usize> Backward<Flex, SOURCES> for Attention {
    type State = ([FlexTensor; SOURCES], Layout<SOURCES>, Arc<Vec<f32>>);

    fn backward(self, ops: Ops<Self::State, SOURCES>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let _timer = Timer::start(Work::Attention, Pass::Backward);
        let (tensors, layout, shares) = ops.state;
        let gradient = gradients.consume::<Flex>(&ops.node).to_contiguous();
        let of_sources = layout.backward(&tensors, (&shares, gradient.storage()));
        for ((parent, tensor), values) in ops.parents.iter().zip(&tensors).zip(of_sources) {
            if let Some(parent) = parent {
                gradients.register::<Flex>(parent.id, like(tensor, values));
            }
        }
    }
}
