//! Why a provider does not run a model.

use std::path::Path;

use foresee_firmware_config::Provider;

use crate::error::RuntimeError;

/// Why a provider does not run a model.
pub(super) enum Refusal {
    /// It is not there.
    Provider(String),
    /// It cannot load this model, or computes it wrongly.
    Model(String),
}

impl Refusal {
    pub(super) fn into_error(self, model: &Path, provider: Provider) -> RuntimeError {
        match self {
            Self::Provider(problem) => RuntimeError::Provider { provider: provider.name().to_owned(), problem },
            Self::Model(problem) => RuntimeError::Model { path: model.to_path_buf(), problem },
        }
    }
}
