//! What is simulated and how: the arguments that simulating verbs share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_sim::{Assets, Environment, EnvironmentOptions, Randomisation, Textures, UserGoal, UserModel};

use crate::places;

/// An episode of a model of the user's own, where nothing else is said.
const TIME_LIMIT_SECONDS: f64 = 20.0;

/// A model of the user's own in place of a task, and randomisation.
#[derive(Args)]
pub(crate) struct SimulatedArguments {
    /// A model of your own in place of a task: MJCF or URDF; what it names is looked for beside it.
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    mjcf: Option<PathBuf>,
    /// What is rewarded in your model: `still` (nothing) or `distance:NAME:NAME` (minus the metres between two bodies, sites or geoms) [default: still]
    #[arg(id = "goal", long = "task", value_name = "GOAL", requires = "mjcf")]
    goal: Option<String>,
    /// Simulated seconds after which an episode of your model is cut off [default: 20]
    #[arg(long, value_name = "SECONDS", requires = "mjcf")]
    time_limit: Option<f64>,
    #[command(flatten)]
    randomise: RandomiseArguments,
}

/// Domain randomisation.
#[derive(Args)]
pub(crate) struct RandomiseArguments {
    /// Ranges that every episode draws light, textures, masses, latency, sensor faults, ... from; see launch/doc/randomise.toml
    #[arg(long, value_name = "FILE.toml")]
    randomise: Option<PathBuf>,
}

impl SimulatedArguments {
    /// The task's environment, or that of the user's model with an action every period of the profile.
    ///
    /// # Errors
    /// One line that names what is wrong and the fix.
    pub(crate) fn open(&self, task: Option<&str>, profile: &DeviceProfile) -> anyhow::Result<Environment> {
        let options = EnvironmentOptions { randomisation: self.randomise.load()?, ..EnvironmentOptions::default() };
        if task.is_some() && (self.goal.is_some() || self.time_limit.is_some()) {
            bail!("--task and --time-limit are of a model of your own; give --mjcf FILE in place of the task's name");
        }
        if let Some(path) = &self.mjcf {
            let Pace::Lockstep { period_millis, .. } = profile.pace else {
                let name = &profile.name;
                bail!("profile `{name}`: pace.kind is not \"lockstep\"; the simulator needs one that is");
            };
            let model = UserModel {
                path: path.clone(),
                goal: self.goal.as_deref().map_or(Ok(UserGoal::Still), UserGoal::parse)?,
                // The cast is exact: a period is far below 2^53.
                control_timestep_seconds: period_millis as f64 / 1000.0,
                time_limit_seconds: self.time_limit.unwrap_or(TIME_LIMIT_SECONDS),
            };
            return Ok(Environment::of_user_model(&model, options)?);
        }
        let task = task.context("name a task, such as dmc/reacher-easy; see --list")?;
        let native = places::native();
        let assets = Assets { native: Path::new(&native), textures: Textures::Full };
        Ok(Environment::with_options(task, assets, options)?)
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
