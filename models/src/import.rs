//! Official checkpoints in: PyTorch's zip and older files, encoder-only files, training checkpoints, safetensors. Sizes are read off
//! the shapes; nothing in a pickle is ever executed.

mod archive;
mod pickle;
mod shapes;
mod values;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use foresee_runtime::write_atomically;
use serde::Serialize;

use self::archive::Archive;
use self::pickle::Pickle;
use self::shapes::recipe_of;
use self::values::{ElementType, Tensor, Value};
use crate::checkpoint::{NamedTensors, half, load_tensors, tensors_to_bytes};
use crate::error::ModelsError;
use crate::parameters::{Start, encoder_specs, parameter_specs};
use crate::positions::{Stretch, interpolate_positions};
use crate::recipe::Recipe;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 30;
/// Wrappers' prefixes, taken off as the official loaders do.
const PREFIXES: &[&str] = &["module.", "backbone.", "base_encoder."];
/// Dictionaries in dictionaries in which the weights are looked for.
const MAX_DEPTH: usize = 4;
/// Keys under which a checkpoint keeps the weights.
const MODEL_KEYS: &[&str] = &["model", "state_dict"];
/// Format fact of a file of imported weights.
pub(crate) const WEIGHTS_FORMAT: &str = "foresee-weights-1";

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A `.pth` (zip or older) or a `.safetensors`.
    pub file: PathBuf,
    /// Writes the weights as safetensors with the official names.
    pub output: Option<PathBuf>,
    /// Stretches the position tables to images of this many pixels.
    pub image_size: Option<usize>,
    /// Attention heads of the encoder, which no shape tells; by default those of the recipe that the file holds, else `dim / 64` as in
    /// ViT-S, B and L.
    pub heads: Option<usize>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportReport {
    /// The method whose tensors these are: a recipe's name, or `encoder` when there is no decoder.
    pub method: String,
    /// Sizes, as a recipe has them.
    pub recipe: Recipe,
    /// Where the encoder's number of heads is from.
    pub heads_from: HeadsSource,
    /// Tensors taken.
    pub num_tensors: usize,
    /// Values in them.
    pub num_values: usize,
    /// Names that the method has and the file lacks.
    pub missing: Vec<String>,
    /// Names that the file has and the method lacks.
    pub extra: Vec<String>,
    /// Names whose shape differs, with both shapes.
    pub wrong_shape: Vec<String>,
    /// Position tables that were stretched to the wanted grid.
    pub stretched: Vec<String>,
}

/// Where a number of attention heads is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadsSource {
    /// [`ImportOptions::heads`].
    Given,
    /// The recipe that `foresee import` wrote into the file.
    Recipe,
    /// A guess from the encoder's width.
    Width,
}

impl ImportReport {
    /// Whether every tensor is there in its shape, and no other.
    pub fn fits(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.wrong_shape.is_empty()
    }
}

/// Reads a checkpoint and, if asked, writes its weights.
///
/// # Errors
/// [`ModelsError::Checkpoint`] when the file is not one, wants to call something, or does not fit its method and was to be written.
pub fn import(options: &ImportOptions) -> Result<ImportReport, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: options.file.clone(), problem };
    let (tensors, known) = read_weights(&options.file)?;
    let mut tensors = without_prefixes(tensors);
    let (heads, heads_from) = match (options.heads, known) {
        (Some(heads), _) => (Some(heads), HeadsSource::Given),
        (None, Some(recipe)) => (Some(recipe.encoder.heads), HeadsSource::Recipe),
        (None, None) => (None, HeadsSource::Width),
    };
    let (method, mut recipe) = recipe_of(&tensors, heads).map_err(&fail)?;
    let mut stretched = Vec::new();
    if let Some(image_size) = options.image_size {
        recipe.encoder.image_size = image_size;
        recipe.check().map_err(|problem| fail(format!("--image {image_size}: {problem}")))?;
        stretched = stretch_tables(&recipe, &mut tensors).map_err(&fail)?;
    }
    let specs = if method == "encoder" { encoder_specs(&recipe) } else { parameter_specs(&recipe) };
    let [mut missing, mut wrong_shape] = [Vec::new(), Vec::new()];
    for spec in &specs {
        match tensors.get(&spec.name) {
            None if spec.start == Start::SinCos => {}
            None => missing.push(spec.name.clone()),
            Some((shape, _)) if *shape != spec.shape => {
                wrong_shape.push(format!("{} is {shape:?}, not {:?}", spec.name, spec.shape));
            }
            Some(_) => {}
        }
    }
    let is_known = |name: &String| specs.iter().any(|spec| spec.name == *name);
    let extra: Vec<String> = tensors.keys().filter(|name| !is_known(name)).cloned().collect();
    let num_values = tensors.values().map(|(_, values)| values.len()).sum();
    let report = ImportReport {
        method,
        recipe,
        heads_from,
        num_tensors: tensors.len(),
        num_values,
        missing,
        extra,
        wrong_shape,
        stretched,
    };
    if let Some(output) = &options.output {
        if !report.fits() {
            return Err(fail(format!("does not fit {}: {}", report.method, problems(&report))));
        }
        write_weights(output, &report, &tensors)?;
    }
    Ok(report)
}

/// What does not fit, in one line.
fn problems(report: &ImportReport) -> String {
    let list = |what: &str, names: &[String]| {
        let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        if names.is_empty() { String::new() } else { format!("{what}: {shown}{more}; ") }
    };
    let text =
        [list("missing", &report.missing), list("extra", &report.extra), list("wrong shape", &report.wrong_shape)];
    text.concat().trim_end_matches("; ").to_string()
}

fn write_weights(output: &Path, report: &ImportReport, tensors: &NamedTensors) -> Result<(), ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: output.to_path_buf(), problem };
    let recipe = toml::to_string(&report.recipe).map_err(|error| fail(error.to_string()))?;
    let facts = [("format", WEIGHTS_FORMAT.to_string()), ("method", report.method.clone()), ("recipe", recipe)];
    let facts = facts.map(|(key, value)| (key.to_string(), value));
    let bytes = tensors_to_bytes(tensors, &facts).map_err(fail)?;
    Ok(write_atomically(output, &bytes)?)
}

/// The tensors of a file and, if `foresee import` wrote it, their recipe.
fn read_weights(path: &Path) -> Result<(NamedTensors, Option<Recipe>), ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let file_fail = |source| ModelsError::File { path: path.to_path_buf(), source };
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let (tensors, facts) = load_tensors(path)?;
        let is_ours = facts.get("format").is_some_and(|format| format == WEIGHTS_FORMAT);
        let recipe =
            facts.get("recipe").filter(|_| is_ours).map(|text| Recipe::parse(&path.display().to_string(), text));
        return Ok((tensors, recipe.transpose()?));
    }
    let num_bytes = std::fs::metadata(path).map_err(file_fail)?.len();
    if path.extension().is_some_and(|extension| extension == "onnx") {
        let problem = "is an ONNX file, which holds no checkpoint; `foresee export encoder` takes an f32 export, `foresee card make` admits a model from elsewhere";
        return Err(fail(problem.to_string()));
    }
    if num_bytes > MAX_BYTES {
        return Err(fail(format!("has {num_bytes} bytes; at most {MAX_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(file_fail)?;
    let archive = Archive::read(&bytes).map_err(&fail)?;
    let mut tensors = NamedTensors::new();
    for (name, tensor) in state_dict(&archive.pickle).ok_or_else(|| fail("holds no tensors by name".to_string()))? {
        let storage = archive.storage(&tensor.storage);
        let storage = storage.ok_or_else(|| fail(format!("lacks the numbers of tensor {name}")))?;
        let values =
            read_tensor(&tensor, storage).ok_or_else(|| fail(format!("tensor {name} reaches past its numbers")))?;
        tensors.insert(name, (tensor.shape.clone(), values));
    }
    Ok((tensors, None))
}

/// The named tensors of a checkpoint: the root itself or what it keeps under a known key, as deep as [`MAX_DEPTH`].
fn state_dict(pickle: &Pickle) -> Option<Vec<(String, Rc<Tensor>)>> {
    let mut found = None;
    let mut inner = Some(&pickle.root);
    for _ in 0..MAX_DEPTH {
        let Some(Value::Dict(place)) = inner else { break };
        let pairs = pickle.heap.pairs(*place);
        let tensors = pairs.iter().filter_map(|pair| match pair {
            [Value::Text(name), Value::Tensor(tensor)] => Some((name.to_string(), tensor.clone())),
            _ => None,
        });
        found = Some(tensors.collect::<Vec<_>>()).filter(|tensors| !tensors.is_empty()).or(found);
        inner = pairs.iter().find_map(|pair| match pair {
            [Value::Text(key), value @ Value::Dict(_)] if MODEL_KEYS.contains(&&**key) => Some(value),
            _ => None,
        });
    }
    found
}

/// Row-major f32 values of a strided view.
fn read_tensor(tensor: &Tensor, storage: &[u8]) -> Option<Vec<f32>> {
    let count = tensor.shape.iter().try_fold(1_usize, |count, size| count.checked_mul(*size))?;
    // Every value takes at least a byte unless strides repeat values, which no weight does.
    if count > storage.len() {
        return None;
    }
    let size = tensor.storage.element.num_bytes();
    let mut values = Vec::with_capacity(count);
    let mut place = vec![0_usize; tensor.shape.len()];
    for _ in 0..count {
        let steps = place
            .iter()
            .zip(&tensor.strides)
            .try_fold(tensor.offset, |sum, (place, stride)| sum.checked_add(place.checked_mul(*stride)?))?;
        let start = steps.checked_mul(size)?;
        values.push(read_element(tensor.storage.element, storage.get(start..start.checked_add(size)?)?)?);
        for (place, size) in place.iter_mut().zip(&tensor.shape).rev() {
            *place += 1;
            if *place < *size {
                break;
            }
            *place = 0;
        }
    }
    Some(values)
}

fn read_element(element: ElementType, bytes: &[u8]) -> Option<f32> {
    Some(match element {
        ElementType::F32 => f32::from_le_bytes(*bytes.first_chunk()?),
        ElementType::F64 => f64::from_le_bytes(*bytes.first_chunk()?) as f32,
        ElementType::F16 => half(u16::from_le_bytes(*bytes.first_chunk()?)),
        ElementType::Bf16 => f32::from_bits(u32::from(u16::from_le_bytes(*bytes.first_chunk()?)) << 16),
        ElementType::I64 => i64::from_le_bytes(*bytes.first_chunk()?) as f32,
        ElementType::I32 => i32::from_le_bytes(*bytes.first_chunk()?) as f32,
        ElementType::I16 => f32::from(i16::from_le_bytes(*bytes.first_chunk()?)),
        ElementType::I8 => f32::from(i8::from_le_bytes(*bytes.first_chunk()?)),
        ElementType::U8 => f32::from(*bytes.first()?),
    })
}

fn without_prefixes(tensors: NamedTensors) -> NamedTensors {
    let strip = |name: String| {
        let mut rest = name.as_str();
        while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
            rest = shorter;
        }
        shapes::our_name(rest)
    };
    tensors.into_iter().map(|(name, tensor)| (strip(name), tensor)).collect()
}

/// Bicubic, as MAE's `interpolate_pos_embed`.
fn stretch_tables(recipe: &Recipe, tensors: &mut NamedTensors) -> Result<Vec<String>, String> {
    let grid = recipe.encoder.image_size / recipe.encoder.patch_size;
    let num_class_tokens = recipe.encoder.num_class_tokens();
    let mut stretched = Vec::new();
    for (name, (shape, values)) in tensors.iter_mut().filter(|(name, _)| name.ends_with("pos_embed")) {
        let dim = shape.last().copied().unwrap_or(0);
        let wanted = num_class_tokens + grid * grid;
        if values.len() == wanted * dim {
            continue;
        }
        let table = interpolate_positions(values, (dim, num_class_tokens), ([grid, grid], Stretch::ToSize));
        *values = table.ok_or_else(|| format!("{name} is {shape:?}, which is no table of a square grid"))?;
        *shape = vec![1, wanted, dim];
        stretched.push(name.clone());
    }
    Ok(stretched)
}
