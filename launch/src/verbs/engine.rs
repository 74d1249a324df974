//! `foresee engine`: engines built ahead of time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use foresee_runtime::open_encoder;

use crate::models::{EngineArguments, describe};
use crate::words::{print, say};

/// How often a build says that it goes on: TensorRT itself tells nothing.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Arguments of `foresee engine`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Build TensorRT's engine of an encoder into the cache and prove it, so that `foresee run` starts at once.
    Build(Build),
}

#[derive(Args)]
struct Build {
    /// An encoder with its card beside it
    model: PathBuf,
    /// Device profile, for providers and threads: a built-in name or a TOML file.
    #[arg(long, default_value = "jetson-orin-nano", value_name = "NAME|FILE")]
    profile: String,
    #[command(flatten)]
    engine: EngineArguments,
}

/// Builds.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let What::Build(build) = &arguments.what;
    let profile = foresee_firmware_config::load(&build.profile)?;
    let options = build.engine.options(&profile)?;
    let started = Instant::now();
    let (done, waiting) = channel::<()>();
    let opened = std::thread::scope(|scope| {
        scope.spawn(move || {
            while waiting.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                say(&format!("building for {} s; this may take ten minutes", started.elapsed().as_secs()));
            }
        });
        let opened = open_encoder(&build.model, &options);
        drop(done);
        opened
    })?;
    print(&format!("{}: {}", build.model.display(), describe(opened.report())));
    Ok(ExitCode::SUCCESS)
}
