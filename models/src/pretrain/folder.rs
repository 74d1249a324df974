//! The files of a run.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use foresee_runtime::write_atomically;

use super::{PretrainProgress, RunFacts};
use crate::error::ModelsError;

const DESCRIPTION: &str = "run.json";
const METRICS: &str = "metrics.jsonl";

/// The folder of one run.
pub(super) struct RunFolder {
    path: PathBuf,
    /// What was made for it: itself, then its parents.
    made: Vec<PathBuf>,
}

impl RunFolder {
    pub(super) fn create(path: &Path) -> Result<Self, ModelsError> {
        let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = path.ancestors().take_while(is_missing).map(Path::to_path_buf).collect();
        std::fs::create_dir_all(path).map_err(|source| ModelsError::File { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), made })
    }

    /// Takes back the folders that were made, with what a run writes before its first step; what others put there stays.
    pub(super) fn take_back(&self) {
        if self.made.is_empty() {
            return;
        }
        for name in [DESCRIPTION, METRICS] {
            // It need not be there, and a folder that stays is no harm.
            let _ = std::fs::remove_file(self.path.join(name));
        }
        let _ = self.made.iter().try_for_each(std::fs::remove_dir);
    }

    pub(super) fn checkpoint(&self) -> PathBuf {
        checkpoint_of(&self.path)
    }

    pub(super) fn reconstructions(&self) -> PathBuf {
        self.path.join("reconstructions.png")
    }

    /// Writes `run.json`.
    pub(super) fn describe(&self, facts: &RunFacts) -> Result<(), ModelsError> {
        let mut text = serde_json::to_vec_pretty(facts).map_err(|error| ModelsError::Training(error.to_string()))?;
        text.push(b'\n');
        Ok(write_atomically(&self.path.join(DESCRIPTION), &text)?)
    }

    /// What `run.json` says, if it is there and whole.
    pub(super) fn described(&self) -> Option<RunFacts> {
        serde_json::from_slice(&std::fs::read(self.path.join(DESCRIPTION)).ok()?).ok()
    }

    /// Opens `metrics.jsonl` after the line of step `step`: what a killed run wrote past its checkpoint goes.
    pub(super) fn metrics(&self, step: u64) -> Result<Metrics, ModelsError> {
        let path = self.path.join(METRICS);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let is_kept = |line: &&str| serde_json::from_str::<PretrainProgress>(line).is_ok_and(|line| line.step <= step);
        let kept: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
        write_atomically(&path, kept.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.map_err(|source| ModelsError::File { path: path.clone(), source })?;
        Ok(Metrics { path, file: BufWriter::new(file), num_pending: 0 })
    }
}

/// Whether a run may begin or go on in a folder: one that holds a checkpoint is only resumed.
///
/// # Errors
/// [`ModelsError::Data`] when it holds one and `resume` is false, or when it is no folder.
pub fn check_folder(folder: &Path, resume: bool) -> Result<(), ModelsError> {
    let problem = if folder.is_file() {
        "is a file; --out names the folder of the run"
    } else if !resume && run_checkpoint(folder).is_some() {
        "holds the checkpoint of a run; --resume goes on with it, another --out begins anew"
    } else {
        return Ok(());
    };
    Err(ModelsError::Data { path: folder.to_path_buf(), problem: problem.to_string() })
}

/// The checkpoint of a run's folder, if there is one.
pub fn run_checkpoint(folder: &Path) -> Option<PathBuf> {
    Some(checkpoint_of(folder)).filter(|checkpoint| checkpoint.exists())
}

/// Where the checkpoint of the run in a folder is.
fn checkpoint_of(folder: &Path) -> PathBuf {
    folder.join("checkpoint.safetensors")
}

/// `metrics.jsonl`, appended to.
pub(super) struct Metrics {
    path: PathBuf,
    file: BufWriter<File>,
    num_pending: usize,
}

/// Lines that a kill may cost.
const MAX_PENDING: usize = 20;

impl Metrics {
    pub(super) fn append(&mut self, progress: &PretrainProgress) -> Result<(), ModelsError> {
        let line = serde_json::to_string(progress).map_err(|error| ModelsError::Training(error.to_string()))?;
        writeln!(self.file, "{line}").map_err(|source| ModelsError::File { path: self.path.clone(), source })?;
        self.num_pending += 1;
        if self.num_pending >= MAX_PENDING { self.flush() } else { Ok(()) }
    }

    pub(super) fn flush(&mut self) -> Result<(), ModelsError> {
        self.num_pending = 0;
        self.file.flush().map_err(|source| ModelsError::File { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_skipped_step_stays_and_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(folder.path()).unwrap();
        let progress = |step, loss: f64| PretrainProgress {
            step,
            steps: 3,
            loss,
            terms: vec![("mae".to_string(), loss)],
            learning_rate: 1e-3,
            gradient_norm: loss,
            images_per_second: 1.0,
            waited_seconds: 0.0,
            seconds_left: 0.0,
            num_skipped: 0,
            num_clips_skipped: 0,
        };
        let mut metrics = run.metrics(0).unwrap();
        for (step, loss) in [(1, 0.5), (2, f64::NAN), (3, 0.25)] {
            metrics.append(&progress(step, loss)).unwrap();
        }
        metrics.flush().unwrap();
        // A resumed run drops what lies past its checkpoint, and nothing else.
        drop(run.metrics(2).unwrap());
        let text = std::fs::read_to_string(folder.path().join(METRICS)).unwrap();
        let lines: Vec<PretrainProgress> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line.step).collect::<Vec<_>>(), [1, 2]);
        assert!(lines[1].loss.is_nan() && lines[1].terms[0].1.is_nan() && lines[1].gradient_norm.is_nan());
    }
}
