//! Checks this crate against golden vectors that the methods' official code computed: random draws injected, sizes from the
//! files, worst error of every prediction, loss term, gradient and optimiser step.
//!
//! A folder holds `<kind>_<set>.safetensors` for any set, where the kind is one of [`KINDS`]; `<file>_acts`, `<file>_steps_f32` and
//! `<file>_steps_f64` go with them where they are there. What else is there, and every tensor that nothing looks at, is listed.

mod activations;
mod file;
mod layouts;
mod methods;
mod propagation;
mod rest;
mod units;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::Serialize;

use self::file::GoldenFile;
pub use self::rest::NotCompared;
use crate::error::ModelsError;

/// What a golden file can be for; the longest prefix that fits a file's name counts.
const KINDS: &[(&str, Verifier)] = &[
    ("croco_rope", methods::verify),
    ("croco", methods::verify),
    ("cropmae", methods::verify),
    ("labelprop", propagation::verify),
    ("mae", methods::verify),
    ("rsp", methods::verify),
    ("siammae", methods::verify),
    ("tobo", methods::verify),
    ("units", units::verify),
];

/// Endings of files that go with another.
const COMPANIONS: &[&str] = &["_acts", "_steps_f32", "_steps_f64"];

/// Position tables whose frequencies are f64: absolute.
const TABLE: f64 = 1e-6;
/// Those of RSP and ToBo, whose frequencies and angles are f32 in the official code: absolute.
const SINGLE_TABLE: f64 = 5e-6;

type Verifier = fn(&Subject<'_>, &mut GoldenReport) -> Result<(), ModelsError>;

/// What was compared, and how far it was off.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct GoldenReport {
    /// In the order in which they were made.
    pub checks: Vec<GoldenCheck>,
    /// What no check is about.
    pub not_compared: Vec<NotCompared>,
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoldenCheck {
    /// `<kind>_<set>/<what>`.
    pub name: String,
    /// The largest error; infinite (in JSON null) when shapes differ or a value is not finite.
    pub worst: f64,
    /// The largest allowed.
    pub tolerance: f64,
    /// Whether `worst <= tolerance`.
    pub passed: bool,
    /// Why a file could not be compared to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl GoldenReport {
    /// Whether there was a check and all passed.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    pub(crate) fn add(&mut self, name: String, worst: f64, tolerance: f64) {
        let worst = if worst.is_nan() { f64::INFINITY } else { worst };
        self.checks.push(GoldenCheck { name, worst, tolerance, passed: worst <= tolerance, problem: None });
    }

    fn add_problem(&mut self, name: String, error: &ModelsError) {
        let problem = Some(error.to_string());
        self.checks.push(GoldenCheck { name, worst: f64::INFINITY, tolerance: 0.0, passed: false, problem });
    }
}

/// One golden file under test.
pub(crate) struct Subject<'a> {
    pub(crate) kind: &'a str,
    /// File stem.
    pub(crate) stem: String,
    pub(crate) file: GoldenFile,
    folder: &'a Path,
    /// Those that were read.
    companions: RefCell<Vec<Rc<GoldenFile>>>,
}

impl Subject<'_> {
    /// The file that goes with this one, if it is there.
    pub(crate) fn companion(&self, ending: &str) -> Result<Option<Rc<GoldenFile>>, ModelsError> {
        let path = self.folder.join(format!("{}{ending}.safetensors", self.stem));
        if let Some(file) = self.companions.borrow().iter().find(|file| file.path() == path) {
            return Ok(Some(Rc::clone(file)));
        }
        if !path.is_file() {
            return Ok(None);
        }
        let file = Rc::new(GoldenFile::read(&path)?);
        self.companions.borrow_mut().push(Rc::clone(&file));
        Ok(Some(file))
    }

    pub(crate) fn name(&self, what: &str) -> String {
        format!("{}/{what}", self.stem)
    }
}

/// Compares with every golden file of a folder. A difference is no error, nor is a file that cannot be read or lacks what its kind
/// needs: the report says it (check `<file>/readable`), and the other files are compared.
///
/// # Errors
/// [`ModelsError`] when the folder cannot be read or holds no golden file.
pub fn verify_golden(folder: &Path) -> Result<GoldenReport, ModelsError> {
    let mut report = GoldenReport::default();
    let entries = entries(folder)?;
    let mut read = Vec::new();
    for (path, stem) in golden_files(&entries) {
        let Some((kind, verify)) = kind_of(&stem) else { continue };
        read.push(path.clone());
        let name = format!("{stem}/readable");
        let compare = |file| {
            let subject = Subject { kind, stem, file, folder, companions: RefCell::default() };
            let verified = verify(&subject, &mut report);
            for file in std::iter::once(&subject.file).chain(subject.companions.borrow().iter().map(Rc::as_ref)) {
                read.push(file.path().to_path_buf());
                // Of a file that could not be compared to its end, the check says so.
                report.not_compared.extend(rest::of_tensors(file).filter(|_| verified.is_ok()));
            }
            verified
        };
        if let Err(error) = GoldenFile::read(path).and_then(compare) {
            report.add_problem(name, &error);
        }
    }
    for (path, stem) in orphans(&entries) {
        let problem = format!("goes with {stem}.safetensors, which is not there; nothing of this set was compared");
        report.add_problem(format!("{stem}/readable"), &ModelsError::Data { path: path.clone(), problem });
    }
    report.not_compared.extend(rest::of_files(&entries, &read));
    report.not_compared.sort_by(|a, b| a.file.cmp(&b.file));
    if report.checks.is_empty() {
        let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
        let problem =
            format!("holds no golden file; they are named <kind>_<set>.safetensors with kind {}", kinds.join(", "));
        return Err(ModelsError::Data { path: folder.to_path_buf(), problem });
    }
    Ok(report)
}

/// The kind that a file stem begins with.
fn kind_of(stem: &str) -> Option<&'static (&'static str, Verifier)> {
    KINDS.iter().find(|(kind, _)| stem.strip_prefix(kind).is_some_and(|set| set.starts_with('_')))
}

/// What a folder holds, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ModelsError> {
    let fail = |source| ModelsError::File { path: folder.to_path_buf(), source };
    let entries = std::fs::read_dir(folder).map_err(fail)?.map(|entry| Ok(entry.map_err(fail)?.path()));
    let mut entries = entries.collect::<Result<Vec<PathBuf>, ModelsError>>()?;
    entries.sort();
    Ok(entries)
}

/// Golden files that stand for themselves, with their stems.
fn golden_files(entries: &[PathBuf]) -> impl Iterator<Item = (&PathBuf, String)> {
    entries.iter().filter_map(|path| {
        let stem = path.file_stem()?.to_string_lossy().into_owned();
        let is_golden = path.extension().is_some_and(|extension| extension == "safetensors");
        (is_golden && !COMPANIONS.iter().any(|ending| stem.ends_with(ending))).then_some((path, stem))
    })
}

/// The first file of each set that goes with one that is missing, and the stem of the missing one.
fn orphans(entries: &[PathBuf]) -> Vec<(&PathBuf, String)> {
    const OF_JSON: &[&str] = &["_tolerances", "_info"];
    let is_there = |stem: &str| golden_files(entries).any(|(_, other)| other == stem);
    let mut orphans: Vec<(&PathBuf, String)> = Vec::new();
    for path in entries {
        let endings = match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => COMPANIONS,
            Some("json") => OF_JSON,
            _ => continue,
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let Some(stem) = endings.iter().find_map(|ending| name.strip_suffix(ending)) else { continue };
        if kind_of(stem).is_some() && !is_there(stem) && orphans.iter().all(|(_, other)| other != stem) {
            orphans.push((path, stem.to_owned()));
        }
    }
    orphans
}

/// Largest absolute difference; infinite when the lengths differ or a value is not finite.
pub(crate) fn worst_difference<'a, 'b>(
    ours: impl IntoIterator<Item = &'a f32>,
    golden: impl IntoIterator<Item = &'b f64>,
) -> f64 {
    let [mut ours, mut golden] =
        [ours.into_iter().map(|value| f64::from(*value)).collect::<Vec<_>>(), golden.into_iter().copied().collect()];
    if ours.len() != golden.len() {
        return f64::INFINITY;
    }
    let pairs = ours.drain(..).zip(golden.drain(..));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

/// The larger of two errors; not a number is the largest.
pub(crate) fn larger(worst: f64, error: f64) -> f64 {
    if error.is_nan() || error > worst { error } else { worst }
}
