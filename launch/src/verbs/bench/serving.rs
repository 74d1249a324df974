//! `foresee bench serve`: what serving an encoder costs beside the bare engine, quantised, on tract, and done in Python; and how a
//! 30 Hz loop keeps its time. Medians of interleaved rounds.

mod formats;
mod held_loop;
mod model;
mod python;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use foresee_firmware_config::{PixelEncoding, Provider};
use foresee_runtime::{
    Encoder, EncoderInput, EngineOptions, EngineReport, Features, Frame, MeasureOptions, ModelCard, Preprocessor,
    ProviderChoice, ServingMeasure, measure_serving, open_encoder,
};
use serde::Serialize;

use self::formats::Quantised;
use self::held_loop::{HeldLoop, Load};
use self::model::vit_small;
use self::python::{Python, PythonWay};
use super::median;
use crate::models::{EncoderArguments, EngineArguments, ProviderArgument};
use crate::words::{print, say};
use crate::{machine, stop};

/// Arguments of `foresee bench serve`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    encoder: EncoderArguments,
    /// Interleaved rounds.
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Runs of each kind a round.
    #[arg(long, default_value_t = 5, value_name = "N")]
    runs: usize,
    /// Interpreter that has numpy, cv2 and onnxruntime: measures the Python way, OpenCV's chain, and onnxruntime's 8-bit formats (with onnx
    /// and onnx_ir).
    #[arg(long, value_name = "PYTHON")]
    python: Option<PathBuf>,
    /// A quantised model of the same encoder, with its card, beside those that foresee export and --python make.
    #[arg(long, value_name = "FILE.onnx")]
    quantised: Option<PathBuf>,
    /// What the quantised model is, for the result.
    #[arg(long, default_value = "int8", value_name = "KIND", requires = "quantised")]
    kind: String,
    /// Logs, or folders of logs, that our int8 is calibrated on.
    #[arg(long, value_name = "DIR|FILE")]
    calibrate: Vec<PathBuf>,
    /// Measure this provider as well, beside --provider, on the same frames.
    #[arg(long, value_enum, value_name = "PROVIDER")]
    against: Option<ProviderArgument>,
    /// Minutes of a 30 Hz loop; 0 leaves it out.
    #[arg(long, default_value_t = 0.0, value_name = "MINUTES")]
    minutes: f64,
    /// Threads that do nothing but load the machine during the loop.
    #[arg(long, default_value_t = 0, value_name = "N")]
    load: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    model: String,
    frame_to_features: FrameToFeatures,
    /// `None`: no other format could be made; `say` told why.
    quantised: Option<Quantised>,
    preprocess: Preprocess,
    /// `None`: no --python was given.
    python: Option<PythonWay>,
    tract: Option<Tract>,
    /// `None`: no --against was given.
    against: Option<Against>,
    /// `None`: --minutes 0.
    #[serde(rename = "loop")]
    held_loop: Option<HeldLoop>,
    robot: Robot,
    engine: EngineReport,
    cpu_features: Vec<&'static str>,
    git_revision: &'static str,
}

#[derive(Serialize)]
struct FrameToFeatures {
    /// Goal: at most 1.05.
    ratio_to_bare_session: f64,
    micros: f64,
    bare_session_micros: f64,
}

#[derive(Serialize)]
struct Preprocess {
    micros: f64,
    /// Goal: at most 0.5.
    ratio_to_opencv_chain: Option<f64>,
    opencv_chain_micros: Option<f64>,
    resize: &'static str,
}

#[derive(Serialize)]
struct Tract {
    micros: f64,
    /// Over ONNX Runtime on the CPU at the same number of threads, one.
    ratio_to_onnxruntime: f64,
}

#[derive(Serialize)]
struct Against {
    engine: EngineReport,
    micros: f64,
    /// How many times faster than --provider.
    speedup: f64,
    /// Smallest over tokens and class token.
    cosine: f64,
}

#[derive(Serialize)]
struct Robot {
    binary_bytes: u64,
    /// Load, check and prove the encoder.
    open_millis: f64,
    resident_mebibytes: f64,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let profile = foresee_firmware_config::load("desktop-sim")?;
    let engine = arguments.encoder.options(&profile)?;
    let scratch = tempfile::tempdir().context("a folder for temporary files")?;
    let model = match &arguments.encoder.encoder {
        Some(path) => path.clone(),
        None => vit_small(scratch.path(), &engine)?,
    };
    let frame = test_frame();
    say("frame to features beside the bare session");
    let started = Instant::now();
    drop(open_encoder(&model, &engine)?);
    let open_millis = started.elapsed().as_secs_f64() * 1e3;
    let options = MeasureOptions { num_rounds: arguments.rounds, num_runs: arguments.runs };
    let served = measure_serving(&model, &frame, &engine, options)?;
    let card = ModelCard::load(&model)?;
    let mut python = match &arguments.python {
        Some(interpreter) => Some(Python::start(interpreter, &model, &card, (&engine, scratch.path()))?),
        None => None,
    };
    let ways = python.as_mut().map(|python| python.measure(&frame, (&model, &engine), arguments.rounds)).transpose()?;
    let quantised = formats::measure(arguments, &model, (&frame, &engine, scratch.path()), python.as_mut())?;
    let ways = ways.map(|way| way.explained(served.bare_micros, quantised.as_ref().map(Quantised::micros)));
    say("tract beside ONNX Runtime, one thread");
    let tract = tract(&model, &frame, &engine, arguments.rounds)?;
    let against = against(arguments, &model, (&frame, &engine))?;
    let held_loop = match arguments.minutes {
        minutes if minutes > 0.0 => {
            say(&format!("a loop of 30 Hz for {minutes} minutes"));
            Some(HeldLoop::run(
                open_encoder(&model, &engine)?,
                &frame,
                &Load { minutes, threads: arguments.load },
                &stop,
            )?)
        }
        _ => None,
    };
    let measured = Measured {
        model: card.name.clone(),
        frame_to_features: FrameToFeatures::of(&served),
        quantised,
        preprocess: Preprocess::of(&served, &card, ways.as_ref()),
        python: ways,
        tract,
        against,
        held_loop,
        robot: Robot {
            binary_bytes: machine::running_binary_bytes(),
            open_millis,
            resident_mebibytes: held_loop::resident_mebibytes(),
        },
        engine: served.engine,
        cpu_features: machine::cpu_features(),
        git_revision: machine::GIT_REVISION,
    };
    conclude(&measured, arguments.json, &stop)
}

impl FrameToFeatures {
    fn of(served: &ServingMeasure) -> Self {
        Self {
            ratio_to_bare_session: served.ratio_to_bare_session,
            micros: served.frame_to_features_micros,
            bare_session_micros: served.bare_micros,
        }
    }
}

impl Preprocess {
    fn of(served: &ServingMeasure, card: &ModelCard, python: Option<&PythonWay>) -> Self {
        Self {
            micros: python.map_or(served.preprocess_micros, |python| python.our_preprocess_micros),
            ratio_to_opencv_chain: python.map(|python| python.preprocess_ratio),
            opencv_chain_micros: python.map(|python| python.opencv_chain_micros),
            resize: card.preprocessing.as_ref().map_or("", |preprocessing| preprocessing.resize.name()),
        }
    }
}

/// 640x480 BGR, every byte another.
fn test_frame() -> Frame {
    let mut frame = Frame::black(640, 480, PixelEncoding::Bgr8);
    let mut state = 1_u32;
    for byte in &mut frame.data {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    frame
}

/// An encoder with all that it needs for a frame.
struct Served {
    encoder: Box<dyn Encoder>,
    preprocessor: Preprocessor,
    input: EncoderInput,
    features: Features,
}

impl Served {
    fn open(model: &Path, engine: &EngineOptions) -> anyhow::Result<Self> {
        let encoder = open_encoder(model, engine)?;
        let preprocessing = encoder.card().preprocessing.clone().context("the encoder's card has no preprocessing")?;
        let input = EncoderInput::zeros(preprocessing.height, preprocessing.width);
        let preprocessor = Preprocessor::new(&preprocessing)?;
        Ok(Self { encoder, preprocessor, input, features: Features::zeros(0, 0) })
    }

    /// Of the last features; the smaller of tokens and class token.
    fn cosine(&self, other: &Self) -> f64 {
        cosine(&self.features.tokens, &other.features.tokens).min(cosine(&self.features.cls, &other.features.cls))
    }

    /// Frame -> features, in microseconds.
    fn micros(&mut self, frame: &Frame) -> anyhow::Result<f64> {
        let started = Instant::now();
        self.preprocessor.run(frame, &mut self.input)?;
        self.encoder.encode(&self.input, &mut self.features)?;
        Ok(started.elapsed().as_secs_f64() * 1e6)
    }
}

/// Times of two encoders on the same frame, in turns: medians, and the median of the rounds' ratios `first / second`.
fn beside([first, second]: [&mut Served; 2], frame: &Frame, num_rounds: usize) -> anyhow::Result<[f64; 3]> {
    first.micros(frame)?;
    second.micros(frame)?;
    let mut columns: [Vec<f64>; 3] = Default::default();
    for _ in 0..num_rounds.max(1) * 3 {
        let times = [first.micros(frame)?, second.micros(frame)?];
        let row = [times[0], times[1], times[0] / times[1]];
        columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
    }
    Ok(columns.each_mut().map(|column| median(column)))
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    if a.len() == b.len() { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() } else { f64::NAN }
}

fn against(
    arguments: &Arguments,
    model: &Path,
    (frame, engine): (&Frame, &EngineOptions),
) -> anyhow::Result<Option<Against>> {
    let Some(provider) = arguments.against else { return Ok(None) };
    say(&format!("{} on the same frames", provider.name()));
    let profile = foresee_firmware_config::load("desktop-sim")?;
    let other = EngineArguments { provider, ..arguments.encoder.engine.clone() }.options(&profile)?;
    let (mut ours, mut theirs) = (Served::open(model, engine)?, Served::open(model, &other)?);
    let [_, micros, speedup] = beside([&mut ours, &mut theirs], frame, arguments.rounds)?;
    let cosine = ours.cosine(&theirs);
    Ok(Some(Against { engine: theirs.encoder.report().clone(), micros, speedup, cosine }))
}

/// `None` where tract does not run the model; the reason is said.
fn tract(model: &Path, frame: &Frame, engine: &EngineOptions, rounds: usize) -> anyhow::Result<Option<Tract>> {
    let with =
        |provider| EngineOptions { choice: ProviderChoice::Exactly(provider), intra_threads: 1, ..engine.clone() };
    let mut on_tract = match Served::open(model, &with(Provider::Tract)) {
        Ok(served) => served,
        Err(error) => {
            say(&format!("tract: {error:#}"));
            return Ok(None);
        }
    };
    let mut on_cpu = Served::open(model, &with(Provider::Cpu))?;
    let [micros, _, ratio_to_onnxruntime] = beside([&mut on_tract, &mut on_cpu], frame, rounds.div_ceil(3))?;
    Ok(Some(Tract { micros, ratio_to_onnxruntime }))
}

fn conclude(measured: &Measured, json: bool, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    if json {
        print(&serde_json::to_string_pretty(measured)?);
    } else {
        let Measured { frame_to_features, preprocess, quantised, python, tract, held_loop, .. } = measured;
        print(&format!(
            "frame to features {:.0} us, {:.3} x the bare session",
            frame_to_features.micros, frame_to_features.ratio_to_bare_session
        ));
        let ratio =
            preprocess.ratio_to_opencv_chain.map_or_else(String::new, |ratio| format!(", {ratio:.2} x OpenCV's chain"));
        print(&format!("preprocess {:.0} us{ratio}", preprocess.micros));
        quantised.iter().flat_map(Quantised::lines).for_each(|line| print(&line));
        if let Some(python) = python {
            print(&format!("Python {:.0} us, {:.2} x ours", python.micros, python.ratio_to_ours));
            python.reason.iter().for_each(|reason| print(&format!("       {reason}")));
        }
        if let Some(tract) = tract {
            print(&format!("tract {:.0} us, {:.2} x ONNX Runtime", tract.micros, tract.ratio_to_onnxruntime));
        }
        if let Some(held) = held_loop {
            print(&format!(
                "loop: p50 {:.2} ms, p99 {:.2} ms, {} of {} deadlines missed, {} frames dropped, {} ticks held, {:+.3} MiB a minute",
                held.p50_millis,
                held.p99_millis,
                held.missed_deadlines,
                held.ticks,
                held.frames_dropped,
                held.held,
                held.rss_slope_mebibytes_per_minute
            ));
        }
    }
    Ok(if stop.load(std::sync::atomic::Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}
