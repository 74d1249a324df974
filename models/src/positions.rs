//! Position tables: fixed 2-D sine and cosine.

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
