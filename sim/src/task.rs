//! What a task is: how an episode begins, what is observed, what is rewarded.

use foresee_runtime::JointState;

use crate::error::SimError;
use crate::physics::{Assets, Physics};
use crate::random::RandomState;
use crate::recorded::RecordedStates;

/// The rules of one task over one [`Physics`].
pub trait Task: Send {
    /// Makes the draws that the original makes once, when it builds the task from a seed.
    fn begin_stream(&mut self, _physics: &mut Physics, _random: &mut RandomState) {}

    /// Draws the initial state. Runs between the physics' reset and its forward pass.
    ///
    /// # Errors
    /// [`SimError`] when no valid state is found.
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError>;

    /// Turns the action into controls.
    fn before_step(&mut self, physics: &mut Physics, action: &[f64]) {
        physics.set_control(action);
    }

    /// Advances the physics by a control step.
    fn advance(&self, physics: &mut Physics, num_steps: u32) {
        physics.step(num_steps);
    }

    /// Looks at the state that an action led to, before observation and reward are asked for.
    fn after_step(&mut self, _physics: &mut Physics, _action: &[f64]) {}

    /// The actions, where they are not the actuators' controls.
    fn actions(&self, _physics: &Physics) -> Option<Vec<ActionSpec>> {
        None
    }

    /// Observes zeros where the goal was, from now on; for tasks whose observation names one.
    fn hide_goal(&mut self) {}

    /// Writes every observation, always in the same order and shapes.
    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>);

    /// The reward of the present state and control.
    fn reward(&self, physics: &Physics) -> f64;

    /// The final discount if the task itself ends the episode here.
    fn termination(&self, _physics: &Physics) -> Option<f64> {
        None
    }

    /// Whether the criterion of [`TaskSpec::success_criterion`] holds now.
    fn success(&self, _physics: &Physics) -> bool {
        false
    }

    /// What the task's scripted expert does in the state last observed, where it has one.
    fn expert(&self, _physics: &Physics) -> Option<Vec<f64>> {
        None
    }

    /// Appends positions and velocities to an emptied joint state and returns true, where these are not the actuators'.
    fn write_joints(&self, _physics: &Physics, _joints: &mut JointState) -> bool {
        false
    }

    /// Access for the comparison with recorded states, where the original cannot be replayed step by step.
    #[doc(hidden)]
    fn recorded_states(&mut self) -> Option<&mut dyn RecordedStates> {
        None
    }
}

/// What a task's constructor gives.
pub struct TaskParts {
    /// The world.
    pub physics: Physics,
    /// The rules.
    pub task: Box<dyn Task>,
    /// Simulated seconds after which an episode is cut off.
    pub time_limit_seconds: f64,
    /// Seconds between actions; `None`: one physics step.
    pub control_timestep_seconds: Option<f64>,
    /// What [`Task::success`] means, where the task has a success.
    pub success_criterion: Option<&'static str>,
}

/// One line of the list of tasks.
#[derive(Clone, Copy)]
pub struct TaskEntry {
    /// Such as `dmc/reacher-easy`.
    pub name: &'static str,
    /// Builds it from its assets.
    pub make: fn(Assets<'_>) -> Result<TaskParts, SimError>,
}

impl std::fmt::Debug for TaskEntry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("TaskEntry").field(&self.name).finish()
    }
}

impl TaskEntry {
    /// Whose assets the task uses, and under which licence.
    pub fn licence(&self) -> &'static str {
        match self.name.split('/').next() {
            Some("dmc") => "dm_control suite, Apache-2.0",
            Some("adroit" | "kitchen") => "gymnasium-robotics, Apache-2.0 and MIT",
            Some("metaworld") => "Meta-World, MIT",
            Some("table") => "ours, Apache-2.0",
            _ => "see the package of the assets",
        }
    }
}

/// What users need to know of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskSpec {
    /// Such as `dmc/reacher-easy`.
    pub name: String,
    /// What [`crate::Environment::observation`] holds, in order.
    pub observations: Vec<ObservationSpec>,
    /// One a actuator, in order.
    pub actions: Vec<ActionSpec>,
    /// Simulated seconds between actions.
    pub control_timestep_seconds: f64,
    /// Physics steps an action.
    pub num_substeps: u32,
    /// Actions after which an episode is cut off; the largest number for a task without a time limit.
    pub max_steps: u32,
    /// The camera where none is named: the first of the model, `free` where it has none; of the Kitchen its benchmark's own.
    pub camera: String,
    /// Every camera of the model, in order.
    pub cameras: Vec<String>,
    /// What [`crate::Transition::success`] means; `None`: the task has no success, and it is always false.
    pub success_criterion: Option<&'static str>,
}

impl TaskSpec {
    /// Values of an observation.
    pub fn num_observations(&self) -> usize {
        self.observations.iter().map(ObservationSpec::num_values).sum()
    }

    /// Whether nothing but the task itself, if that, ends an episode (LQR).
    pub fn is_endless(&self) -> bool {
        self.max_steps == u32::MAX
    }
}

/// One named part of an observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservationSpec {
    /// As dm_control calls it.
    pub name: String,
    /// Empty for a single value.
    pub shape: Vec<usize>,
    /// SI, such as `m/s`; `1` for numbers without a unit; several where the part mixes them. `None`: a task outside the list
    /// that does not say.
    pub unit: Option<&'static str>,
}

impl ObservationSpec {
    /// Values of this part.
    pub fn num_values(&self) -> usize {
        self.shape.iter().product()
    }
}

/// One actuator.
#[derive(Clone, Debug, PartialEq)]
pub struct ActionSpec {
    /// As the model calls it.
    pub name: String,
    /// Lowest useful control; minus infinity where the actuator has no limit.
    pub minimum: f64,
    /// Highest useful control.
    pub maximum: f64,
    /// What it sets, SI: a force, a torque, a position, a velocity, or `1` for a number without a unit.
    pub unit: &'static str,
    /// How much of the unit a control of 1 sets, beyond the offset.
    pub scale: f64,
    /// How much of the unit a control of 0 sets.
    pub offset: f64,
    /// What kind of thing it sets.
    pub quantity: Quantity,
    /// The lowest and highest that the actuator can set, in its unit: by its control range and force range, and by its
    /// joint's limits. Infinite where nothing limits it.
    pub reach: [f64; 2],
}

impl ActionSpec {
    /// A number without a unit, from the lowest to the highest.
    pub(crate) fn share(name: String, [minimum, maximum]: [f64; 2]) -> Self {
        let (quantity, reach) = (Quantity::Share, [minimum, maximum]);
        Self { name, minimum, maximum, unit: "1", scale: 1.0, offset: 0.0, quantity, reach }
    }
}

/// What a control sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// A position or length to hold: rad or m.
    Position,
    /// A velocity to hold: rad/s or m/s.
    Velocity,
    /// A force or torque: N or N m.
    Force,
    /// A number without a command unit: an activation, a share of a range, a step.
    Share,
    /// What a plugin or user code makes of it; its unit is not known.
    Unknown,
}

/// Takes the parts of an observation one after the other.
#[derive(Debug)]
pub struct ObservationWriter<'a> {
    values: &'a mut Vec<f64>,
    specs: Option<&'a mut Vec<ObservationSpec>>,
}

impl<'a> ObservationWriter<'a> {
    /// Writes into `values`, which is emptied first; names and shapes go into `specs` where they are wanted.
    pub(crate) fn new(values: &'a mut Vec<f64>, specs: Option<&'a mut Vec<ObservationSpec>>) -> Self {
        values.clear();
        Self { values, specs }
    }

    /// A single value, shape `[]`.
    pub fn scalar(&mut self, name: &str, value: f64) {
        self.shaped(name, &[], [value]);
    }

    /// A vector, shape `[n]`.
    pub fn vector(&mut self, name: &str, values: &[f64]) {
        self.values.extend_from_slice(values);
        self.describe(name, &[values.len()]);
    }

    /// Values in any shape, row major.
    pub fn shaped(&mut self, name: &str, shape: &[usize], values: impl IntoIterator<Item = f64>) {
        self.values.extend(values);
        self.describe(name, shape);
    }

    /// A vector whose length follows from the values.
    pub fn collected(&mut self, name: &str, values: impl IntoIterator<Item = f64>) {
        let before = self.values.len();
        self.values.extend(values);
        self.describe(name, &[self.values.len() - before]);
    }

    fn describe(&mut self, name: &str, shape: &[usize]) {
        if let Some(specs) = &mut self.specs {
            specs.push(ObservationSpec { name: name.to_string(), shape: shape.to_vec(), unit: None });
        }
    }
}
