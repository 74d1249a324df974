//! `foresee bench pretrain`: training steps of recipes on this machine, beside the same steps in PyTorch. Each runs in a process of its
//! own and takes a step when it is asked, so that rounds interleave and each has its own peak of memory.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use foresee_models::{BenchOptions, Recipe, recipe_cost, time_steps};
use serde::Serialize;

use super::median;
use crate::words::{print, say};

/// The step in PyTorch.
const REFERENCE: &str = include_str!("reference_step.py");
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
    /// Threads: here shards of a batch, in PyTorch its own.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Samples of a shard that go through the network at a time.
    #[arg(long, default_value_t = 32, value_name = "N")]
    micro_batch: usize,
    /// Rounds that count; a round is one step of each.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// A Python with PyTorch: its eager step of MAE and RSP runs beside ours.
    #[arg(long, value_name = "INTERPRETER")]
    python: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
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
    /// Floating-point operations of the matrix products a second.
    gflops_per_second: f64,
    peak_mib: f64,
}

/// Two rows of one recipe.
#[derive(Serialize)]
struct Comparison {
    recipe: String,
    /// Our time over PyTorch's.
    time_ratio: f64,
    /// Our peak of memory over PyTorch's.
    memory_ratio: f64,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut recipes = Vec::new();
    for name in &arguments.recipes {
        let mut recipe = Recipe::load(name)?;
        recipe.optimiser.batch_size = arguments.batch;
        recipe.data.repeated_sampling = 1;
        recipe.validate()?;
        recipes.push((name, recipe));
    }
    if arguments.on_request {
        let [(_, recipe)] = recipes.as_slice() else { bail!("--on-request: one recipe") };
        return serve(arguments, recipe);
    }
    let mut runners = Vec::new();
    for (name, recipe) in &recipes {
        runners.push(ours(arguments, name, recipe)?);
        if let Some(python) = &arguments.python {
            match settings(arguments, recipe) {
                Some(settings) => runners.push(theirs(python, recipe, &settings)?),
                None => say(&format!("{name}: the step in PyTorch is of MAE and RSP alone; no comparison")),
            }
        }
    }
    for round in 0..NUM_WARM_UP + arguments.rounds.max(1) {
        for runner in &mut runners {
            let seconds = runner.step()?;
            if round >= NUM_WARM_UP {
                runner.seconds.push(seconds);
            }
        }
    }
    let rows: Vec<Row> = runners.iter_mut().map(|runner| runner.row(arguments.batch)).collect::<anyhow::Result<_>>()?;
    report(arguments, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn report(arguments: &Arguments, rows: &[Row]) -> anyhow::Result<()> {
    let find = |recipe: &str, implementation: &str| {
        rows.iter().find(|row| row.recipe == recipe && row.implementation == implementation)
    };
    let pair = |row: &Row| {
        let theirs = find(&row.recipe, "pytorch").filter(|_| row.implementation == "foresee")?;
        let [time_ratio, memory_ratio] = [row.median_seconds / theirs.median_seconds, row.peak_mib / theirs.peak_mib];
        Some(Comparison { recipe: row.recipe.clone(), time_ratio, memory_ratio })
    };
    let comparisons: Vec<Comparison> = rows.iter().filter_map(pair).collect();
    let ratio = |implementation: &str| {
        let [mae, rsp] = ["mae", "rsp"].map(|recipe| find(recipe, implementation).map(|row| row.median_seconds));
        Some(rsp? / mae?)
    };
    let [ours, theirs] = ["foresee", "pytorch"].map(ratio);
    if arguments.json {
        let json = serde_json::json!({
            "batch": arguments.batch, "threads": arguments.threads, "rounds": arguments.rounds, "rows": rows,
            "comparisons": comparisons, "rsp_over_mae": ours, "rsp_over_mae_pytorch": theirs,
        });
        print(&serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    for row in rows {
        print(&format!(
            "{:<12} {:<8} {:>7.3} s a step, {:>7.2} samples/s, {:>6.1} GFLOP/s, peak {:>6.0} MiB",
            row.recipe,
            row.implementation,
            row.median_seconds,
            row.samples_per_second,
            row.gflops_per_second,
            row.peak_mib
        ));
    }
    for comparison in &comparisons {
        let Comparison { recipe, time_ratio, memory_ratio } = comparison;
        print(&format!("{recipe:<12} {time_ratio:.2} of PyTorch's time, {memory_ratio:.2} of its peak memory"));
    }
    for (name, ratio) in [("foresee", ours), ("pytorch", theirs)] {
        if let Some(ratio) = ratio {
            print(&format!("rsp / mae    {name:<8} {ratio:.2} in time"));
        }
    }
    Ok(())
}

/// A process that takes a step for each line it is sent.
struct Runner {
    recipe: Recipe,
    implementation: &'static str,
    version: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    seconds: Vec<f64>,
}

impl Runner {
    fn start(mut command: Command, (recipe, implementation): (&Recipe, &'static str)) -> anyhow::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().with_context(|| name.clone())?;
        let (input, output) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        let mut runner = Self {
            recipe: recipe.clone(),
            implementation,
            version: String::new(),
            child,
            input,
            output: BufReader::new(output),
            seconds: Vec::new(),
        };
        runner.version = runner.line().with_context(|| format!("{name} does not start; has it PyTorch?"))?;
        Ok(runner)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("the {} step of {} ended early; what it said is above", self.implementation, self.recipe.name);
        }
        Ok(line.trim().to_owned())
    }

    fn step(&mut self) -> anyhow::Result<f64> {
        // A process that has ended is told by its output.
        let _ = self.input.write_all(b"step\n").and_then(|()| self.input.flush());
        let line = self.line()?;
        line.parse().with_context(|| format!("{}: {line} is no time", self.implementation))
    }

    fn row(&mut self, batch: usize) -> anyhow::Result<Row> {
        let median_seconds = median(&mut self.seconds.clone());
        let samples_per_second = batch as f64 / median_seconds;
        Ok(Row {
            recipe: self.recipe.name.clone(),
            implementation: self.implementation,
            version: self.version.clone(),
            seconds: self.seconds.clone(),
            median_seconds,
            samples_per_second,
            gflops_per_second: recipe_cost(&self.recipe).step_gflops * samples_per_second,
            peak_mib: peak_mib(self.child.id())?,
        })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // Both calls fail only when the child is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The largest resident size that a process has had.
fn peak_mib(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).with_context(|| format!("{path}: no VmHWM"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{path}: {line}"))?;
    Ok(kib / 1024.0)
}

fn ours(arguments: &Arguments, name: &str, recipe: &Recipe) -> anyhow::Result<Runner> {
    let mut command = Command::new(std::env::current_exe().context("the running binary's path")?);
    command.args(["bench", "pretrain", name, "--on-request"]);
    for (flag, value) in
        [("--batch", arguments.batch), ("--threads", arguments.threads), ("--micro-batch", arguments.micro_batch)]
    {
        command.args([flag, &value.to_string()]);
    }
    Runner::start(command, (recipe, "foresee"))
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
    Some(serde_json::json!({
        "threads": arguments.threads, "batch": arguments.batch, "mask_ratio": mask_ratio,
        "encoder": recipe.encoder, "decoder": decoder, "latent": recipe.latent,
    }))
}

/// The child's side: says that it is there, then a time for each line.
fn serve(arguments: &Arguments, recipe: &Recipe) -> anyhow::Result<ExitCode> {
    print(env!("CARGO_PKG_VERSION"));
    let mut lines = std::io::stdin().lines();
    let mut goes_on = |seconds: Option<f64>| {
        if let Some(seconds) = seconds {
            print(&seconds.to_string());
        }
        lines.next().is_some_and(|line| line.is_ok())
    };
    let Arguments { threads, micro_batch, .. } = *arguments;
    time_steps(&BenchOptions { recipe: recipe.clone(), threads, micro_batch }, &mut goes_on)?;
    Ok(ExitCode::SUCCESS)
}
