//! A small encoder from frames to an ONNX file: the loss falls, a stopped run goes on bit for bit, the file computes what was trained.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foresee_firmware_config::PixelEncoding;
use foresee_models::{
    BenchOptions, Checkpoint, ClipReader, ClipSource, Compute, ExportOptions, FrameStore, ModelsError, Precision,
    PretrainOptions, PretrainProgress, RECIPES, Reading, Recipe, RunFacts, Shrink, export, load_encoder, pretrain,
    step_parts, time_steps,
};
use foresee_runtime::{EncoderInput, Frame, ModelCard, Provenance};
use tract_onnx::prelude::{Framework, InferenceModelExt, IntoRunnable, Tensor, tvec};

/// Squares that drift over a shaded ground, in clips of 40.
fn drifting_squares(num_frames: usize) -> FrameStore {
    let mut store = FrameStore::new(32);
    let mut shrink = Shrink::new(32).expect("a size");
    let mut frame = Frame::black(32, 32, PixelEncoding::Rgb8);
    for frame_idx in 0..num_frames {
        if frame_idx % 40 == 0 {
            store.start_clip();
        }
        let clip = frame_idx / 40;
        let [left, top] = [(frame_idx + 7 * clip) % 24, (frame_idx / 2 + 11 * clip) % 24];
        for (pixel_idx, pixel) in frame.data.chunks_exact_mut(3).enumerate() {
            let [x, y] = [pixel_idx % 32, pixel_idx / 32];
            let inside = (left..left + 8).contains(&x) && (top..top + 8).contains(&y);
            let square = [250, (clip * 60 % 250) as u8, 20];
            pixel.copy_from_slice(&if inside { square } else { [(4 * x) as u8, (4 * y) as u8, 90] });
        }
        store.push(&frame, &mut shrink).expect("fits");
    }
    store
}

fn tiny(steps: usize) -> Recipe {
    let mut recipe = Recipe::load("mae-64").expect("the recipe");
    recipe.encoder.image_size = 32;
    recipe.encoder.dim = 32;
    recipe.encoder.mlp_dim = 64;
    recipe.encoder.depth = 2;
    let decoder = recipe.decoders.get_mut("decoder").expect("the decoder");
    decoder.dim = 32;
    decoder.depth = 1;
    decoder.mlp_dim = 64;
    recipe.optimiser.base_learning_rate = 0.04;
    recipe.optimiser.batch_size = 16;
    recipe.optimiser.steps = steps;
    recipe.optimiser.warm_up_steps = steps.min(5);
    recipe.data.stored_size = 32;
    recipe.validate().expect("valid");
    recipe
}

fn options(recipe: Recipe, folder: &Path) -> PretrainOptions {
    PretrainOptions {
        recipe,
        folder: folder.to_path_buf(),
        seed: Some(3),
        threads: 2,
        decode_threads: 2,
        micro_batch: 5,
        compute: Compute::default(),
        checkpoint_every: Duration::from_secs(3600),
        resume: false,
    }
}

/// The losses of every step; stops after `stop_after` if given.
fn losses(options: &PretrainOptions, store: &FrameStore, stop_after: Option<u64>) -> Vec<f64> {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let mut observer = |progress: &PretrainProgress| {
        losses.push(progress.loss);
        stop.store(stop_after == Some(progress.step), Ordering::Relaxed);
    };
    pretrain(options, store, &mut observer, &stop).expect("trains");
    losses
}

#[test]
fn the_loss_falls_and_the_run_folder_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = drifting_squares(160);
    let losses = losses(&options(tiny(60), folder.path()), &store, None);
    assert_eq!(losses.len(), 60);
    let [first, last] = [&losses[..5], &losses[55..]].map(|part| part.iter().sum::<f64>() / 5.0);
    assert!(last < 0.7 * first, "{first} -> {last}");
    let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("metrics");
    assert_eq!(metrics.lines().count(), 60);
    for name in ["checkpoint.safetensors", "reconstructions.png", "run.json"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
}

#[test]
fn a_stopped_run_goes_on_bit_for_bit() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let store = drifting_squares(50);
    let whole = losses(&options(tiny(12), folders[0].path()), &store, None);
    let mut parts = options(tiny(12), folders[1].path());
    let mut stopped = losses(&parts, &store, Some(7));
    let refused = |parts: &PretrainOptions, wanted: [&str; 2]| {
        let error = pretrain(parts, &store, &mut |_| {}, &AtomicBool::new(false)).expect_err(wanted[0]).to_string();
        assert!(wanted.iter().all(|part| error.contains(part)), "{error}");
    };
    refused(&parts, ["--resume", "another --out"]);
    parts.resume = true;
    parts.seed = Some(99);
    refused(&parts, ["seed 3", "--seed 99"]);
    // How a run that goes on is cut into shards does not matter: its own numbers are in the checkpoint.
    parts.seed = None;
    parts.threads = 1;
    stopped.extend(losses(&parts, &store, None));
    assert_eq!(whole, stopped);
    let [a, b] = folders.each_ref().map(|folder| {
        let checkpoint = Checkpoint::load(&folder.path().join("checkpoint.safetensors")).expect("loads");
        let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl")).expect("metrics");
        assert_eq!(metrics.lines().count(), 12);
        checkpoint
    });
    assert_eq!(a, b);
    parts.recipe.encoder.heads = 2;
    let error = pretrain(&parts, &store, &mut |_| {}, &AtomicBool::new(false)).expect_err("another recipe");
    assert!(error.to_string().contains("another recipe"), "{error}");
}

/// As the frames in memory, with one clip that cannot be read as long as it is broken.
struct Flaky<'a> {
    store: &'a FrameStore,
    is_broken: bool,
}

impl ClipSource for Flaky<'_> {
    fn description(&self) -> String {
        self.store.description()
    }

    fn num_clips(&self) -> usize {
        self.store.num_clips()
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        format!("clips/{clip_idx}.mp4")
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        Ok(Box::new(FlakyReader { reader: self.store.reader()?, is_broken: self.is_broken }))
    }
}

struct FlakyReader<'a> {
    reader: Box<dyn ClipReader + 'a>,
    is_broken: bool,
}

impl ClipReader for FlakyReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        if self.is_broken && clip_idx == 1 {
            return Err(ModelsError::Data { path: "clips/1.mp4".into(), problem: "is torn".to_string() });
        }
        self.reader.open(clip_idx)
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        self.reader.read(frame_idx, frame)
    }
}

#[test]
fn a_run_that_goes_on_keeps_what_was_skipped_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = drifting_squares(160);
    let facts = || -> RunFacts {
        let text = std::fs::read(folder.path().join("run.json")).expect("run.json");
        serde_json::from_slice(&text).expect("facts")
    };
    let run = |is_broken: bool, last: u64| {
        let options = PretrainOptions { resume: !is_broken, ..options(tiny(8), folder.path()) };
        let (stop, mut skipped) = (AtomicBool::new(false), 0);
        let mut observer = |progress: &PretrainProgress| {
            skipped = progress.num_clips_skipped;
            stop.store(progress.step == last, Ordering::Relaxed);
        };
        let outcome = pretrain(&options, &Flaky { store: &store, is_broken }, &mut observer, &stop);
        (outcome.expect("trains").data_problems, skipped)
    };
    let wanted = vec!["clips/1.mp4: skipped: is torn".to_string()];
    assert_eq!(run(true, 2), (wanted.clone(), 1));
    let rows = facts().picture_rows;
    assert!(!rows.is_empty());
    assert_eq!(run(false, 3), (wanted.clone(), 1));
    assert_eq!((facts().data_problems, facts().picture_rows), (wanted, rows));
}

#[test]
fn steps_that_are_not_finite_are_skipped_and_end_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut recipe = tiny(40);
    recipe.optimiser.base_learning_rate = 1e30;
    let mut skipped = Vec::new();
    let mut observer = |progress: &PretrainProgress| skipped.push(progress.num_skipped);
    let never = AtomicBool::new(false);
    let store = drifting_squares(50);
    let error = pretrain(&options(recipe, folder.path()), &store, &mut observer, &never).expect_err("diverges");
    assert!(error.to_string().contains("not finite for 20 steps in a row"), "{error}");
    assert!(skipped.first() == Some(&0) && skipped.last() == Some(&19), "{skipped:?}");
}

#[test]
fn the_exported_file_computes_what_was_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = drifting_squares(40);
    losses(&options(tiny(4), folder.path()), &store, None);
    let checkpoint = folder.path().join("checkpoint.safetensors");
    let output = folder.path().join("tiny.onnx");
    let provenance = Provenance { data: "drifting squares".to_string(), ..Provenance::default() };
    let export_options = ExportOptions {
        checkpoint: checkpoint.clone(),
        output: output.clone(),
        name: "tiny".to_string(),
        provenance,
        precision: Precision::F32,
        calibration: Vec::new(),
        engines: Vec::new(),
    };
    let card = export(&export_options).expect("exports");
    assert_eq!(ModelCard::load(&output).expect("the card fits"), card);

    let trained = load_encoder(&checkpoint).expect("loads");
    let data: Vec<f32> = (0..3 * 32 * 32).map(|idx| ((idx * 7919 % 1000) as f32 / 250.0) - 2.0).collect();
    let inputs = [EncoderInput { height: 32, width: 32, data: data.clone() }, EncoderInput::zeros(32, 32)];
    let features = trained.features(&inputs).expect("runs");
    let model = tract_onnx::onnx().model_for_path(&output).expect("tract reads it");
    let model = model.into_optimized().expect("optimises").into_runnable().expect("runs");
    let mut images = data;
    images.extend(vec![0.0; 3 * 32 * 32]);
    let images = Tensor::from_shape(&[2, 3, 32, 32], &images).expect("a tensor");
    let outputs = model.run(tvec!(images.into())).expect("runs");
    let [tokens, cls] = [0, 1].map(|idx| outputs[idx].to_plain_array_view::<f32>().expect("f32").to_owned());
    let expected_tokens = features.iter().flat_map(|features| &features.tokens);
    let expected_cls = features.iter().flat_map(|features| &features.cls);
    for (value, expected) in tokens.iter().zip(expected_tokens).chain(cls.iter().zip(expected_cls)) {
        assert!((value - expected).abs() <= 1e-4, "{value} {expected}");
    }
    assert_eq!((tokens.shape(), cls.shape()), ([2, 16, 32].as_slice(), [2, 32].as_slice()));
}

#[test]
fn bad_recipes_name_the_key_and_the_value() {
    let text = toml_of(&tiny(4));
    let check = |from: &str, to: &str, wanted: &str| {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{from} is not in the recipe");
        let error = Recipe::parse("tiny", &changed).expect_err(to).to_string();
        assert!(error.contains(wanted) && !error.contains('\n'), "{error}");
    };
    check("patch_size = 8", "patch_size = 7", "patch_size 7 must divide");
    check("patch_size = 8", "patch_sise = 8", "patch_sise");
    check("mask_ratio = 0.75", "mask_ratio = 0.99", "leaves no patch visible");
    check("encoding = \"visible\"", "encoding = \"hidden\"", "no encoding hidden");
    check("view = 0\nmask", "view = 3\nmask", "view is 3");
    check("block = \"self\"", "block = \"selfish\"", "selfish");
    check("\nsteps = 4", "\nsteps = 0", "at least 1");
    assert!(Recipe::load("mae-65").expect_err("unknown").to_string().contains("mae-64"));
}

fn toml_of(recipe: &Recipe) -> String {
    toml::to_string(recipe).expect("writes")
}

#[test]
fn every_recipe_takes_a_step_and_its_loss_is_finite() {
    for (name, _) in RECIPES {
        let mut recipe = Recipe::load(name).expect(name);
        recipe.encoder.image_size = 4 * recipe.encoder.patch_size;
        recipe.encoder.depth = 1;
        recipe.decoders.values_mut().for_each(|decoder| decoder.depth = 1);
        recipe.encodings.iter_mut().for_each(|encoding| encoding.mask_ratio = encoding.mask_ratio.min(0.75));
        recipe.optimiser.batch_size = 2;
        recipe.optimiser.steps = 2;
        recipe.optimiser.warm_up_steps = 1;
        recipe.data.stored_size = 32;
        let folder = tempfile::tempdir().expect("a folder");
        let losses = losses(&options(recipe, folder.path()), &drifting_squares(60), None);
        assert!(losses.len() == 2 && losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
    }
}

#[test]
fn a_bench_times_whole_steps_for_as_long_as_it_is_told() {
    let mut heard = Vec::new();
    let mut goes_on = |seconds| {
        heard.push(seconds);
        heard.len() < 4
    };
    let options = BenchOptions { recipe: tiny(2), threads: 2, micro_batch: 8, compute: Compute::default() };
    time_steps(&options, &mut goes_on).expect("runs");
    assert!(heard.len() == 4 && heard[0].is_none(), "{heard:?}");
    assert!(heard[1..].iter().all(|seconds| seconds.is_some_and(|seconds| seconds > 0.0)), "{heard:?}");
}

#[test]
fn a_bench_says_where_the_time_of_a_step_goes() {
    let options = BenchOptions { recipe: tiny(2), threads: 2, micro_batch: 8, compute: Compute::default() };
    let parts = step_parts(&options).expect("runs");
    let seconds = |name: &str| parts.iter().find(|part| part.name == name).expect(name).seconds;
    for name in ["linear layers", "attention", "norms", "activations", "residuals, gathers and loss"] {
        for pass in ["forward", "backward"] {
            assert!(seconds(&format!("{name}, {pass}")) > 0.0, "{name}, {pass}: {parts:?}");
        }
    }
    assert!(seconds("optimiser") > 0.0 && parts.iter().map(|part| part.seconds).sum::<f64>() > 0.0, "{parts:?}");
}
