//! `foresee bench pretrain`: training steps of recipes on this machine, beside the same steps in PyTorch. Each runs in a process of its
//! own and takes a step when it is asked, so that rounds interleave and each has its own peak of memory.

mod runner;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use foresee_models::{Arithmetic, BenchOptions, Recipe, StepPart, TrainingDevice, step_parts, time_steps};
use foresee_runtime::write_atomically;
use serde::Serialize;

use self::runner::Runner;
use super::graphics_card::GraphicsCard;
use crate::compute::{ComputeArguments, micro_batch, must_fit};
use crate::counts::check_counts;
use crate::machine;
use crate::memory::keep_pages;
use crate::words::{print, say};

/// The step in PyTorch.
const REFERENCE: &str = include_str!("reference_step.py");
/// Samples of a step, as far as a recipe allows them.
const MOST_SAMPLES: usize = 1 << 16;
/// Rounds that do not count.
const NUM_WARM_UP: usize = 2;

/// Arguments of `foresee bench pretrain`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Recipes: names of foresee pretrain --list, or TOML files
    #[arg(default_values = ["mae", "rsp"])]
    recipes: Vec<String>,
    /// Samples a step.
    #[arg(long, default_value_t = 4, value_name = "N")]
    batch: usize,
    /// Threads: here shards of a batch, in PyTorch its own [default: 2; on graphics cards one shard a card]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Samples of a shard that go through the network at a time.
    #[arg(long, default_value_t = 32, value_name = "N")]
    micro_batch: usize,
    /// Rounds that count; a round is one step of each.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    #[command(flatten)]
    compute: ComputeArguments,
    /// What the device can do at most in these numbers, for the utilisation; known for some cards.
    #[arg(long, value_name = "TFLOP/S")]
    peak_tflops: Option<f64>,
    /// A Python with PyTorch: its eager step of MAE and RSP runs beside ours, on the same device and in the same numbers.
    #[arg(long, value_name = "INTERPRETER")]
    python: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Write the JSON here, too.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Be one of the processes: a step for each line of standard input.
    #[arg(long, hide = true)]
    on_request: bool,
}

/// One recipe on one implementation.
#[derive(Serialize)]
struct Row {
    recipe: String,
    /// `foresee` or `pytorch`.
    implementation: &'static str,
    version: String,
    seconds: Vec<f64>,
    median_seconds: f64,
    samples_per_second: f64,
    /// Billions of floating-point operations of a sample's products, forward and backward.
    gflops_per_sample: f64,
    /// Billions of them a second.
    gflops_per_second: f64,
    /// Of what the device can do at most; none where that is not known.
    utilisation: Option<f64>,
    /// The process's largest resident size.
    peak_mib: f64,
    /// What it holds on the graphics card after its first steps; neither side gives memory back.
    card_mib: Option<f64>,
    /// Where the time of another step goes, counted after the rounds; of our steps on the CPU device alone.
    parts: Vec<StepPart>,
}

/// Two rows of one recipe.
#[derive(Serialize)]
struct Comparison {
    recipe: String,
    /// Our time over PyTorch's.
    time_ratio: f64,
    /// Our peak of memory over PyTorch's, the card's where there is one.
    memory_ratio: f64,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    check_counts(&[("--batch", arguments.batch, MOST_SAMPLES), micro_batch(arguments.micro_batch)])?;
    let mut recipes = Vec::new();
    for name in &arguments.recipes {
        let mut recipe = Recipe::load(name)?;
        recipe.optimiser.batch_size = arguments.batch;
        recipe.data.repeated_sampling = 1;
        recipe.validate()?;
        must_fit(name, &recipe)?;
        recipes.push((name, recipe));
    }
    if arguments.on_request {
        let [(_, recipe)] = recipes.as_slice() else { bail!("--on-request: one recipe") };
        return serve(arguments, recipe);
    }
    let place = Place::of(arguments)?;
    let mut runners = Vec::new();
    for (name, recipe) in &recipes {
        runners.push(place.warm_up(|| ours(arguments, name, recipe))?);
        if let Some(python) = &arguments.python {
            match settings(arguments, recipe) {
                Some(settings) => runners.push(place.warm_up(|| theirs(python, recipe, &settings))?),
                None => say(&format!("{name}: the step in PyTorch is of MAE and RSP alone; no comparison")),
            }
        }
    }
    for _ in 0..arguments.rounds.max(1) {
        for runner in &mut runners {
            let seconds = runner.step()?;
            runner.seconds.push(seconds);
        }
    }
    let to_row = |runner: &mut Runner| runner.row(arguments.batch, place.peak_tflops);
    let rows: Vec<Row> = runners.iter_mut().map(to_row).collect::<anyhow::Result<_>>()?;
    report(arguments, &place, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The device of the comparison.
struct Place {
    card: Option<GraphicsCard>,
    peak_tflops: Option<f64>,
}

impl Place {
    fn of(arguments: &Arguments) -> anyhow::Result<Self> {
        let compute = arguments.compute.compute();
        let [device] = compute.devices.as_slice() else {
            bail!("--device: the bench takes one device; PyTorch's step runs on one, too")
        };
        let card = match device {
            TrainingDevice::Tch(idx) | TrainingDevice::Vulkan(idx) => GraphicsCard::find(*idx),
            TrainingDevice::Flex | TrainingDevice::TchCpu => None,
        };
        let known = card.as_ref().and_then(|card| card.peak_tflops(compute.arithmetic == Arithmetic::Bf16));
        Ok(Self { card, peak_tflops: arguments.peak_tflops.or(known) })
    }

    /// Starts one, takes the steps that do not count, and reads what it then holds on the card.
    fn warm_up(&self, start: impl FnOnce() -> anyhow::Result<Runner>) -> anyhow::Result<Runner> {
        let before = self.card.as_ref().and_then(GraphicsCard::used_mib);
        let mut runner = start()?;
        for _ in 0..NUM_WARM_UP {
            runner.step()?;
        }
        let after = self.card.as_ref().and_then(GraphicsCard::used_mib);
        runner.card_mib = after.zip(before).map(|(after, before)| after - before);
        Ok(runner)
    }
}

fn report(arguments: &Arguments, place: &Place, rows: &[Row]) -> anyhow::Result<()> {
    let find = |recipe: &str, implementation: &str| {
        rows.iter().find(|row| row.recipe == recipe && row.implementation == implementation)
    };
    let pair = |row: &Row| {
        let theirs = find(&row.recipe, "pytorch").filter(|_| row.implementation == "foresee")?;
        let time_ratio = row.median_seconds / theirs.median_seconds;
        let of_card = row.card_mib.zip(theirs.card_mib).map(|(ours, theirs)| ours / theirs);
        let memory_ratio = of_card.unwrap_or(row.peak_mib / theirs.peak_mib);
        Some(Comparison { recipe: row.recipe.clone(), time_ratio, memory_ratio })
    };
    let comparisons: Vec<Comparison> = rows.iter().filter_map(pair).collect();
    let ratio = |implementation: &str| {
        let [mae, rsp] = ["mae", "rsp"].map(|recipe| find(recipe, implementation).map(|row| row.median_seconds));
        Some(rsp? / mae?)
    };
    let [ours, theirs] = ["foresee", "pytorch"].map(ratio);
    // No code that is equally good at both comes below this.
    let work = |recipe: &str| Some(rows.iter().find(|row| row.recipe == recipe)?.gflops_per_sample);
    let in_work = work("rsp").zip(work("mae")).map(|(rsp, mae)| rsp / mae);
    let json = serde_json::json!({
        "revision": machine::GIT_REVISION, "batch": arguments.batch, "threads": arguments.num_threads()?,
        "rounds": arguments.rounds, "device": arguments.compute.device_words(),
        "arithmetic": arguments.compute.compute().arithmetic.to_string(),
        "card": place.card.as_ref().map(|card| &card.name), "peak_tflops": place.peak_tflops,
        "rows": rows, "comparisons": comparisons, "rsp_over_mae": ours, "rsp_over_mae_pytorch": theirs,
        "rsp_over_mae_in_work": in_work,
    });
    let text = serde_json::to_string_pretty(&json)?;
    if let Some(path) = &arguments.out {
        write_atomically(path, text.as_bytes())?;
    }
    if arguments.json {
        print(&text);
        return Ok(());
    }
    if let Some(card) = &place.card {
        print(&card.name);
    }
    for row in rows {
        print(&line_of(row));
        row.parts.iter().for_each(|part| print(&line_of_part(part, &row.parts)));
    }
    for comparison in &comparisons {
        let Comparison { recipe, time_ratio, memory_ratio } = comparison;
        print(&format!("{recipe:<12} {time_ratio:.2} of PyTorch's time, {memory_ratio:.2} of its peak memory"));
    }
    for (name, ratio) in [("foresee", ours), ("pytorch", theirs)] {
        if let Some(ratio) = ratio {
            let in_work =
                in_work.map_or_else(String::new, |ratio| format!(", {ratio:.2} in floating-point operations"));
            print(&format!("rsp / mae    {name:<8} {ratio:.2} in time{in_work}"));
        }
    }
    Ok(())
}

fn line_of(row: &Row) -> String {
    let Row { recipe, implementation, median_seconds, samples_per_second, gflops_per_second, .. } = row;
    let memory = match row.card_mib {
        Some(card_mib) => format!("{card_mib:>6.0} MiB of the card"),
        None => format!("peak {:>6.0} MiB", row.peak_mib),
    };
    let share = row.utilisation.map_or_else(String::new, |share| format!(", {:.1} % of the peak", 100.0 * share));
    format!(
        "{recipe:<12} {implementation:<8} {median_seconds:>7.3} s a step, {samples_per_second:>7.2} samples/s, \
        {gflops_per_second:>6.1} GFLOP/s{share}, {memory}"
    )
}

fn line_of_part(StepPart { name, seconds }: &StepPart, parts: &[StepPart]) -> String {
    let whole: f64 = parts.iter().map(|part| part.seconds).sum();
    format!("    {name:<40} {seconds:>7.3} s {:>5.1} %", 100.0 * seconds / whole)
}

impl Arguments {
    fn num_threads(&self) -> anyhow::Result<usize> {
        self.compute.shards(self.threads)
    }
}

fn ours(arguments: &Arguments, name: &str, recipe: &Recipe) -> anyhow::Result<Runner> {
    let mut command = Command::new(std::env::current_exe().context("the running binary's path")?);
    command.args(["bench", "pretrain", name, "--on-request"]);
    let threads = arguments.num_threads()?;
    for (flag, value) in
        [("--batch", arguments.batch), ("--threads", threads), ("--micro-batch", arguments.micro_batch)]
    {
        command.args([flag, &value.to_string()]);
    }
    command.args(arguments.compute.to_words());
    let mut runner = Runner::start(command, (recipe, "foresee"))?;
    runner.has_parts = arguments.compute.compute().devices.contains(&TrainingDevice::Flex);
    Ok(runner)
}

fn theirs(python: &str, recipe: &Recipe, settings: &serde_json::Value) -> anyhow::Result<Runner> {
    let mut command = Command::new(python);
    command.args(["-c", REFERENCE, &settings.to_string()]);
    Runner::start(command, (recipe, "pytorch"))
}

/// What the reference needs to know, for the two methods that it has.
fn settings(arguments: &Arguments, recipe: &Recipe) -> Option<serde_json::Value> {
    let is_known = recipe.name.starts_with("mae") || recipe.name.starts_with("rsp");
    let decoder = recipe.decoders.get("decoder").filter(|_| is_known)?;
    let mask_ratio = recipe.encodings.iter().map(|encoding| encoding.mask_ratio).fold(0.0, f64::max);
    let compute = arguments.compute.compute();
    let device = match compute.devices.first()? {
        TrainingDevice::Flex | TrainingDevice::TchCpu => "cpu".to_owned(),
        TrainingDevice::Tch(idx) | TrainingDevice::Vulkan(idx) => format!("cuda:{idx}"),
    };
    Some(serde_json::json!({
        "threads": arguments.num_threads().ok()?, "device": device, "bf16": compute.arithmetic == Arithmetic::Bf16, "batch": arguments.batch, "mask_ratio": mask_ratio,
        "encoder": recipe.encoder, "decoder": decoder, "latent": recipe.latent,
    }))
}

/// The child's side: says that it is there, then a time for each line.
fn serve(arguments: &Arguments, recipe: &Recipe) -> anyhow::Result<ExitCode> {
    print(env!("CARGO_PKG_VERSION"));
    let mut lines = std::io::stdin().lines();
    let mut wants_parts = false;
    let mut goes_on = |seconds: Option<f64>| {
        if let Some(seconds) = seconds {
            print(&seconds.to_string());
        }
        let Some(Ok(line)) = lines.next() else { return false };
        wants_parts = line.trim() == "parts";
        !wants_parts
    };
    keep_pages();
    let (threads, compute) = (arguments.num_threads()?, arguments.compute.compute());
    let options = BenchOptions { recipe: recipe.clone(), threads, micro_batch: arguments.micro_batch, compute };
    time_steps(&options, &mut goes_on)?;
    if wants_parts {
        print(&serde_json::to_string(&step_parts(&options)?)?);
    }
    Ok(ExitCode::SUCCESS)
}
