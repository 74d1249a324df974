//! Fish: keep upright or swim to a target in a fluid (`suite/fish.py`).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{difference, in_frame, norm, normalise};
use crate::physics::{Assets, BodyId, GeomId, JointId, Physics};
use crate::random::RandomState;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 40.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.04;
const JOINTS: [&str; 7] =
    ["tail1", "tail_twist", "tail2", "finright_roll", "finright_pitch", "finleft_roll", "finleft_pitch"];

/// Get the torso upright.
pub(crate) fn upright(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Upright)
}

/// Swim to a target.
pub(crate) fn swim(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Swim)
}

fn make(assets: Assets<'_>, goal: Goal) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "fish")?;
    let task = Fish {
        goal,
        joints: JOINTS.map(|joint| physics.joint(joint)).into_iter().collect::<Result<_, _>>()?,
        root: physics.joint("root")?,
        torso: physics.body("torso")?,
        mouth: physics.geom("mouth")?,
        target: physics.geom("target")?,
    };
    let swims = goal == Goal::Swim;
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: swims.then_some("the mouth touches the target; of an episode: in its last state"),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Upright,
    Swim,
}

struct Fish {
    goal: Goal,
    joints: Vec<JointId>,
    root: JointId,
    torso: BodyId,
    mouth: GeomId,
    target: GeomId,
}

impl Fish {
    fn mouth_to_target(&self, physics: &Physics) -> [f64; 3] {
        let offset = difference(physics.geom_xpos(self.target), physics.geom_xpos(self.mouth));
        in_frame(offset, physics.data().geom_xmat()[self.mouth.0])
    }

    /// Projection of the torso's z axis on the world's.
    fn uprightness(&self, physics: &Physics) -> f64 {
        physics.xmat(self.torso)[8]
    }

    fn in_target(&self, physics: &Physics) -> f64 {
        let sizes = physics.model().geom_size();
        let radii = sizes[self.mouth.0][0] + sizes[self.target.0][0];
        Tolerance::within(0.0, radii).margin(2.0 * radii).of(norm(&self.mouth_to_target(physics)))
    }
}

impl Task for Fish {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        let quaternion = &mut physics.joint_qpos_mut(self.root)[3..];
        random.fill_normal(quaternion);
        normalise(quaternion);
        for joint in &self.joints {
            physics.joint_qpos_mut(*joint)[0] = random.uniform(-0.2, 0.2);
        }
        let model = physics.model_mut();
        match self.goal {
            Goal::Upright => model.geom_rgba_mut()[self.target.0][3] = 0.0,
            Goal::Swim => {
                model.geom_pos_mut()[self.target.0] =
                    [random.uniform(-0.4, 0.4), random.uniform(-0.4, 0.4), random.uniform(0.1, 0.3)];
            }
        }
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let angles = self.joints.iter().map(|joint| physics.joint_qpos_values(*joint)[0]);
        observation.collected("joint_angles", angles);
        observation.scalar("upright", self.uprightness(physics));
        if self.goal == Goal::Swim {
            observation.vector("target", &self.mouth_to_target(physics));
        }
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        match self.goal {
            Goal::Upright => Tolerance::within(1.0, 1.0).margin(1.0).of(self.uprightness(physics)),
            Goal::Swim => (7.0 * self.in_target(physics) + 0.5 * (self.uprightness(physics) + 1.0)) / 8.0,
        }
    }

    fn success(&self, physics: &Physics) -> bool {
        self.goal == Goal::Swim && self.in_target(physics) == 1.0
    }
}
