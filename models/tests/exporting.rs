//! Exported encoders in every precision, on tract beside the training framework, and back out of their own ONNX file.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use foresee_firmware_config::{PixelEncoding, Provider};
use foresee_models::{
    Checkpoint, EncoderWeights, ExportOptions, ExportResults, Parameters, Precision, Recipe, RunPlace, TrainedEncoder,
    export,
};
use foresee_runtime::{EngineOptions, Frame, LogHeader, LogWriter, ModelCard, Provenance};
use tract_onnx::prelude::Framework;

fn checkpoint(folder: &Path, recipe: &str) -> PathBuf {
    let mut recipe = Recipe::load(recipe).expect("a recipe");
    let encoder = &mut recipe.encoder;
    (encoder.image_size, encoder.patch_size, encoder.depth) = (32, 8, 2);
    (encoder.dim, encoder.heads, encoder.mlp_dim) = (48, 3, 192);
    let parameters = Parameters::initialise(&recipe, 11);
    let path = folder.join("checkpoint.safetensors");
    Checkpoint { recipe, parameters, optimiser: Default::default(), place: RunPlace::default() }
        .save(&path)
        .expect("saves");
    path
}

fn options(checkpoint: &Path, output: &Path, precision: Precision) -> ExportOptions {
    ExportOptions {
        checkpoint: checkpoint.to_path_buf(),
        output: output.to_path_buf(),
        name: "tiny".to_string(),
        provenance: Provenance::default(),
        precision,
        calibration: Vec::new(),
        engines: vec![EngineOptions::exactly(Provider::Tract)],
    }
}

fn results(card: &ModelCard) -> ExportResults {
    serde_json::from_value(card.provenance.results.clone()).expect("results")
}

#[test]
fn every_precision_says_how_near_it_is() {
    for (recipe, precision, least_cosine, largest_error) in [
        ("mae-64", Precision::F32, 0.999_999, 1e-4),
        ("mae-64", Precision::F16, 0.9999, 0.05),
        ("mae-64", Precision::Int8, 0.995, 0.5),
        ("croco", Precision::F32, 0.999_999, 1e-4),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = checkpoint(folder.path(), recipe);
        let output = folder.path().join("tiny.onnx");
        let card = export(&options(&checkpoint, &output, precision)).expect("exports");
        assert_eq!(ModelCard::load(&output).expect("the card fits"), card);
        let check = results(&card).engines.remove(0);
        assert_eq!(
            (check.provider.as_str(), &check.refused, check.inputs),
            ("tract", &None, 1),
            "{recipe} {precision:?}"
        );
        let numbers = [check.cosine_tokens, check.cosine_cls, check.max_error].map(|number| number.expect("measured"));
        assert!(numbers[0] > least_cosine && numbers[1] > least_cosine, "{recipe} {precision:?}: {numbers:?}");
        assert!(
            numbers[2] < largest_error && (precision == Precision::F32 || numbers[2] > 1e-5),
            "{recipe} {precision:?}: {numbers:?}"
        );
        assert!(f64::from(card.golden.tolerance) >= numbers[2], "{recipe} {precision:?}: {}", card.golden.tolerance);
    }
}

#[test]
fn rotary_positions_are_exported_as_they_are_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = Recipe::load("croco").expect("a recipe");
    recipe.encoder.positions = foresee_models::Positions::Rope100;
    let encoder = &mut recipe.encoder;
    (encoder.image_size, encoder.patch_size, encoder.depth) = (32, 8, 2);
    (encoder.dim, encoder.heads, encoder.mlp_dim) = (48, 3, 96);
    let path = folder.path().join("checkpoint.safetensors");
    let parameters = Parameters::initialise(&recipe, 1);
    Checkpoint { recipe, parameters, optimiser: Default::default(), place: RunPlace::default() }
        .save(&path)
        .expect("saves");
    let output = folder.path().join("rotary.onnx");
    for precision in [Precision::F32, Precision::F16] {
        let check = results(&export(&options(&path, &output, precision)).expect("exports")).engines.remove(0);
        assert!(check.cosine_tokens.is_some_and(|cosine| cosine > 0.9999), "{precision:?}: {check:?}");
    }
}

/// Bytes of one element, by ONNX's numbers of types.
fn element_bytes(data_type: i32) -> usize {
    match data_type {
        1 | 6 => 4,
        2 | 3 | 9 => 1,
        7 | 11 => 8,
        10 => 2,
        // No export has another type.
        _ => usize::MAX,
    }
}

#[test]
fn every_precision_keeps_to_the_rules_of_onnx_graphs() {
    let folder = tempfile::tempdir().expect("a folder");
    for (recipe, precision) in
        [("mae-64", Precision::F32), ("mae-64", Precision::F16), ("mae-64", Precision::Int8), ("croco", Precision::F32)]
    {
        let checkpoint = checkpoint(folder.path(), recipe);
        let output = folder.path().join("tiny.onnx");
        export(&options(&checkpoint, &output, precision)).expect("exports");
        let model = tract_onnx::onnx().proto_model_for_path(&output).expect("parses");
        let opsets: Vec<_> = model.opset_import.iter().map(|opset| (opset.domain.as_str(), opset.version)).collect();
        assert_eq!(opsets, [("", 17)], "{recipe} {precision:?}");
        let graph = model.graph.expect("a graph");
        let mut known: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        for constant in &graph.initializer {
            let count: i64 = constant.dims.iter().product();
            assert_eq!(
                constant.raw_data.len(),
                (count as usize).saturating_mul(element_bytes(constant.data_type)),
                "{}",
                constant.name
            );
            assert!(known.insert(&constant.name), "{} is there twice", constant.name);
        }
        let mut used = BTreeSet::new();
        let mut node_names = BTreeSet::new();
        for node in &graph.node {
            assert!(node.domain.is_empty() && (node.name.is_empty() || node_names.insert(&node.name)), "{}", node.name);
            // Nodes come after what they read, and each value is made once.
            for input in node.input.iter().filter(|input| !input.is_empty()) {
                assert!(known.contains(input.as_str()), "{recipe} {precision:?}: {} reads {input}", node.op_type);
                used.insert(input.as_str());
            }
            node.output.iter().for_each(|output| assert!(known.insert(output), "{output} is made twice"));
        }
        used.extend(graph.output.iter().map(|output| output.name.as_str()));
        assert!(used.iter().all(|name| known.contains(name)), "an output that nothing makes");
        let idle: Vec<_> = graph.initializer.iter().filter(|constant| !used.contains(constant.name.as_str())).collect();
        assert!(idle.is_empty(), "{recipe} {precision:?}: {} is not read", idle[0].name);
        let outputs: Vec<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        assert_eq!((graph.input.len(), outputs), (1, vec!["tokens", "cls"]), "{recipe} {precision:?}");
    }
}

/// A log of frames with a gradient that moves.
fn record(path: &Path) {
    let header = LogHeader { robot: "tiny".to_string(), ..LogHeader::default() };
    let mut writer = LogWriter::create(path, &header).expect("a log");
    let mut frame = Frame::black(32, 32, PixelEncoding::Rgb8);
    for frame_idx in 0..6_u64 {
        frame.sequence = frame_idx;
        for (idx, byte) in frame.data.iter_mut().enumerate() {
            *byte = ((idx as u64 * 5 + frame_idx * 31) % 251) as u8;
        }
        writer.write_frame(&frame).expect("writes");
    }
    writer.finish().expect("finishes");
}

#[test]
fn an_onnx_file_is_as_good_as_its_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let checkpoint = checkpoint(folder.path(), "mae-64");
    let [first, second, small] = ["first", "second", "small"].map(|name| folder.path().join(format!("{name}.onnx")));
    export(&options(&checkpoint, &first, Precision::F32)).expect("exports");
    let [ours, theirs] = [&checkpoint, &first].map(|path| EncoderWeights::load(path).expect("loads"));
    assert_eq!((&ours.recipe, ours.seed), (&theirs.recipe, theirs.seed));
    let input = foresee_runtime::EncoderInput {
        height: 32,
        width: 32,
        data: (0..3072).map(|idx| (idx % 17) as f32 / 9.0 - 1.0).collect(),
    };
    let [ours, theirs] = [ours, theirs].map(|weights| {
        TrainedEncoder::new(&weights.recipe, &weights.parameters)
            .features(std::slice::from_ref(&input))
            .expect("features")
            .remove(0)
    });
    let worst = ours.tokens.iter().zip(&theirs.tokens).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
    export(&options(&first, &second, Precision::F32)).expect("exports again");
    let log = folder.path().join("frames.mcap");
    record(&log);
    let calibrated = ExportOptions { calibration: vec![log], ..options(&first, &small, Precision::Int8) };
    let results = results(&export(&calibrated).expect("exports in 8 bits"));
    assert_eq!((results.calibration_frames, results.engines[0].inputs), (6, 7));
    assert!(results.engines[0].cosine_tokens.is_some_and(|cosine| cosine > 0.99), "{results:?}");
    export(&options(&first, &second, Precision::F16)).expect("exports in half precision");
    for (path, wanted) in [(&small, "small.onnx: was exported in int8"), (&second, "second.onnx: was exported in f16")]
    {
        let error = EncoderWeights::load(path).expect_err("no f32 weights").to_string();
        assert!(error.contains(wanted) && error.contains("give the f32 export"), "{error}");
    }
}
