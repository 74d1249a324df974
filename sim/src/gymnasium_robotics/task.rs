//! What Adroit and kitchen tasks do alike.

use crate::error::SimError;
use crate::physics::Physics;
use crate::random::RandomState;
use crate::recorded::{EpisodeStart, RecordedRow, RecordedStates, other_suite};
use crate::task::{ActionSpec, ObservationWriter, Task};

/// The rules of one task.
pub(super) trait Rules: Send {
    /// Moves in the model what an episode moves.
    fn randomise(&mut self, physics: &mut Physics, random: &mut RandomState);

    /// Notes what an episode begins with, poses up to date.
    fn begin(&mut self, _physics: &mut Physics) {}

    /// Controls for an action in [-1, 1].
    fn control(&self, physics: &Physics, action: &[f64], control: &mut [f64]) {
        for ((control, action), [low, high]) in control.iter_mut().zip(action).zip(physics.model().actuator_ctrlrange())
        {
            *control = (low + high) / 2.0 + action.clamp(-1.0, 1.0) * (0.5 * (high - low));
        }
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>);

    /// Reward and success of the state that a step led to.
    fn evaluate(&mut self, physics: &Physics) -> Outcome;

    /// Whether the task is over.
    fn is_over(&self) -> bool {
        false
    }
}

/// What a task says of a state.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) reward: f64,
    pub(super) success: bool,
}

/// A task over its rules.
pub(super) struct StatePutTask<R> {
    rules: R,
    control: Vec<f64>,
    outcome: Outcome,
}

impl<R: Rules> StatePutTask<R> {
    pub(super) fn new(rules: R) -> Self {
        Self { rules, control: Vec::new(), outcome: Outcome::default() }
    }
}

impl<R: Rules> Task for StatePutTask<R> {
    fn initialise_episode(&mut self, physics: &mut Physics, random: &mut RandomState) -> Result<(), SimError> {
        self.rules.randomise(physics, random);
        physics.forward();
        self.rules.begin(physics);
        self.outcome = Outcome::default();
        Ok(())
    }

    fn actions(&self, physics: &Physics) -> Option<Vec<ActionSpec>> {
        let mut actions = crate::actuators::action_specs(physics);
        // They are shares of each actuator's range.
        for action in &mut actions {
            *action = ActionSpec::share(std::mem::take(&mut action.name), [-1.0, 1.0]);
        }
        Some(actions)
    }

    fn before_step(&mut self, physics: &mut Physics, action: &[f64]) {
        self.control.resize(action.len(), 0.0);
        self.rules.control(physics, action, &mut self.control);
        physics.set_control(&self.control);
    }

    fn advance(&self, physics: &mut Physics, num_steps: u32) {
        physics.whole_steps(num_steps);
    }

    fn after_step(&mut self, physics: &mut Physics, _action: &[f64]) {
        self.outcome = self.rules.evaluate(physics);
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        self.rules.observe(physics, observation);
    }

    fn reward(&self, _physics: &Physics) -> f64 {
        self.outcome.reward
    }

    fn termination(&self, _physics: &Physics) -> Option<f64> {
        self.rules.is_over().then_some(0.0)
    }

    fn success(&self, _physics: &Physics) -> bool {
        self.outcome.success
    }

    fn recorded_states(&mut self) -> Option<&mut dyn RecordedStates> {
        Some(self)
    }
}

impl<R: Rules> RecordedStates for StatePutTask<R> {
    fn begin(
        &mut self,
        physics: &mut Physics,
        start: &EpisodeStart,
        (row, _): (RecordedRow<'_>, &[f64]),
    ) -> Result<(), SimError> {
        let EpisodeStart::Model { body_positions, body_quaternions, site_positions } = start else {
            return Err(other_suite("gymnasium-robotics"));
        };
        physics.place_model(body_positions, body_quaternions, site_positions)?;
        physics.set_state(row.qpos, row.qvel)?;
        self.rules.begin(physics);
        self.outcome = Outcome::default();
        Ok(())
    }

    fn put(&mut self, physics: &mut Physics, row: RecordedRow<'_>, _action: &[f64]) -> Result<(), SimError> {
        physics.set_state_after_step(row.qpos, row.qvel)?;
        self.outcome = self.rules.evaluate(physics);
        Ok(())
    }

    fn compares_first(&self) -> bool {
        true
    }
}
