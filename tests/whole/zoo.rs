//! The committed models: small, proved by both engines, which agree on real frames; they say how they were made.

use std::path::{Path, PathBuf};

use foresee_firmware_config::{PixelEncoding, Provider};
use foresee_runtime::{
    Encoder, EncoderInput, EngineOptions, Features, Frame, ModelCard, ModelKind, Preprocessor, open_encoder,
    open_policy,
};
use foresee_sim::{Camera, CameraOptions, Environment, Quality};
use foresee_tests::{binary, root};

fn zoo() -> PathBuf {
    root().join("models/zoo")
}

fn native() -> PathBuf {
    binary().ancestors().nth(2).unwrap().join("native")
}

fn options(provider: Provider) -> EngineOptions {
    let library = Some(native().join("onnxruntime/lib/libonnxruntime.so"));
    EngineOptions { library, ..EngineOptions::exactly(provider) }
}

fn models() -> Vec<PathBuf> {
    let files = std::fs::read_dir(zoo()).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect()
}

#[test]
fn the_zoo_is_small_and_says_how_it_was_made() {
    let bytes: u64 = std::fs::read_dir(zoo()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 12 << 20, "{bytes} bytes");
    assert!(models().len() >= 2);
    for model in models() {
        let card = ModelCard::load(&model).unwrap();
        let provenance = &card.provenance;
        assert!(provenance.commands.len() >= 3 && !provenance.seeds.is_empty(), "{}", model.display());
        if card.kind == ModelKind::Policy {
            let evaluation = &provenance.results["evaluation"];
            let episodes = evaluation["episodes"].as_u64().unwrap();
            let [policy, random] = ["policy", "random"].map(|who| evaluation[who]["mean_return"].as_f64().unwrap());
            assert!(episodes >= 100 && evaluation["policy_over_expert"].as_f64().unwrap() >= 0.8, "{evaluation}");
            assert!(policy > 3.0 * random, "{policy} against {random}");
        }
    }
}

fn features(encoder: &mut dyn Encoder, frame: &Frame) -> Features {
    let preprocessing = encoder.card().preprocessing.clone().unwrap();
    let mut input = EncoderInput::zeros(preprocessing.height, preprocessing.width);
    Preprocessor::new(&preprocessing).unwrap().run(frame, &mut input).unwrap();
    let mut features = Features::zeros(0, 0);
    encoder.encode(&input, &mut features).unwrap();
    features
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A frame of the task as the camera gives it.
fn frame(task: &str, seed: u64) -> Frame {
    let mut environment = Environment::new(task, &native()).unwrap();
    let name = environment.spec().camera.clone();
    let options = CameraOptions { name, width: 128, height: 128, quality: Quality::Fast };
    let mut camera = Camera::new(&environment, &options).unwrap();
    environment.reset(seed).unwrap();
    let mut frame = Frame::black(128, 128, PixelEncoding::Rgb8);
    camera.render_frame(&mut environment, &mut frame).unwrap();
    frame
}

#[test]
fn both_engines_see_the_same() {
    let model = zoo().join("mae-64.onnx");
    let mut engines =
        [Provider::Cpu, Provider::Tract].map(|provider| open_encoder(&model, &options(provider)).unwrap());
    for (task, seed) in [("dmc/reacher-easy", 5), ("dmc/walker-walk", 6), ("dmc/cheetah-run", 7)] {
        let frame = frame(task, seed);
        let [ort, tract] = engines.each_mut().map(|engine| features(engine.as_mut(), &frame));
        assert!(worst(&ort.tokens, &tract.tokens) <= 1e-4 && worst(&ort.cls, &tract.cls) <= 1e-4, "{task}");
        let spread = ort.tokens.iter().fold(0.0_f32, |spread, value| spread.max(value.abs()));
        assert!(spread > 0.1, "the features of {task} are empty");
    }
}

#[test]
fn the_policy_fits_its_encoder_and_no_other_robot() {
    let names = |names: [&str; 2]| names.map(str::to_owned);
    let policy = zoo().join("reacher-easy-bc.onnx");
    let open = |encoder: &ModelCard, joints: [&str; 2]| {
        open_policy(&policy, encoder, &names(joints), &options(Provider::Tract))
    };
    let mut encoder = ModelCard::load(&zoo().join("mae-64.onnx")).unwrap();
    assert!(open(&encoder, ["shoulder", "wrist"]).is_ok());
    let problem = open(&encoder, ["shoulder", "elbow"]).err().unwrap().to_string();
    assert!(problem.contains("elbow"), "{problem}");
    encoder.sha256 = "0".repeat(64);
    let problem = open(&encoder, ["shoulder", "wrist"]).err().unwrap().to_string();
    assert!(problem.contains("encoder"), "{problem}");
}

#[test]
fn a_card_names_its_model_beside_it() {
    for model in models() {
        let card = ModelCard::load(&model).unwrap();
        assert_eq!(Path::new(&card.model).file_name(), model.file_name());
    }
}
