//! The bowl with smooth random bumps that the quadruped escapes from.

use std::f64::consts::PI;

use crate::random::RandomState;

/// 0: as bumpy as can be, 1: smooth.
const SMOOTHNESS: f64 = 0.15;
/// The pole of the cubic B-spline (Unser 1999, table I).
const CUBIC_POLE: f64 = -0.267_949_192_431_122_7;

/// Heights `[resolution, resolution]`: a sinusoidal bowl times `num_bumps` x `num_bumps` random bumps in between splines.
pub(super) fn bumpy_bowl(resolution: usize, num_bumps: usize, random: &mut RandomState) -> Vec<f32> {
    let bumps: Vec<f64> = (0..num_bumps * num_bumps).map(|_| random.uniform(SMOOTHNESS, 1.0)).collect();
    let smooth_bumps = zoom(bumps, num_bumps, resolution);
    let step = 2.0 / (resolution - 1) as f64;
    let coordinate = |index: usize| index as f64 * step - 1.0;
    let height = |(index, bump): (usize, f64)| {
        let [row, column] = [coordinate(index / resolution), coordinate(index % resolution)];
        let radius = (column * column + row * row).sqrt().clamp(0.04, 1.0);
        ((0.5 - (2.0 * PI * radius).cos() / 2.0) * bump) as f32
    };
    smooth_bumps.into_iter().enumerate().map(height).collect()
}

/// `scipy.ndimage.zoom` of a square by cubic splines.
fn zoom(mut values: Vec<f64>, size: usize, new_size: usize) -> Vec<f64> {
    for line in 0..size {
        filter_line(&mut values, (0..size).map(|row| row * size + line).collect());
    }
    for line in 0..size {
        filter_line(&mut values, (0..size).map(|column| line * size + column).collect());
    }
    let scale = (size - 1) as f64 / (new_size - 1) as f64;
    let supports: Vec<_> = (0..new_size).map(|index| support(index as f64 * scale, size)).collect();
    let value = |index: usize| {
        let [rows, columns] = [&supports[index / new_size], &supports[index % new_size]];
        let mut sum = 0.0;
        for (row, row_weight) in rows {
            for (column, column_weight) in columns {
                sum += values[row * size + column] * row_weight * column_weight;
            }
        }
        sum
    };
    (0..new_size * new_size).map(value).collect()
}

/// Turns the samples of one line into spline coefficients, with mirrored ends (`ni_splines.c`).
fn filter_line(values: &mut [f64], line: Vec<usize>) {
    let (pole, last) = (CUBIC_POLE, line.len() - 1);
    let gain = (1.0 - pole) * (1.0 - 1.0 / pole);
    let mut coefficients: Vec<f64> = line.iter().map(|index| values[*index] * gain).collect();
    let far = pole.powi(last as i32);
    let mut power = pole;
    coefficients[0] += far * coefficients[last];
    for index in 1..last {
        coefficients[0] += power * (coefficients[index] + far * coefficients[last - index]);
        power *= pole;
    }
    coefficients[0] /= 1.0 - far * far;
    for index in 1..=last {
        coefficients[index] += pole * coefficients[index - 1];
    }
    coefficients[last] = (pole * coefficients[last - 1] + coefficients[last]) * pole / (pole * pole - 1.0);
    for index in (0..last).rev() {
        coefficients[index] = pole * (coefficients[index + 1] - coefficients[index]);
    }
    line.into_iter().zip(coefficients).for_each(|(index, coefficient)| values[index] = coefficient);
}

/// The four coefficients that a coordinate depends on, and their weights.
fn support(coordinate: f64, size: usize) -> [(usize, f64); 4] {
    let start = coordinate.floor() as i64 - 1;
    let near = coordinate - coordinate.floor();
    let far = 1.0 - near;
    let inner = |distance: f64| (distance * distance * (distance - 2.0) * 3.0 + 4.0) / 6.0;
    let weights = [far * far * far / 6.0, inner(near), inner(far)];
    let last = 1.0 - weights[0] - weights[1] - weights[2];
    let mirror = |index: i64| {
        let end = size as i64 - 1;
        let index = index.abs();
        (if index > end { 2 * end - index } else { index }) as usize
    };
    let indices = [0, 1, 2, 3].map(|offset| mirror(start + offset));
    [(indices[0], weights[0]), (indices[1], weights[1]), (indices[2], weights[2]), (indices[3], last)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scipy's `zoom(values.reshape(4, 4), 7 / 4)`, its last row and column left out.
    #[test]
    fn zoom_is_scipys() {
        let values: Vec<f64> = (0..16).map(|index| f64::from(index * index % 11)).collect();
        let found = zoom(values, 4, 7);
        for (row, expected) in GOLDEN.iter().enumerate() {
            for (column, expected) in expected.iter().enumerate() {
                let found = found[row * 7 + column];
                assert!((found - expected).abs() < 1e-13, "{row}, {column}: {found} instead of {expected}");
            }
        }
    }

    const GOLDEN: [[f64; 6]; 6] = [
        [9.887152824856255e-16, 0.3000000000000007, 1.0000000000000016, 1.9999999999999998, 4.000000000000001, 7.2],
        [
            1.499999999999999,
            1.5218749999999996,
            1.725000000000001,
            2.371875000000001,
            3.950000000000001,
            6.481250000000001,
        ],
        [4.999999999999999, 4.25, 3.000000000000002, 2.5000000000000018, 3.0000000000000013, 4.250000000000002],
        [8.624999999999996, 6.903125000000001, 3.750000000000001, 1.6406250000000002, 0.8749999999999992, 1.08125],
        [9.0, 7.200000000000003, 4.0, 2.000000000000001, 1.0000000000000002, 0.30000000000000016],
        [4.375, 4.037499999999999, 4.0249999999999995, 5.1750000000000025, 5.675000000000003, 4.0375],
    ];
}
