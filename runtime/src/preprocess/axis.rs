//! Which source values make each target value along one axis, and how much of each.

use crate::card::Resize;

/// The taps of every target value along one axis.
#[derive(Clone, Debug, Default)]
pub(super) struct Axis {
    spans: Vec<Span>,
    weights: Vec<f32>,
}

/// The taps of one target value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// First source index.
    pub(super) start: usize,
    weights_start: usize,
    num_taps: usize,
}

impl Span {
    /// One behind the last source index.
    pub(super) fn end(&self) -> usize {
        self.start + self.num_taps
    }
}

/// What of the source the targets are spread over, in source values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) num_source: usize,
    pub(super) start: f64,
    pub(super) length: f64,
}

impl Axis {
    /// The weights of `resize`; at least one tap a target, none outside the source, none of weight zero at the ends.
    ///
    /// With antialias as ATen's `_compute_indices_weights_aa` and Pillow's `precompute_coeffs`: the kernel is cut at the edge of the
    /// source and its weights made to sum to 1. Without, as `interpolate` and OpenCV: the edge value stands for all beyond it.
    pub(super) fn new(extent: Extent, num_target: usize, resize: Resize) -> Self {
        let scale = extent.length / num_target as f64;
        let mut axis = Self { spans: Vec::with_capacity(num_target), weights: Vec::new() };
        for target in 0..num_target {
            let centre = extent.start + scale * (target as f64 + 0.5);
            let taps = match resize {
                Resize::BilinearAntialias => widened(extent, centre, scale.max(1.0), (1.0, triangle)),
                Resize::BicubicAntialias => widened(extent, centre, scale.max(1.0), (2.0, |x| cubic(x, -0.5))),
                Resize::Area => area(extent, centre, scale),
                Resize::Bilinear => interpolated(extent, centre, (1, triangle)),
                Resize::Bicubic => interpolated(extent, centre, (2, |x| cubic(x, -0.75))),
            };
            axis.push(taps);
        }
        axis
    }

    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    pub(super) fn weights_of(&self, span: &Span) -> &[f32] {
        self.weights.get(span.weights_start..span.weights_start + span.num_taps).unwrap_or_default()
    }

    /// `(first source index, weights)`, normalised here.
    fn push(&mut self, (first, weights): (usize, Vec<f64>)) {
        let total: f64 = weights.iter().sum();
        let leading = weights.iter().take_while(|weight| **weight == 0.0).count().min(weights.len().saturating_sub(1));
        let trailing = weights.iter().skip(leading + 1).rev().take_while(|weight| **weight == 0.0).count();
        let used = weights.get(leading..weights.len() - trailing).unwrap_or_default();
        let weights_start = self.weights.len();
        self.weights.extend(used.iter().map(|weight| (weight / total) as f32));
        self.spans.push(Span { start: first + leading, weights_start, num_taps: used.len() });
    }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

/// Keys' kernel (Cubic Convolution Interpolation, 1981, equation 15) with its free parameter.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// A kernel stretched by `stretch`, cut at the source's ends.
fn widened(extent: Extent, centre: f64, stretch: f64, (reach, kernel): (f64, fn(f64) -> f64)) -> (usize, Vec<f64>) {
    let support = reach * stretch;
    let last = extent.num_source - 1;
    // Negative floats become 0.
    let first = ((centre - support + 0.5) as usize).min(last);
    let end = ((centre + support + 0.5) as usize).clamp(first + 1, extent.num_source);
    let weights: Vec<f64> = (first..end).map(|source| kernel((source as f64 - centre + 0.5) / stretch)).collect();
    if weights.iter().all(|weight| *weight == 0.0) { (first, vec![1.0]) } else { (first, weights) }
}

/// How much of each source value the target covers.
fn area(extent: Extent, centre: f64, scale: f64) -> (usize, Vec<f64>) {
    let from = (centre - scale / 2.0).clamp(0.0, extent.num_source as f64 - 1e-9);
    let to = (centre + scale / 2.0).clamp(from + 1e-9, extent.num_source as f64);
    let end = (to.ceil() as usize).min(extent.num_source);
    let covered = |source: usize| (to.min(source as f64 + 1.0) - from.max(source as f64)).max(0.0);
    // Slivers are rounding, not image.
    let weights = (from as usize..end).map(covered).map(|width| if width < 1e-6 * scale { 0.0 } else { width });
    (from as usize, weights.collect())
}

/// `2 * reach` taps around the centre; what lies beyond the source is its edge value.
fn interpolated(extent: Extent, centre: f64, (reach, kernel): (i64, fn(f64) -> f64)) -> (usize, Vec<f64>) {
    let position = centre - 0.5;
    let below = position.floor() as i64;
    let last = extent.num_source as i64 - 1;
    let [first, end] = [below - reach + 1, below + reach].map(|source| source.clamp(0, last));
    let mut weights = vec![0.0; usize::try_from(end - first + 1).unwrap_or(1)];
    for source in below - reach + 1..=below + reach {
        let slot = usize::try_from(source.clamp(first, end) - first).unwrap_or(0);
        if let Some(weight) = weights.get_mut(slot) {
            *weight += kernel(source as f64 - position);
        }
    }
    (usize::try_from(first).unwrap_or(0), weights)
}
