//! Recording episodes into MCAP logs, one file an episode: demonstrations for cloning, frames for pretraining.
//!
//! A file bears its final name only when it is whole, so a folder can be counted by its names, and a recording that was
//! stopped or killed goes on where it was.

mod stage;
mod visual;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{EngineOptions, sha256_file, write_atomically};
use foresee_sim::{CameraOptions, Quality, UserModel};
use serde::{Deserialize, Serialize};

use self::stage::Stage;
use crate::error::PoliciesError;
use crate::progress::{Progress, Watch};

/// What a folder of recordings was made with: [`RecordOptions`] but for the number of episodes.
const MANIFEST: &str = "recording.json";
/// Tries a wanted episode before the filter is blamed.
const MAX_TRIES_PER_EPISODE: u64 = 10;

/// What is recorded, and where to.
#[derive(Clone, Debug)]
pub struct RecordOptions {
    /// Task name, such as `dmc/reacher-easy`.
    pub task: String,
    /// A model of the user's own in place of the task, which is then its name.
    pub model: Option<UserModel>,
    /// The folder of native parts, which holds the tasks' assets.
    pub native: PathBuf,
    /// Where the episodes go, as `episode-<seed>.mcap`; made if missing. One folder holds one kind of recording.
    pub folder: PathBuf,
    /// The robot's name in the log's topics.
    pub robot: String,
    /// The device profile's name.
    pub profile: String,
    /// The device profile whose joints are written, in its order and units; `None`: every actuator, in its own.
    pub device: Option<DeviceProfile>,
    /// The camera.
    pub camera: CameraOptions,
    /// Cameras beside it.
    pub extra_cameras: Vec<CameraOptions>,
    /// Who acts.
    pub behaviour: Behaviour,
    /// How the actions are disturbed.
    pub disturbance: Disturbance,
    /// Episodes that the folder shall hold at the end.
    pub num_episodes: u32,
    /// Seed of the first; the others count up.
    pub first_seed: u64,
    /// Control steps after which an episode is cut off, if before its own end.
    pub max_steps: Option<u32>,
    /// Every how many control steps one is written; 1: all.
    pub stride: u32,
    /// Which episodes are kept.
    pub keep: Keep,
    /// Git revision of the code, for the logs' headers.
    pub git_revision: String,
    /// The profile as TOML, for the logs' headers; empty: it is left out.
    pub profile_toml: String,
    /// Who acts where the behaviour is [`Behaviour::Policy`].
    pub policy: Option<PolicyActor>,
}

/// A policy that acts by what the cameras show, with its encoder.
#[derive(Clone, Debug)]
pub struct PolicyActor {
    /// The encoder's ONNX file.
    pub encoder: PathBuf,
    /// The policy's ONNX file.
    pub policy: PathBuf,
    /// What runs both.
    pub engine: EngineOptions,
    /// The robot that both are of.
    pub device: DeviceProfile,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// The task's scripted expert; its undisturbed actions are written as `expert_command`.
    Expert,
    /// [`crate::UniformRandom`].
    UniformRandom,
    /// [`crate::SmoothRandom`].
    SmoothRandom,
    /// A policy by what the cameras show: [`RecordOptions::policy`].
    Policy,
}

/// Disturbed execution, so that a clone also sees how the expert comes back (Laskey et al., DART, 2017): what is executed is the actor's action
/// plus noise, what is written as the label is the action alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disturbance {
    /// Largest standard deviation of the noise, in halves of an actuator's range. Each episode draws its own between 0 and this.
    pub noise: f64,
    /// Control steps within which the noise forgets itself; 0: white.
    pub noise_correlation_steps: f64,
    /// Share of the episodes that begin with smooth random actions.
    pub random_start_share: f64,
    /// Most control steps of such a beginning.
    pub max_random_start_steps: u32,
}

impl Disturbance {
    /// None.
    pub const NONE: Self =
        Self { noise: 0.0, noise_correlation_steps: 0.0, random_start_share: 0.0, max_random_start_steps: 0 };
    /// What the committed policies were cloned from.
    pub const CLONING: Self =
        Self { noise: 0.5, noise_correlation_steps: 5.0, random_start_share: 0.5, max_random_start_steps: 25 };
}

/// Which episodes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// Every one.
    All,
    /// Those that end in success.
    Successful,
}

/// What a recording came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordReport {
    /// Episodes that the folder holds.
    pub num_held: usize,
    /// Episodes played now.
    pub num_played: usize,
    /// Of those, the ones that ended in success.
    pub num_successful: usize,
    /// Of those played, the ones not kept.
    pub num_rejected: usize,
    /// Steps written now, in the episodes that were kept.
    pub num_steps: u64,
    /// Whether it was asked to stop before all was there.
    pub stopped: bool,
}

/// Plays and writes episodes until the folder holds as many as asked for. What it holds already is counted; a half-written file is not,
/// and is removed. The same options give the same episodes, in one go or in several.
///
/// # Errors
/// [`PoliciesError::Option`] for options out of range, [`PoliciesError::Recordings`] when the folder holds another kind of recording or too few
/// episodes pass the filter, [`PoliciesError::NoExpert`], and what the simulator and the log say.
pub fn record(options: &RecordOptions, watch: &mut Watch<'_>) -> Result<RecordReport, PoliciesError> {
    options.check()?;
    let mut stage = Stage::new(options)?;
    let held = prepare_folder(options)?;
    let num_wanted = options.num_episodes as usize;
    let mut report = RecordReport {
        num_held: held.len(),
        num_played: 0,
        num_successful: 0,
        num_rejected: 0,
        num_steps: 0,
        stopped: false,
    };
    let tries = u64::from(options.num_episodes) * MAX_TRIES_PER_EPISODE;
    for seed in (options.first_seed..).take(usize::try_from(tries).unwrap_or(usize::MAX)) {
        if report.num_held >= num_wanted || watch.stopped() {
            break;
        }
        if held.contains(&seed) {
            continue;
        }
        let path = episode_path(&options.folder, seed);
        let partial = path.with_extension("mcap.partial");
        let Some(episode) = stage.play(seed, &partial, watch)? else { break };
        let kept = options.keep == Keep::All || episode.success;
        let settled = if kept { fs::rename(&partial, &path) } else { fs::remove_file(&partial) };
        settled.map_err(|source| PoliciesError::File { path, source })?;
        report.num_held += usize::from(kept);
        report.num_rejected += usize::from(!kept);
        report.num_played += 1;
        report.num_successful += usize::from(episode.success);
        report.num_steps += if kept { u64::from(episode.num_steps.div_ceil(options.stride)) } else { 0 };
        watch.tell(Progress::Recorded { num_held: report.num_held, num_wanted, episode, kept });
    }
    report.stopped = report.num_held < num_wanted && watch.stopped();
    if report.num_held < num_wanted && !report.stopped {
        let problem = format!(
            "only {} of {tries} episodes of {} end in success; keep all of them, or allow more than {:?} steps",
            report.num_held, options.task, options.max_steps
        );
        return Err(PoliciesError::Recordings { folder: options.folder.clone(), problem });
    }
    Ok(report)
}

/// The logs in a folder, in order of their names; half-written ones are not among them.
///
/// # Errors
/// [`PoliciesError::File`] when the folder cannot be read.
pub fn logs_in(folder: &Path) -> Result<Vec<PathBuf>, PoliciesError> {
    match foresee_runtime::DataSet::of_folder(folder, &["mcap"]) {
        Ok(found) => Ok(found.files),
        Err(foresee_runtime::RuntimeError::File { path, source }) => Err(PoliciesError::File { path, source }),
        Err(other) => Err(other.into()),
    }
}

impl RecordOptions {
    fn check(&self) -> Result<(), PoliciesError> {
        let refuse = |option, value: &dyn std::fmt::Display, rule: &str| {
            Err(PoliciesError::Option { option, value: value.to_string(), rule: format!("use {rule}") })
        };
        let Disturbance { noise, noise_correlation_steps, random_start_share, .. } = self.disturbance;
        if self.num_episodes == 0 {
            return refuse("num_episodes", &0, "at least 1");
        }
        if self.stride == 0 {
            return refuse("stride", &0, "at least 1");
        }
        if self.max_steps == Some(0) {
            return refuse("max_steps", &0, "at least 1");
        }
        if !(0.0..=10.0).contains(&noise) {
            return refuse("noise", &noise, "0 to 10");
        }
        if !(0.0..=1e6).contains(&noise_correlation_steps) {
            return refuse("noise_correlation_steps", &noise_correlation_steps, "0 to 1000000");
        }
        if !(0.0..=1.0).contains(&random_start_share) {
            return refuse("random_start_share", &random_start_share, "0 to 1");
        }
        Ok(())
    }

    /// What must be the same for two recordings to share a folder.
    fn manifest(&self) -> Manifest {
        let describe = |camera: &CameraOptions| {
            let CameraOptions { name, width, height, quality } = camera;
            let quality = match quality {
                Quality::Fast => "fast",
                Quality::Reference => "reference",
            };
            format!("{name} {width}x{height} {quality}")
        };
        let cameras: Vec<String> = std::iter::once(&self.camera).chain(&self.extra_cameras).map(describe).collect();
        Manifest {
            task: self.task.clone(),
            robot: self.robot.clone(),
            camera: cameras.join(", "),
            behaviour: self.behaviour,
            policy: self.policy.as_ref().and_then(|actor| sha256_file(&actor.policy).ok()),
            disturbance: self.disturbance,
            first_seed: self.first_seed,
            max_steps: self.max_steps,
            stride: self.stride,
            keep: self.keep,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    task: String,
    robot: String,
    camera: String,
    behaviour: Behaviour,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    disturbance: Disturbance,
    first_seed: u64,
    max_steps: Option<u32>,
    stride: u32,
    keep: Keep,
}

fn episode_path(folder: &Path, seed: u64) -> PathBuf {
    folder.join(format!("episode-{seed:010}.mcap"))
}

/// Makes the folder, or checks that it holds this kind of recording; removes half-written files; gives the seeds it holds.
fn prepare_folder(options: &RecordOptions) -> Result<BTreeSet<u64>, PoliciesError> {
    let folder = &options.folder;
    let file = |path: &Path, source| PoliciesError::File { path: path.to_path_buf(), source };
    fs::create_dir_all(folder).map_err(|source| file(folder, source))?;
    let path = folder.join(MANIFEST);
    let manifest = serde_json::to_value(options.manifest()).unwrap_or_default();
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(|source| file(&path, source))?;
        let found: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(problem) = difference(&manifest, &found) {
            return Err(PoliciesError::Recordings { folder: folder.clone(), problem });
        }
    } else if !logs_in(folder)?.is_empty() {
        let problem = format!("holds logs but no {MANIFEST}; give an empty folder");
        return Err(PoliciesError::Recordings { folder: folder.clone(), problem });
    } else {
        write_atomically(&path, format!("{manifest:#}\n").as_bytes())?;
    }
    for entry in fs::read_dir(folder).map_err(|source| file(folder, source))?.flatten() {
        let entry = entry.path();
        if entry.to_string_lossy().ends_with(".mcap.partial") {
            fs::remove_file(&entry).map_err(|source| file(&entry, source))?;
        }
    }
    let seed_of = |log: PathBuf| log.file_stem()?.to_string_lossy().strip_prefix("episode-")?.parse().ok();
    Ok(logs_in(folder)?.into_iter().filter_map(seed_of).collect())
}

/// The first key in which two manifests differ.
fn difference(wanted: &serde_json::Value, found: &serde_json::Value) -> Option<String> {
    let keys = wanted.as_object()?;
    let (key, value) = keys.iter().find(|(key, value)| found.get(key) != Some(value))?;
    let other = found.get(key).map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Some(format!("were made with {key} = {other}, not {value}; give the same options or another folder"))
}
