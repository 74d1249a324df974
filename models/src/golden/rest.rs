//! What of a golden folder was not compared, and why: files that nothing read, and tensors that nothing looked at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::GoldenFile;
use super::{COMPANIONS, kind_of};

/// Endings of the files that say how a set was made.
const NOTES: &[&str] = &["_tolerances", "_info"];

/// Why tensors of these beginnings are not compared.
const WHY: &[(&str, &str)] = &[
    (
        "act.",
        "; no layer here forms shares of attention, embeddings of hidden patches or predictions for the class token",
    ),
    ("agrad.", "; gradients are compared where they reach weights"),
];

/// A file, or some of its tensors, that no check is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// Its name in the folder.
    pub file: String,
    /// Why, or which tensors.
    pub reason: String,
}

/// Tensors of a file that nothing looked at, in groups of one beginning.
pub(super) fn of_tensors(file: &GoldenFile) -> Option<NotCompared> {
    let mut groups = BTreeMap::<String, usize>::new();
    for name in file.untouched() {
        let group: Vec<&str> = name.split('.').take(2).collect();
        *groups.entry(group.join(".")).or_default() += 1;
    }
    let words: Vec<String> = groups
        .into_iter()
        .map(|(group, count)| if count == 1 { group } else { format!("{group} ({count} tensors)") })
        .collect();
    let why = WHY.iter().filter(|(beginning, _)| words.iter().any(|word| word.starts_with(beginning)));
    let why: Vec<&str> = why.map(|(_, why)| *why).collect();
    let reason = format!("nothing is compared with its {}{}", words.join(", "), why.concat());
    (!words.is_empty()).then(|| NotCompared { file: name_of(file.path()), reason })
}

/// The entries of a folder that were not read.
pub(super) fn of_files(entries: &[PathBuf], read: &[PathBuf]) -> Vec<NotCompared> {
    let unread = entries.iter().filter(|path| !read.contains(path));
    unread.map(|path| NotCompared { file: name_of(path), reason: reason(path, entries) }).collect()
}

fn reason(path: &Path, entries: &[PathBuf]) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let set = COMPANIONS.iter().chain(NOTES).find_map(|ending| stem.strip_suffix(ending));
    let main = set.map(|set| format!("{set}.safetensors"));
    if let Some(main) = main.as_ref().filter(|main| !entries.iter().any(|entry| name_of(entry) == **main)) {
        return format!("it goes with {main}, which is not there");
    }
    let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
    match (extension.as_str(), main) {
        _ if path.is_dir() => "is a folder; its files are not looked for".to_owned(),
        ("safetensors", Some(main)) => format!("nothing that {main} is compared by reads it"),
        ("safetensors", None) if kind_of(&stem).is_none() => "its name begins with no kind of golden file".to_owned(),
        ("json", Some(_)) => "a note on how the set was made; the tolerances here are this program's own".to_owned(),
        ("pth", _) => "a checkpoint; `foresee import` reads it".to_owned(),
        ("onnx", _) => "a model; `foresee card make` admits it".to_owned(),
        _ => "no .safetensors".to_owned(),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
