//! The processes that `foresee bench pretrain` asks for steps, one a recipe and implementation.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use foresee_models::{Recipe, StepPart, recipe_cost};

use super::super::median;
use super::Row;

/// A process that takes a step for each line it is sent.
pub(super) struct Runner {
    recipe: Recipe,
    implementation: &'static str,
    version: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub(super) seconds: Vec<f64>,
    pub(super) card_mib: Option<f64>,
    /// Whether it can say where a step's time goes.
    pub(super) has_parts: bool,
}

impl Runner {
    pub(super) fn start(
        mut command: Command,
        (recipe, implementation): (&Recipe, &'static str),
    ) -> anyhow::Result<Self> {
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
            card_mib: None,
            has_parts: false,
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

    pub(super) fn step(&mut self) -> anyhow::Result<f64> {
        // A process that has ended is told by its output.
        let _ = self.input.write_all(b"step\n").and_then(|()| self.input.flush());
        let line = self.line()?;
        line.parse().with_context(|| format!("{}: {line} is no time", self.implementation))
    }

    /// Where a step's time goes; it takes no more steps after that.
    fn parts(&mut self) -> anyhow::Result<Vec<StepPart>> {
        let _ = self.input.write_all(b"parts\n").and_then(|()| self.input.flush());
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("{}: {line} are no parts", self.implementation))
    }

    pub(super) fn row(&mut self, batch: usize, peak_tflops: Option<f64>) -> anyhow::Result<Row> {
        let median_seconds = median(&mut self.seconds.clone());
        let samples_per_second = batch as f64 / median_seconds;
        let gflops_per_sample = recipe_cost(&self.recipe).step_gflops;
        let gflops_per_second = gflops_per_sample * samples_per_second;
        let peak_mib = peak_mib(self.child.id())?;
        let parts = if self.has_parts { self.parts()? } else { Vec::new() };
        Ok(Row {
            recipe: self.recipe.name.clone(),
            implementation: self.implementation,
            version: self.version.clone(),
            seconds: self.seconds.clone(),
            median_seconds,
            samples_per_second,
            gflops_per_sample,
            gflops_per_second,
            utilisation: peak_tflops.map(|peak| gflops_per_second / (1000.0 * peak)),
            peak_mib,
            card_mib: self.card_mib,
            parts,
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
