//! `foresee faults`: each fault provoked on purpose in a loop of this machine, and what the joints were told meanwhile.

use std::process::ExitCode;

use clap::Args;
use foresee_runtime::run_faults;
use serde_json::json;

use crate::process_faults::run_process_faults;
use crate::words::print;
use crate::{places, stop};

/// Arguments of `foresee faults`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Robot: its joints and their limits.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Only the rows inside one process: about two seconds; the others start `foresee run` and do things to it.
    #[arg(long)]
    in_process: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a row does not pass.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let mut rows = run_faults(&foresee_firmware_config::load(&arguments.profile)?)?;
    if !arguments.in_process {
        let folder = places::scratch_folder("faults")?;
        let processes = run_process_faults(&folder, &stop);
        // Left behind it would do no harm.
        drop(std::fs::remove_dir_all(&folder));
        rows.extend(processes?);
    }
    if arguments.json {
        print(&serde_json::to_string_pretty(&json!({ "faults": rows }))?);
    } else {
        print(&format!(
            "{:<8} {:<34} {:>8} {:>8} {:>10} {:>7}",
            "", "fault", "detected", "safe ms", "recovered", "unsafe"
        ));
        let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        for row in &rows {
            let mark = if row.passed { "passes" } else { "FAILS" };
            let times = (millis(row.detected_millis), millis(row.safe_action_millis), millis(row.recovered_millis));
            print(&format!(
                "{mark:<8} {:<34} {:>8} {:>8} {:>10} {:>7}",
                row.name, times.0, times.1, times.2, row.unsafe_commands
            ));
        }
    }
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| !row.passed))))
}
