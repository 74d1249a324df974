//! The three strongest directions of many feature vectors, as colours.

use crate::kernels::dot;

/// Rounds of power iteration for each direction.
const ROUNDS: usize = 60;

/// Each of the vectors `[n, dim]` along the first three principal directions, each direction stretched to 0..1.
pub(super) fn component_colours(values: &[f32], dim: usize) -> Vec<[f32; 3]> {
    let dim = dim.max(1);
    let count = (values.len() / dim).max(1) as f64;
    let mut mean = vec![0.0; dim];
    for row in values.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value) / count);
    }
    let centred: Vec<f64> = values
        .chunks_exact(dim)
        .flat_map(|row| row.iter().zip(&mean).map(|(value, mean)| f64::from(*value) - mean))
        .collect();
    let mut covariance = vec![0.0; dim * dim];
    for row in centred.chunks_exact(dim) {
        for (line, left) in covariance.chunks_exact_mut(dim).zip(row) {
            line.iter_mut().zip(row).for_each(|(sum, right)| *sum += left * right);
        }
    }
    let mut colours = vec![[0.0; 3]; centred.len() / dim];
    for channel in 0..3 {
        let direction = strongest(&covariance, dim);
        let projected: Vec<f64> = centred.chunks_exact(dim).map(|row| dot(row, &direction)).collect();
        let [least, most] = projected
            .iter()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], value| [least.min(*value), most.max(*value)]);
        let range = (most - least).max(1e-12);
        for (colour, value) in colours.iter_mut().zip(&projected) {
            if let Some(slot) = colour.get_mut(channel) {
                *slot = ((value - least) / range) as f32;
            }
        }
        remove(&mut covariance, &direction);
    }
    colours
}

/// The unit eigenvector of the largest eigenvalue, by power iteration; its largest entry is positive, so that colours stay.
fn strongest(covariance: &[f64], dim: usize) -> Vec<f64> {
    let mut direction: Vec<f64> = (0..dim).map(|idx| 1.0 + idx as f64 / dim as f64).collect();
    for _ in 0..ROUNDS {
        let next: Vec<f64> = covariance.chunks_exact(dim).map(|line| dot(line, &direction)).collect();
        let norm = dot(&next, &next).sqrt();
        if norm <= 1e-300 {
            break;
        }
        direction = next.into_iter().map(|value| value / norm).collect();
    }
    let largest = direction
        .iter()
        .copied()
        .fold(0.0_f64, |largest, value| if value.abs() > largest.abs() { value } else { largest });
    direction.iter_mut().for_each(|value| *value *= if largest < 0.0 { -1.0 } else { 1.0 });
    direction
}

/// Takes a direction out of a covariance.
fn remove(covariance: &mut [f64], direction: &[f64]) {
    let dim = direction.len();
    let along: Vec<f64> = covariance.chunks_exact(dim).map(|line| dot(line, direction)).collect();
    let strength = dot(&along, direction);
    for (line, left) in covariance.chunks_exact_mut(dim).zip(direction) {
        line.iter_mut().zip(direction).for_each(|(value, right)| *value -= strength * left * right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_direction_comes_first() {
        let values: Vec<f32> =
            (0..30).flat_map(|idx| [0.1 * (idx % 3) as f32, idx as f32, 0.0, (idx % 2) as f32]).collect();
        let colours = component_colours(&values, 4);
        assert_eq!(colours.len(), 30);
        for (idx, colour) in colours.iter().enumerate() {
            assert!((colour[0] - idx as f32 / 29.0).abs() < 0.05, "{idx}: {colour:?}");
            assert!(colour.iter().all(|value| (0.0..=1.0).contains(value)));
        }
    }
}
