//! Arithmetic in numpy's order of operations, so that states and observations agree in every bit.
//!
//! numpy hands dot products to OpenBLAS, whose kernels for processors with AVX-512 add one fused product after the other.

/// Divides by the Euclidean norm.
pub(crate) fn normalise(values: &mut [f64]) {
    let norm = norm(values);
    values.iter_mut().for_each(|value| *value /= norm);
}

/// The Euclidean norm, `numpy.linalg.norm`.
pub(crate) fn norm(values: &[f64]) -> f64 {
    square(values).sqrt()
}

/// The sum of squares, `values.dot(values)`.
pub(crate) fn square(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |sum, value| value.mul_add(*value, sum))
}

/// `left - right`.
pub(crate) fn difference(left: [f64; 3], right: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| left[axis] - right[axis])
}

/// `vector.dot(frame)` of a row-major rotation: a world vector in the frame's own axes.
pub(crate) fn in_frame(vector: [f64; 3], frame: [f64; 9]) -> [f64; 3] {
    std::array::from_fn(|column| {
        let first = vector[0] * frame[column];
        vector[2].mul_add(frame[6 + column], vector[1].mul_add(frame[3 + column], first))
    })
}

/// The mean of a few values, summed from first to last.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let number = values.len() as f64;
    values.sum::<f64>() / number
}

/// `numpy.log1p`.
pub(crate) fn log1p(value: f64) -> f64 {
    value.ln_1p()
}

/// `numpy.arcsinh`.
pub(crate) fn arcsinh(value: f64) -> f64 {
    value.asinh()
}

/// `numpy.tanh`.
pub(crate) fn tanh(value: f64) -> f64 {
    value.tanh()
}

/// `numpy.arctan2`.
pub(crate) fn arctan2(y: f64, x: f64) -> f64 {
    y.atan2(x)
}
