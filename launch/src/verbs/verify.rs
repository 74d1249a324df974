//! `foresee verify`: this build against what others recorded with the originals.

mod experts;

use std::path::PathBuf;
use std::process::ExitCode;

#[cfg(feature = "train")]
use anyhow::bail;
use clap::{Args, Subcommand};

use crate::places;
use crate::words::print;

/// Arguments of `foresee verify`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Tasks: replay a folder of recorded episodes (one safetensors file a task) and compare states, observations, rewards.
    Sim(Folder),
    /// Experts: play Meta-World's scripted experts and compare their success with the originals'.
    Experts(experts::Arguments),
    /// Methods: compute a folder of golden vectors again (losses, gradients, optimiser steps, metrics).
    #[cfg(feature = "train")]
    Golden(Folder),
}

#[derive(Args)]
struct Folder {
    /// The folder.
    folder: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when something does not agree.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::Sim(folder) => sim(folder),
        What::Experts(arguments) => experts::act(arguments),
        #[cfg(feature = "train")]
        What::Golden(folder) => golden(folder),
    }
}

fn sim(folder: &Folder) -> anyhow::Result<ExitCode> {
    let mut tell = |task: &foresee_sim::TaskReport| {
        if !folder.json {
            let mark = if task.passed { "passes" } else { "DIFFERS" };
            let worst = (task.worst_state, task.worst_observation, task.worst_reward);
            let numbers = format!(
                "rows {:>6}  state {:.1e}  observation {:.1e}  reward {:.1e}",
                task.rows, worst.0, worst.1, worst.2
            );
            print(&format!("{mark:<8} {:<36} {numbers}  {}", task.task, task.reason.as_deref().unwrap_or_default()));
        }
    };
    let report = foresee_sim::verify_directory(&folder.folder, &places::native(), &mut tell)?;
    if folder.json {
        print(&serde_json::to_string_pretty(&report)?);
    }
    Ok(ExitCode::from(u8::from(report.tasks.iter().any(|task| !task.passed))))
}

#[cfg(feature = "train")]
fn golden(folder: &Folder) -> anyhow::Result<ExitCode> {
    let report = foresee_models::verify_golden(&folder.folder)?;
    if folder.json {
        print(&serde_json::to_string_pretty(&report)?);
    } else {
        for check in &report.checks {
            let mark = if check.passed { "passes" } else { "FAILS" };
            print(&format!(
                "{mark:<7} {:<56} worst {:.2e}  tolerance {:.1e}",
                check.name, check.worst, check.tolerance
            ));
        }
    }
    if !folder.json {
        for left in &report.not_compared {
            print(&format!("not compared: {}: {}", left.file, left.reason));
        }
    }
    let problems: Vec<&str> = report.checks.iter().filter_map(|check| check.problem.as_deref()).collect();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(ExitCode::from(u8::from(!report.passed())))
}
