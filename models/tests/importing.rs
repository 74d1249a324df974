//! Official checkpoint files in, without running anything that they hold.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::path::{Path, PathBuf};

use foresee_models::{
    HeadsSource, ImportOptions, ImportReport, ModelsError, NamedTensors, import, load_encoder, load_tensors,
    save_tensors,
};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

fn read(name: &str, output: Option<PathBuf>) -> Result<ImportReport, ModelsError> {
    import(&ImportOptions { file: fixture(name), output, heads: Some(3), ..ImportOptions::default() })
}

#[test]
fn each_official_layout_is_read_and_its_method_known() {
    let check = |name: &str, method: &str, num_tensors: usize| {
        let report = read(name, None).expect(name);
        assert!(report.fits(), "{report:#?}");
        assert_eq!((report.method.as_str(), report.num_tensors), (method, num_tensors), "{name}");
        let encoder = &report.recipe.encoder;
        assert_eq!([encoder.image_size, encoder.patch_size, encoder.dim, encoder.depth], [32, 8, 48, 2], "{name}");
    };
    check("import/rsp_tiny.pth", "rsp", 94);
    check("import/mae_tiny_legacy.pth", "mae", 62);
    check("import/mae_tiny_encoder.pth", "encoder", 30);
    check("import/mae_tiny_trainckpt.pth", "mae", 62);
}

#[test]
fn values_arrive_and_the_encoder_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("weights.safetensors");
    read("import/mae_tiny_legacy.pth", Some(output.clone())).expect("imports");
    let (ours, _) = load_tensors(&output).expect("reads");
    let golden = load_golden();
    for (name, tensor) in &ours {
        assert_eq!(Some(tensor), golden.get(&format!("model.{name}")), "{name}");
    }
    load_encoder(&output).expect("runs");
}

fn load_golden() -> NamedTensors {
    let bytes = std::fs::read(fixture("golden/mae_tiny.safetensors")).expect("the golden file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
    let weights = file.tensors().into_iter().filter(|(name, _)| name.starts_with("model."));
    let read = |view: safetensors::tensor::TensorView<'_>| {
        let values = view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four")));
        (view.shape().to_vec(), values.collect())
    };
    weights.map(|(name, view)| (name, read(view))).collect()
}

#[test]
fn wrappers_prefixes_come_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain.safetensors");
    read("import/mae_tiny_encoder.pth", Some(plain.clone())).expect("imports");
    let (tensors, _) = load_tensors(&plain).expect("reads");
    for prefix in ["module.", "backbone.", "module.backbone.", "base_encoder."] {
        let file = folder.path().join("wrapped.safetensors");
        let wrapped = tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone())).collect();
        save_tensors(&file, &wrapped, &[]).expect("writes");
        let report = import(&ImportOptions { file, heads: Some(3), ..ImportOptions::default() }).expect(prefix);
        assert!(report.fits() && report.num_tensors == 30, "{prefix}: {report:#?}");
    }
}

#[test]
fn integers_in_safetensors_are_extra_tensors_and_no_reason_to_refuse_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain.safetensors");
    read("import/mae_tiny_encoder.pth", Some(plain.clone())).expect("imports");
    let bytes = std::fs::read(&plain).expect("the file");
    let file = SafeTensors::deserialize(&bytes).expect("whole");
    let (count, small) = ([(-7_i64).to_le_bytes(), 8_i64.to_le_bytes()].concat(), [1_u8, 200]);
    let others = [
        ("num_batches_tracked", Dtype::I64, count.as_slice(), [-7.0, 8.0]),
        ("flags", Dtype::U8, small.as_slice(), [1.0, 200.0]),
        ("signed", Dtype::I8, small.as_slice(), [1.0, -56.0]),
        ("truth", Dtype::BOOL, &[1, 0], [1.0, 0.0]),
    ];
    let views = others
        .iter()
        .map(|(name, dtype, bytes, _)| ((*name).to_string(), TensorView::new(*dtype, vec![2], bytes).expect("a view")));
    let views: Vec<_> = file.tensors().into_iter().chain(views).collect();
    let file = folder.path().join("counted.safetensors");
    std::fs::write(&file, safetensors::serialize(views, None).expect("serialises")).expect("written");
    let (tensors, _) = load_tensors(&file).expect("reads");
    for (name, _, _, values) in &others {
        assert_eq!(tensors[*name], (vec![2], values.to_vec()), "{name}");
    }
    let report = import(&ImportOptions { file, heads: Some(3), ..ImportOptions::default() }).expect("imports");
    assert_eq!(report.extra, ["flags", "num_batches_tracked", "signed", "truth"]);
    assert!(report.missing.is_empty() && report.wrong_shape.is_empty());
}

#[test]
fn another_grid_stretches_the_tables() {
    let options = ImportOptions {
        file: fixture("import/rsp_tiny.pth"),
        image_size: Some(48),
        heads: Some(3),
        ..ImportOptions::default()
    };
    let report = import(&options).expect("imports");
    assert!(report.fits(), "{report:#?}");
    assert_eq!(report.stretched, ["decoder_pos_embed", "pos_embed"]);
}

#[test]
fn bad_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |bytes: &[u8], wanted: &str| {
        let file = folder.path().join("bad.pth");
        std::fs::write(&file, bytes).expect("written");
        let error = import(&ImportOptions { file, ..ImportOptions::default() }).expect_err(wanted).to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    };
    let legacy = std::fs::read(fixture("import/mae_tiny_legacy.pth")).expect("the file");
    let zip = std::fs::read(fixture("import/rsp_tiny.pth")).expect("the file");
    check(b"hello", "neither a zip");
    check(&legacy[..legacy.len() / 2], "breaks off");
    check(&zip[..zip.len() / 2], "zip directory is broken");
    // A legacy file whose object calls os.system.
    let starts = legacy.windows(2).enumerate().filter(|(_, window)| *window == b"\x80\x02");
    let (object, _) = starts.into_iter().nth(3).expect("the fourth pickle is the object");
    let mut evil = legacy[..object].to_vec();
    evil.extend_from_slice(b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.");
    check(&evil, "os.system");
    let with_object = |object_bytes: &[u8]| [&legacy[..object], object_bytes].concat();
    // The same through the instruction of old classes.
    check(&with_object(b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n."), "os.system");
    let keys = b"\x80\x02]q\x00.".as_slice();
    // A dictionary that holds itself as its model.
    check(&with_object(&[b"\x80\x02}q\x01X\x05\x00\x00\x00modelh\x01s.", keys].concat()), "no tensors");
    // Tuples in tuples, a million deep.
    check(&with_object(&[b"\x80\x02)", b"\x85".repeat(1_000_000).as_slice(), b".", keys].concat()), "no tensors");
    // Two dictionaries that take each other's pairs in turn: 2^60 of them.
    let start = b"\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s0}q\x01X\x01\x00\x00\x00bK\x01s0";
    check(&with_object(&[start.as_slice(), b"h\x00h\x01b0h\x01h\x00b0".repeat(60).as_slice()].concat()), "values");
    // Every prefix is refused without a panic.
    for end in (0..zip.len()).step_by(7919) {
        let file = folder.path().join("cut.pth");
        std::fs::write(&file, &zip[..end]).expect("written");
        assert!(import(&ImportOptions { file, ..ImportOptions::default() }).is_err(), "{end}");
    }
}

#[test]
fn where_the_number_of_heads_is_from_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let heads = |file: PathBuf, heads: Option<usize>, output: Option<PathBuf>| {
        let report = import(&ImportOptions { file, output, heads, ..ImportOptions::default() }).expect("imports");
        (report.recipe.encoder.heads, report.heads_from)
    };
    let official = fixture("import/mae_tiny_encoder.pth");
    assert_eq!(heads(official.clone(), None, None), (3, HeadsSource::Width));
    let ours = folder.path().join("six.safetensors");
    assert_eq!(heads(official.clone(), Some(6), Some(ours.clone())), (6, HeadsSource::Given));
    assert_eq!(heads(ours, None, None), (6, HeadsSource::Recipe));
    let options = ImportOptions { file: official, heads: Some(5), ..ImportOptions::default() };
    let error = import(&options).expect_err("no width for five").to_string();
    assert!(error.contains("is 48 wide, which --heads 5 does not divide"), "{error}");
}

#[test]
fn shards_are_joined_and_a_missing_one_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain.safetensors");
    read("import/mae_tiny_encoder.pth", Some(plain.clone())).expect("imports");
    let (tensors, _) = load_tensors(&plain).expect("reads");
    let shard = |idx: usize| folder.path().join(format!("model-{idx:05}-of-00002.safetensors"));
    let half = |parity: usize| -> NamedTensors {
        let tensors = tensors.clone().into_iter().enumerate();
        tensors.filter(|(idx, _)| idx % 2 == parity).map(|(_, tensor)| tensor).collect()
    };
    save_tensors(&shard(1), &half(0), &[]).expect("writes");
    let options = |file: PathBuf| ImportOptions { file, heads: Some(3), ..ImportOptions::default() };
    let error = import(&options(shard(1))).expect_err("half a model").to_string();
    assert!(error.contains("model-00002-of-00002.safetensors") && error.contains("1 missing"), "{error}");
    save_tensors(&shard(2), &half(1), &[]).expect("writes");
    let index = folder.path().join("model.safetensors.index.json");
    let map = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    std::fs::write(&index, map).expect("written");
    for file in [shard(1), shard(2), index] {
        let report = import(&options(file)).expect("imports");
        assert!(report.fits() && report.num_tensors == 30 && report.files.len() == 2, "{report:#?}");
    }
}

#[test]
fn two_sets_of_weights_are_a_question_and_each_can_be_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = folder.path().join("plain.safetensors");
    read("import/mae_tiny_encoder.pth", Some(plain.clone())).expect("imports");
    let (tensors, _) = load_tensors(&plain).expect("reads");
    let file = folder.path().join("both.safetensors");
    let mut both = tensors.clone();
    for (name, (shape, values)) in &tensors {
        both.insert(format!("module.{name}"), (shape.clone(), values.iter().map(|value| value + 1.0).collect()));
    }
    save_tensors(&file, &both, &[]).expect("writes");
    let output = folder.path().join("one.safetensors");
    let take = |weights: Option<&str>| {
        let weights = weights.map(str::to_owned);
        let (file, output) = (file.clone(), Some(output.clone()));
        import(&ImportOptions { file, output, heads: Some(3), weights, ..ImportOptions::default() })
    };
    let error = take(None).expect_err("two sets").to_string();
    assert!(error.contains("`(root)`, `module`") && error.contains("--weights"), "{error}");
    assert_eq!(take(Some("(root)")).expect("imports").weights, "(root)");
    assert_eq!(load_tensors(&output).expect("reads").0, tensors);
    assert_eq!(take(Some("module")).expect("imports").weights, "module");
    let (taken, _) = load_tensors(&output).expect("reads");
    assert!(taken.iter().all(|(name, tensor)| *tensor == both[&format!("module.{name}")]));
}
