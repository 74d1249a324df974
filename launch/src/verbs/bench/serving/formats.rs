//! The same encoder in other numbers on the CPU: which is fastest and still sees the same.

use std::path::{Path, PathBuf};

use foresee_runtime::{EngineOptions, Frame, ModelCard, OperatorTime, measure_operators};
use serde::Serialize;

use super::model::admit;
use super::python::Python;
use super::{Arguments, Served, beside};
use crate::words::say;

/// The fastest of all formats whose features point where those of f32 do.
#[derive(Serialize)]
pub(super) struct Quantised {
    kind: String,
    /// Goal: at least 1.8.
    speedup_over_f32: f64,
    /// Smallest over tokens and class token, each taken as one vector. Goal: at least 0.999.
    cosine: f64,
    micros: f64,
    /// Every format that was tried, in the order of trial.
    formats: Vec<Format>,
    /// Where the time of one run goes in f32 and in the chosen format, longest first.
    operators: [Vec<OperatorTime>; 2],
    /// Why the goal is missed, as measured; `None` where it is met.
    reason: Option<String>,
}

#[derive(Clone, Serialize)]
struct Format {
    kind: String,
    /// `None`: it could not be made or run here, as `problem` says.
    measured: Option<Measured>,
    problem: Option<String>,
}

#[derive(Clone, Copy, Serialize)]
struct Measured {
    speedup_over_f32: f64,
    cosine: f64,
    micros: f64,
}

const LEAST_SPEEDUP: f64 = 1.8;
const LEAST_COSINE: f64 = 0.999;
/// Runs that a time of an operator is the median of.
const NUM_TRACED: usize = 10;

/// What `--python` can make of an f32 model, by its name in `serving.py`.
const BY_PYTHON: [(&str, &str); 3] = [
    ("dynamic", "int8, activations scaled at run time (onnxruntime)"),
    ("static", "int8, activations scaled on 4 frames (onnxruntime, QDQ)"),
    ("blocks", "8-bit weights in blocks of 32 (onnxruntime, MatMulNBits)"),
];

/// Measures `--quantised`, what our exporter makes, and what `--python` makes; `None` where there is none of them.
pub(super) fn measure(
    arguments: &Arguments,
    model: &Path,
    (frame, engine, folder): (&Frame, &EngineOptions, &Path),
    mut python: Option<&mut Python>,
) -> anyhow::Result<Option<Quantised>> {
    let mut bench = Bench { model, frame, engine, rounds: arguments.rounds, formats: Vec::new() };
    if let Some(path) = &arguments.quantised {
        bench.add(&arguments.kind, || Ok(path.clone()));
    }
    #[cfg(feature = "pretrain")]
    for (precision, kind) in [
        (foresee_models::Precision::F16, "f16 (foresee export)"),
        (foresee_models::Precision::Int8, "int8, activations scaled at run time (foresee export)"),
    ] {
        bench.add(kind, || export(model, precision, (engine, folder), &arguments.calibrate));
    }
    for (request, kind) in BY_PYTHON {
        if let Some(python) = python.as_mut() {
            bench.add(kind, || {
                let path = folder.join(format!("{request}.onnx"));
                python.quantise(request, &path)?;
                let card = ModelCard::load(model)?;
                admit(
                    &path,
                    (card.preprocessing.as_ref().map_or(0, |preprocessing| preprocessing.width), None),
                    engine,
                )?;
                Ok(path)
            });
        }
    }
    bench.conclude(folder)
}

/// This model in another precision.
#[cfg(feature = "pretrain")]
fn export(
    model: &Path,
    precision: foresee_models::Precision,
    (engine, folder): (&EngineOptions, &Path),
    calibration: &[PathBuf],
) -> anyhow::Result<PathBuf> {
    let output = folder.join(format!("{precision:?}.onnx"));
    foresee_models::export(&foresee_models::ExportOptions {
        checkpoint: model.to_path_buf(),
        output: output.clone(),
        name: format!("{precision:?}"),
        provenance: foresee_runtime::Provenance::default(),
        precision,
        calibration: calibration.to_vec(),
        engines: vec![engine.clone()],
    })?;
    Ok(output)
}

struct Bench<'a> {
    model: &'a Path,
    frame: &'a Frame,
    engine: &'a EngineOptions,
    rounds: usize,
    /// With the file of each that could be made.
    formats: Vec<(Format, PathBuf)>,
}

impl Bench<'_> {
    fn add(&mut self, kind: &str, make: impl FnOnce() -> anyhow::Result<PathBuf>) {
        say(kind);
        let tried = make().and_then(|path| Ok((self.measure(&path)?, path)));
        let kind = kind.to_owned();
        self.formats.push(match tried {
            Ok((measured, path)) => (Format { kind, measured: Some(measured), problem: None }, path),
            Err(error) => {
                let problem = format!("{error:#}");
                say(&format!("  not measured: {problem}"));
                (Format { kind, measured: None, problem: Some(problem) }, PathBuf::new())
            }
        });
    }

    fn measure(&self, path: &Path) -> anyhow::Result<Measured> {
        let (mut plain, mut other) = (Served::open(self.model, self.engine)?, Served::open(path, self.engine)?);
        let [_, micros, speedup_over_f32] = beside([&mut plain, &mut other], self.frame, self.rounds)?;
        Ok(Measured { speedup_over_f32, cosine: plain.cosine(&other), micros })
    }

    /// The fastest that keeps the cosine, else the one that keeps most of it.
    fn conclude(self, folder: &Path) -> anyhow::Result<Option<Quantised>> {
        let measured = || self.formats.iter().filter_map(|(format, path)| Some((format, format.measured?, path)));
        let faithful = measured().filter(|(_, measured, _)| measured.cosine >= LEAST_COSINE);
        let fastest = faithful.max_by(|a, b| a.1.speedup_over_f32.total_cmp(&b.1.speedup_over_f32));
        let chosen = fastest.or_else(|| measured().max_by(|a, b| a.1.cosine.total_cmp(&b.1.cosine)));
        let Some((format, chosen, path)) = chosen else { return Ok(None) };
        let times = |model: &Path| measure_operators(model, self.engine, (NUM_TRACED, folder));
        let operators = [times(self.model)?, times(path)?];
        Ok(Some(Quantised {
            kind: format.kind.clone(),
            speedup_over_f32: chosen.speedup_over_f32,
            cosine: chosen.cosine,
            micros: chosen.micros,
            reason: reason(&chosen, &operators),
            formats: self.formats.iter().map(|(format, _)| format.clone()).collect(),
            operators,
        }))
    }
}

impl Quantised {
    pub(super) fn micros(&self) -> f64 {
        self.micros
    }

    /// For people: a line a format, then why the goal is missed.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |format: &Format| {
            let sign = if format.kind == self.kind { "*" } else { " " };
            match (&format.measured, &format.problem) {
                (Some(Measured { speedup_over_f32, cosine, micros }), _) => format!(
                    "{sign} {}: {micros:.0} us, {speedup_over_f32:.2} x faster than f32, cosine {cosine:.5}",
                    format.kind
                ),
                (None, problem) => format!("{sign} {}: {}", format.kind, problem.as_deref().unwrap_or_default()),
            }
        };
        self.formats.iter().map(line).chain(self.reason.iter().map(|reason| format!("  {reason}"))).collect()
    }
}

/// Why the goal is missed: what of f32's time no product with weights takes, and what these gain.
fn reason(chosen: &Measured, [plain, other]: &[Vec<OperatorTime>; 2]) -> Option<String> {
    if chosen.cosine < LEAST_COSINE {
        return Some(format!("no format keeps a cosine of {LEAST_COSINE}"));
    }
    let longest = |times: &[OperatorTime]| {
        let all: f64 = times.iter().map(|time| time.micros).sum();
        let share = |time: &OperatorTime| format!("{} {:.0} %", time.operator, 100.0 * time.micros / all);
        (all, times.iter().take(4).map(share).collect::<Vec<_>>().join(", "))
    };
    (chosen.speedup_over_f32 < LEAST_SPEEDUP).then(|| {
        let [(all, plain), (others, other)] = [longest(plain), longest(other)];
        format!("of {all:.0} us in f32: {plain}; of {others:.0} us in this format: {other}")
    })
}
