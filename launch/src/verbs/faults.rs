//! `foresee faults`: each fault provoked on purpose in a loop of this machine, and what the joints were told meanwhile.

use std::process::ExitCode;

use clap::Args;
use foresee_runtime::run_faults;
use serde_json::json;

use crate::words::print;

/// Arguments of `foresee faults`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Robot: its joints and their limits.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code 1 when a row does not pass.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let rows = run_faults(&foresee_firmware_config::load(&arguments.profile)?)?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&json!({ "faults": rows }))?);
    } else {
        print(&format!("{:<8} {:<28} {:>9} {:>10} {:>7}", "", "fault", "safe ms", "recovered", "unsafe"));
        let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        for row in &rows {
            let mark = if row.passed { "passes" } else { "FAILS" };
            let times = (millis(row.safe_action_millis), millis(row.recovered_millis));
            print(&format!("{mark:<8} {:<28} {:>9} {:>10} {:>7}", row.name, times.0, times.1, row.unsafe_commands));
        }
    }
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| !row.passed))))
}
