//! What is simulated and how: the arguments that simulating verbs share.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use clap::Args;
use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_sim::{
    Assets, Environment, EnvironmentOptions, Randomisation, Textures, UserGoal, UserModel, load_plugins,
};

use crate::places;

/// An episode of a model of the user's own, where nothing else is said.
const TIME_LIMIT_SECONDS: f64 = 20.0;

/// A model of the user's own in place of a task.
#[derive(Args, Default)]
pub(crate) struct UserModelArguments {
    /// A model of your own in place of a task: MJCF or URDF; what it names is looked for beside it.
    #[arg(long, value_name = "FILE")]
    mjcf: Option<PathBuf>,
    /// What is rewarded in your model: `still` (nothing) or `distance:NAME:NAME` (minus the metres between two bodies, sites or geoms); names with a `:` in single quotes [default: still]
    #[arg(id = "goal", long = "task", value_name = "GOAL", requires = "mjcf")]
    goal: Option<String>,
    /// Simulated seconds after which an episode of your model is cut off [default: 20]
    #[arg(long, value_name = "SECONDS", requires = "mjcf")]
    time_limit: Option<f64>,
    /// Folder of a ROS package that a URDF names as package://NAME/; may be given more than once
    #[arg(long = "package", value_name = "NAME=DIR", requires = "mjcf")]
    packages: Vec<String>,
}

/// A model of the user's own in place of a task, and randomisation.
#[derive(Args)]
pub(crate) struct SimulatedArguments {
    #[command(flatten)]
    pub(crate) model: UserModelArguments,
    #[command(flatten)]
    pub(crate) randomise: RandomiseArguments,
}

/// Domain randomisation.
#[derive(Args)]
pub(crate) struct RandomiseArguments {
    /// Ranges that every episode draws light, textures, masses, latency, sensor faults, ... from; see launch/doc/randomise.toml
    #[arg(long, value_name = "FILE.toml")]
    randomise: Option<PathBuf>,
}

impl UserModelArguments {
    /// The user's model, with an action every period of the profile; `None` for a task of the list.
    ///
    /// # Errors
    /// One line that names what is wrong and the fix.
    pub(crate) fn of(&self, task: Option<&str>, profile: &DeviceProfile) -> anyhow::Result<Option<UserModel>> {
        let Some(path) = &self.mjcf else {
            ensure!(
                task.is_some(),
                "name a task, such as dmc/reacher-easy (see foresee sim --list), or give --mjcf FILE"
            );
            return Ok(None);
        };
        if let Some(task) = task {
            bail!("{task} and --mjcf {}: give a task or a model of your own, not both", path.display());
        }
        ensure!(
            matches!(profile.pace, Pace::Lockstep { .. }),
            "profile `{}`: pace.kind is not \"lockstep\"; the simulator needs one that is",
            profile.name
        );
        load_plugins(&places::native());
        Ok(Some(UserModel {
            path: path.clone(),
            packages: packages(&self.packages)?,
            goal: self.goal.as_deref().map_or(Ok(UserGoal::Still), UserGoal::parse)?,
            control_timestep_seconds: profile.pace.period().as_secs_f64(),
            time_limit_seconds: self.time_limit.unwrap_or(TIME_LIMIT_SECONDS),
        }))
    }

    /// Whether a model is given.
    pub(crate) fn is_given(&self) -> bool {
        self.mjcf.is_some()
    }

    /// The same arguments, for a child process.
    pub(crate) fn to_arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        let mut push = |flag: &str, value: OsString| arguments.extend([flag.into(), value]);
        self.mjcf.iter().for_each(|path| push("--mjcf", path.into()));
        self.goal.iter().for_each(|goal| push("--task", goal.into()));
        self.time_limit.iter().for_each(|seconds| push("--time-limit", seconds.to_string().into()));
        self.packages.iter().for_each(|package| push("--package", package.into()));
        arguments
    }
}

/// Reads `NAME=DIR`.
///
/// # Errors
/// One line for anything else.
pub(crate) fn packages(given: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let read = |text: &String| {
        let (name, folder) = text.split_once('=').filter(|(name, folder)| !name.is_empty() && !folder.is_empty())?;
        Some((name.to_owned(), PathBuf::from(folder)))
    };
    let pair = |text: &String| read(text).with_context(|| format!("--package {text}: write NAME=DIR"));
    given.iter().map(pair).collect()
}

impl SimulatedArguments {
    /// The task's environment, or that of the user's model with an action every period of the profile.
    ///
    /// # Errors
    /// One line that names what is wrong and the fix.
    pub(crate) fn open(&self, task: Option<&str>, profile: &DeviceProfile) -> anyhow::Result<Environment> {
        let options = EnvironmentOptions { randomisation: self.randomise.load()?, ..EnvironmentOptions::default() };
        let model = self.model.of(task, profile)?;
        let native = places::native();
        let assets = Assets { native: &native, textures: Textures::Full };
        Ok(Environment::of_task_or_model(task.unwrap_or_default(), model.as_ref(), assets, options)?)
    }
}

impl RandomiseArguments {
    /// The file, read and checked.
    ///
    /// # Errors
    /// One line that names file, key, value and what can be.
    pub(crate) fn load(&self) -> anyhow::Result<Option<Arc<Randomisation>>> {
        Ok(self.randomise.as_deref().map(Randomisation::load).transpose()?.map(Arc::new))
    }
}
