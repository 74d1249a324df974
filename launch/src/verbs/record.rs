//! `foresee record`: episodes of a task into MCAP logs, one file an episode: demonstrations for cloning, frames for pretraining.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use foresee_firmware_config::DeviceProfile;
use foresee_policies::{Behaviour, Disturbance, Keep, Progress, RecordOptions, Watch, record};
use foresee_sim::{Assets, CameraOptions, CommandMap, Environment, EnvironmentOptions, Quality, Textures, UserModel};

use crate::counts::check_counts;
use crate::progress::Steps;
use crate::simulated::UserModelArguments;
use crate::words::{print, say};
use crate::{machine, places, stop, trail};

/// The profile of a recording that names none: it gives the image's size.
const DEFAULT_PROFILE: &str = "desktop-sim";

/// Who acts.
#[derive(Clone, Copy, ValueEnum)]
enum Actor {
    /// The task's scripted expert.
    Expert,
    /// Uniform random actions.
    Random,
    /// Smooth random actions: they wander further.
    Smooth,
}

/// Arguments of `foresee record`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Task, such as dmc/reacher-easy; see foresee sim --list
    #[arg(required_unless_present = "mjcf")]
    task: Option<String>,
    #[command(flatten)]
    model: UserModelArguments,
    /// Folder for the episodes; what it holds already is counted, so that a stopped recording goes on.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Who acts.
    #[arg(long, value_enum, default_value = "expert")]
    actor: Actor,
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
    let profile = foresee_firmware_config::load(arguments.profile.as_deref().unwrap_or(DEFAULT_PROFILE))?;
    let Recorded { model, task, camera, device } = arguments.recorded(&profile)?;
    let options = RecordOptions {
        task,
        model,
        native: places::native(),
        folder: arguments.out.clone(),
        robot: profile.robot,
        profile: profile.name,
        device,
        camera,
        extra_cameras: profile
            .extra_cameras
            .iter()
            .map(|extra| CameraOptions::of_extra(extra, Quality::Fast))
            .collect(),
        behaviour: match arguments.actor {
            Actor::Expert => Behaviour::Expert,
            Actor::Random => Behaviour::UniformRandom,
            Actor::Smooth => Behaviour::SmoothRandom,
        },
        disturbance: if arguments.disturb { Disturbance::CLONING } else { Disturbance::NONE },
        num_episodes: arguments.episodes,
        first_seed: arguments.seed,
        max_steps: arguments.max_steps,
        stride: arguments.stride,
        keep: if arguments.successful { Keep::Successful } else { Keep::All },
        git_revision: machine::GIT_REVISION.to_owned(),
    };
    let mut steps = Steps::new("record", u64::from(arguments.episodes));
    let mut observe = |progress| {
        if let Progress::Recorded { num_held, episode, .. } = progress {
            steps.set(num_held as u64, &format!("seed {}, return {:.1}", episode.seed, episode.episode_return));
        }
    };
    let report = record(&options, &mut Watch { observe: &mut observe, stop: &stop })?;
    steps.finish();
    trail::leave(&arguments.out, [])?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&report)?);
    } else {
        let counts = (report.num_held, report.num_played, report.num_rejected, report.num_steps);
        let folder = arguments.out.display();
        print(&format!(
            "{folder}: {} episodes; now {} played, {} not kept, {} steps written",
            counts.0, counts.1, counts.2, counts.3
        ));
    }
    if report.stopped {
        say("record: stopped; the same command goes on");
    }
    Ok(if report.stopped { ExitCode::from(130) } else { ExitCode::SUCCESS })
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
