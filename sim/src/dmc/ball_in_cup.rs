//! Ball in cup: swing a ball on a string up into the cup it hangs from (`suite/ball_in_cup.py`).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::physics::{Assets, BodyId, GeomId, JointId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.02;

/// Catch the ball.
pub(crate) fn catch(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "ball_in_cup")?;
    let task = BallInCup {
        ball: physics.body("ball")?,
        ball_geom: physics.geom("ball")?,
        target: physics.site("target")?,
        ball_x: physics.joint("ball_x")?,
        ball_z: physics.joint("ball_z")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: Some("the ball is inside the cup (reward 1); of an episode: in its last state"),
    })
}

struct BallInCup {
    ball: BodyId,
    ball_geom: GeomId,
    target: SiteId,
    ball_x: JointId,
    ball_z: JointId,
}

impl Task for BallInCup {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        loop {
            physics.joint_qpos_mut(self.ball_x)[0] = random.uniform(-0.2, 0.2);
            physics.joint_qpos_mut(self.ball_z)[0] = random.uniform(0.2, 0.5);
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let [target, ball] = [physics.site_xpos(self.target), physics.xpos(self.ball)];
        let target_size = physics.model().site_size()[self.target.0];
        let ball_size = physics.model().geom_size()[self.ball_geom.0][0];
        let inside = |axis: usize| (target[axis] - ball[axis]).abs() < target_size[axis] - ball_size;
        f64::from(inside(0) && inside(2))
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
