//! Every task against episodes of the Python original.

use std::path::{Path, PathBuf};

use foresee_sim::{TASKS, verify_directory};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_task_reproduces_its_reference_episodes() {
    let native = repository().join("target/native");
    let mut reports = Vec::new();
    for suite in ["dmc", "hand", "metaworld"] {
        let directory = repository().join("tests/fixtures").join(suite);
        reports.extend(verify_directory(&directory, &native, &mut |task| println!("{task:?}")).unwrap().tasks);
    }
    // The kitchen's single sub-tasks are parts of the one that has all.
    // The table is ours.
    let has_original =
        |name: &str| !name.starts_with("table/") && (!name.starts_with("kitchen/") || name == "kitchen/all");
    for entry in TASKS.iter().filter(|entry| has_original(entry.name)) {
        let task = reports.iter().find(|task| task.task == entry.name);
        let task = task.unwrap_or_else(|| panic!("no reference episodes for {}", entry.name));
        assert!(task.passed, "{task:?}");
    }
}
