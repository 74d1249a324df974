//! Finger: a planar finger spins or turns a hinged body (`suite/finger.py`).

use std::f64::consts::PI;

use crate::dmc::load_domain;
use crate::error::SimError;
use crate::numeric::{log1p, norm};
use crate::physics::{Assets, GeomId, JointId, Physics, SensorId, SiteId};
use crate::random::RandomState;
use crate::randomise::randomise_limited_and_rotational_joints;
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 20.0;
const CONTROL_TIMESTEP_SECONDS: f64 = 0.02;
/// Radians per second from which the body counts as spinning.
const SPIN_VELOCITY: f64 = 15.0;
const MAX_RESET_ATTEMPTS: u32 = 1000;

/// Spin the body fast.
pub(crate) fn spin(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Spin)
}

/// Turn the body until its tip is in a target of 7 cm radius.
pub(crate) fn turn_easy(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Turn { target_radius: 0.07 })
}

/// Turn the body until its tip is in a target of 3 cm radius.
pub(crate) fn turn_hard(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, Goal::Turn { target_radius: 0.03 })
}

fn make(assets: Assets<'_>, goal: Goal) -> Result<TaskParts, SimError> {
    let physics = load_domain(assets, "finger")?;
    let sensor = |name| physics.sensor(name);
    let task = Finger {
        goal,
        hinge: physics.joint("hinge")?,
        cap: physics.geom("cap1")?,
        target_site: physics.site("target")?,
        tip_site: physics.site("tip")?,
        position: [sensor("proximal")?, sensor("distal")?],
        velocity: [sensor("proximal_velocity")?, sensor("distal_velocity")?, sensor("hinge_velocity")?],
        touch: [sensor("touchtop")?, sensor("touchbottom")?],
        tip: sensor("tip")?,
        target: sensor("target")?,
        spinner: sensor("spinner")?,
    };
    Ok(TaskParts {
        physics,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: Some(CONTROL_TIMESTEP_SECONDS),
        success_criterion: Some(match goal {
            Goal::Spin => "the body spins at 15 rad/s or more (reward 1); of an episode: in its last state",
            Goal::Turn { .. } => "the body's tip is in the target (reward 1); of an episode: in its last state",
        }),
    })
}

#[derive(Clone, Copy)]
enum Goal {
    Spin,
    Turn { target_radius: f64 },
}

struct Finger {
    goal: Goal,
    hinge: JointId,
    cap: GeomId,
    target_site: SiteId,
    tip_site: SiteId,
    position: [SensorId; 2],
    velocity: [SensorId; 3],
    touch: [SensorId; 2],
    tip: SensorId,
    target: SensorId,
    spinner: SensorId,
}

impl Finger {
    /// A position sensor in the plane (x, z), relative to the hinge.
    fn relative_to_hinge(&self, physics: &Physics, sensor: SensorId) -> [f64; 2] {
        let [point, hinge] = [physics.sensor_values(sensor), physics.sensor_values(self.spinner)];
        [point[0] - hinge[0], point[2] - hinge[2]]
    }

    /// Signed distance of the tip to the target's surface, negative inside.
    fn distance_to_target(&self, physics: &Physics) -> f64 {
        let [target, tip] = [self.relative_to_hinge(physics, self.target), self.relative_to_hinge(physics, self.tip)];
        norm(&[target[0] - tip[0], target[1] - tip[1]]) - physics.model().site_size()[self.target_site.0][0]
    }

    fn place_target(&self, physics: &mut Physics, angle: f64, target_radius: f64) {
        let anchor = physics.data().xanchor()[self.hinge.0];
        let size = physics.model().geom_size()[self.cap.0];
        let radius = size[0] + size[1] + size[2];
        let model = physics.model_mut();
        let position = &mut model.site_pos_mut()[self.target_site.0];
        position[0] = anchor[0] + radius * angle.sin();
        position[2] = anchor[2] + radius * angle.cos();
        model.site_size_mut()[self.target_site.0][0] = target_radius;
    }
}

impl Task for Finger {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        match self.goal {
            Goal::Spin => {
                let hinge = physics.dof_address(self.hinge);
                let model = physics.model_mut();
                model.site_rgba_mut()[self.target_site.0][3] = 0.0;
                model.site_rgba_mut()[self.tip_site.0][3] = 0.0;
                model.dof_damping_mut()[hinge] = 0.03;
            }
            Goal::Turn { target_radius } => {
                let angle = random.uniform(-PI, PI);
                self.place_target(physics, angle, target_radius);
            }
        }
        for _ in 0..MAX_RESET_ATTEMPTS {
            randomise_limited_and_rotational_joints(physics, random);
            physics.forward_without_actuation();
            if physics.data().ncon() == 0 {
                return Ok(());
            }
        }
        let problem = format!("no collision-free state found in {MAX_RESET_ATTEMPTS} attempts");
        Err(SimError::Reset { task: "finger".to_string(), problem })
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let angles = self.position.map(|sensor| physics.sensor_value(sensor));
        let tip = self.relative_to_hinge(physics, self.tip);
        observation.vector("position", &[angles[0], angles[1], tip[0], tip[1]]);
        observation.vector("velocity", &self.velocity.map(|sensor| physics.sensor_value(sensor)));
        observation.vector("touch", &self.touch.map(|sensor| log1p(physics.sensor_value(sensor))));
        if let Goal::Turn { .. } = self.goal {
            observation.vector("target_position", &self.relative_to_hinge(physics, self.target));
            observation.scalar("dist_to_target", self.distance_to_target(physics));
        }
    }

    fn reward(&self, physics: &Physics) -> f64 {
        f64::from(match self.goal {
            Goal::Spin => physics.sensor_value(self.velocity[2]) <= -SPIN_VELOCITY,
            Goal::Turn { .. } => self.distance_to_target(physics) <= 0.0,
        })
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward(physics) == 1.0
    }
}
