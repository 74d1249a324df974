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
    /// For the patches `[N, T]` of a grid `columns` wide. The first half of a head's channels turns with the row, the second with the
    /// column; within a half of size D, channels k and k + D/2 turn together by `place * 100^(-2k / D)`.
    pub(crate) fn new(
        (patches, num_tokens): (&[usize], usize),
        [columns, head_dim]: [usize; 2],
        device: &Device,
    ) -> Self {
        let quarter = head_dim / 4;
        let frequencies: Vec<f32> =
            (0..quarter).map(|k| 1.0 / ROTARY_BASE.powf(2.0 * k as f32 / (head_dim / 2) as f32)).collect();
        let angles =
            patches.iter().flat_map(|patch| [patch / columns, patch / columns, patch % columns, patch % columns]);
        let angles: Vec<f32> =
            angles.flat_map(|place| frequencies.iter().map(move |frequency| place as f32 * frequency)).collect();
        let shape = [patches.len() / num_tokens.max(1), 1, num_tokens, head_dim];
        let table = |of: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle)).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Self { cosines: table(f32::cos), sines: table(f32::sin) }
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
