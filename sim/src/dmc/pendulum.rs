//! Pendulum: swing up a pole whose motor is too weak to lift it at once (`suite/pendulum.py`).

use std::f64::consts::PI;

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::physics::{Assets, BodyId, JointId, Physics};
use crate::random::RandomState;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
/// Radians from the vertical within which the pole counts as up (8 degrees).
const ANGLE_BOUND: f64 = 8.0 * (PI / 180.0);

/// Swing the pole up and keep it there.
pub(crate) fn swingup(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "pendulum")?;
    let task = Pendulum { pole: physics.body("pole")?, hinge: physics.joint("hinge")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: Some("the pole is within 8 degrees of upright (reward 1); of an episode: in its last state"),
    })
}

struct Pendulum {
    pole: BodyId,
    hinge: JointId,
}

impl Task for Pendulum {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        physics.joint_qpos_mut(self.hinge)[0] = random.uniform(-PI, PI);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let pole = physics.xmat(self.pole);
        observation.vector("orientation", &[pole[8], pole[2]]);
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        Tolerance::within(ANGLE_BOUND.cos(), 1.0).of(physics.xmat(self.pole)[8])
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
