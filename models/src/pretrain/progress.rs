//! What a step gave, as a line of JSON.

use serde::{Deserialize, Deserializer, Serialize};

/// One step, for whoever watches, and one line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainProgress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// What is minimised.
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    /// Each term before its weight.
    #[serde(deserialize_with = "terms")]
    pub terms: Vec<(String, f64)>,
    /// Of the update.
    pub learning_rate: f64,
    /// Euclidean norm of all gradients.
    #[serde(deserialize_with = "number_or_null")]
    pub gradient_norm: f64,
    /// Samples a second, averaged over the last steps of this process.
    pub images_per_second: f64,
    /// Seconds of this step in which a shard waited for samples: above 0, decoding does not keep up.
    #[serde(default)]
    pub waited_seconds: f64,
    /// Until the last step, at this speed.
    pub seconds_left: f64,
    /// Steps skipped so far because something was not finite.
    pub num_skipped: u64,
    /// Clips skipped so far because they cannot be read, as far as this process has seen.
    #[serde(default)]
    pub num_clips_skipped: u64,
}

/// A number, or the null that JSON has for what is not finite: a skipped step's.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Option::deserialize(deserializer).map(|number| number.unwrap_or(f64::NAN))
}

/// Names, each with [`number_or_null`].
fn terms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, f64)>, D::Error> {
    let terms = Vec::<(String, Option<f64>)>::deserialize(deserializer)?;
    Ok(terms.into_iter().map(|(name, number)| (name, number.unwrap_or(f64::NAN))).collect())
}
