//! Engines: which provider runs a model, and the proof that it does so rightly on this machine.
//!
//! A provider is never swapped in silence: one that was asked for and does not come up is an error; `Auto` goes down a list and
//! the [`EngineReport`] says what became of each. A model is served only after it gave its card's golden output here.

mod adapters;
mod measure;
#[cfg(feature = "ort")]
mod onnxruntime;
mod probe;
#[cfg(feature = "tract")]
mod tract;

use std::path::{Path, PathBuf};

use foresee_firmware_config::Provider;

use self::adapters::{OnnxEncoder, OnnxPolicy};
pub use self::measure::{MeasureOptions, ServingMeasure, measure_serving};
pub use self::probe::{ProviderProbe, probe_providers};
use crate::card::{ModelCard, ModelKind, TensorCard, TensorData};
use crate::encoder::{Encoder, EngineReport};
use crate::error::RuntimeError;
use crate::policy::Policy;

/// How to run models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Which provider.
    pub choice: ProviderChoice,
    /// Threads inside one inference (ONNX Runtime; tract uses one).
    pub intra_threads: usize,
    /// `libonnxruntime.so` of ONNX Runtime; `None` leaves it to the system's library path.
    pub library: Option<PathBuf>,
}

/// Which provider runs a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProviderChoice {
    /// The first of these that comes up and proves the model.
    Auto(Vec<Provider>),
    /// This one, or an error.
    Exactly(Provider),
}

/// Opens an encoder: reads the card, checks the model against it, and proves it on the chosen provider.
///
/// # Errors
/// [`RuntimeError::File`] and [`RuntimeError::Card`] for a missing, damaged or foreign file, [`RuntimeError::Provider`] when the
/// provider does not come up, [`RuntimeError::Model`] when the model cannot be loaded or does not prove itself.
pub fn open_encoder(model: &Path, options: &EngineOptions) -> Result<Box<dyn Encoder>, RuntimeError> {
    let (card, bytes) = ModelCard::load_with_model(model)?;
    expect_kind(model, &card, ModelKind::Encoder)?;
    let opened = open_session(&Model { path: model, card: &card, bytes: &bytes }, options)?;
    let encoder = OnnxEncoder::new(card, opened);
    encoder.map(|encoder| Box::new(encoder) as _).map_err(|problem| card_error(model, problem))
}

/// Opens a policy for the features of this encoder and these joints, as [`open_encoder`] does.
///
/// # Errors
/// As [`open_encoder`]; [`RuntimeError::Card`] also when the policy was trained on another encoder or for other joints.
pub fn open_policy(
    model: &Path,
    encoder_card: &ModelCard,
    joint_names: &[String],
    options: &EngineOptions,
) -> Result<Box<dyn Policy>, RuntimeError> {
    let (card, bytes) = ModelCard::load_with_model(model)?;
    expect_kind(model, &card, ModelKind::Policy)?;
    adapters::check_policy(&card, encoder_card, joint_names).map_err(|problem| card_error(model, problem))?;
    let opened = open_session(&Model { path: model, card: &card, bytes: &bytes }, options)?;
    let policy = OnnxPolicy::new(card, opened);
    policy.map(|policy| Box::new(policy) as _).map_err(|problem| card_error(model, problem))
}

/// What runs a graph: f32 tensors in, f32 tensors out, in the card's order and shapes.
trait InferenceSession: Send {
    /// Every slice has its tensor's number of values.
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String>;
    /// The engine's plainest call on the inputs of the last run: what serving is measured against.
    fn run_bare(&mut self) -> Result<(), String>;
}

/// A session that has proved its model, and what it is.
struct OpenedSession {
    session: Box<dyn InferenceSession>,
    report: EngineReport,
}

/// A model file, read and checked against its card.
struct Model<'a> {
    path: &'a Path,
    card: &'a ModelCard,
    bytes: &'a [u8],
}

/// Why a provider does not run a model.
enum Refusal {
    /// It is not there.
    Provider(String),
    /// It cannot load this model, or computes it wrongly.
    Model(String),
}

fn open_session(model: &Model<'_>, options: &EngineOptions) -> Result<OpenedSession, RuntimeError> {
    let list = match &options.choice {
        ProviderChoice::Exactly(provider) => {
            return open_one(model, *provider, options)
                .map(|(session, engine)| opened(model, options, *provider, (session, engine, "asked for".to_owned())))
                .map_err(|refusal| match refusal {
                    Refusal::Provider(problem) => {
                        RuntimeError::Provider { provider: provider.name().to_owned(), problem }
                    }
                    Refusal::Model(problem) => RuntimeError::Model { path: model.path.to_path_buf(), problem },
                });
        }
        ProviderChoice::Auto(list) => list,
    };
    let mut refusals = Vec::new();
    for provider in list {
        match open_one(model, *provider, options) {
            Ok((session, engine)) => {
                let reason = match refusals.as_slice() {
                    [] => "first of the list".to_owned(),
                    refusals => format!("after {}", refusals.join("; ")),
                };
                return Ok(opened(model, options, *provider, (session, engine, reason)));
            }
            Err(Refusal::Provider(problem) | Refusal::Model(problem)) => {
                refusals.push(format!("{}: {problem}", provider.name()));
            }
        }
    }
    let names = list.iter().map(|provider| provider.name()).collect::<Vec<_>>().join(", ");
    let problem = format!("none runs {}: {}", model.path.display(), refusals.join("; "));
    Err(RuntimeError::Provider { provider: format!("auto ({names})"), problem })
}

fn opened(
    model: &Model<'_>,
    options: &EngineOptions,
    provider: Provider,
    (session, engine, reason): (Box<dyn InferenceSession>, String, String),
) -> OpenedSession {
    let intra_threads = if provider == Provider::Tract { 1 } else { options.intra_threads };
    let model_sha256 = model.card.sha256.clone();
    OpenedSession { session, report: EngineReport { provider, engine, reason, intra_threads, model_sha256 } }
}

/// Loads the model and has it prove itself; gives the session and the engine's name with version.
fn open_one(
    model: &Model<'_>,
    provider: Provider,
    options: &EngineOptions,
) -> Result<(Box<dyn InferenceSession>, String), Refusal> {
    let (mut session, engine) = load(model, provider, options)?;
    prove(model.card, session.as_mut())
        .map_err(|problem| Refusal::Model(format!("on {} ({engine}) {problem}", provider.name())))?;
    Ok((session, engine))
}

fn load(
    model: &Model<'_>,
    provider: Provider,
    options: &EngineOptions,
) -> Result<(Box<dyn InferenceSession>, String), Refusal> {
    match provider {
        #[cfg(feature = "tract")]
        Provider::Tract => tract::open(model.card, model.bytes),
        #[cfg(feature = "ort")]
        Provider::Cpu | Provider::Cuda | Provider::Tensorrt => {
            onnxruntime::open(model.card, model.bytes, provider, options)
        }
        #[cfg(not(all(feature = "ort", feature = "tract")))]
        _ => {
            let _ = (model.bytes, options);
            let feature = if provider == Provider::Tract { "tract" } else { "ort" };
            Err(Refusal::Provider(format!("this build has no {feature}; build with the feature `{feature}`")))
        }
    }
}

/// Runs the golden input and compares with the golden output.
fn prove(card: &ModelCard, session: &mut dyn InferenceSession) -> Result<(), String> {
    let values = |tensors: &[TensorCard], golden: &std::collections::BTreeMap<String, TensorData>| {
        let values = |tensor: &TensorCard| golden.get(&tensor.name).map_or(Ok(Vec::new()), TensorData::values);
        tensors.iter().map(values).collect::<Result<Vec<_>, _>>()
    };
    let inputs = values(&card.inputs, &card.golden.inputs)?;
    let expected = values(&card.outputs, &card.golden.outputs)?;
    let mut outputs: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; values.len()]).collect();
    let input_slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut output_slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    session.run(&input_slices, &mut output_slices).map_err(|problem| format!("the golden input fails: {problem}"))?;
    for (tensor, (output, expected)) in card.outputs.iter().zip(outputs.iter().zip(&expected)) {
        let worst = output.iter().zip(expected).map(|(a, b)| (a - b).abs());
        let worst = worst.fold(0.0, |worst, off| if off.is_nan() { f32::INFINITY } else { f32::max(worst, off) });
        if worst > card.golden.tolerance {
            let (name, tolerance) = (&tensor.name, card.golden.tolerance);
            return Err(format!(
                "output `{name}` of the golden input is off by {worst:e} where the card allows {tolerance:e}; use another provider or export the model again"
            ));
        }
    }
    Ok(())
}

fn expect_kind(model: &Path, card: &ModelCard, kind: ModelKind) -> Result<(), RuntimeError> {
    if card.kind == kind {
        return Ok(());
    }
    let problem = format!("is the card of {}, and {} is wanted here", describe(card.kind), describe(kind));
    Err(card_error(model, problem))
}

fn describe(kind: ModelKind) -> &'static str {
    match kind {
        ModelKind::Encoder => "an encoder",
        ModelKind::Policy => "a policy",
    }
}

fn card_error(model: &Path, problem: String) -> RuntimeError {
    RuntimeError::Card { path: ModelCard::path_of(model), problem }
}

/// Engines speak in paragraphs; errors are one line.
#[cfg(any(feature = "ort", feature = "tract"))]
fn one_line(error: &impl std::fmt::Display) -> String {
    const MAX_CHARACTERS: usize = 400;
    let text = format!("{error:#}");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{} ...", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// A graph's input or output: its name, and its shape with `None` where the graph leaves it open; empty where unknown.
#[cfg(any(feature = "ort", feature = "tract"))]
type GraphTensor = (String, Vec<Option<usize>>);

/// Compares a graph's tensors with the card's.
#[cfg(any(feature = "ort", feature = "tract"))]
fn check_tensors(side: &str, graph: &[GraphTensor], card: &[TensorCard]) -> Result<(), String> {
    let names = || graph.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if graph.len() != card.len() {
        return Err(format!(
            "has {side} {} where its card names {}; it is the card of another model",
            names(),
            card.len()
        ));
    }
    for TensorCard { name, shape } in card {
        let Some((_, found)) = graph.iter().find(|(found, _)| found == name) else {
            return Err(format!("has no `{name}` among its {side} ({}); it is the card of another model", names()));
        };
        let fits = found.len() == shape.len()
            && found.iter().zip(shape).all(|(found, size)| found.is_none_or(|found| found == *size));
        if !found.is_empty() && !fits {
            return Err(format!("gives `{name}` the shape {found:?} where its card says {shape:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(all(feature = "ort", feature = "tract"))]
mod tests;
