//! A linear probe in closed form: ridge regression on standardised frozen features, its ridge chosen on held-out training samples.
//!
//! As many equations are solved as there are samples or features, whichever are fewer.

use burn::tensor::{Device, Tensor, TensorData};

use super::Samples;
use super::nearest::share_right;
use crate::error::ModelsError;
use crate::kernels::dot;
use crate::method::read_values;
use crate::scores::mean_of_numbers;

/// Ridges that are tried, as shares of the samples' mean squared length.
const RIDGES: [f64; 7] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];
/// One of this many training samples is held out to choose the ridge.
const HELD_OUT_ONE_OF: usize = 5;
/// Equations that are solved: as many as a picture of 64 x 64 pixels has values.
const MAX_EQUATIONS: usize = 12_288;
/// Samples that are predicted at a time.
const BATCH: usize = 1024;
/// A target whose deviation is less than this share of its size does not move.
const LEAST_DEVIATION: f64 = 1e-6;

/// What a linear map tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearProbe {
    /// As [`explained_variance`] on the test samples.
    pub explained: Vec<f64>,
    /// The ridge that was chosen.
    pub ridge: f64,
}

impl LinearProbe {
    /// Mean over the targets that can be measured; not a number where there is none.
    pub fn mean(&self) -> f64 {
        mean_of_numbers(&self.explained)
    }
}

/// Fits on `train`, whose last fifth (samples lie in the order of their videos, and neighbours are alike) chooses the ridge, and scores on
/// `test`.
///
/// # Errors
/// [`ModelsError::Training`] when there are fewer than 10 training samples, the sizes differ, or both samples and features are more than
/// 12 288.
pub fn linear_probe(train: &Samples, test: &Samples) -> Result<LinearProbe, ModelsError> {
    let score = |predictions: &[f32], asked: &Samples| [mean_of_numbers(&explained_variance(predictions, asked)), 0.0];
    let (predictions, ridge) = fit_and_predict((train, test), &last_fifth(train), score)?;
    Ok(LinearProbe { explained: explained_variance(&predictions, test), ridge })
}

/// Share of `test` whose class the linear map names; targets are one-hot. A fifth of each class chooses the ridge, by the same share.
///
/// # Errors
/// As [`linear_probe`].
pub fn classify_linearly(train: &Samples, test: &Samples) -> Result<f64, ModelsError> {
    let score = |predictions: &[f32], asked: &Samples| {
        [share_right(predictions, asked), mean_of_numbers(&explained_variance(predictions, asked))]
    };
    Ok(share_right(&fit_and_predict((train, test), &fifth_of_each_class(train), score)?.0, test))
}

/// For each target, 1 less the squared error over the variance, on the samples; below 0 is worse than the mean. Not a number for a
/// target that does not move, of which nothing can be explained.
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
        let size: f64 = truth.iter().map(|value| value.powi(2)).sum();
        if total > LEAST_DEVIATION.powi(2) * size { 1.0 - error / total } else { f64::NAN }
    };
    (0..num_targets).map(explained).collect()
}

/// Which samples choose the ridge: the last fifth.
fn last_fifth(samples: &Samples) -> Vec<bool> {
    let num_fitted = samples.len() - samples.len() / HELD_OUT_ONE_OF;
    (0..samples.len()).map(|idx| idx >= num_fitted).collect()
}

/// Which samples choose the ridge: every fifth of each class, of a class of fewer the last one, of a class of one none.
fn fifth_of_each_class(samples: &Samples) -> Vec<bool> {
    let class = |row: &[f32]| row.iter().position(|value| *value > 0.5).unwrap_or(0);
    let classes: Vec<usize> = samples.targets.chunks_exact(samples.num_targets.max(1)).map(class).collect();
    let mut seen = vec![0_usize; samples.num_targets.max(1)];
    let mut sizes = seen.clone();
    classes.iter().for_each(|class| sizes.get_mut(*class).into_iter().for_each(|size| *size += 1));
    let mut is_held_out = |class: &usize| {
        let (Some(seen), Some(size)) = (seen.get_mut(*class), sizes.get(*class)) else { return false };
        *seen += 1;
        seen.is_multiple_of(HELD_OUT_ONE_OF) || (2..HELD_OUT_ONE_OF).contains(size) && *seen == *size
    };
    classes.iter().map(&mut is_held_out).collect()
}

/// Predictions for the second samples `[M, num_targets]` and the ridge, which gives the held-out samples their largest score.
fn fit_and_predict(
    (train, test): (&Samples, &Samples),
    held_out: &[bool],
    score: impl Fn(&[f32], &Samples) -> [f64; 2],
) -> Result<(Vec<f32>, f64), ModelsError> {
    let count = train.len();
    if count < 2 * HELD_OUT_ONE_OF || train.dim != test.dim || train.num_targets != test.num_targets {
        return Err(ModelsError::Training(format!(
            "a linear probe needs at least {} training samples of the test samples' size, not {count}",
            2 * HELD_OUT_ONE_OF
        )));
    }
    check_equations([count, train.dim])?;
    let scaling = Scaling::of(train);
    let [train, test] = [train, test].map(|samples| scaling.apply(samples));
    let [fitted, asked] = [false, true].map(|wanted| part(&train, held_out, wanted));
    let mut best = ([f64::NEG_INFINITY; 2], 1.0);
    let equations = Equations::new(&fitted)?;
    for ridge in RIDGES {
        let Some(weights) = equations.solve(ridge) else { continue };
        let found = score(&equations.predict(&weights, &asked)?, &asked);
        if found > best.0 {
            best = (found, ridge);
        }
    }
    let equations = Equations::new(&train)?;
    // What was enough for a part may be too little for the whole.
    let solved = RIDGES.into_iter().filter(|ridge| *ridge >= best.1).find_map(|ridge| {
        let weights = equations.solve(ridge)?;
        Some((weights, ridge))
    });
    let (weights, ridge) =
        solved.ok_or_else(|| ModelsError::Training("the linear probe's features are not finite".to_string()))?;
    Ok((equations.predict(&weights, &test)?, ridge))
}

fn check_equations([count, dim]: [usize; 2]) -> Result<(), ModelsError> {
    if count.min(dim) <= MAX_EQUATIONS {
        return Ok(());
    }
    Err(ModelsError::Training(format!(
        "a linear probe of {count} samples with {dim} values each: at most {MAX_EQUATIONS} of either are solved for; give fewer samples, or \
         smaller pictures"
    )))
}

/// The samples that are held out, or the others.
fn part(samples: &Samples, held_out: &[bool], wanted: bool) -> Samples {
    let rows = |values: &[f32], length: usize| -> Vec<f32> {
        let rows = values.chunks_exact(length.max(1)).zip(held_out).filter(|(_, held_out)| **held_out == wanted);
        rows.flat_map(|(row, _)| row.iter().copied()).collect()
    };
    let Samples { dim, num_targets, .. } = *samples;
    Samples { features: rows(&samples.features, dim), dim, targets: rows(&samples.targets, num_targets), num_targets }
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

    fn apply(&self, samples: &Samples) -> Samples {
        let scaled = |row: &[f32]| {
            let places = row.iter().zip(self.means.iter().zip(&self.scales));
            places.map(|(value, (mean, scale))| (value - mean) * scale).collect::<Vec<f32>>()
        };
        let features = samples.features.chunks_exact(self.means.len().max(1)).flat_map(scaled).collect();
        Samples { features, targets: samples.targets.clone(), ..*samples }
    }
}

/// `(M + ridge) x = right` for each target: of the features' products with each other, or, where these are more than the samples, of the
/// samples' (the same map in its other form). All products are divided by the length of a sample, so that sizes do not matter.
struct Equations<'a> {
    samples: &'a Samples,
    form: Form,
    /// Symmetric, `[size, size]`.
    matrix: Vec<f64>,
    size: usize,
    /// A column a target.
    right: Vec<Vec<f64>>,
    /// Of each target.
    means: Vec<f64>,
    /// The samples' mean squared length.
    length: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OfFeatures,
    OfSamples,
}

impl<'a> Equations<'a> {
    fn new(samples: &'a Samples) -> Result<Self, ModelsError> {
        let Samples { features, dim, targets, num_targets } = samples;
        let (count, dim, num_targets) = (samples.len(), *dim, *num_targets);
        let mean = |target: usize| {
            targets.iter().skip(target).step_by(num_targets).map(|value| f64::from(*value)).sum::<f64>()
        };
        let means: Vec<f64> = (0..num_targets).map(|target| mean(target) / count as f64).collect();
        let column = |(target, mean): (usize, &f64)| -> Vec<f64> {
            let of_target = targets.iter().skip(target).step_by(num_targets);
            of_target.map(|value| f64::from(*value) - mean).collect()
        };
        let columns: Vec<Vec<f64>> = means.iter().enumerate().map(column).collect();
        let length = features.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / (count * dim) as f64;
        if count <= dim {
            let matrix = products(features, features, dim)?.into_iter().map(f64::from).collect();
            return Ok(Self { samples, form: Form::OfSamples, matrix, size: count, right: columns, means, length });
        }
        let right = columns.iter().map(|column| weighted_sum(features, column)).collect();
        let matrix = feature_products(features, dim)?;
        Ok(Self { samples, form: Form::OfFeatures, matrix, size: dim, right, means, length })
    }

    /// `[size]` weights a target, by Cholesky; nothing when a value is not finite, or the ridge too small.
    fn solve(&self, ridge: f64) -> Option<Vec<Vec<f64>>> {
        let ridge = ridge * self.length.max(1e-12);
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(self.size);
        for (row, values) in self.matrix.chunks_exact(self.size.max(1)).enumerate() {
            let mut line: Vec<f64> = Vec::with_capacity(row + 1);
            for ((column, other), value) in factor.iter().enumerate().zip(values) {
                let sum: f64 = dot(line.get(..column)?, other.get(..column)?);
                line.push((value - sum) / other.get(column)?);
            }
            let pivot = values.get(row)? + ridge - dot(&line, &line);
            if !(pivot > 0.0 && pivot.is_finite()) {
                return None;
            }
            line.push(pivot.sqrt());
            factor.push(line);
        }
        let mut weights = self.right.clone();
        weights.iter_mut().try_for_each(|column| back_substitute(&factor, column))?;
        Some(weights)
    }

    /// `[M, num_targets]` for the samples asked.
    fn predict(&self, weights: &[Vec<f64>], asked: &Samples) -> Result<Vec<f32>, ModelsError> {
        let mut predictions = Vec::with_capacity(asked.len() * self.means.len());
        for part in asked.features.chunks(BATCH * asked.dim.max(1)) {
            let rows = match self.form {
                Form::OfFeatures => part.to_vec(),
                Form::OfSamples => products(part, &self.samples.features, asked.dim)?,
            };
            for row in rows.chunks_exact(self.size.max(1)) {
                predictions.extend(weights.iter().zip(&self.means).map(|(weights, mean)| {
                    let sum: f64 = row.iter().zip(weights).map(|(value, weight)| f64::from(*value) * weight).sum();
                    (mean + sum) as f32
                }));
            }
        }
        Ok(predictions)
    }
}

/// `[N, M]` inner products of rows, divided by their length.
fn products(a: &[f32], b: &[f32], dim: usize) -> Result<Vec<f32>, ModelsError> {
    read_values(rows_of(a, dim).matmul(rows_of(b, dim).swap_dims(0, 1)).div_scalar(dim as f64).into_data())
}

/// `[dim, dim]` inner products of columns, divided by the rows' length. Added up in f64, for what many samples add up to is large beside a
/// small ridge.
fn feature_products(rows: &[f32], dim: usize) -> Result<Vec<f64>, ModelsError> {
    let mut sums = vec![0.0; dim * dim];
    for part in rows.chunks(dim * dim.max(256)) {
        let rows = rows_of(part, dim);
        let products = read_values(rows.clone().swap_dims(0, 1).matmul(rows).div_scalar(dim as f64).into_data())?;
        sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += f64::from(product));
    }
    Ok(sums)
}

fn rows_of(values: &[f32], dim: usize) -> Tensor<2> {
    let shape = [values.len() / dim.max(1), dim];
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
}

/// The sum of the rows, each times its weight, divided by their length.
fn weighted_sum(rows: &[f32], weights: &[f64]) -> Vec<f64> {
    let dim = rows.len() / weights.len().max(1);
    let mut sums = vec![0.0; dim];
    for (row, weight) in rows.chunks_exact(dim.max(1)).zip(weights) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value) * weight / dim as f64);
    }
    sums
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
        let error = check_equations([20_000, 30_000]).expect_err("too many").to_string();
        assert!(error.contains("20000 samples with 30000 values") && error.contains("12288"), "{error}");
        assert!(check_equations([usize::MAX, 384]).is_ok() && check_equations([500, 150_528]).is_ok());
    }

    #[test]
    fn both_forms_are_one_map() {
        // Features that never move add nothing, but bring their number above the samples'.
        let widen = |samples: Samples| {
            let features = samples.features.chunks_exact(12).flat_map(|row| [row, &[0.5; 300][..]].concat()).collect();
            Samples { features, dim: 312, ..samples }
        };
        let predict = |train: &Samples, test: &Samples| {
            let held_out = last_fifth(train);
            fit_and_predict((train, test), &held_out, |predictions, asked| {
                [mean_of_numbers(&explained_variance(predictions, asked)), 0.0]
            })
        };
        let [train, test] = [samples(200, 1), samples(100, 2)];
        let (of_features, ridge) = predict(&train, &test).expect("fits");
        let (of_samples, same) = predict(&widen(train), &widen(test)).expect("fits");
        let is_near = of_features.iter().zip(&of_samples).all(|(a, b)| (a - b).abs() < 1e-3);
        assert!(is_near && (ridge - same).abs() < 1e-12, "{ridge} {same}");
    }

    #[test]
    fn every_class_is_in_both_parts_and_a_class_of_one_is_fitted_on() {
        // Class by class, as images are read: 7, 5, 2 and 1 of them.
        let classes = [vec![0; 7], vec![1; 5], vec![2; 2], vec![3]].concat();
        let one_hot = |class: &usize| (0..4).map(|at| if at == *class { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
        let samples =
            Samples { targets: classes.iter().flat_map(one_hot).collect(), num_targets: 4, ..Samples::default() };
        let held_out = fifth_of_each_class(&samples);
        let places: Vec<usize> = (0..15).filter(|idx| held_out[*idx]).collect();
        assert_eq!(places, [4, 11, 13]);
    }

    #[test]
    fn what_does_not_move_is_not_measured() {
        let mut train = samples(200, 1);
        let still =
            |samples: &mut Samples| samples.targets.iter_mut().skip(1).step_by(2).for_each(|value| *value = 0.3);
        let mut test = samples(100, 2);
        [&mut train, &mut test].into_iter().for_each(still);
        let probe = linear_probe(&train, &test).expect("fits");
        assert!(probe.explained[0] > 0.999 && probe.explained[1].is_nan(), "{probe:?}");
        assert!((probe.mean() - probe.explained[0]).abs() < 1e-12);
    }
}
