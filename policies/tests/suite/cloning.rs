//! From recordings through a real encoder to a served policy.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use foresee_firmware_config::{DeviceProfile, Provider, parse};
use foresee_policies::{
    BcOptions, Behaviour, DemonstrationOptions, Disturbance, ExportNotes, PoliciesError, PolicyActor, Progress,
    RecordOptions, Samples, VisualEvaluation, VisualOutcome, Watch, evaluate_visual, export_policy, fit_policy,
    load_demonstrations,
};
use foresee_runtime::{
    CARD_FORMAT, Encoder, EngineOptions, Golden, ModelCard, ModelKind, OnnxDim, OnnxGraph, PreprocessingCard,
    Provenance, Resize, TensorCard, TensorData, open_encoder, open_policy, sha256_file, write_model,
};
use foresee_sim::{CameraOptions, EpisodePlan, Quality};

use crate::{native, recording, run};

const SIDE: usize = 32;
const PATCH: usize = 8;
const NUM_TOKENS: usize = (SIDE / PATCH) * (SIDE / PATCH);
const DIM: usize = 3 * PATCH * PATCH;

fn engine() -> EngineOptions {
    EngineOptions::exactly(Provider::Tract)
}

fn profile() -> DeviceProfile {
    foresee_firmware_config::load("desktop-sim").expect("a profile")
}

/// Writes an encoder whose tokens are the pixels of the patches.
fn write_patch_encoder(model: &Path) {
    let (side, patch, grid) = (SIDE as i64, PATCH as i64, (SIDE / PATCH) as i64);
    let mut graph = OnnxGraph::new("patches");
    let image =
        graph.add_input("image", &[OnnxDim::Batch, OnnxDim::Fixed(3), OnnxDim::Fixed(SIDE), OnnxDim::Fixed(SIDE)]);
    let split = graph.reshape(&image, &[0, 3, grid, patch, side / patch, patch]);
    let ordered = graph.transpose(&split, &[0, 2, 4, 1, 3, 5]);
    let tokens = graph.reshape(&ordered, &[0, NUM_TOKENS as i64, DIM as i64]);
    let cls = graph.reduce_mean(&tokens, &[1]);
    graph.add_output("tokens", &tokens, &[OnnxDim::Batch, OnnxDim::Fixed(NUM_TOKENS), OnnxDim::Fixed(DIM)]);
    graph.add_output("cls", &cls, &[OnnxDim::Batch, OnnxDim::Fixed(DIM)]);
    write_model(model, &graph.to_bytes()).expect("written");
    let tensor = TensorCard::f32;
    let data =
        |name: &str, shape: &[usize]| (name.to_owned(), TensorData::new(shape, &vec![0.25; shape.iter().product()]));
    let (image, tokens, cls) = ([1, 3, SIDE, SIDE], [1, NUM_TOKENS, DIM], [1, DIM]);
    let preprocessing = PreprocessingCard {
        width: SIDE,
        height: SIDE,
        resize: Resize::BilinearAntialias,
        crop: None,
        mean: [0.5; 3],
        std: [0.25; 3],
        hash: String::new(),
    };
    let card = ModelCard {
        format: CARD_FORMAT,
        kind: ModelKind::Encoder,
        name: "patches".to_owned(),
        model: model.file_name().expect("a name").to_string_lossy().into_owned(),
        sha256: sha256_file(model).expect("hashed"),
        inputs: vec![tensor("image", &image)],
        outputs: vec![tensor("tokens", &tokens), tensor("cls", &cls)],
        external: Vec::new(),
        interface: None,
        preprocessing: Some(preprocessing.with_hash()),
        joints: Vec::new(),
        encoder_sha256: None,
        golden: Golden {
            inputs: [data("image", &image)].into(),
            outputs: [data("tokens", &tokens), data("cls", &cls)].into(),
            tolerance: 1e-4,
        },
        provenance: Provenance::default(),
    };
    card.save(model).expect("saved");
}

fn fixed_camera() -> CameraOptions {
    CameraOptions { name: "fixed".to_owned(), width: 128, height: 128, quality: Quality::Fast }
}

fn load(recordings: &Path, encoder: &Path, num_encoders: usize) -> Result<Samples, PoliciesError> {
    load_with(&demonstrations(recordings), encoder, num_encoders)
}

fn demonstrations(recordings: &Path) -> DemonstrationOptions {
    DemonstrationOptions::new(vec![recordings.to_path_buf()], profile())
}

fn load_with(options: &DemonstrationOptions, encoder: &Path, num_encoders: usize) -> Result<Samples, PoliciesError> {
    let open = |_| -> Box<dyn Encoder> { open_encoder(encoder, &engine()).expect("opened") };
    let mut watch = Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) };
    load_demonstrations(options, (0..num_encoders).map(open).collect(), &mut watch)
}

/// Stops after `num_wanted` episodes.
fn evaluate(
    [encoder, policy]: [&Path; 2],
    plan: EpisodePlan,
    (num_workers, num_wanted): (usize, usize),
) -> VisualOutcome {
    evaluate_on((&profile(), &engine()), [encoder, policy], plan, (num_workers, num_wanted))
}

fn evaluate_on(
    (profile, engine): (&DeviceProfile, &EngineOptions),
    [encoder, policy]: [&Path; 2],
    plan: EpisodePlan,
    (num_workers, num_wanted): (usize, usize),
) -> VisualOutcome {
    let native = native();
    let evaluation = VisualEvaluation {
        task: "dmc/reacher-easy",
        model: None,
        native: &native,
        profile,
        randomisation: None,
        quality: Quality::Fast,
        encoder,
        policy,
        engine,
        plan,
        num_workers,
    };
    let stop = AtomicBool::new(false);
    let mut observe = |progress| {
        if let Progress::Played { num_played, .. } = progress {
            stop.store(num_played >= num_wanted, Ordering::Relaxed);
        }
    };
    evaluate_visual(&evaluation, &mut Watch { observe: &mut observe, stop: &stop }).expect("played")
}

#[test]
fn a_clone_of_recordings_is_exported_and_served_the_same_by_any_number_of_workers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recordings, encoder) = (folder.path().join("recordings"), folder.path().join("patches.onnx"));
    write_patch_encoder(&encoder);
    let options =
        RecordOptions { camera: fixed_camera(), num_episodes: 12, max_steps: Some(40), ..recording(&recordings) };
    run(&options).expect("recorded");

    let samples = load(&recordings, &encoder, 2).expect("loaded");
    assert_eq!((samples.len(), samples.num_episodes()), (480, 12));
    let bc = BcOptions { num_epochs: 40, batch_size: 32, ..BcOptions::default() };
    let mut watch = Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) };
    let checkpoint = fit_policy(&samples, &bc, &mut watch).expect("fitted");
    let policy = folder.path().join("policy.onnx");
    export_policy(&checkpoint, &policy, &ExportNotes::default()).expect("exported");

    // A dozen targets can be learnt by heart, which is all that is asked here.
    let losses: Vec<f64> = checkpoint.epochs().iter().map(|epoch| epoch.train_loss).collect();
    assert!(losses.last() < Some(&0.02), "{losses:?}");

    let card = ModelCard::load(&policy).expect("a card");
    card.conditions().expect("in the card").check(&profile()).expect("the profile of the demonstrations");
    let acted = folder.path().join("acted");
    let actor = PolicyActor { encoder: encoder.clone(), policy: policy.clone(), engine: engine(), device: profile() };
    let by_policy = RecordOptions {
        folder: acted.clone(),
        behaviour: Behaviour::Policy,
        policy: Some(actor),
        disturbance: Disturbance::NONE,
        num_episodes: 1,
        ..options
    };
    run(&by_policy).expect("recorded");
    assert_eq!(load(&acted, &encoder, 1).expect("loaded").len(), 40);

    let plan = EpisodePlan { first_seed: 500, num_episodes: 2 };
    let outcome = evaluate([&encoder, &policy], plan, (2, 9));
    assert_eq!(outcome.episodes.iter().map(|episode| episode.seed).collect::<Vec<_>>(), [500, 501]);
    assert_eq!(outcome.encoder.provider, Provider::Tract);
    assert_eq!(outcome.statistics.total.len(), 2000);
    let plan = EpisodePlan { num_episodes: 50, ..plan };
    assert_eq!(evaluate([&encoder, &policy], plan, (1, 2)).episodes, outcome.episodes);
}

#[test]
fn a_clone_that_sees_through_two_cameras_is_served_as_it_was_trained() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recordings, encoder) = (folder.path().join("recordings"), folder.path().join("patches.onnx"));
    write_patch_encoder(&encoder);
    let camera = "[[extra_cameras]]\nname = \"hand\"\nwidth = 64\nheight = 48\nencoding = \"rgb8\"\n";
    let profile = parse("two.toml", &format!("inherit = \"desktop-sim\"\n{camera}")).expect("a profile");
    let extra_cameras = vec![CameraOptions::of(&profile.extra_cameras[0].camera, Quality::Fast)];
    let options =
        RecordOptions { camera: fixed_camera(), num_episodes: 3, max_steps: Some(20), ..recording(&recordings) };
    run(&RecordOptions { extra_cameras, ..options }).expect("recorded");

    let engine = EngineOptions { num_cameras: 2, ..engine() };
    let open = |engine: &EngineOptions| vec![open_encoder(&encoder, engine).expect("opened")];
    let mut watch = Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) };
    let two = DemonstrationOptions { profile: profile.clone(), ..demonstrations(&recordings) };
    let samples = load_demonstrations(&two, open(&engine), &mut watch).expect("loaded");
    assert_eq!(samples.len(), 60);
    let bc = BcOptions { num_epochs: 2, batch_size: 32, ..BcOptions::default() };
    let checkpoint = fit_policy(&samples, &bc, &mut watch).expect("fitted");
    let policy = folder.path().join("policy.onnx");
    export_policy(&checkpoint, &policy, &ExportNotes::default()).expect("exported");

    let plan = EpisodePlan { first_seed: 500, num_episodes: 1 };
    let outcome = evaluate_on((&profile, &engine), [&encoder, &policy], plan, (1, 9));
    assert_eq!((outcome.episodes.len(), outcome.encoder.images), (1, 2));
    // One camera's tokens are too few for it.
    let card = ModelCard::load(&encoder).expect("a card");
    let names = ["shoulder".to_owned(), "wrist".to_owned()];
    let refused =
        open_policy(&policy, &card, &names, &EngineOptions { num_cameras: 1, ..engine }).err().expect("refused");
    assert!(refused.to_string().contains("cameras (1)"), "{refused}");
}

#[test]
fn what_cannot_be_learnt_from_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recordings, encoder) = (folder.path().join("recordings"), folder.path().join("patches.onnx"));
    write_patch_encoder(&encoder);
    let refused = |options: &DemonstrationOptions, needle: &str| {
        let error = load_with(options, &encoder, 1).expect_err(needle).to_string();
        assert!(error.contains(needle) && !error.contains('\n'), "{error}");
    };
    std::fs::create_dir(&recordings).expect("made");
    refused(&demonstrations(&recordings), "hold no .mcap log");
    let small = RecordOptions { num_episodes: 1, max_steps: Some(5), ..recording(&recordings) };
    run(&small).expect("recorded");
    refused(&demonstrations(&recordings), "32x32 Rgb8 where the profile's camera `fixed` gives 128x128");
    std::fs::remove_dir_all(&recordings).expect("removed");
    let options =
        RecordOptions { camera: fixed_camera(), num_episodes: 2, max_steps: Some(5), ..recording(&recordings) };
    run(&options).expect("recorded");
    refused(
        &DemonstrationOptions { max_bytes: 1000, ..demonstrations(&recordings) },
        "more than the 1000 that are allowed",
    );
    let mut other = demonstrations(&recordings);
    other.profile.joints[0].name = "elbow".to_owned();
    refused(&other, "elbow");
    let log = recordings.join("episode-0000000007.mcap");
    let bytes = std::fs::read(&log).expect("read");
    for kept in 0..16 {
        std::fs::write(&log, &bytes[..bytes.len() * kept / 16]).expect("cut");
        match load(&recordings, &encoder, 1) {
            // Its whole chunks, beside the other log's frames.
            Ok(samples) => assert!((5..=10).contains(&samples.len()), "{}", samples.len()),
            Err(error) => assert!(error.to_string().contains("episode-0000000007.mcap"), "{error}"),
        }
    }
}
