//! Dog: a detailed dog stands, moves or fetches a ball (`suite/dog.py`).

use std::f64::consts::PI;

use mujoco_rs::wrappers::mj_model::{MjtJoint, MjtObjBase};

use crate::dmc::{SUITE_FOLDER, load_mjcf_with, read_domain};
use crate::error::SimError;
use crate::numeric::{difference, in_frame, norm};
use crate::physics::{Assets, BodyId, GeomId, JointId, Physics, SensorId, SiteId};
use crate::random::RandomState;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 15.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.015;
/// Radians from the vertical within which head, torso and pelvis count as upright (30 degrees).
const MAX_UPRIGHT_ANGLE: f64 = 30.0 * (PI / 180.0);
/// Part of the default pose's height from which standing is rewarded in full.
const STAND_HEIGHT_FRACTION: f64 = 0.9;
/// Metres from ball to mouth over which the reward falls off.
const BITE_MARGIN: f64 = 2.0;
const ASSET_FOLDER: &str = "dog_assets";

/// Stand.
pub(crate) fn stand(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 15, Goal::Stand)
}

/// Move at 1 m/s or faster.
pub(crate) fn walk(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 15, Goal::Move { speed: 1.0 })
}

/// Move at 3 m/s or faster.
pub(crate) fn trot(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 45, Goal::Move { speed: 3.0 })
}

/// Move at 9 m/s or faster.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 135, Goal::Move { speed: 9.0 })
}

/// Catch a thrown ball and bring it to the target.
pub(crate) fn fetch(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 10, Goal::Fetch)
}

fn make(assets: Assets<'_>, floor_size: u32, goal: Goal) -> Result<TaskParts, SimError> {
    let physics = load(assets, floor_size, goal)?;
    let sensors = |names: &[&str]| names.iter().map(|name| physics.sensor(name)).collect::<Result<Vec<_>, _>>();
    let joints = (0..physics.model().jnt_type().len()).map(JointId);
    let fetch = match goal {
        Goal::Fetch => Some(FetchParts::new(&physics)?),
        _ => None,
    };
    let task = Dog {
        goal,
        fetch,
        root: physics.joint("root")?,
        hinges: joints.filter(|joint| physics.model().jnt_type()[joint.0] == MjtJoint::mjJNT_HINGE).collect(),
        upright: [physics.body("skull")?, physics.body("torso")?, physics.body("pelvis")?],
        velocity: physics.sensor("torso_linvel")?,
        inertial: sensors(&["accelerometer", "velocimeter", "gyro"])?,
        foot_forces: sensors(&["foot_L", "foot_R", "hand_L", "hand_R"])?,
        touch: sensors(&["palm_L", "palm_R", "sole_L", "sole_R"])?,
        stand_heights: [0.0; 2],
        body_weight: 0.0,
    };
    let fetches = task.fetch.is_some();
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: fetches.then_some("the ball is in the target; of an episode: in its last state"),
    })
}

/// The model without what the task does not need, and its bones.
fn load(assets: Assets<'_>, floor_size: u32, goal: Goal) -> Result<Physics, SimError> {
    let mut mjcf = read_domain(assets, "dog")?;
    mjcf.set(("geom", "floor"), "size", &format!("{floor_size} {floor_size} .1"))?;
    if !matches!(goal, Goal::Fetch) {
        mjcf.remove("body", "ball")?;
        mjcf.remove("geom", "target")?;
        mjcf.remove("camera", "ball")?;
        mjcf.remove("camera", "head")?;
        ["wall_px", "wall_nx", "wall_py", "wall_ny"].iter().try_for_each(|wall| mjcf.remove("geom", wall))?;
    }
    let path = assets.native.join(SUITE_FOLDER).join(ASSET_FOLDER);
    let entries = std::fs::read_dir(&path).map_err(|source| SimError::Asset { path, source })?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    load_mjcf_with(assets, &mjcf, names.map(|name| format!("{ASSET_FOLDER}/{name}")).collect())
}

#[derive(Clone, Copy)]
enum Goal {
    Stand,
    Move { speed: f64 },
    Fetch,
}

struct FetchParts {
    ball: GeomId,
    ball_root: JointId,
    target: GeomId,
    floor: GeomId,
    head: SiteId,
    bites: [SiteId; 2],
}

impl FetchParts {
    fn new(physics: &Physics) -> Result<Self, SimError> {
        Ok(Self {
            ball: physics.geom("ball")?,
            ball_root: physics.joint("ball_root")?,
            target: physics.geom("target")?,
            floor: physics.geom("floor")?,
            head: physics.site("head")?,
            bites: [physics.site("upper_bite")?, physics.site("lower_bite")?],
        })
    }

    /// Throws the ball from the edge of the floor towards its middle.
    fn throw(&self, physics: &mut Physics, random: &mut RandomState) {
        let radius = 0.75 * physics.model().geom_size()[self.floor.0][0];
        let azimuth = random.uniform(0.0, 2.0 * PI);
        let position = [radius * azimuth.sin(), radius * azimuth.cos(), 0.05];
        physics.joint_qpos_mut(self.ball_root)[..3].copy_from_slice(&position);
        let height = random.uniform(0.0, 3.0);
        let gravity = -physics.model().opt().gravity[2];
        let vertical_speed = (2.0 * gravity * height).sqrt();
        let speed = random.uniform(0.0, 5.0);
        let direction = [-azimuth.sin() + 0.05 * random.normal(), -azimuth.cos() + 0.05 * random.normal()];
        let velocity = [speed * direction[0], speed * direction[1], vertical_speed];
        let dof = physics.dof_address(self.ball_root);
        physics.data_mut().qvel_mut()[dof..dof + 3].copy_from_slice(&velocity);
    }

    fn ball_to_target(&self, physics: &Physics) -> f64 {
        norm(&difference(physics.geom_xpos(self.ball), physics.geom_xpos(self.target)))
    }

    /// Rewards of reaching and of bringing the ball.
    fn reward(&self, physics: &Physics) -> f64 {
        let sizes = physics.model().geom_size();
        let falling = |bound, margin, distance| {
            Tolerance::within(0.0, bound).margin(margin).sigmoid(Sigmoid::Reciprocal, 0.1).of(distance)
        };
        let ball = physics.geom_xpos(self.ball);
        let [upper, lower] = self.bites.map(|bite| norm(&difference(ball, physics.site_xpos(bite))));
        let bite_radius = physics.model().site_size()[self.bites[0].0][0];
        let target_radius = sizes[self.target.0][0];
        let bringing = falling(target_radius, sizes[self.floor.0][0], self.ball_to_target(physics));
        let reaching = if self.ball_to_target(physics) < 2.0 * target_radius {
            1.0
        } else {
            (6.0 * falling(bite_radius, BITE_MARGIN, 0.5 * (upper + lower)) + 1.0) / 7.0
        };
        reaching * ((bringing + 1.0) / 2.0)
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let (frame, head) = (physics.site_xmat(self.head), physics.site_xpos(self.head));
        let linear = |[_, _, _, x, y, z]: [f64; 6]| [x, y, z];
        let head_velocity = linear(physics.data().object_velocity(MjtObjBase::mjOBJ_SITE, self.head.0, false));
        let ball_velocity = linear(physics.data().object_velocity(MjtObjBase::mjOBJ_GEOM, self.ball.0, false));
        let position = in_frame(difference(physics.geom_xpos(self.ball), head), frame);
        let velocity = in_frame(difference(ball_velocity, head_velocity), frame);
        observation.collected("ball_state", position.into_iter().chain(velocity));
        observation.vector("target_position", &in_frame(difference(physics.geom_xpos(self.target), head), frame));
    }
}

struct Dog {
    goal: Goal,
    fetch: Option<FetchParts>,
    root: JointId,
    hinges: Vec<JointId>,
    /// Skull, torso, pelvis.
    upright: [BodyId; 3],
    velocity: SensorId,
    inertial: Vec<SensorId>,
    foot_forces: Vec<SensorId>,
    touch: Vec<SensorId>,
    /// Metres of torso and pelvis from which standing is rewarded in full.
    stand_heights: [f64; 2],
    /// Newtons.
    body_weight: f64,
}

impl Dog {
    /// Metres of torso and pelvis.
    fn heights(&self, physics: &Physics) -> [f64; 2] {
        let [_, torso, pelvis] = self.upright.map(|body| physics.xpos(body)[2]);
        [torso, pelvis]
    }

    /// Velocity of the centre of mass in the torso's frame.
    fn torso_velocity(&self, physics: &Physics) -> [f64; 3] {
        let velocity = physics.sensor_values(self.velocity);
        in_frame([velocity[0], velocity[1], velocity[2]], physics.xmat(self.upright[1]))
    }

    fn standing(&self, physics: &Physics) -> f64 {
        let heights = self.heights(physics);
        let [torso, pelvis] = [0, 1].map(|part| {
            Tolerance::at_least(self.stand_heights[part]).margin(self.stand_heights[part]).of(heights[part])
        });
        let cosine = MAX_UPRIGHT_ANGLE.cos();
        let straight = Tolerance::at_least(cosine).margin(cosine + 1.0).sigmoid(Sigmoid::Linear, 0.0);
        let upright = self.upright.map(|body| straight.of(physics.xmat(body)[8]));
        let force: f64 = self.touch.iter().map(|sensor| physics.sensor_value(*sensor)).sum();
        let weight = Tolerance::at_least(self.body_weight).margin(self.body_weight).sigmoid(Sigmoid::Linear, 0.9);
        torso * pelvis * upright[0] * upright[1] * upright[2] * weight.of(force)
    }
}

impl Task for Dog {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        physics.reset();
        self.stand_heights = self.heights(physics).map(|height| height * STAND_HEIGHT_FRACTION);
        let mass = physics.model().body_subtreemass()[self.upright[1].0];
        self.body_weight = -physics.model().opt().gravity[2] * mass;
        let azimuth = random.uniform(0.0, 2.0 * PI);
        let orientation = [(azimuth / 2.0).cos(), 0.0, 0.0, (azimuth / 2.0).sin()];
        physics.joint_qpos_mut(self.root)[3..].copy_from_slice(&orientation);
        for dof in [0, 1, 5] {
            physics.data_mut().qvel_mut()[dof] = 2.0 * random.normal();
        }
        for actuator in 0..physics.control().len() {
            let [minimum, maximum] = physics.model().actuator_ctrlrange()[actuator];
            physics.data_mut().act_mut()[actuator] = random.uniform(minimum, maximum);
        }
        if let Some(fetch) = &self.fetch {
            fetch.throw(physics, random);
        }
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let angles = self.hinges.iter().map(|joint| physics.qpos()[physics.qpos_address(*joint)]);
        observation.collected("joint_angles", angles);
        let velocities = self.hinges.iter().map(|joint| physics.qvel()[physics.dof_address(*joint)]);
        // The original's spelling.
        observation.collected("joint_velocites", velocities);
        observation.vector("torso_pelvis_height", &self.heights(physics));
        let projections = self.upright.map(|body| physics.xmat(body));
        observation.collected("z_projection", projections.iter().flat_map(|frame| frame[6..].iter().copied()));
        observation.vector("torso_com_velocity", &self.torso_velocity(physics));
        for (name, sensors) in
            [("inertial_sensors", &self.inertial), ("foot_forces", &self.foot_forces), ("touch_sensors", &self.touch)]
        {
            let values = sensors.iter().flat_map(|sensor| physics.sensor_values(*sensor));
            observation.collected(name, values.copied());
        }
        observation.vector("actuator_state", physics.data().act());
        if let Some(fetch) = &self.fetch {
            fetch.observe(physics, observation);
        }
    }

    fn reward(&self, physics: &Physics) -> f64 {
        let standing = self.standing(physics);
        match (self.goal, &self.fetch) {
            (Goal::Move { speed }, _) => {
                let moving = Tolerance::within(speed, 2.0 * speed).margin(speed.max(1.0)).sigmoid(Sigmoid::Linear, 0.0);
                standing * ((4.0 * moving.of(self.torso_velocity(physics)[0]) + 1.0) / 5.0)
            }
            (_, Some(fetch)) => standing * fetch.reward(physics),
            (_, None) => standing,
        }
    }

    fn success(&self, physics: &Physics) -> bool {
        self.fetch
            .as_ref()
            .is_some_and(|fetch| fetch.ball_to_target(physics) <= physics.model().geom_size()[fetch.target.0][0])
    }
}
