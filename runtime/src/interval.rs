//! Intervals that results carry.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Mean, and half the width of its two-sided 95 % Student t interval (0 of fewer than two values).
pub fn mean_and_half_width(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, student_t_quantile_975(values.len() - 1) * (variance / count).sqrt())
}

/// Wilson's 95 % score interval of a proportion (E. B. Wilson, 1927, eq. 2); `[0, 1]` of no trials.
pub fn wilson_interval(num_successes: usize, num_trials: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    if num_trials == 0 {
        return [0.0, 1.0];
    }
    let count = num_trials as f64;
    let share = num_successes as f64 / count;
    let scale = 1.0 + Z * Z / count;
    let centre = (share + Z * Z / (2.0 * count)) / scale;
    let half_width = Z / scale * (share * (1.0 - share) / count + Z * Z / (4.0 * count * count)).sqrt();
    // Exact at the ends, where rounding would leave a crumb.
    let low = if num_successes == 0 { 0.0 } else { centre - half_width };
    let high = if num_successes >= num_trials { 1.0 } else { centre + half_width };
    [low, high]
}

/// The value that a Student t variable with `degrees_of_freedom` (at least 1) exceeds with probability 0.025.
fn student_t_quantile_975(degrees_of_freedom: usize) -> f64 {
    #[expect(clippy::expect_used, reason = "location 0, scale 1 and at least one degree are always admitted")]
    let student = StudentsT::new(0.0, 1.0, degrees_of_freedom.max(1) as f64).expect("a Student t distribution");
    student.inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(degrees_of_freedom: usize, quantile: f64) {
        let found = student_t_quantile_975(degrees_of_freedom);
        assert!((found - quantile).abs() < 1e-6, "{degrees_of_freedom}: {found}, not {quantile}");
    }

    #[test]
    fn student_t_quantiles_are_the_published_ones() {
        check(1, 12.706_204_736);
        check(2, 4.302_652_730);
        check(3, 3.182_446_305);
        check(4, 2.776_445_105);
        check(9, 2.262_157_163);
        check(19, 2.093_024_054);
        check(30, 2.042_272_456);
        check(99, 1.984_216_952);
        check(1000, 1.962_339_081);
    }

    #[test]
    fn interval_of_known_values() {
        // Mean 3, sample deviation sqrt(2.5); 2.776445 * sqrt(2.5 / 5).
        let (mean, half_width) = mean_and_half_width(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((mean - 3.0).abs() < 1e-12 && (half_width - 1.963_243_161).abs() < 1e-6, "{mean} {half_width}");
        assert_eq!(mean_and_half_width(&[7.0]), (7.0, 0.0));
        assert_eq!(mean_and_half_width(&[]), (0.0, 0.0));
        assert_eq!(mean_and_half_width(&[2.0; 8]), (2.0, 0.0));
    }

    #[test]
    fn wilson_interval_of_known_values() {
        // Newcombe (1998), table I: 81 of 263, and 0 of 20.
        let [low, high] = wilson_interval(81, 263);
        assert!((low - 0.2553).abs() < 1e-4 && (high - 0.3662).abs() < 1e-4, "{low} {high}");
        let [low, high] = wilson_interval(0, 20);
        assert!(low == 0.0 && (high - 0.1611).abs() < 1e-4, "{low} {high}");
        assert_eq!(wilson_interval(0, 0), [0.0, 1.0]);
    }
}
