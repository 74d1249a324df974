//! Point mass: push a mass over a plane onto a target (`suite/point_mass.py`).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{norm, normalise};
use crate::physics::{Assets, GeomId, Physics};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
/// Two actuators are "too parallel" when their directions' dot product is above this.
const MAX_PARALLEL: f64 = 0.9;

/// One actuator an axis.
pub(crate) fn easy(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Gains::Fixed)
}

/// Each actuator pushes in a direction drawn anew every episode.
pub(crate) fn hard(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Gains::Random)
}

fn make(assets: Assets<'_>, gains: Gains) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "point_mass")?;
    let task = PointMass { gains, target: physics.geom("target")?, mass: physics.geom("pointmass")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: Some("the mass's centre is inside the target; of an episode: in its last state"),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gains {
    Fixed,
    Random,
}

struct PointMass {
    gains: Gains,
    target: GeomId,
    mass: GeomId,
}

impl PointMass {
    fn near_target(&self, physics: &Physics) -> f64 {
        let [target, mass] = [physics.geom_xpos(self.target), physics.geom_xpos(self.mass)];
        let distance = norm(&[target[0] - mass[0], target[1] - mass[1], target[2] - mass[2]]);
        let target_size = physics.model().geom_size()[self.target.0][0];
        Tolerance::within(0.0, target_size).margin(target_size).of(distance)
    }
}

impl Task for PointMass {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        randomise_limited_and_rotational_joints(physics, random);
        if self.gains == Gains::Random {
            let first = random_direction(random);
            let second = loop {
                let candidate = random_direction(random);
                if (first[0] * candidate[0] + first[1] * candidate[1]).abs() <= MAX_PARALLEL {
                    break candidate;
                }
            };
            #[expect(unsafe_code, reason = "mujoco-rs marks wrap parameters unsafe because some are site ids")]
            // SAFETY: both tendons of this model are fixed, so their four wrap parameters are joint coefficients.
            let coefficients = unsafe { physics.model_mut().wrap_prm_mut() };
            coefficients[..2].copy_from_slice(&first);
            coefficients[2..4].copy_from_slice(&second);
        }
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let quiet = Tolerance::at_zero().margin(1.0).sigmoid(Sigmoid::Quadratic, 0.0);
        let control = physics.control();
        let control_reward = control.iter().map(|control| quiet.of(*control)).sum::<f64>() / control.len() as f64;
        self.near_target(physics) * ((control_reward + 4.0) / 5.0)
    }

    fn success(&self, physics: &Physics) -> bool {
        self.near_target(physics) == 1.0
    }
}

fn random_direction(random: &mut RandomState) -> [f64; 2] {
    let mut direction = [0.0; 2];
    random.fill_normal(&mut direction);
    normalise(&mut direction);
    direction
}
