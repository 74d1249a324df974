//! A golden file: named tensors of any numeric type, and its metadata.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::error::ModelsError;

/// Largest golden file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 30;

/// A golden file in memory; every number as f64, which holds all of f32, u8 and the i64 that occur.
pub(crate) struct GoldenFile {
    path: PathBuf,
    tensors: BTreeMap<String, GoldenTensor>,
    facts: HashMap<String, String>,
    /// Names of the tensors that were asked for.
    touched: RefCell<BTreeSet<String>>,
}

/// One tensor.
#[derive(Clone, Debug)]
pub(crate) struct GoldenTensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl GoldenTensor {
    pub(crate) fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|value| *value as f32).collect()
    }

    pub(crate) fn to_indices(&self) -> Vec<usize> {
        self.values.iter().map(|value| *value as usize).collect()
    }
}

impl GoldenFile {
    pub(crate) fn read(path: &Path) -> Result<Self, ModelsError> {
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
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let values = read_f64(&view).ok_or_else(|| fail(format!("tensor {name} is of type {:?}", view.dtype())))?;
            tensors.insert(name, GoldenTensor { shape: view.shape().to_vec(), values });
        }
        let facts = header.metadata().clone().unwrap_or_default();
        Ok(Self { path: path.to_path_buf(), tensors, facts, touched: RefCell::default() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors; asking for them asks for none of the tensors.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether a tensor is there; asking for it asks for none of it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// How many values a tensor has; asking for it asks for none of them.
    pub(crate) fn num_values(&self, name: &str) -> usize {
        self.tensors.get(name).map_or(0, |tensor| tensor.values.len())
    }

    /// Names of the tensors that nothing has asked for.
    pub(crate) fn untouched(&self) -> Vec<&str> {
        let touched = self.touched.borrow();
        self.names().filter(|name| !touched.contains(*name)).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Result<&GoldenTensor, ModelsError> {
        self.find(name).ok_or_else(|| self.fail(format!("has no tensor {name}")))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&GoldenTensor> {
        let found = self.tensors.get_key_value(name);
        found.inspect(|(name, _)| self.touch(name)).map(|(_, tensor)| tensor)
    }

    /// Tensors whose name begins so, without that beginning.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a GoldenTensor)> {
        let tensors = self.tensors.iter().filter(move |(name, _)| name.starts_with(prefix));
        let touched = tensors.inspect(|(name, _)| self.touch(name));
        touched.filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?, tensor)))
    }

    fn touch(&self, name: &str) {
        self.touched.borrow_mut().insert(name.to_string());
    }

    /// A number of the metadata.
    pub(crate) fn fact<T: FromStr>(&self, key: &str) -> Result<T, ModelsError> {
        let text = self.facts.get(key).ok_or_else(|| self.fail(format!("has no {key} in its metadata")))?;
        text.parse().map_err(|_| self.fail(format!("has {key} = {text} in its metadata, which is no number")))
    }

    /// A truth value of the metadata, if it is there.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ModelsError> {
        match self.facts.get(key).map(|text| text.to_lowercase()).as_deref() {
            None => Ok(None),
            Some("true" | "1") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(text) => {
                Err(self.fail(format!("has {key} = {text} in its metadata, which is neither true nor false")))
            }
        }
    }

    pub(crate) fn has_fact(&self, key: &str) -> bool {
        self.facts.contains_key(key)
    }

    /// An error about this file.
    pub(crate) fn fail(&self, problem: String) -> ModelsError {
        ModelsError::Checkpoint { path: self.path.clone(), problem }
    }
}

fn read_f64(view: &TensorView<'_>) -> Option<Vec<f64>> {
    let data = view.data();
    let fours = data.as_chunks::<4>().0;
    match view.dtype() {
        Dtype::F32 => Some(fours.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()),
        Dtype::F64 => Some(data.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()),
        Dtype::I64 => Some(data.as_chunks::<8>().0.iter().map(|bytes| i64::from_le_bytes(*bytes) as f64).collect()),
        Dtype::I32 => Some(fours.iter().map(|bytes| f64::from(i32::from_le_bytes(*bytes))).collect()),
        Dtype::U8 | Dtype::BOOL => Some(data.iter().map(|byte| f64::from(*byte)).collect()),
        _ => None,
    }
}
