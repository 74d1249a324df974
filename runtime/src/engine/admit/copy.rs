//! A model that lies where nothing can be written is copied, with the weights beside it.

use std::path::{Path, PathBuf};

use super::MAX_MODEL_BYTES;
use crate::error::RuntimeError;
use crate::files::{inside_folder, read_limited};
use crate::onnx::OnnxSummary;

/// Copies an ONNX file and the files of its weights, which keep their place beside it; gives what was written.
///
/// # Errors
/// [`RuntimeError::Model`] when it is no ONNX file or keeps weights outside its folder, [`RuntimeError::File`] when a file cannot be read
/// or written, or is there already and is not to be replaced.
pub fn copy_model(from: &Path, to: &Path, replace: bool) -> Result<Vec<PathBuf>, RuntimeError> {
    let refuse = |problem: String| RuntimeError::Model { path: from.to_path_buf(), problem };
    let summary = OnnxSummary::parse(&read_limited(from, MAX_MODEL_BYTES)?).map_err(refuse)?;
    let mut pairs = vec![(from.to_path_buf(), to.to_path_buf())];
    for name in &summary.external_files {
        let inside = inside_folder(name);
        let inside = inside.ok_or_else(|| refuse(format!("keeps weights in `{name}`, outside its folder")))?;
        pairs.push((from.with_file_name(&inside), to.with_file_name(&inside)));
    }
    if let Some((_, there)) = pairs.iter().find(|(_, to)| to.exists() && !replace) {
        let source = std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "is there already; give another --out, or --force to replace it",
        );
        return Err(RuntimeError::File { path: there.clone(), source });
    }
    let mut written = Vec::new();
    for (from, to) in pairs {
        let is_same = from.canonicalize().ok().zip(to.canonicalize().ok()).is_some_and(|(from, to)| from == to);
        if is_same {
            return Err(refuse(format!("is {} itself; give another file with --out", to.display())));
        }
        let fail = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RuntimeError::File { path, source }
        };
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder).map_err(fail(folder))?;
        }
        std::fs::copy(&from, &to).map_err(fail(&to))?;
        written.push(to);
    }
    Ok(written)
}
