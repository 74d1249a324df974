//! Encoders from elsewhere: what is found in them, and that what is served is what they compute.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::*;
use super::{engine, noise, write_encoder};
use crate::card::{ClassToken, ImageLayout, PreprocessingCard, Provenance, Resize, TokenLayout};
use crate::encoder::{EncoderInput, Features};
use crate::files::sha256_file;
use crate::onnx::{OnnxDim, OnnxGraph, OnnxValue, write_model};

const SIDE: usize = 8;
const PATCH: usize = 4;
const DIM: usize = 6;

pub(super) fn options(side: usize) -> AdmitOptions {
    let preprocessing = PreprocessingCard {
        width: side,
        height: side,
        resize: Resize::BicubicAntialias,
        crop: None,
        mean: [0.5; 3],
        std: [0.25; 3],
        hash: String::new(),
    };
    AdmitOptions {
        name: "foreign".to_owned(),
        preprocessing: preprocessing.with_hash(),
        layout: None,
        tokens: None,
        token_layout: None,
        num_prefix_tokens: None,
        cls: ClassTokenChoice::Found,
        tolerance: None,
        provenance: Provenance::default(),
    }
}

/// What the patches of a graph of 2 x 2 patches are given out as.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// `feats [B, 1 + 4, D]`: a row of ones first.
    RowsWithClass,
    /// `feats [B, 4, D]` and `pooled [B, D]`, and a third that nobody asked for.
    RowsAndPooled,
    /// `feats [B, D, 2, 2]`.
    Map,
    /// `feats [B, D]`.
    Pooled,
}

/// An encoder of one convolution, as another exporter might name and shape it.
fn write_foreign(folder: &Path, layout: ImageLayout, shape: Shape) -> PathBuf {
    let mut graph = OnnxGraph::new("foreign");
    let side = OnnxDim::Fixed(SIDE);
    let three = OnnxDim::Fixed(3);
    let image = match layout {
        ImageLayout::Nchw => graph.add_input("pixel_values", &[OnnxDim::Batch, three, side, side]),
        ImageLayout::Nhwc => {
            let image = graph.add_input("pixel_values", &[OnnxDim::Batch, side, side, three]);
            graph.transpose(&image, &[0, 3, 1, 2])
        }
    };
    let weight = graph.add_constant("w", &[DIM, 3, PATCH, PATCH], &noise(5, DIM * 3 * PATCH * PATCH));
    let bias = graph.add_constant("b", &[DIM], &noise(6, DIM));
    let filter = crate::onnx::OnnxFilter { weight, bias, kernel: PATCH, stride: PATCH };
    let map = graph.conv(&image, &filter);
    let flat = graph.reshape(&map, &[0, DIM as i64, 4]);
    let rows = graph.transpose(&flat, &[0, 2, 1]);
    let dim = OnnxDim::Fixed(DIM);
    let mut output = |name: &str, value: &OnnxValue, shape: &[OnnxDim]| graph.add_output(name, value, shape);
    match shape {
        Shape::RowsWithClass => {
            let padded = graph.pad_zeros(&rows, &[0, 1, 0, 0, 0, 0]);
            let one = graph.add_constant("one", &[1], &[1.0]);
            let shifted = graph.add(&padded, &one);
            graph.add_output("feats", &shifted, &[OnnxDim::Batch, OnnxDim::Fixed(5), dim]);
        }
        Shape::RowsAndPooled => {
            output("feats", &rows, &[OnnxDim::Batch, OnnxDim::Fixed(4), dim]);
            let pooled = graph.reduce_mean(&rows, &[1]);
            graph.add_output("pooled", &pooled, &[OnnxDim::Batch, dim]);
            graph.add_output("other", &map, &[OnnxDim::Batch, dim, OnnxDim::Fixed(2), OnnxDim::Fixed(2)]);
        }
        Shape::Map => output("feats", &map, &[OnnxDim::Batch, dim, OnnxDim::Fixed(2), OnnxDim::Fixed(2)]),
        Shape::Pooled => {
            let pooled = graph.reduce_mean(&rows, &[1]);
            graph.add_output("feats", &pooled, &[OnnxDim::Batch, dim]);
        }
    }
    let path = folder.join("foreign.onnx");
    write_model(&path, &graph.to_bytes()).unwrap();
    path
}

/// `[4, D]`: the convolution by its definition.
fn patches(input: &EncoderInput) -> Vec<f32> {
    let (weight, bias) = (noise(5, DIM * 3 * PATCH * PATCH), noise(6, DIM));
    let mut values = Vec::new();
    for patch in 0..4 {
        for out in 0..DIM {
            let mut sum = bias[out];
            for channel in 0..3 {
                for y in 0..PATCH {
                    for x in 0..PATCH {
                        let pixel = (channel * SIDE + patch / 2 * PATCH + y) * SIDE + patch % 2 * PATCH + x;
                        sum += weight[((out * 3 + channel) * PATCH + y) * PATCH + x] * input.data[pixel];
                    }
                }
            }
            values.push(sum);
        }
    }
    values
}

fn close(values: &[f32], expected: &[f32]) {
    assert_eq!(values.len(), expected.len());
    values.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} is not {b}"));
}

fn check(layout: ImageLayout, shape: Shape) {
    let folder = tempfile::tempdir().unwrap();
    let model = write_foreign(folder.path(), layout, shape);
    for provider in [Provider::Cpu, Provider::Tract] {
        let engine = engine(ProviderChoice::Exactly(provider));
        let admitted = admit_encoder(&model, &options(SIDE), &engine).unwrap();
        let interface = admitted.card.interface.clone().unwrap();
        assert_eq!((interface.image.as_str(), interface.layout), ("pixel_values", layout));
        assert_eq!(admitted.report.provider, provider);
        let mut encoder = open_encoder(&model, &engine).unwrap();
        let input = EncoderInput { height: SIDE, width: SIDE, data: noise(9, 3 * SIDE * SIDE) };
        let mut features = Features::zeros(0, 0);
        encoder.encode(&input, &mut features).unwrap();
        let rows = patches(&input);
        let mean: Vec<f32> = (0..DIM).map(|d| rows.iter().skip(d).step_by(DIM).sum::<f32>() / 4.0).collect();
        let (token_layout, cls, tokens) = match shape {
            Shape::RowsWithClass => (TokenLayout::Rows, vec![1.0; DIM], rows.iter().map(|value| value + 1.0).collect()),
            Shape::RowsAndPooled => (TokenLayout::Rows, mean, rows),
            Shape::Map => (TokenLayout::ChannelsFirst, mean, rows),
            Shape::Pooled => (TokenLayout::Pooled, mean.clone(), mean),
        };
        assert_eq!(interface.token_layout, token_layout);
        close(&features.tokens, &tokens);
        close(&features.cls, &cls);
    }
}

#[test]
fn image_and_features_are_found_however_they_are_named_and_shaped() {
    for layout in [ImageLayout::Nchw, ImageLayout::Nhwc] {
        for shape in [Shape::RowsWithClass, Shape::RowsAndPooled, Shape::Map, Shape::Pooled] {
            check(layout, shape);
        }
    }
}

/// As PyTorch exported it: `image [1, 3, 32, 32]` -> `tokens [1, 17, 48]`, the class token first.
#[test]
fn files_of_other_exporters_are_served() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/onnx");
    let folder = tempfile::tempdir().unwrap();
    let admit = |name: &str| {
        let model = folder.path().join(name);
        fs::copy(fixtures.join(name), &model).unwrap();
        let engine = engine(ProviderChoice::Exactly(Provider::Cpu));
        let admitted = admit_encoder(&model, &options(32), &engine).unwrap();
        (admitted, open_encoder(&model, &engine).unwrap())
    };
    let (admitted, encoder) = admit("foreign_tokens.onnx");
    assert_eq!(admitted.card.feature_shape().unwrap(), (16, 48));
    assert_eq!(admitted.card.interface.unwrap().cls, ClassToken::Row(0));
    assert_eq!(encoder.report().precision, "f32");
    let num_nodes: usize = encoder.report().nodes.values().sum();
    assert!(encoder.report().nodes.contains_key("CPUExecutionProvider") && num_nodes > 5, "{:?}", encoder.report());
    let (admitted, mut encoder) = admit("foreign_f16.onnx");
    assert_eq!((admitted.card.inputs[0].element, encoder.report().precision.as_str()), (ElementType::F16, "f16"));
    let mut features = Features::zeros(0, 0);
    encoder.encode(&EncoderInput { height: 32, width: 32, data: noise(3, 3 * 32 * 32) }, &mut features).unwrap();
    assert!(features.tokens.iter().all(|value| value.is_finite()) && features.tokens.iter().any(|value| *value != 0.0));
}

#[test]
fn what_is_no_encoder_is_refused_with_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let cpu = engine(ProviderChoice::Exactly(Provider::Cpu));
    let refusal = |model: &Path, options: &AdmitOptions| {
        let message = admit_encoder(model, options, &cpu).unwrap_err().to_string();
        assert!(!message.contains('\n') && !ModelCard::path_of(model).exists(), "{message}");
        message
    };
    let model = write_foreign(folder.path(), ImageLayout::Nchw, Shape::RowsWithClass);
    assert!(refusal(&model, &options(16)).contains("--image"));
    let unknown = AdmitOptions { tokens: Some("nothing".to_owned()), ..options(SIDE) };
    assert!(refusal(&model, &unknown).contains("`feats` [1, 5, 6]"));
    let unknown = AdmitOptions { cls: ClassTokenChoice::Output("nothing".to_owned()), ..options(SIDE) };
    assert!(refusal(&model, &unknown).contains("no output `nothing`"));
    let nhwc = AdmitOptions { layout: Some(ImageLayout::Nhwc), ..options(SIDE) };
    assert!(refusal(&model, &nhwc).contains("is no image of 3 channels as NHWC"));
    fs::write(&model, b"PK not onnx").unwrap();
    assert!(refusal(&model, &options(SIDE)).contains("not an ONNX file"));
    let mut graph = OnnxGraph::new("two inputs");
    let [a, b] = ["a", "b"].map(|name| graph.add_input(name, &[OnnxDim::Batch, OnnxDim::Fixed(4)]));
    let sum = graph.add(&a, &b);
    graph.add_output("sum", &sum, &[OnnxDim::Batch, OnnxDim::Fixed(4)]);
    write_model(&model, &graph.to_bytes()).unwrap();
    assert!(refusal(&model, &options(SIDE)).contains("has 2 inputs (`a`, `b`)"));
    let mut graph = OnnxGraph::new("an operator that nobody has");
    let side = OnnxDim::Fixed(SIDE);
    let image = graph.add_input("image", &[OnnxDim::Batch, OnnxDim::Fixed(3), side, side]);
    let odd = graph.add_node("FlyToTheMoon", &[&image], Vec::new());
    graph.add_output("tokens", &odd, &[OnnxDim::Batch, OnnxDim::Fixed(3), side, side]);
    write_model(&model, &graph.to_bytes()).unwrap();
    for provider in [Provider::Cpu, Provider::Tract] {
        let message = admit_encoder(&model, &options(SIDE), &engine(ProviderChoice::Exactly(provider))).unwrap_err();
        assert!(message.to_string().contains("FlyToTheMoon"), "{message}");
        assert!(message.to_string().contains("lacks this operator"), "{message}");
    }
}

#[test]
fn an_operator_set_that_is_newer_than_the_engine_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("tiny.onnx");
    let card = write_encoder(&model);
    let bytes = fs::read(&model).unwrap();
    // The operator set 17 of the default domain, as the file holds it.
    let at = bytes.windows(4).rposition(|window| window == [0x42, 2, 0x10, 17]).unwrap();
    let write = |version: u8| {
        let newer = [&bytes[..at], &[0x42, 2, 0x10, version], &bytes[at + 4..]].concat();
        write_model(&model, &newer).unwrap();
        ModelCard { sha256: sha256_file(&model).unwrap(), ..card.clone() }.save(&model).unwrap();
    };
    for provider in [Provider::Cpu, Provider::Tract] {
        let engine = engine(ProviderChoice::Exactly(provider));
        write(23);
        assert!(open_encoder(&model, &engine).is_ok(), "{provider:?}");
        write(99);
        let refused = [
            open_encoder(&model, &engine).map(drop).unwrap_err(),
            admit_encoder(&model, &options(super::SIDE), &engine).map(drop).unwrap_err(),
        ];
        for message in refused.map(|error| error.to_string()) {
            assert!(message.contains("export it for opset 17") && message.contains("99"), "{message}");
        }
    }
}
