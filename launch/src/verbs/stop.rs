//! `foresee stop`: the operator's word to a running loop, over zenoh.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use foresee_firmware_config::{ZenohMode, ZenohProfile};
use foresee_runtime::ZenohLink;

use crate::words::print;

/// Arguments of `foresee stop`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Robot: a built-in profile or a TOML file; gives the robot's name and where its loop listens.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Where the loop (or a router that it is connected to) listens, such as tcp/127.0.0.1:7448 [default: the profile's zenoh.listen]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Do not stop: clear a latched fault, so that the loop goes on.
    #[arg(long)]
    clear_fault: bool,
    /// How long to look for the loop.
    #[arg(long, default_value_t = 5.0, value_name = "S", allow_negative_numbers = true)]
    timeout_seconds: f64,
}

/// Says it once and ends; exit code 1 when no loop listened.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let profile = foresee_firmware_config::load(&arguments.profile)?;
    // A client's loop is met at the router.
    let usual = match profile.zenoh.mode {
        ZenohMode::Peer => &profile.zenoh.listen,
        ZenohMode::Client => &profile.zenoh.connect,
    };
    let connect = arguments.endpoint.clone().map_or_else(|| usual.clone(), |endpoint| vec![endpoint]);
    if connect.is_empty() {
        bail!(
            "profile {}: zenoh.listen is empty, so nobody can reach its loop; give --endpoint, and run the loop with --listen",
            profile.name
        );
    }
    let Some(timeout) = Duration::try_from_secs_f64(arguments.timeout_seconds).ok() else {
        bail!("--timeout-seconds {}: give a number of seconds, 0 or more", arguments.timeout_seconds);
    };
    let zenoh = ZenohProfile { listen: Vec::new(), connect, ..profile.zenoh.clone() };
    let link = ZenohLink::open(&profile.robot, &zenoh)?;
    let word = if arguments.clear_fault { "clear_fault" } else { "stop" };
    let is_heard = link.say(word, timeout)?;
    link.close()?;
    let endpoints = zenoh.connect.join(", ");
    print(&match is_heard {
        true => format!("{word}: said to foresee/{}", profile.robot),
        false => format!("{word}: no loop of robot `{}` listened on {endpoints}", profile.robot),
    });
    Ok(ExitCode::from(u8::from(!is_heard)))
}
