//! How tokens know their place: fixed 2-D sine and cosine tables, rotary turns.

use burn::tensor::{Device, Tensor, TensorData};

/// Base of the rotary frequencies (CroCo v2's `RoPE100`).
const ROTARY_BASE: f32 = 100.0;

/// The rotary turn of some tokens, for one head width.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    /// `[N or 1, 1, T, d]`.
    cosines: Tensor<4>,
    /// `[N or 1, 1, T, d]`.
    sines: Tensor<4>,
}

impl Rotation {
    /// For the patches `[N, T]` of a grid `columns` wide; see [`rotary_tables`].
    pub(crate) fn new(
        (patches, num_tokens): (&[usize], usize),
        [columns, head_dim]: [usize; 2],
        device: &Device,
    ) -> Self {
        let shape = [patches.len() / num_tokens.max(1), 1, num_tokens, head_dim];
        let to_tensor = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), device);
        let [cosines, sines] = rotary_tables(patches, [columns, head_dim]).map(to_tensor);
        Self { cosines, sines }
    }

    /// Turns `x` `[N, H, T, d]`.
    pub(crate) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let [.., head_dim] = x.dims();
        let quarter = head_dim / 4;
        let part = |part_idx: usize| x.clone().narrow(3, part_idx * quarter, quarter);
        let partners = Tensor::cat(vec![part(1).neg(), part(0), part(3).neg(), part(2)], 3);
        x.clone() * self.cosines.clone() + partners * self.sines.clone()
    }
}

/// Cosines and sines `[patches, head_dim]` for patches of a grid `columns` wide. The first half of a head's channels turns with the row,
/// the second with the column; within a half of size D, channels k and k + D/2 turn together by `place * 100^(-2k / D)`.
pub(crate) fn rotary_tables(patches: &[usize], [columns, head_dim]: [usize; 2]) -> [Vec<f32>; 2] {
    let quarter = head_dim / 4;
    let frequencies: Vec<f32> =
        (0..quarter).map(|k| 1.0 / ROTARY_BASE.powf(2.0 * k as f32 / (head_dim / 2) as f32)).collect();
    let angles = patches.iter().flat_map(|patch| [patch / columns, patch / columns, patch % columns, patch % columns]);
    let angles: Vec<f32> =
        angles.flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency)).collect();
    [f32::cos, f32::sin].map(|of: fn(f32) -> f32| angles.iter().map(|angle| of(*angle)).collect())
}

/// `[num_class_tokens + rows * columns, dim]`, row-major over the grid: the first half of the channels holds the column, the
/// second the row, each as `[sin | cos]` with frequencies `10000^(-k / (dim / 4))`; rows of class tokens are zero (MAE,
/// `get_2d_sincos_pos_embed`, in f64).
pub fn sin_cos_table([rows, columns]: [usize; 2], dim: usize, num_class_tokens: usize) -> Vec<f32> {
    let quarter = dim / 4;
    let frequencies: Vec<f64> = (0..quarter).map(|k| 1.0 / 10000_f64.powf(k as f64 / quarter as f64)).collect();
    let mut table = vec![0.0; num_class_tokens * dim];
    for row in 0..rows {
        for column in 0..columns {
            for place in [column, row] {
                table.extend(frequencies.iter().map(|frequency| (place as f64 * frequency).sin() as f32));
                table.extend(frequencies.iter().map(|frequency| (place as f64 * frequency).cos() as f32));
            }
        }
    }
    table
}

/// How a position table is stretched to another grid; both are bicubic (a = -0.75, edges repeated).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// To exactly the grid's size (MAE's and RSP's `interpolate_pos_embed`).
    ToSize,
    /// By the scale (size + 0.1) / grid (DINO's `interpolate_pos_encoding`), which samples at slightly other places.
    DinoScale,
}

/// A table `[num_class_tokens + grid * grid, dim]` stretched to `rows` x `columns`; rows of class tokens stay. Nothing when the table
/// is not of a square grid.
pub fn interpolate_positions(
    table: &[f32],
    (dim, num_class_tokens): (usize, usize),
    ([rows, columns], stretch): ([usize; 2], Stretch),
) -> Option<Vec<f32>> {
    let (class_rows, patches) = table.split_at_checked(num_class_tokens * dim)?;
    let grid = (patches.len() / dim.max(1)).isqrt();
    if grid == 0 || grid * grid * dim != patches.len() {
        return None;
    }
    if [rows, columns] == [grid, grid] {
        return Some(table.to_vec());
    }
    let [down, across] = [rows, columns].map(|size| cubic_taps(grid, size, stretch));
    let mut stretched = class_rows.to_vec();
    for (row_taps, column_taps) in down.iter().flat_map(|row| across.iter().map(move |column| (row, column))) {
        let mut sums = vec![0.0_f32; dim];
        for (&(row, row_weight), &(column, column_weight)) in
            row_taps.iter().flat_map(|row| column_taps.iter().map(move |column| (row, column)))
        {
            let start = (row * grid + column) * dim;
            let source = patches.get(start..start + dim).unwrap_or_default();
            sums.iter_mut().zip(source).for_each(|(sum, value)| *sum += row_weight * column_weight * value);
        }
        stretched.extend(sums);
    }
    Some(stretched)
}

/// For each target place, four source places and their weights; coordinates in f32 as PyTorch has them.
fn cubic_taps(num_source: usize, num_target: usize, stretch: Stretch) -> Vec<[(usize, f32); 4]> {
    const A: f32 = -0.75;
    let near = |t: f32| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f32| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let step = match stretch {
        Stretch::ToSize => num_source as f32 / num_target as f32,
        Stretch::DinoScale => (1.0 / ((num_target as f64 + 0.1) / num_source as f64)) as f32,
    };
    let last = num_source as i64 - 1;
    let taps = |target: usize| {
        let place = step * (target as f32 + 0.5) - 0.5;
        let base = place.floor();
        let t = place - base;
        let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        let mut offset = base as i64 - 2;
        weights.map(|weight| {
            offset += 1;
            (offset.clamp(0, last) as usize, weight)
        })
    };
    (0..num_target).map(taps).collect()
}
