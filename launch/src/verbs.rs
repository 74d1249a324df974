//! The verbs: one file a verb, one line in the list.

mod doctor;

use std::process::ExitCode;

use clap::Subcommand;

/// What `foresee` can do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Say what this machine has and lacks, and how to mend each lack.
    Doctor(doctor::Arguments),
}

impl Verb {
    /// Does it. An error is one line and exit code 2.
    pub(crate) fn act(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Doctor(arguments) => doctor::act(&arguments),
        }
    }
}
