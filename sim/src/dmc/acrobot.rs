//! Acrobot: swing up a double pendulum that is driven at its elbow (`suite/acrobot.py`, after Coulom 2002).

use std::f64::consts::PI;

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::random::RandomState;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 10.0;

/// Rewarded the more the nearer the tip is to the target.
pub(crate) fn swingup(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1.0)
}

/// Rewarded only with the tip in the target.
pub(crate) fn swingup_sparse(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.0)
}

fn make(assets: Assets<'_>, margin: f64) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "acrobot")?;
    let task = Acrobot {
        margin,
        shoulder: physics.joint("shoulder")?,
        elbow: physics.joint("elbow")?,
        arms: [physics.body("upper_arm")?, physics.body("lower_arm")?],
        target: physics.site("target")?,
        tip: physics.site("tip")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: Some("the tip is in the target (reward 1); of an episode: in its last state"),
    })
}

struct Acrobot {
    /// Metres from the target's edge over which the reward falls off; 0: none outside.
    margin: f64,
    shoulder: JointId,
    elbow: JointId,
    arms: [BodyId; 2],
    target: SiteId,
    tip: SiteId,
}

impl Task for Acrobot {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        for joint in [self.shoulder, self.elbow] {
            physics.joint_qpos_mut(joint)[0] = random.uniform(-PI, PI);
        }
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let [upper, lower] = self.arms.map(|arm| physics.xmat(arm));
        observation.vector("orientations", &[upper[2], lower[2], upper[8], lower[8]]);
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let distance = norm(&difference(physics.site_xpos(self.target), physics.site_xpos(self.tip)));
        let radius = physics.model().site_size()[self.target.0][0];
        Tolerance::within(0.0, radius).margin(self.margin).of(distance)
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
