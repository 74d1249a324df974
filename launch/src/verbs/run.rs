//! `foresee run`: the control loop as a process. Frames and joint states come over zenoh, commands go back; a live table, a log, a report.

mod outcome;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Args;
use foresee_firmware_config::{DeviceProfile, Pace, ZenohMode};
use foresee_runtime::{
    ControlLoop, Ends, LogHeader, LogWriter, LoopStatistics, ModelPair, PairReport, Recorder, RecorderOptions, RunEnd,
    WatchdogSummary, ZenohLink,
};

use self::outcome::Outcome;
use crate::attendant::{Attendant, Attended};
use crate::filming::Filming;
use crate::fitness::Machine;
use crate::guard::Guard;
use crate::listener::{Beside, Observed, Stamps};
use crate::models::{ModelArguments, Watched};
use crate::result::CameraResult;
#[cfg(feature = "sim")]
use crate::simulator::Simulation;
use crate::simulator::Simulator;
use crate::sources::open_source;
use crate::stop::Stop;
use crate::traces::Traces;
use crate::words::{joined, say, start_speaker};
use crate::{guard, log_room, machine, models, places};

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
    /// Start `foresee sim TASK` beside this process and end it afterwards; without TASK: of the model of --mjcf.
    #[cfg(feature = "sim")]
    #[arg(long, value_name = "TASK", num_args = 0..=1, default_missing_value = "")]
    simulate: Option<String>,
    #[cfg(feature = "sim")]
    #[command(flatten)]
    user_model: crate::simulated::UserModelArguments,
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
    /// The log ends at this size, and at half of what the disk has free; the run goes on.
    #[arg(long, default_value_t = 8192, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    max_log_mebibytes: u64,
    /// Print result.json as well.
    #[arg(long)]
    json: bool,
}

/// Runs until the robot has finished or Ctrl-C, then writes what was measured.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    start_speaker();
    let signals = Stop::install()?;
    let done = act_until(arguments, &signals);
    let done = match done {
        // Whoever stopped a robot does not want it started again because something else went wrong on the way.
        Err(error) if signals.flag.load(Ordering::Relaxed) => {
            say(&format!("foresee: {}", joined(&error)));
            Ok(ExitCode::from(foresee_firmware_config::STOPPED_BADLY))
        }
        done => done,
    };
    signals.end_as_asked();
    done
}

fn act_until(arguments: &Arguments, signals: &Stop) -> anyhow::Result<ExitCode> {
    let (started, stop) = (Instant::now(), &signals.flag);
    places::check_run_name(&arguments.name)?;
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
    let (ModelPair { encoder, policy }, swap, news) = if arguments.watch_models {
        let Watched { pair, handle, news } = models::open_watched(&arguments.models, &profile, stop)?;
        (pair, Some(handle), Some(news))
    } else {
        let (encoder, policy) = arguments.models.open(&profile)?;
        (ModelPair { encoder, policy }, None, None)
    };
    let engines = PairReport::of(encoder.as_ref(), policy.as_ref());
    let mut control_loop = ControlLoop::new(encoder, policy, &profile)?;
    let self_test = prove_budget(&mut control_loop, &profile)?;
    let attended = Attended { models: engines.clone(), filter: control_loop.filter(), news, health: arguments.health };
    let attendant = Attendant::start(&profile, attended)?;
    let mut simulator = start_simulator(arguments, stop)?;
    let link = ZenohLink::open(&profile.robot, &profile.zenoh)?;
    let mut source = open_source(&link, &profile)?;
    let folder = leave_out("what the run would leave", places::run_folder(&arguments.runs, &arguments.name));
    let log_folder = folder.as_deref().filter(|_| !arguments.no_log);
    let mut recorder = log_folder.and_then(|folder| leave_out("log", recorder(folder, arguments, &profile, &engines)));
    recorder.iter().for_each(|recorder| attendant.record_into(recorder.fact_tap()));
    let log_is_left_out = recorder.is_none() && !arguments.no_log;
    let tap = recorder.as_mut().and_then(Recorder::take_command_tap);
    let (guard, mut actuator) = Guard::start(&link, &profile, &control_loop, (signals, tap))?;

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
    let traces = Traces::of(&profile);
    let beside = Beside { recorder, filming: Filming::start()?, swap, simulator: simulator.as_mut(), traces };
    let mut observed = Observed::new(started, engines.encoder.provider.name(), Stamps::of(&profile), beside);
    let ends = Ends { source: source.as_mut(), actuator: actuator.as_mut() };
    // Last: what was started before runs elsewhere than the loop.
    let scheduled = guard::scheduled(&profile);
    let ended = foresee_runtime::run(ends, &mut control_loop, stop, &mut |event| {
        attendant.observe(&event);
        observed.take(event)
    });
    drop(scheduled);
    let models = attendant.finish();
    // Before anything is written: the joints come to rest.
    let (watchdog, unrest) =
        guard.finish().map_or_else(|error| (WatchdogSummary::default(), Some(error)), |done| (done, None));
    let (account, recorder) = observed.into_parts();
    let log_entries_dropped = if log_is_left_out { account.num_frames } else { finish_log(recorder) };
    let is_interrupted = stop.load(Ordering::Relaxed);
    let (ended, failure) = match ended {
        Ok(ended) => (ended, None),
        // The robot may leave first when Ctrl-C reaches both processes.
        Err(_) if is_interrupted => (RunEnd::Stopped, None),
        Err(error) => {
            // The simulator knows better why it is gone.
            let error = simulator.as_mut().and_then(Simulator::why_it_ended).unwrap_or_else(|| error.into());
            // What was measured until then is kept.
            (RunEnd::Stopped, Some(error))
        }
    };
    let mut failure = graver([unrest, failure, link.close().map_err(Into::into).err()]);
    if let Some(failure) = failure.take_if(|_| account.num_frames == 0) {
        return Err(failure);
    }
    if let Some(simulator) = &mut simulator {
        simulator.finish();
    }
    let (chunks, cameras) = (control_loop.chunks(), CameraResult::of(control_loop.cameras()));
    let is_interrupted = ended == RunEnd::Stopped;
    let told = failure.as_ref().map(joined);
    let outcome = Outcome {
        folder,
        models,
        account,
        log_entries_dropped,
        is_interrupted,
        failure: told,
        self_test,
        chunks,
        cameras,
        watchdog,
    };
    let code = outcome::leave(arguments, &profile, outcome, stop)?;
    failure.map_or(Ok(code), Err)
}

/// The first of these is the run's failure; the others are said.
fn graver(failures: [Option<anyhow::Error>; 3]) -> Option<anyhow::Error> {
    let mut failures = failures.into_iter().flatten();
    let first = failures.next();
    failures.for_each(|other| say(&format!("foresee: {}", joined(&other))));
    first
}

/// A robot runs without what a full or broken disk does not take: that is said.
fn leave_out<T>(what: &str, made: anyhow::Result<T>) -> Option<T> {
    made.map_err(|error| say(&format!("{what}: {error:#}; it is left out, and the run goes on"))).ok()
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

/// The budget holds under the conditions that the loop runs in, or it does not start.
fn prove_budget(control_loop: &mut ControlLoop, profile: &DeviceProfile) -> anyhow::Result<Option<LoopStatistics>> {
    let scheduled = guard::scheduled(profile);
    scheduled.iter().for_each(|scheduled| guard::say_scheduled(profile, scheduled));
    let self_test = control_loop.prove_budget(profile.budget.as_ref())?;
    say_budget(profile, self_test.as_ref());
    Ok(self_test)
}

fn say_budget(profile: &DeviceProfile, self_test: Option<&LoopStatistics>) {
    if let (Some(budget), Some(measured)) = (&profile.budget, self_test) {
        let (p50, p99) = (measured.total.quantile_millis(0.5), measured.total.quantile_millis(0.99));
        say(&format!("budget: {} ms a tick; measured here p50 {p50:.2}, p99 {p99:.2} ms", budget.total_millis));
    } else if let Pace::Fixed { .. } = profile.pace {
        say(&format!("budget: profile {} declares none; ticks are counted, not proved", profile.name));
    }
}

#[cfg(feature = "sim")]
fn start_simulator(arguments: &Arguments, stop: &AtomicBool) -> anyhow::Result<Option<Simulator>> {
    let model = &arguments.user_model;
    let Some(task) = &arguments.simulate else {
        anyhow::ensure!(!model.is_given(), "--mjcf: a model is simulated; give --simulate with it");
        return Ok(None);
    };
    anyhow::ensure!(
        task.is_empty() == model.is_given(),
        "--simulate: name a task, such as dmc/reacher-easy (see foresee sim --list), or give --mjcf FILE, not both"
    );
    foresee_sim::EpisodePlan { first_seed: arguments.seed, num_episodes: arguments.episodes }.check()?;
    let simulation = Simulation {
        what: if task.is_empty() { model.to_arguments() } else { vec![task.into()] },
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

fn recorder(
    folder: &Path,
    arguments: &Arguments,
    profile: &DeviceProfile,
    engines: &PairReport,
) -> anyhow::Result<Recorder> {
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
    }
    .with_profile(foresee_firmware_config::show(&arguments.profile)?);
    let writer = LogWriter::create(&folder.join("log.mcap"), &header)?;
    // Whatever else lies on the disk, and however often the run is started: it never becomes full of logs.
    let max_bytes =
        (arguments.max_log_mebibytes << 20).min(machine::free_bytes(folder).map_or(u64::MAX, |free| free / 2));
    log_room::warning(profile, max_bytes).iter().for_each(|line| say(line));
    Recorder::start(writer, profile, RecorderOptions { max_bytes, ..RecorderOptions::default() }).map_err(Into::into)
}
