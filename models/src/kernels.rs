//! Row-wise functions with their derivatives, one pass over the cache each, for the CPU device. Plain safe loops that the compiler
//! turns into the widest vectors this machine has.

use std::iter::Sum;
use std::ops::{AddAssign, Mul};

use pulp::Arch;

/// Partial sums that run side by side, so that a sum needs no order and fills a vector.
const LANES: usize = 16;

/// GELU of each value, and its slope there.
///
/// The normal distribution function is Abramowitz and Stegun's 7.1.26, off by at most 1.5e-7, about the spacing of f32 near 1.
pub(crate) fn gelu_with_slope(x: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut values = vec![0.0; x.len()];
    let mut slopes = vec![0.0; x.len()];
    Arch::new().dispatch(|| {
        for ((x, value), slope) in x.iter().zip(&mut values).zip(&mut slopes) {
            (*value, *slope) = gelu_at(*x);
        }
    });
    (values, slopes)
}

/// `a * b`, value by value.
pub(crate) fn multiply(a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut product = vec![0.0; a.len()];
    Arch::new().dispatch(|| {
        for ((product, a), b) in product.iter_mut().zip(a).zip(b) {
            *product = a * b;
        }
    });
    product
}

/// What LayerNorm's backward pass needs of its forward.
#[derive(Clone, Debug)]
pub(crate) struct Normed {
    /// `(x - mean) / deviation`, `[rows, dim]`.
    pub(crate) unit: Vec<f32>,
    /// `1 / deviation` of each row.
    pub(crate) inverse_deviations: Vec<f32>,
}

/// `unit * weight + bias` for each row of `dim = weight.len()`, with the biased variance.
pub(crate) fn layer_norm(x: &[f32], weight: &[f32], (bias, epsilon): (&[f32], f32)) -> (Vec<f32>, Normed) {
    let dim = weight.len().max(1);
    let mut y = vec![0.0; x.len()];
    let mut unit = vec![0.0; x.len()];
    let mut inverse_deviations = Vec::with_capacity(x.len() / dim);
    Arch::new().dispatch(|| {
        let rows = x.chunks_exact(dim).zip(y.chunks_exact_mut(dim)).zip(unit.chunks_exact_mut(dim));
        for ((x, y), unit) in rows {
            let mean = sum(x) / dim as f32;
            for (unit, x) in unit.iter_mut().zip(x) {
                *unit = x - mean;
            }
            let inverse = 1.0 / (dot(unit, unit) / dim as f32 + epsilon).sqrt();
            for ((unit, y), (weight, bias)) in unit.iter_mut().zip(y).zip(weight.iter().zip(bias)) {
                *unit *= inverse;
                *y = *unit * weight + bias;
            }
            inverse_deviations.push(inverse);
        }
    });
    (y, Normed { unit, inverse_deviations })
}

/// Gradients of LayerNorm: of `x`, of the weight, of the bias.
pub(crate) fn layer_norm_backward(gradient: &[f32], weight: &[f32], normed: &Normed) -> [Vec<f32>; 3] {
    let dim = weight.len().max(1);
    let mut of_x = vec![0.0; gradient.len()];
    let [mut of_weight, mut of_bias] = [vec![0.0; dim], vec![0.0; dim]];
    Arch::new().dispatch(|| {
        let rows = gradient.chunks_exact(dim).zip(normed.unit.chunks_exact(dim)).zip(of_x.chunks_exact_mut(dim));
        for (((gradient, unit), of_x), inverse) in rows.zip(&normed.inverse_deviations) {
            for ((gradient, unit), (of_weight, of_bias)) in
                gradient.iter().zip(unit).zip(of_weight.iter_mut().zip(of_bias.iter_mut()))
            {
                *of_weight += gradient * unit;
                *of_bias += gradient;
            }
            for ((of_x, gradient), weight) in of_x.iter_mut().zip(gradient).zip(weight) {
                *of_x = gradient * weight;
            }
            let mean = sum(of_x) / dim as f32;
            let along = dot(of_x, unit) / dim as f32;
            for (of_x, unit) in of_x.iter_mut().zip(unit) {
                *of_x = (*of_x - mean - unit * along) * inverse;
            }
        }
    });
    [of_x, of_weight, of_bias]
}

/// Each row of `dim` values becomes the softmax of `scale` times it.
pub(crate) fn softmax(x: &mut [f32], dim: usize, scale: f32) {
    Arch::new().dispatch(|| {
        for x in x.chunks_exact_mut(dim.max(1)) {
            let largest = largest(x);
            x.iter_mut().for_each(|x| *x = exp((*x - largest) * scale));
            let inverse = 1.0 / sum(x);
            x.iter_mut().for_each(|x| *x *= inverse);
        }
    });
}

/// The gradient of [`softmax`]'s result `y` becomes that of what it was taken of.
pub(crate) fn softmax_backward(gradient: &mut [f32], y: &[f32], (dim, scale): (usize, f32)) {
    Arch::new().dispatch(|| {
        for (gradient, y) in gradient.chunks_exact_mut(dim.max(1)).zip(y.chunks_exact(dim.max(1))) {
            let along = dot(gradient, y);
            for (gradient, y) in gradient.iter_mut().zip(y) {
                *gradient = (*gradient - along) * y * scale;
            }
        }
    });
}

/// The sum of all rows of `dim` values.
pub(crate) fn sum_rows(x: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0; dim];
    Arch::new().dispatch(|| {
        for row in x.chunks_exact(dim.max(1)) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x;
            }
        }
    });
    sums
}

#[inline(always)]
fn gelu_at(x: f32) -> (f32, f32) {
    const INVERSE_SQRT_TWO_PI: f32 = 0.398_942_3;
    let bell = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
    let series = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let tail = 0.5 * series * bell;
    let share = if x > 0.0 { 1.0 - tail } else { tail };
    (x * share, share + x * INVERSE_SQRT_TWO_PI * bell)
}

/// `e^x` for `x <= 0`, to about `2e-7 + 1e-7 |x|` of itself; what lies below the normal range gives about 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the low bits, ready for the exponent.
    const ROUND: f32 = 12_582_912.0;
    let power = x * std::f32::consts::LOG2_E;
    // Not a number stays one.
    let power = if power < -126.0 { -126.0 } else { power };
    let whole = power + ROUND;
    let rest = power - (whole - ROUND);
    let fraction = 1.0
        + rest
            * (std::f32::consts::LN_2
                + rest
                    * (0.240_226_5
                        + rest * (0.055_504_11 + rest * (0.009_618_13 + rest * (0.001_333_36 + rest * 0.000_154)))));
    f32::from_bits(fraction.to_bits().wrapping_add(whole.to_bits() << 23))
}

#[inline(always)]
fn sum(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().chain(rest).sum()
}

/// Inner product of equally many values.
#[inline(always)]
pub(crate) fn dot<T: Copy + Default + Mul<Output = T> + AddAssign + Sum>(a: &[T], b: &[T]) -> T {
    let [(chunks_a, rest_a), (chunks_b, rest_b)] = [a.as_chunks::<LANES>(), b.as_chunks::<LANES>()];
    let mut lanes = [T::default(); LANES];
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += *a * *b;
        }
    }
    lanes.into_iter().chain(rest_a.iter().zip(rest_b).map(|(a, b)| *a * *b)).sum()
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_gelu_follow_f64() {
        for step in 0..4000 {
            let x = f64::from(step) * 0.02 - 40.0;
            let (power, wanted) = (f64::from(exp(-x.abs() as f32)), (-x.abs()).exp());
            assert!((power - wanted).abs() <= (3e-7 + 1e-7 * x.abs()) * wanted, "exp({x}) is {power}");
        }
        // Phi(1), Phi(-2) and their densities to ten places.
        for (x, share, density) in [(1.0, 0.841_344_746_1, 0.241_970_724_5), (-2.0, 0.022_750_131_9, 0.053_990_966_5)] {
            let (values, slopes) = gelu_with_slope(&[x as f32]);
            assert!((f64::from(values[0]) - x * share).abs() < 4e-7);
            assert!((f64::from(slopes[0]) - (share + x * density)).abs() < 4e-7);
        }
        let (values, _) = gelu_with_slope(&[0.0, 100.0, -100.0]);
        assert!(values[0] == 0.0 && values[1] == 100.0 && values[2].abs() < 1e-30, "{values:?}");
        assert!(gelu_with_slope(&[f32::NAN]).0[0].is_nan());
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for value in [f32::NAN, f32::INFINITY] {
            let mut x = vec![0.5; 40];
            x[25] = value;
            softmax(&mut x, 20, 1.0);
            assert!(x[..20].iter().all(|share| *share == 0.05), "{x:?}");
            assert!(x[20..].iter().all(|share| share.is_nan()), "{x:?}");
        }
    }

    #[test]
    fn rows_of_any_length_sum_to_one() {
        for dim in [1, 3, 16, 17, 65] {
            let x: Vec<f32> = (0..2 * dim).map(|idx| (idx * 37 % 11) as f32).collect();
            let mut y = x;
            softmax(&mut y, dim, 0.7);
            for row in y.chunks_exact(dim) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{dim}");
            }
        }
    }
}
