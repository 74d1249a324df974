//! How a task is played where that is not the task's own way.

use std::sync::Arc;

use crate::error::SimError;
use crate::randomisation::Randomisation;

/// How a task is played where that is not the task's own way.
#[derive(Clone, Debug, PartialEq)]
pub struct EnvironmentOptions {
    /// Control steps that an action is held for; their rewards add up, and the episode's end cuts them short. At least 1.
    pub action_repeat: u32,
    /// Simulated seconds after which an episode is cut off, instead of the task's own.
    pub time_limit_seconds: Option<f64>,
    /// Ranges that each episode draws its model, its latency and its camera's faults from.
    pub randomisation: Option<Arc<Randomisation>>,
}

impl Default for EnvironmentOptions {
    fn default() -> Self {
        Self { action_repeat: 1, time_limit_seconds: None, randomisation: None }
    }
}

impl EnvironmentOptions {
    pub(super) fn check(self) -> Result<Self, SimError> {
        if self.action_repeat == 0 {
            return Err(SimError::Option { name: "action_repeat", value: "0".to_string(), allowed: "at least 1" });
        }
        if let Some(seconds) = self.time_limit_seconds.filter(|seconds| !(seconds.is_finite() && *seconds > 0.0)) {
            let value = seconds.to_string();
            return Err(SimError::Option { name: "time_limit_seconds", value, allowed: "above 0 and finite" });
        }
        Ok(self)
    }
}

/// Who begins the next episode after the last step of one: Gymnasium's `AutoresetMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Autoreset {
    /// The caller resets; a step before that is an error.
    Disabled,
    /// The next step: it ignores its action and gives the new episode's first observation with reward 0.
    NextStep,
}
