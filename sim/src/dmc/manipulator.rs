//! Manipulator: a planar arm brings or inserts a ball or a peg (`suite/manipulator.py`).

use std::f64::consts::PI;

use crate::dmc::planar_arm::{PlanarArm, joint_velocities, planar_pose, site_distance};
use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::numeric::{arctan2, log1p};
use crate::physics::{Assets, BodyId, JointId, Physics, SensorId, SiteId};
use crate::random::RandomState;
use crate::reward::Tolerance;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 10.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.01;
/// Metres below which things count as close.
const CLOSE: f64 = 0.01;
const PROBABILITY_IN_HAND: f64 = 0.1;
const PROBABILITY_IN_TARGET: f64 = 0.1;
const PROPS: [&str; 6] = ["ball", "target_ball", "cup", "peg", "target_peg", "slot"];
const TOUCH_SENSORS: [&str; 5] = ["palm_touch", "finger_touch", "thumb_touch", "fingertip_touch", "thumbtip_touch"];

/// Bring the ball to a place.
pub(crate) fn bring_ball(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Prop::Ball, Place::Free)
}

/// Bring the peg to a pose.
pub(crate) fn bring_peg(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Prop::Peg, Place::Free)
}

/// Put the ball into a cup.
pub(crate) fn insert_ball(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Prop::Ball, Place::Receptacle)
}

/// Put the peg into a slot.
pub(crate) fn insert_peg(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Prop::Peg, Place::Receptacle)
}

fn make(assets: Assets<'_>, prop: Prop, place: Place) -> Result<TaskParts, SimError> {
    let (object, target, receptacle) = match prop {
        Prop::Ball => ("ball", "target_ball", "cup"),
        Prop::Peg => ("peg", "target_peg", "slot"),
    };
    let inserts = place == Place::Receptacle;
    let mut mjcf = read_domain(assets, "manipulator")?;
    let is_used = |name: &str| [object, target].contains(&name) || inserts && name == receptacle;
    for unused in PROPS.into_iter().filter(|name| !is_used(name)) {
        mjcf.remove("body", unused)?;
    }
    let physics = load_mjcf(assets, &mjcf)?;
    let site = |name: &str| physics.site(name);
    let mut pairs = vec![(site(object)?, site(target)?)];
    if prop == Prop::Peg {
        pairs.push((site("target_peg_tip")?, site("peg_tip")?));
        pairs.push((site("peg_grasp")?, site("grasp")?));
        pairs.push((site("peg_pinch")?, site("pinch")?));
    }
    let joints = ["x", "z", "y"].iter().map(|axis| physics.joint(&format!("{object}_{axis}")));
    let task = Manipulator {
        arm: PlanarArm::new(&physics)?,
        touch: TOUCH_SENSORS.iter().map(|name| physics.sensor(name)).collect::<Result<_, _>>()?,
        object: physics.body(object)?,
        object_joints: joints.collect::<Result<_, _>>()?,
        target: physics.body(target)?,
        receptacle: inserts.then(|| physics.body(receptacle)).transpose()?,
        pairs,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: Some("the object is within 1 cm of the target (reward 1); of an episode: in its last state"),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Prop {
    Ball,
    Peg,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Free,
    Receptacle,
}

struct Manipulator {
    arm: PlanarArm,
    touch: Vec<SensorId>,
    object: BodyId,
    object_joints: Vec<JointId>,
    target: BodyId,
    receptacle: Option<BodyId>,
    /// Sites whose distances are rewarded: object and target; for the peg also the tips, grasp and pinch.
    pairs: Vec<(SiteId, SiteId)>,
}

/// A place and an angle in the plane.
#[derive(Clone, Copy)]
struct PlanarPose {
    x: f64,
    z: f64,
    angle: f64,
}

impl Manipulator {
    fn place_target(&self, physics: &mut Physics, random: &mut RandomState) -> PlanarPose {
        let x = random.uniform(-0.4, 0.4);
        let z = random.uniform(0.1, 0.4);
        let limit = if self.receptacle.is_some() { PI / 3.0 } else { PI };
        let pose = PlanarPose { x, z, angle: random.uniform(-limit, limit) };
        for body in self.receptacle.into_iter().chain([self.target]) {
            let model = physics.model_mut();
            let position = &mut model.body_pos_mut()[body.0];
            (position[0], position[2]) = (pose.x, pose.z);
            let quaternion = &mut model.body_quat_mut()[body.0];
            (quaternion[0], quaternion[2]) = ((pose.angle / 2.0).cos(), (pose.angle / 2.0).sin());
        }
        pose
    }

    /// In the hand, in the target, or anywhere and moving.
    fn draw_object(&self, physics: &mut Physics, random: &mut RandomState, target: PlanarPose) -> PlanarPose {
        let elsewhere = 1.0 - PROBABILITY_IN_HAND - PROBABILITY_IN_TARGET;
        match random.choice(&[PROBABILITY_IN_HAND, PROBABILITY_IN_TARGET, elsewhere]) {
            0 => {
                physics.forward_without_actuation();
                let [x, _, z] = physics.site_xpos(self.arm.grasp);
                let frame = physics.site_xmat(self.arm.grasp);
                PlanarPose { x, z, angle: PI - arctan2(frame[6], frame[0]) }
            }
            1 => target,
            _ => {
                let pose = PlanarPose {
                    x: random.uniform(-0.5, 0.5),
                    z: random.uniform(0.0, 0.7),
                    angle: random.uniform(0.0, 2.0 * PI),
                };
                let dof = physics.dof_address(self.object_joints[0]);
                physics.data_mut().qvel_mut()[dof] = random.uniform(-5.0, 5.0);
                pose
            }
        }
    }

    fn closeness(&self, physics: &Physics, pair: usize) -> f64 {
        let (first, second) = self.pairs[pair];
        Tolerance::within(0.0, CLOSE).margin(CLOSE * 2.0).of(site_distance(physics, first, second))
    }
}

impl Task for Manipulator {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        loop {
            self.arm.randomise(physics, random);
            let target = self.place_target(physics, random);
            let pose = self.draw_object(physics, random, target);
            for (joint, value) in self.object_joints.iter().zip([pose.x, pose.z, pose.angle]) {
                physics.joint_qpos_mut(*joint)[0] = value;
            }
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        self.arm.observe(physics, observation);
        observation.collected("touch", self.touch.iter().map(|sensor| log1p(physics.sensor_value(*sensor))));
        observation.vector("hand_pos", &planar_pose(physics, self.arm.hand));
        observation.vector("object_pos", &planar_pose(physics, self.object));
        observation.collected("object_vel", joint_velocities(physics, &self.object_joints));
        observation.vector("target_pos", &planar_pose(physics, self.target));
    }

    fn reward(&self, physics: &Physics) -> f64 {
        if self.pairs.len() == 1 {
            return self.closeness(physics, 0);
        }
        let [bring, bring_tip, grasp, pinch] = [0, 1, 2, 3].map(|pair| self.closeness(physics, pair));
        f64::max((bring + bring_tip) / 2.0, (grasp + pinch) / 2.0 / 3.0)
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
