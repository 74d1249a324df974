//! `foresee pretrain`: an encoder out of frames, by a recipe.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use foresee_models::{
    PretrainOptions, PretrainOutcome, RECIPES, Recipe, check_folder, pretrain, recipe_cost, run_checkpoint,
};

use crate::compute::{ComputeArguments, MOST_THREADS, micro_batch, must_fit};
use crate::counts::check_counts;
use crate::memory::keep_pages;
use crate::progress::bar;
use crate::words::{print, say};
use crate::{clips, stop, trail, training_report};

/// The report of a run that goes on is written at most this often.
const LEAST_REPORT_TIME: Duration = Duration::from_secs(20);

/// Arguments of `foresee pretrain`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Recipe: a name of --list, or a TOML file
    #[arg(required_unless_present = "list")]
    recipe: Option<String>,
    /// List the recipes.
    #[arg(long)]
    list: bool,
    #[arg(long, value_name = "DATA", required_unless_present = "list", help = clips::DATA_HELP)]
    data: Vec<String>,
    /// Image topic of the logs, where several could be meant.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Folder of the run: checkpoint, metrics, reconstructions.
    #[arg(long, value_name = "DIR", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Seed of every draw [default: 0, or with --resume the checkpoint's]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Shards of a batch, each on a thread of its own [default: 2 on flex, one a device elsewhere]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[command(flatten)]
    compute: ComputeArguments,
    /// Threads that read and decode ahead; they change nothing but the speed.
    #[arg(long, default_value_t = 2, value_name = "N")]
    decode_threads: usize,
    /// Memory for the frames of videos, in GiB: the first videos that fit, by name, are decoded once and kept, which changes nothing but
    /// the speed.
    #[arg(long, default_value_t = 1.0, value_name = "GIB")]
    keep_gib: f64,
    /// Samples of a shard that go through the network at a time.
    #[arg(long, default_value_t = 32, value_name = "N")]
    micro_batch: usize,
    /// Train this many steps instead of the recipe's.
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Minutes between checkpoints.
    #[arg(long, default_value_t = 2.0, value_name = "MINUTES")]
    checkpoint_minutes: f64,
    /// Go on from the folder's checkpoint.
    #[arg(long)]
    resume: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Trains until the recipe's steps are done, or Ctrl-C (which leaves a checkpoint to resume from).
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        return list(arguments.json);
    }
    keep_pages();
    let name = arguments.recipe.as_deref().context("name a recipe; see --list")?;
    let folder = arguments.out.clone().context("--out DIR: name the folder of the run")?;
    let compute = arguments.compute.compute();
    let threads = arguments.compute.shards(arguments.threads)?;
    check_counts(&[("--decode-threads", arguments.decode_threads, MOST_THREADS), micro_batch(arguments.micro_batch)])?;
    check_folder(&folder, arguments.resume)?;
    let stop = stop::flag()?;
    let mut recipe = Recipe::load(name)?;
    must_fit(name, &recipe)?;
    if let Some(steps) = arguments.steps {
        if steps == 0 {
            bail!("--steps 0: give at least 1");
        }
        let (warm_up, all) = (recipe.optimiser.warm_up_steps, recipe.optimiser.steps.max(1));
        if steps <= warm_up {
            // The same share of a short run, as for a look at whether it runs at all.
            recipe.optimiser.warm_up_steps = warm_up * steps / all;
            say(&format!(
                "--steps {steps}: fewer than the recipe's {warm_up} steps of warm-up, which become {}",
                recipe.optimiser.warm_up_steps
            ));
        }
        recipe.optimiser.steps = steps;
    }
    let checkpoint_every = Duration::try_from_secs_f64(arguments.checkpoint_minutes * 60.0)
        .with_context(|| format!("--checkpoint-minutes {}: give a positive number", arguments.checkpoint_minutes))?;
    let source = clips::open((&arguments.data, arguments.keep_gib), &arguments.topic, &recipe)?;
    say(&format!("{}: {}", recipe.name, source.description()));
    if arguments.resume && run_checkpoint(&folder).is_none() {
        say(&format!("--resume: {} holds no checkpoint yet; the run begins at step 0", folder.display()));
    }
    let options = PretrainOptions {
        recipe,
        folder: folder.clone(),
        seed: arguments.seed,
        threads,
        decode_threads: arguments.decode_threads,
        micro_batch: arguments.micro_batch,
        compute,
        checkpoint_every,
        resume: arguments.resume,
    };
    let mut reported = Instant::now();
    let progress_bar = bar(options.recipe.optimiser.steps as u64);
    let mut observe = |progress: &foresee_models::PretrainProgress| {
        if reported.elapsed() >= checkpoint_every.max(LEAST_REPORT_TIME) {
            reported = Instant::now();
            if let Err(error) = training_report::write(&folder) {
                say(&format!("report: {error:#}"));
            }
        }
        progress_bar.set_position(progress.step);
        let numbers = (progress.loss, progress.gradient_norm, progress.images_per_second);
        progress_bar
            .set_message(format!("loss {:.4}  gradient {:.3}  {:.0} images/s", numbers.0, numbers.1, numbers.2));
        if progress_bar.is_hidden() && progress.step.is_multiple_of(100) {
            say(&format!(
                "step {}/{}  loss {:.4}  {:.0} images/s",
                progress.step, progress.steps, numbers.0, numbers.2
            ));
        }
    };
    let outcome = pretrain(&options, source.as_ref(), &mut observe, &stop)?;
    progress_bar.finish_and_clear();
    let report = training_report::write(&folder)?;
    trail::leave(&folder, clips::paths(&arguments.data))?;
    tell(&outcome, (&report, &source.description()), arguments.json)?;
    Ok(if outcome.finished { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

/// What a run gave.
fn tell(outcome: &PretrainOutcome, (report, description): (&Path, &str), is_json: bool) -> anyhow::Result<()> {
    for problem in &outcome.data_problems {
        say(&format!("data: {problem}"));
    }
    if is_json {
        let loss = outcome.loss;
        let json = serde_json::json!({
            "checkpoint": outcome.checkpoint, "report": report, "step": outcome.step, "loss": loss,
            "steps_skipped": outcome.num_skipped, "finished": outcome.finished,
            "data": description, "data_problems": outcome.data_problems,
        });
        print(&serde_json::to_string_pretty(&json)?);
    } else {
        let state = if outcome.finished { "done" } else { "stopped; go on with --resume" };
        print(&format!("{} after {} steps: {state}", outcome.checkpoint.display(), outcome.step));
        print(&format!("{}", report.display()));
    }
    Ok(())
}

/// The recipes with their papers and what they cost.
fn list(is_json: bool) -> anyhow::Result<ExitCode> {
    let mut rows = Vec::new();
    for (name, text) in RECIPES {
        let recipe = Recipe::parse(name, text)?;
        let cost = recipe_cost(&recipe);
        if is_json {
            rows.push(serde_json::json!({
                "name": name, "summary": recipe.summary, "paper": recipe.paper, "image_size": recipe.encoder.image_size,
                "gflops": cost.table_gflops, "gflops_run": cost.run_gflops, "gmacs_forward": cost.forward_gmacs,
                "gmacs_encoder": cost.encoder_gmacs, "values": cost.num_values, "values_encoder": cost.num_encoder_values,
            }));
            continue;
        }
        print(&format!("{name:<12} {}\n{:<12} {}", recipe.summary, "", recipe.paper));
        let without = match cost.table_gflops - cost.run_gflops {
            logged if logged > 0.0 => format!(" ({:.1} without what the reference only logs)", cost.run_gflops),
            _ => String::new(),
        };
        print(&format!(
            "{:<12} {:.1} GFLOPs a sample at {} pixels{without}; {:.2} as it serves",
            "", cost.table_gflops, recipe.encoder.image_size, cost.encoder_gmacs
        ));
    }
    if is_json {
        print(&serde_json::to_string_pretty(&rows)?);
    } else {
        print(
            "GFLOPs: multiply-adds of the forward pass over two frames (a clip of videomae), as Token Bottleneck's table 9 counts them.",
        );
    }
    Ok(ExitCode::SUCCESS)
}
