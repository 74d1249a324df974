//! k-NN on frozen features: the neighbours by cosine vote with `exp(cosine / temperature)` (Wu et al. 2018; DINO's `eval_knn.py`).

use super::Samples;
use crate::kernels::dot;

/// Neighbours that vote; fewer where there are fewer samples (DINO's best value).
pub const NUM_NEAREST: usize = 20;
/// Of the votes (DINO's).
pub const NEAREST_TEMPERATURE: f32 = 0.07;

/// The votes' mean of the neighbours' targets for each sample of `asked`: `[N, num_targets]`.
pub fn predict_by_nearest(known: &Samples, asked: &Samples) -> Vec<f32> {
    let rows = unit_rows(&known.features, known.dim);
    let queries = unit_rows(&asked.features, asked.dim);
    let mut predictions = Vec::with_capacity(asked.len() * known.num_targets);
    for query in queries.chunks_exact(asked.dim.max(1)) {
        let mut likeness: Vec<(f32, usize)> =
            rows.chunks_exact(known.dim.max(1)).map(|row| dot(row, query)).zip(0..).collect();
        likeness.sort_by(|a, b| b.0.total_cmp(&a.0));
        likeness.truncate(NUM_NEAREST);
        let largest = likeness.first().map_or(0.0, |near| near.0);
        let votes = likeness.iter().map(|(cosine, idx)| (((cosine - largest) / NEAREST_TEMPERATURE).exp(), *idx));
        let mut sums = vec![0.0_f32; known.num_targets];
        let mut total = 0.0;
        for (vote, idx) in votes {
            let target = known.targets.get(idx * known.num_targets..(idx + 1) * known.num_targets).unwrap_or_default();
            sums.iter_mut().zip(target).for_each(|(sum, value)| *sum += vote * value);
            total += vote;
        }
        predictions.extend(sums.iter().map(|sum| sum / total));
    }
    predictions
}

/// Share of `asked` whose class the votes name; targets are one-hot.
pub fn classify_by_nearest(known: &Samples, asked: &Samples) -> f64 {
    share_right(&predict_by_nearest(known, asked), asked)
}

/// Share of the samples whose largest prediction is where the largest target is.
pub(super) fn share_right(predictions: &[f32], asked: &Samples) -> f64 {
    let num_targets = asked.num_targets.max(1);
    let largest = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(idx, _)| idx);
    let pairs = predictions.chunks_exact(num_targets).zip(asked.targets.chunks_exact(num_targets));
    let num_right = pairs.filter(|(predicted, target)| largest(predicted) == largest(target)).count();
    num_right as f64 / asked.len().max(1) as f64
}

/// Rows of length 1.
pub(crate) fn unit_rows(values: &[f32], dim: usize) -> Vec<f32> {
    let unit = |row: &[f32]| {
        let norm = dot(row, row).sqrt().max(1e-12);
        row.iter().map(|value| value / norm).collect::<Vec<f32>>()
    };
    values.chunks_exact(dim.max(1)).flat_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_on_the_same_side_name_the_class() {
        let samples = |features: &[f32], targets: &[f32]| Samples {
            features: features.to_vec(),
            dim: 2,
            targets: targets.to_vec(),
            num_targets: 2,
        };
        let known = samples(&[1.0, 0.1, 0.9, 0.0, -0.1, 1.0, 0.0, 2.0], &[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let asked = samples(&[5.0, 1.0, 0.1, 0.3], &[1.0, 0.0, 0.0, 1.0]);
        assert!((classify_by_nearest(&known, &asked) - 1.0).abs() < 1e-12);
        let wrong = samples(&[5.0, 1.0, 0.1, 0.3], &[0.0, 1.0, 0.0, 1.0]);
        assert!((classify_by_nearest(&known, &wrong) - 0.5).abs() < 1e-12);
        let long: Vec<f32> = (0..37).map(|value| value as f32).collect();
        assert!((dot(&long, &long) - 16206.0).abs() < 1e-2);
    }
}
