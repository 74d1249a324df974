//! What episodes amount to: means with intervals.

use serde::{Deserialize, Serialize};

/// How [`Summary::ci95`] is made.
pub const INTERVAL_METHOD: &str = "Student t, two-sided, 95 %, over episodes";

/// One episode as it was played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpisodeResult {
    /// Seed of its reset.
    pub seed: u64,
    /// Sum of rewards.
    #[serde(rename = "return")]
    pub episode_return: f64,
    /// Control steps.
    pub num_steps: u32,
    /// Whether the task counts it as solved.
    pub success: bool,
}

/// What a set of episodes amounts to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub episodes: usize,
    /// Mean of the returns; 0 of no episodes.
    pub mean_return: f64,
    /// Lower and upper end of the 95 % interval of the mean return ([`INTERVAL_METHOD`]); both are the mean of fewer than two episodes.
    pub ci95: [f64; 2],
    /// Share of episodes solved, 0 to 1; 0 of no episodes.
    pub success_rate: f64,
    /// Lower and upper end of the 95 % interval of the success rate (Wilson's score interval).
    pub success_ci95: [f64; 2],
}

impl Summary {
    /// Of these episodes, in any order.
    pub fn of(episodes: &[EpisodeResult]) -> Self {
        let returns: Vec<f64> = episodes.iter().map(|episode| episode.episode_return).collect();
        let num_solved = episodes.iter().filter(|episode| episode.success).count();
        let (mean_return, half_width) = mean_and_half_width(&returns);
        Self {
            episodes: episodes.len(),
            mean_return,
            ci95: [mean_return - half_width, mean_return + half_width],
            success_rate: if episodes.is_empty() { 0.0 } else { num_solved as f64 / episodes.len() as f64 },
            success_ci95: wilson_interval(num_solved, episodes.len()),
        }
    }
}

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

/// The value that a Student t variable with `degrees_of_freedom` (at least 1) exceeds with probability 0.025, to 1e-9.
///
/// Bisection on the distribution function, which falls with the regularised incomplete beta function
/// (Abramowitz and Stegun, 26.7.1).
pub fn student_t_quantile_975(degrees_of_freedom: usize) -> f64 {
    let degrees = degrees_of_freedom.max(1) as f64;
    let two_sided_tail = |t: f64| incomplete_beta(degrees / 2.0, 0.5, degrees / (degrees + t * t));
    let (mut low, mut high) = (1.9, 13.0);
    while high - low > 1e-10 {
        let middle = 0.5 * (low + high);
        if two_sided_tail(middle) > 0.05 { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function `I_x(a, b)`, by the continued fraction of Abramowitz and Stegun 26.5.8 evaluated
/// with Lentz's method.
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast only below the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(b, a, 1.0 - x);
    }
    let front = (a * x.ln() + b * (1.0 - x).ln() - ln_beta(a, b)).exp() / a;
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut fraction = 1.0;
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    fraction *= d;
    for step in 1..500 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for coefficient in [even, odd] {
            d = 1.0 / guard(1.0 + coefficient * d);
            c = guard(1.0 + coefficient / c);
            change *= c * d;
        }
        fraction *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    front * fraction
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// The logarithm of the gamma function for positive arguments: Lanczos' approximation, g = 7, n = 9 (Godfrey's coefficients).
fn ln_gamma(x: f64) -> f64 {
    const G: f64 = 7.0;
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // Euler's reflection.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let shifted = x - 1.0;
    let series = COEFFICIENTS
        .iter()
        .zip(1_u32..)
        .fold(0.999_999_999_999_809_9, |sum, (coefficient, k)| sum + coefficient / (shifted + f64::from(k)));
    let t = shifted + G + 0.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (shifted + 0.5) * t.ln() - t + series.ln()
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

    #[test]
    fn summary_counts_and_is_the_same_in_any_order() {
        let episode = |seed, episode_return, success| EpisodeResult { seed, episode_return, num_steps: 10, success };
        let mut episodes = vec![episode(0, 1.0, true), episode(1, 3.0, false), episode(2, 5.0, true)];
        let summary = Summary::of(&episodes);
        episodes.reverse();
        assert_eq!(summary, Summary::of(&episodes));
        assert_eq!(summary.episodes, 3);
        assert!((summary.mean_return - 3.0).abs() < 1e-12 && (summary.success_rate - 2.0 / 3.0).abs() < 1e-12);
    }
}
