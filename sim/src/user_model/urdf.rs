//! URDF as ROS packages have it: meshes named `package://NAME/PATH`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SCHEME: &str = "package://";

/// The text with every `package://NAME/` replaced by that package's folder; `None` where the file names no package.
///
/// # Errors
/// A sentence that names the package whose folder is not given.
pub(super) fn resolve(path: &Path, text: &str, packages: &BTreeMap<String, PathBuf>) -> Result<Option<String>, String> {
    if !text.contains(SCHEME) {
        return Ok(None);
    }
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(SCHEME) {
        resolved.push_str(before);
        let name = after.split(['/', '"', '\'']).next().unwrap_or_default();
        let folder = packages.get(name).ok_or_else(|| unknown(path, name))?;
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
        if !folder.is_dir() {
            return Err(format!("--package {name}={}: there is no such folder", folder.display()));
        }
        resolved.push_str(&folder.to_string_lossy());
        rest = after.get(name.len()..).unwrap_or_default();
    }
    resolved.push_str(rest);
    Ok(Some(keep_paths(&resolved)))
}

/// What to write, with the folder above the file that has the package's name, where there is one.
fn unknown(path: &Path, name: &str) -> String {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let above = whole.ancestors().find(|folder| folder.file_name().is_some_and(|last| last == name));
    let folder = above.map_or_else(|| "DIR".to_owned(), |folder| folder.display().to_string());
    format!("it names {SCHEME}{name}/..., whose folder is not known; give it with --package {name}={folder}")
}

/// MuJoCo takes the last part alone of a URDF's file names unless the file says otherwise.
fn keep_paths(text: &str) -> String {
    const KEPT: &str = "strippath=\"false\"";
    if let Some(at) = text.find("strippath=") {
        let value = text.get(at + 10..).unwrap_or_default();
        let quote = value.chars().next().unwrap_or('"');
        let length =
            value.char_indices().skip(1).find(|(_, letter)| *letter == quote).map_or(value.len(), |(end, _)| end + 1);
        let mut kept = text.to_owned();
        kept.replace_range(at..at + 10 + length, KEPT);
        return kept;
    }
    for (mark, inserted) in [
        ("<compiler", format!("<compiler {KEPT}")),
        ("<mujoco>", format!("<mujoco><compiler {KEPT}/>")),
        ("</robot>", format!("<mujoco><compiler {KEPT}/></mujoco></robot>")),
    ] {
        if text.contains(mark) {
            return text.replacen(mark, &inserted, 1);
        }
    }
    text.to_owned()
}
