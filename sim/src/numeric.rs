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

/// `scipy.spatial.transform.Rotation.from_matrix(frame).as_quat()` of a row-major rotation: x, y, z, w.
pub(crate) fn quaternion_xyzw(frame: [f64; 9]) -> [f64; 4] {
    let at = |row: usize, column: usize| frame[3 * row + column];
    let trace = at(0, 0) + at(1, 1) + at(2, 2);
    let decisions = [at(0, 0), at(1, 1), at(2, 2), trace];
    let largest = (1..4).fold(0, |best, index| if decisions[index] > decisions[best] { index } else { best });
    let mut quaternion = [0.0; 4];
    if largest == 3 {
        quaternion = [at(2, 1) - at(1, 2), at(0, 2) - at(2, 0), at(1, 0) - at(0, 1), 1.0 + trace];
    } else {
        let (first, second, third) = (largest, (largest + 1) % 3, (largest + 2) % 3);
        quaternion[first] = 1.0 - trace + 2.0 * at(first, first);
        quaternion[second] = at(second, first) + at(first, second);
        quaternion[third] = at(third, first) + at(first, third);
        quaternion[3] = at(third, second) - at(second, third);
    }
    let norm = quaternion.iter().fold(0.0, |sum, value| sum + value * value).sqrt();
    quaternion.map(|value| value / norm)
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
    #[expect(
        unsafe_code,
        reason = "the standard library has a formula of its own, up to 2e-15 away from the C library's"
    )]
    unsafe extern "C" {
        safe fn asinh(value: f64) -> f64;
    }
    asinh(value)
}

/// `numpy.tanh`.
pub(crate) fn tanh(value: f64) -> f64 {
    value.tanh()
}

/// `numpy.arctan2`.
pub(crate) fn arctan2(y: f64, x: f64) -> f64 {
    y.atan2(x)
}
