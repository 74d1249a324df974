//! `foresee engine`: engines built ahead of time.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use foresee_runtime::{RuntimeError, open_encoder, open_policy};

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
    /// Build TensorRT's engines of an encoder and a policy into the cache and prove them, so that `foresee run` starts at once.
    Build(Build),
}

#[derive(Args)]
struct Build {
    /// An encoder with its card beside it
    model: PathBuf,
    /// A policy for its features, with its card beside it
    #[arg(long, value_name = "FILE.onnx")]
    policy: Option<PathBuf>,
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
    let joint_names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
    let (encoder, policy) = std::thread::scope(|scope| {
        scope.spawn(move || {
            while waiting.recv_timeout(SIGN_OF_LIFE) == Err(RecvTimeoutError::Timeout) {
                say(&format!("building for {} s; this may take ten minutes", started.elapsed().as_secs()));
            }
        });
        // Moved in: the sign of life ends with it, however this ends.
        let _done = done;
        let encoder = open_encoder(&build.model, &options)?;
        let open = |path: &PathBuf| open_policy(path, encoder.card(), &joint_names, &options);
        let policy = build.policy.as_ref().map(open).transpose()?;
        Ok::<_, RuntimeError>((encoder, policy))
    })?;
    print(&format!("{}: {}", build.model.display(), describe(encoder.report())));
    for (path, policy) in build.policy.iter().zip(&policy) {
        policy.report().iter().for_each(|report| print(&format!("{}: {}", path.display(), describe(report))));
    }
    Ok(ExitCode::SUCCESS)
}
