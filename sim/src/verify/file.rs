//! A safetensors file of float64 arrays with its facts in the metadata.

use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use crate::error::SimError;
use crate::gymnasium_robotics;

/// Bytes above which a file is refused.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// The bytes of a file, and what its metadata says of it.
pub(super) struct ReferenceFile {
    bytes: Vec<u8>,
    pub(super) task: String,
    pub(super) seeds: Vec<u64>,
}

/// An array with its shape.
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

impl ReferenceFile {
    pub(super) fn read(path: &Path) -> Result<Self, SimError> {
        parse(path).map_err(|problem| SimError::Reference { path: path.to_path_buf(), problem })
    }

    /// Reads arrays out of the file.
    pub(super) fn arrays(&self) -> Result<Arrays<'_>, String> {
        SafeTensors::deserialize(&self.bytes).map(Arrays).map_err(|error| error.to_string())
    }
}

pub(super) struct Arrays<'a>(SafeTensors<'a>);

impl Arrays<'_> {
    /// Whether there is an array of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.tensor(name).is_ok()
    }

    /// The array of this name, which must have as many axes.
    pub(super) fn get(&self, name: &str, num_axes: usize) -> Result<Array, String> {
        let view = self.0.tensor(name).map_err(|_| format!("no tensor {name}"))?;
        let shape = view.shape().to_vec();
        if shape.len() != num_axes {
            return Err(format!("{name} has shape {shape:?}, but {num_axes} axes are needed"));
        }
        if view.dtype() != Dtype::F64 {
            return Err(format!("{name} is {:?}, but F64 is needed", view.dtype()));
        }
        let (words, _) = view.data().as_chunks::<8>();
        Ok(Array { shape, values: words.iter().map(|word| f64::from_le_bytes(*word)).collect() })
    }
}

fn parse(path: &Path) -> Result<ReferenceFile, String> {
    let length = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MAX_FILE_BYTES {
        return Err(format!("{length} bytes; at most {MAX_FILE_BYTES} are read"));
    }
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
    let metadata = header.metadata().as_ref().ok_or("no metadata")?;
    let task = match (metadata.get("task"), metadata.get("environment")) {
        (Some(task), _) => task.trim_end_matches("-v3").to_string(),
        (None, Some(environment)) => gymnasium_robotics::task_of(environment).unwrap_or(environment).to_string(),
        (None, None) => return Err("no task in the metadata".to_string()),
    };
    let seeds = serde_json::from_str(metadata.get("seeds").ok_or("no seeds in the metadata")?)
        .map_err(|error| format!("seeds in the metadata: {error}"))?;
    Ok(ReferenceFile { bytes, task, seeds })
}
