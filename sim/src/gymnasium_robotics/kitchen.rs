//! Franka kitchen: bring burners, light, cabinets, microwave and kettle into their goals (`kitchen_env.py`).

use std::ops::Range;

use crate::error::SimError;
use crate::gymnasium_robotics::{Outcome, Rules, Scene, make};
use crate::numeric::norm;
use crate::physics::{Assets, Physics};
use crate::random::RandomState;
use crate::task::{ObservationWriter, TaskParts};

const SCENE: Scene = Scene {
    model: "kitchen_franka/kitchen_assets/kitchen_env_model.xml",
    frame_skip: 40,
    num_steps: 280,
    success: "every sub-task was completed in this episode",
};
/// The robot's joints: seven and two fingers.
const NUM_ROBOT_JOINTS: usize = 9;
/// Radians or metres a second for an action of 1.
const ACTION_SCALE: f64 = 2.0;
/// Distance to its goal below which a sub-task is completed.
const COMPLETE_DISTANCE: f64 = 0.3;
/// Lowest and highest joint position that is commanded (`franka_config.xml`).
const POSITION_BOUNDS: [[f64; 2]; NUM_ROBOT_JOINTS] = [
    [-2.9, 2.9],
    [-1.8, 1.8],
    [-2.9, 2.9],
    [-3.1, 0.0],
    [-2.9, 2.9],
    [0.0, 3.8],
    [-2.9, 2.9],
    [0.0, 0.04],
    [0.0, 0.04],
];
/// Positions that an episode begins with.
const START: [f64; 30] = [
    1.48388023e-01,
    -1.76848573e+00,
    1.84390296e+00,
    -2.47685760e+00,
    2.60252026e-01,
    7.12533105e-01,
    1.59515394e+00,
    4.79267505e-02,
    3.71350919e-02,
    -2.66279850e-04,
    -5.18043486e-05,
    3.12877220e-05,
    -4.51199853e-05,
    -3.90842156e-06,
    -4.22629655e-05,
    6.28065475e-05,
    4.04984708e-05,
    4.62730939e-04,
    -2.26906415e-04,
    -4.65501369e-04,
    -6.44129196e-03,
    -1.77048263e-03,
    1.08009684e-03,
    -2.69397440e-01,
    3.50383255e-01,
    1.61944683e+00,
    1.00618764e+00,
    4.06395120e-03,
    -6.62095997e-03,
    -2.68278933e-04,
];

/// One thing to do.
struct SubTask {
    /// Which positions it is about.
    positions: Range<usize>,
    /// Where they should be.
    goal: &'static [f64],
}

const BOTTOM_BURNER: SubTask = SubTask { positions: 11..13, goal: &[-0.88, -0.01] };
const HINGE_CABINET: SubTask = SubTask { positions: 20..22, goal: &[0.0, 1.45] };
const KETTLE: SubTask = SubTask { positions: 23..30, goal: &[-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06] };
const LIGHT_SWITCH: SubTask = SubTask { positions: 17..19, goal: &[-0.69, -0.05] };
const MICROWAVE: SubTask = SubTask { positions: 22..23, goal: &[-0.75] };
const SLIDE_CABINET: SubTask = SubTask { positions: 19..20, goal: &[0.37] };
const TOP_BURNER: SubTask = SubTask { positions: 15..17, goal: &[-0.92, -0.01] };
/// In the alphabet's order.
const ALL: &[SubTask] = &[BOTTOM_BURNER, HINGE_CABINET, KETTLE, LIGHT_SWITCH, MICROWAVE, SLIDE_CABINET, TOP_BURNER];

/// Everything.
pub(crate) fn all(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, ALL)
}

/// Turn the knob of the bottom burner.
pub(crate) fn knob(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, &[BOTTOM_BURNER])
}

/// Open the left door of the cabinet.
pub(crate) fn left_door(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, &[HINGE_CABINET])
}

/// Switch the light on.
pub(crate) fn light(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, &[LIGHT_SWITCH])
}

/// Open the microwave.
pub(crate) fn microwave(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, &[MICROWAVE])
}

/// Open the sliding door of the cabinet.
pub(crate) fn sliding_door(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    kitchen(assets, &[SLIDE_CABINET])
}

fn kitchen(assets: Assets<'_>, sub_tasks: &'static [SubTask]) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        let timestep_seconds = physics.timestep_seconds() * f64::from(SCENE.frame_skip);
        Ok(Kitchen { sub_tasks, completed: vec![false; sub_tasks.len()], timestep_seconds })
    })
}

struct Kitchen {
    sub_tasks: &'static [SubTask],
    completed: Vec<bool>,
    timestep_seconds: f64,
}

impl Rules for Kitchen {
    fn randomise(&mut self, physics: &mut Physics, _random: &mut RandomState) {
        physics.data_mut().qpos_mut().iter_mut().zip(START).for_each(|(position, start)| *position = start);
    }

    fn begin(&mut self, _physics: &mut Physics) {
        self.completed.fill(false);
    }

    fn control(&self, physics: &Physics, action: &[f64], control: &mut [f64]) {
        let joints = physics.qpos().iter().zip(POSITION_BOUNDS);
        for ((control, action), (position, [low, high])) in control.iter_mut().zip(action).zip(joints) {
            let velocity = action.clamp(-1.0, 1.0) * ACTION_SCALE;
            *control = (position + velocity * self.timestep_seconds).clamp(low, high);
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let (positions, velocities) = (physics.qpos(), physics.qvel());
        let (robot, objects) = positions.split_at(NUM_ROBOT_JOINTS);
        let (robot_moving, objects_moving) = velocities.split_at(NUM_ROBOT_JOINTS);
        observation.collected("observation", [robot, robot_moving, objects, objects_moving].concat());
        let achieved = self.sub_tasks.iter().flat_map(|sub_task| &positions[sub_task.positions.clone()]);
        observation.collected("achieved_goal", achieved.copied());
    }

    fn evaluate(&mut self, physics: &Physics) -> Outcome {
        let mut reward = 0.0;
        for (sub_task, completed) in self.sub_tasks.iter().zip(&mut self.completed) {
            let found = &physics.qpos()[sub_task.positions.clone()];
            let offset: Vec<f64> = found.iter().zip(sub_task.goal).map(|(found, goal)| found - goal).collect();
            if !*completed && norm(&offset) < COMPLETE_DISTANCE {
                *completed = true;
                reward += 1.0;
            }
        }
        Outcome { reward, success: self.is_over() }
    }

    fn is_over(&self) -> bool {
        self.completed.iter().all(|completed| *completed)
    }
}
