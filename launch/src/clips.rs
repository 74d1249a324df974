//! What `foresee pretrain --data` names: logs, videos, images, folders of frames, or a simulator.

#[cfg(feature = "sim")]
mod simulated;
#[cfg(feature = "camera")]
mod videos;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use foresee_models::{ClipSource, FrameStore, ImageFolder, Recipe};
use foresee_runtime::{DataSet, PICTURE_ENDINGS, has_ending};

use crate::words::say;

/// What counts as a log.
const LOG_EXTENSIONS: &[&str] = &["mcap"];
/// What counts as a video.
const VIDEO_EXTENSIONS: &[&str] =
    &["mp4", "m4v", "mov", "3gp", "avi", "webm", "mkv", "ts", "mts", "m2ts", "mpg", "mpeg", "flv", "ogv", "wmv"];
/// For `--data` in help texts.
pub(crate) const DATA_HELP: &str = "Where the frames come from: a folder or file of logs (.mcap, see foresee record; may be given more \
    than once), a folder of videos (.mp4, .mov, .avi, .webm, .mkv, .ts ..), a folder of images (.jpg, .png, .gif, .webp, .bmp, .tif, .ppm: stills), frames:DIR (the \
    images of each folder are one clip), or sim:TASK[,TASK..] (rendered on the fly)";

/// The source that `--data` names; `keep_gib` is what the decoded frames of videos may take, `topics` are those of logs.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn open(
    (data, keep_gib): (&[String], f64),
    topics: &[String],
    recipe: &Recipe,
) -> anyhow::Result<Box<dyn ClipSource>> {
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
    let found = Kinds::of(path)?;
    if let Some(line) = found.mixed() {
        say(&format!("--data {first}: {line}"));
    }
    match found.chosen() {
        Some("logs") => {
            let paths: Vec<PathBuf> = data.iter().map(PathBuf::from).collect();
            Ok(Box::new(FrameStore::from_topics(&paths, topics, recipe.data.stored_size)?))
        }
        Some("videos") => {
            alone(first, others)?;
            videos(path, (recipe.data.stored_size, gibibytes(keep_gib)?))
        }
        Some(_) => {
            alone(first, others)?;
            Ok(Box::new(ImageFolder::stills(path)?))
        }
        None => bail!("--data {first}: holds neither logs (.mcap) nor videos nor images"),
    }
}

/// How many files of each kind a path holds, in the order in which the kinds are preferred.
struct Kinds([(&'static str, usize); 3]);

impl Kinds {
    fn of(path: &Path) -> anyhow::Result<Self> {
        let mut kinds = Self([("logs", 0), ("videos", 0), ("images", 0)]);
        for ((_, count), extensions) in kinds.0.iter_mut().zip([LOG_EXTENSIONS, VIDEO_EXTENSIONS, PICTURE_ENDINGS]) {
            *count = if path.is_dir() {
                DataSet::below(path, extensions)?.files.len()
            } else {
                usize::from(has_ending(path, extensions))
            };
        }
        Ok(kinds)
    }

    fn chosen(&self) -> Option<&'static str> {
        self.0.iter().find(|(_, count)| *count > 0).map(|(kind, _)| *kind)
    }

    /// What is there and what is taken of it, where there is more than one kind.
    fn mixed(&self) -> Option<String> {
        let there = self.0.iter().filter(|(_, count)| *count > 0);
        let there: Vec<String> = there.map(|(kind, count)| format!("{count} {kind}")).collect();
        let chosen = self.chosen().filter(|_| there.len() > 1)?;
        Some(format!("holds {}; the {chosen} are taken, name a folder of one kind for others", there.join(", ")))
    }
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
    let found = match path.is_dir() {
        true => DataSet::below(path, VIDEO_EXTENSIONS)?,
        false => DataSet { files: vec![path.to_path_buf()], ..DataSet::default() },
    };
    Ok(Box::new(videos::Videos::new(path, found, keep)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_kinds_it_is_said_what_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("below")).unwrap();
        let holds = || {
            let kinds = Kinds::of(folder.path()).unwrap();
            (kinds.chosen(), kinds.mixed())
        };
        assert_eq!(holds(), (None, None));
        for name in ["a.mp4", "b.AVI"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert_eq!(holds(), (Some("videos"), None));
        std::fs::write(path("below/run.mcap"), "no log").unwrap();
        let (chosen, mixed) = holds();
        assert_eq!(chosen, Some("logs"));
        assert!(mixed.unwrap().starts_with("holds 1 logs, 2 videos; the logs are taken"));
        // The log below is the one that is read: what is wrong with it is told.
        let data = [folder.path().display().to_string()];
        let error = open((&data, 1.0), &[], &Recipe::load("mae-64").unwrap()).err().unwrap().to_string();
        assert!(error.contains("run.mcap"), "{error}");
    }
}
