//! What a run measured and what made it: `result.json`.

use std::collections::BTreeMap;

use foresee_runtime::{CameraAccount, CameraRig, EngineReport, Episode, LatencyHistogram, LoopStatistics, Stage};
use serde::Serialize;

/// `result.json` of `foresee run`. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RunResult {
    pub(crate) name: String,
    pub(crate) robot: String,
    pub(crate) profile: String,
    pub(crate) task: Option<String>,
    /// Finished episodes.
    pub(crate) episodes: usize,
    /// One a finished episode, in order; expert and random ran on the same.
    pub(crate) seeds: Vec<u64>,
    /// What the camera-driven policy reached.
    pub(crate) policy: Option<Returns>,
    /// What the scripted expert reaches on the same seeds.
    pub(crate) expert: Option<Returns>,
    /// What uniform random actions reach on the same seeds.
    pub(crate) random: Option<Returns>,
    pub(crate) encoder_sha256: String,
    pub(crate) policy_sha256: String,
    /// What ran the encoder.
    pub(crate) provider: String,
    pub(crate) provider_reason: String,
    pub(crate) engines: BTreeMap<String, EngineReport>,
    /// Every pair that answered, in order: more than one when models were swapped; the last one is the one above.
    pub(crate) models: Vec<BTreeMap<String, EngineReport>>,
    /// The distortion model that frames were straightened by.
    pub(crate) frames_straightened: Option<String>,
    pub(crate) mujoco_version: Option<String>,
    pub(crate) cpu_features: Vec<String>,
    pub(crate) git_revision: String,
    /// Frame in memory to command in memory.
    pub(crate) loop_millis: Millis,
    pub(crate) stage_millis: StageMillis,
    pub(crate) account_millis: AccountMillis,
    /// The self-test's ticks, where a budget is declared.
    pub(crate) self_test_millis: Option<Millis>,
    /// Chunks of actions refused because they came too late, or were there already.
    pub(crate) chunks_late: u64,
    pub(crate) chunks_duplicate: u64,
    /// Times that the safe action was begun, by reason.
    pub(crate) safe_actions: BTreeMap<String, u64>,
    /// Streams whose stamps led to the safe action: which stamp, which clock, and by how much they differ.
    pub(crate) stamp_faults: BTreeMap<String, String>,
    pub(crate) frames: u64,
    pub(crate) frames_dropped: u64,
    /// Messages that could not be read, each of which counted as none.
    pub(crate) messages_unreadable: u64,
    /// Times that the sequence of a stream went back: its publisher started again.
    pub(crate) streams_restarted: u64,
    /// One a camera, the profile's first.
    pub(crate) cameras: Vec<CameraResult>,
    pub(crate) commands_clamped: u64,
    pub(crate) commands_rate_limited: u64,
    pub(crate) commands_held: u64,
    /// Times that the watchdog took the safe action, and commands that came after it and were not passed on.
    pub(crate) watchdog_trips: u64,
    pub(crate) watchdog_refused: u64,
    pub(crate) log_entries_dropped: u64,
    pub(crate) start_to_first_action_seconds: Option<f64>,
    pub(crate) interrupted: bool,
    /// What ended the run, or became of it at its end, if that was no success: a joint that did not come to rest, an end that is gone.
    pub(crate) failure: Option<String>,
    pub(crate) episode_results: Vec<Episode>,
}

/// What became of one camera's frames.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CameraResult {
    pub(crate) name: String,
    /// Encoded.
    pub(crate) frames: u64,
    /// Overtaken by another one before they were looked at.
    pub(crate) passed_over: u64,
    /// Ticks not answered because its frame was too old, frozen or black.
    pub(crate) ticks_refused: u64,
    pub(crate) ticks_over_budget: u64,
    /// Exposure to the end of the tick; known at a fixed pace alone.
    pub(crate) age_millis: Millis,
    /// Preprocessing its image and its share of encoding.
    pub(crate) spent_millis: Millis,
}

impl CameraResult {
    /// Of every camera of a loop.
    pub(crate) fn of(cameras: &CameraRig) -> Vec<Self> {
        let result = |account: &CameraAccount| Self {
            name: account.name.clone(),
            frames: account.num_frames,
            passed_over: account.num_passed_over,
            ticks_refused: account.num_refused,
            ticks_over_budget: account.num_over_budget,
            age_millis: Millis::of(&account.age),
            spent_millis: Millis::of(&account.spent),
        };
        cameras.accounts().map(result).collect()
    }
}

/// Returns of one policy over episodes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Returns {
    pub(crate) mean_return: f64,
    /// 95 % interval of the mean, lower and upper.
    pub(crate) ci95: [f64; 2],
    pub(crate) success_rate: f64,
    /// 95 % interval of the share of successes (Wilson), lower and upper.
    pub(crate) success_ci95: [f64; 2],
    /// One an episode, in the order of `seeds`.
    pub(crate) returns: Vec<f64>,
}

impl Returns {
    /// The interval of the mean; one episode has none.
    pub(crate) fn interval(&self) -> Option<[f64; 2]> {
        (self.returns.len() > 1).then_some(self.ci95)
    }
}

/// The loop's time by stage.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct StageMillis {
    pub(crate) preprocess: Millis,
    pub(crate) encode: Millis,
    pub(crate) policy: Millis,
    pub(crate) safety: Millis,
}

/// A frame's way outside the stages: exposure to arrival and waiting are known at a fixed pace alone.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct AccountMillis {
    pub(crate) exposure_to_arrival: Millis,
    pub(crate) wait: Millis,
    pub(crate) publish: Millis,
}

impl AccountMillis {
    /// Of a run.
    pub(crate) fn of(statistics: &LoopStatistics) -> Self {
        Self {
            exposure_to_arrival: Millis::of(&statistics.arrival),
            wait: Millis::of(&statistics.wait),
            publish: Millis::of(&statistics.publish),
        }
    }
}

/// A distribution in milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Millis {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Millis {
    /// Of a histogram.
    pub(crate) fn of(histogram: &LatencyHistogram) -> Self {
        Self { p50: histogram.quantile_millis(0.5), p99: histogram.quantile_millis(0.99), max: histogram.max_millis() }
    }
}

impl StageMillis {
    /// Of a run.
    pub(crate) fn of(statistics: &LoopStatistics) -> Self {
        let of = |stage| Millis::of(statistics.stage(stage));
        Self {
            preprocess: of(Stage::Preprocess),
            encode: of(Stage::Encode),
            policy: of(Stage::Policy),
            safety: of(Stage::Safety),
        }
    }
}
