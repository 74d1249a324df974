//! Cheetah: a planar running biped (`suite/cheetah.py`, after Wawrzyński 2009).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::physics::{Assets, Physics, SensorId};
use crate::random::RandomState;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 10.0;
/// Metres per second from which the reward is 1.
const RUN_SPEED: f64 = 10.0;
/// Physics steps that let the body settle before an episode.
const NUM_SETTLING_STEPS: u32 = 200;

/// Run forward.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "cheetah")?;
    let task = Cheetah { velocity: physics.sensor("torso_subtreelinvel")? };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: None,
    })
}

struct Cheetah {
    velocity: SensorId,
}

impl Task for Cheetah {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        for index in 0..physics.qpos().len() {
            if physics.model().jnt_limited()[index] {
                let [lower, upper] = physics.model().jnt_range()[index];
                physics.data_mut().qpos_mut()[index] = random.uniform(lower, upper);
            }
        }
        physics.step(NUM_SETTLING_STEPS);
        physics.data_mut().set_time(0.0);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", &physics.qpos()[1..]);
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let speed = physics.sensor_value(self.velocity);
        Tolerance::at_least(RUN_SPEED).margin(RUN_SPEED).sigmoid(Sigmoid::Linear, 0.0).of(speed)
    }
}
