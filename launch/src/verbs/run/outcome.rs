//! What a run leaves: the comparison with expert and random actions, `result.json`, the report and the pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use foresee_firmware_config::{DeviceProfile, STOPPED};
use foresee_runtime::{ChunkSummary, Episode, LoopStatistics, PairReport, WatchdogSummary, write_atomically};

use super::{Arguments, straightened};
use crate::listener::Account;
use crate::result::{AccountMillis, CameraResult, Millis, Returns, RunResult, StageMillis};
use crate::words::{print, say};
use crate::{machine, report};

/// What a run came to.
pub(super) struct Outcome {
    pub(super) folder: Option<PathBuf>,
    /// In order; the last ones are those that answered at the end.
    pub(super) models: Vec<PairReport>,
    pub(super) account: Account,
    pub(super) log_entries_dropped: u64,
    pub(super) is_interrupted: bool,
    /// What ended the run, or became of it at its end, if that was no success.
    pub(super) failure: Option<String>,
    pub(super) self_test: Option<LoopStatistics>,
    pub(super) chunks: ChunkSummary,
    pub(super) cameras: Vec<CameraResult>,
    pub(super) watchdog: WatchdogSummary,
}

/// Compares, writes the run's files, and says where they are.
///
/// # Errors
/// Names the file that cannot be written.
pub(super) fn leave(
    arguments: &Arguments,
    profile: &DeviceProfile,
    outcome: Outcome,
    stop: &AtomicBool,
) -> anyhow::Result<ExitCode> {
    let Outcome { folder, models, account, .. } = outcome;
    let statistics = &account.statistics;
    let engines = models.last().context("no models ran")?;
    let [policy, expert, random] = compare(&account.episodes, stop)?;
    let result = RunResult {
        name: arguments.name.clone(),
        robot: profile.robot.clone(),
        profile: profile.name.clone(),
        task: account.episodes.first().map(|episode| episode.task.clone()),
        episodes: account.episodes.len(),
        seeds: account.episodes.iter().map(|episode| episode.seed).collect(),
        policy,
        expert,
        random,
        encoder_sha256: engines.encoder.model_sha256.clone(),
        policy_sha256: engines.policy.as_ref().map(|policy| policy.model_sha256.clone()).unwrap_or_default(),
        provider: engines.encoder.provider.name().to_owned(),
        provider_reason: engines.encoder.reason.clone(),
        engines: engines.by_role().into_iter().collect(),
        models: models.iter().map(|models| models.by_role().into_iter().collect()).collect(),
        frames_straightened: straightened(profile).map(str::to_owned),
        mujoco_version: machine::mujoco_version(),
        cpu_features: machine::cpu_features().into_iter().map(str::to_owned).collect(),
        git_revision: machine::GIT_REVISION.to_owned(),
        loop_millis: Millis::of(&statistics.total),
        stage_millis: StageMillis::of(statistics),
        account_millis: AccountMillis::of(statistics),
        self_test_millis: outcome.self_test.as_ref().map(|measured| Millis::of(&measured.total)),
        chunks_late: outcome.chunks.num_late,
        chunks_duplicate: outcome.chunks.num_duplicate,
        safe_actions: account.safe_actions.clone(),
        stamp_faults: account.stamp_faults.clone(),
        frames: account.num_frames,
        frames_dropped: account.num_dropped,
        messages_unreadable: account.num_unreadable,
        streams_restarted: account.num_restarts,
        cameras: outcome.cameras,
        commands_clamped: statistics.num_clamped,
        commands_rate_limited: statistics.num_rate_limited,
        commands_held: statistics.num_held,
        watchdog_trips: outcome.watchdog.num_trips,
        watchdog_refused: outcome.watchdog.num_refused,
        log_entries_dropped: outcome.log_entries_dropped,
        start_to_first_action_seconds: account.start_to_first_action_seconds,
        interrupted: outcome.is_interrupted,
        failure: outcome.failure,
        episode_results: account.episodes,
    };
    let json = serde_json::to_string_pretty(&result)?;
    if let Some((num_undrawn, why)) = account.film.undrawn() {
        say(&format!("film: {num_undrawn} frames could not be drawn and are left out: {why}"));
    }
    if let Some(folder) = &folder {
        write_atomically(&folder.join("result.json"), json.as_bytes())?;
        // The result stands without its pictures.
        if let Err(error) = account.film.write(folder) {
            say(&format!("film: {error:#}; it is left out"));
        }
        report::write(folder, &result, &statistics.total.bars_millis(), &account.traces)?;
    }
    // With --json standard output is the JSON alone.
    conclude(folder.as_deref(), &result, account.traces.seconds(), if arguments.json { say } else { print });
    if arguments.json {
        print(&json);
    }
    Ok(if result.interrupted { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
}

#[cfg(feature = "sim")]
fn compare(episodes: &[Episode], stop: &AtomicBool) -> anyhow::Result<[Option<Returns>; 3]> {
    let Some(first) = episodes.first() else { return Ok([None, None, None]) };
    let played: Vec<foresee_policies::EpisodeResult> = episodes
        .iter()
        .map(|episode| foresee_policies::EpisodeResult {
            seed: episode.seed,
            episode_return: episode.episode_return,
            num_steps: episode.num_steps,
            success: episode.success,
        })
        .collect();
    let seeds: Vec<u64> = episodes.iter().map(|episode| episode.seed).collect();
    // Baselines take seconds; after Ctrl-C they are left out.
    let mut nothing = |_| {};
    let mut watch = foresee_policies::Watch { observe: &mut nothing, stop };
    let options = foresee_sim::EnvironmentOptions::default();
    let [expert, random] = crate::baselines::play(&first.task, options, &seeds, &mut watch)?;
    Ok([Some(crate::baselines::returns(&first.task, &played)), expert, random])
}

#[cfg(not(feature = "sim"))]
fn compare(_episodes: &[Episode], _stop: &AtomicBool) -> anyhow::Result<[Option<Returns>; 3]> {
    Ok([None, None, None])
}

fn conclude(folder: Option<&Path>, result: &RunResult, seconds: f64, tell: fn(&str)) {
    if result.episodes == 0 {
        tell(&control(result, seconds));
    } else {
        tell(&returns(result));
    }
    tell(&format!(
        "loop p50 {:.2} ms, p99 {:.2} ms; {} frames, {} dropped; provider {} ({})",
        result.loop_millis.p50,
        result.loop_millis.p99,
        result.frames,
        result.frames_dropped,
        result.provider,
        result.provider_reason
    ));
    let Some(folder) = folder else { return };
    for file in ["report.html", "episode.gif", "log.mcap", "result.json"] {
        let path = folder.join(file);
        if path.exists() {
            tell(&format!("  {}", path.display()));
        }
    }
}

/// A robot's run, which has no episodes: how long it was controlled, and what the safety filter did.
fn control(result: &RunResult, seconds: f64) -> String {
    let reasons: Vec<String> =
        result.safe_actions.iter().map(|(reason, count)| format!("{count} x {reason}")).collect();
    format!(
        "controlled for {seconds:.1} s; commands: {} clamped, {} rate-limited, {} held; safe actions: {}",
        result.commands_clamped,
        result.commands_rate_limited,
        result.commands_held,
        if reasons.is_empty() { "none".to_owned() } else { reasons.join("; ") }
    )
}

fn returns(result: &RunResult) -> String {
    let text = |returns: &Option<Returns>| {
        returns.as_ref().map_or_else(
            || "not measured".to_owned(),
            |returns| match returns.interval() {
                None => format!("{:.1}", returns.mean_return),
                Some([lower, upper]) => format!("{:.1} [{lower:.1}, {upper:.1}]", returns.mean_return),
            },
        )
    };
    let interval = if result.episodes == 1 { "no interval of one" } else { "95 % interval" };
    format!(
        "mean return over {} episodes [{interval}]: camera policy {} | expert {} | random {}",
        result.episodes,
        text(&result.policy),
        text(&result.expert),
        text(&result.random)
    )
}
