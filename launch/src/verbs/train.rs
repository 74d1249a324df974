//! `foresee train`: policies. One subcommand a method.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use foresee_policies::{
    BcOptions, DataReport, DemonstrationOptions, PositionEncoding, Progress, Watch, fit_policy, load_demonstrations,
};
use foresee_runtime::Encoder;

use crate::counts::check_counts;
use crate::memory::keep_pages;
use crate::models::EncoderArguments;
use crate::progress::bar;
use crate::words::{print, say};
use crate::{stop, trail};

/// Limits of what can be asked for.
const MOST_EPOCHS: usize = 100_000;
const MOST_TOKEN_WIDTH: usize = 1024;
const MOST_GIB: usize = 1 << 20;
const MOST_MATCH_MILLIS: f64 = 60_000.0;
/// Lines about the data that are shown.
const MOST_LINES: usize = 40;

/// Arguments of `foresee train`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    method: Method,
}

#[derive(Subcommand)]
enum Method {
    /// Behaviour cloning: a small head on frozen features and joint state.
    Bc(BcArguments),
}

#[derive(Args)]
struct BcArguments {
    /// Demonstrations: logs, or folders with logs at or below them, rosbag2 folders too (see foresee record); may be given more than once.
    #[arg(long, value_name = "DIR|FILE", required = true)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArguments,
    /// Robot: its joints and their ranges.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Folder for policy.safetensors.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the demonstrations.
    #[arg(long, default_value_t = 20, value_name = "N")]
    epochs: usize,
    /// What each token is mapped to before the perceptron.
    #[arg(long, default_value_t = 8, value_name = "N")]
    token_width: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3, value_name = "RATE")]
    learning_rate: f64,
    /// Decoupled weight decay.
    #[arg(long, default_value_t = 1e-4, value_name = "DECAY")]
    weight_decay: f32,
    /// Joint positions as they are (slides) instead of their sine and cosine (hinges).
    #[arg(long)]
    linear_positions: bool,
    /// Seed of initial weights, validation split and order.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Most memory for features, in GiB.
    #[arg(long, default_value_t = 8, value_name = "GIB")]
    memory_gib: usize,
    /// A joint state or command belongs to a frame if it is at most so many milliseconds away [default: half the profile's period]
    #[arg(long, value_name = "MILLIS")]
    match_millis: Option<f64>,
    /// Train on logs of which more than 5 % of a joint's commands or positions lie out of its range; commands are clamped.
    #[arg(long)]
    allow_out_of_range: bool,
    /// Topic of the logs to read, where several could be meant; CAMERA=TOPIC for a camera beside the first. May be given more than once.
    #[arg(long, value_name = "[CAMERA=]TOPIC")]
    topic: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Trains until the epochs are done, or Ctrl-C (which keeps the best weights so far).
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    keep_pages();
    match &arguments.method {
        Method::Bc(arguments) => act_bc(arguments),
    }
}

/// What is reported of the demonstrations before training, at most [`MOST_LINES`] lines of it.
fn show(report: &DataReport) {
    let lines = report.lines();
    lines.iter().take(MOST_LINES).for_each(|line| say(&format!("data: {line}")));
    if lines.len() > MOST_LINES {
        say(&format!("data: {} more lines; --json lists all", lines.len() - MOST_LINES));
    }
}

fn match_tolerance(arguments: &BcArguments) -> anyhow::Result<Option<Duration>> {
    let Some(millis) = arguments.match_millis else { return Ok(None) };
    if !(0.0..=MOST_MATCH_MILLIS).contains(&millis) {
        bail!("--match-millis {millis}: give 0 to {MOST_MATCH_MILLIS}");
    }
    Ok(Some(Duration::from_secs_f64(millis * 1e-3)))
}

fn act_bc(arguments: &BcArguments) -> anyhow::Result<ExitCode> {
    check_counts(&[
        ("--epochs", arguments.epochs, MOST_EPOCHS),
        ("--token-width", arguments.token_width, MOST_TOKEN_WIDTH),
        ("--memory-gib", arguments.memory_gib, MOST_GIB),
    ])?;
    if arguments.out.exists() && !arguments.out.is_dir() {
        bail!("--out {}: is a file; name a folder", arguments.out.display());
    }
    let stop = stop::flag()?;
    let profile = foresee_firmware_config::load(&arguments.profile)?;
    let demonstrations = DemonstrationOptions {
        max_bytes: arguments.memory_gib << 30,
        topics: arguments.topic.clone(),
        match_tolerance: match_tolerance(arguments)?,
        allow_out_of_range: arguments.allow_out_of_range,
        ..DemonstrationOptions::new(arguments.data.clone(), profile.clone())
    };
    let num_encoders = std::thread::available_parallelism().map_or(1, usize::from);
    let encoders = (0..num_encoders)
        .map(|_| arguments.encoder.open(&profile))
        .collect::<anyhow::Result<Vec<Box<dyn Encoder>>>>()?;
    let encode_bar = bar(0);
    let mut data = DataReport::default();
    let mut observe = |progress| match progress {
        Progress::Inspected(report) => {
            encode_bar.suspend(|| show(&report));
            data = *report;
        }
        Progress::Encoded { num_logs, num_logs_total, num_frames } => {
            encode_bar.set_length(num_logs_total as u64);
            encode_bar.set_position(num_logs as u64);
            encode_bar.set_message(format!("{num_frames} frames encoded"));
        }
        _ => {}
    };
    let samples = load_demonstrations(&demonstrations, encoders, &mut Watch { observe: &mut observe, stop: &stop })?;
    encode_bar.finish_and_clear();
    say(&format!("{} samples of {} episodes", samples.len(), samples.num_episodes()));
    let options = BcOptions {
        token_width: arguments.token_width,
        position_encoding: if arguments.linear_positions { PositionEncoding::Linear } else { PositionEncoding::Angle },
        num_epochs: arguments.epochs,
        learning_rate: arguments.learning_rate,
        weight_decay: arguments.weight_decay,
        seed: arguments.seed,
        ..BcOptions::default()
    };
    let epoch_bar = bar(arguments.epochs as u64);
    let mut observe = |progress| {
        if let Progress::Epoch(epoch) = progress {
            epoch_bar.set_position(epoch.epoch as u64);
            let line = format!(
                "epoch {:>3}  train {:.5}  validation {:.5}",
                epoch.epoch, epoch.train_loss, epoch.validation_loss
            );
            if epoch_bar.is_hidden() { say(&line) } else { epoch_bar.println(line) }
        }
    };
    let checkpoint = fit_policy(&samples, &options, &mut Watch { observe: &mut observe, stop: &stop })?;
    epoch_bar.finish_and_clear();
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("--out {}: cannot be made", arguments.out.display()))?;
    let path = arguments.out.join("policy.safetensors");
    checkpoint.save(&path)?;
    trail::leave(&arguments.out, arguments.data.iter().map(PathBuf::as_path))?;
    if arguments.json {
        let json = serde_json::json!({ "checkpoint": path, "samples": samples.len(), "epochs": checkpoint.epochs(), "data": data });
        print(&serde_json::to_string_pretty(&json)?);
    } else {
        print(&path.display().to_string());
    }
    Ok(ExitCode::SUCCESS)
}
