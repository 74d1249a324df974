//! What a probe says: named scores of each encoder with every value, mean and interval.

use std::collections::BTreeMap;

use foresee_runtime::mean_and_half_width;
use serde::{Deserialize, Serialize};

/// How intervals are made, where nothing else is said.
pub(crate) const INTERVAL: &str = "Student t, two-sided, 95 %";
/// Resamples of a bootstrap, and the seed of its draws.
pub(crate) const NUM_RESAMPLES: usize = 1000;
pub(crate) const BOOTSTRAP_SEED: u64 = 0;

/// One number of one encoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) mean: f64,
    /// Both ends are the mean where there is no interval: of fewer than two values, seeds or videos.
    pub(crate) ci95: [f64; 2],
    /// One a seed, or one a video.
    pub(crate) values: Vec<f64>,
}

impl Score {
    /// Of these values; what is not a number is left out.
    pub(crate) fn of(values: &[f64]) -> Self {
        let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        let (mean, half_width) = mean_and_half_width(&values);
        Self { mean, ci95: [mean - half_width, mean + half_width], values }
    }

    /// Of these values of a quantity that lies within `range`: so does the interval.
    pub(crate) fn within(values: &[f64], range: [f64; 2]) -> Self {
        let mut score = Self::of(values);
        // Rounding may leave a mean a hair outside.
        let [low, high] = [range[0].min(score.mean), range[1].max(score.mean)];
        score.ci95 = score.ci95.map(|end| end.clamp(low, high));
        score
    }

    /// `52.1 (50.3 to 53.9)`; where there is no interval, the mean alone.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let [lower, upper] = self.ci95;
        match self.values.len() {
            0 => "-".to_owned(),
            _ if lower == upper => format!("{:.decimals$}", self.mean),
            _ => format!("{:.decimals$} ({lower:.decimals$} to {upper:.decimals$})", self.mean),
        }
    }
}

/// All numbers of one encoder, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EncoderScores {
    pub(crate) name: String,
    /// The file that it came from; baselines have none.
    pub(crate) source: Option<String>,
    pub(crate) scores: BTreeMap<String, Score>,
}

/// `result.json` of a probe.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProbeResult {
    /// `sim`, `davis`, `vip`, `jhmdb` or `images`.
    pub(crate) probe: String,
    /// Tasks, or the folder of the data set.
    pub(crate) data: Vec<String>,
    pub(crate) seeds: Vec<u64>,
    /// What an interval is over.
    pub(crate) values_over: String,
    pub(crate) interval: String,
    /// The settings, as the protocol has them.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) encoders: Vec<EncoderScores>,
    pub(crate) git_revision: String,
    pub(crate) cpu_features: Vec<String>,
    pub(crate) interrupted: bool,
}

impl ProbeResult {
    /// Names of all scores, in order.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.encoders.iter().flat_map(|encoder| encoder.scores.keys()).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// What a score can be: all are percentages; that of joints is of explained variance, which has no lower end.
pub(crate) fn range_of(score: &str) -> [f64; 2] {
    let low = if score.starts_with("joints") { f64::NEG_INFINITY } else { 0.0 };
    [low, 100.0]
}

/// What a difference of two scores can be.
pub(crate) fn range_of_difference(score: &str) -> [f64; 2] {
    let [low, high] = range_of(score);
    [low - high, high - low]
}

/// Values by name, gathered one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Gathered(pub(crate) BTreeMap<String, Vec<f64>>);

impl Gathered {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.entry(name.to_owned()).or_default().push(value);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        for (name, values) in other.0 {
            self.0.entry(name).or_default().extend(values);
        }
    }

    /// The mean of each name's numbers; a name without any is left out.
    pub(crate) fn means(&self) -> BTreeMap<String, f64> {
        let scores = self.scores().into_iter().filter(|(_, score)| !score.values.is_empty());
        scores.map(|(name, score)| (name, score.mean)).collect()
    }

    pub(crate) fn scores(&self) -> BTreeMap<String, Score> {
        self.0.iter().map(|(name, values)| (name.clone(), Score::within(values, range_of(name)))).collect()
    }
}

/// Percentile bootstrap: for each name, the middle 95 % of what a statistic makes of units drawn with replacement.
pub(crate) fn bootstrap(
    num_units: usize,
    statistic: impl Fn(&[usize]) -> BTreeMap<String, f64>,
) -> BTreeMap<String, [f64; 2]> {
    let mut random = SplitMix(BOOTSTRAP_SEED);
    let mut found: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..NUM_RESAMPLES {
        let units: Vec<usize> = (0..num_units).map(|_| random.below(num_units)).collect();
        for (name, value) in statistic(&units).into_iter().filter(|(_, value)| value.is_finite()) {
            found.entry(name).or_default().push(value);
        }
    }
    found.into_iter().map(|(name, values)| (name, middle(values))).collect()
}

/// The 2.5th and the 97.5th percentile, linear between values.
fn middle(mut values: Vec<f64>) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|share| {
        let place = share * values.len().saturating_sub(1) as f64;
        let at = |place: f64| values.get(place as usize).copied().unwrap_or(f64::NAN);
        at(place.floor()) + place.fract() * (at(place.ceil()) - at(place.floor()))
    })
}

/// Steele, Lea and Flood's generator: the same draws from a seed on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(mixed ^ (mixed >> 31)) * limit as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bootstrap_of_means_is_as_wide_as_theory_says() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let mean = |units: &[usize]| units.iter().map(|unit| values[*unit]).sum::<f64>() / units.len() as f64;
        let of = || bootstrap(100, |units| BTreeMap::from([("mean".to_owned(), mean(units))]));
        let [lower, upper] = of()["mean"];
        // The deviation of the mean is 28.87 / 10.
        assert!((lower - (49.5 - 1.96 * 2.887)).abs() < 0.6 && (upper - (49.5 + 1.96 * 2.887)).abs() < 0.6);
        assert_eq!(of(), of());
        let alone = bootstrap(1, |units| BTreeMap::from([("mean".to_owned(), mean(units))]));
        assert_eq!(alone["mean"], [0.0, 0.0]);
    }

    #[test]
    fn an_interval_of_few_values_lies_within_what_can_be() {
        // Student's t of two values is twelve deviations wide.
        let percent = Score::within(&[15.0, 90.0], range_of("k-NN accuracy"));
        assert_eq!(percent.ci95, [0.0, 100.0]);
        let [low, high] = Score::within(&[20.0, 90.0], range_of("joints, linear, patches")).ci95;
        assert!(low < 0.0 && high == 100.0, "{low} {high}");
        let inside = Score::within(&[50.0, 51.0, 52.0], range_of("J"));
        assert_eq!(inside, Score::of(&[50.0, 51.0, 52.0]));
        assert_eq!(range_of_difference("J"), [-100.0, 100.0]);
    }

    #[test]
    fn what_was_not_measured_is_no_score() {
        let mut gathered = Gathered::default();
        for (name, value) in [("still", f64::NAN), ("moves", f64::NAN), ("moves", 40.0), ("moves", 50.0)] {
            gathered.add(name, value);
        }
        assert_eq!(gathered.means(), BTreeMap::from([("moves".to_owned(), 45.0)]));
        let texts = gathered.scores().into_values().map(|score| score.text(1)).collect::<Vec<_>>();
        assert!(texts[0].starts_with("45.0 (") && texts[1] == "-" && Score::of(&[3.0]).text(1) == "3.0");
    }
}
