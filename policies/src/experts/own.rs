//! The expert that a task brings itself, such as each of Meta-World's.

use foresee_sim::Environment;

use crate::actor::{StateActor, finite_range};
use crate::error::PoliciesError;

/// Does what [`Environment::expert_action`] says, clipped to the actions' ranges.
pub(super) struct TaskExpert;

impl StateActor for TaskExpert {
    fn reset(&mut self, _seed: u64) {}

    fn act(&mut self, environment: &Environment, action: &mut [f64]) -> Result<(), PoliciesError> {
        let spec = environment.spec();
        let wanted = environment.expert_action().ok_or_else(|| PoliciesError::NoExpert {
            task: spec.name.clone(),
            known: "those that bring their own".to_owned(),
        })?;
        for ((value, wanted), spec) in action.iter_mut().zip(wanted).zip(&spec.actions) {
            let (minimum, maximum) = finite_range(spec.minimum, spec.maximum);
            *value = wanted.clamp(minimum, maximum);
        }
        Ok(())
    }
}
