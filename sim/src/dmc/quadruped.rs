//! Quadruped: a four-legged body walks, runs, escapes a bowl or fetches a ball (`suite/quadruped.py`).

use std::f64::consts::{PI, SQRT_2};

use mujoco_rs::wrappers::mj_model::{MjtJoint, MjtSensor};

use crate::dmc::terrain::bumpy_bowl;
use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::numeric::{arcsinh, difference, in_frame, norm, normalise, tanh};
use crate::physics::{Assets, BodyId, GeomId, JointId, Physics, SensorId, SiteId};
use crate::random::RandomState;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.02;
/// Metres a bump of the terrain.
const BUMP_SCALE: f64 = 2.0;
const WALLS: [&str; 4] = ["wall_px", "wall_py", "wall_nx", "wall_ny"];
const MAX_RESET_ATTEMPTS: u32 = 10_000;

/// Walk at 0.5 m/s or faster.
pub(crate) fn walk(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Some(10.0), Goal::Move { speed: 0.5 })
}

/// Run at 5 m/s or faster.
pub(crate) fn run(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Some(100.0), Goal::Move { speed: 5.0 })
}

/// Climb out of a bumpy bowl.
pub(crate) fn escape(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Some(40.0), Goal::Escape)
}

/// Push a ball to the middle of the arena.
pub(crate) fn fetch(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, None, Goal::Fetch)
}

fn make(assets: Assets<'_>, floor_size: Option<f64>, goal: Goal) -> Result<TaskParts, SimError> {
    let physics = load(assets, floor_size, goal)?;
    let hinges = (0..physics.model().jnt_type().len()).map(JointId);
    let fetch = match goal {
        Goal::Fetch => Some(FetchParts {
            ball: physics.body("ball")?,
            ball_geom: physics.geom("ball")?,
            ball_root: physics.joint("ball_root")?,
            target: physics.site("target")?,
        }),
        _ => None,
    };
    let task = Quadruped {
        goal,
        fetch,
        root: physics.joint("root")?,
        torso: physics.body("torso")?,
        workspace: physics.site("workspace")?,
        floor: physics.geom("floor")?,
        velocimeter: physics.sensor("velocimeter")?,
        hinges: hinges.filter(|joint| physics.model().jnt_type()[joint.0] == MjtJoint::mjJNT_HINGE).collect(),
        imu: sensors_of(&physics, &[MjtSensor::mjSENS_GYRO, MjtSensor::mjSENS_ACCELEROMETER]),
        force_torque: sensors_of(&physics, &[MjtSensor::mjSENS_FORCE, MjtSensor::mjSENS_TORQUE]),
        rangefinders: sensors_of(&physics, &[MjtSensor::mjSENS_RANGEFINDER]),
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

/// The model without what the task does not need.
fn load(assets: Assets<'_>, floor_size: Option<f64>, goal: Goal) -> Result<Physics, SimError> {
    let mut mjcf = read_domain(assets, "quadruped")?;
    if let Some(size) = floor_size {
        mjcf.set(("geom", "floor"), "size", &format!("{size} {size} .5"))?;
    }
    if !matches!(goal, Goal::Fetch) {
        WALLS.iter().try_for_each(|wall| mjcf.remove("geom", wall))?;
        mjcf.remove("body", "ball")?;
        mjcf.remove("site", "target")?;
    }
    if !matches!(goal, Goal::Escape) {
        mjcf.remove("geom", "terrain")?;
        mjcf.remove_all("rangefinder");
    }
    load_mjcf(assets, &mjcf)
}

fn sensors_of(physics: &Physics, kinds: &[MjtSensor]) -> Vec<SensorId> {
    let sensors = physics.model().sensor_type().iter().enumerate();
    sensors.filter(|(_, kind)| kinds.contains(kind)).map(|(index, _)| SensorId(index)).collect()
}

#[derive(Clone, Copy)]
enum Goal {
    Move { speed: f64 },
    Escape,
    Fetch,
}

struct FetchParts {
    ball: BodyId,
    ball_geom: GeomId,
    ball_root: JointId,
    target: SiteId,
}

struct Quadruped {
    goal: Goal,
    fetch: Option<FetchParts>,
    root: JointId,
    torso: BodyId,
    workspace: SiteId,
    floor: GeomId,
    velocimeter: SensorId,
    hinges: Vec<JointId>,
    imu: Vec<SensorId>,
    force_torque: Vec<SensorId>,
    rangefinders: Vec<SensorId>,
}

impl Quadruped {
    /// Lifts the body from the floor in steps of a centimetre until nothing touches.
    fn place(&self, physics: &mut Physics, orientation: [f64; 4], position: [f64; 2]) -> Result<(), SimError> {
        let mut height = 0.0;
        for _ in 0..MAX_RESET_ATTEMPTS {
            physics.reset();
            let root = physics.joint_qpos_mut(self.root);
            root[..2].copy_from_slice(&position);
            root[2] = height;
            root[3..].copy_from_slice(&orientation);
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
            height += 0.01;
        }
        let problem = format!("no contact-free height found in {MAX_RESET_ATTEMPTS} attempts");
        Err(SimError::Reset { task: "quadruped".to_string(), problem })
    }

    fn place_for_fetching(
        &self,
        physics: &mut Physics,
        random: &mut RandomState,
        fetch: &FetchParts,
    ) -> Result<(), SimError> {
        let azimuth = random.uniform(0.0, 2.0 * PI);
        let orientation = [(azimuth / 2.0).cos(), 0.0, 0.0, (azimuth / 2.0).sin()];
        let radius = 0.9 * physics.model().geom_size()[self.floor.0][0];
        let position = [random.uniform(-radius, radius), random.uniform(-radius, radius)];
        self.place(physics, orientation, position)?;
        let ball = physics.joint_qpos_mut(fetch.ball_root);
        ball[..3].copy_from_slice(&[random.uniform(-radius, radius), random.uniform(-radius, radius), 2.0]);
        let dof = physics.dof_address(fetch.ball_root);
        physics.data_mut().qvel_mut()[dof] = 5.0 * random.normal();
        physics.data_mut().qvel_mut()[dof + 1] = 5.0 * random.normal();
        Ok(())
    }

    fn raise_terrain(physics: &mut Physics, random: &mut RandomState) {
        // The resolution is a positive number of rows in every model with a height field.
        let resolution = physics.model().hfield_nrow()[0] as usize;
        let num_bumps = (2.0 * physics.model().hfield_size()[0][0] / BUMP_SCALE) as usize;
        let heights = bumpy_bowl(resolution, num_bumps, random);
        physics.model_mut().hfield_data_mut()[..heights.len()].copy_from_slice(&heights);
    }

    /// 1 from `deviation_degrees` off upright on, 0 upside down.
    fn upright_reward(&self, physics: &Physics, deviation_degrees: f64) -> f64 {
        let deviation = (deviation_degrees * (PI / 180.0)).cos();
        let upright = Tolerance::at_least(deviation).margin(1.0 + deviation).sigmoid(Sigmoid::Linear, 0.0);
        upright.of(physics.xmat(self.torso)[8])
    }

    fn fetch_reward(&self, physics: &Physics, fetch: &FetchParts) -> f64 {
        let model = physics.model();
        let arena_radius = model.geom_size()[self.floor.0][0] * SQRT_2;
        let near = |distance, radius| {
            Tolerance::within(0.0, radius).margin(arena_radius).sigmoid(Sigmoid::Linear, 0.0).of(distance)
        };
        let ball = physics.xpos(fetch.ball);
        let reach_radius = model.site_size()[self.workspace.0][0] + model.geom_size()[fetch.ball_geom.0][0];
        let reaching = near(norm(&difference(physics.site_xpos(self.workspace), ball)[..2]), reach_radius);
        let fetching = near(ball_to_target(physics, fetch), model.site_size()[fetch.target.0][0]);
        reaching * (0.5 + 0.5 * fetching)
    }

    fn observe_ball(&self, physics: &Physics, fetch: &FetchParts, observation: &mut ObservationWriter<'_>) {
        let (frame, origin) = (physics.xmat(self.torso), physics.xpos(self.torso));
        let [ball, root] = [physics.dof_address(fetch.ball_root), physics.dof_address(self.root)];
        let velocity = |dof: usize| std::array::from_fn(|axis| physics.qvel()[dof + axis]);
        let parts = [
            difference(physics.xpos(fetch.ball), origin),
            difference(velocity(ball), velocity(root)),
            velocity(ball + 3),
        ];
        observation.collected("ball_state", parts.into_iter().flat_map(|part| in_frame(part, frame)));
        observation.vector("target_position", &in_frame(difference(physics.site_xpos(fetch.target), origin), frame));
    }
}

/// Horizontal metres.
fn ball_to_target(physics: &Physics, fetch: &FetchParts) -> f64 {
    norm(&difference(physics.site_xpos(fetch.target), physics.xpos(fetch.ball))[..2])
}

impl Task for Quadruped {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        if let Some(fetch) = &self.fetch {
            return self.place_for_fetching(physics, random, fetch);
        }
        if matches!(self.goal, Goal::Escape) {
            Self::raise_terrain(physics, random);
        }
        let mut orientation = [0.0; 4];
        random.fill_normal(&mut orientation);
        normalise(&mut orientation);
        self.place(physics, orientation, [0.0, 0.0])
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let positions = self.hinges.iter().map(|joint| physics.qpos()[physics.qpos_address(*joint)]);
        let velocities = self.hinges.iter().map(|joint| physics.qvel()[physics.dof_address(*joint)]);
        let activations = physics.data().act().iter().copied();
        observation.collected("egocentric_state", positions.chain(velocities).chain(activations));
        observation.vector("torso_velocity", physics.sensor_values(self.velocimeter));
        observation.scalar("torso_upright", physics.xmat(self.torso)[8]);
        let imu = self.imu.iter().flat_map(|sensor| physics.sensor_values(*sensor));
        observation.collected("imu", imu.copied());
        let forces = self.force_torque.iter().flat_map(|sensor| physics.sensor_values(*sensor));
        observation.collected("force_torque", forces.map(|force| arcsinh(*force)));
        if let Some(fetch) = &self.fetch {
            self.observe_ball(physics, fetch, observation);
        }
        if matches!(self.goal, Goal::Escape) {
            let origin = in_frame(physics.xpos(self.torso).map(|value| -value), physics.xmat(self.torso));
            observation.vector("origin", &origin);
            let ranges = self.rangefinders.iter().map(|sensor| physics.sensor_value(*sensor));
            observation.collected("rangefinder", ranges.map(|range| if range == -1.0 { 1.0 } else { tanh(range) }));
        }
    }

    fn reward(&self, physics: &Physics) -> f64 {
        match (self.goal, &self.fetch) {
            (Goal::Move { speed }, _) => {
                let moving = Tolerance::at_least(speed).margin(speed).sigmoid(Sigmoid::Linear, 0.5);
                self.upright_reward(physics, 0.0) * moving.of(physics.sensor_value(self.velocimeter))
            }
            (_, Some(fetch)) => self.upright_reward(physics, 0.0) * self.fetch_reward(physics, fetch),
            (_, None) => {
                let size = physics.model().hfield_size()[0][0];
                let escaping = Tolerance::at_least(size).margin(size).sigmoid(Sigmoid::Linear, 0.0);
                self.upright_reward(physics, 20.0) * escaping.of(norm(&physics.site_xpos(self.workspace)))
            }
        }
    }

    fn success(&self, physics: &Physics) -> bool {
        self.fetch
            .as_ref()
            .is_some_and(|fetch| ball_to_target(physics, fetch) <= physics.model().site_size()[fetch.target.0][0])
    }
}
