//! From features and joint state to an action.

use crate::command::Action;
use crate::encoder::{EngineReport, Features};
use crate::error::RuntimeError;
use crate::joints::JointState;

/// Decides what to do. The caller lends the action; one value a joint, in the profile's order and units.
pub trait Policy: Send {
    /// What runs it, when that is an engine.
    fn report(&self) -> Option<&EngineReport> {
        None
    }
    /// Forgets everything: a new episode begins.
    fn reset(&mut self);
    /// `features` `[N, D]`, `[D]` and joint state -> `action` `[J]`, or a chunk `[T, J]` of actions to play from this observation on;
    /// not yet safe.
    ///
    /// # Errors
    /// [`RuntimeError::Inference`] when the engine fails or gives another shape than the card says.
    fn act(&mut self, features: &Features, joints: &JointState, action: &mut Action) -> Result<(), RuntimeError>;
}
