//! What serving an encoder costs beside the bare engine: side by side in interleaved rounds, as ratios.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::adapters::OnnxEncoder;
use super::{EngineOptions, card_error, open_onnx_encoder};
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::preprocess::Preprocessor;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeasureOptions {
    /// Interleaved rounds; a ratio is the median over them.
    pub num_rounds: usize,
    /// Runs of each kind a round; a time is their median.
    pub num_runs: usize,
}

/// Medians over rounds of the rounds' medians, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServingMeasure {
    /// What ran.
    pub engine: EngineReport,
    /// The engine's own call on tensors that it holds.
    pub bare_micros: f64,
    /// Encoder input -> features.
    pub encode_micros: f64,
    /// Frame -> encoder input.
    pub preprocess_micros: f64,
    /// Frame -> features.
    pub frame_to_features_micros: f64,
    /// Median over rounds of frame to features over bare.
    pub ratio_to_bare_session: f64,
}

/// Measures an encoder on frames like this one.
///
/// # Errors
/// As [`super::open_encoder`]; [`RuntimeError::Frame`] and [`RuntimeError::Inference`] when the frame cannot be encoded.
pub fn measure_serving(
    model: &Path,
    frame: &Frame,
    engine: &EngineOptions,
    options: MeasureOptions,
) -> Result<ServingMeasure, RuntimeError> {
    let mut serving = Serving::open(model, engine)?;
    serving.run(frame)?;
    let mut rounds: Vec<[f64; 5]> = Vec::with_capacity(options.num_rounds.max(1));
    for _ in 0..options.num_rounds.max(1) {
        let mut runs = Vec::with_capacity(options.num_runs.max(1));
        for _ in 0..options.num_runs.max(1) {
            runs.push(serving.run(frame)?);
        }
        let [bare, encode, preprocess, whole] = medians(&runs);
        rounds.push([bare, encode, preprocess, whole, whole / bare]);
    }
    let [bare_micros, encode_micros, preprocess_micros, frame_to_features_micros, ratio_to_bare_session] =
        medians(&rounds);
    Ok(ServingMeasure {
        engine: serving.encoder.report().clone(),
        bare_micros,
        encode_micros,
        preprocess_micros,
        frame_to_features_micros,
        ratio_to_bare_session,
    })
}

/// The time of all nodes of one operator in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorTime {
    /// As ONNX Runtime names it after its own fusions, such as `MatMul` or `DynamicQuantizeMatMul`.
    pub operator: String,
    /// Microseconds.
    pub micros: f64,
}

/// Where ONNX Runtime's time goes on the CPU, longest first: of each operator the sum over its nodes of their median over `num_runs`.
/// `folder` takes the runtime's trace.
///
/// # Errors
/// As [`super::open_encoder`].
#[cfg(feature = "ort")]
pub fn measure_operators(
    model: &Path,
    engine: &EngineOptions,
    (num_runs, folder): (usize, &Path),
) -> Result<Vec<OperatorTime>, RuntimeError> {
    let read = super::ReadModel::load(model, engine)?;
    super::onnxruntime::operators(&read.model(model)?, (engine, num_runs), folder)
        .map_err(|refusal| refusal.into_error(model, foresee_firmware_config::Provider::Cpu))
}

struct Serving {
    encoder: OnnxEncoder,
    preprocessor: Preprocessor,
    input: EncoderInput,
    features: Features,
}

impl Serving {
    fn open(model: &Path, engine: &EngineOptions) -> Result<Self, RuntimeError> {
        let encoder = open_onnx_encoder(model, engine)?;
        let no_preprocessing = || card_error(model, "has no preprocessing".to_owned());
        let preprocessing = encoder.card().preprocessing.clone().ok_or_else(no_preprocessing)?;
        Ok(Self {
            preprocessor: Preprocessor::new(&preprocessing)?,
            input: EncoderInput::zeros(preprocessing.height, preprocessing.width),
            features: Features::zeros(0, 0),
            encoder,
        })
    }

    /// Microseconds of each kind, one after the other: bare, encode, preprocess, whole.
    fn run(&mut self, frame: &Frame) -> Result<[f64; 4], RuntimeError> {
        let mut started = Instant::now();
        let mut lap = || {
            let micros = started.elapsed().as_secs_f64() * 1e6;
            started = Instant::now();
            micros
        };
        // On the same session: two of them would take turns in the cache.
        self.encoder.run_bare()?;
        let bare = lap();
        self.encoder.encode(&self.input, &mut self.features)?;
        let encode = lap();
        self.preprocessor.run(frame, &mut self.input)?;
        let preprocess = lap();
        self.preprocessor.run(frame, &mut self.input)?;
        self.encoder.encode(&self.input, &mut self.features)?;
        Ok([bare, encode, preprocess, lap()])
    }
}

/// The median of each column; the upper one of two.
fn medians<const COLUMNS: usize>(rows: &[[f64; COLUMNS]]) -> [f64; COLUMNS] {
    std::array::from_fn(|column| {
        let mut values: Vec<f64> = rows.iter().filter_map(|row| row.get(column).copied()).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    })
}
