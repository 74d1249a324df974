//! Cart-pole: balance or swing up one or more poles on a cart (`suite/cartpole.py`).

use std::f64::consts::PI;

use crate::dmc::{load_mjcf, read_domain};
use crate::error::SimError;
use crate::mjcf::Mjcf;
use crate::physics::{Assets, Physics};
use crate::random::RandomState;
use crate::reward::{Sigmoid, Tolerance};
use crate::task::{ObservationWriter, Task, TaskParts};

const TIME_LIMIT_SECONDS: f64 = 10.0;
/// The first body of a pole: the world and the cart come before.
const FIRST_POLE: usize = 2;

/// Keep a nearly upright pole up.
pub(crate) fn balance(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1, Balance { start: Start::Upright, reward: Reward::Smooth })
}

/// As [`balance`], rewarded only while cart and pole are within bounds.
pub(crate) fn balance_sparse(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1, Balance { start: Start::Upright, reward: Reward::Sparse })
}

/// Swing a hanging pole up and keep it there.
pub(crate) fn swingup(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1, Balance { start: Start::Hanging, reward: Reward::Smooth })
}

/// As [`swingup`], rewarded only while cart and pole are within bounds.
pub(crate) fn swingup_sparse(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 1, Balance { start: Start::Hanging, reward: Reward::Sparse })
}

/// Swing up a chain of two poles.
pub(crate) fn two_poles(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 2, Balance { start: Start::Hanging, reward: Reward::Smooth })
}

/// Swing up a chain of three poles.
pub(crate) fn three_poles(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, 3, Balance { start: Start::Hanging, reward: Reward::Smooth })
}

fn make(assets: Assets<'_>, num_poles: u32, task: Balance) -> Result<TaskParts, SimError> {
    let sparse = task.reward == Reward::Sparse;
    Ok(TaskParts {
        physics: load_mjcf(assets, &with_poles(assets, num_poles)?)?,
        task: Box::new(task),
        time_limit_seconds: TIME_LIMIT_SECONDS,
        control_timestep_seconds: None,
        success_criterion: sparse
            .then_some("cart and poles are within bounds (reward 1); of an episode: in its last state"),
    })
}

/// The model with a chain of poles, its floor moved down and its cameras moved back.
fn with_poles(assets: Assets<'_>, num_poles: u32) -> Result<Mjcf, SimError> {
    let mut mjcf = read_domain(assets, "cartpole")?;
    if num_poles == 1 {
        return Ok(mjcf);
    }
    let mut chain = String::new();
    for pole in 2..=num_poles {
        chain += &format!(
            r#"<body name="pole_{pole}" pos="0 0 1" childclass="pole"><joint name="hinge_{pole}"/><geom name="pole_{pole}"/>"#
        );
    }
    chain += &"</body>".repeat(num_poles as usize - 1);
    mjcf.append(("body", "pole_1"), &chain)?;
    let poles = f64::from(num_poles);
    mjcf.set(("geom", "floor"), "pos", &format!("0 0 {}", 1.0 - poles - 0.05))?;
    mjcf.set(("camera", "fixed"), "pos", &format!("0 {} 1", -1.0 - 2.0 * poles))?;
    mjcf.set(("camera", "lookatcart"), "pos", &format!("0 {} 2", -2.0 * poles))?;
    Ok(mjcf)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Upright,
    Hanging,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reward {
    Smooth,
    Sparse,
}

struct Balance {
    start: Start,
    reward: Reward,
}

/// Cosine of each pole's angle to the vertical.
fn pole_cosines(physics: &Physics) -> impl Iterator<Item = f64> {
    physics.data().xmat()[FIRST_POLE..].iter().map(|rotation| rotation[8])
}

fn sparse_reward(physics: &Physics) -> f64 {
    let cart_in_bounds = Tolerance::within(-0.25, 0.25).of(physics.qpos()[0]);
    let upright = Tolerance::within(0.995, 1.0);
    cart_in_bounds * pole_cosines(physics).map(|cosine| upright.of(cosine)).product::<f64>()
}

fn smooth_reward(physics: &Physics) -> f64 {
    let (sum, number) =
        pole_cosines(physics).fold((0.0, 0.0), |(sum, number), cosine| (sum + (cosine + 1.0) / 2.0, number + 1.0));
    let centred = (1.0 + Tolerance::at_zero().margin(2.0).of(physics.qpos()[0])) / 2.0;
    let quiet = Tolerance::at_zero().margin(1.0).sigmoid(Sigmoid::Quadratic, 0.0);
    let small_control = (4.0 + quiet.of(physics.control()[0])) / 5.0;
    let slow = Tolerance::at_zero().margin(5.0);
    let small_velocity = physics.qvel()[1..].iter().map(|velocity| slow.of(*velocity)).fold(f64::INFINITY, f64::min);
    sum / number * small_control * ((1.0 + small_velocity) / 2.0) * centred
}

impl Task for Balance {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        let data = physics.data_mut();
        let positions = data.qpos_mut();
        match self.start {
            Start::Hanging => {
                positions[0] = 0.01 * random.normal();
                positions[1] = PI + 0.01 * random.normal();
                positions[2..].iter_mut().for_each(|angle| *angle = 0.1 * random.normal());
            }
            Start::Upright => {
                positions[0] = random.uniform(-0.1, 0.1);
                positions[1..].iter_mut().for_each(|angle| *angle = random.uniform(-0.034, 0.034));
            }
        }
        data.qvel_mut().iter_mut().for_each(|velocity| *velocity = 0.01 * random.normal());
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let poles = &physics.data().xmat()[FIRST_POLE..];
        let cart = physics.qpos().iter().take(1).copied();
        observation.collected("position", cart.chain(poles.iter().flat_map(|rotation| [rotation[8], rotation[2]])));
        observation.vector("velocity", physics.qvel());
    }

    fn reward(&self, physics: &Physics) -> f64 {
        match self.reward {
            Reward::Sparse => sparse_reward(physics),
            Reward::Smooth => smooth_reward(physics),
        }
    }

    fn success(&self, physics: &Physics) -> bool {
        self.reward == Reward::Sparse && sparse_reward(physics) == 1.0
    }
}
