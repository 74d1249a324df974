//! One environment: a task over its physics, with Gymnasium's semantics and no automatic reset.

mod joints;
mod options;
mod substeps;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use foresee_runtime::{JointState, Stamp};
use mujoco_rs::wrappers::mj_model::MjtObjBase;

pub use options::{Autoreset, EnvironmentOptions};
pub(crate) use substeps::num_substeps;

use crate::actuators::action_specs;
use crate::error::SimError;
use crate::physics::{Assets, Physics, PhysicsWarning, Textures};
use crate::random::RandomState;
use crate::randomisation::{ModelRandomiser, Randomisation};
use crate::recorded::RecordedStates;
use crate::task::{ObservationWriter, Task, TaskParts, TaskSpec};
use crate::tasks;
use crate::units;
use joints::{DrivenJoint, driven_joints};

/// What one step gives, besides the observation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    /// Always finite.
    pub reward: f64,
    /// What the value of the next state counts: 1, or the task's own final discount.
    pub discount: f64,
    /// The task ended the episode.
    pub terminated: bool,
    /// The time limit, or a diverged simulation, cut the episode off.
    pub truncated: bool,
    /// Whether [`TaskSpec::success_criterion`] holds in the state reached; at the end of an episode, its outcome.
    pub success: bool,
    /// Why the simulation is not to be trusted, if it was cut off for that. This, `discount` and `success` are what Gymnasium
    /// calls `info`.
    pub warning: Option<PhysicsWarning>,
}

impl Transition {
    /// Whether the episode is over.
    pub fn is_last(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// A task that can be reset and stepped. After the last transition of an episode it must be reset.
pub struct Environment {
    spec: TaskSpec,
    physics: Physics,
    task: Box<dyn Task>,
    random: RandomState,
    observation: Vec<f64>,
    joints: Vec<DrivenJoint>,
    randomiser: Option<ModelRandomiser>,
    /// Commands that have no effect yet, the oldest first.
    delayed: VecDeque<Vec<f64>>,
    action_repeat: u32,
    num_substeps: u32,
    /// In control steps.
    step_limit: f64,
    num_control_steps: u32,
    num_steps: u32,
    has_episode: bool,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Environment").field("task", &self.spec.name).finish_non_exhaustive()
    }
}

impl Environment {
    /// A vector of environments resets by itself: see [`crate::VectorEnvironment`].
    pub const AUTORESET: Autoreset = Autoreset::Disabled;

    /// The task of this name, with its assets below the folder of native parts (`target/native`). Reset it first.
    ///
    /// # Errors
    /// [`SimError::UnknownTask`] with the nearest names, [`SimError::Asset`], [`SimError::Model`], [`SimError::Version`].
    pub fn new(task: &str, native: &Path) -> Result<Self, SimError> {
        Self::with_assets(task, Assets { native, textures: Textures::Full })
    }

    /// As [`Self::new`], with a say in how much of the assets is wanted.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_assets(task: &str, assets: Assets<'_>) -> Result<Self, SimError> {
        Self::with_options(task, assets, EnvironmentOptions::default())
    }

    /// As [`Self::with_assets`], played in another way than the task's own.
    ///
    /// # Errors
    /// As [`Self::new`], and [`SimError::Option`].
    pub fn with_options(task: &str, assets: Assets<'_>, options: EnvironmentOptions) -> Result<Self, SimError> {
        Self::from_parts(task, tasks::build(task, assets)?, options)
    }

    /// An environment of a task that is not in the list.
    ///
    /// # Errors
    /// [`SimError::Model`] when the control timestep is not a multiple of the physics timestep; [`SimError::Option`].
    pub fn from_parts(name: &str, parts: TaskParts, options: EnvironmentOptions) -> Result<Self, SimError> {
        let EnvironmentOptions { action_repeat, time_limit_seconds, randomisation } = options.check()?;
        let TaskParts { physics, task, control_timestep_seconds, success_criterion, .. } = parts;
        let timestep = physics.timestep_seconds();
        let num_substeps = num_substeps(control_timestep_seconds.unwrap_or(timestep), timestep)
            .map_err(|problem| SimError::Model { name: name.to_string(), problem })?;
        let control_timestep_seconds = timestep * f64::from(num_substeps);
        let step_limit = time_limit_seconds.unwrap_or(parts.time_limit_seconds) / control_timestep_seconds;
        let mut observation = Vec::new();
        let mut observations = Vec::new();
        task.observe(&physics, &mut ObservationWriter::new(&mut observation, Some(&mut observations)));
        observations.iter_mut().for_each(|part| part.unit = units::of_observation(name, &part.name));
        let cameras = names(&physics, MjtObjBase::mjOBJ_CAMERA, physics.model().cam_fovy().len());
        let spec = TaskSpec {
            name: name.to_string(),
            observations,
            actions: task.actions(&physics).unwrap_or_else(|| action_specs(&physics)),
            control_timestep_seconds: control_timestep_seconds * f64::from(action_repeat),
            num_substeps: num_substeps * action_repeat,
            max_steps: (step_limit / f64::from(action_repeat)).ceil() as u32,
            camera: crate::camera::default_camera(name, &cameras),
            cameras,
            success_criterion,
        };
        Ok(Self {
            joints: driven_joints(&physics),
            randomiser: randomisation.map(ModelRandomiser::new),
            delayed: VecDeque::new(),
            random: RandomState::new(0),
            spec,
            physics,
            task,
            observation,
            action_repeat,
            num_substeps,
            step_limit,
            num_control_steps: 0,
            num_steps: 0,
            has_episode: false,
        })
    }

    /// What there is to know of the task.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// The world, to look into.
    pub fn physics(&self) -> &Physics {
        &self.physics
    }

    /// The world, to change it: for other states than the task's own, and for rendering.
    pub fn physics_mut(&mut self) -> &mut Physics {
        &mut self.physics
    }

    /// Names of the actuators, in order.
    pub fn actuator_names(&self) -> Vec<String> {
        self.spec.actions.iter().map(|action| action.name.clone()).collect()
    }

    /// Actions since the reset.
    pub fn num_steps(&self) -> u32 {
        self.num_steps
    }

    /// The first episode of the random stream `seed`: what dm_control gives with `task_kwargs={'random': seed}`.
    ///
    /// # Errors
    /// [`SimError::Seed`] above 2^32 - 1, [`SimError::Reset`], [`SimError::Diverged`].
    pub fn reset(&mut self, seed: u64) -> Result<(), SimError> {
        let seed = u32::try_from(seed).map_err(|_| SimError::Seed { seed })?;
        self.random = RandomState::new(seed);
        if let Some(randomiser) = &mut self.randomiser {
            randomiser.begin_stream(&mut self.physics, u64::from(seed));
        }
        self.task.begin_stream(&mut self.physics, &mut self.random);
        self.reset_again()
    }

    /// The next episode of the same random stream.
    ///
    /// # Errors
    /// [`SimError::Reset`], [`SimError::Diverged`].
    pub fn reset_again(&mut self) -> Result<(), SimError> {
        (self.num_steps, self.num_control_steps) = (0, 0);
        self.has_episode = false;
        self.physics.reset();
        if let Some(randomiser) = &mut self.randomiser {
            randomiser.draw(&mut self.physics);
        }
        let before = self.physics.warning_counts();
        self.task.initialise_episode(&mut self.physics, &mut self.random)?;
        self.physics.forward_without_actuation();
        if self.joints.iter().any(|joint| matches!(joint, DrivenJoint::Length { .. })) {
            self.physics.update_actuator_velocities();
        }
        if let Some(warning) = self.physics.new_warning(&before) {
            return Err(SimError::Diverged { warning });
        }
        self.has_episode = true;
        self.delay_commands();
        self.observe();
        Ok(())
    }

    /// Applies one action (a value an actuator; MuJoCo clamps to the range) for a control step, or for as many as
    /// [`EnvironmentOptions::action_repeat`] says.
    ///
    /// # Errors
    /// [`SimError::NoEpisode`], [`SimError::ActionLength`], [`SimError::ActionNotFinite`]; the state is then unchanged.
    pub fn step(&mut self, action: &[f64]) -> Result<Transition, SimError> {
        self.check_action(action)?;
        let Some(mut delayed) = self.delayed.pop_front() else { return Ok(self.held_step(action)) };
        let transition = self.held_step(&delayed);
        delayed.copy_from_slice(action);
        self.delayed.push_back(delayed);
        Ok(transition)
    }

    /// Sentences for the user: what the randomisation names that nothing of this model can show.
    pub fn notes(&self) -> Vec<String> {
        self.randomiser.as_ref().map_or_else(Vec::new, |randomiser| randomiser.notes(&self.physics))
    }

    /// What each episode draws from.
    pub fn randomisation(&self) -> Option<&Arc<Randomisation>> {
        self.randomiser.as_ref().map(ModelRandomiser::ranges)
    }

    fn held_step(&mut self, action: &[f64]) -> Transition {
        let mut transition = self.control_step(action);
        for _ in 1..self.action_repeat {
            if transition.is_last() {
                break;
            }
            let sum = transition.reward;
            transition = self.control_step(action);
            transition.reward += sum;
        }
        self.num_steps += 1;
        self.has_episode = !transition.is_last();
        transition
    }

    /// Until the first command has its effect the actuators keep what the reset gave them.
    fn delay_commands(&mut self) {
        self.delayed.clear();
        let latency_actions = self.randomiser.as_ref().map_or(0, ModelRandomiser::latency_actions);
        if latency_actions == 0 {
            return;
        }
        let mut idle = Vec::new();
        self.write_idle_action(&mut idle);
        self.delayed.extend(std::iter::repeat_n(idle, latency_actions));
    }

    /// The action that changes nothing after a reset: the controls that it gave, or zeros where actions are not controls.
    pub fn write_idle_action(&self, action: &mut Vec<f64>) {
        action.clear();
        match self.task.actions(&self.physics) {
            None => action.extend_from_slice(self.physics.control()),
            Some(actions) => action.resize(actions.len(), 0.0),
        }
    }

    /// The present observation: the parts of the spec one after the other.
    pub fn observation(&self) -> &[f64] {
        &self.observation
    }

    /// Whether the success criterion holds now.
    pub fn success(&self) -> bool {
        self.task.success(&self.physics)
    }

    /// What the task's own scripted expert does now; `None` for a task without one. Values may lie outside the action's
    /// range, where they mean its end.
    pub fn expert_action(&self) -> Option<Vec<f64>> {
        self.task.expert(&self.physics)
    }

    /// Turns a valid action into controls without stepping.
    pub(crate) fn apply(&mut self, action: &[f64]) {
        self.task.before_step(&mut self.physics, action);
    }

    /// Access for the comparison with recorded states.
    pub(crate) fn recorded_states(&mut self) -> Option<(&mut dyn RecordedStates, &mut Physics)> {
        Some((self.task.recorded_states()?, &mut self.physics))
    }

    /// Reads the task's observation again, after its state was put from outside.
    pub(crate) fn observe_again(&mut self) -> f64 {
        self.observe();
        self.task.reward(&self.physics)
    }

    /// Positions and velocities of what the actuators drive, in actuator order: the joint of each, or the length of its
    /// tendon. Meta-World: place and opening of the hand, as its actions move them.
    pub fn write_joint_state(&self, joints: &mut JointState) {
        let data = self.physics.data();
        joints.stamp = Stamp::from_seconds(self.physics.time_seconds());
        joints.positions.clear();
        joints.velocities.clear();
        if self.task.write_joints(&self.physics, joints) {
            return;
        }
        for joint in &self.joints {
            let (position, velocity) = joint.read(data);
            joints.positions.push(position);
            joints.velocities.push(velocity);
        }
    }

    fn control_step(&mut self, action: &[f64]) -> Transition {
        let before = self.physics.warning_counts();
        self.task.before_step(&mut self.physics, action);
        self.task.advance(&mut self.physics, self.num_substeps);
        self.task.after_step(&mut self.physics, action);
        self.num_control_steps += 1;
        self.observe();
        match self.physics.new_warning(&before) {
            Some(warning) => cut_off(warning),
            None => self.transition(),
        }
    }

    fn check_action(&self, action: &[f64]) -> Result<(), SimError> {
        let task = || self.spec.name.clone();
        let expected = self.spec.actions.len();
        if action.len() != expected {
            return Err(SimError::ActionLength { task: task(), expected, found: action.len() });
        }
        if let Some((index, &value)) = action.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(SimError::ActionNotFinite { task: task(), index, value });
        }
        if !self.has_episode {
            return Err(SimError::NoEpisode { task: task() });
        }
        Ok(())
    }

    fn observe(&mut self) {
        self.task.observe(&self.physics, &mut ObservationWriter::new(&mut self.observation, None));
    }

    fn transition(&self) -> Transition {
        let reward = self.task.reward(&self.physics);
        if !reward.is_finite() || self.observation.iter().any(|value| !value.is_finite()) {
            return cut_off(PhysicsWarning::NotFinite);
        }
        let truncated = f64::from(self.num_control_steps) >= self.step_limit;
        let discount = if truncated { None } else { self.task.termination(&self.physics) };
        Transition {
            reward,
            discount: discount.unwrap_or(1.0),
            terminated: discount.is_some(),
            truncated,
            success: self.success(),
            warning: None,
        }
    }
}

/// The end of an episode whose state means nothing.
fn cut_off(warning: PhysicsWarning) -> Transition {
    Transition {
        reward: 0.0,
        discount: 1.0,
        terminated: false,
        truncated: true,
        success: false,
        warning: Some(warning),
    }
}

pub(crate) fn names(physics: &Physics, kind: MjtObjBase, number: usize) -> Vec<String> {
    (0..number).map(|id| physics.model().id_to_name(kind, id).map_or_else(|| id.to_string(), str::to_string)).collect()
}
