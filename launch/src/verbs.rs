//! The verbs: one file a verb, one line in the list.

mod doctor;
mod run;
#[cfg(feature = "sim")]
mod sim;

use std::process::ExitCode;

use clap::Subcommand;

/// What `foresee` can do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Say what this machine has and lacks, and how to mend each lack.
    Doctor(doctor::Arguments),
    /// Be a simulated robot: publish camera and joints over zenoh, obey joint commands.
    #[cfg(feature = "sim")]
    Sim(sim::Arguments),
    /// Run the control loop: camera -> encoder -> policy -> safety filter -> actuators.
    Run(run::Arguments),
}

impl Verb {
    /// Does it. An error is one line and exit code 2.
    pub(crate) fn act(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Doctor(arguments) => doctor::act(&arguments),
            #[cfg(feature = "sim")]
            Self::Sim(arguments) => sim::act(&arguments),
            Self::Run(arguments) => run::act(&arguments),
        }
    }
}
