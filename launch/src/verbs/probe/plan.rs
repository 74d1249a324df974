//! What all units of a results folder share, and one unit as it is kept.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use foresee_models::FuturePsnr;
use foresee_runtime::write_atomically;
use serde::{Deserialize, Serialize};

/// What every unit of a folder shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        if kept != *plan {
            bail!("{}: was begun with other settings; give those again, or another --work DIR", path.display());
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
