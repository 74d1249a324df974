//! Admits an encoder that was exported elsewhere: finds its image and its features, runs it once, and writes its card.

mod find;

use std::path::Path;

use self::find::{describe_input, image_card, image_of, interface_of, layouts, sizes_of};
use super::{EngineOptions, Model, NamedTensor, ProviderChoice, Refusal, open_onnx_encoder};
use crate::card::{
    CARD_FORMAT, ClassToken, ElementType, EncoderInterface, ExternalFile, Golden, ImageLayout, ModelCard, ModelKind,
    PreprocessingCard, Provenance, TensorCard, TensorData,
};
use crate::encoder::{Encoder as _, EngineReport};
use crate::error::RuntimeError;
use crate::files::{read_limited, sha256_file};
use crate::onnx::OnnxSummary;

/// The limit of an ONNX file, which is one protobuf message.
const MAX_MODEL_BYTES: u64 = 2 << 30;
/// The seed of the golden input.
const GOLDEN_SEED: u64 = 20_261_120;

/// How far two runs on one image may be from each other, of the largest value.
const REPEATED: f32 = 1e-3;

/// Height and width of the image that an encoder's graph is for.
///
/// # Errors
/// [`RuntimeError::File`] when the model cannot be read, [`RuntimeError::Model`] when it is no encoder, or leaves the size open.
pub fn declared_image_size(model: &Path) -> Result<(usize, usize), RuntimeError> {
    let refuse = |problem: String| RuntimeError::Model { path: model.to_path_buf(), problem };
    let summary = OnnxSummary::parse(&read_limited(model, MAX_MODEL_BYTES)?).map_err(refuse)?;
    let image = image_of(&summary).map_err(refuse)?;
    let sizes = sizes_of(image).map_err(refuse)?;
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
    /// Rows before the patches', where they cannot be told from the number of rows.
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

/// An encoder that can be served from now on.
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
    let mut card = blank_card(model, &summary, options)?;
    let external = card.load_external(model)?;
    let mut problem = String::new();
    for layout in layouts(image, options).map_err(refuse)? {
        card.inputs = vec![image_card(image, layout, options).map_err(refuse)?];
        let (found, first) = match Exploration::of(model, &card, (&bytes, &external, &summary), engine) {
            Ok(found) => found,
            Err(Refusal::Provider(problem)) => {
                return Err(RuntimeError::Provider { provider: describe(&engine.choice), problem });
            }
            // Where the graph leaves the layout open, the other one may run.
            Err(Refusal::Model(refused)) => {
                problem = refused;
                continue;
            }
        };
        let mut notes = vec![describe_input(image, layout)];
        let interface = interface_of(image, layout, &found, (options, &mut notes)).map_err(refuse)?;
        fill_golden(&mut card, interface, (&found, first), options).map_err(refuse)?;
        card.save(model)?;
        let proved = open_onnx_encoder(model, &EngineOptions { trust: Default::default(), ..engine.clone() });
        let encoder = proved.inspect_err(|_| {
            // A card that does not prove itself helps nobody; the proof's failure is the one to report.
            let _ = std::fs::remove_file(ModelCard::path_of(model));
        })?;
        return Ok(Admitted { report: encoder.report().clone(), card, notes });
    }
    Err(refuse(problem))
}

/// What a graph gave for the golden input.
struct Exploration {
    outputs: Vec<NamedTensor>,
}

impl Exploration {
    /// Runs the graph on the golden input and on another one; gives what came out and the golden input's values.
    fn of(
        path: &Path,
        card: &ModelCard,
        (bytes, external, summary): (&[u8], &[Vec<u8>], &OnnxSummary),
        engine: &EngineOptions,
    ) -> Result<(Self, Vec<f32>), Refusal> {
        let model = Model { path, card, bytes, external, summary: summary.clone(), signed_by: None };
        let input = |seed: u64| -> Vec<NamedTensor> {
            let count = |card: &TensorCard| card.shape.iter().product::<usize>();
            let tensor = |card: &TensorCard| NamedTensor { card: card.clone(), values: noise(seed, count(card)) };
            card.inputs.iter().map(tensor).collect()
        };
        let golden = input(GOLDEN_SEED);
        let outputs = explore(&model, &golden, engine)?;
        let (others, again) = (explore(&model, &input(GOLDEN_SEED + 1), engine)?, explore(&model, &golden, engine)?);
        for ((output, other), again) in outputs.iter().zip(&others).zip(&again) {
            let name = &output.card.name;
            let largest = output.values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            let is_same = |(a, b): (&f32, &f32)| (a - b).abs() <= REPEATED * largest;
            if !output.values.iter().zip(&again.values).all(is_same)
                && output.values.iter().all(|value| value.is_finite())
            {
                return Err(Refusal::Model(format!(
                    "gives another `{name}` for the same image: it draws at random; export it for inference, without dropout"
                )));
            }
            if !output.values.iter().all(|value| value.is_finite()) {
                return Err(Refusal::Model(format!(
                    "gives NaN or infinity in `{name}` for standard normal pixels; export it in f32"
                )));
            }
            if output.values == other.values {
                return Err(Refusal::Model(format!(
                    "gives the same `{name}` for two images: it does not look at them; export the encoder again"
                )));
            }
        }
        let values = golden.into_iter().next().map(|tensor| tensor.values).unwrap_or_default();
        Ok((Self { outputs }, values))
    }
}

fn explore(model: &Model<'_>, inputs: &[NamedTensor], options: &EngineOptions) -> Result<Vec<NamedTensor>, Refusal> {
    use foresee_firmware_config::Provider;

    let providers = match &options.choice {
        ProviderChoice::Exactly(provider) => std::slice::from_ref(provider),
        ProviderChoice::Auto(list) => list.as_slice(),
    };
    // The golden output is a CPU's: what a GPU makes of it is for the proof to say.
    if providers.iter().all(|provider| *provider == Provider::Tract) {
        #[cfg(feature = "tract")]
        return super::tract::explore(model, inputs);
    }
    #[cfg(feature = "ort")]
    return super::onnxruntime::explore(model, inputs, options);
    #[cfg(not(feature = "ort"))]
    {
        let _ = (model, inputs);
        Err(Refusal::Provider("this build has no engine to run the model once".to_owned()))
    }
}

fn describe(choice: &ProviderChoice) -> String {
    match choice {
        ProviderChoice::Exactly(provider) => provider.name().to_owned(),
        ProviderChoice::Auto(_) => "auto".to_owned(),
    }
}

fn blank_card(model: &Path, summary: &OnnxSummary, options: &AdmitOptions) -> Result<ModelCard, RuntimeError> {
    let external = |name: &String| {
        let is_plain = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
        if !is_plain {
            let problem = format!("keeps weights in `{name}`, outside its folder; export it with them beside it");
            return Err(RuntimeError::Model { path: model.to_path_buf(), problem });
        }
        Ok(ExternalFile { name: name.clone(), sha256: sha256_file(&model.with_file_name(name))? })
    };
    Ok(ModelCard {
        format: CARD_FORMAT,
        kind: ModelKind::Encoder,
        name: options.name.clone(),
        model: model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        sha256: sha256_file(model)?,
        inputs: Vec::new(),
        outputs: Vec::new(),
        external: summary.external_files.iter().map(external).collect::<Result<_, _>>()?,
        interface: None,
        preprocessing: Some(options.preprocessing.clone()),
        joints: Vec::new(),
        encoder_sha256: None,
        golden: Golden { inputs: Default::default(), outputs: Default::default(), tolerance: 1.0 },
        provenance: options.provenance.clone(),
    })
}

/// Outputs, golden tensors and tolerance.
fn fill_golden(
    card: &mut ModelCard,
    interface: EncoderInterface,
    (found, input): (&Exploration, Vec<f32>),
    options: &AdmitOptions,
) -> Result<(), String> {
    let is_used = |name: &str| name == interface.tokens || interface.cls == ClassToken::Output(name.to_owned());
    let used: Vec<&NamedTensor> = found.outputs.iter().filter(|output| is_used(&output.card.name)).collect();
    card.outputs = used.iter().map(|output| output.card.clone()).collect();
    let data = |tensor: &TensorCard, values: &[f32]| (tensor.name.clone(), TensorData::new(&tensor.shape, values));
    card.golden.inputs = card.inputs.iter().map(|tensor| data(tensor, &input)).collect();
    card.golden.outputs = used.iter().map(|output| data(&output.card, &output.values)).collect();
    let largest = used.iter().flat_map(|output| &output.values).fold(1.0_f32, |most, value| most.max(value.abs()));
    let is_f32 = card.inputs.iter().chain(&card.outputs).all(|tensor| tensor.element == ElementType::F32);
    card.golden.tolerance = options.tolerance.unwrap_or(if is_f32 { 1e-4 } else { 2e-2 } * largest);
    interface.feature_shape(&card.outputs)?;
    card.interface = Some(interface);
    Ok(())
}

/// Standard normal values, by Box and Muller, the same on every machine to f32's last bits.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    // Whole multiples of 2^-8 are the same in f16.
    (0..count).map(|_| ((normal() * 256.0).round() / 256.0) as f32).collect()
}
