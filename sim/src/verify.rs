//! Compares with recorded episodes of the Python originals: state, observation and reward.
//!
//! dm_control's tasks are replayed from their seeds. A file `<domain>-<task>.safetensors` holds, for every seed S of its metadata, `seedS.actions` `[E, T, nu]`,
//! `seedS.observations` `[E, T + 1, no]`, `seedS.rewards` and `seedS.discounts` `[E, T]`, `seedS.qpos` and `seedS.qvel`
//! `[E, T + 1, n]` (float64); episode e + 1 goes on with the random stream of episode e. It may hold states that episodes seldom
//! reach, such as those beside the edge of a sparse reward: `seedS.edges.qpos`, `.qvel` `[N, n]`, `.observations` `[N, no]`,
//! `.rewards` `[N]`, each put (dm_control's `reset_context`) after the seed's first reset.
//!
//! The other suites' tasks ran on another MuJoCo: every recorded state is put, and observation, reward, success and the expert's
//! action are compared as functions of it; `worst_reward` covers the latter three. A file holds `seedS.actions` and
//! `seedS.expert_actions` `[T, 4]`, `seedS.observations` `[T + 1, 39]`, `seedS.rewards` and `seedS.success` `[T]`,
//! `seedS.qpos`, `seedS.qvel` `[T + 1, n]`, `seedS.mocap_pos` `[T + 1, 3]`, and what the episode began with. Adroit and
//! kitchen alike, without expert or mocap, with `seedS.reset.*` of the model and, kitchen, `seedS.achieved_goal`.

mod edges;
mod episodes;
mod file;
mod states;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::environment::Environment;
use crate::error::SimError;
use crate::physics::{Assets, Textures};
use episodes::{SeedEpisodes, StateRow};
use file::ReferenceFile;
use states::SeedStates;

/// Largest error of a reward that still passes; state and observation must be equal in every bit, unless the task is one
/// of the few with an [`Inexactness`].
pub const REWARD_TOLERANCE: f64 = 1e-12;

/// What keeps a task from agreeing with its original in every bit, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inexactness {
    /// Why.
    pub reason: &'static str,
    /// Largest absolute difference in a position or velocity.
    pub state: f64,
    /// Largest absolute difference in an observation.
    pub observation: f64,
    /// Largest absolute difference in a reward.
    pub reward: f64,
}

impl Inexactness {
    const NONE: Self = Self { reason: "", state: 0.0, observation: 0.0, reward: REWARD_TOLERANCE };
}

/// What a directory of reference episodes showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VerifyReport {
    /// One a file, by name.
    pub tasks: Vec<TaskReport>,
}

impl VerifyReport {
    /// Whether there was something to compare and all of it passed.
    pub fn passed(&self) -> bool {
        !self.tasks.is_empty() && self.tasks.iter().all(|task| task.passed)
    }
}

/// What one task's reference episodes showed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskReport {
    /// Such as `dmc/reacher-easy`.
    pub task: String,
    /// States compared.
    pub rows: usize,
    /// Largest absolute difference in a position or velocity.
    pub worst_state: f64,
    /// Largest absolute difference in an observation.
    pub worst_observation: f64,
    /// Largest absolute difference in a reward or discount.
    pub worst_reward: f64,
    /// Reward within [`REWARD_TOLERANCE`]; state and observation equal in every bit, or within the task's [`Inexactness`].
    pub passed: bool,
    /// Why it did not pass, or why it passed without being exact.
    pub reason: Option<String>,
}

impl TaskReport {
    pub(crate) fn new(task: &str) -> Self {
        let task = task.to_string();
        Self { task, rows: 0, worst_state: 0.0, worst_observation: 0.0, worst_reward: 0.0, passed: false, reason: None }
    }

    fn judge(&mut self) {
        let known = crate::dmc::inexactness(&self.task).or(crate::gymnasium_robotics::inexactness(&self.task));
        let allowed = known.unwrap_or(Inexactness::NONE);
        let failure = match self {
            _ if self.reason.is_some() => self.reason.take(),
            _ if self.rows == 0 => Some("the file holds no states".to_string()),
            _ if self.worst_state > allowed.state => Some("the state differs".to_string()),
            _ if self.worst_observation > allowed.observation => Some("the observation differs".to_string()),
            _ if self.worst_reward > allowed.reward => Some("the reward differs".to_string()),
            _ => None,
        };
        self.passed = failure.is_none();
        let exact = self.worst_state == 0.0 && self.worst_observation == 0.0 && self.worst_reward <= REWARD_TOLERANCE;
        self.reason = failure.or(known.filter(|_| !exact).map(|known| known.reason.to_string()));
    }
}

/// Compares every `*.safetensors` of a directory; `observer` hears each task as it is done.
///
/// # Errors
/// [`SimError::Reference`] when the directory cannot be read or holds no such file, or a file is damaged. A task that is
/// unknown or cannot be loaded is a failed [`TaskReport`], not an error.
pub fn verify_directory(
    directory: &Path,
    native: &Path,
    observer: &mut dyn FnMut(&TaskReport),
) -> Result<VerifyReport, SimError> {
    let mut tasks = Vec::new();
    for path in reference_files(directory)? {
        let report = verify_file(&path, native)?;
        observer(&report);
        tasks.push(report);
    }
    Ok(VerifyReport { tasks })
}

/// Compares one file.
///
/// # Errors
/// [`SimError::Reference`] when it is damaged.
pub fn verify_file(path: &Path, native: &Path) -> Result<TaskReport, SimError> {
    let file = ReferenceFile::read(path)?;
    let mut report = TaskReport::new(&file.task);
    let assets = Assets { native, textures: Textures::Small };
    let compared = match Environment::with_assets(&report.task, assets) {
        Ok(mut environment) => compare(&mut environment, &file, &mut report),
        Err(error) => Err(error.to_string()),
    };
    report.reason = compared.err();
    report.judge();
    Ok(report)
}

fn reference_files(directory: &Path) -> Result<Vec<PathBuf>, SimError> {
    let problem = |problem: String| SimError::Reference { path: directory.to_path_buf(), problem };
    let entries = std::fs::read_dir(directory).map_err(|error| problem(error.to_string()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    if paths.is_empty() {
        return Err(problem("no *.safetensors with reference episodes here".to_string()));
    }
    Ok(paths)
}

/// Replays episodes where the original can be replayed, and compares states one by one where it cannot.
fn compare(environment: &mut Environment, file: &ReferenceFile, report: &mut TaskReport) -> Result<(), String> {
    let arrays = file.arrays()?;
    for seed in &file.seeds {
        let compared = if environment.recorded_states().is_some() {
            states::compare_seed(environment, &SeedStates::parse(&arrays, *seed)?, report)
        } else {
            replay_seed(environment, &SeedEpisodes::parse(&arrays, *seed)?, report)
                .and_then(|()| edges::compare(environment, (&arrays, *seed), report))
        };
        compared.map_err(|problem| format!("seed {seed}: {problem}"))?;
    }
    Ok(())
}

fn replay_seed(environment: &mut Environment, seed: &SeedEpisodes, report: &mut TaskReport) -> Result<(), String> {
    for episode in 0..seed.num_episodes {
        let reset = if episode == 0 { environment.reset(seed.seed) } else { environment.reset_again() };
        reset.map_err(|error| error.to_string())?;
        compare_state(environment, &seed.state(episode, 0), report)?;
        for step in 0..seed.num_steps {
            let transition = environment.step(seed.action(episode, step)).map_err(|error| error.to_string())?;
            if let Some(warning) = transition.warning {
                return Err(format!("episode {episode}, step {step}: {warning}"));
            }
            compare_state(environment, &seed.state(episode, step + 1), report)?;
            let [reward, discount] = seed.reward_and_discount(episode, step);
            let error = difference(&[transition.reward, transition.discount], &[reward, discount]);
            report.worst_reward = report.worst_reward.max(error);
        }
    }
    Ok(())
}

fn compare_state(environment: &Environment, expected: &StateRow<'_>, report: &mut TaskReport) -> Result<(), String> {
    let physics = environment.physics();
    let lengths = [physics.qpos().len(), physics.qvel().len(), environment.observation().len()];
    let expected_lengths = [expected.qpos.len(), expected.qvel.len(), expected.observation.len()];
    if lengths != expected_lengths {
        return Err(format!("sizes of qpos, qvel, observation are {lengths:?}, but the file has {expected_lengths:?}"));
    }
    let state = difference(physics.qpos(), expected.qpos).max(difference(physics.qvel(), expected.qvel));
    report.worst_state = report.worst_state.max(state);
    let observation = difference(environment.observation(), expected.observation);
    report.worst_observation = report.worst_observation.max(observation);
    report.rows += 1;
    Ok(())
}

/// The largest absolute difference; infinite where only one of two is not finite.
fn difference(found: &[f64], expected: &[f64]) -> f64 {
    let one = |(found, expected): (&f64, &f64)| {
        let difference = if found == expected { 0.0 } else { (found - expected).abs() };
        if difference.is_finite() { difference } else { f64::INFINITY }
    };
    found.iter().zip(expected).map(one).fold(0.0, f64::max)
}
