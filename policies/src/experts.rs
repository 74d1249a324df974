//! Scripted experts: one file an expert, one line a task in [`EXPERTS`].

mod reacher;

use foresee_sim::Environment;

use crate::actor::StateActor;
use crate::error::PoliciesError;

/// A task and who solves it.
pub struct ExpertEntry {
    /// Task name, such as `dmc/reacher-easy`.
    pub task: &'static str,
    /// Makes the expert for an environment of this task.
    pub make: fn(&Environment) -> Result<Box<dyn StateActor>, PoliciesError>,
}

/// Every expert.
pub const EXPERTS: &[ExpertEntry] = &[
    ExpertEntry { task: "dmc/reacher-easy", make: reacher::expert },
    ExpertEntry { task: "dmc/reacher-hard", make: reacher::expert },
];

/// The expert for the environment's task.
///
/// # Errors
/// [`PoliciesError::NoExpert`] names the task and those that have one.
pub fn expert_for(environment: &Environment) -> Result<Box<dyn StateActor>, PoliciesError> {
    let task = &environment.spec().name;
    let entry = EXPERTS.iter().find(|entry| entry.task == task.as_str()).ok_or_else(|| PoliciesError::NoExpert {
        task: task.to_string(),
        known: EXPERTS.iter().map(|entry| entry.task).collect::<Vec<_>>().join(", "),
    })?;
    (entry.make)(environment)
}
