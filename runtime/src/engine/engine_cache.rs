//! The cache of engines that TensorRT builds: minutes of work for one model on one GPU, kept whole or not at all.
//!
//! An entry is a folder named by the hash of everything that an engine depends on, with a manifest of its files. A build goes into a
//! folder of another name, which is renamed when the model has proved itself on it: a kill at any moment leaves no entry.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::RuntimeError;
use crate::files::{hex, read_limited, sha256_file, write_atomically};

const MANIFEST: &str = "manifest.json";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Everything that an engine depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineKey {
    /// Hex sha256 of the ONNX file.
    pub model_sha256: String,
    /// ONNX Runtime's name and version.
    pub engine: String,
    /// TensorRT's version, such as `10.3.0`.
    pub tensorrt: String,
    /// The GPU and its driver, as the system names them.
    pub gpu: String,
    /// Such as `f16`.
    pub precision: String,
    /// Inputs and their shapes, such as `image 1x3x224x224`.
    pub shapes: Vec<String>,
}

/// A folder of engines.
#[derive(Clone, Debug)]
pub struct EngineCache {
    root: PathBuf,
}

/// What the cache holds for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheState {
    /// An engine, checked against its manifest.
    Ready(PathBuf),
    /// Nothing.
    Missing,
    /// Something that cannot be used, and why; a build replaces it.
    Spoilt(String),
}

/// A build under way. Dropped without [`EngineBuild::seal`], it leaves nothing.
#[derive(Debug)]
pub struct EngineBuild {
    key: EngineKey,
    folder: PathBuf,
    entry: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    key: EngineKey,
    files: Vec<ManifestFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ManifestFile {
    name: String,
    sha256: String,
}

impl EngineKey {
    /// Hex sha256 of every part.
    pub fn hash(&self) -> String {
        let Self { model_sha256, engine, tensorrt, gpu, precision, shapes } = self;
        let mut hasher = Sha256::new();
        for part in [model_sha256, engine, tensorrt, gpu, precision].into_iter().chain(shapes) {
            // Lengths keep neighbours apart.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hex(&hasher.finalize())
    }
}

impl EngineCache {
    /// The cache in this folder, which need not be there yet.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Looks an engine up and checks every file of it.
    pub fn look(&self, key: &EngineKey) -> CacheState {
        let entry = self.root.join(key.hash());
        if !entry.exists() {
            return CacheState::Missing;
        }
        match check(&entry, key) {
            Ok(()) => CacheState::Ready(entry),
            Err(problem) => CacheState::Spoilt(format!("{}: {problem}", entry.display())),
        }
    }

    /// Makes an empty folder to build in.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when it cannot be made.
    pub fn begin(&self, key: &EngineKey) -> Result<EngineBuild, RuntimeError> {
        let hash = key.hash();
        let folder = self.root.join(format!("{hash}.{}.partial", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).map_err(|source| RuntimeError::File { path: folder.clone(), source })?;
        Ok(EngineBuild { key: key.clone(), folder, entry: self.root.join(hash) })
    }
}

impl EngineBuild {
    /// Where the engine is to be written.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes what was built the entry of its key, in the place of a spoilt one.
    ///
    /// # Errors
    /// [`RuntimeError::File`] when nothing was built or the folder cannot be renamed; no entry is left then.
    pub fn seal(self) -> Result<PathBuf, RuntimeError> {
        let at = |path: &Path| {
            let path = path.to_path_buf();
            move |source| RuntimeError::File { path, source }
        };
        let mut files = Vec::new();
        for file in fs::read_dir(&self.folder).map_err(at(&self.folder))? {
            let path = file.map_err(at(&self.folder))?.path();
            fs::File::open(&path).and_then(|file| file.sync_all()).map_err(at(&path))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push(ManifestFile { name, sha256: sha256_file(&path)? });
        }
        if files.is_empty() {
            return Err(at(&self.folder)(std::io::Error::other("TensorRT left no engine here; see what it said")));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let manifest = serde_json::to_vec_pretty(&Manifest { key: self.key.clone(), files });
        let manifest = manifest.map_err(|error| at(&self.folder)(std::io::Error::other(error)))?;
        write_atomically(&self.folder.join(MANIFEST), &manifest)?;
        // A directory is not replaced by a rename unless it is empty.
        let _ = fs::remove_dir_all(&self.entry);
        fs::rename(&self.folder, &self.entry).map_err(at(&self.entry))?;
        Ok(self.entry.clone())
    }
}

impl Drop for EngineBuild {
    fn drop(&mut self) {
        // Sealed, it has another name by now.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn check(entry: &Path, key: &EngineKey) -> Result<(), String> {
    let bytes = read_limited(&entry.join(MANIFEST), MAX_MANIFEST_BYTES).map_err(|error| error.to_string())?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.key != *key {
        return Err("holds an engine of something else".to_owned());
    }
    if manifest.files.is_empty() {
        return Err("holds no engine".to_owned());
    }
    for ManifestFile { name, sha256 } in &manifest.files {
        if Path::new(name).file_name().is_none_or(|file| file != name.as_str()) {
            return Err(format!("{MANIFEST} names {name}, outside the folder"));
        }
        match sha256_file(&entry.join(name)) {
            Ok(found) if found == *sha256 => {}
            Ok(_) => return Err(format!("{name} is damaged")),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> EngineKey {
        EngineKey {
            model_sha256: "ab".repeat(32),
            engine: "onnxruntime 1.31.1".to_owned(),
            tensorrt: "10.3.0".to_owned(),
            gpu: "Orin, driver 540.4.0".to_owned(),
            precision: "f16".to_owned(),
            shapes: vec!["image 1x3x224x224".to_owned()],
        }
    }

    fn built(cache: &EngineCache) -> PathBuf {
        let build = cache.begin(&key()).unwrap();
        fs::write(build.folder().join("a.engine"), b"plan").unwrap();
        build.seal().unwrap()
    }

    #[test]
    fn an_engine_is_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EngineCache::new(&folder.path().join("engines"));
        assert_eq!(cache.look(&key()), CacheState::Missing);
        let build = cache.begin(&key()).unwrap();
        fs::write(build.folder().join("a.engine"), b"half").unwrap();
        assert_eq!(cache.look(&key()), CacheState::Missing);
        drop(build);
        assert_eq!(fs::read_dir(folder.path().join("engines")).unwrap().count(), 0);
        assert!(cache.begin(&key()).unwrap().seal().unwrap_err().to_string().contains("left no engine"));
        let entry = built(&cache);
        assert_eq!(cache.look(&key()), CacheState::Ready(entry));
        assert_eq!(fs::read_dir(folder.path().join("engines")).unwrap().count(), 1);
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let parts: [fn(&mut EngineKey); 6] = [
            |key| key.model_sha256.push('0'),
            |key| key.engine.push('0'),
            |key| key.tensorrt.push('0'),
            |key| key.gpu.push('0'),
            |key| key.precision = "f32".to_owned(),
            |key| key.shapes = vec!["image 2x3x224x224".to_owned()],
        ];
        let mut hashes: Vec<String> = parts
            .iter()
            .map(|change| {
                let mut key = key();
                change(&mut key);
                key.hash()
            })
            .chain([key().hash()])
            .collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 7);
    }

    #[test]
    fn a_damaged_or_foreign_engine_is_said_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = EngineCache::new(folder.path());
        let check = |spoil: &dyn Fn(&Path), expected: &str| {
            let entry = built(&cache);
            spoil(&entry);
            match cache.look(&key()) {
                CacheState::Spoilt(problem) => assert!(problem.contains(expected), "{problem}"),
                other => panic!("{other:?}"),
            }
            assert_eq!(built(&cache), entry);
            assert_eq!(cache.look(&key()), CacheState::Ready(entry));
        };
        check(&|entry| fs::write(entry.join("a.engine"), b"plam").unwrap(), "a.engine is damaged");
        check(&|entry| fs::remove_file(entry.join("a.engine")).unwrap(), "a.engine");
        check(&|entry| fs::remove_file(entry.join(MANIFEST)).unwrap(), MANIFEST);
        check(&|entry| fs::write(entry.join(MANIFEST), b"{").unwrap(), MANIFEST);
        check(
            &|entry| {
                let text = fs::read_to_string(entry.join(MANIFEST)).unwrap().replace("10.3.0", "10.4.0");
                fs::write(entry.join(MANIFEST), text).unwrap();
            },
            "something else",
        );
    }
}
