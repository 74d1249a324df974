//! `foresee faults`: each fault provoked on purpose in a loop of this machine, and what the joints were told meanwhile.

use std::process::ExitCode;

use clap::Args;
use foresee_runtime::{FaultRow, run_faults};
use serde_json::json;

use crate::process_faults::{play, route, run_process_faults};
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
    /// Play the robot of the process rows (for the process that runs them).
    #[arg(long, hide = true)]
    play_robot: bool,
    /// Play the router of the process rows, at this endpoint.
    #[arg(long, hide = true, value_name = "ENDPOINT")]
    play_router: Option<String>,
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
    if arguments.play_robot {
        play(&foresee_firmware_config::load(&arguments.profile)?, &stop)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(endpoint) = &arguments.play_router {
        route(endpoint, &stop)?;
        return Ok(ExitCode::SUCCESS);
    }
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
        show(&rows);
    }
    let has_failed = |row: &FaultRow| !row.passed && row.skipped.is_none();
    Ok(ExitCode::from(u8::from(rows.iter().any(has_failed))))
}

fn show(rows: &[FaultRow]) {
    print(&format!(
        "{:<8} {:<41} {:>8} {:>6} {:>8} {:>6} {:>6} {:>10} {:>7}",
        "", "fault", "detected", "within", "safe ms", "within", "late", "recovered", "unsafe"
    ));
    let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    for row in rows {
        if let Some(reason) = &row.skipped {
            print(&format!("skipped  {:<41} {reason}", row.name));
            continue;
        }
        let mark = if row.passed { "passes" } else { "FAILS" };
        let times = (millis(row.detected_millis), millis(row.safe_action_millis), millis(row.recovered_millis));
        print(&format!(
            "{mark:<8} {:<41} {:>8} {:>6.0} {:>8} {:>6.0} {:>6.1} {:>10} {:>7}",
            row.name,
            times.0,
            row.detection_limit_millis,
            times.1,
            row.limit_millis,
            row.lateness_millis,
            times.2,
            row.unsafe_commands
        ));
    }
    let (passed, skipped) =
        (rows.iter().filter(|row| row.passed).count(), rows.iter().filter(|row| row.skipped.is_some()).count());
    print(&format!("{passed} of {} rows pass, {skipped} skipped", rows.len()));
}
