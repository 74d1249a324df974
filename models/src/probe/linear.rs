//! A linear probe in closed form: ridge regression on standardised frozen features, its ridge chosen on held-out training samples.

use burn::tensor::{Device, Tensor, TensorData};

use super::Samples;
use super::nearest::share_right;
use crate::error::ModelsError;
use crate::method::read_values;

/// Ridges that are tried, as shares of the mean of the kernel's diagonal.
const RIDGES: [f64; 7] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// Every this many-th block of training samples is held out to choose the ridge.
const HELD_OUT_BLOCKS: usize = 5;

/// What a linear map tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearProbe {
    /// For each target the share of its variance that is explained on the test samples; below 0 is worse than the mean.
    pub explained: Vec<f64>,
    /// The ridge that was chosen.
    pub ridge: f64,
}

impl LinearProbe {
    /// Mean over the targets.
    pub fn mean(&self) -> f64 {
        self.explained.iter().sum::<f64>() / self.explained.len().max(1) as f64
    }
}

/// Fits on `train`, whose last fifth (samples lie in the order of their videos) chooses the ridge, and scores on `test`.
///
/// # Errors
/// [`ModelsError::Training`] when there are fewer than 10 training samples or the sizes differ.
pub fn linear_probe(train: &Samples, test: &Samples) -> Result<LinearProbe, ModelsError> {
    let (predictions, ridge) = fit_and_predict(train, test)?;
    Ok(LinearProbe { explained: explained_variance(&predictions, test), ridge })
}

/// Share of `test` whose class the linear map names; targets are one-hot.
///
/// # Errors
/// As [`linear_probe`].
pub fn classify_linearly(train: &Samples, test: &Samples) -> Result<f64, ModelsError> {
    Ok(share_right(&fit_and_predict(train, test)?.0, test))
}

/// For each target, 1 less the squared error over the variance, on the samples.
pub fn explained_variance(predictions: &[f32], samples: &Samples) -> Vec<f64> {
    let num_targets = samples.num_targets;
    let column = |values: &[f32], target: usize| -> Vec<f64> {
        values.iter().skip(target).step_by(num_targets).map(|value| f64::from(*value)).collect()
    };
    let explained = |target: usize| {
        let [predicted, truth] = [column(predictions, target), column(&samples.targets, target)];
        let mean = truth.iter().sum::<f64>() / truth.len().max(1) as f64;
        let total: f64 = truth.iter().map(|value| (value - mean).powi(2)).sum();
        let error: f64 = predicted.iter().zip(&truth).map(|(a, b)| (a - b).powi(2)).sum();
        1.0 - error / total.max(1e-12)
    };
    (0..num_targets).map(explained).collect()
}

fn fit_and_predict(train: &Samples, test: &Samples) -> Result<(Vec<f32>, f64), ModelsError> {
    let count = train.len();
    if count < 2 * HELD_OUT_BLOCKS || train.dim != test.dim || train.num_targets != test.num_targets {
        return Err(ModelsError::Training(format!(
            "a linear probe needs at least {} training samples of the test samples' size, not {count}",
            2 * HELD_OUT_BLOCKS
        )));
    }
    let scaling = Scaling::of(train);
    let [train_rows, test_rows] = [scaling.apply(&train.features), scaling.apply(&test.features)];
    let kernel = products(&train_rows, &train_rows, train.dim)?;
    let num_fitted = count - count / HELD_OUT_BLOCKS;
    let fitted = Kernel { values: &kernel, count, used: num_fitted };
    let mut best = (f64::NEG_INFINITY, 1.0);
    for share in RIDGES {
        let Some(weights) = fitted.solve(&train.targets, (train.num_targets, share)) else { continue };
        let rows: Vec<f32> = kernel
            .chunks_exact(count)
            .skip(num_fitted)
            .flat_map(|row| row.iter().take(num_fitted).copied().collect::<Vec<f32>>())
            .collect();
        let predictions = weights.predict(&rows, num_fitted);
        let held_out = Samples {
            targets: train.targets.get(num_fitted * train.num_targets..).unwrap_or_default().to_vec(),
            num_targets: train.num_targets,
            ..Samples::default()
        };
        let explained = explained_variance(&predictions, &held_out);
        let mean = explained.iter().sum::<f64>() / explained.len().max(1) as f64;
        if mean > best.0 {
            best = (mean, share);
        }
    }
    let whole = Kernel { values: &kernel, count, used: count };
    let weights = whole
        .solve(&train.targets, (train.num_targets, best.1))
        .ok_or_else(|| ModelsError::Training("the linear probe's features are not finite".to_string()))?;
    Ok((weights.predict(&products(&test_rows, &train_rows, train.dim)?, count), best.1))
}

/// Mean and deviation of each feature over the training samples.
struct Scaling {
    means: Vec<f32>,
    scales: Vec<f32>,
}

impl Scaling {
    fn of(samples: &Samples) -> Self {
        let count = samples.len() as f64;
        let mut sums = vec![[0.0_f64; 2]; samples.dim];
        for row in samples.features.chunks_exact(samples.dim) {
            for ([sum, squares], value) in sums.iter_mut().zip(row) {
                *sum += f64::from(*value);
                *squares += f64::from(*value).powi(2);
            }
        }
        let deviation = |[sum, squares]: &[f64; 2]| (squares / count - (sum / count).powi(2)).max(0.0).sqrt();
        let typical = sums.iter().map(deviation).sum::<f64>() / samples.dim.max(1) as f64;
        // What hardly moves says nothing; scaled up it would only add noise.
        let scale = |sums: &[f64; 2]| 1.0 / deviation(sums).max(0.05 * typical).max(1e-9);
        Self {
            means: sums.iter().map(|[sum, _]| (sum / count) as f32).collect(),
            scales: sums.iter().map(|sums| scale(sums) as f32).collect(),
        }
    }

    fn apply(&self, features: &[f32]) -> Vec<f32> {
        let scaled = |row: &[f32]| {
            let places = row.iter().zip(self.means.iter().zip(&self.scales));
            places.map(|(value, (mean, scale))| (value - mean) * scale).collect::<Vec<f32>>()
        };
        features.chunks_exact(self.means.len().max(1)).flat_map(scaled).collect()
    }
}

/// `[N, M]` inner products of rows, divided by their length so that sizes do not matter.
fn products(a: &[f32], b: &[f32], dim: usize) -> Result<Vec<f32>, ModelsError> {
    let device = Device::flex();
    let tensor = |rows: &[f32]| {
        let shape = [rows.len() / dim.max(1), dim];
        Tensor::<2>::from_data(TensorData::new(rows.to_vec(), shape), &device)
    };
    read_values(tensor(a).matmul(tensor(b).swap_dims(0, 1)).div_scalar(dim as f64).into_data())
}

/// The products of the first `used` training samples.
struct Kernel<'a> {
    values: &'a [f32],
    count: usize,
    used: usize,
}

/// One weight a training sample and target, and the targets' means.
struct Weights {
    values: Vec<f64>,
    means: Vec<f64>,
}

impl Kernel<'_> {
    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.values.get(row * self.count + column).copied().unwrap_or(0.0))
    }

    /// `(K + ridge)^-1 (targets - means)` by Cholesky; nothing when a value is not finite.
    fn solve(&self, targets: &[f32], (num_targets, share): (usize, f64)) -> Option<Weights> {
        let used = self.used;
        let diagonal = (0..used).map(|row| self.at(row, row)).sum::<f64>() / used as f64;
        let ridge = share * diagonal.max(1e-12);
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(used);
        for row in 0..used {
            let mut line: Vec<f64> = Vec::with_capacity(row + 1);
            for (column, other) in factor.iter().enumerate() {
                let sum: f64 = dot(line.get(..column)?, other.get(..column)?);
                line.push((self.at(row, column) - sum) / other.get(column)?);
            }
            let pivot = self.at(row, row) + ridge - dot(&line, &line);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            line.push(pivot.sqrt());
            factor.push(line);
        }
        let mut weights = Weights { values: vec![0.0; used * num_targets], means: vec![0.0; num_targets] };
        for target in 0..num_targets {
            let of_target = targets.iter().skip(target).step_by(num_targets).take(used);
            let mut column: Vec<f64> = of_target.map(|value| f64::from(*value)).collect();
            let mean = column.iter().sum::<f64>() / used as f64;
            column.iter_mut().for_each(|value| *value -= mean);
            back_substitute(&factor, &mut column)?;
            *weights.means.get_mut(target)? = mean;
            for (row, value) in column.into_iter().enumerate() {
                *weights.values.get_mut(row * num_targets + target)? = value;
            }
        }
        Some(weights)
    }
}

impl Weights {
    /// `rows` `[M, used]` of products -> `[M, num_targets]`.
    fn predict(&self, rows: &[f32], used: usize) -> Vec<f32> {
        let num_targets = self.means.len();
        let mut predictions = Vec::new();
        for row in rows.chunks_exact(used.max(1)) {
            let mut sums = self.means.clone();
            for (product, weights) in row.iter().zip(self.values.chunks_exact(num_targets.max(1))) {
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += f64::from(*product) * weight);
            }
            predictions.extend(sums.iter().map(|sum| *sum as f32));
        }
        predictions
    }
}

/// Solves `L L^T x = b` in place.
fn back_substitute(factor: &[Vec<f64>], values: &mut [f64]) -> Option<()> {
    for (row, line) in factor.iter().enumerate() {
        let sum = dot(line.get(..row)?, values.get(..row)?);
        let value = (*values.get(row)? - sum) / line.get(row)?;
        *values.get_mut(row)? = value;
    }
    for (row, line) in factor.iter().enumerate().rev() {
        let value = *values.get(row)? / line.get(row)?;
        *values.get_mut(row)? = value;
        // Column `row` of the transpose is this line.
        values.iter_mut().zip(line.get(..row)?).for_each(|(other, factor)| *other -= factor * value);
    }
    Some(())
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_parts, a_rest) = a.as_chunks::<8>();
    let (b_parts, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_parts.iter().zip(b_parts) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator, normals};

    /// Targets: a linear map of the first two features, and noise that nothing tells.
    fn samples(count: usize, seed: u64) -> Samples {
        let mut random = generator(seed, Stream::Preview, [0, 0]);
        let features = normals(&mut random, count * 12);
        let noise = normals(&mut random, count);
        let targets =
            features.chunks_exact(12).zip(&noise).flat_map(|(row, noise)| [3.0 * row[0] - row[1] + 7.0, *noise]);
        Samples { targets: targets.collect(), features, dim: 12, num_targets: 2 }
    }

    #[test]
    fn a_linear_map_is_found_and_noise_is_not() {
        let probe = linear_probe(&samples(200, 1), &samples(100, 2)).expect("fits");
        assert!(probe.explained[0] > 0.999 && probe.explained[1] < 0.1, "{probe:?}");
        assert!((probe.mean() - 0.5 * (probe.explained[0] + probe.explained[1])).abs() < 1e-12);
    }

    #[test]
    fn more_features_than_samples_do_and_too_few_samples_are_refused() {
        // Each feature 25 times over: 300 of them for 60 samples.
        let widen = |samples: Samples| {
            let features = samples.features.chunks_exact(12).flat_map(|row| row.repeat(25)).collect();
            Samples { features, dim: 300, ..samples }
        };
        let probe = linear_probe(&widen(samples(60, 3)), &widen(samples(30, 4))).expect("fits");
        assert!(probe.explained[0] > 0.99, "{probe:?}");
        assert!(linear_probe(&samples(9, 1), &samples(9, 2)).is_err());
    }
}
