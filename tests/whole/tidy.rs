//! Rules of style that a machine can check.

use std::path::PathBuf;

use foresee_tests::root;

const MAX_LINES: usize = 400;

/// (file, why it may be longer than [`MAX_LINES`] without its tests).
const LONG_FILES: &[(&str, &str)] = &[];

fn sources() -> Vec<(String, String)> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root())
        .output()
        .unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    let files: Vec<PathBuf> = names.lines().map(PathBuf::from).filter(|path| root().join(path).exists()).collect();
    assert!(files.len() > 20, "git names only {} sources", files.len());
    files
        .into_iter()
        .map(|path| (path.display().to_string(), std::fs::read_to_string(root().join(&path)).unwrap()))
        .collect()
}

#[test]
fn every_file_says_what_it_is_for() {
    for (path, text) in sources() {
        assert!(text.starts_with("//!"), "{path}: does not start with `//!` and a sentence of purpose");
    }
}

#[test]
fn files_stay_readable() {
    for (path, text) in sources() {
        let own = text.split("\n#[cfg(test)]").next().unwrap_or_default().lines().count();
        let excused = LONG_FILES.iter().any(|(long, _)| *long == path);
        assert!(own <= MAX_LINES || excused, "{path}: {own} lines without its tests, more than {MAX_LINES}");
        assert!(own > MAX_LINES || !excused, "{path}: is short enough now; take it off LONG_FILES");
    }
}

#[test]
fn nothing_is_left_open() {
    // Built from halves, so that this file does not find itself.
    let marks = [concat!("FIX", "ME"), concat!("#[ig", "nore"), concat!("todo", "!("), concat!("unimpl", "emented!(")];
    for (path, text) in sources() {
        for mark in marks {
            assert!(!text.contains(mark), "{path}: contains {mark}");
        }
    }
}

#[test]
fn only_launch_prints_exits_and_reads_the_environment() {
    let marks = ["println!(", "process::exit", "env::var("];
    for (path, text) in sources() {
        let below = ["firmware-config/src", "runtime/src", "models/src", "sim/src", "policies/src"];
        if !below.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let own = text.split("\n#[cfg(test)]").next().unwrap_or_default();
        for mark in marks {
            assert!(!own.contains(mark), "{path}: {mark} belongs into launch");
        }
    }
}
