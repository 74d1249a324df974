//! A checkpoint's encoder as an ONNX file and its card, in f32, half precision or 8-bit integers, with its error on each engine.

mod calibrate;
mod engines;
mod graph;
mod read;
mod unproved;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{
    CARD_FORMAT, EncoderInput, EngineOptions, Features, Frame, Golden, ModelCard, ModelKind, Preprocessor, Provenance,
    TensorCard, TensorData, sha256_file, write_model,
};
use serde::{Deserialize, Serialize};

use self::calibrate::{Smoothed, smooth};
pub use self::engines::EngineCheck;
use self::engines::check_engine;
pub use self::graph::encoder_graph;
use self::graph::{GraphPrecision, graph_in};
pub(crate) use self::read::weights_of_onnx;
use self::unproved::Unproved;
use crate::encoder::{EncoderWeights, TrainedEncoder};
use crate::error::ModelsError;
use crate::frames::FrameStore;
use crate::random::{Stream, generator, normals};
use crate::recipe::Recipe;

/// Largest difference from the training framework that a card allows in f32.
const GOLDEN_TOLERANCE: f32 = 1e-4;
/// Lower precisions: this many times what the worst engine gave on the golden input, for processors that round otherwise.
const TOLERANCE_MARGIN: f32 = 2.0;
/// Lower precisions where no engine ran: features are of size 1 after the final norm.
const UNMEASURED_TOLERANCE: f32 = 1.0;
/// The seed of the golden input.
const GOLDEN_SEED: u64 = 20_261_120;
/// Frames that 8-bit ranges are calibrated on.
const NUM_CALIBRATION: usize = 32;
/// Frames that engines are compared on, besides the golden input.
const NUM_COMPARED: usize = 8;

/// What the exported graph computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit float.
    #[default]
    F32,
    /// 16-bit float; LayerNorm, softmax, GELU and the residual sum in f32; inputs and outputs are f32.
    F16,
    /// Matrix products with weights in 8-bit integers, activations scaled at run time; the rest in f32.
    Int8,
}

/// How to export.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// What `foresee pretrain` or `foresee import` wrote, or an f32 ONNX file of this exporter with its card beside it.
    pub checkpoint: PathBuf,
    /// The `.onnx` to write; the card goes beside it.
    pub output: PathBuf,
    /// For people, such as `mae-64`.
    pub name: String,
    /// What made it. The recipe and, unless given, the seed are filled in; results gain precision and errors.
    pub provenance: Provenance,
    /// What it computes in.
    pub precision: Precision,
    /// Logs whose frames 8-bit ranges are calibrated on, and every precision is compared on; without them, the golden input alone.
    pub calibration: Vec<PathBuf>,
    /// Engines that are compared with the training framework.
    pub engines: Vec<EngineOptions>,
}

/// What a card's `provenance.results` says of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportResults {
    /// What the graph computes in.
    pub precision: Precision,
    /// Frames that 8-bit ranges were calibrated on.
    pub calibration_frames: usize,
    /// One an engine.
    pub engines: Vec<EngineCheck>,
}

/// Writes `<output>` and its card: input `image` `[B, 3, S, S]`, outputs `tokens` `[B, N, D]` and `cls` `[B, D]`. The card's golden
/// output is what the training framework computes, in f32.
///
/// # Errors
/// [`ModelsError`] when the checkpoint is none or the files cannot be written; nothing is left half-written.
pub fn export(options: &ExportOptions) -> Result<ModelCard, ModelsError> {
    let weights = EncoderWeights::load(&options.checkpoint)?;
    let trained = TrainedEncoder::new(&weights.recipe, &weights.parameters);
    let frames = calibration_inputs(&options.calibration, &weights.recipe)?;
    let smoothed = match options.precision {
        Precision::Int8 if !frames.is_empty() => Some(smooth(&weights, &trained, &frames)?),
        _ => None,
    };
    let (parameters, divisors) = match &smoothed {
        Some(Smoothed { parameters, divisors }) => (parameters, Some(divisors)),
        None => (&weights.parameters, None),
    };
    let precision = match options.precision {
        Precision::F32 => GraphPrecision::F32,
        Precision::F16 => GraphPrecision::F16,
        Precision::Int8 => GraphPrecision::Int8 { divisors },
    };
    let graph = graph_in((&weights.recipe.encoder, parameters), &options.name, precision)?;
    let unproved = Unproved::beside(&options.output)?;
    write_model(unproved.model(), &graph.to_bytes())?;
    let card = prove(options, unproved.model(), (&weights, &trained), &frames)?;
    unproved.publish()?;
    Ok(card)
}

/// The card, first with any tolerance so that engines open the model, then with what they gave.
fn prove(
    options: &ExportOptions,
    model: &Path,
    (weights, trained): (&EncoderWeights, &TrainedEncoder),
    frames: &[EncoderInput],
) -> Result<ModelCard, ModelsError> {
    let golden_input = golden_input(weights.recipe.encoder.image_size);
    let golden_output = trained.features(std::slice::from_ref(&golden_input))?.pop();
    let golden_output = golden_output.ok_or_else(|| ModelsError::Training("the encoder gave nothing".to_string()))?;
    let mut card = card((options, model), weights, golden((&golden_input, &golden_output), GOLDEN_TOLERANCE))?;
    if options.precision != Precision::F32 {
        card.golden.tolerance = f32::MAX;
    }
    card.save(model)?;
    let mut inputs = vec![golden_input];
    let step = frames.len().div_ceil(NUM_COMPARED).max(1);
    inputs.extend(frames.iter().step_by(step).cloned());
    let wanted = trained.features(&inputs)?;
    let mut results = ExportResults {
        precision: options.precision,
        calibration_frames: if options.precision == Precision::Int8 { frames.len() } else { 0 },
        engines: Vec::new(),
    };
    let mut worst = None::<f32>;
    for engine in &options.engines {
        let (check, on_golden) = check_engine((model, engine), (&inputs, &wanted));
        worst = [worst, on_golden].into_iter().flatten().reduce(f32::max);
        results.engines.push(check);
    }
    if options.precision != Precision::F32 {
        card.golden.tolerance =
            worst.map_or(UNMEASURED_TOLERANCE, |worst| (TOLERANCE_MARGIN * worst).max(GOLDEN_TOLERANCE));
    }
    card.provenance.results = to_json(&results)?;
    card.save(model)?;
    Ok(card)
}

fn card(
    (options, model): (&ExportOptions, &Path),
    weights: &EncoderWeights,
    golden: Golden,
) -> Result<ModelCard, ModelsError> {
    let encoder = &weights.recipe.encoder;
    let mut provenance = Provenance { recipe: to_json(&weights.recipe)?, ..options.provenance.clone() };
    if provenance.seeds.is_empty() {
        provenance.seeds.extend(weights.seed);
    }
    Ok(ModelCard {
        format: CARD_FORMAT,
        kind: ModelKind::Encoder,
        name: options.name.clone(),
        model: file_name(model),
        sha256: sha256_file(model)?,
        inputs: vec![tensor_card("image", &[1, 3, encoder.image_size, encoder.image_size])],
        outputs: vec![
            tensor_card("tokens", &[1, encoder.num_patches(), encoder.dim]),
            tensor_card("cls", &[1, encoder.dim]),
        ],
        preprocessing: Some(weights.recipe.data.preprocessing(encoder.image_size)),
        external: Vec::new(),
        interface: None,
        joints: Vec::new(),
        encoder_sha256: None,
        golden,
        provenance,
    })
}

/// Evenly spread frames of the logs as inputs.
fn calibration_inputs(logs: &[PathBuf], recipe: &Recipe) -> Result<Vec<EncoderInput>, ModelsError> {
    if logs.is_empty() {
        return Ok(Vec::new());
    }
    let size = recipe.encoder.image_size;
    let store = FrameStore::from_logs(logs, size)?;
    let mut preprocessor = Preprocessor::new(&recipe.data.preprocessing(size))?;
    let side = u32::try_from(size).unwrap_or(u32::MAX);
    let mut frame = Frame::black(side, side, PixelEncoding::Rgb8);
    let count = NUM_CALIBRATION.min(store.num_frames());
    let mut inputs = Vec::with_capacity(count);
    for idx in 0..count {
        frame.data.copy_from_slice(store.frame(idx * store.num_frames() / count));
        let mut input = EncoderInput::zeros(size, size);
        preprocessor.run(&frame, &mut input)?;
        inputs.push(input);
    }
    Ok(inputs)
}

/// A fixed input of standard normal values.
fn golden_input(size: usize) -> EncoderInput {
    let data = normals(&mut generator(GOLDEN_SEED, Stream::Preview, [0, 0]), 3 * size * size);
    EncoderInput { height: size, width: size, data }
}

fn golden((input, features): (&EncoderInput, &Features), tolerance: f32) -> Golden {
    let tokens = TensorData::new(&[1, features.num_tokens, features.dim], &features.tokens);
    let cls = TensorData::new(&[1, features.dim], &features.cls);
    let image = TensorData::new(&[1, 3, input.height, input.width], &input.data);
    Golden {
        inputs: BTreeMap::from([("image".to_string(), image)]),
        outputs: BTreeMap::from([("tokens".to_string(), tokens), ("cls".to_string(), cls)]),
        tolerance,
    }
}

fn to_json(value: &impl Serialize) -> Result<serde_json::Value, ModelsError> {
    serde_json::to_value(value).map_err(|error| ModelsError::Training(error.to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn tensor_card(name: &str, shape: &[usize]) -> TensorCard {
    TensorCard::f32(name, shape)
}
