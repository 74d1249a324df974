//! Recorded states of a Python original that ran on another MuJoCo: they are put one by one, not replayed.

use crate::error::SimError;
use crate::physics::Physics;

/// What a recorded episode began with.
#[derive(Clone, Debug, PartialEq)]
pub enum EpisodeStart {
    /// A Meta-World layout, and what the original derived from it.
    Layout {
        /// What the layout was drawn as.
        layout: Vec<f64>,
        /// Where the goal is.
        target: [f64; 3],
        /// Where the object was.
        object_start: [f64; 3],
        /// Where the middle between the fingers was.
        start: [f64; 3],
    },
    /// What a reset moved in the model, whole arrays.
    Model {
        /// Places of bodies in their parents.
        body_positions: Vec<[f64; 3]>,
        /// Rotations of bodies in their parents, w first.
        body_quaternions: Vec<[f64; 4]>,
        /// Places of sites in their bodies.
        site_positions: Vec<[f64; 3]>,
    },
}

/// A recorded state.
#[derive(Clone, Copy, Debug)]
pub struct RecordedRow<'a> {
    /// Generalised positions.
    pub qpos: &'a [f64],
    /// Generalised velocities.
    pub qvel: &'a [f64],
    /// Where the hand's handle is, in scenes that have one.
    pub mocap: Option<[f64; 3]>,
}

/// A task that can be asked for observation, reward, success and expert action of recorded states.
pub trait RecordedStates {
    /// Lays the scene out as recorded and puts its first state.
    ///
    /// # Errors
    /// [`SimError::BufferSize`]; [`SimError::Reset`] when the recording is of another suite.
    fn begin(
        &mut self,
        physics: &mut Physics,
        start: &EpisodeStart,
        first: (RecordedRow<'_>, &[f64]),
    ) -> Result<(), SimError>;

    /// Puts a state that an action led to, and makes its observation and reward.
    ///
    /// # Errors
    /// [`SimError::BufferSize`].
    fn put(&mut self, physics: &mut Physics, row: RecordedRow<'_>, action: &[f64]) -> Result<(), SimError>;

    /// Whether the first observation is a function of the first state.
    fn compares_first(&self) -> bool;

    /// What the original's expert adds to the object's place in every observation that it acts on.
    fn expert_shift(&self) -> [f64; 3] {
        [0.0; 3]
    }
}

/// The recording of another suite.
pub(crate) fn other_suite(task: &str) -> SimError {
    SimError::Reset { task: task.to_string(), problem: "the recorded episode is of another suite".to_string() }
}
