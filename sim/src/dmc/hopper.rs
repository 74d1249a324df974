//! Hopper: a planar one-legged body stands or hops (`suite/hopper.py`, after Lillicrap et al. 2015).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{log1p, mean};
use crate::physics::{Assets, BodyId, Physics, SensorId};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.02;
/// Metres of torso over foot from which standing is rewarded.
const STAND_HEIGHT: f64 = 0.6;
/// Metres per second from which hopping is rewarded in full.
const HOP_SPEED: f64 = 2.0;

/// Stand upright with little effort.
pub(crate) fn stand(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Stand)
}

/// Hop forward.
pub(crate) fn hop(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Hop)
}

fn make(assets: Assets<'_>, goal: Goal) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "hopper")?;
    let task = Hopper {
        goal,
        torso: physics.body("torso")?,
        foot: physics.body("foot")?,
        velocity: physics.sensor("torso_subtreelinvel")?,
        touch: [physics.sensor("touch_toe")?, physics.sensor("touch_heel")?],
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: None,
    })
}

#[derive(Clone, Copy)]
enum Goal {
    Stand,
    Hop,
}

struct Hopper {
    goal: Goal,
    torso: BodyId,
    foot: BodyId,
    velocity: SensorId,
    touch: [SensorId; 2],
}

impl Task for Hopper {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        randomise_limited_and_rotational_joints(physics, random);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", &physics.qpos()[1..]);
        observation.vector("velocity", physics.qvel());
        observation.vector("touch", &self.touch.map(|sensor| log1p(physics.sensor_value(sensor))));
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let centres = physics.data().xipos();
        let height = centres[self.torso.0][2] - centres[self.foot.0][2];
        let standing = Tolerance::within(STAND_HEIGHT, 2.0).of(height);
        match self.goal {
            Goal::Hop => {
                let speed = physics.sensor_value(self.velocity);
                let hopping = Tolerance::at_least(HOP_SPEED).margin(HOP_SPEED / 2.0).sigmoid(Sigmoid::Linear, 0.5);
                standing * hopping.of(speed)
            }
            Goal::Stand => {
                let quiet = Tolerance::at_zero().margin(1.0).sigmoid(Sigmoid::Quadratic, 0.0);
                let small_control = mean(physics.control().iter().map(|control| quiet.of(*control)));
                standing * ((small_control + 4.0) / 5.0)
            }
        }
    }
}
