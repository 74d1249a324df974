//! Admits an encoder that was exported elsewhere: finds its image and its features, runs it once, and writes its card.

mod copy;
mod explore;
mod find;
mod policy;
mod trace;

use std::collections::BTreeMap;
use std::path::Path;

use foresee_firmware_config::CameraOrder;

pub use self::copy::copy_model;
use self::explore::{Explorer, FoundOutput};
use self::find::{Found, describe_input, image_card, image_of, interface_of, layout_of, sizes_of};
pub use self::policy::{PolicyAdmitOptions, admit_policy};
use self::trace::Trace;
use super::{EngineOptions, ProviderChoice, Refusal, open_onnx_encoder};
use crate::card::{
    CARD_FORMAT, ElementType, ExternalFile, Golden, ImageLayout, ModelCard, ModelKind, PreprocessingCard, Provenance,
    TensorCard, TensorData, TokenLayout,
};
use crate::encoder::{Encoder as _, EngineReport};
use crate::error::RuntimeError;
use crate::files::{inside_folder, read_limited, sha256_file};
use crate::onnx::OnnxSummary;

/// The limit of an ONNX file, which is one protobuf message.
const MAX_MODEL_BYTES: u64 = 2 << 30;

/// Height and width of the image that an encoder's graph is for.
///
/// # Errors
/// [`RuntimeError::File`] when the model cannot be read, [`RuntimeError::Model`] when it is no encoder, or leaves the size open.
pub fn declared_image_size(model: &Path) -> Result<(usize, usize), RuntimeError> {
    let refuse = |problem: String| RuntimeError::Model { path: model.to_path_buf(), problem };
    let summary = OnnxSummary::parse(&read_limited(model, MAX_MODEL_BYTES)?).map_err(refuse)?;
    let image = image_of(&summary).map_err(refuse)?;
    let sizes = sizes_of(&summary, image).map_err(refuse)?;
    sizes.ok_or_else(|| refuse("the graph leaves the size of its image open; give --image SIDE".to_owned()))
}

/// What cannot be found in the file, or is to be found otherwise.
#[derive(Clone, Debug)]
pub struct AdmitOptions {
    /// For people, such as `dinov2-small`.
    pub name: String,
    /// Size, resampling and normalisation. The size must be one that the graph takes.
    pub preprocessing: PreprocessingCard,
    /// Order of the image's dimensions, where the graph leaves it open.
    pub layout: Option<ImageLayout>,
    /// The output that holds the tokens, where there are several.
    pub tokens: Option<String>,
    /// How the tokens' output lies, where it is a map and the graph leaves it open.
    pub token_layout: Option<TokenLayout>,
    /// Rows before the patches', where they do not follow from the graph's patches.
    pub num_prefix_tokens: Option<usize>,
    /// Where the class token is.
    pub cls: ClassTokenChoice,
    /// Largest difference from the golden output; by precision and size of the outputs when absent.
    pub tolerance: Option<f32>,
    /// What made it, as far as is known.
    pub provenance: Provenance,
}

/// Where the class token is to be taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClassTokenChoice {
    /// An output of its own, else the first row before the patches', else the mean over the tokens.
    Found,
    /// The first row.
    First,
    /// The mean over the tokens.
    Mean,
    /// The output of this name.
    Output(String),
}

/// A model that can be served from now on.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Written beside the model.
    pub card: ModelCard,
    /// What proved it after the card was written.
    pub report: EngineReport,
    /// What was found and taken, for people; one line each.
    pub notes: Vec<String>,
}

/// Writes the card of an encoder and proves it once.
///
/// # Errors
/// [`RuntimeError::File`] when the model cannot be read, [`RuntimeError::Model`] when it is no encoder or cannot be run, with what to
/// give; [`RuntimeError::Provider`] when the engine is not there. Nothing is left behind then.
pub fn admit_encoder(model: &Path, options: &AdmitOptions, engine: &EngineOptions) -> Result<Admitted, RuntimeError> {
    let refuse = |problem: String| RuntimeError::Model { path: model.to_path_buf(), problem };
    options.preprocessing.check().map_err(refuse)?;
    let bytes = read_limited(model, MAX_MODEL_BYTES)?;
    let summary = OnnxSummary::parse(&bytes).map_err(refuse)?;
    let image = image_of(&summary).map_err(refuse)?;
    let layout = layout_of(&summary, image, options.layout).map_err(refuse)?;
    let random = random_outputs(&summary);
    if let [Some(problem), others @ ..] = random.as_slice()
        && others.iter().all(Option::is_some)
    {
        return Err(refuse(problem.clone()));
    }
    let mut card = blank_card(model, &summary, ModelKind::Encoder, (&options.name, &options.provenance))?;
    card.preprocessing = Some(options.preprocessing.clone());
    card.inputs = vec![image_card(image, layout, options).map_err(refuse)?];
    let external = card.load_external(model)?;
    let explorer = Explorer { path: model, bytes: &bytes, external: &external, summary: &summary, engine };
    let exploration = explorer.run(&card).map_err(|refusal| match refusal {
        Refusal::Provider(problem) => RuntimeError::Provider { provider: describe(&engine.choice), problem },
        Refusal::Model(problem) => refuse(problem),
    })?;
    let trace = Trace::new(&summary, &image.name);
    let mut notes = vec![describe_input(image, layout)];
    let found = Found { exploration: &exploration, trace: &trace, options };
    let mut unread = None;
    let shapes = |output: &str| {
        explorer.shapes(&card, &trace.probes(output)).unwrap_or_else(|problem| {
            unread = Some(problem);
            Default::default()
        })
    };
    let interface = interface_of((image, layout), &found, shapes, &mut notes);
    let interface = interface.map_err(|problem| {
        let unread = unread.map_or_else(String::new, |why| format!(" (shapes inside the graph are not known: {why})"));
        refuse(problem + &unread)
    })?;
    let served: Vec<&str> = exploration.served(&interface).iter().map(|output| output.card.name.as_str()).collect();
    exploration.judge(&served, &summary).map_err(refuse)?;
    notes.extend(exploration.dropout_note(&summary));
    fill_golden(&mut card, &exploration.served(&interface), &exploration.golden_inputs, options.tolerance);
    interface.feature_shape(&card.outputs).map_err(refuse)?;
    card.interface = Some(interface);
    card.save(model)?;
    let proved = open_onnx_encoder(model, &EngineOptions { trust: Default::default(), ..engine.clone() });
    let encoder = proved.inspect_err(|_| {
        // A card that does not prove itself helps nobody; the proof's failure is the one to report.
        let _ = std::fs::remove_file(ModelCard::path_of(model));
    })?;
    notes.push(batch_note(model, engine));
    Ok(Admitted { report: encoder.report().clone(), card, notes })
}

/// Why each output is no function of the image, in graph order; before an engine says that it lacks the operator.
fn random_outputs(summary: &OnnxSummary) -> Vec<Option<String>> {
    summary.outputs.iter().map(|output| summary.check_is_function(&[&output.name]).err()).collect()
}

/// Whether the images of several cameras can go through it at once.
fn batch_note(model: &Path, engine: &EngineOptions) -> String {
    let two =
        EngineOptions { trust: Default::default(), num_cameras: 2, camera_order: CameraOrder::Batch, ..engine.clone() };
    match open_onnx_encoder(model, &two) {
        Ok(encoder) if encoder.num_images() == 2 => "several cameras: in one batch, or in turn".to_owned(),
        Ok(_) => "several cameras: one image after the other, since the graph is for one at a time".to_owned(),
        Err(refused) => format!("several cameras: not with `rates.cameras = \"batch\"`: {refused}"),
    }
}

fn describe(choice: &ProviderChoice) -> String {
    match choice {
        ProviderChoice::Exactly(provider) => provider.name().to_owned(),
        ProviderChoice::Auto(_) => "auto".to_owned(),
    }
}

fn blank_card(
    model: &Path,
    summary: &OnnxSummary,
    kind: ModelKind,
    (name, provenance): (&str, &Provenance),
) -> Result<ModelCard, RuntimeError> {
    let external = |name: &String| {
        let name = inside_folder(name).ok_or_else(|| {
            let problem = format!("keeps weights in `{name}`, outside its folder; export it with them beside it");
            RuntimeError::Model { path: model.to_path_buf(), problem }
        })?;
        Ok((name.clone(), sha256_file(&model.with_file_name(&name))?))
    };
    // One file may be named in several ways.
    let external: BTreeMap<String, String> =
        summary.external_files.iter().map(external).collect::<Result<_, RuntimeError>>()?;
    Ok(ModelCard {
        format: CARD_FORMAT,
        kind,
        name: name.to_owned(),
        model: model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256_file(model)?,
        inputs: Vec::new(),
        outputs: Vec::new(),
        external: external.into_iter().map(|(name, sha256)| ExternalFile { name, sha256 }).collect(),
        interface: None,
        preprocessing: None,
        joints: Vec::new(),
        encoder_sha256: None,
        golden: Golden { inputs: Default::default(), outputs: Default::default(), tolerance: 1.0 },
        provenance: provenance.clone(),
    })
}

/// Outputs, golden tensors and tolerance.
fn fill_golden(card: &mut ModelCard, used: &[&FoundOutput], golden_inputs: &[Vec<f32>], tolerance: Option<f32>) {
    card.outputs = used.iter().map(|output| output.card.clone()).collect();
    let data = |tensor: &TensorCard, values: &[f32]| (tensor.name.clone(), TensorData::new(&tensor.shape, values));
    let inputs = card.inputs.iter().zip(golden_inputs);
    card.golden.inputs = inputs.map(|(tensor, values)| data(tensor, values)).collect();
    card.golden.outputs = used.iter().map(|output| data(&output.card, &output.values)).collect();
    let largest = used.iter().flat_map(|output| &output.values).fold(1.0_f32, |most, value| most.max(value.abs()));
    let is_f32 = card.inputs.iter().chain(&card.outputs).all(|tensor| tensor.element == ElementType::F32);
    card.golden.tolerance = tolerance.unwrap_or(if is_f32 { 1e-4 } else { 2e-2 } * largest);
}
