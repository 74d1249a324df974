//! Model files that change on disk: looked at, opened once they have settled, and offered to the loop.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{ModelPair, SwapHandle, SwapNews};
use crate::card::{MAX_CARD_BYTES, ModelCard};
use crate::error::RuntimeError;
use crate::files::read_limited;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Watches model files on a thread of its own: when one, its card, or a file that its card names changed and has settled, `open` loads
/// and proves both, and they are offered to the loop. What happens is told in order; the thread ends with `stop`.
///
/// # Errors
/// [`RuntimeError::End`] when the thread cannot be started.
pub fn watch_models(
    handle: SwapHandle,
    models: Vec<PathBuf>,
    (mut open, mut tell): (
        impl FnMut() -> Result<ModelPair, RuntimeError> + Send + 'static,
        impl FnMut(SwapNews) + Send + 'static,
    ),
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, RuntimeError> {
    let mut files = files_of(&models);
    let mut served = fingerprint(&files);
    let mut seen = served.clone();
    let watch = move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            handle.news().into_iter().for_each(&mut tell);
            let now = fingerprint(&files);
            // A file that is being written looks different each time.
            let is_settled = now == seen;
            seen.clone_from(&now);
            if now == served || !is_settled {
                continue;
            }
            // A new card may name other files.
            files = files_of(&models);
            served = fingerprint(&files);
            seen.clone_from(&served);
            if let Err(error) = open().and_then(|pair| handle.offer(pair)) {
                tell(SwapNews::Refused(error.to_string()));
            }
        }
    };
    let thread = std::thread::Builder::new().name("models".to_owned()).spawn(watch);
    thread.map_err(|error| RuntimeError::End { name: "thread `models`".to_owned(), problem: error.to_string() })
}

/// Each model, its card, and the files beside it that the card names; none of these where the card cannot be read.
fn files_of(models: &[PathBuf]) -> Vec<PathBuf> {
    let of = |model: &PathBuf| {
        let card = ModelCard::path_of(model);
        let text = read_limited(&card, MAX_CARD_BYTES).ok();
        let external = text.and_then(|text| ModelCard::parse(&text).ok()).map_or_else(Vec::new, |card| card.external);
        let external: Vec<PathBuf> = external.iter().map(|file| model.with_file_name(&file.name)).collect();
        [model.clone(), card].into_iter().chain(external)
    };
    models.iter().flat_map(of).collect()
}

/// Time and size of each file; `None` where it is gone.
fn fingerprint(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let look = |path: &Path| std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
    files.iter().map(|file| look(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::swappable;
    use super::super::tests::{pair, tick};
    use super::*;
    use crate::card::ExternalFile;
    use crate::encoder::Encoder;
    use crate::raw_pixels::RawPixels;

    #[test]
    fn files_of_further_weights_are_watched() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        let weights = ExternalFile { name: "weights.bin".to_owned(), sha256: "a".repeat(64) };
        let card = ModelCard { external: vec![weights], ..RawPixels::new(4, 4).card().clone() };
        card.save(&model).unwrap();
        let files = files_of(&[model, folder.path().join("policy.onnx")]);
        let names = ["encoder.onnx", "encoder.card.json", "weights.bin", "policy.onnx", "policy.card.json"];
        assert_eq!(files, names.map(|name| folder.path().join(name)));
        let before = fingerprint(&files);
        std::fs::write(folder.path().join("weights.bin"), b"new").unwrap();
        assert_ne!(fingerprint(&files), before);
    }

    #[test]
    fn a_changed_file_is_taken_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.onnx");
        std::fs::write(&file, b"old").unwrap();
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, news) = std::sync::mpsc::channel();
        let tell = move |news| sender.send(news).unwrap();
        let mut count = 0;
        let open = move || {
            count += 1;
            if count == 1 {
                return Err(RuntimeError::Frame("not this one".to_owned()));
            }
            Ok(pair(2.0, u32::MAX, 4))
        };
        let thread = watch_models(handle, vec![file.clone()], (open, tell), Arc::clone(&stop)).unwrap();
        std::fs::write(&file, b"spoilt").unwrap();
        let first = news.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(first, SwapNews::Refused(problem) if problem.contains("not this one")));
        assert_eq!(tick(&mut models), Some(1.0));
        std::fs::write(&file, b"new and good").unwrap();
        let mut answer = None;
        for _ in 0..300 {
            answer = tick(&mut models);
            if answer == Some(2.0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(answer, Some(2.0));
        assert!(matches!(news.recv_timeout(Duration::from_secs(30)), Ok(SwapNews::Switched(_))));
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
