//! `foresee bench pretrain`: training steps of a recipe on this machine.

use std::process::ExitCode;

use clap::Args;
use foresee_models::{BenchOptions, Recipe, bench_pretrain};

use crate::words::print;

/// Arguments of `foresee bench pretrain`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Recipe: a name of foresee pretrain --list, or a TOML file
    #[arg(default_value = "mae-64")]
    recipe: String,
    /// Samples a step [default: the recipe's]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Shards of a batch, each on a thread of its own.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Samples of a shard that go through the network at a time.
    #[arg(long, default_value_t = 32, value_name = "N")]
    micro_batch: usize,
    /// Steps that count.
    #[arg(long, default_value_t = 10, value_name = "N")]
    steps: u64,
}

/// Measures and prints JSON.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut recipe = Recipe::load(&arguments.recipe)?;
    if let Some(batch) = arguments.batch {
        recipe.optimiser.batch_size = batch;
    }
    let Arguments { threads, micro_batch, steps, .. } = *arguments;
    let report = bench_pretrain(&BenchOptions { recipe, threads, micro_batch, steps })?;
    print(&serde_json::to_string_pretty(&report)?);
    Ok(ExitCode::SUCCESS)
}
