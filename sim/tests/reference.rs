//! Every task against episodes of the Python original.

use std::path::{Path, PathBuf};

use foresee_sim::{TASKS, verify_directory, verify_file};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

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

#[test]
fn a_recording_of_other_sizes_is_named() {
    let bytes = std::fs::read(repository().join("tests/fixtures/metaworld/reach.safetensors")).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reach.safetensors");
    for (ending, expected) in
        [(".last_rand_vec", "the last_rand_vec buffer has"), (".actions", "the action buffer has 3 values")]
    {
        // The last value of every row is left out.
        let cut: Vec<_> = tensors.iter().map(|(name, view)| cut(name, &view, ending)).collect();
        let views = cut
            .iter()
            .map(|(name, shape, data)| (name, TensorView::new(safetensors::Dtype::F64, shape.clone(), data).unwrap()));
        std::fs::write(&path, safetensors::serialize(views, header.metadata().clone()).unwrap()).unwrap();
        let report = verify_file(&path, &repository().join("target/native")).unwrap();
        let reason = report.reason.unwrap_or_default();
        assert!(!report.passed && reason.contains(expected), "{reason}");
    }
}

fn cut(name: &str, view: &TensorView<'_>, ending: &str) -> (String, Vec<usize>, Vec<u8>) {
    let mut shape = view.shape().to_vec();
    let mut data = view.data().to_vec();
    if let (true, Some(length)) = (name.ends_with(ending), shape.last_mut()) {
        data = data.chunks_exact(8 * *length).flat_map(|row| row[..8 * (*length - 1)].to_vec()).collect();
        *length -= 1;
    }
    (name.to_owned(), shape, data)
}
