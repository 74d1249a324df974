//! Checkpoints: one safetensors file with weights, moments, recipe and place, written whole or not at all.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use foresee_runtime::write_atomically;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::ModelsError;
use crate::optimiser::{AdamW, Moments};
use crate::parameters::Parameters;
use crate::recipe::Recipe;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 30;
/// Version of the layout.
pub(crate) const CHECKPOINT_FORMAT: &str = "foresee-checkpoint-1";
/// Before the names of its weights.
pub(crate) const CHECKPOINT_MODEL: &str = "model.";
const FIRST: &str = "first_moment.";
const SECOND: &str = "second_moment.";

/// All that a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// What is trained.
    pub recipe: Recipe,
    /// Its weights.
    pub parameters: Parameters,
    /// Moments and updates so far.
    pub optimiser: AdamW,
    /// Where the run is.
    pub place: RunPlace,
}

/// Where a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunPlace {
    /// Seed of every draw.
    pub seed: u64,
    /// Steps done, skipped ones included.
    pub step: u64,
    /// Steps skipped because something was not finite.
    pub num_skipped: u64,
    /// Shards; another number adds up in another order.
    pub threads: usize,
    /// Samples that go through the network at a time.
    pub micro_batch: usize,
    /// Samples in an epoch of what it trains on.
    pub num_samples: usize,
}

/// Named f32 tensors.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Checkpoint {
    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// [`ModelsError::Runtime`] when the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ModelsError> {
        let mut tensors = NamedTensors::new();
        for (name, parameter) in self.parameters.iter() {
            let shape = &parameter.shape;
            tensors.insert(format!("{CHECKPOINT_MODEL}{name}"), (shape.clone(), parameter.values.clone()));
            if let Some(moments) = self.optimiser.moments().get(name) {
                tensors.insert(format!("{FIRST}{name}"), (shape.clone(), moments.first.clone()));
                tensors.insert(format!("{SECOND}{name}"), (shape.clone(), moments.second.clone()));
            }
        }
        let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
        let recipe = toml::to_string(&self.recipe).map_err(|error| fail(error.to_string()))?;
        let RunPlace { seed, step, num_skipped, threads, micro_batch, num_samples } = self.place;
        let facts = [
            ("format", CHECKPOINT_FORMAT.to_string()),
            ("recipe", recipe),
            ("seed", seed.to_string()),
            ("step", step.to_string()),
            ("num_updates", self.optimiser.num_updates().to_string()),
            ("num_skipped", num_skipped.to_string()),
            ("threads", threads.to_string()),
            ("micro_batch", micro_batch.to_string()),
            ("num_samples", num_samples.to_string()),
        ];
        save_tensors(path, &tensors, &facts.map(|(key, value)| (key.to_string(), value)))
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`ModelsError::Checkpoint`] when the file is not one or its tensors do not fit its recipe.
    pub fn load(path: &Path) -> Result<Self, ModelsError> {
        let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
        let (tensors, facts) = load_tensors(path)?;
        let fact = |key: &str| {
            facts.get(key).ok_or_else(|| fail(format!("has no {key}; give a checkpoint that foresee pretrain wrote")))
        };
        if fact("format")? != CHECKPOINT_FORMAT {
            return Err(fail(format!("is of format {}; this program reads {CHECKPOINT_FORMAT}", fact("format")?)));
        }
        let number = |key: &str| {
            let text = fact(key)?;
            text.parse::<u64>().map_err(|_| fail(format!("{key} is {text}, which is no number")))
        };
        let recipe = Recipe::parse(&path.display().to_string(), fact("recipe")?)?;
        let [mut model, mut first, mut second] = [NamedTensors::new(), NamedTensors::new(), NamedTensors::new()];
        for (name, tensor) in tensors {
            let parts = [(CHECKPOINT_MODEL, &mut model), (FIRST, &mut first), (SECOND, &mut second)];
            let part = parts.into_iter().find_map(|(prefix, part)| Some((name.strip_prefix(prefix)?, part)));
            let Some((name, part)) = part else { return Err(fail(format!("holds an unknown tensor {name}"))) };
            part.insert(name.to_string(), tensor);
        }
        let parameters = Parameters::from_tensors(&recipe, model).map_err(|error| error.in_checkpoint(path))?;
        let moments = pair_moments(&parameters, first, second).map_err(|error| error.in_checkpoint(path))?;
        let optimiser = AdamW::from_parts(moments, number("num_updates")?);
        let place = RunPlace {
            seed: number("seed")?,
            step: number("step")?,
            num_skipped: number("num_skipped")?,
            threads: number("threads")? as usize,
            micro_batch: number("micro_batch")? as usize,
            num_samples: number("num_samples")? as usize,
        };
        Ok(Self { recipe, parameters, optimiser, place })
    }
}

/// Writes f32 tensors with text facts as one safetensors file, whole or not at all.
///
/// # Errors
/// [`ModelsError::Runtime`] when the file cannot be written.
pub fn save_tensors(path: &Path, tensors: &NamedTensors, facts: &[(String, String)]) -> Result<(), ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let file = tensors_to_bytes(tensors, facts).map_err(fail)?;
    Ok(write_atomically(path, &file)?)
}

/// A safetensors file of f32 tensors with text facts.
pub(crate) fn tensors_to_bytes(tensors: &NamedTensors, facts: &[(String, String)]) -> Result<Vec<u8>, String> {
    let to_bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        tensors.iter().map(|(name, (shape, values))| (name, shape, to_bytes(values))).collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, shape, bytes) in &bytes {
        let view = TensorView::new(Dtype::F32, (*shape).clone(), bytes).map_err(|error| error.to_string())?;
        views.push((name.as_str(), view));
    }
    let facts: HashMap<String, String> = facts.iter().cloned().collect();
    safetensors::serialize(views, Some(facts)).map_err(|error| error.to_string())
}

/// Reads the tensors and the facts of a safetensors file; numbers of every common type, integers and truth values included, become f32.
///
/// # Errors
/// [`ModelsError::Checkpoint`] when it is not one, [`ModelsError::File`] when it cannot be read.
pub fn load_tensors(path: &Path) -> Result<(NamedTensors, HashMap<String, String>), ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let file_fail = |source| ModelsError::File { path: path.to_path_buf(), source };
    let num_bytes = std::fs::metadata(path).map_err(file_fail)?.len();
    if num_bytes > MAX_BYTES {
        return Err(fail(format!("has {num_bytes} bytes; at most {MAX_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(file_fail)?;
    let broken = |error| fail(format!("is no whole safetensors file ({error})"));
    let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
    let mut tensors = NamedTensors::new();
    for (name, view) in file.tensors() {
        let values = read_f32(&view).ok_or_else(|| fail(format!("tensor {name} is of type {:?}", view.dtype())))?;
        tensors.insert(name, (view.shape().to_vec(), values));
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

fn read_f32(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    match view.dtype() {
        Dtype::F32 => Some(data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        Dtype::F64 => Some(data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect()),
        Dtype::F16 => Some(data.as_chunks::<2>().0.iter().map(|bytes| half(u16::from_le_bytes(*bytes))).collect()),
        Dtype::BF16 => {
            let wide = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            Some(data.as_chunks::<2>().0.iter().map(wide).collect())
        }
        Dtype::I64 => Some(data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f32).collect()),
        Dtype::I32 => Some(data.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes) as f32).collect()),
        Dtype::I16 => Some(data.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes).into()).collect()),
        Dtype::I8 => Some(data.iter().map(|byte| byte.cast_signed().into()).collect()),
        Dtype::U8 | Dtype::BOOL => Some(data.iter().map(|byte| f32::from(*byte)).collect()),
        _ => None,
    }
}

/// IEEE half to single precision.
pub(crate) fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        _ => sign * (1.0 + fraction) * 2.0_f32.powi(exponent - 15),
    }
}

fn pair_moments(
    parameters: &Parameters,
    first: NamedTensors,
    mut second: NamedTensors,
) -> Result<BTreeMap<String, Moments>, ModelsError> {
    let mut moments = BTreeMap::new();
    for (name, (shape, first)) in first {
        let fail = || ModelsError::Tensor { name: name.clone(), problem: "has moments that do not fit it".to_string() };
        let fits = parameters.get(&name)?.shape == shape;
        let (_, second) = second.remove(&name).filter(|(other, _)| fits && *other == shape).ok_or_else(fail)?;
        moments.insert(name, Moments { first, second });
    }
    Ok(moments)
}
