//! LQR: a chain of masses on springs, whose stiffness is drawn with the seed (`suite/lqr.py`).

use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::mjcf::Mjcf;
use crate::numeric::{norm, square};
use crate::physics::{Assets, Physics};
use crate::random::RandomState;
use crate::task::{ObservationWriter, Task, TaskParts};

const CONTROL_COST: f64 = 0.1;
/// Norm of the state below which the task is over.
const TERMINAL_NORM: f64 = 1e-6;

/// Two masses, the first of them driven.
pub(crate) fn lqr_2_1(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 2, 1)
}

/// Six masses, the first two of them driven.
pub(crate) fn lqr_6_2(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 6, 2)
}

fn make(assets: Assets<'_>, num_bodies: usize, num_actuators: usize) -> Result<TaskParts, SimError> {
    Ok(TaskParts {
        physics: load_mjcf(assets, &chain(assets, num_bodies, num_actuators)?)?,
        task: Box::new(Lqr),
        time_limit_seconds: f64::INFINITY,
        control_timestep_seconds: None,
        success_criterion: Some("the state's norm is at most 0.01; of an episode: in its last state"),
    })
}

/// The model with springs of mean stiffness; [`Lqr`] draws the real one.
fn chain(assets: Assets<'_>, num_bodies: usize, num_actuators: usize) -> Result<Mjcf, SimError> {
    let mut mjcf = read_domain(assets, "lqr")?;
    let mut bodies = String::new();
    let mut actuators = String::new();
    let mut tendons = String::new();
    for body in 0..num_bodies {
        let height = if body == 0 { ".1" } else { "0" };
        bodies += &format!(
            r#"<body name="body_{body}" pos=".25 0 {height}"><joint name="joint_{body}" stiffness="20" damping="0"/><geom name="geom_{body}"/><site name="site_{body}"/>"#
        );
        if body < num_actuators {
            actuators += &format!(r#"<motor name="motor_{body}" joint="joint_{body}"/>"#);
        }
        if body + 1 < num_bodies {
            let next = body + 1;
            tendons += &format!(
                r#"<spatial name="tendon_{body}"><site site="site_{body}"/><site site="site_{next}"/></spatial>"#
            );
        }
    }
    bodies += &"</body>".repeat(num_bodies);
    mjcf.append(("worldbody", ""), &bodies)?;
    mjcf.append(("mujoco", ""), &format!("<actuator>{actuators}</actuator><tendon>{tendons}</tendon>"))?;
    Ok(mjcf)
}

struct Lqr;

impl Lqr {
    fn state_norm(physics: &Physics) -> f64 {
        norm(&[norm(physics.qpos()), norm(physics.qvel())])
    }
}

impl Task for Lqr {
    fn begin_stream(&mut self, physics: &mut Physics, random: &mut RandomState) {
        for joint in 0..physics.qpos().len() {
            physics.model_mut().jnt_stiffness_mut()[joint] = random.uniform(15.0, 25.0);
            // The damping's range is empty, but it is drawn all the same.
            physics.model_mut().dof_damping_mut()[joint] = random.uniform(0.0, 0.0);
        }
    }

    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        let positions = physics.data_mut().qpos_mut();
        random.fill_normal(positions);
        let norm = norm(positions);
        positions.iter_mut().for_each(|position| *position = 2.0_f64.sqrt() * *position / norm);
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        1.0 - (0.5 * square(physics.qpos()) + 0.5 * square(physics.control()) * CONTROL_COST)
    }

    fn termination(&self, physics: &Physics) -> Option<f64> {
        (Self::state_norm(physics) < TERMINAL_NORM).then_some(0.0)
    }

    fn success(&self, physics: &Physics) -> bool {
        Self::state_norm(physics) <= 0.01
    }
}
