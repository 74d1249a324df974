//! What belongs to a data set: the one rule for training folders, probes, camera folders and demonstrations. Names that begin with a dot
//! and what operating systems, network storages and editors leave are no data; links are followed, each folder is read once.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::RuntimeError;

/// Names that are no data, in lower case: macOS, Synology and QNAP, Windows, Linux, Python.
const LEFTOVERS: &[&str] = &[
    "__macosx",
    "icon\r",
    "network trash folder",
    "temporary items",
    "@eadir",
    "@tmp",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "lost+found",
    "__pycache__",
];
/// Names that a message lists.
const MAX_LISTED: usize = 5;
/// Entries below one folder.
const MAX_ENTRIES: usize = 50_000_000;

/// The data below a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSet {
    /// Files with one of the endings, in the order of their paths.
    pub files: Vec<PathBuf>,
    /// Folders, of one level alone, in the order of their paths.
    pub folders: Vec<PathBuf>,
    /// What is left out.
    pub skipped: Skipped,
}

/// Entries that are no data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Hidden ones and leftovers; a folder counts once.
    pub leftovers: Vec<PathBuf>,
    /// Links that lead nowhere, or to a folder that is read already.
    pub links: Vec<PathBuf>,
}

impl Skipped {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.leftovers.is_empty() && self.links.is_empty()
    }

    /// Every path that is left out.
    pub fn into_paths(self) -> Vec<PathBuf> {
        self.leftovers.into_iter().chain(self.links).collect()
    }

    /// Adds what another folder left out.
    pub fn extend(&mut self, other: Self) {
        self.leftovers.extend(other.leftovers);
        self.links.extend(other.links);
    }

    /// One line for each kind that is left out.
    pub fn lines(&self) -> Vec<String> {
        let rows = [
            (&self.leftovers, "hidden or left by a system: no data"),
            (&self.links, "links that lead nowhere or to a folder that is read already"),
        ];
        let lines = rows.into_iter().filter(|(paths, _)| !paths.is_empty());
        lines.map(|(paths, what)| format!("skipped {} ({what}): {}", paths.len(), List(paths))).collect()
    }
}

/// The first paths of a list.
struct List<'a>(&'a [PathBuf]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, path) in self.0.iter().take(MAX_LISTED).enumerate() {
            let comma = if idx > 0 { ", " } else { "" };
            write!(formatter, "{comma}{}", path.display())?;
        }
        match self.0.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(formatter, " and {more} more"),
        }
    }
}

/// Whether an entry of this name belongs to a data set.
pub fn is_data(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_lowercase();
    let is_copy = name.ends_with('~') || name.starts_with("~$");
    !name.starts_with('.') && !is_copy && !name.starts_with("@syno") && !LEFTOVERS.contains(&name.as_str())
}

impl DataSet {
    /// Files with one of these endings (in lower case, without the dot) and folders, of this folder alone.
    ///
    /// # Errors
    /// [`RuntimeError::File`] naming the folder that cannot be read.
    pub fn of_folder(folder: &Path, endings: &[&str]) -> Result<Self, RuntimeError> {
        let mut found = Self::default();
        let fail = |source| RuntimeError::File { path: folder.to_path_buf(), source };
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let path = entry.path();
            if !is_data(&entry.file_name()) {
                found.skipped.leftovers.push(path);
                continue;
            }
            // Of what a link leads to.
            match std::fs::metadata(&path) {
                Ok(facts) if facts.is_dir() => found.folders.push(path),
                Ok(_) if has_ending(&path, endings) => found.files.push(path),
                Ok(_) => {}
                Err(_) if path.is_symlink() => found.skipped.links.push(path),
                Err(source) => return Err(RuntimeError::File { path, source }),
            }
        }
        found.files.sort();
        found.folders.sort();
        found.skipped.leftovers.sort();
        Ok(found)
    }

    /// Files with one of these endings at or below a folder; a folder that several links lead to is read once.
    ///
    /// # Errors
    /// As [`DataSet::of_folder`].
    pub fn below(folder: &Path, endings: &[&str]) -> Result<Self, RuntimeError> {
        let mut all = Self::default();
        let mut read = BTreeSet::new();
        // A folder's own path comes before the links to it.
        let (mut folders, mut links) = (VecDeque::from([folder.to_path_buf()]), VecDeque::new());
        while let Some(folder) = folders.pop_front().or_else(|| links.pop_front()) {
            let facts = std::fs::metadata(&folder);
            let facts = facts.map_err(|source| RuntimeError::File { path: folder.clone(), source })?;
            if !read.insert((facts.dev(), facts.ino())) {
                all.skipped.links.push(folder);
                continue;
            }
            let found = Self::of_folder(&folder, endings)?;
            all.files.extend(found.files);
            all.skipped.extend(found.skipped);
            for below in found.folders {
                if below.is_symlink() { links.push_back(below) } else { folders.push_back(below) }
            }
            if all.files.len() + folders.len() + links.len() > MAX_ENTRIES {
                let source =
                    std::io::Error::other(format!("more than {MAX_ENTRIES} files below it; name a smaller folder"));
                return Err(RuntimeError::File { path: folder, source });
            }
        }
        all.files.sort();
        all.skipped.leftovers.sort();
        all.skipped.links.sort();
        Ok(all)
    }
}

/// Whether a path ends in a dot and one of these, in upper or lower case.
pub fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn leftovers_are_no_data_and_are_listed() {
        let root = tempfile::tempdir().unwrap();
        let data = ["a/1.JPG", "a/2.png", "b/deep/3.webp", "x.y/4.png"];
        let leftovers = [
            "a/._1.jpg",
            "a/.AppleDouble/1.jpg",
            "a/@eaDir/1.jpg/thumb.jpg",
            "__MACOSX/a/1.jpg",
            ".ipynb_checkpoints/1.png",
            "#recycle/1.png",
            "lost+found/1.png",
            "Thumbs.db",
            "desktop.ini",
            "b/2.png~",
        ];
        data.iter().chain(&leftovers).for_each(|name| write(&root.path().join(name)));
        write(&root.path().join("notes.txt"));
        let found = DataSet::below(root.path(), &["jpg", "png", "webp"]).unwrap();
        assert_eq!(found.files, data.map(|name| root.path().join(name)));
        assert_eq!(found.skipped.leftovers.len(), leftovers.len(), "{:?}", found.skipped);
        let lines = found.skipped.lines();
        assert!(lines.len() == 1 && lines[0].contains("skipped 10") && lines[0].contains("and 5 more"), "{lines:?}");
        // A folder that is named is read, whatever its name.
        let named = DataSet::below(&root.path().join(".ipynb_checkpoints"), &["png"]).unwrap();
        assert_eq!(named.files.len(), 1);
    }

    #[test]
    fn links_are_followed_once_and_circles_end() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        write(&path("z/1.png"));
        write(&elsewhere.path().join("2.png"));
        symlink(elsewhere.path(), path("linked")).unwrap();
        symlink(root.path(), path("z/up")).unwrap();
        symlink(path("z"), path("again")).unwrap();
        symlink(path("nowhere"), path("gone.png")).unwrap();
        symlink(path("z/1.png"), path("file.png")).unwrap();
        let found = DataSet::below(root.path(), &["png"]).unwrap();
        assert_eq!(found.files, ["file.png", "linked/2.png", "z/1.png"].map(path));
        assert_eq!(found.skipped.links, ["again", "gone.png", "z/up"].map(path));
        assert!(found.skipped.lines()[0].contains("skipped 3"), "{:?}", found.skipped.lines());
    }
}
