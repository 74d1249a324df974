//! The Python way, measured in turns with ours: an interpreter in a process of its own that answers one request a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use foresee_runtime::{EngineOptions, Frame, ModelCard};
use serde::Serialize;

use super::Served;
use super::median;
use crate::words::say;

const SCRIPT: &str = include_str!("../serving.py");

#[derive(Serialize)]
pub(super) struct PythonWay {
    /// OpenCV and onnxruntime in Python, frame to features.
    pub(super) micros: f64,
    /// Goal: at least 1.3.
    pub(super) ratio_to_ours: f64,
    pub(super) opencv_chain_micros: f64,
    pub(super) our_preprocess_micros: f64,
    /// Ours over OpenCV's chain.
    pub(super) preprocess_ratio: f64,
    /// The bare session's share of our time: what no faster frame path can take away.
    pub(super) engine_share: f64,
    /// Python's f32 time over ours quantised; `None` where no quantised model was measured.
    pub(super) ratio_to_ours_quantised: Option<f64>,
    /// Why the goal is missed, as measured; `None` where it is met.
    pub(super) reason: Option<String>,
    /// Of cv2 and onnxruntime.
    versions: String,
}

impl PythonWay {
    const GOAL: f64 = 1.3;

    /// With the bare session's time and that of the quantised model, frame to features, beside it.
    pub(super) fn explained(mut self, bare_session_micros: f64, quantised_micros: Option<f64>) -> Self {
        self.engine_share = bare_session_micros / (self.micros / self.ratio_to_ours);
        self.ratio_to_ours_quantised = quantised_micros.map(|micros| self.micros / micros);
        self.reason = (self.ratio_to_ours < Self::GOAL).then(|| {
            format!(
                "the engine's own run is {:.1} % of our time and {:.1} % of Python's",
                100.0 * self.engine_share,
                100.0 * bare_session_micros / self.micros
            )
        });
        self
    }
}

pub(super) struct Python {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    versions: String,
}

impl Python {
    /// Starts the interpreter; its script goes into `folder`.
    pub(super) fn start(
        interpreter: &Path,
        model: &Path,
        card: &ModelCard,
        (engine, folder): (&EngineOptions, &Path),
    ) -> anyhow::Result<Self> {
        let script = folder.join("serving.py");
        std::fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
        let preprocessing = card.preprocessing.as_ref().context("the encoder's card has no preprocessing")?;
        let input = card.inputs.first().context("the encoder's card has no input")?;
        let mut command = Command::new(interpreter);
        command.arg(&script).arg(model).arg(&input.name).arg(engine.intra_threads.to_string());
        command.arg(preprocessing.height.to_string()).arg(preprocessing.width.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("--python {}", interpreter.display()))?;
        let (requests, answers) = (child.stdin.take(), child.stdout.take());
        let (requests, answers) = requests.zip(answers).context("the interpreter's pipes")?;
        let mut python = Self { child, requests, answers: BufReader::new(answers), versions: String::new() };
        let ready = python.line()?;
        let Some(versions) = ready.strip_prefix("ready ") else {
            bail!(
                "--python {}: {ready:?} where it should be ready; does it have numpy, cv2 and onnxruntime?",
                interpreter.display()
            );
        };
        python.versions = versions.to_owned();
        Ok(python)
    }

    /// Ours and theirs in turns.
    pub(super) fn measure(
        &mut self,
        frame: &Frame,
        (model, engine): (&Path, &EngineOptions),
        num_rounds: usize,
    ) -> anyhow::Result<PythonWay> {
        say("the Python way: OpenCV and onnxruntime");
        let mut served = Served::open(model, engine)?;
        served.micros(frame)?;
        self.ask("serve")?;
        let mut columns: [Vec<f64>; 6] = Default::default();
        for _ in 0..num_rounds.max(1) * 3 {
            let (ours, theirs) = (served.micros(frame)?, self.ask("serve")?);
            let chain = self.ask("chain")?;
            let mut best = f64::INFINITY;
            for _ in 0..5 {
                let started = Instant::now();
                served.preprocessor.run(frame, &mut served.input)?;
                best = best.min(started.elapsed().as_secs_f64() * 1e6);
            }
            let row = [theirs, theirs / ours, chain, best, best / chain, ours];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let [micros, ratio_to_ours, opencv_chain_micros, our_preprocess_micros, preprocess_ratio, _] =
            columns.each_mut().map(|column| median(column));
        Ok(PythonWay {
            micros,
            ratio_to_ours,
            opencv_chain_micros,
            our_preprocess_micros,
            preprocess_ratio,
            engine_share: f64::NAN,
            ratio_to_ours_quantised: None,
            reason: None,
            versions: self.versions.clone(),
        })
    }

    /// Writes the model in one of the formats that the script knows.
    pub(super) fn quantise(&mut self, format: &str, path: &Path) -> anyhow::Result<()> {
        self.ask(&format!("{format} {}", path.display())).map(drop)
    }

    fn ask(&mut self, request: &str) -> anyhow::Result<f64> {
        writeln!(self.requests, "{request}").context("the interpreter is gone")?;
        let answer = self.line()?;
        answer.parse().with_context(|| format!("the interpreter answers {answer:?} to {request}"))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("the interpreter")?;
        if line.is_empty() {
            bail!(
                "the Python interpreter ended; its own words are above (it needs numpy, cv2, onnxruntime, and onnx to quantise)"
            );
        }
        Ok(line.trim().to_owned())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It holds nothing but memory.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
