//! `foresee`: the command line. The only place that knows every part, reads the environment, prints, and exits.

mod verbs;

mod attendant;
#[cfg(feature = "sim")]
mod baselines;
#[cfg(feature = "pretrain")]
mod clips;
#[cfg(feature = "pretrain")]
mod compute;
#[cfg(any(feature = "sim", feature = "pretrain"))]
mod counts;
mod film;
mod filming;
mod fitness;
mod guard;
mod listener;
mod log_room;
mod machine;
#[cfg(feature = "pretrain")]
mod memory;
mod models;
#[cfg(any(feature = "train", feature = "pretrain"))]
mod output;
mod places;
mod plots;
mod process_faults;
#[cfg(any(feature = "sim", feature = "pretrain"))]
mod progress;
mod relay;
mod report;
mod result;
#[cfg(feature = "sim")]
mod simulated;
#[cfg_attr(not(feature = "sim"), expect(dead_code, reason = "a robot's build starts no simulator"))]
mod simulator;
mod sources;
mod stop;
mod systemd;
mod table;
mod traces;
#[cfg_attr(
    not(feature = "pretrain"),
    allow(dead_code, reason = "a robot's build names its command and leaves no trail of folders")
)]
mod trail;
#[cfg(feature = "pretrain")]
mod training_report;
mod words;

use std::process::ExitCode;

use clap::{Arg, ArgAction, Command, CommandFactory, FromArgMatches, Parser};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Perception that predicts: encoders learnt by stochastic frame prediction and masked autoencoding, served in a control loop.
#[derive(Parser)]
#[command(name = "foresee", version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FORESEE_GIT_REVISION"), ")"))]
struct CommandLine {
    #[command(subcommand)]
    verb: verbs::Verb,
}

/// A negative number is a value, and is told as a wrong one, not as a flag that there is not.
fn with_numbers(command: Command) -> Command {
    let takes_value = |argument: &Arg| matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let command = command.mut_args(|argument| {
        let takes_value = takes_value(&argument);
        argument.allow_negative_numbers(takes_value)
    });
    command.mut_subcommands(with_numbers)
}

fn main() -> ExitCode {
    #[cfg(feature = "camera")]
    places::quieten_decoders();
    let matches = with_numbers(CommandLine::command()).get_matches();
    let parsed = CommandLine::from_arg_matches(&matches).map_err(|error| error.exit());
    let Ok(CommandLine { verb }) = parsed;
    match verb.act() {
        Ok(code) => code,
        Err(error) => {
            // One line whatever the cause: the chain is joined, line breaks are folded.
            words::say(&format!("foresee: {}", words::joined(&error)));
            ExitCode::from(2)
        }
    }
}
