//! Scripted experts: one file an expert, one line a task in [`EXPERTS`].

mod own;
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

/// Every expert that is written here; a task that brings its own ([`Environment::expert_action`], all of Meta-World) needs no line.
pub const EXPERTS: &[ExpertEntry] = &[
    ExpertEntry { task: "dmc/reacher-easy", make: reacher::expert },
    ExpertEntry { task: "dmc/reacher-hard", make: reacher::expert },
];

/// The expert for the environment's task.
///
/// # Errors
/// [`PoliciesError::NoExpert`] names the task and those that have one.
pub fn expert_for(environment: &Environment) -> Result<Box<dyn StateActor>, PoliciesError> {
    if environment.expert_action().is_some() {
        return Ok(Box::new(own::TaskExpert));
    }
    let task = &environment.spec().name;
    let entry = EXPERTS.iter().find(|entry| entry.task == task.as_str()).ok_or_else(|| PoliciesError::NoExpert {
        task: task.to_string(),
        known: format!(
            "{}, metaworld/*, table/*",
            EXPERTS.iter().map(|entry| entry.task).collect::<Vec<_>>().join(", ")
        ),
    })?;
    (entry.make)(environment)
}
