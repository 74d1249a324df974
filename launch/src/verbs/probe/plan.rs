//! What all units of a results folder share, and one unit as it is kept.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use foresee_models::FuturePsnr;
use foresee_runtime::write_atomically;
use serde::{Deserialize, Serialize};

/// Of the probes: raised when what they measure, or how, changes, so that no table holds numbers of two kinds.
pub(crate) const PROBE_VERSION: u32 = 1;

/// What every unit of a folder shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<String>,
    pub(crate) compute_tflop: f64,
    /// Trained on, of each task; none is probed on.
    pub(crate) train_episodes: u64,
    pub(crate) train_frames: usize,
    /// Of label propagation, of each task and seed.
    pub(crate) videos: u64,
    pub(crate) video_frames: usize,
    /// Pixels of a rendered frame's side.
    pub(crate) render_size: u32,
    /// Clips of each task and seed that the joint probes learn from, and are asked on.
    pub(crate) joint_clips: [u64; 2],
    pub(crate) joint_frames: usize,
    /// Frames between the two of a pair whose later one is predicted.
    pub(crate) future_gap: usize,
    /// [`PROBE_VERSION`] of the program that began it.
    #[serde(default)]
    pub(crate) probe_version: u32,
    /// Of each method that is trained, its recipe as TOML.
    #[serde(default)]
    pub(crate) recipes: BTreeMap<String, String>,
}

/// One method and seed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit {
    pub(crate) method: String,
    pub(crate) seed: u64,
    pub(crate) steps: u64,
    pub(crate) samples: u64,
    pub(crate) tflop: f64,
    /// Of the process that finished it.
    pub(crate) train_seconds: f64,
    pub(crate) loss: Option<f64>,
    /// Between posterior and prior, mean over the last steps; nothing where there is no latent.
    pub(crate) kl_nats: Option<f64>,
    pub(crate) scores: BTreeMap<String, f64>,
    pub(crate) future: Option<FuturePsnr>,
    pub(crate) git_revision: String,
}

/// Keeps the plan, or refuses another than the folder has: units of two plans would not be of equal conditions.
///
/// # Errors
/// Names the file that is of another plan or cannot be written.
pub(crate) fn keep_plan(work: &Path, plan: &Plan) -> anyhow::Result<()> {
    let path = work.join("plan.json");
    if let Ok(bytes) = std::fs::read(&path) {
        let kept: Plan = serde_json::from_slice(&bytes).with_context(|| format!("{}: no plan", path.display()))?;
        let place = path.display();
        if kept.probe_version != plan.probe_version {
            bail!("{place}: its units are of other probes than this program's; give another --work DIR");
        }
        let is_other = |(name, recipe): &(&String, &String)| kept.recipes.get(*name) != Some(*recipe);
        if let Some((name, _)) = plan.recipes.iter().find(is_other).filter(|_| kept.compute_tflop == plan.compute_tflop)
        {
            bail!("{place}: was begun with another recipe of {name}; give another --work DIR");
        }
        if kept != *plan {
            bail!("{place}: was begun with other settings; give those again, or another --work DIR");
        }
        return Ok(());
    }
    write_atomically(&path, &serde_json::to_vec_pretty(plan)?).map_err(Into::into)
}

/// The units that are finished, seed by seed.
///
/// # Errors
/// Names the file that is no unit.
pub(crate) fn read_units(work: &Path) -> anyhow::Result<Vec<Unit>> {
    let folder = work.join("units");
    let mut units = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{}: cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let unit: Unit = serde_json::from_slice(&std::fs::read(&path)?)
                .with_context(|| format!("{}: no unit; remove it to make it again", path.display()))?;
            units.push(unit);
        }
    }
    units.sort_by(|a, b| (a.seed, &a.method).cmp(&(b.seed, &b.method)));
    Ok(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_to_its_settings_recipes_and_probes() {
        let folder = tempfile::tempdir().unwrap();
        let recipes = BTreeMap::from([("MAE".to_owned(), "depth = 4".to_owned())]);
        let plan = Plan { compute_tflop: 2.0, videos: 6, probe_version: PROBE_VERSION, recipes, ..Plan::default() };
        for _ in 0..2 {
            keep_plan(folder.path(), &plan).unwrap();
        }
        let refused = |change: fn(&mut Plan), wanted: &str| {
            let mut other = plan.clone();
            change(&mut other);
            let error = keep_plan(folder.path(), &other).unwrap_err().to_string();
            assert!(error.contains("plan.json") && error.contains(wanted), "{error}");
        };
        refused(|plan| plan.videos = 7, "other settings");
        refused(|plan| plan.compute_tflop = 1.0, "other settings");
        refused(|plan| plan.probe_version += 1, "other probes");
        refused(|plan| _ = plan.recipes.insert("MAE".to_owned(), "depth = 5".to_owned()), "another recipe of MAE");
        // A folder of before recipes and versions were kept.
        let mut old = serde_json::to_value(&plan).unwrap();
        _ = ["recipes", "probe_version"].map(|key| old.as_object_mut().unwrap().remove(key).unwrap());
        std::fs::write(folder.path().join("plan.json"), old.to_string()).unwrap();
        refused(|_| {}, "other probes");
    }
}
