//! Official checkpoints in: PyTorch's zip and older files, encoder-only files, training checkpoints, safetensors. Sizes are read off
//! the shapes; nothing in a pickle is ever executed.

mod archive;
mod pickle;
mod rebuild;
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
/// Values of all tensors of a file beyond one for each of its bytes: tensors may share numbers or repeat them by strides.
const MAX_REPEATED: usize = 1 << 26;
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
    let mut num_values = 0_usize;
    for (name, tensor) in state_dict(&archive.pickle).ok_or_else(|| fail("holds no tensors by name".to_string()))? {
        let storage = archive.storage(&tensor.storage);
        let storage = storage.ok_or_else(|| fail(format!("lacks the numbers of tensor {name}")))?;
        num_values = num_values.saturating_add(tensor.num_values());
        if num_values > bytes.len().saturating_add(MAX_REPEATED) {
            return Err(fail(format!("claims {num_values} values up to tensor {name}, more than it can hold")));
        }
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

/// Row-major f32 values of a strided view; how many there are has been checked.
fn read_tensor(tensor: &Tensor, storage: &[u8]) -> Option<Vec<f32>> {
    let count = tensor.num_values();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of a pickle.
    fn text(text: &str) -> Vec<u8> {
        [b"X", (text.len() as u32).to_le_bytes().as_slice(), text.as_bytes()].concat()
    }

    fn tuple(numbers: &[u8]) -> Vec<u8> {
        let numbers: Vec<u8> = numbers.iter().flat_map(|number| [b'K', *number]).collect();
        [b"(", numbers.as_slice(), b"t"].concat()
    }

    /// The storage `s`, or the part of it that this value names.
    fn storage(kind: &str, part: &[u8]) -> Vec<u8> {
        let [name, key, place] = ["storage", "s", "cpu"].map(text);
        [b"(", name.as_slice(), format!("ctorch\n{kind}\n").as_bytes(), &key, &place, b"K\x0c", part, b"tQ"].concat()
    }

    fn tensor(storage: &[u8], offset: u8, [shape, strides]: [&[u8]; 2]) -> Vec<u8> {
        let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice();
        [rebuild, storage, b"K", &[offset], &tuple(shape), &tuple(strides), b"\x89NtR"].concat()
    }

    /// An older file of one storage, with a tensor `t` and what else is in its dictionary.
    fn read_legacy(tensor: &[u8], others: &[u8], numbers: &[u8]) -> Result<(Vec<usize>, Vec<f32>), String> {
        let magic = [b"\x80\x02\x8a\x0a".as_slice(), &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19]];
        let start = [magic.concat().as_slice(), b".", b"\x80\x02M\xe9\x03.", b"\x80\x02}."].concat();
        let object = [b"\x80\x02}(".as_slice(), &text("t"), tensor, others, b"u."].concat();
        let keys = [b"\x80\x02](".as_slice(), &text("s"), b"e."].concat();
        let length = 12_u64.to_le_bytes();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("older.pth");
        std::fs::write(&path, [start, object, keys, length.to_vec(), numbers.to_vec()].concat()).expect("written");
        let (mut tensors, _) = read_weights(&path).map_err(|error| error.to_string())?;
        Ok(tensors.remove("t").expect("the tensor"))
    }

    fn floats() -> Vec<u8> {
        (0..12).flat_map(|number| (number as f32).to_le_bytes()).collect()
    }

    #[test]
    fn views_of_a_storage_are_read_where_they_lie() {
        let read = |part: &[u8], offset, sizes| {
            read_legacy(&tensor(&storage("FloatStorage", part), offset, sizes), b"", &floats())
        };
        let none = b"N".as_slice();
        assert_eq!(read(none, 2, [&[3], &[1]]), Ok((vec![3], vec![2.0, 3.0, 4.0])));
        // Columns and every other row.
        let strided = read(none, 1, [&[2, 3], &[1, 4]]);
        assert_eq!(strided, Ok((vec![2, 3], vec![1.0, 5.0, 9.0, 2.0, 6.0, 10.0])));
        let expanded = read(none, 7, [&[1, 1, 48], &[1, 1, 0]]);
        assert_eq!(expanded, Ok((vec![1, 1, 48], vec![7.0; 48])));
        // A part of five elements from the fourth on.
        let part = [b"(".as_slice(), &text("v"), b"K\x04K\x05t"].concat();
        assert_eq!(read(&part, 1, [&[4], &[1]]), Ok((vec![4], vec![5.0, 6.0, 7.0, 8.0])));
        let wrong = |part: &[u8], sizes, wanted: &str| {
            let error = read(part, 0, sizes).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
        };
        wrong(&part, [&[6], &[1]], "reaches past its numbers");
        wrong(&[b"(".as_slice(), &text("v"), b"K\x04K\x09t"].concat(), [&[1], &[1]], "lacks the numbers");
        wrong(b"K\x04", [&[1], &[1]], "without its place");
        wrong(none, [&[13], &[1]], "reaches past its numbers");
        wrong(none, [&[255; 4], &[0; 4]], "more than it can hold");
        wrong(none, [&[255; 8], &[0; 8]], "more than it can hold");
    }

    #[test]
    fn half_precision_and_integers_become_single_precision() {
        let read = |kind: &str, numbers: &[u8]| {
            read_legacy(&tensor(&storage(kind, b"N"), 0, [&[3], &[1]]), b"", numbers).map(|(_, values)| values)
        };
        let halves = [0x3c00_u16, 0xc100, 0x0001].map(u16::to_le_bytes).concat();
        assert_eq!(read("HalfStorage", &[halves, vec![0; 18]].concat()), Ok(vec![1.0, -2.5, 2_f32.powi(-24)]));
        let wide = [1.0_f32, -2.5, 3.0].map(|value| (value.to_bits() >> 16) as u16).map(u16::to_le_bytes).concat();
        assert_eq!(read("BFloat16Storage", &[wide, vec![0; 18]].concat()), Ok(vec![1.0, -2.5, 3.0]));
        let long = [5_i64, -6, 7].map(i64::to_le_bytes).concat();
        assert_eq!(read("LongStorage", &[long, vec![0; 72]].concat()), Ok(vec![5.0, -6.0, 7.0]));
    }

    #[test]
    fn plain_data_beside_the_weights_is_passed_over_and_all_else_refused_by_name() {
        let read = |others: &[u8]| {
            let key = text("other");
            read_legacy(&tensor(&storage("FloatStorage", b"N"), 0, [&[1], &[1]]), &[&key, others].concat(), &floats())
        };
        for plain in [
            b"(K\x01K\x02\x91".as_slice(),
            b"\x96\x03\x00\x00\x00\x00\x00\x00\x00abc",
            b"ctorch\nSize\n(K\x02K\x03t\x85R",
            b"ccollections\ndefaultdict\ncbuiltins\nlist\n\x85R(K\x01]u",
            b"cbuiltins\nfrozenset\n]\x85R",
            b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R",
            b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00f4\x89\x88\x87R(K\x03NtbC\x04abcd\x86R",
            // With arguments by name.
            b"cargparse\nNamespace\n)}\x92}X\x02\x00\x00\x00lrK\x01sb",
        ] {
            assert_eq!(read(plain), Ok((vec![1], vec![0.0])), "{}", String::from_utf8_lossy(plain));
        }
        for (other, wanted) in [
            (b"cos\nsystem\n)}\x92".as_slice(), "os.system"),
            (b"cnumpy\nfromfile\n", "numpy.fromfile"),
            (b"c_codecs\ndecode\n", "_codecs.decode"),
            (b"Pstorage\n", "PERSID (0x50)"),
            (b"\x97", "NEXT_BUFFER (0x97)"),
            (b"\xff", "a pickle instruction (0xff)"),
        ] {
            let error = read(other).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn every_protocol_of_torch_is_read_with_all_that_it_keeps_beside_the_weights() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/import");
        let count: Vec<f32> = (0..12).map(|number| number as f32).collect();
        let wanted = [
            ("bf16", vec![4, 3], count.iter().map(|number| 2.0 * number).collect()),
            ("count", vec![], vec![7.0]),
            ("expanded", vec![1, 1, 48], vec![2.5; 48]),
            ("f16", vec![2, 6], count.iter().map(|number| number / 4.0).collect()),
            ("f32", vec![3, 4], count.clone()),
            ("parameter", vec![3], vec![0.0, 1.0, 2.0]),
            ("strided", vec![3, 2], vec![1.0, 9.0, 2.0, 10.0, 3.0, 11.0]),
        ];
        let wanted: NamedTensors =
            wanted.into_iter().map(|(name, shape, values)| (name.to_string(), (shape, values))).collect();
        for name in ["protocol_2", "protocol_2_legacy", "protocol_3", "protocol_4", "protocol_5"] {
            let (tensors, _) = read_weights(&folder.join(format!("{name}.pth"))).expect(name);
            assert_eq!(tensors, wanted, "{name}");
        }
    }

    #[test]
    fn a_tar_of_the_first_torch_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("old.pth");
        let mut tar = vec![0; 1024];
        tar[257..262].copy_from_slice(b"ustar");
        std::fs::write(&path, tar).expect("written");
        let error = read_weights(&path).expect_err("a tar").to_string();
        assert!(error.contains("torch 0.1") && error.contains("torch.save"), "{error}");
    }
}
