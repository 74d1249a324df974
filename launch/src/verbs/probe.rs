//! `foresee probe`: what frozen features are worth, beside raw pixels and a random encoder.

mod clips;
mod methods;
mod results;
mod scores;
mod simulated;
mod table;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Arguments of `foresee probe`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Train every method at equal compute, probe them all, write the table of models/RESULTS.md.
    Results(results::Arguments),
}

/// Probes.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::Results(arguments) => results::act(arguments),
    }
}
