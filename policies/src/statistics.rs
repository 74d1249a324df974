//! What episodes amount to: means with intervals.

use foresee_runtime::{mean_and_half_width, wilson_interval};
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

#[cfg(test)]
mod tests {
    use super::*;

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
