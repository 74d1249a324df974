//! What is served of a graph: tokens on the grid that its patch operators make, functions of the image alone, and no side outputs.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::*;
use super::admission::options;
use super::{engine, joint_names, noise, write_encoder, write_policy};
use crate::card::{PreprocessingCard, TokenLayout};
use crate::files::sha256_file;
use crate::onnx::{OnnxAttribute, OnnxDim, OnnxFilter, OnnxGraph, OnnxValue, write_model};

const DIM: usize = 6;

/// How the image becomes patches.
#[derive(Clone, Copy)]
struct Patches {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    pad: i64,
}

impl Patches {
    fn square(side: usize, patch: usize) -> Self {
        Self { height: side, width: side, kernel: patch, stride: patch, pad: 0 }
    }

    fn grid(self) -> [usize; 2] {
        [self.height, self.width].map(|side| (side + 2 * self.pad as usize - self.kernel) / self.stride + 1)
    }
}

fn conv(graph: &mut OnnxGraph, x: &OnnxValue, [channels, kernel, stride]: [usize; 3], name: &str) -> OnnxValue {
    let weight = noise(5, DIM * channels * kernel * kernel);
    let weight = graph.add_constant(&format!("{name}_w"), &[DIM, channels, kernel, kernel], &weight);
    let bias = graph.add_constant(&format!("{name}_b"), &[DIM], &noise(6, DIM));
    graph.conv(x, &OnnxFilter { weight, bias, kernel, stride })
}

fn image_of(graph: &mut OnnxGraph, patches: Patches) -> OnnxValue {
    let [height, width] = [patches.height, patches.width].map(OnnxDim::Fixed);
    graph.add_input("image", &[OnnxDim::Batch, OnnxDim::Fixed(3), height, width])
}

/// `[1, L, D]` of a convolution.
fn rows_of(graph: &mut OnnxGraph, patches: Patches) -> OnnxValue {
    let image = image_of(graph, patches);
    let pad = patches.pad;
    let padded = if pad > 0 { graph.pad_zeros(&image, &[0, 0, pad, pad, 0, 0, pad, pad]) } else { image };
    let map = conv(graph, &padded, [3, patches.kernel, patches.stride], "patch");
    let flat = graph.reshape(&map, &[0, DIM as i64, -1]);
    graph.transpose(&flat, &[0, 2, 1])
}

fn with_tokens(graph: &mut OnnxGraph, rows: &OnnxValue, prefix: usize, is_before: bool) -> OnnxValue {
    let extra = graph.add_constant("prefix", &[1, prefix, DIM], &noise(7, prefix * DIM));
    let joined = if is_before { [&extra, rows] } else { [rows, &extra] };
    graph.concat(&joined, 1)
}

fn write(folder: &Path, graph: &mut OnnxGraph, outputs: &[(&str, &OnnxValue, &[usize])]) -> PathBuf {
    for (name, value, shape) in outputs {
        let shape: Vec<OnnxDim> = shape.iter().map(|size| OnnxDim::Fixed(*size)).collect();
        graph.add_output(name, value, &shape);
    }
    let path = folder.join("foreign.onnx");
    write_model(&path, &graph.to_bytes()).unwrap();
    path
}

fn options_for(patches: Patches) -> AdmitOptions {
    let options = options(patches.width);
    let preprocessing = PreprocessingCard { height: patches.height, ..options.preprocessing.clone() };
    AdmitOptions { preprocessing: preprocessing.with_hash(), ..options }
}

/// Tokens, rows before them and their grid, by both engines.
fn admit(model: &Path, options: &AdmitOptions) -> Result<(usize, usize, Option<[usize; 2]>), String> {
    let mut found = Vec::new();
    for provider in [Provider::Cpu, Provider::Tract] {
        let admitted = admit_encoder(model, options, &engine(ProviderChoice::Exactly(provider)));
        found.push(admitted.map_err(|error| error.to_string()).map(|admitted| {
            let interface = admitted.card.interface.clone().unwrap();
            (admitted.card.feature_shape().unwrap().0, interface.num_prefix_tokens, interface.grid)
        }));
        assert_eq!(found.last().unwrap().is_ok(), ModelCard::path_of(model).exists());
        let _ = fs::remove_file(ModelCard::path_of(model));
    }
    let tract = found.pop().unwrap();
    let cpu = found.pop().unwrap();
    assert_eq!(cpu, tract);
    cpu
}

#[test]
fn the_grid_of_tokens_is_that_of_the_convolution_whatever_divides() {
    let folder = tempfile::tempdir().unwrap();
    let check = |patches: Patches, prefix: usize, grid: [usize; 2]| {
        assert_eq!(patches.grid(), grid);
        let mut graph = OnnxGraph::new("vit");
        let mut rows = rows_of(&mut graph, patches);
        if prefix > 0 {
            rows = with_tokens(&mut graph, &rows, prefix, true);
        }
        let count = grid[0] * grid[1];
        let model = write(folder.path(), &mut graph, &[("tokens_out", &rows, &[1, count + prefix, DIM])]);
        assert_eq!(admit(&model, &options_for(patches)), Ok((count, prefix, Some(grid))));
    };
    check(Patches::square(84, 16), 1, [5, 5]);
    check(Patches::square(84, 16), 0, [5, 5]);
    check(Patches::square(100, 16), 1, [6, 6]);
    check(Patches::square(98, 16), 5, [6, 6]);
    check(Patches::square(64, 14), 1, [4, 4]);
    check(Patches { height: 30, width: 22, kernel: 7, stride: 4, pad: 3 }, 1, [8, 6]);
    check(Patches { height: 40, width: 64, kernel: 8, stride: 16, pad: 0 }, 2, [3, 4]);
}

#[test]
fn other_ways_to_cut_an_image_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    // Two convolutions after each other.
    let patches = Patches::square(20, 4);
    let mut graph = OnnxGraph::new("two convolutions");
    let image = image_of(&mut graph, patches);
    let stem = conv(&mut graph, &image, [3, 2, 2], "stem");
    let map = conv(&mut graph, &stem, [DIM, 2, 2], "patch");
    let flat = graph.reshape(&map, &[0, DIM as i64, -1]);
    let rows = graph.transpose(&flat, &[0, 2, 1]);
    let rows = with_tokens(&mut graph, &rows, 1, true);
    let model = write(folder.path(), &mut graph, &[("y", &rows, &[1, 26, DIM])]);
    assert_eq!(admit(&model, &options_for(patches)), Ok((25, 1, Some([5, 5]))));
    // einops' rearrange: cut to whole patches, reshape, transpose, reshape.
    let patches = Patches { height: 84, width: 70, kernel: 16, stride: 16, pad: 0 };
    let mut graph = OnnxGraph::new("rearrange");
    let image = image_of(&mut graph, patches);
    let cut = graph.slice(&image, 2, 0..80);
    let cut = graph.slice(&cut, 3, 0..64);
    let split = graph.reshape(&cut, &[0, 3, 5, 16, 4, 16]);
    let turned = graph.transpose(&split, &[0, 2, 4, 3, 5, 1]);
    let rows = graph.reshape(&turned, &[0, 20, 768]);
    let weight = graph.add_constant("w", &[768, DIM], &noise(5, 768 * DIM));
    let rows = graph.matmul(&rows, &weight);
    let rows = with_tokens(&mut graph, &rows, 1, true);
    let model = write(folder.path(), &mut graph, &[("y", &rows, &[1, 21, DIM])]);
    assert_eq!(admit(&model, &options_for(patches)), Ok((20, 1, Some([5, 4]))));
    // Blocks of pixels moved into the channels.
    let patches = Patches::square(12, 4);
    let mut graph = OnnxGraph::new("space to depth");
    let image = image_of(&mut graph, patches);
    let blocks = graph.add_node("SpaceToDepth", &[&image], vec![OnnxAttribute::Int("blocksize", 4)]);
    let flat = graph.reshape(&blocks, &[0, 48, 9]);
    let rows = graph.transpose(&flat, &[0, 2, 1]);
    let model = write(folder.path(), &mut graph, &[("y", &rows, &[1, 9, 48])]);
    assert_eq!(admit(&model, &options_for(patches)), Ok((9, 0, Some([3, 3]))));
}

#[test]
fn a_grid_that_the_graph_does_not_tell_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Patches::square(16, 4);
    let refused = |model: &Path, wanted: &str| {
        let message = admit(model, &options_for(patches)).unwrap_err();
        assert!(message.contains(wanted) && !message.contains('\n'), "{message}");
    };
    let mut graph = OnnxGraph::new("no patches");
    let image = image_of(&mut graph, patches);
    let flat = graph.reshape(&image, &[0, 32, 24]);
    let model = write(folder.path(), &mut graph, &[("y", &flat, &[1, 32, 24])]);
    refused(&model, "--prefix-tokens N");
    let given = AdmitOptions { num_prefix_tokens: Some(7), ..options_for(patches) };
    assert_eq!(admit(&model, &given), Ok((25, 7, None)));
    // 16 patches of 4 pixels, of which 9 are kept.
    let mut graph = OnnxGraph::new("a part of the patches");
    let rows = rows_of(&mut graph, patches);
    let kept = graph.slice(&rows, 1, 3..12);
    let model = write(folder.path(), &mut graph, &[("y", &kept, &[1, 9, DIM])]);
    refused(&model, "4x4 by Conv `node_");
    // Tokens behind the patches cannot be left out.
    let mut graph = OnnxGraph::new("behind");
    let rows = rows_of(&mut graph, patches);
    let rows = with_tokens(&mut graph, &rows, 2, false);
    let model = write(folder.path(), &mut graph, &[("y", &rows, &[1, 18, DIM])]);
    refused(&model, "tokens behind the patches");
}

#[test]
fn the_layout_of_maps_and_images_is_followed_and_not_guessed_from_sizes() {
    let folder = tempfile::tempdir().unwrap();
    // A map with fewer channels than patches down.
    let patches = Patches::square(32, 4);
    let layout = |model: &Path, options: &AdmitOptions| {
        let cpu = engine(ProviderChoice::Exactly(Provider::Cpu));
        admit_encoder(model, options, &cpu).map(|admitted| admitted.card.interface.unwrap().token_layout)
    };
    let mut graph = OnnxGraph::new("narrow");
    let image = image_of(&mut graph, patches);
    let map = conv(&mut graph, &image, [3, 4, 4], "patch");
    let map = graph.relu(&map);
    let model = write(folder.path(), &mut graph, &[("y", &map, &[1, DIM, 8, 8])]);
    assert_eq!(layout(&model, &options_for(patches)).unwrap(), TokenLayout::ChannelsFirst);
    let mut graph = OnnxGraph::new("channels last");
    let rows = rows_of(&mut graph, patches);
    let map = graph.reshape(&rows, &[0, 8, 8, DIM as i64]);
    let model = write(folder.path(), &mut graph, &[("y", &map, &[1, 8, 8, DIM])]);
    assert_eq!(layout(&model, &options_for(patches)).unwrap(), TokenLayout::ChannelsLast);
    let mut graph = OnnxGraph::new("unknown");
    let image = image_of(&mut graph, patches);
    let map = graph.reshape(&image, &[0, 16, 12, 16]);
    let model = write(folder.path(), &mut graph, &[("y", &map, &[1, 16, 12, 16])]);
    assert!(layout(&model, &options_for(patches)).unwrap_err().to_string().contains("--map channels-first"));
    let given = AdmitOptions { token_layout: Some(TokenLayout::ChannelsLast), ..options_for(patches) };
    assert_eq!(layout(&model, &given).unwrap(), TokenLayout::ChannelsLast);
}

#[test]
fn a_graph_that_draws_at_random_is_refused_when_admitted_and_when_opened() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Patches::square(16, 4);
    let graph_of = |seed: Option<f32>| {
        let mut graph = OnnxGraph::new("noise");
        let mut rows = rows_of(&mut graph, patches);
        if let Some(seed) = seed {
            let attributes = vec![OnnxAttribute::Ints("shape", vec![1, 16, 1]), OnnxAttribute::Float("seed", seed)];
            let noise = graph.add_node("RandomUniform", &[], attributes);
            rows = graph.add(&rows, &noise);
        }
        graph.add_output("y", &rows, &[OnnxDim::Batch, OnnxDim::Fixed(16), OnnxDim::Fixed(DIM)]);
        graph.to_bytes()
    };
    let model = folder.path().join("foreign.onnx");
    write_model(&model, &graph_of(Some(7.0))).unwrap();
    let message = admit(&model, &options_for(patches)).unwrap_err();
    assert!(message.contains("RandomUniform") && message.contains("eval()"), "{message}");
    write_model(&model, &graph_of(None)).unwrap();
    let cpu = engine(ProviderChoice::Exactly(Provider::Cpu));
    let card = admit_encoder(&model, &options_for(patches), &cpu).unwrap().card;
    write_model(&model, &graph_of(Some(7.0))).unwrap();
    ModelCard { sha256: sha256_file(&model).unwrap(), ..card }.save(&model).unwrap();
    let message = open_encoder(&model, &cpu).err().unwrap().to_string();
    assert!(message.contains("RandomUniform"), "{message}");
}

#[test]
fn outputs_that_nobody_serves_are_no_reason_to_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Patches::square(16, 4);
    let mut graph = OnnxGraph::new("side outputs");
    let rows = rows_of(&mut graph, patches);
    let scale = graph.add_constant("temperature", &[], &[2.6]);
    let mean = graph.reduce_mean(&rows, &[2]);
    let zero = graph.add_constant("nought", &[1], &[0.0]);
    let zeros = graph.mul(&mean, &zero);
    let log = graph.add_node("Log", &[&zeros], Vec::new());
    let attributes = vec![OnnxAttribute::Ints("shape", vec![1, 16, DIM as i64])];
    let drawn = graph.add_node("RandomNormal", &[], attributes);
    let positions = graph.add_constant("table", &[1, 16, DIM], &noise(3, 16 * DIM));
    let outputs: [(&str, &OnnxValue, &[usize]); 5] = [
        ("rows", &rows, &[1, 16, DIM]),
        ("logit_scale", &scale, &[]),
        ("log_prior", &log, &[1, 16]),
        ("noise", &drawn, &[1, 16, DIM]),
        ("positions", &positions, &[1, 16, DIM]),
    ];
    let model = write(folder.path(), &mut graph, &outputs);
    let cpu = engine(ProviderChoice::Exactly(Provider::Cpu));
    let admitted = admit_encoder(&model, &options_for(patches), &cpu).unwrap();
    assert_eq!(admitted.card.interface.unwrap().tokens, "rows");
    assert!(
        admitted.notes.iter().any(|note| note.contains("`log_prior`, which is not finite")),
        "{:?}",
        admitted.notes
    );
    let refused = |tokens: &str, wanted: &str| {
        let options = AdmitOptions { tokens: Some(tokens.to_owned()), ..options_for(patches) };
        let message = admit_encoder(&model, &options, &cpu).err().unwrap().to_string();
        assert!(message.contains(wanted), "{message}");
    };
    fs::remove_file(ModelCard::path_of(&model)).unwrap();
    refused("positions", "the same `positions` for two images");
    refused("noise", "RandomNormal");
}

#[test]
fn symbols_of_open_dimensions_inside_a_graph_are_no_reason_to_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Patches::square(16, 4);
    let mut graph = OnnxGraph::new("symbols");
    let rows = rows_of(&mut graph, patches);
    // As PyTorch's exporter notes every inner value.
    graph.add_value_info(&rows, &[OnnxDim::Batch, OnnxDim::Fixed(16), OnnxDim::Fixed(DIM)]);
    let model = write(folder.path(), &mut graph, &[("y", &rows, &[1, 16, DIM])]);
    assert_eq!(admit(&model, &options_for(patches)), Ok((16, 0, Some([4, 4]))));
}

#[test]
fn a_batch_that_is_open_in_name_only_is_refused_for_several_cameras() {
    let folder = tempfile::tempdir().unwrap();
    let patches = Patches::square(16, 4);
    let dims = [OnnxDim::Batch, OnnxDim::Fixed(16), OnnxDim::Fixed(DIM)];
    let mixing = |graph: &mut OnnxGraph, rows: &OnnxValue| {
        let mean = graph.reduce_mean(rows, &[0]);
        let half = graph.add_constant("half", &[], &[0.5]);
        let part = graph.mul(&mean, &half);
        graph.sub(rows, &part)
    };
    let fixed = |graph: &mut OnnxGraph, rows: &OnnxValue| graph.reshape(rows, &[1, 16, DIM as i64]);
    type Way<'a> = &'a dyn Fn(&mut OnnxGraph, &OnnxValue) -> OnnxValue;
    let ways: [(Way<'_>, &str); 2] = [(&fixed, "round_robin"), (&mixing, "mixes the images")];
    for (way, wanted) in ways {
        let mut graph = OnnxGraph::new("pooling head");
        let rows = rows_of(&mut graph, patches);
        let rows = way(&mut graph, &rows);
        graph.add_output("y", &rows, &dims);
        let model = folder.path().join("foreign.onnx");
        write_model(&model, &graph.to_bytes()).unwrap();
        let cpu = engine(ProviderChoice::Exactly(Provider::Cpu));
        let admitted = admit_encoder(&model, &options_for(patches), &cpu).unwrap();
        assert!(admitted.notes.iter().any(|note| note.contains("not with `rates.cameras")), "{:?}", admitted.notes);
        assert!(open_encoder(&model, &cpu).is_ok());
        let two = EngineOptions { num_cameras: 2, ..cpu };
        let message = open_encoder(&model, &two).err().unwrap().to_string();
        assert!(message.contains(wanted) && message.contains("round_robin"), "{message}");
        let in_turn = EngineOptions { camera_order: CameraOrder::RoundRobin, ..two };
        assert!(open_encoder(&model, &in_turn).is_ok());
    }
}

#[test]
fn a_policy_from_elsewhere_is_admitted_for_an_encoder_and_its_joints() {
    let folder = tempfile::tempdir().unwrap();
    let (encoder, policy) = (folder.path().join("encoder.onnx"), folder.path().join("policy.onnx"));
    let encoder_card = write_encoder(&encoder);
    write_policy(&policy, &encoder_card);
    fs::remove_file(ModelCard::path_of(&policy)).unwrap();
    let options = |joints: Vec<String>| PolicyAdmitOptions {
        name: "foreign".to_owned(),
        joints,
        tolerance: None,
        provenance: Default::default(),
    };
    for provider in [Provider::Cpu, Provider::Tract] {
        let engine = engine(ProviderChoice::Exactly(provider));
        let admitted = admit_policy(&policy, &encoder_card, &options(joint_names()), &engine).unwrap();
        assert_eq!(admitted.card.encoder_sha256, Some(encoder_card.sha256.clone()));
        assert!(open_policy(&policy, &encoder_card, &joint_names(), &engine).is_ok());
        fs::remove_file(ModelCard::path_of(&policy)).unwrap();
        let refused = |model: &Path, joints: Vec<String>, wanted: &str| {
            let message = admit_policy(model, &encoder_card, &options(joints), &engine).err().unwrap().to_string();
            assert!(message.contains(wanted) && !ModelCard::path_of(model).exists(), "{message}");
        };
        refused(&policy, vec!["one".to_owned()], "another shape of `joints` than [1, 2]");
        let other = folder.path().join("other.onnx");
        fs::copy(&encoder, &other).unwrap();
        refused(&other, joint_names(), "has the inputs image; a policy takes `tokens`");
    }
}

#[test]
fn a_copy_of_a_model_is_whole_and_replaces_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("encoder.onnx");
    write_encoder(&model);
    let copy = folder.path().join("elsewhere/copy.onnx");
    assert_eq!(copy_model(&model, &copy, false).unwrap(), std::slice::from_ref(&copy));
    assert_eq!(fs::read(&copy).unwrap(), fs::read(&model).unwrap());
    assert!(copy_model(&model, &copy, false).unwrap_err().to_string().contains("--force"));
    assert!(copy_model(&model, &copy, true).is_ok());
    assert!(copy_model(&model, &model, true).unwrap_err().to_string().contains("itself"));
}
