//! The one vocabulary of rewards: a soft indicator of a value within bounds (`dm_control/utils/rewards.py`).

/// The shape of the fall-off outside the bounds; each reaches `value_at_margin` at the margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sigmoid {
    /// exp(-x^2 / 2).
    Gaussian,
    /// 1 / cosh(x).
    Hyperbolic,
    /// 1 / (x^2 + 1).
    LongTail,
    /// 1 / (|x| + 1).
    Reciprocal,
    /// (1 + cos(pi x)) / 2, zero beyond 1.
    Cosine,
    /// 1 - x, zero beyond 1.
    Linear,
    /// 1 - x^2, zero beyond 1.
    Quadratic,
    /// 1 - tanh(x)^2.
    TanhSquared,
}

/// Bounds, margin and fall-off of one term of a reward. [`Tolerance::within`] with no margin is a hard indicator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    lower: f64,
    upper: f64,
    margin: f64,
    sigmoid: Sigmoid,
    value_at_margin: f64,
}

impl Tolerance {
    /// 1 inside `[lower, upper]`, 0 outside; `lower` must not be above `upper`.
    pub const fn within(lower: f64, upper: f64) -> Self {
        Self { lower, upper, margin: 0.0, sigmoid: Sigmoid::Gaussian, value_at_margin: 0.1 }
    }

    /// 1 from `lower` on.
    pub const fn at_least(lower: f64) -> Self {
        Self::within(lower, f64::INFINITY)
    }

    /// 1 at zero only, until a margin is set.
    pub const fn at_zero() -> Self {
        Self::within(0.0, 0.0)
    }

    /// Falls off to 0.1 at `margin` (not negative) beyond the bounds.
    pub const fn margin(self, margin: f64) -> Self {
        Self { margin, ..self }
    }

    /// Falls off by `sigmoid` to `value_at_margin` in [0, 1) (above 0 unless cosine, linear or quadratic).
    pub const fn sigmoid(self, sigmoid: Sigmoid, value_at_margin: f64) -> Self {
        Self { sigmoid, value_at_margin, ..self }
    }

    /// The reward term of `value`, in [0, 1]; NaN counts as out of bounds and gives 0.
    pub fn of(&self, value: f64) -> f64 {
        if self.lower <= value && value <= self.upper {
            return 1.0;
        }
        if self.margin == 0.0 || value.is_nan() {
            return 0.0;
        }
        let outside = if value < self.lower { self.lower - value } else { value - self.upper };
        self.fall_off(outside / self.margin)
    }

    fn fall_off(&self, distance: f64) -> f64 {
        let value_at_1 = self.value_at_margin;
        let cut = |scaled: f64, value: f64| if scaled.abs() < 1.0 { value } else { 0.0 };
        match self.sigmoid {
            Sigmoid::Gaussian => {
                let scaled = distance * (-2.0 * value_at_1.ln()).sqrt();
                (-0.5 * (scaled * scaled)).exp()
            }
            Sigmoid::Hyperbolic => 1.0 / (distance * (1.0 / value_at_1).acosh()).cosh(),
            Sigmoid::LongTail => {
                let scaled = distance * (1.0 / value_at_1 - 1.0).sqrt();
                1.0 / (scaled * scaled + 1.0)
            }
            Sigmoid::Reciprocal => 1.0 / (distance.abs() * (1.0 / value_at_1 - 1.0) + 1.0),
            Sigmoid::Cosine => {
                let scaled = distance * ((2.0 * value_at_1 - 1.0).acos() / std::f64::consts::PI);
                cut(scaled, (1.0 + (std::f64::consts::PI * scaled).cos()) / 2.0)
            }
            Sigmoid::Linear => {
                let scaled = distance * (1.0 - value_at_1);
                cut(scaled, 1.0 - scaled)
            }
            Sigmoid::Quadratic => {
                let scaled = distance * (1.0 - value_at_1).sqrt();
                cut(scaled, 1.0 - scaled * scaled)
            }
            Sigmoid::TanhSquared => {
                let tanh = (distance * (1.0 - value_at_1).sqrt().atanh()).tanh();
                1.0 - tanh * tanh
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of dm_control 1.0.50's `tolerance(value, (-1, 2), 1.5, sigmoid, 0.2)`.
    #[test]
    fn every_sigmoid_is_dm_controls() {
        for (sigmoid, expected) in GOLDEN {
            let tolerance = Tolerance::within(-1.0, 2.0).margin(1.5).sigmoid(sigmoid, 0.2);
            for (value, expected) in VALUES.into_iter().zip(expected) {
                let found = tolerance.of(value);
                assert!((found - expected).abs() < 1e-15, "{sigmoid:?} of {value}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn no_margin_is_an_indicator_and_nan_is_outside() {
        let tolerance = Tolerance::within(0.0, 1.0);
        assert_eq!([0.0, 1.0, 1.1, -0.1, f64::NAN].map(|value| tolerance.of(value)), [1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(tolerance.margin(1.0).of(f64::NAN), 0.0);
    }

    const VALUES: [f64; 8] = [-3.0, -1.5, -1.0, 0.3, 2.0, 2.7, 3.5, 9.0];
    const GOLDEN: [(Sigmoid, [f64; 8]); 8] = [
        (
            Sigmoid::Gaussian,
            [0.05719876593234918, 0.8362510309503736, 1.0, 1.0, 1.0, 0.7043359661313137, 0.2, 5.997725318627861e-16],
        ),
        (
            Sigmoid::Hyperbolic,
            [0.0938892392664148, 0.7654365987176421, 1.0, 1.0, 1.0, 0.61389665709731, 0.2, 4.5179492587258894e-05],
        ),
        (
            Sigmoid::LongTail,
            [0.12328767123287672, 0.6923076923076923, 1.0, 1.0, 1.0, 0.5344418052256531, 0.2, 0.011349306431273642],
        ),
        (
            Sigmoid::Reciprocal,
            [0.15789473684210528, 0.4285714285714286, 1.0, 1.0, 1.0, 0.34883720930232553, 0.2, 0.05084745762711864],
        ),
        (
            Sigmoid::Cosine,
            [0.008922126715813605, 0.8698744736193984, 1.0, 1.0, 1.0, 0.755976814059604, 0.20000000000000007, 0.0],
        ),
        (Sigmoid::Linear, [0.0, 0.7333333333333334, 1.0, 1.0, 1.0, 0.6266666666666665, 0.19999999999999996, 0.0]),
        (Sigmoid::Quadratic, [0.0, 0.9111111111111111, 1.0, 1.0, 1.0, 0.8257777777777777, 0.20000000000000007, 0.0]),
        (
            Sigmoid::TanhSquared,
            [0.08163265306122436, 0.8, 1.0, 1.0, 1.0, 0.6549539401878286, 0.20000000000000007, 5.628657748002475e-06],
        ),
    ];
}
