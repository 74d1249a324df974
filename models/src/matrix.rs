//! Products of matrices that lie anywhere in memory, on the CPU: read and written where they are, never copied to be turned.

use gemm::{Parallelism, gemm};

/// Products of fewer multiplications are not worth a second thread.
const LEAST_TO_SHARE: usize = 1 << 22;

/// A matrix inside a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    /// From the first value to the last, and no further.
    values: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]` from the start of `values`, whose rows begin `stride` apart.
    pub(crate) fn new(values: &'a [f32], shape: [usize; 2], stride: usize) -> Self {
        Self { values: &values[..extent(shape, stride)], shape, strides: [stride, 1] }
    }

    /// Rows for columns.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, columns], [of_rows, of_columns]) = (self.shape, self.strides);
        Self { shape: [columns, rows], strides: [of_columns, of_rows], ..self }
    }
}

/// A matrix inside a slice that is written.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    values: &'a mut [f32],
    shape: [usize; 2],
    stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// As [`Matrix::new`].
    pub(crate) fn new(values: &'a mut [f32], shape: [usize; 2], stride: usize) -> Self {
        assert!(shape[0] <= 1 || stride >= shape[1], "rows of {} values lie {stride} apart", shape[1]);
        Self { values: &mut values[..extent(shape, stride)], shape, stride }
    }

    /// Becomes `a b`.
    pub(crate) fn set(&mut self, a: Matrix<'_>, b: Matrix<'_>) {
        self.product(a, b, false);
    }

    /// Grows by `a b`.
    pub(crate) fn add(&mut self, a: Matrix<'_>, b: Matrix<'_>) {
        self.product(a, b, true);
    }

    #[expect(unsafe_code, reason = "the product takes pointers; each matrix lies within its slice")]
    fn product(&mut self, a: Matrix<'_>, b: Matrix<'_>, adds: bool) {
        let ([rows, inner], [of, columns]) = (a.shape, b.shape);
        assert!(self.shape == [rows, columns] && inner == of, "{:?} = {:?} {:?}", self.shape, a.shape, b.shape);
        let shared = rows * inner * columns >= LEAST_TO_SHARE && rayon::current_num_threads() > 1;
        let parallelism = if shared { Parallelism::Rayon(0) } else { Parallelism::None };
        let [a_strides, b_strides] = [a.strides, b.strides].map(|strides| strides.map(usize::cast_signed));
        // SAFETY: `extent` was within each slice when its matrix was made, shapes agree, and `self.values` is borrowed alone; the
        // rows of what is written do not overlap.
        unsafe {
            gemm(
                rows,
                columns,
                inner,
                self.values.as_mut_ptr(),
                1,
                self.stride.cast_signed(),
                adds,
                a.values.as_ptr(),
                a_strides[1],
                a_strides[0],
                b.values.as_ptr(),
                b_strides[1],
                b_strides[0],
                1.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

/// From the first value of a matrix to behind its last.
fn extent([rows, columns]: [usize; 2], stride: usize) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_within_wider_rows_turned_and_added() {
        // a [2, 3] in rows of 5, b [3, 2] turned out of [2, 3] in rows of 4.
        let a: Vec<f32> = (0..8).map(|value| value as f32).collect();
        let b: Vec<f32> = (0..7).map(|value| (value * value) as f32).collect();
        let (a, b) = (Matrix::new(&a, [2, 3], 5), Matrix::new(&b, [2, 3], 4).transposed());
        let mut product = vec![-1.0; 6];
        MatrixMut::new(&mut product, [2, 2], 4).set(a, b);
        assert_eq!(product, [9.0, 97.0, -1.0, -1.0, 34.0, 482.0]);
        MatrixMut::new(&mut product, [2, 2], 4).add(a, b);
        assert_eq!(product, [18.0, 194.0, -1.0, -1.0, 68.0, 964.0]);
    }
}
