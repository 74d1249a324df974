//! `foresee bench`: speed as a ratio, side by side in one run: medians of interleaved rounds. One subcommand a file.

mod control_loop;
#[cfg(feature = "pretrain")]
mod graphics_card;
#[cfg(feature = "pretrain")]
mod pretraining;
mod serving;
#[cfg(feature = "sim")]
mod stepping;

use std::process::ExitCode;

use clap::{Args, Subcommand};

/// Arguments of `foresee bench`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// What the loop adds to the models alone, in one process and across two.
    Loop(control_loop::Arguments),
    /// Serving an encoder: beside the bare session, quantised, on tract, in Python; a loop of 30 Hz.
    Serve(serving::Arguments),
    /// Environment steps against raw MuJoCo steps, and rendering.
    #[cfg(feature = "sim")]
    Sim(stepping::Arguments),
    /// Training steps of a recipe.
    #[cfg(feature = "pretrain")]
    Pretrain(pretraining::Arguments),
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::Loop(arguments) => control_loop::act(arguments),
        What::Serve(arguments) => serving::act(arguments),
        #[cfg(feature = "sim")]
        What::Sim(arguments) => stepping::act(arguments),
        #[cfg(feature = "pretrain")]
        What::Pretrain(arguments) => pretraining::act(arguments),
    }
}

/// The middle value; the upper one of two.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
