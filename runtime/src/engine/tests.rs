//! One suite over both engines.

mod admission;
mod patches;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::card::{CARD_FORMAT, Golden, PreprocessingCard, Provenance, Resize, TensorData};
use crate::command::Action;
use crate::encoder::{EncoderInput, Features};
use crate::files::sha256_file;
use crate::joints::JointState;
use crate::onnx::{OnnxDim, OnnxGraph, write_model};

const SIDE: usize = 4;
const NUM_PIXELS: usize = 3 * SIDE * SIDE;
const NUM_TOKENS: usize = 5;
const DIM: usize = 6;

fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn engine(choice: ProviderChoice) -> EngineOptions {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native/onnxruntime/lib/libonnxruntime.so");
    EngineOptions { choice, library: Some(library), ..EngineOptions::exactly(Provider::Cpu) }
}

fn multiply(x: &[f32], weight: &[f32]) -> Vec<f32> {
    let columns = weight.len() / x.len();
    (0..columns)
        .map(|column| x.iter().enumerate().map(|(row, value)| value * weight[row * columns + column]).sum())
        .collect()
}

fn tensor(name: &str, shape: &[usize]) -> TensorCard {
    TensorCard::f32(name, shape)
}

fn write_card(model: &Path, kind: ModelKind, golden: Golden) -> ModelCard {
    let tensors = |tensors: &BTreeMap<String, TensorData>| {
        let mut cards: Vec<_> = tensors.iter().map(|(name, data)| tensor(name, &data.shape)).collect();
        // The reverse of the alphabet: `tokens` before `cls` and `joints`, as in graph order.
        cards.reverse();
        cards
    };
    let std = [0.5, 0.25, 1.0];
    let preprocessing = PreprocessingCard {
        width: SIDE,
        height: SIDE,
        resize: Resize::BilinearAntialias,
        crop: None,
        mean: [0.5; 3],
        std,
        hash: String::new(),
    };
    let card = ModelCard {
        format: CARD_FORMAT,
        kind,
        name: "tiny".to_owned(),
        model: "tiny.onnx".to_owned(),
        sha256: sha256_file(model).unwrap(),
        inputs: tensors(&golden.inputs),
        outputs: tensors(&golden.outputs),
        preprocessing: (kind == ModelKind::Encoder).then(|| preprocessing.with_hash()),
        external: Vec::new(),
        interface: None,
        joints: if kind == ModelKind::Policy { joint_names() } else { Vec::new() },
        encoder_sha256: None,
        golden,
        provenance: Provenance::default(),
    };
    if kind == ModelKind::Encoder {
        card.save(model).unwrap();
    }
    card
}

fn joint_names() -> Vec<String> {
    vec!["shoulder".to_owned(), "wrist".to_owned()]
}

/// `tokens = image @ A`, `cls = image @ B`, with a card that proves it.
fn write_encoder(model: &Path) -> ModelCard {
    write_encoder_of(model, OnnxDim::Batch)
}

fn write_encoder_of(model: &Path, batch: OnnxDim) -> ModelCard {
    let (a, b) = (noise(1, NUM_PIXELS * NUM_TOKENS * DIM), noise(2, NUM_PIXELS * DIM));
    let mut graph = OnnxGraph::new("encoder");
    let size = OnnxDim::Fixed(SIDE);
    let image = graph.add_input("image", &[batch, OnnxDim::Fixed(3), size, size]);
    let flat_shape = graph.add_indices("flat_shape", &[-1, NUM_PIXELS as i64]);
    let flat = graph.add_node("Reshape", &[&image, &flat_shape], Vec::new());
    let weight = graph.add_constant("a", &[NUM_PIXELS, NUM_TOKENS * DIM], &a);
    let tokens = graph.matmul(&flat, &weight);
    let tokens_shape = graph.add_indices("tokens_shape", &[-1, NUM_TOKENS as i64, DIM as i64]);
    let tokens = graph.add_node("Reshape", &[&tokens, &tokens_shape], Vec::new());
    let weight = graph.add_constant("b", &[NUM_PIXELS, DIM], &b);
    let cls = graph.matmul(&flat, &weight);
    graph.add_output("tokens", &tokens, &[batch, OnnxDim::Fixed(NUM_TOKENS), OnnxDim::Fixed(DIM)]);
    graph.add_output("cls", &cls, &[batch, OnnxDim::Fixed(DIM)]);
    write_model(model, &graph.to_bytes()).unwrap();
    let x = noise(3, NUM_PIXELS);
    let outputs = [
        ("tokens".to_owned(), TensorData::new(&[1, NUM_TOKENS, DIM], &multiply(&x, &a))),
        ("cls".to_owned(), TensorData::new(&[1, DIM], &multiply(&x, &b))),
    ];
    let inputs = [("image".to_owned(), TensorData::new(&[1, 3, SIDE, SIDE], &x))];
    write_card(model, ModelKind::Encoder, Golden { inputs: inputs.into(), outputs: outputs.into(), tolerance: 1e-4 })
}

/// `action = joints @ C`, with the tokens' sum times zero, so that both inputs are used.
fn write_policy(model: &Path, encoder: &ModelCard) -> ModelCard {
    let c = noise(4, 4 * 2);
    let mut graph = OnnxGraph::new("policy");
    let tokens = graph.add_input("tokens", &[OnnxDim::Batch, OnnxDim::Fixed(NUM_TOKENS), OnnxDim::Fixed(DIM)]);
    let joints = graph.add_input("joints", &[OnnxDim::Batch, OnnxDim::Fixed(4)]);
    let flat_shape = graph.add_indices("flat_shape", &[-1, (NUM_TOKENS * DIM) as i64]);
    let flat = graph.add_node("Reshape", &[&tokens, &flat_shape], Vec::new());
    let nothing = graph.add_constant("nothing", &[NUM_TOKENS * DIM, 2], &[0.0; NUM_TOKENS * DIM * 2]);
    let nothing = graph.matmul(&flat, &nothing);
    let weight = graph.add_constant("c", &[4, 2], &c);
    let action = graph.matmul(&joints, &weight);
    let action = graph.add(&action, &nothing);
    graph.add_output("action", &action, &[OnnxDim::Batch, OnnxDim::Fixed(2)]);
    write_model(model, &graph.to_bytes()).unwrap();
    let (tokens, joints) = (noise(5, NUM_TOKENS * DIM), noise(6, 4));
    let inputs = [
        ("tokens".to_owned(), TensorData::new(&[1, NUM_TOKENS, DIM], &tokens)),
        ("joints".to_owned(), TensorData::new(&[1, 4], &joints)),
    ];
    let outputs = [("action".to_owned(), TensorData::new(&[1, 2], &multiply(&joints, &c)))];
    let golden = Golden { inputs: inputs.into(), outputs: outputs.into(), tolerance: 1e-4 };
    let card =
        ModelCard { encoder_sha256: Some(encoder.sha256.clone()), ..write_card(model, ModelKind::Policy, golden) };
    card.save(model).unwrap();
    card
}

#[test]
fn both_engines_give_the_same_features_and_actions() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder_path, policy_path) = (folder.path().join("encoder.onnx"), folder.path().join("policy.onnx"));
    let card = write_encoder(&encoder_path);
    write_policy(&policy_path, &card);
    let input = EncoderInput { height: SIDE, width: SIDE, data: noise(7, NUM_PIXELS) };
    let joints = JointState { positions: vec![0.5, -1.0], velocities: vec![2.0, 0.25], ..JointState::default() };
    let mut results = Vec::new();
    for provider in [Provider::Tract, Provider::Cpu] {
        let options = engine(ProviderChoice::Exactly(provider));
        let mut encoder = open_encoder(&encoder_path, &options).unwrap();
        assert_eq!((encoder.report().provider, encoder.report().reason.as_str()), (provider, "asked for"));
        let mut policy = open_policy(&policy_path, encoder.card(), &joint_names(), &options).unwrap();
        let (mut features, mut action) = (Features::zeros(0, 0), Action::default());
        // Twice: the second run reuses every buffer.
        for data in [&noise(8, NUM_PIXELS), &input.data] {
            let input = EncoderInput { data: data.clone(), ..input };
            encoder.encode(&input, &mut features).unwrap();
            policy.act(&features, &joints, &mut action).unwrap();
        }
        results.push((features, action));
    }
    let [(a, action_a), (b, action_b)] = results.as_slice() else { panic!("two engines") };
    assert_eq!((a.num_tokens, a.dim, a.tokens.len(), a.cls.len()), (NUM_TOKENS, DIM, NUM_TOKENS * DIM, DIM));
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-4, "{a} {b}");
    a.tokens.iter().zip(&b.tokens).for_each(|(a, b)| close((*a).into(), (*b).into()));
    a.cls.iter().zip(&b.cls).for_each(|(a, b)| close((*a).into(), (*b).into()));
    action_a.values.iter().zip(&action_b.values).for_each(|(a, b)| close(*a, *b));
    let expected = multiply(&input.data, &noise(2, NUM_PIXELS * DIM));
    a.cls.iter().zip(&expected).for_each(|(a, b)| close((*a).into(), (*b).into()));
    let expected = multiply(&[0.5, -1.0, 2.0, 0.25], &noise(4, 8));
    action_a.values.iter().zip(&expected).for_each(|(a, b)| close(*a, (*b).into()));
}

/// What a graph for one image at a time makes of two, and one that takes any number.
#[test]
fn images_of_several_cameras_go_through_as_a_batch_where_the_graph_takes_one() {
    let folder = tempfile::tempdir().unwrap();
    let (open, closed) = (folder.path().join("open.onnx"), folder.path().join("closed.onnx"));
    write_encoder_of(&open, OnnxDim::Batch);
    write_encoder_of(&closed, OnnxDim::Fixed(1));
    let image = |seed| noise(seed, NUM_PIXELS);
    let both = EncoderInput { height: SIDE, width: SIDE, data: [image(7), image(8)].concat() };
    for provider in [Provider::Tract, Provider::Cpu] {
        let one = engine(ProviderChoice::Exactly(provider));
        let two = EngineOptions { num_cameras: 2, ..one.clone() };
        let mut alone = open_encoder(&open, &one).unwrap();
        let mut batch = open_encoder(&open, &two).unwrap();
        assert_eq!((alone.num_images(), batch.num_images(), batch.report().images), (1, 2, 2));
        let (mut features, mut single) = (Features::zeros(0, 0), Features::zeros(0, 0));
        batch.encode(&both, &mut features).unwrap();
        assert_eq!((features.num_tokens, features.dim), (2 * NUM_TOKENS, DIM));
        for (idx, seed) in [7, 8].into_iter().enumerate() {
            alone.encode(&EncoderInput { data: image(seed), ..both }, &mut single).unwrap();
            let near = |all: &[f32], one: &[f32]| {
                let place = all.chunks_exact(one.len()).nth(idx).unwrap();
                place.iter().zip(one).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
            };
            near(&features.tokens, &single.tokens);
            near(&features.cls, &single.cls);
        }
        assert!(alone.encode(&both, &mut single).is_err(), "two images for an encoder of one");
        let closed = open_encoder(&closed, &two).unwrap();
        let reason = &closed.report().reason;
        assert!(closed.num_images() == 1 && reason.contains("one image at a time"), "{reason}");
        let in_turn = EngineOptions { camera_order: CameraOrder::RoundRobin, ..two };
        assert_eq!(open_encoder(&open, &in_turn).unwrap().num_images(), 1);
    }
}

#[test]
fn auto_goes_down_the_list_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.onnx");
    write_encoder(&model);
    let auto = engine(ProviderChoice::Auto(vec![Provider::Cpu, Provider::Tract]));
    let encoder = open_encoder(&model, &auto).unwrap();
    assert_eq!((encoder.report().provider, encoder.report().reason.as_str()), (Provider::Cpu, "first of the list"));
    assert!(encoder.report().engine.starts_with("onnxruntime 1."), "{}", encoder.report().engine);
    let nowhere = EngineOptions { library: Some("/nowhere/libonnxruntime.so".into()), ..auto };
    let encoder = open_encoder(&model, &nowhere).unwrap();
    assert_eq!(encoder.report().provider, Provider::Tract);
    assert!(encoder.report().reason.starts_with("after cpu: "), "{}", encoder.report().reason);
    let message = open_encoder(&model, &EngineOptions { choice: ProviderChoice::Auto(vec![Provider::Cpu]), ..nowhere });
    let message = message.err().unwrap().to_string();
    assert!(message.contains("auto (cpu)") && !message.contains('\n'), "{message}");
}

/// Asking for a GPU on a machine without one must never end on the CPU.
#[test]
fn a_provider_that_is_not_there_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.onnx");
    write_encoder(&model);
    for provider in [Provider::Cuda, Provider::Tensorrt] {
        match open_encoder(&model, &engine(ProviderChoice::Exactly(provider))) {
            Ok(encoder) => assert_eq!(encoder.report().provider, provider),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(provider.name()) && message.contains("GPU build"), "{message}");
                assert!(!message.contains('\n'), "{message}");
            }
        }
    }
    let probes = probe_providers(engine(ProviderChoice::Auto(Vec::new())).library.as_deref());
    let ready = |provider| probes.iter().any(|probe| probe.provider == provider && probe.is_ready);
    assert!(ready(Provider::Cpu) && ready(Provider::Tract), "{probes:?}");
}

/// Writes a good encoder, spoils something, and expects every engine to refuse with these words.
fn check(spoil: impl Fn(&Path, ModelCard), expected: &[&str]) {
    for provider in [Provider::Tract, Provider::Cpu] {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("encoder.onnx");
        spoil(&model, write_encoder(&model));
        let error = open_encoder(&model, &engine(ProviderChoice::Exactly(provider))).err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        for part in expected {
            assert!(message.contains(part), "{provider:?}: {message:?} lacks {part:?}");
        }
        assert!(!message.contains('\n'), "one line: {message}");
    }
}

fn save_with(model: &Path, card: ModelCard, change: impl Fn(&mut ModelCard)) {
    let mut card = ModelCard { sha256: sha256_file(model).unwrap(), ..card };
    change(&mut card);
    card.save(model).unwrap();
}

#[test]
fn a_model_that_does_not_prove_itself_is_refused() {
    check(
        |model, card| {
            save_with(model, card, |card| {
                let values =
                    card.golden.outputs["cls"].values().unwrap().iter().map(|value| value + 0.25).collect::<Vec<_>>();
                card.golden.outputs.insert("cls".to_owned(), TensorData::new(&[1, DIM], &values));
            });
        },
        &["output `cls`", "off by 2.5", "1e-4"],
    );
    check(|model, _| fs::write(model, b"not onnx at all").unwrap(), &["another model", "sha256"]);
    check(
        |model, card| {
            let bytes = fs::read(model).unwrap();
            fs::write(model, &bytes[..bytes.len() / 2]).unwrap();
            save_with(model, card, |_| {});
        },
        &["encoder.onnx", "not an ONNX file"],
    );
    check(
        |model, card| {
            save_with(model, card, |card| {
                card.outputs[0].name = "patches".to_owned();
                let data = card.golden.outputs.remove("tokens").unwrap();
                card.golden.outputs.insert("patches".to_owned(), data);
            });
        },
        &["no `patches` among its outputs", "another model"],
    );
    check(|model, _| fs::remove_file(model).unwrap(), &["no such model"]);
    check(|model, _| fs::remove_file(ModelCard::path_of(model)).unwrap(), &["no such card"]);
}

#[test]
fn a_policy_goes_with_its_encoder_and_joints_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder_path, policy_path) = (folder.path().join("encoder.onnx"), folder.path().join("policy.onnx"));
    let encoder = write_encoder(&encoder_path);
    write_policy(&policy_path, &encoder);
    let tract = engine(ProviderChoice::Exactly(Provider::Tract));
    let check = |encoder: &ModelCard, names: &[String], expected: &str| {
        let message = open_policy(&policy_path, encoder, names, &tract).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    };
    let other = ModelCard { sha256: "ff".to_owned(), ..encoder.clone() };
    check(&other, &joint_names(), "was trained on the encoder");
    check(&encoder, &["wrist".to_owned(), "shoulder".to_owned()], "the profile has wrist, shoulder");
    let message = open_encoder(&policy_path, &tract).err().unwrap().to_string();
    assert!(message.contains("is the card of a policy, and an encoder is wanted"), "{message}");
}

#[test]
fn serving_is_measured_on_either_engine() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.onnx");
    write_encoder(&model);
    let frame = crate::frame::Frame::black(32, 24, foresee_firmware_config::PixelEncoding::Bgr8);
    for provider in [Provider::Tract, Provider::Cpu] {
        let options = MeasureOptions { num_rounds: 3, num_runs: 5 };
        let measure = measure_serving(&model, &frame, &engine(ProviderChoice::Exactly(provider)), options).unwrap();
        assert_eq!(measure.engine.provider, provider);
        assert!(measure.bare_micros > 0.0 && measure.frame_to_features_micros > 0.0, "{measure:?}");
        assert!(measure.ratio_to_bare_session.is_finite());
    }
}
