//! `foresee record`: episodes of a task, or a live robot, into MCAP logs: demonstrations for cloning, frames for pretraining.

mod live;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::bail;
use clap::Args;
use foresee_firmware_config::DeviceProfile;
use foresee_policies::{
    Behaviour, Disturbance, Keep, PolicyActor, Progress, RecordOptions, RecordReport, Watch, record,
};
use foresee_runtime::ModelCard;
use foresee_sim::{Assets, CameraOptions, CommandMap, Environment, EnvironmentOptions, Quality, Textures, UserModel};

use crate::counts::check_counts;
use crate::models::EncoderArguments;
use crate::progress::Steps;
use crate::simulated::UserModelArguments;
use crate::words::{print, say};
use crate::{machine, places, stop, trail};

/// The profile of a recording that names none: it gives the image's size.
const DEFAULT_PROFILE: &str = "desktop-sim";

/// Arguments of `foresee record`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Task, such as dmc/reacher-easy; see foresee sim --list [default: the live robot of --profile, over zenoh]
    task: Option<String>,
    #[command(flatten)]
    model: UserModelArguments,
    /// Folder for the episodes; what it holds already is counted, so that a stopped recording goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Who acts: expert (the task's scripted expert), random (uniform), smooth (random, wanders further), or a policy's ONNX file.
    #[arg(long, default_value = "expert", value_name = "expert|random|smooth|POLICY.onnx")]
    actor: String,
    #[command(flatten)]
    encoder: EncoderArguments,
    /// Episodes that the folder shall hold.
    #[arg(long, default_value_t = 100, value_name = "N")]
    episodes: u32,
    /// Seed of the first episode; the next ones count up.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Robot: its cameras, joints and name [default: desktop-sim, with the task's first camera and all its actuators]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Camera of the model [default: the profile's; without --profile the task's first]
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Cut episodes off after this many control steps.
    #[arg(long, value_name = "STEPS")]
    max_steps: Option<u32>,
    /// Write every this many control steps.
    #[arg(long, default_value_t = 1, value_name = "STEPS")]
    stride: u32,
    /// Keep only episodes that end in success.
    #[arg(long)]
    successful: bool,
    /// Disturb what is executed (the label stays clean), so that a clone sees how the expert comes back.
    #[arg(long)]
    disturb: bool,
    /// Of a live robot: where it is, such as tcp/127.0.0.1:7447 [default: the profile's]
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["task", "mjcf"])]
    endpoint: Option<String>,
    /// Of a live robot: where a teleoperator's driver can connect, such as tcp/127.0.0.1:7448 [default: the profile's]
    #[arg(long, value_name = "ENDPOINT", conflicts_with_all = ["task", "mjcf"])]
    listen: Option<String>,
    /// Of a live robot: end after this time [default: at Ctrl-C]
    #[arg(long, value_name = "S", conflicts_with_all = ["task", "mjcf"])]
    seconds: Option<f64>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Records until the folder holds what was asked for, or Ctrl-C.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let steps = arguments.max_steps.unwrap_or(1);
    let counts = [("--episodes", arguments.episodes), ("--max-steps", steps), ("--stride", arguments.stride)];
    check_counts(&counts.map(|(flag, count)| (flag, count as usize, usize::MAX)))?;
    let stop = stop::flag()?;
    if arguments.task.is_none() && !arguments.model.is_given() {
        return live::act(arguments, &stop);
    }
    act_simulated(arguments, &stop)
}

fn act_simulated(arguments: &Arguments, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    let options = options(arguments)?;
    let mut steps = Steps::new("record", u64::from(arguments.episodes));
    let mut observe = |progress| {
        if let Progress::Recorded { num_held, episode, .. } = progress {
            steps.set(num_held as u64, &format!("seed {}, return {:.1}", episode.seed, episode.episode_return));
        }
    };
    let report = record(&options, &mut Watch { observe: &mut observe, stop })?;
    steps.finish();
    trail::leave(&arguments.out, [])?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&report)?);
    } else {
        print(&in_words(arguments, &report));
    }
    if report.stopped {
        say("record: stopped; the same command goes on");
    }
    Ok(if report.stopped { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn in_words(arguments: &Arguments, report: &RecordReport) -> String {
    let RecordReport { num_held, num_played, num_successful, num_rejected, num_steps, .. } = report;
    format!(
        "{}: {num_held} episodes; now {num_played} played, {num_successful} of them with success, {num_rejected} not kept, {num_steps} steps written",
        arguments.out.display()
    )
}

fn options(arguments: &Arguments) -> anyhow::Result<RecordOptions> {
    let named = arguments.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
    let profile = foresee_firmware_config::load(named)?;
    let Recorded { model, task, camera, device } = arguments.recorded(&profile)?;
    let (behaviour, policy) = actor(arguments, &profile)?;
    let extra = profile.extra_cameras.iter();
    Ok(RecordOptions {
        task,
        model,
        native: places::native(),
        folder: arguments.out.clone(),
        device,
        camera,
        extra_cameras: extra.map(|extra| CameraOptions::of_extra(extra, Quality::Fast)).collect(),
        behaviour,
        disturbance: if arguments.disturb { Disturbance::CLONING } else { Disturbance::NONE },
        num_episodes: arguments.episodes,
        first_seed: arguments.seed,
        max_steps: arguments.max_steps,
        stride: arguments.stride,
        keep: if arguments.successful { Keep::Successful } else { Keep::All },
        git_revision: machine::GIT_REVISION.to_owned(),
        profile_toml: foresee_firmware_config::show(named)?,
        policy,
        robot: profile.robot,
        profile: profile.name,
    })
}

fn actor(arguments: &Arguments, profile: &DeviceProfile) -> anyhow::Result<(Behaviour, Option<PolicyActor>)> {
    Ok(match arguments.actor.as_str() {
        "expert" => (Behaviour::Expert, None),
        "random" => (Behaviour::UniformRandom, None),
        "smooth" => (Behaviour::SmoothRandom, None),
        policy if policy.ends_with(".onnx") => {
            let policy = PathBuf::from(policy);
            if let Some(conditions) = ModelCard::load(&policy)?.conditions() {
                conditions
                    .check(profile)
                    .map_err(|problem| anyhow::anyhow!("policy {}: {problem}", policy.display()))?;
            }
            let engine = arguments.encoder.options(profile)?;
            let actor = PolicyActor { encoder: arguments.encoder.path(), policy, engine, device: profile.clone() };
            (Behaviour::Policy, Some(actor))
        }
        other => bail!("--actor {other}: give expert, random, smooth, or the ONNX file of a policy"),
    })
}

/// What the arguments and the profile come to.
struct Recorded {
    model: Option<UserModel>,
    task: String,
    camera: CameraOptions,
    /// The profile, where its joints are the task's actuators.
    device: Option<DeviceProfile>,
}

impl Arguments {
    /// A profile that is named must be of this robot: its camera is recorded, and its joints in its units. The default one gives
    /// the image's size, and the rest where it is of this robot.
    fn recorded(&self, profile: &DeviceProfile) -> anyhow::Result<Recorded> {
        let model = self.model.of(self.task.as_deref(), profile)?;
        let native = places::native();
        let assets = Assets { native: &native, textures: Textures::Small };
        let task = self.task.as_deref().unwrap_or_default();
        let environment = Environment::of_task_or_model(task, model.as_ref(), assets, EnvironmentOptions::default())?;
        let joints = CommandMap::new(&environment, profile);
        let device = match (joints, &self.profile) {
            (Ok(joints), _) => {
                joints.notes().iter().for_each(|note| say(&format!("record: {note}")));
                Some(profile.clone())
            }
            (Err(error), Some(_)) => return Err(error.into()),
            (Err(_), None) => None,
        };
        let mut camera = CameraOptions::of(&profile.camera, Quality::Fast);
        match (&self.camera, &self.profile) {
            (Some(name), _) => camera.name.clone_from(name),
            (None, Some(_)) => {}
            (None, None) => camera.name.clone_from(&environment.spec().camera),
        }
        Ok(Recorded { model, task: environment.spec().name.clone(), camera, device })
    }
}
