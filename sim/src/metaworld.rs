//! Meta-World's manipulation tasks with a Sawyer arm (Yu et al. 2020, metaworld 3.1.1, version 3).
//!
//! `metaworld/<task>` shows the goal, as does `metaworld/<task>-goal-observable`; `metaworld/<task>-goal-hidden` observes
//! zeros in its place, and its expert knows it all the same.
//!
//! One task a file: how a scene is laid out, what is rewarded (the original's `v2` reward), and the scripted expert. An
//! episode's layout is drawn uniformly from the original's space; the first such draw of a seed is our own, for the
//! original draws its layouts once a process.

mod arm;
mod mesh_frame;
mod place;
mod task;

pub(crate) mod assembly;
pub(crate) mod basketball;
pub(crate) mod bin_picking;
pub(crate) mod box_close;
pub(crate) mod button_press;
pub(crate) mod button_press_topdown;
pub(crate) mod coffee_button;
pub(crate) mod coffee_mug;
pub(crate) mod dial_turn;
pub(crate) mod disassemble;
pub(crate) mod door_close;
pub(crate) mod door_lock;
pub(crate) mod door_open;
pub(crate) mod drawer_close;
pub(crate) mod drawer_open;
pub(crate) mod faucet;
pub(crate) mod hammer;
pub(crate) mod hand_insert;
pub(crate) mod handle_press;
pub(crate) mod handle_pull;
pub(crate) mod lever_pull;
pub(crate) mod peg_insert_side;
pub(crate) mod peg_unplug_side;
pub(crate) mod pick_out_of_hole;
pub(crate) mod pick_place;
pub(crate) mod pick_place_wall;
pub(crate) mod plate_slide;
pub(crate) mod push;
pub(crate) mod push_back;
pub(crate) mod push_wall;
pub(crate) mod reach;
pub(crate) mod shelf_place;
pub(crate) mod soccer;
pub(crate) mod stick_pull;
pub(crate) mod stick_push;
pub(crate) mod sweep;
pub(crate) mod sweep_into;
pub(crate) mod window;

use std::path::Path;

use crate::error::SimError;
use crate::physics::{Assets, Physics};
use crate::task::TaskParts;
use arm::{
    Action, Arm, Caging, Density, Grip, Look, Pinch, Verdict, distance, flat_distance, floor_height, gaussian,
    hamacher, long_tail, move_to, near, plus, prism, quaternion_reward, scaled_distance,
};
use task::{Manipulation, SawyerTask, Scene, one_object, two_objects};

/// Where the assets lie below the folder of native parts.
const SCENE_FOLDER: &str = "metaworld/assets/sawyer_xyz";
/// Where the hand may go in most tasks.
const TABLE: [[f64; 3]; 2] = [[-0.5, 0.40, 0.05], [0.5, 1.0, 0.5]];
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
