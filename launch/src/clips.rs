//! What `foresee pretrain --data` names: logs, videos, images, folders of frames, or a simulator.

#[cfg(feature = "sim")]
mod simulated;
#[cfg(feature = "camera")]
mod videos;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use foresee_models::{ClipSource, FrameStore, ImageFolder, Recipe, list_files};

/// What counts as a video.
const VIDEO_EXTENSIONS: &[&str] = &["mp4", "avi", "webm", "mkv", "mov"];
/// What counts as an image.
const IMAGE_EXTENSIONS: &[&str] = &["jpg", "jpeg", "png", "gif"];
/// For `--data` in help texts.
pub(crate) const DATA_HELP: &str = "Where the frames come from: a folder or file of logs (.mcap, see foresee record; may be given more \
    than once), a folder of videos (.mp4, .avi, .webm, .mkv, .mov), a folder of images (.jpg, .png, .gif: stills), frames:DIR (the \
    images of each folder are one clip), or sim:TASK[,TASK..] (rendered on the fly)";

/// The source that `--data` names; `keep_gib` is what the decoded frames of videos may take.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn open((data, keep_gib): (&[String], f64), recipe: &Recipe) -> anyhow::Result<Box<dyn ClipSource>> {
    let [first, others @ ..] = data else { bail!("--data: name what to train on; see foresee pretrain --help") };
    if let Some(tasks) = first.strip_prefix("sim:") {
        alone(first, others)?;
        return rendered(tasks, recipe);
    }
    if let Some(folder) = first.strip_prefix("frames:") {
        alone(first, others)?;
        return Ok(Box::new(ImageFolder::frames(Path::new(folder))?));
    }
    let path = Path::new(first);
    if !path.exists() {
        bail!("--data {first}: no such file or folder; give logs, videos or images, frames:DIR or sim:TASK");
    }
    let holds = |extensions: &[&str]| -> anyhow::Result<bool> {
        if path.is_dir() {
            return Ok(!list_files(path, extensions)?.is_empty());
        }
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        Ok(extension.is_some_and(|extension| extensions.contains(&extension.as_str())))
    };
    if holds(&["mcap"])? {
        let paths: Vec<PathBuf> = data.iter().map(PathBuf::from).collect();
        return Ok(Box::new(FrameStore::from_logs(&paths, recipe.data.stored_size)?));
    }
    if holds(VIDEO_EXTENSIONS)? {
        alone(first, others)?;
        return videos(path, (recipe.data.stored_size, gibibytes(keep_gib)?));
    }
    if holds(IMAGE_EXTENSIONS)? {
        alone(first, others)?;
        return Ok(Box::new(ImageFolder::stills(path)?));
    }
    bail!("--data {first}: holds neither logs (.mcap) nor videos nor images")
}

fn gibibytes(keep_gib: f64) -> anyhow::Result<u64> {
    if !(0.0..=1e6).contains(&keep_gib) {
        bail!("--keep-gib {keep_gib}: give 0 to 1000000");
    }
    Ok((keep_gib * (1_u64 << 30) as f64) as u64)
}

/// The folders and files among `data`, for the trail.
pub(crate) fn paths(data: &[String]) -> impl Iterator<Item = &Path> {
    let plain = |data: &'_ String| !data.starts_with("sim:");
    data.iter().filter(move |data| plain(data)).map(|data| Path::new(data.strip_prefix("frames:").unwrap_or(data)))
}

fn alone(first: &str, others: &[String]) -> anyhow::Result<()> {
    match others.first() {
        Some(other) => bail!("--data {other}: only logs can be given more than once, and {first} is of another kind"),
        None => Ok(()),
    }
}

#[cfg(feature = "camera")]
fn videos(path: &Path, keep: (usize, u64)) -> anyhow::Result<Box<dyn ClipSource>> {
    let files = if path.is_dir() { list_files(path, VIDEO_EXTENSIONS)? } else { vec![path.to_path_buf()] };
    Ok(Box::new(videos::Videos::new(path, files, keep)))
}

#[cfg(not(feature = "camera"))]
fn videos(path: &Path, _: (usize, u64)) -> anyhow::Result<Box<dyn ClipSource>> {
    bail!("--data {}: this build reads no videos; build with the feature camera (OpenCV)", path.display())
}

#[cfg(feature = "sim")]
fn rendered(tasks: &str, recipe: &Recipe) -> anyhow::Result<Box<dyn ClipSource>> {
    Ok(Box::new(simulated::SimulatedClips::new(tasks, recipe.data.stored_size)?))
}

#[cfg(not(feature = "sim"))]
fn rendered(tasks: &str, _: &Recipe) -> anyhow::Result<Box<dyn ClipSource>> {
    bail!("--data sim:{tasks}: this build has no simulator; build with the feature sim")
}

/// The tasks of `sim:`.
#[cfg(feature = "sim")]
fn task_names(tasks: &str) -> anyhow::Result<Vec<String>> {
    let names: Vec<String> = tasks.split(',').map(|name| name.trim().to_owned()).collect();
    names
        .iter()
        .all(|name| !name.is_empty())
        .then_some(names)
        .context("--data sim: name a task; see foresee sim --list")
}
