//! Planar walker: stand, walk or run on two legs (`suite/walker.py`).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::physics::{Assets, BodyId, Physics, SensorId};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 25.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.025;
/// Metres of torso height from which standing is rewarded in full.
const STAND_HEIGHT: f64 = 1.2;

/// Stand up.
pub(crate) fn stand(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.0)
}

/// Walk at 1 m/s or faster.
pub(crate) fn walk(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1.0)
}

/// Run at 8 m/s or faster.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 8.0)
}

fn make(assets: Assets<'_>, speed: f64) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "walker")?;
    let task = Walker { speed, torso: physics.body("torso")?, velocity: physics.sensor("torso_subtreelinvel")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: None,
    })
}

struct Walker {
    /// Metres per second that are wanted; 0: only to stand.
    speed: f64,
    torso: BodyId,
    velocity: SensorId,
}

impl Task for Walker {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        randomise_limited_and_rotational_joints(physics, random);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let bodies = &physics.data().xmat()[1..];
        observation.collected("orientations", bodies.iter().flat_map(|rotation| [rotation[0], rotation[2]]));
        observation.scalar("height", physics.xpos(self.torso)[2]);
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let height = physics.xpos(self.torso)[2];
        let standing = Tolerance::at_least(STAND_HEIGHT).margin(STAND_HEIGHT / 2.0).of(height);
        let upright = (1.0 + physics.xmat(self.torso)[8]) / 2.0;
        let stand_reward = (3.0 * standing + upright) / 4.0;
        if self.speed == 0.0 {
            return stand_reward;
        }
        let moving = Tolerance::at_least(self.speed).margin(self.speed / 2.0).sigmoid(Sigmoid::Linear, 0.5);
        stand_reward * (5.0 * moving.of(physics.sensor_value(self.velocity)) + 1.0) / 6.0
    }
}
