//! Engines: which provider runs a model, and the proof that it does so rightly on this machine.
//!
//! A provider is never swapped in silence: one that was asked for and does not come up is an error; `Auto` goes down a list and
//! the [`EngineReport`] says what became of each. A model is served only after it gave its card's golden output here.

mod adapters;
mod admit;
#[cfg(feature = "ort")]
mod assignment;
mod engine_cache;
mod images;
mod measure;
#[cfg(feature = "ort")]
mod onnxruntime;
mod probe;
mod prove;
mod refusal;
#[cfg(feature = "tract")]
mod tract;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foresee_firmware_config::{CameraOrder, Provider};

use self::adapters::OnnxPolicy;
pub use self::admit::{
    AdmitOptions, Admitted, ClassTokenChoice, PolicyAdmitOptions, admit_encoder, admit_policy, copy_model,
    declared_image_size,
};
pub use self::engine_cache::{CacheState, EngineBuild, EngineCache, EngineKey};
use self::images::open_onnx_encoder;
#[cfg(feature = "ort")]
pub use self::measure::measure_operators;
pub use self::measure::{MeasureOptions, OperatorTime, ServingMeasure, measure_serving};
pub use self::probe::{ProviderProbe, probe_providers};
use self::prove::prove;
use self::refusal::Refusal;
#[cfg(any(feature = "ort", feature = "tract"))]
use crate::card::ElementType;
use crate::card::{ModelCard, ModelKind, TensorCard, Trust};
use crate::encoder::{Encoder, EngineReport};
use crate::error::RuntimeError;
use crate::files::inside_folder;
use crate::onnx::OnnxSummary;
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
    /// Whether a provider that takes only a part of the graph may leave the rest to the CPU; otherwise that is an error.
    pub allow_partial: bool,
    /// Where engines that TensorRT built are kept; without it they are built anew each time.
    pub engine_cache: Option<PathBuf>,
    /// Who must have signed the models.
    pub trust: Trust,
    /// Cameras whose images one encoder sees, and whose features one policy takes.
    pub num_cameras: usize,
    /// Whether these images go through the encoder as one batch.
    pub camera_order: CameraOrder,
}

impl EngineOptions {
    /// This provider alone, one thread, the system's library, unsigned models, one camera.
    pub fn exactly(provider: Provider) -> Self {
        Self {
            choice: ProviderChoice::Exactly(provider),
            intra_threads: 1,
            library: None,
            allow_partial: false,
            engine_cache: None,
            trust: Trust::default(),
            num_cameras: 1,
            camera_order: CameraOrder::default(),
        }
    }
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
    let encoder = open_onnx_encoder(model, options)?;
    Ok(Box::new(encoder))
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
    let read = ReadModel::load(model, options)?;
    expect_kind(model, &read.card, ModelKind::Policy)?;
    let eyes = (encoder_card, options.num_cameras);
    adapters::check_policy(&read.card, eyes, joint_names).map_err(|problem| card_error(model, problem))?;
    let opened = open_session(&read.model(model)?, options)?;
    let policy = OnnxPolicy::new(read.card, opened);
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

/// A card with what was checked against it.
struct ReadModel {
    card: ModelCard,
    bytes: Vec<u8>,
    external: Vec<Vec<u8>>,
    /// Hex of the key that signed the card.
    signed_by: Option<String>,
}

impl ReadModel {
    fn load(path: &Path, options: &EngineOptions) -> Result<Self, RuntimeError> {
        let (card, bytes, card_bytes) = ModelCard::load_with_model(path)?;
        let signed_by = options.trust.check(path, &card_bytes)?;
        let external = card.load_external(path)?;
        Ok(Self { card, bytes, external, signed_by })
    }

    fn model<'a>(&'a self, path: &'a Path) -> Result<Model<'a>, RuntimeError> {
        let summary = OnnxSummary::parse(&self.bytes);
        let refuse = |problem| RuntimeError::Model { path: path.to_path_buf(), problem };
        let summary = summary.map_err(refuse)?;
        for name in &summary.external_files {
            let known = inside_folder(name);
            if !self.card.external.iter().any(|external| Some(&external.name) == known.as_ref()) {
                let problem = format!("keeps weights in `{name}`, which its card does not name; make its card again");
                return Err(refuse(problem));
            }
        }
        let served: Vec<&str> = self.card.outputs.iter().map(|output| output.name.as_str()).collect();
        summary.check_is_function(&served).map_err(refuse)?;
        let (external, signed_by) = (self.external.as_slice(), self.signed_by.clone());
        Ok(Model { path, card: &self.card, bytes: &self.bytes, external, summary, signed_by })
    }
}

/// A model file, read and checked against its card.
#[derive(Clone)]
struct Model<'a> {
    path: &'a Path,
    card: &'a ModelCard,
    bytes: &'a [u8],
    /// In the order of `card.external`.
    external: &'a [Vec<u8>],
    summary: OnnxSummary,
    signed_by: Option<String>,
}

/// A session before its proof.
struct Loaded {
    session: Box<dyn InferenceSession>,
    /// Name and version.
    engine: String,
    /// Nodes by what runs them.
    nodes: BTreeMap<String, usize>,
    /// What there is to say of the engine cache.
    note: Option<String>,
    /// An engine that goes into the cache once it has proved itself.
    build: Option<EngineBuild>,
}

/// A tensor of a graph with values, as f32.
struct NamedTensor {
    card: TensorCard,
    values: Vec<f32>,
}

fn open_session(model: &Model<'_>, options: &EngineOptions) -> Result<OpenedSession, RuntimeError> {
    let list = match &options.choice {
        ProviderChoice::Exactly(provider) => {
            return open_one(model, *provider, options)
                .map(|loaded| opened(model, options, *provider, (loaded, "asked for".to_owned())))
                .map_err(|refusal| refusal.into_error(model.path, *provider));
        }
        ProviderChoice::Auto(list) => list,
    };
    let mut refusals = Vec::new();
    for provider in list {
        match open_one(model, *provider, options) {
            Ok(loaded) => {
                let reason = match refusals.as_slice() {
                    [] => "first of the list".to_owned(),
                    refusals => format!("after {}", refusals.join("; ")),
                };
                return Ok(opened(model, options, *provider, (loaded, reason)));
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
    (Loaded { session, engine, nodes, note, .. }, reason): (Loaded, String),
) -> OpenedSession {
    let report = EngineReport {
        provider,
        engine,
        reason: note.map_or(reason.clone(), |note| format!("{reason}; {note}")),
        intra_threads: if provider == Provider::Tract { 1 } else { options.intra_threads },
        precision: model.summary.precision().to_owned(),
        nodes,
        images: 1,
        signed_by: model.signed_by.clone(),
        model_sha256: model.card.sha256.clone(),
    };
    OpenedSession { session, report }
}

/// Loads the model and has it prove itself.
fn open_one(model: &Model<'_>, provider: Provider, options: &EngineOptions) -> Result<Loaded, Refusal> {
    let mut loaded = load(model, provider, options)?;
    prove(model.card, provider, loaded.session.as_mut())
        .map_err(|problem| Refusal::Model(format!("on {} ({}) {problem}", provider.name(), loaded.engine)))?;
    if let Some(build) = loaded.build.take() {
        build.seal().map_err(|error| Refusal::Provider(error.to_string()))?;
    }
    Ok(loaded)
}

fn load(model: &Model<'_>, provider: Provider, options: &EngineOptions) -> Result<Loaded, Refusal> {
    match provider {
        #[cfg(feature = "tract")]
        Provider::Tract => tract::open(model),
        #[cfg(feature = "ort")]
        Provider::Cpu | Provider::Cuda | Provider::Tensorrt => onnxruntime::open(model, provider, options),
        #[cfg(not(all(feature = "ort", feature = "tract")))]
        _ => {
            let _ = (model.bytes, model.external, model.path, options);
            Err(lacks(provider))
        }
    }
}

#[cfg(not(all(feature = "ort", feature = "tract")))]
fn lacks(provider: Provider) -> Refusal {
    let feature = if provider == Provider::Tract { "tract" } else { "ort" };
    Refusal::Provider(format!("this build has no {feature}; build with the feature `{feature}`"))
}

/// Reads a model with its card, external weights and signature, and checks them against each other; gives the card and the hex of the
/// key that signed it.
///
/// # Errors
/// As [`open_encoder`], short of running it.
pub fn check_model(model: &Path) -> Result<(ModelCard, Option<String>), RuntimeError> {
    let read = ReadModel::load(model, &EngineOptions::exactly(Provider::Tract))?;
    Ok((read.card, read.signed_by))
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

/// What to do about an operator or operator set that an engine lacks; empty when that is not what it says.
#[cfg(any(feature = "ort", feature = "tract"))]
fn explain_operator(message: &str) -> &'static str {
    let message = message.to_lowercase();
    let is_opset = message.contains("opset") && message.contains("guarantees");
    let is_operator = [
        "no op registered",
        "not a registered function/op",
        "not_implemented",
        "unimplemented(",
        "unsupported operator",
        "could not find an implementation",
    ];
    if is_opset || message.contains("unsupported model ir version") {
        "; this engine is older than the model: export it for opset 17, or use a newer ONNX Runtime"
    } else if is_operator.iter().any(|words| message.contains(words)) {
        "; the engine lacks this operator: use another provider, or export the model with standard operators of opset 17"
    } else {
        ""
    }
}

/// A graph's input or output.
#[cfg(any(feature = "ort", feature = "tract"))]
struct GraphTensor {
    name: String,
    /// `None` where the graph leaves a size open; empty where the shape is unknown.
    shape: Vec<Option<usize>>,
    /// `Some(None)`: known, and not one that the loop understands.
    element: Option<Option<ElementType>>,
}

/// Compares a graph's tensors with the card's. Outputs that the card does not name are not computed; inputs must all be given.
#[cfg(any(feature = "ort", feature = "tract"))]
fn check_tensors(side: &str, graph: &[GraphTensor], card: &[TensorCard]) -> Result<(), String> {
    let names = || graph.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ");
    if side == "inputs" && graph.len() != card.len() {
        let (names, count) = (names(), card.len());
        return Err(format!("has {side} {names} where its card names {count}; it is the card of another model"));
    }
    for TensorCard { name, shape, element } in card {
        let Some(found) = graph.iter().find(|found| found.name == *name) else {
            return Err(format!("has no `{name}` among its {side} ({}); it is the card of another model", names()));
        };
        if found.element.is_some_and(|found| found != Some(*element)) {
            return Err(format!(
                "`{name}` is not {element:?} as its card says; export the model in f32 or f16 and make its card again"
            ));
        }
        let fits = found.shape.len() == shape.len()
            && found.shape.iter().zip(shape).all(|(found, size)| found.is_none_or(|found| found == *size));
        if !found.shape.is_empty() && !fits {
            return Err(format!("gives `{name}` the shape {:?} where its card says {shape:?}", found.shape));
        }
    }
    Ok(())
}

#[cfg(test)]
#[cfg(all(feature = "ort", feature = "tract"))]
mod tests;
