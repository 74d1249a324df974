//! Humanoid: a simplified human body stands, walks or runs (`suite/humanoid.py`, after Tassa et al. 2012).

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{difference, in_frame, mean, norm};
use crate::physics::{Assets, BodyId, Physics, SensorId};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

/// Metres of head height from which standing is rewarded in full.
const STAND_HEIGHT: f64 = 1.4;

/// Stand up.
pub(crate) fn stand(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 0.0, Observed::Features)
}

/// Move at 1 m/s or faster.
pub(crate) fn walk(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1.0, Observed::Features)
}

/// Move at 10 m/s or faster.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 10.0, Observed::Features)
}

/// As [`run`], observed as positions and velocities alone.
pub(crate) fn run_pure_state(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 10.0, Observed::PureState)
}

fn make(assets: Assets<'_>, speed: f64, observed: Observed) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "humanoid")?;
    let body = HumanoidBody {
        torso: "torso",
        velocity: "torso_subtreelinvel",
        extremities: ["left_hand", "left_foot", "right_hand", "right_foot"],
        upright_axis: 8,
    };
    Ok(TaskParts {
        task: Box::new(Humanoid::new(&physics, &body, HumanoidGoal { speed, observed })?),
        physics,
        time_limit_seconds: 25.0,
        control_timestep_seconds: Some(0.025),
        success_criterion: None,
    })
}

/// What the bodies of two humanoid models are called.
pub(super) struct HumanoidBody {
    pub(super) torso: &'static str,
    pub(super) velocity: &'static str,
    /// Left hand, left foot, right hand, right foot.
    pub(super) extremities: [&'static str; 4],
    /// Which element of the torso's rotation is 1 when it stands upright.
    pub(super) upright_axis: usize,
}

pub(super) struct HumanoidGoal {
    /// Metres per second that are wanted; 0: to stand still.
    pub(super) speed: f64,
    pub(super) observed: Observed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Observed {
    Features,
    PureState,
}

pub(super) struct Humanoid {
    goal: HumanoidGoal,
    torso: BodyId,
    head: BodyId,
    extremities: [BodyId; 4],
    velocity: SensorId,
    upright_axis: usize,
}

impl Humanoid {
    pub(super) fn new(physics: &Physics, body: &HumanoidBody, goal: HumanoidGoal) -> Result<Self, SimError> {
        let [left_hand, left_foot, right_hand, right_foot] = body.extremities.map(|name| physics.body(name));
        Ok(Self {
            goal,
            torso: physics.body(body.torso)?,
            head: physics.body("head")?,
            extremities: [left_hand?, left_foot?, right_hand?, right_foot?],
            velocity: physics.sensor(body.velocity)?,
            upright_axis: body.upright_axis,
        })
    }

    fn moving(&self, physics: &Physics) -> f64 {
        let velocity = &physics.sensor_values(self.velocity)[..2];
        if self.goal.speed == 0.0 {
            let still = Tolerance::at_zero().margin(2.0);
            return mean(velocity.iter().map(|velocity| still.of(*velocity)));
        }
        let fast = Tolerance::at_least(self.goal.speed).margin(self.goal.speed).sigmoid(Sigmoid::Linear, 0.0);
        (5.0 * fast.of(norm(velocity)) + 1.0) / 6.0
    }
}

impl Task for Humanoid {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        loop {
            randomise_limited_and_rotational_joints(physics, random);
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        if self.goal.observed == Observed::PureState {
            observation.vector("position", physics.qpos());
            observation.vector("velocity", physics.qvel());
            return;
        }
        let (frame, origin) = (physics.xmat(self.torso), physics.xpos(self.torso));
        observation.vector("joint_angles", &physics.qpos()[7..]);
        observation.scalar("head_height", physics.xpos(self.head)[2]);
        let extremities = self.extremities.iter().map(|limb| in_frame(difference(physics.xpos(*limb), origin), frame));
        observation.collected("extremities", extremities.flatten());
        observation.vector("torso_vertical", &frame[6..]);
        observation.vector("com_velocity", physics.sensor_values(self.velocity));
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let height = physics.xpos(self.head)[2];
        let standing = Tolerance::at_least(STAND_HEIGHT).margin(STAND_HEIGHT / 4.0).of(height);
        let upright = Tolerance::at_least(0.9).margin(1.9).sigmoid(Sigmoid::Linear, 0.0);
        let stand_reward = standing * upright.of(physics.xmat(self.torso)[self.upright_axis]);
        let quiet = Tolerance::at_zero().margin(1.0).sigmoid(Sigmoid::Quadratic, 0.0);
        let small_control = mean(physics.control().iter().map(|control| quiet.of(*control)));
        (4.0 + small_control) / 5.0 * stand_reward * self.moving(physics)
    }
}
