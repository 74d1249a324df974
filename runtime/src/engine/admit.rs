//! Admits an encoder that was exported elsewhere: finds its image and its features, runs it once, and writes its card.

use std::path::Path;

use super::{EngineOptions, Model, NamedTensor, ProviderChoice, Refusal, open_onnx_encoder};
use crate::card::{
    CARD_FORMAT, ClassToken, ElementType, EncoderInterface, ExternalFile, Golden, ImageLayout, ModelCard, ModelKind,
    PreprocessingCard, Provenance, TensorCard, TensorData, TokenLayout,
};
use crate::encoder::{Encoder as _, EngineReport};
use crate::error::RuntimeError;
use crate::files::{read_limited, sha256_file};
use crate::onnx::{OnnxAxis, OnnxSummary, OnnxTensor, type_name};

/// `TensorProto.DataType` of the inputs that are understood.
const DATA_FLOAT: i32 = 1;
const DATA_FLOAT16: i32 = 10;
/// The limit of an ONNX file, which is one protobuf message.
const MAX_MODEL_BYTES: u64 = 2 << 30;
/// Most class, distillation and register tokens before the patches'.
const MAX_PREFIX_TOKENS: usize = 16;
/// The seed of the golden input.
const GOLDEN_SEED: u64 = 20_261_120;

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
        let others = explore(&model, &input(GOLDEN_SEED + 1), engine)?;
        for (output, other) in outputs.iter().zip(&others) {
            let name = &output.card.name;
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

/// The one input, which must be an image.
fn image_of(summary: &OnnxSummary) -> Result<&OnnxTensor, String> {
    let names = || summary.inputs.iter().map(|input| format!("`{}`", input.name)).collect::<Vec<_>>().join(", ");
    let [image] = summary.inputs.as_slice() else {
        return Err(format!(
            "has {} inputs ({}) where an encoder has one, the image; export it with the others fixed",
            summary.inputs.len(),
            names()
        ));
    };
    if ![DATA_FLOAT, DATA_FLOAT16].contains(&image.data_type) {
        let (name, found) = (&image.name, type_name(image.data_type));
        return Err(format!("input `{name}` is {found}, and f32 and f16 are understood; export it with a float input"));
    }
    match &image.shape {
        Some(axes) if axes.len() != 4 => {
            let (name, count) = (&image.name, axes.len());
            Err(format!("input `{name}` has {count} dimensions where an image has 4: [1, 3, H, W] or [1, H, W, 3]"))
        }
        _ => Ok(image),
    }
}

/// The layouts to try: one where the graph tells.
fn layouts(image: &OnnxTensor, options: &AdmitOptions) -> Result<Vec<ImageLayout>, String> {
    let channels = |axis: usize| match image.shape.as_ref().and_then(|axes| axes.get(axis)) {
        Some(OnnxAxis::Fixed(size)) => Some(*size),
        _ => None,
    };
    let can = |axis: usize| channels(axis).is_none_or(|size| size == 3);
    let possible: Vec<ImageLayout> = [(ImageLayout::Nchw, 1), (ImageLayout::Nhwc, 3)]
        .into_iter()
        .filter(|(layout, axis)| can(*axis) && options.layout.is_none_or(|wanted| wanted == *layout))
        .map(|(layout, _)| layout)
        .collect();
    // A graph that fixes 3 channels in one place means that one.
    let sure: Vec<ImageLayout> = possible
        .iter()
        .copied()
        .filter(|layout| channels(if *layout == ImageLayout::Nchw { 1 } else { 3 }) == Some(3))
        .collect();
    if possible.is_empty() {
        let wanted = options.layout.map_or_else(String::new, |layout| format!(" as {layout:?}"));
        return Err(format!("input `{}` {} is no image of 3 channels{wanted}", image.name, describe_shape(image)));
    }
    Ok(if sure.is_empty() { possible } else { sure })
}

fn image_card(image: &OnnxTensor, layout: ImageLayout, options: &AdmitOptions) -> Result<TensorCard, String> {
    let PreprocessingCard { width, height, .. } = options.preprocessing;
    let shape = match layout {
        ImageLayout::Nchw => [1, 3, height, width],
        ImageLayout::Nhwc => [1, height, width, 3],
    };
    for (axis, size) in image.shape.iter().flatten().zip(shape) {
        match axis {
            OnnxAxis::Fixed(fixed) if *fixed != size => {
                return Err(format!(
                    "input `{}` is {}, and an image of {width}x{height} would be {shape:?}; give --image HEIGHTxWIDTH as the graph has it, or export it with batch 1 or open dimensions",
                    image.name,
                    describe_shape(image)
                ));
            }
            _ => {}
        }
    }
    let element = if image.data_type == DATA_FLOAT16 { ElementType::F16 } else { ElementType::F32 };
    Ok(TensorCard { element, ..TensorCard::f32(&image.name, &shape) })
}

fn describe_shape(tensor: &OnnxTensor) -> String {
    let Some(axes) = &tensor.shape else { return "of unknown shape".to_owned() };
    let axis = |axis: &OnnxAxis| match axis {
        OnnxAxis::Fixed(size) => size.to_string(),
        OnnxAxis::Dynamic(name) if name.is_empty() => "?".to_owned(),
        OnnxAxis::Dynamic(name) => name.clone(),
    };
    format!("[{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

fn describe_input(image: &OnnxTensor, layout: ImageLayout) -> String {
    let order = if layout == ImageLayout::Nchw { "NCHW" } else { "NHWC" };
    format!("image: input `{}` {} {}, {order}", image.name, describe_shape(image), type_name(image.data_type))
}

/// Which outputs are the features.
fn interface_of(
    image: &OnnxTensor,
    layout: ImageLayout,
    found: &Exploration,
    (options, notes): (&AdmitOptions, &mut Vec<String>),
) -> Result<EncoderInterface, String> {
    let tokens = tokens_of(found, options)?;
    let PreprocessingCard { width, height, .. } = options.preprocessing;
    let shape = tokens.shape.as_slice();
    let (token_layout, num_rows, dim) = match *shape {
        [1, rows, dim] => (TokenLayout::Rows, rows, dim),
        [1, first, second, third] if first >= third => (TokenLayout::ChannelsFirst, second * third, first),
        [1, first, second, third] => (TokenLayout::ChannelsLast, first * second, third),
        [1, dim] => (TokenLayout::Pooled, 1, dim),
        _ => {
            return Err(format!(
                "output `{}` {shape:?} is neither tokens nor a feature map; give --tokens NAME",
                tokens.name
            ));
        }
    };
    let num_prefix_tokens = match (token_layout, options.num_prefix_tokens) {
        (TokenLayout::Rows, Some(given)) => given,
        (TokenLayout::Rows, None) => num_prefix(num_rows, height, width).ok_or_else(|| {
            format!(
                "output `{}` has {num_rows} rows, which is no grid of patches of a {width}x{height} image behind at most {MAX_PREFIX_TOKENS} tokens; give --prefix-tokens N (0 when every row is a patch)",
                tokens.name
            )
        })?,
        _ => 0,
    };
    let pooled = |name: Option<&str>| {
        found.outputs.iter().map(|output| &output.card).find(|card| {
            card.shape == [1, dim] && card.name != tokens.name && name.is_none_or(|name| card.name == name)
        })
    };
    let cls = match (&options.cls, pooled(None)) {
        (ClassTokenChoice::Output(name), _) => match pooled(Some(name)) {
            Some(card) => ClassToken::Output(card.name.clone()),
            None => {
                return Err(format!(
                    "has no output `{name}` of shape [1, {dim}] for the class token; outputs: {}",
                    found.describe()
                ));
            }
        },
        (ClassTokenChoice::First, _) => ClassToken::Row(0),
        (ClassTokenChoice::Mean, _) => ClassToken::Mean,
        (ClassTokenChoice::Found, Some(card)) => ClassToken::Output(card.name.clone()),
        (ClassTokenChoice::Found, None) if num_prefix_tokens > 0 || token_layout == TokenLayout::Pooled => {
            ClassToken::Row(0)
        }
        (ClassTokenChoice::Found, None) => ClassToken::Mean,
    };
    notes.push(format!(
        "tokens: output `{}` {shape:?}, {} of {dim} behind {num_prefix_tokens} that are no patches",
        tokens.name,
        num_rows - num_prefix_tokens.min(num_rows)
    ));
    notes.push(match &cls {
        ClassToken::Row(row) => format!("class token: row {row} of `{}`", tokens.name),
        ClassToken::Output(name) => format!("class token: output `{name}`"),
        ClassToken::Mean => "class token: none; the mean over the tokens stands for it".to_owned(),
    });
    let (image, tokens) = (image.name.clone(), tokens.name.clone());
    Ok(EncoderInterface { image, layout, tokens, token_layout, num_prefix_tokens, cls })
}

impl Exploration {
    fn describe(&self) -> String {
        self.outputs
            .iter()
            .map(|output| format!("`{}` {:?}", output.card.name, output.card.shape))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The output that holds the tokens: the named one, else the only one with most structure (rows, feature map, pooled).
fn tokens_of<'a>(found: &'a Exploration, options: &AdmitOptions) -> Result<&'a TensorCard, String> {
    let cards = || found.outputs.iter().map(|output| &output.card);
    if let Some(name) = &options.tokens {
        let named = cards().find(|card| card.name == *name);
        return named.ok_or_else(|| format!("has no floating output `{name}`; outputs: {}", found.describe()));
    }
    for rank in [3, 4, 2] {
        let of_rank: Vec<&TensorCard> = cards().filter(|card| card.shape.len() == rank).collect();
        match of_rank.as_slice() {
            [] => {}
            [only] => return Ok(only),
            // The names of our own exports and of the libraries that most encoders come from.
            several => {
                let usual = ["tokens", "last_hidden_state", "x_norm_patchtokens", "patch_tokens", "features"];
                let named = usual.iter().find_map(|name| several.iter().find(|card| card.name == *name));
                return named.copied().ok_or_else(|| {
                    format!("has several outputs that could be the tokens; give --tokens NAME: {}", found.describe())
                });
            }
        }
    }
    Err(format!("has no output that could be tokens; outputs: {}", found.describe()))
}

/// How many rows come before a full grid of square patches; the finest grid that fits.
fn num_prefix(num_rows: usize, height: usize, width: usize) -> Option<usize> {
    let grids = (1..=height.min(width)).filter(|patch| height.is_multiple_of(*patch) && width.is_multiple_of(*patch));
    let finest = grids.map(|patch| (height / patch) * (width / patch)).filter(|count| *count <= num_rows).max()?;
    Some(num_rows - finest).filter(|prefix| *prefix <= MAX_PREFIX_TOKENS && *prefix < finest.max(2))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_before_the_patches_are_told_from_their_number() {
        let check = |num_rows: usize, (height, width): (usize, usize), expected: Option<usize>| {
            assert_eq!(num_prefix(num_rows, height, width), expected, "{num_rows} rows of {width}x{height}");
        };
        check(196, (224, 224), Some(0));
        check(197, (224, 224), Some(1));
        check(198, (224, 224), Some(2));
        check(201, (224, 224), Some(5));
        check(261, (224, 224), Some(5));
        check(17, (32, 32), Some(1));
        check(50, (224, 224), Some(1));
        check(193, (192, 256), Some(1));
        check(100, (224, 224), None);
    }
}
