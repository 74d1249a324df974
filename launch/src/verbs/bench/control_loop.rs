//! `foresee bench loop`: what the loop adds to encoder and policy alone (frame in memory -> command), and what two processes
//! over zenoh add to that.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use foresee_firmware_config::{DeviceProfile, ZenohProfile};
use foresee_runtime::{
    Action, CommandWait, ControlLoop, EncoderInput, EngineReport, Episode, EpisodePhase, Features, Observation,
    Preprocessor, Stamp, ZenohLink, ZenohRobot, free_loopback_endpoint,
};
use serde::Serialize;

use super::median;
use crate::machine;
use crate::models::ModelArguments;
use crate::words::print;

const PATIENCE: Duration = Duration::from_secs(30);
/// Ticks of a round that are not counted.
const WARM_UP: usize = 20;

/// Arguments of `foresee bench loop`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    models: ModelArguments,
    /// Side of the square RGB camera image, in pixels.
    #[arg(long, default_value_t = 224, value_name = "PIXELS")]
    image: u32,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 15, value_name = "N")]
    rounds: usize,
    /// Ticks of each kind a round.
    #[arg(long, default_value_t = 100, value_name = "N")]
    ticks: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    image: u32,
    rounds: usize,
    ticks_a_round: usize,
    /// Encoder and policy alone, on a preprocessed image: median over rounds of the round's median.
    models_micros: f64,
    /// Frame in memory -> command in memory.
    tick_micros: f64,
    /// Median over rounds of tick over models; goal: at most 1.10.
    tick_over_models: f64,
    /// Smallest and largest of the rounds.
    tick_over_models_range: [f64; 2],
    /// Frame in one process -> command back from another, over zenoh.
    round_trip_micros: f64,
    /// Median over rounds of round trip less tick; goal: at most 1.
    zenoh_adds_millis: f64,
    zenoh_adds_millis_range: [f64; 2],
    encoder: EngineReport,
    cpu_features: Vec<&'static str>,
    git_revision: &'static str,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.rounds == 0 || arguments.ticks == 0 || arguments.image == 0 {
        bail!("--rounds, --ticks and --image must be at least 1");
    }
    let scratch = Scratch::new(arguments.image)?;
    let profile = foresee_firmware_config::load(&scratch.profile().display().to_string())?;
    let (mut encoder, mut policy) = arguments.models.open(&profile)?;
    let report = encoder.report().clone();
    let preprocessing = encoder.card().preprocessing.clone().context("the encoder's card has no preprocessing")?;
    let mut preprocessor = Preprocessor::new(&preprocessing)?;
    let mut input = EncoderInput::zeros(preprocessing.height, preprocessing.width);
    let (mut features, mut action) = (Features::zeros(0, 0), Action::default());
    let mut observation = test_image(&profile);
    preprocessor.run(&observation.frame, &mut input)?;

    let (looped_encoder, looped_policy) = arguments.models.open(&profile)?;
    let mut control_loop = ControlLoop::new(looped_encoder, looped_policy, &profile)?;
    let mut far = FarLoop::start(arguments, &scratch, &profile)?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        let mut round = Round::default();
        for tick_idx in 0..WARM_UP + arguments.ticks {
            let started = Instant::now();
            encoder.encode(&input, &mut features)?;
            policy.act(&features, &observation.joints, &mut action)?;
            let models = started.elapsed();
            advance(&mut observation);
            let started = Instant::now();
            let ticked = control_loop.tick(&observation);
            let tick = started.elapsed();
            if ticked.failed.is_some() {
                bail!("a tick failed: {}", control_loop.failure().map_or_else(String::new, ToString::to_string));
            }
            let round_trip = far.round_trip(&observation)?;
            if tick_idx >= WARM_UP {
                round.push([models, tick, round_trip]);
            }
        }
        rounds.push(round.medians());
    }
    far.finish()?;
    let measured = Measured::of(arguments, report, &rounds);
    conclude(&measured, arguments.json)
}

/// Micro-seconds of one round: models, tick, round trip.
#[derive(Default)]
struct Round([Vec<f64>; 3]);

impl Round {
    fn push(&mut self, times: [Duration; 3]) {
        self.0.iter_mut().zip(times).for_each(|(values, time)| values.push(time.as_secs_f64() * 1e6));
    }

    fn medians(mut self) -> [f64; 3] {
        self.0.each_mut().map(|values| median(values))
    }
}

impl Measured {
    fn of(arguments: &Arguments, encoder: EngineReport, rounds: &[[f64; 3]]) -> Self {
        let middle = |of: &dyn Fn(&[f64; 3]) -> f64| median(&mut rounds.iter().map(of).collect::<Vec<_>>());
        let range = |of: &dyn Fn(&[f64; 3]) -> f64| {
            rounds
                .iter()
                .map(of)
                .fold([f64::INFINITY, f64::NEG_INFINITY], |[least, most], value| [least.min(value), most.max(value)])
        };
        let tick_over_models = |[models, tick, _]: &[f64; 3]| tick / models;
        let zenoh_adds_millis = |[_, tick, round_trip]: &[f64; 3]| (round_trip - tick) * 1e-3;
        Self {
            image: arguments.image,
            rounds: arguments.rounds,
            ticks_a_round: arguments.ticks,
            models_micros: middle(&|[models, _, _]| *models),
            tick_micros: middle(&|[_, tick, _]| *tick),
            tick_over_models: middle(&tick_over_models),
            tick_over_models_range: range(&tick_over_models),
            round_trip_micros: middle(&|[_, _, round_trip]| *round_trip),
            zenoh_adds_millis: middle(&zenoh_adds_millis),
            zenoh_adds_millis_range: range(&zenoh_adds_millis),
            encoder,
            cpu_features: machine::cpu_features(),
            git_revision: machine::GIT_REVISION,
        }
    }
}

fn conclude(measured: &Measured, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        print(&serde_json::to_string_pretty(measured)?);
        return Ok(ExitCode::SUCCESS);
    }
    let ratio = (measured.tick_over_models, measured.tick_over_models_range);
    let added = (measured.zenoh_adds_millis, measured.zenoh_adds_millis_range);
    print(&format!(
        "{0}x{0} image, {1} rounds of {2} ticks, provider {3}",
        measured.image,
        measured.rounds,
        measured.ticks_a_round,
        measured.encoder.provider.name()
    ));
    print(&format!("encoder and policy alone {:>8.0} us", measured.models_micros));
    print(&format!(
        "whole tick               {:>8.0} us   {:.3} x [{:.3}, {:.3}]",
        measured.tick_micros, ratio.0, ratio.1[0], ratio.1[1]
    ));
    print(&format!(
        "two processes over zenoh {:>8.0} us   adds {:.3} ms [{:.3}, {:.3}]",
        measured.round_trip_micros, added.0, added.1[0], added.1[1]
    ));
    Ok(ExitCode::SUCCESS)
}

fn test_image(profile: &DeviceProfile) -> Observation {
    let mut observation = Observation::blank(profile.camera.width, profile.camera.height, profile.joints.len());
    observation.frame.data.iter_mut().enumerate().for_each(|(idx, byte)| *byte = (idx * 31 % 251) as u8);
    observation
}

fn advance(observation: &mut Observation) {
    observation.frame.sequence += 1;
    observation.frame.stamp.nanos += 20_000_000;
    observation.joints.stamp = observation.frame.stamp;
}

/// A folder with a profile whose camera gives the wanted image, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(image: u32) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("foresee-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
        let scratch = Self(folder);
        let camera = format!("[camera]\nname = \"fixed\"\nwidth = {image}\nheight = {image}\nencoding = \"rgb8\"\n");
        std::fs::write(scratch.profile(), format!("inherit = \"desktop-sim\"\n{camera}"))?;
        Ok(scratch)
    }

    fn profile(&self) -> PathBuf {
        self.0.join("bench.toml")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind at worst: a page of text in the folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `foresee run` in a process of its own, and this process as its robot.
struct FarLoop {
    child: Child,
    link: ZenohLink,
    robot: ZenohRobot,
    command: Vec<f64>,
}

impl FarLoop {
    fn start(arguments: &Arguments, scratch: &Scratch, profile: &DeviceProfile) -> anyhow::Result<Self> {
        let endpoint = free_loopback_endpoint()?;
        let zenoh = ZenohProfile {
            listen: vec![endpoint.clone()],
            shared_memory: profile.zenoh.shared_memory,
            ..ZenohProfile::default()
        };
        let joint_names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        let command = vec![0.0; joint_names.len()];
        let link = ZenohLink::open(&profile.robot, &zenoh)?;
        let mut robot = ZenohRobot::new(&link, joint_names)?;
        let mut run = Command::new(std::env::current_exe().context("the running binary's path")?);
        let provider = arguments.models.encoder.engine.provider.name();
        run.args(["run", "--no-log", "--name", "bench", "--endpoint", &endpoint, "--provider", &provider]);
        let path = |name: &str, path: &Path| [name.to_owned(), path.display().to_string()];
        run.args(path("--profile", &scratch.profile())).args(path("--runs", &scratch.0));
        run.args(path("--encoder", &arguments.models.encoder.path()))
            .args(path("--policy", &arguments.models.policy_path()));
        if let Some(threads) = arguments.models.encoder.engine.threads {
            run.args(["--threads", &threads.to_string()]);
        }
        let child =
            run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("foresee run")?;
        let is_here = robot.wait_for_loop(PATIENCE);
        let mut far = Self { child, link, robot, command };
        if !is_here {
            far.end();
            bail!("foresee run did not come up within {PATIENCE:?}");
        }
        far.robot.announce(
            Stamp::default(),
            EpisodePhase::Started,
            &Episode { task: "bench".to_owned(), ..Episode::default() },
        )?;
        Ok(far)
    }

    fn round_trip(&mut self, observation: &Observation) -> anyhow::Result<Duration> {
        let started = Instant::now();
        self.robot.publish(observation)?;
        match self.robot.wait_command(observation.frame.sequence, PATIENCE, &mut self.command)? {
            CommandWait::Answered => Ok(started.elapsed()),
            other => bail!("foresee run did not answer: {other:?}"),
        }
    }

    fn finish(mut self) -> anyhow::Result<()> {
        self.robot.announce(Stamp::default(), EpisodePhase::Finished, &Episode::default())?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().context("foresee run")?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.link.close()?;
        Ok(())
    }

    fn end(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for FarLoop {
    fn drop(&mut self) {
        self.end();
    }
}
