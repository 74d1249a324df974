//! Every task against episodes of the Python original.

use std::path::{Path, PathBuf};

use foresee_sim::{TASKS, verify_directory};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_task_reproduces_its_reference_episodes() {
    let directory = repository().join("tests/fixtures/dmc");
    let native = repository().join("target/native");
    let report = verify_directory(&directory, &native, &mut |task| println!("{task:?}")).unwrap();
    for entry in TASKS {
        let task = report.tasks.iter().find(|task| task.task == entry.name);
        let task = task.unwrap_or_else(|| panic!("no reference episodes for {}", entry.name));
        assert!(task.passed, "{task:?}");
    }
}
