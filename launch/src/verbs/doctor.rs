//! `foresee doctor`: what this machine has and lacks, where it was found, and how to mend each lack.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::places;

/// Arguments of `foresee doctor`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// One part of the machine.
#[derive(Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// Version where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Where it was found, or what was said when it was not.
    detail: String,
    /// The exact mend of a lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// There, and tried.
    Works,
    /// Not there; the demo needs it.
    Lacks,
    /// Not there; only some robots have it.
    Optional,
    /// Left out of this build.
    NotBuilt,
}

/// Looks, prints, and gives exit code 1 when something that the demo needs is lacking.
///
/// # Errors
/// When the result cannot be printed.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut findings = Vec::new();
    findings.extend(simulator());
    findings.extend(engines());
    findings.push(opencv());
    findings.push(zenoh());
    print(arguments.json, &findings)?;
    let lacks = findings.iter().any(|finding| finding.state == State::Lacks);
    Ok(ExitCode::from(u8::from(lacks)))
}

fn works(name: &'static str, version: Option<String>, detail: String) -> Finding {
    Finding { name, state: State::Works, version, detail, fix: None }
}

fn simulator() -> Vec<Finding> {
    Vec::new()
}

fn engines() -> Vec<Finding> {
    let _ = places::onnxruntime(None);
    Vec::new()
}

#[cfg(feature = "camera")]
fn opencv() -> Finding {
    Finding { name: "opencv", state: State::Lacks, version: None, detail: String::new(), fix: None }
}

#[cfg(not(feature = "camera"))]
fn opencv() -> Finding {
    Finding {
        name: "OpenCV",
        state: State::NotBuilt,
        version: None,
        detail: "cameras and video files; the demo does not need it".to_owned(),
        fix: Some("./launch/setup full && cargo build --release --workspace".to_owned()),
    }
}

fn zenoh() -> Finding {
    works("zenoh", None, String::new())
}

#[expect(clippy::print_stdout, reason = "a verb's result goes to standard output")]
fn print(json: bool, findings: &[Finding]) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(findings)?);
        return Ok(());
    }
    for finding in findings {
        let mark = match finding.state {
            State::Works => "works    ",
            State::Lacks => "LACKS    ",
            State::Optional => "optional ",
            State::NotBuilt => "not built",
        };
        let version = finding.version.as_deref().unwrap_or_default();
        println!("{mark}  {:<16} {version:<14} {}", finding.name, finding.detail);
        if let Some(fix) = &finding.fix {
            println!("{:>11}{:<16} -> {fix}", "", "");
        }
    }
    Ok(())
}
