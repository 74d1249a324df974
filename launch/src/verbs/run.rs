//! `foresee run`: the control loop as a process. Frames and joint states come over zenoh, commands go back; a live table, a log, a report.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use foresee_firmware_config::{DeviceProfile, Pace, ZenohMode};
use foresee_runtime::{
    ChunkSummary, ControlLoop, Ends, EngineReport, Episode, LogHeader, LogWriter, LoopStatistics, Recorder,
    RecorderOptions, RunEnd, ZenohLink, write_atomically,
};

use crate::attendant::Attendant;
use crate::fitness::Machine;
use crate::guard::{Guard, STOPPED};
use crate::listener::{Account, Observed};
use crate::models::ModelArguments;
use crate::result::{AccountMillis, CameraResult, Millis, Returns, RunResult, StageMillis};
#[cfg(feature = "sim")]
use crate::simulator::Simulation;
use crate::simulator::Simulator;
use crate::sources::open_source;
use crate::words::{print, say};
use crate::{machine, models, places, report, stop};

/// Arguments of `foresee run`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Robot: a built-in profile or a TOML file.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    #[command(flatten)]
    models: ModelArguments,
    /// Where the robot is, such as tcp/127.0.0.1:7447 [default: the profile's]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Start `foresee sim TASK` beside this process and end it afterwards.
    #[cfg(feature = "sim")]
    #[arg(long, value_name = "TASK")]
    simulate: Option<String>,
    /// Episodes to simulate.
    #[cfg(feature = "sim")]
    #[arg(long, default_value = "20", value_name = "N", requires = "simulate", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: u32,
    /// Seed of the first simulated episode; the next ones count up.
    #[cfg(feature = "sim")]
    #[arg(long, default_value_t = 0, value_name = "S", requires = "simulate")]
    seed: u64,
    /// Where the loop listens for an operator, such as tcp/127.0.0.1:7448 [default: the profile's zenoh.listen]
    #[arg(long, value_name = "ENDPOINT")]
    listen: Option<String>,
    /// Name of the run's folder; an earlier run of that name is kept as NAME.1, NAME.2, ...
    #[arg(long, default_value = "run")]
    name: String,
    /// Folder of run folders.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    runs: PathBuf,
    /// Loopback address of /healthz, /readyz and /metrics, such as 127.0.0.1:9464 [default: the profile's]
    #[arg(long, value_name = "ADDRESS")]
    health: Option<SocketAddr>,
    /// Take up encoder and policy anew whenever their files change, while the loop runs.
    #[arg(long)]
    watch_models: bool,
    /// Do not write log.mcap.
    #[arg(long)]
    no_log: bool,
    /// Print result.json as well.
    #[arg(long)]
    json: bool,
}

/// Runs until the robot has finished or Ctrl-C, then writes what was measured.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let stop = stop::flag()?;
    let mut profile = foresee_firmware_config::load(&arguments.profile)?;
    if let Some(endpoint) = &arguments.endpoint {
        profile.zenoh.connect = vec![endpoint.clone()];
    }
    if let Some(endpoint) = &arguments.listen {
        if profile.zenoh.mode == ZenohMode::Client {
            anyhow::bail!("--listen {endpoint}: profile {} is a client of a router and listens nowhere", profile.name);
        }
        profile.zenoh.listen = vec![endpoint.clone()];
    }
    if let Some(misfit) = Machine::here().misfits(&profile).into_iter().next() {
        anyhow::bail!(misfit);
    }
    let (encoder, policy) = if arguments.watch_models {
        let pair = models::open_watched(&arguments.models, &profile, &stop)?;
        (pair.encoder, pair.policy)
    } else {
        arguments.models.open(&profile)?
    };
    let engines = Engines { encoder: encoder.report().clone(), policy: policy.report().cloned() };
    let mut control_loop = ControlLoop::new(encoder, policy, &profile)?;
    let self_test = control_loop.prove_budget(profile.budget.as_ref())?;
    say_budget(&profile, self_test.as_ref());
    let attendant = Attendant::start(&profile, engines.named(), arguments.health)?;
    let mut simulator = start_simulator(arguments, &stop)?;
    let link = ZenohLink::open(&profile.robot, &profile.zenoh)?;
    let mut source = open_source(&link, &profile)?;
    let (guard, mut actuator) = Guard::start(&link, &profile, &control_loop, &stop)?;
    let folder = places::run_folder(&arguments.runs, &arguments.name)?;
    let recorder = if arguments.no_log { None } else { Some(recorder(&folder, &profile, &engines)?) };

    say(&format!("robot {}, profile {}", profile.robot, profile.name));
    say(&format!("encoder on {}", models::describe(&engines.encoder)));
    if !profile.extra_cameras.is_empty() {
        say(&format!("cameras: {}", control_loop.cameras().words()));
    }
    engines.policy.iter().for_each(|policy| say(&format!("policy on {}", models::describe(policy))));
    straightened(&profile)
        .iter()
        .for_each(|model| say(&format!("frames straightened: {model}, by the profile's [intrinsics]")));
    if simulator.is_none() {
        say(&format!("waiting for the robot at {}", profile.zenoh.connect.join(", ")));
    }
    let mut observed = Observed::new(started, engines.encoder.provider.name(), recorder, simulator.as_mut());
    let ends = Ends { source: source.as_mut(), actuator: actuator.as_mut() };
    let ended = foresee_runtime::run(ends, &mut control_loop, &stop, &mut |event| {
        attendant.observe(&event);
        observed.take(event)
    });
    drop(attendant);
    // Before anything is written: the joints come to rest.
    guard.finish()?;
    let (account, recorder) = observed.into_parts();
    let log_entries_dropped = finish_log(recorder);
    let is_interrupted = stop.load(std::sync::atomic::Ordering::Relaxed);
    let (ended, failure) = match ended {
        Ok(ended) => (ended, None),
        // The robot may leave first when Ctrl-C reaches both processes.
        Err(_) if is_interrupted => (RunEnd::Stopped, None),
        Err(error) => {
            drop(simulator.as_mut().map(Simulator::check));
            if account.num_frames == 0 {
                return Err(error.into());
            }
            // What was measured until then is kept.
            (RunEnd::Stopped, Some(error))
        }
    };
    link.close()?;
    if let Some(simulator) = &mut simulator {
        simulator.finish();
    }
    let (chunks, cameras) = (control_loop.chunks(), CameraResult::of(control_loop.cameras()));
    let is_interrupted = ended == RunEnd::Stopped;
    let outcome = Outcome { folder, engines, account, log_entries_dropped, is_interrupted, self_test, chunks, cameras };
    let code = finish(arguments, &profile, outcome, &stop)?;
    failure.map_or(Ok(code), |error| Err(error.into()))
}

/// What the loop recorded is kept even when the log could not be: a full disk is no reason to lose the result.
fn finish_log(recorder: Option<Recorder>) -> u64 {
    let Some(recorder) = recorder else { return 0 };
    let so_far = recorder.summary().num_dropped;
    recorder.finish().map_or_else(
        |error| {
            say(&format!("log: {error}; it ends early"));
            so_far
        },
        |summary| summary.num_dropped,
    )
}

fn say_budget(profile: &DeviceProfile, self_test: Option<&LoopStatistics>) {
    if let (Some(budget), Some(measured)) = (&profile.budget, self_test) {
        let (p50, p99) = (measured.total.quantile_millis(0.5), measured.total.quantile_millis(0.99));
        say(&format!("budget: {} ms a tick; measured here p50 {p50:.2}, p99 {p99:.2} ms", budget.total_millis));
    } else if let Pace::Fixed { .. } = profile.pace {
        say(&format!("budget: profile {} declares none; ticks are counted, not proved", profile.name));
    }
}

/// What runs the two models.
struct Engines {
    encoder: EngineReport,
    policy: Option<EngineReport>,
}

impl Engines {
    fn named(&self) -> Vec<(String, EngineReport)> {
        let reports = [("encoder", Some(self.encoder.clone())), ("policy", self.policy.clone())];
        reports.into_iter().filter_map(|(name, report)| Some((name.to_owned(), report?))).collect()
    }
}

struct Outcome {
    folder: PathBuf,
    engines: Engines,
    account: Account,
    log_entries_dropped: u64,
    is_interrupted: bool,
    self_test: Option<LoopStatistics>,
    chunks: ChunkSummary,
    cameras: Vec<CameraResult>,
}

#[cfg(feature = "sim")]
fn start_simulator(arguments: &Arguments, stop: &AtomicBool) -> anyhow::Result<Option<Simulator>> {
    let Some(task) = &arguments.simulate else { return Ok(None) };
    foresee_sim::EpisodePlan { first_seed: arguments.seed, num_episodes: arguments.episodes }.check()?;
    let simulation = Simulation {
        task,
        profile: &arguments.profile,
        endpoint: arguments.endpoint.as_deref(),
        episodes: arguments.episodes,
        seed: arguments.seed,
    };
    let mut simulator = Simulator::start(&simulation)?;
    simulator.wait_until_ready(stop)?;
    Ok(Some(simulator))
}

#[cfg(not(feature = "sim"))]
fn start_simulator(_arguments: &Arguments, _stop: &AtomicBool) -> anyhow::Result<Option<Simulator>> {
    Ok(None)
}

/// The distortion model that frames are straightened by, if they are.
fn straightened(profile: &DeviceProfile) -> Option<&'static str> {
    let lens = profile.intrinsics.as_ref()?;
    lens.straightening.map(|_| lens.distortion_model())
}

fn recorder(folder: &Path, profile: &DeviceProfile, engines: &Engines) -> anyhow::Result<Recorder> {
    let mut facts = BTreeMap::from([("cpu_features".to_owned(), machine::cpu_features().join(" "))]);
    facts.extend(straightened(profile).map(|model| ("frames_straightened".to_owned(), model.to_owned())));
    let header = LogHeader {
        robot: profile.robot.clone(),
        profile: profile.name.clone(),
        joints: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
        cameras: profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect(),
        encoder: Some(engines.encoder.clone()),
        policy: engines.policy.clone(),
        git_revision: machine::GIT_REVISION.to_owned(),
        facts,
    };
    let writer = LogWriter::create(&folder.join("log.mcap"), &header)?;
    Recorder::start(writer, profile, RecorderOptions::default()).map_err(Into::into)
}

/// Compares, writes the run's files, and says where they are.
fn finish(
    arguments: &Arguments,
    profile: &DeviceProfile,
    outcome: Outcome,
    stop: &AtomicBool,
) -> anyhow::Result<ExitCode> {
    let Outcome { folder, engines, account, log_entries_dropped, is_interrupted, self_test, chunks, cameras } = outcome;
    let statistics = &account.statistics;
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
        engines: engines.named().into_iter().collect(),
        frames_straightened: straightened(profile).map(str::to_owned),
        mujoco_version: machine::mujoco_version(),
        cpu_features: machine::cpu_features().into_iter().map(str::to_owned).collect(),
        git_revision: machine::GIT_REVISION.to_owned(),
        loop_millis: Millis::of(&statistics.total),
        stage_millis: StageMillis::of(statistics),
        account_millis: AccountMillis::of(statistics),
        self_test_millis: self_test.as_ref().map(|measured| Millis::of(&measured.total)),
        chunks_late: chunks.num_late,
        chunks_duplicate: chunks.num_duplicate,
        safe_actions: account.safe_actions.clone(),
        frames: account.num_frames,
        frames_dropped: account.num_dropped,
        cameras,
        commands_clamped: statistics.num_clamped,
        commands_rate_limited: statistics.num_rate_limited,
        commands_held: statistics.num_held,
        log_entries_dropped,
        start_to_first_action_seconds: account.start_to_first_action_seconds,
        interrupted: is_interrupted,
        episode_results: account.episodes,
    };
    let json = serde_json::to_string_pretty(&result)?;
    write_atomically(&folder.join("result.json"), json.as_bytes())?;
    // The result stands without its pictures.
    if let Err(error) = account.film.write(&folder) {
        say(&format!("film: {error:#}; it is left out"));
    }
    report::write(&folder, &result, &statistics.total.bars_millis())?;
    // With --json standard output is the JSON alone.
    conclude(&folder, &result, if arguments.json { say } else { print });
    if arguments.json {
        print(&json);
    }
    Ok(if is_interrupted { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
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
    Ok([Some(crate::baselines::returns(&played)), expert, random])
}

#[cfg(not(feature = "sim"))]
fn compare(_episodes: &[Episode], _stop: &AtomicBool) -> anyhow::Result<[Option<Returns>; 3]> {
    Ok([None, None, None])
}

fn conclude(folder: &Path, result: &RunResult, tell: fn(&str)) {
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
    tell(&format!(
        "mean return over {} episodes [{interval}]: camera policy {} | expert {} | random {}",
        result.episodes,
        text(&result.policy),
        text(&result.expert),
        text(&result.random)
    ));
    tell(&format!(
        "loop p50 {:.2} ms, p99 {:.2} ms; {} frames, {} dropped; provider {} ({})",
        result.loop_millis.p50,
        result.loop_millis.p99,
        result.frames,
        result.frames_dropped,
        result.provider,
        result.provider_reason
    ));
    for file in ["report.html", "episode.gif", "log.mcap", "result.json"] {
        let path = folder.join(file);
        if path.exists() {
            tell(&format!("  {}", path.display()));
        }
    }
}
