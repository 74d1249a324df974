//! `foresee bench sim`: environment steps with observation and reward against raw `mj_step` of the same model.

use std::process::ExitCode;

use clap::Args;
use foresee_sim::{
    CameraOptions, Quality, SteppingMode, SteppingOptions, VectorOptions, measure_rendering, measure_stepping,
};
use serde_json::json;

use crate::places;
use crate::words::print;

/// Arguments of `foresee bench sim`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Tasks to step alone; may be given more than once.
    #[arg(long, value_name = "TASK", default_values = ["dmc/walker-walk", "dmc/cheetah-run", "metaworld/assembly", "kitchen/all"])]
    task: Vec<String>,
    /// Environments of the vector modes (on dmc/walker-walk, 2 threads).
    #[arg(long, default_value_t = 8, value_name = "N")]
    environments: usize,
    /// Rounds of a quarter of a second for raw and environment alike.
    #[arg(long, default_value_t = 20, value_name = "N")]
    rounds: u32,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let native = places::native();
    let mut stepping = Vec::new();
    let size = VectorOptions { num_environments: arguments.environments, num_threads: 2 };
    let alone = arguments.task.iter().map(|task| (task.as_str(), SteppingMode::Single));
    let vector = [("dmc/walker-walk", SteppingMode::Lockstep), ("dmc/walker-walk", SteppingMode::Asynchronous)];
    for (task, mode) in alone.chain(vector) {
        let figure = measure_stepping(task, &native, SteppingOptions { mode, size, num_rounds: arguments.rounds })?;
        if !arguments.json {
            let numbers = (figure.steps_per_cpu_second, figure.ratio_to_raw_cpu, figure.ratio_to_raw_wall);
            let setting = format!("{:?}, {} on {} threads", figure.mode, figure.environments, figure.threads);
            print(&format!(
                "{task:<24} {setting:<32} {:>9.0} steps/CPU s  {:.3} of raw (wall {:.3})",
                numbers.0, numbers.1, numbers.2
            ));
        }
        stepping.push(figure);
    }
    let mut rendering = Vec::new();
    for pixels in [84, 128, 224] {
        for quality in [Quality::Fast, Quality::Reference] {
            let options = CameraOptions { name: "side".to_owned(), width: pixels, height: pixels, quality };
            let figure = measure_rendering("dmc/walker-walk", &native, &options, 30)?;
            if !arguments.json {
                print(&format!("rendering {pixels} pixels, {quality:?}: {}", serde_json::to_string(&figure)?));
            }
            rendering.push(figure);
        }
    }
    if arguments.json {
        let json = json!({ "stepping": stepping, "peers": [], "rendering": rendering });
        print(&serde_json::to_string_pretty(&json)?);
    }
    Ok(ExitCode::SUCCESS)
}
