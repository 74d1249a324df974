//! CMU humanoid: the body of the CMU motion capture data base stands, walks or runs (`suite/humanoid_CMU.py`).

use crate::dmc::humanoid::{Humanoid, HumanoidBody, HumanoidGoal, Observed};
use crate::dmc::load_domain;
use crate::error::SimError;
use crate::physics::Assets;
use crate::task::TaskParts;

/// Stand up.
pub(crate) fn stand(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.0)
}

/// Move at 1 m/s or faster.
pub(crate) fn walk(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1.0)
}

/// Move at 10 m/s or faster.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 10.0)
}

fn make(assets: Assets<'_>, speed: f64) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "humanoid_CMU")?;
    let body = HumanoidBody {
        torso: "thorax",
        velocity: "thorax_subtreelinvel",
        extremities: ["lhand", "lfoot", "rhand", "rfoot"],
        upright_axis: 7,
    };
    let goal = HumanoidGoal { speed, observed: Observed::Features };
    Ok(TaskParts {
        task: Box::new(Humanoid::new(&physics, &body, goal)?),
        physics,
        time_limit_seconds: 20.0,
        control_timestep_seconds: Some(0.02),
        success_criterion: None,
    })
}
