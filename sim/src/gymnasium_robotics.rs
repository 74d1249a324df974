//! Adroit and Franka Kitchen (Rajeswaran et al. 2018, Gupta et al. 2019; gymnasium-robotics 1.4.2), dense rewards, without
//! the kitchen's sensor noise.
//!
//! As in the originals, an observation's poses are those before the last physics step. Resets draw from the originals'
//! ranges; the stream of a seed is our own.

mod task;

pub(crate) mod door;
pub(crate) mod hammer;
pub(crate) mod kitchen;
pub(crate) mod pen;
pub(crate) mod relocate;

use crate::error::SimError;
use crate::physics::{ActuatorId, Assets, Physics};
use crate::task::TaskParts;
use crate::verify::{Inexactness, REWARD_TOLERANCE};
use task::{Outcome, Rules, StatePutTask};

/// Where the assets lie below the folder of native parts.
const ASSET_FOLDER: &str = "gymnasium_robotics/assets";

/// What is fixed about a task.
struct Scene {
    /// File below the assets.
    model: &'static str,
    /// Physics steps a control step.
    frame_skip: u32,
    /// Control steps of an episode.
    num_steps: u32,
    /// What success is.
    success: &'static str,
}

/// Loads a scene and puts rules into it.
fn make<R: Rules + 'static>(
    assets: Assets<'_>,
    scene: &Scene,
    rules: impl FnOnce(&mut Physics) -> Result<R, SimError>,
) -> Result<TaskParts, SimError> {
    let mut physics = Physics::load_file(scene.model, &assets.native.join(ASSET_FOLDER).join(scene.model))?;
    let rules = rules(&mut physics)?;
    let control_timestep = physics.timestep_seconds() * f64::from(scene.frame_skip);
    Ok(TaskParts {
        physics,
        task: Box::new(StatePutTask::new(rules)),
        time_limit_seconds: control_timestep * f64::from(scene.num_steps),
        control_timestep_seconds: Some(control_timestep),
        success_criterion: Some(scene.success),
    })
}

/// Gives the Adroit hand's actuators the originals' gains: stiffer wrists than fingers.
fn stiffen_hand(physics: &mut Physics) -> Result<(), SimError> {
    for (first, last, gain) in [("A_WRJ1", "A_WRJ0", 10.0), ("A_FFJ3", "A_THJ0", 1.0)] {
        let [ActuatorId(first), ActuatorId(last)] = [physics.actuator(first)?, physics.actuator(last)?];
        physics.set_position_gains(first..=last, gain);
    }
    Ok(())
}

/// The task that an environment of gymnasium-robotics is here.
pub(crate) fn task_of(environment: &str) -> Option<&'static str> {
    match environment {
        "AdroitHandDoor-v1" => Some("adroit/door"),
        "AdroitHandHammer-v1" => Some("adroit/hammer"),
        "AdroitHandPen-v1" => Some("adroit/pen"),
        "AdroitHandRelocate-v1" => Some("adroit/relocate"),
        "FrankaKitchen-v1" => Some("kitchen/all"),
        _ => None,
    }
}

/// What of a task is not reproduced in every bit as a function of a state.
pub(crate) fn inexactness(task: &str) -> Option<Inexactness> {
    task.starts_with("adroit/").then_some(Inexactness {
        reason: "poses before the last physics step are recovered from the state up to rounding, which Euler angles near their pole multiply",
        state: 0.0,
        observation: 1e-14,
        reward: REWARD_TOLERANCE,
    })
}
