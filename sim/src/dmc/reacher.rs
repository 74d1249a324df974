//! Reacher: a planar two-link arm puts its fingertip into a target (`suite/reacher.py`).

use std::f64::consts::PI;

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::norm;
use crate::physics::{Assets, GeomId, Physics};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;

/// Target of 5 cm radius.
pub(crate) fn easy(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.05)
}

/// Target of 1.5 cm radius.
pub(crate) fn hard(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.015)
}

fn make(assets: Assets<'_>, target_radius: f64) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "reacher")?;
    let task = Reacher { target_radius, target: physics.geom("target")?, finger: physics.geom("finger")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: Some("the fingertip touches the target (reward 1); of an episode: in its last state"),
    })
}

struct Reacher {
    target_radius: f64,
    target: GeomId,
    finger: GeomId,
}

impl Reacher {
    fn finger_to_target(&self, physics: &Physics) -> [f64; 2] {
        let [target, finger] = [physics.geom_xpos(self.target), physics.geom_xpos(self.finger)];
        [target[0] - finger[0], target[1] - finger[1]]
    }
}

impl Task for Reacher {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        physics.model_mut().geom_size_mut()[self.target.0][0] = self.target_radius;
        randomise_limited_and_rotational_joints(physics, random);
        let angle = random.uniform(0.0, 2.0 * PI);
        let radius = random.uniform(0.05, 0.20);
        let position = &mut physics.model_mut().geom_pos_mut()[self.target.0];
        position[0] = radius * angle.sin();
        position[1] = radius * angle.cos();
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
        observation.vector("to_target", &self.finger_to_target(physics));
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let sizes = physics.model().geom_size();
        let radii = sizes[self.target.0][0] + sizes[self.finger.0][0];
        Tolerance::within(0.0, radii).of(norm(&self.finger_to_target(physics)))
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
