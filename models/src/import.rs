//! Official checkpoints in: PyTorch's zip and older files, encoder-only files, training checkpoints, safetensors. Sizes are read off
//! the shapes; nothing in a pickle is ever executed.

mod archive;
mod pickle;
mod read;
mod rebuild;
mod sets;
mod shapes;
mod values;

use std::path::{Path, PathBuf};

use foresee_runtime::write_atomically;
use serde::Serialize;

use self::read::read_weights;
use self::shapes::recipe_of;
use crate::checkpoint::{NamedTensors, tensors_to_bytes};
use crate::error::ModelsError;
use crate::parameters::{Start, encoder_specs, parameter_specs};
use crate::positions::{Stretch, interpolate_positions};
use crate::recipe::Recipe;

/// Format fact of a file of imported weights.
pub(crate) const WEIGHTS_FORMAT: &str = "foresee-weights-1";

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// A `.pth` (zip or older), a `.safetensors`, one shard of several, or their `.index.json`.
    pub file: PathBuf,
    /// Writes the weights as safetensors with the official names.
    pub output: Option<PathBuf>,
    /// Stretches the position tables to images of this many pixels.
    pub image_size: Option<usize>,
    /// Attention heads of the encoder, which no shape tells; by default those of the recipe that the file holds, else `dim / 64` as in
    /// ViT-S, B and L.
    pub heads: Option<usize>,
    /// The set of weights, where the file holds several, such as `model` or `ema`.
    pub weights: Option<String>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImportReport {
    /// The method whose tensors these are: a recipe's name, or `encoder` when there is no decoder.
    pub method: String,
    /// Sizes, as a recipe has them.
    pub recipe: Recipe,
    /// The set of weights that was taken: the keys that lead to it, and its names' prefix; `(root)` where nothing wraps it.
    pub weights: String,
    /// Tensors of the file that are not of the set, by the beginning of their names.
    pub left_out: Vec<String>,
    /// Files that were joined; one without shards.
    pub files: Vec<PathBuf>,
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
    let read = read_weights(&options.file, options.weights.as_deref())?;
    let mut tensors = read.tensors;
    let (heads, heads_from) = match (options.heads, &read.recipe) {
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
        weights: read.set,
        left_out: read.left_out,
        files: read.shards,
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
