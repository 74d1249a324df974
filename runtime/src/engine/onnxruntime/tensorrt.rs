//! Where TensorRT finds or builds the engine of a model.

use std::path::{Path, PathBuf};

use super::{BuilderOptions, Library, session_builder};
use crate::engine::engine_cache::{CacheState, EngineBuild, EngineCache, EngineKey};
use crate::engine::{Model, Refusal};

/// The folder of an engine that is there, or of one that is to be built.
pub(super) enum Place {
    Ready(PathBuf),
    Building(EngineBuild, String),
}

impl Place {
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Ready(folder) => folder,
            Self::Building(build, _) => build.folder(),
        }
    }

    /// What there is to say, and what is to be sealed.
    pub(super) fn into_parts(self) -> (String, Option<EngineBuild>) {
        match self {
            Self::Ready(_) => ("engine from the cache".to_owned(), None),
            Self::Building(build, note) => (note, Some(build)),
        }
    }
}

/// Looks the engine up.
pub(super) fn place(
    library: &Library,
    model: &Model<'_>,
    options: &BuilderOptions<'_>,
    root: &Path,
) -> Result<Place, Refusal> {
    // Brings TensorRT's libraries into the process: only then is it known which they are.
    drop(session_builder(library, options).map_err(Refusal::Provider)?);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let shape = |tensor: &crate::card::TensorCard| {
        let sizes = tensor.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        format!("{} {sizes}", tensor.name)
    };
    let key = EngineKey {
        model_sha256: model.card.identity(),
        engine: library.engine.clone(),
        tensorrt: library_version(&maps, "libnvinfer.so.").unwrap_or_else(|| "of unknown version".to_owned()),
        gpu: gpu(),
        precision: model.summary.precision().to_owned(),
        shapes: model.card.inputs.iter().map(shape).collect(),
    };
    let cache = EngineCache::new(root);
    let note = match cache.look(&key) {
        CacheState::Ready(folder) => return Ok(Place::Ready(folder)),
        CacheState::Missing => "engine built".to_owned(),
        CacheState::Spoilt(problem) => format!("engine built again, since {problem}"),
    };
    let build = cache.begin(&key).map_err(|error| Refusal::Provider(error.to_string()))?;
    Ok(Place::Building(build, note))
}

/// The version in the file name of a library that this process has loaded.
fn library_version(maps: &str, stem: &str) -> Option<String> {
    let path = maps.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.contains(stem))?;
    path.rsplit_once(stem).map(|(_, version)| version.to_owned())
}

/// The GPU and its driver, as the system names them; a Jetson by its board.
fn gpu() -> String {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let cards = std::fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let model =
        |text: String| text.lines().find_map(|line| line.strip_prefix("Model:").map(|name| name.trim().to_owned()));
    let mut names: Vec<String> = cards.filter_map(|card| model(read(&card.path().join("information"))?)).collect();
    names.sort();
    names.extend(read(Path::new("/proc/device-tree/model")).map(|board| board.trim_end_matches('\0').to_owned()));
    let driver = read(Path::new("/proc/driver/nvidia/version"));
    names.extend(driver.and_then(|text| text.lines().next().map(str::to_owned)));
    if names.is_empty() { "unknown".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_loaded_library_is_in_its_name() {
        let maps = "7f00-7f01 r--p 00000000 08:01 42 /usr/lib/aarch64-linux-gnu/libnvinfer.so.10.3.0\n7f01-7f02 rw-p 0 00:00 0\n";
        assert_eq!(library_version(maps, "libnvinfer.so."), Some("10.3.0".to_owned()));
        assert_eq!(library_version(maps, "libnvonnxparser.so."), None);
    }
}
