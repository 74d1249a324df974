//! Meta-World's manipulation tasks with a Sawyer arm (Yu et al. 2020, metaworld 3.1.1, version 3, goal visible).
//!
//! One task a file: how a scene is laid out, what is rewarded (the original's `v2` reward), and the scripted expert. An
//! episode's layout is drawn uniformly from the original's space; the first such draw of a seed is our own, for the
//! original draws its layouts once a process.

mod arm;
mod task;

pub(crate) mod assembly;
pub(crate) mod bin_picking;
pub(crate) mod button_press_topdown;
pub(crate) mod drawer_open;
pub(crate) mod hammer;

use std::path::Path;

use crate::error::SimError;
use crate::physics::{Assets, Physics};
use crate::task::TaskParts;
use crate::verify::Inexactness;
use arm::{Action, Arm, Caging, Density, Look, Verdict, flat_distance, hamacher, move_to, near, plus};
use task::{Manipulation, SawyerTask, Scene, one_object, two_objects};

pub use task::{EpisodeConstants, RecordedRow, RecordedStates};

/// Where the assets lie below the folder of native parts.
const SCENE_FOLDER: &str = "metaworld/assets/sawyer_xyz";
/// Control steps of an episode.
const NUM_STEPS: f64 = 500.0;
/// Physics steps a control step.
const FRAME_SKIP: f64 = 5.0;

/// Loads a scene and puts a task into it.
fn make<T: Manipulation + 'static>(
    assets: Assets<'_>,
    scene: &'static Scene,
    task: impl FnOnce(&Physics) -> Result<T, SimError>,
) -> Result<TaskParts, SimError> {
    let physics = load(assets.native, scene)?;
    let task = SawyerTask::new(&physics, scene, task(&physics)?)?;
    let control_timestep = physics.timestep_seconds() * FRAME_SKIP;
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: NUM_STEPS * control_timestep,
        control_timestep_seconds: Some(control_timestep),
        success_criterion: Some(scene.success),
    })
}

fn load(native: &Path, scene: &Scene) -> Result<Physics, SimError> {
    let mut physics = Physics::load_file(scene.model, &native.join(SCENE_FOLDER).join(scene.model))?;
    physics.relax_welds();
    physics.forward();
    Ok(physics)
}

/// How far Meta-World's tasks may be off as functions of a state.
pub(crate) fn inexactness(task: &str) -> Option<Inexactness> {
    task.starts_with("metaworld/").then_some(Inexactness {
        reason: "compared as functions of states that another MuJoCo (3.3.0) recorded",
        state: 0.0,
        observation: 1e-12,
    })
}
