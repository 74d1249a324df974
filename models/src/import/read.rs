//! The tensors of a checkpoint file, or of all the shards that it is cut into.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::WEIGHTS_FORMAT;
use super::archive::Archive;
use super::pickle::Pickle;
use super::sets::{NamedDict, WeightSet, choose};
use super::values::{ElementType, Tensor, Value};
use crate::checkpoint::{CHECKPOINT_FORMAT, CHECKPOINT_MODEL, NamedTensors, half, load_tensors};
use crate::error::ModelsError;
use crate::recipe::Recipe;

/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 << 30;
/// Values of all tensors of a file beyond one for each of its bytes: tensors may share numbers or repeat them by strides.
const MAX_REPEATED: usize = 1 << 26;
/// Dictionaries in dictionaries in which the weights are looked for.
const MAX_DEPTH: usize = 4;
/// Dictionaries that are looked at.
const MAX_DICTS: usize = 4096;

/// One set of weights of a file.
pub(super) struct Read {
    /// [`WeightSet::name`].
    pub(super) set: String,
    pub(super) tensors: NamedTensors,
    /// What is not of the set, with the number of tensors.
    pub(super) left_out: Vec<String>,
    /// The recipe that we wrote into the file.
    pub(super) recipe: Option<Recipe>,
    /// Files that were joined; one without shards.
    pub(super) shards: Vec<PathBuf>,
}

/// The set of weights of this name in a file, or the only one.
pub(super) fn read_weights(path: &Path, wanted: Option<&str>) -> Result<Read, ModelsError> {
    let shards = shards_of(path)?;
    if let [file] = shards.as_slice() {
        return read_file(file, wanted, &shards);
    }
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let mut dict = NamedDict { path: String::new(), tensors: Vec::new() };
    for shard in &shards {
        dict.tensors.extend(read_all(shard)?);
    }
    let mut seen = BTreeSet::new();
    if let Some((name, _)) = dict.tensors.iter().find(|(name, _)| !seen.insert(name.as_str())) {
        return Err(fail(format!("holds `{name}` in two of its shards; give the shards of one model")));
    }
    Ok(finish(choose(vec![dict], wanted).map_err(fail)?, None, &shards))
}

fn read_file(path: &Path, wanted: Option<&str>, shards: &[PathBuf]) -> Result<Read, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    if is_safetensors(path) {
        let (mut tensors, facts) = load_tensors(path)?;
        let format = facts.get("format").map(String::as_str);
        if format == Some(CHECKPOINT_FORMAT) {
            // The moments of our own checkpoints are no weights.
            tensors.retain(|name, _| name.starts_with(CHECKPOINT_MODEL));
        }
        let is_ours = [Some(WEIGHTS_FORMAT), Some(CHECKPOINT_FORMAT)].contains(&format);
        let recipe =
            facts.get("recipe").filter(|_| is_ours).map(|text| Recipe::parse(&path.display().to_string(), text));
        let dict = NamedDict { path: String::new(), tensors: tensors.into_iter().collect() };
        return Ok(finish(choose(vec![dict], wanted).map_err(fail)?, recipe.transpose()?, shards));
    }
    let bytes = read_bytes(path)?;
    let archive = Archive::read(&bytes).map_err(fail)?;
    let WeightSet { name, tensors, left_out } = choose(dicts(&archive.pickle), wanted).map_err(fail)?;
    let tensors = read_tensors(&archive, tensors, bytes.len()).map_err(fail)?;
    Ok(finish(WeightSet { name, tensors, left_out }, None, shards))
}

fn finish(set: WeightSet<(Vec<usize>, Vec<f32>)>, recipe: Option<Recipe>, shards: &[PathBuf]) -> Read {
    let left_out = set.left_out.iter().map(|(name, count)| format!("{name} ({count} tensors)")).collect();
    Read { set: set.name, tensors: set.tensors.into_iter().collect(), left_out, recipe, shards: shards.to_vec() }
}

/// Every tensor of a shard by its name.
fn read_all(path: &Path) -> Result<NamedTensors, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    if is_safetensors(path) {
        return Ok(load_tensors(path)?.0);
    }
    let bytes = read_bytes(path)?;
    let archive = Archive::read(&bytes).map_err(fail)?;
    let root = dicts(&archive.pickle).into_iter().next().map(|dict| dict.tensors).unwrap_or_default();
    Ok(read_tensors(&archive, root, bytes.len()).map_err(fail)?.into_iter().collect())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let file_fail = |source| ModelsError::File { path: path.to_path_buf(), source };
    let num_bytes = std::fs::metadata(path).map_err(file_fail)?.len();
    if path.extension().is_some_and(|extension| extension == "onnx") {
        let problem = "is an ONNX file, which holds no checkpoint; `foresee export encoder` takes an f32 export, `foresee card make` admits a model from elsewhere";
        return Err(fail(problem.to_string()));
    }
    if num_bytes > MAX_BYTES {
        return Err(fail(format!("has {num_bytes} bytes; at most {MAX_BYTES} are read")));
    }
    std::fs::read(path).map_err(file_fail)
}

fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "safetensors")
}

/// The files that a model is cut into: those of an index, or all of `NAME-00001-of-0000N`; else the file itself.
fn shards_of(path: &Path) -> Result<Vec<PathBuf>, ModelsError> {
    let fail = |problem: String| ModelsError::Checkpoint { path: path.to_path_buf(), problem };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let names: Vec<String> = if name.ends_with(".index.json") {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: HashMap<String, String>,
        }
        let text = std::fs::read(path).map_err(|source| ModelsError::File { path: path.to_path_buf(), source })?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|error| fail(format!("is no index of shards: it has no `weight_map` of names ({error})")))?;
        let names: BTreeSet<String> = index.weight_map.into_values().collect();
        if let Some(odd) = names.iter().find(|name| name.is_empty() || name.contains(['/', '\\']) || *name == "..") {
            return Err(fail(format!("names the shard `{odd}`, which is no file in its folder")));
        }
        names.into_iter().collect()
    } else if let Some((stem, count, end)) = shard_parts(&name) {
        (1..=count).map(|shard| format!("{stem}-{shard:05}-of-{count:05}{end}")).collect()
    } else {
        return Ok(vec![path.to_path_buf()]);
    };
    let missing: Vec<&str> =
        names.iter().filter(|name| !path.with_file_name(name).is_file()).map(String::as_str).collect();
    if names.is_empty() || !missing.is_empty() {
        let shown = missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        return Err(fail(format!(
            "is one of {} shards, and {shown} is not beside it ({} missing); put all shards into one folder",
            names.len(),
            missing.len()
        )));
    }
    Ok(names.iter().map(|name| path.with_file_name(name)).collect())
}

/// `model-00001-of-00002.safetensors` -> `model`, 2, `.safetensors`.
fn shard_parts(name: &str) -> Option<(&str, usize, &str)> {
    let (before, after) = name.split_once("-of-")?;
    let (stem, shard) = before.rsplit_once('-')?;
    let digits = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
    let (count, end) = after.split_at_checked(digits)?;
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse().ok().filter(|_| is_number(shard) && is_number(count))?;
    (count > 1).then_some((stem, count, end))
}

/// Every dictionary of a checkpoint that names tensors, the root first, as deep as [`MAX_DEPTH`].
fn dicts(pickle: &Pickle) -> Vec<NamedDict<Rc<Tensor>>> {
    let mut found = Vec::new();
    let (mut level, mut known) = (vec![(String::new(), &pickle.root)], BTreeSet::new());
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for (path, value) in level {
            let Value::Dict(place) = value else { continue };
            if !known.insert(*place) || known.len() > MAX_DICTS {
                continue;
            }
            let mut tensors = Vec::new();
            for pair in pickle.heap.pairs(*place) {
                match pair {
                    [Value::Text(name), Value::Tensor(tensor)] => tensors.push((name.to_string(), tensor.clone())),
                    [Value::Text(key), value @ Value::Dict(_)] if path.is_empty() => {
                        next.push((key.to_string(), value))
                    }
                    [Value::Text(key), value @ Value::Dict(_)] => next.push((format!("{path}/{key}"), value)),
                    _ => {}
                }
            }
            if !tensors.is_empty() {
                found.push(NamedDict { path, tensors });
            }
        }
        level = next;
    }
    found
}

type Values = (Vec<usize>, Vec<f32>);

/// Shapes and values of these tensors, of a file of so many bytes.
fn read_tensors(
    archive: &Archive<'_>,
    tensors: Vec<(String, Rc<Tensor>)>,
    num_bytes: usize,
) -> Result<Vec<(String, Values)>, String> {
    let mut num_values = 0_usize;
    let mut read = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let storage = archive.storage(&tensor.storage);
        let storage = storage.ok_or_else(|| format!("lacks the numbers of tensor {name}"))?;
        num_values = num_values.saturating_add(tensor.num_values());
        if num_values > num_bytes.saturating_add(MAX_REPEATED) {
            return Err(format!("claims {num_values} values up to tensor {name}, more than it can hold"));
        }
        let values = read_tensor(&tensor, storage).ok_or_else(|| format!("tensor {name} reaches past its numbers"))?;
        read.push((name, (tensor.shape.clone(), values)));
    }
    Ok(read)
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

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        let mut tensors = read_all(&path).map_err(|error| error.to_string())?;
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
            let tensors = read_all(&folder.join(format!("{name}.pth"))).expect(name);
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
        let error = read_all(&path).expect_err("a tar").to_string();
        assert!(error.contains("torch 0.1") && error.contains("torch.save"), "{error}");
    }
}
