//! What a probe says: named scores of each encoder with every value, mean and interval.

use std::collections::BTreeMap;

use foresee_runtime::mean_and_half_width;
use serde::{Deserialize, Serialize};

/// How intervals are made.
pub(crate) const INTERVAL: &str = "Student t, two-sided, 95 %";

/// One number of one encoder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Score {
    pub(crate) mean: f64,
    /// Both ends are the mean of fewer than two values.
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

    /// `52.1 (50.3 to 53.9)`; one value has no interval.
    pub(crate) fn text(&self, decimals: usize) -> String {
        let [lower, upper] = self.ci95;
        match self.values.len() {
            0 => "-".to_owned(),
            1 => format!("{:.decimals$}", self.mean),
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
        self.0.iter().map(|(name, values)| (name.clone(), Score::of(values))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
