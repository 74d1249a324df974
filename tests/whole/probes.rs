//! `foresee probe` and `foresee export` as researchers run them, on a tiny data set in DAVIS' own folders.

use std::path::Path;
use std::process::Output;

use foresee_tests::{foresee, root};
use serde_json::Value;

fn succeeds(output: &Output) {
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Six frames in which a bright square moves right by four pixels each.
fn write_davis(folder: &Path) {
    let [images, masks, lists] =
        ["JPEGImages/480p/square", "Annotations/480p/square", "ImageSets/2017"].map(|part| folder.join(part));
    for part in [&images, &masks, &lists] {
        std::fs::create_dir_all(part).unwrap();
    }
    std::fs::write(lists.join("val.txt"), "square\n").unwrap();
    for frame_idx in 0..6_u32 {
        let is_inside = |x: u32, y: u32| (8 + 4 * frame_idx..40 + 4 * frame_idx).contains(&x) && (16..48).contains(&y);
        let image = image::RgbImage::from_fn(128, 64, |x, y| match is_inside(x, y) {
            true => image::Rgb([230, 200, (6 * (x - 4 * frame_idx)) as u8]),
            false => image::Rgb([20, (x + y) as u8 / 4, 60]),
        });
        image.save(images.join(format!("{frame_idx:05}.png"))).unwrap();
        let mask = image::GrayImage::from_fn(128, 64, |x, y| image::Luma([u8::from(is_inside(x, y))]));
        mask.save(masks.join(format!("{frame_idx:05}.png"))).unwrap();
    }
}

#[test]
fn a_data_set_in_its_own_folders_is_probed_beside_the_baselines() {
    let folder = tempfile::tempdir().unwrap();
    write_davis(&folder.path().join("davis"));
    let zoo = root().join("models/zoo/mae-64.onnx");
    let mut command = foresee(folder.path());
    command.args(["probe", "davis", "davis", "--size", "64", "--out", "run", "--json", "--encoder"]).arg(&zoo);
    let output = command.output().unwrap();
    succeeds(&output);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<&str> =
        result["encoders"].as_array().unwrap().iter().map(|encoder| encoder["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["raw pixels", "random encoder", "mae-64"]);
    assert!(result["interval"].as_str().unwrap().contains("1000 resamples of the videos, seed 0"), "{result}");
    for encoder in result["encoders"].as_array().unwrap() {
        let j = encoder["scores"]["J"]["mean"].as_f64().unwrap();
        assert!((20.0..=100.0).contains(&j), "{encoder}");
    }
    for file in ["result.json", "report.html", "labels-0.png", "commands.json"] {
        assert!(std::fs::metadata(folder.path().join("run").join(file)).unwrap().len() > 50, "{file}");
    }
}

#[test]
fn an_encoder_is_exported_in_each_precision_and_served() {
    for (precision, least_cosine) in [("f16", 0.999), ("int8", 0.98)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = foresee(folder.path());
        command.args(["export", "encoder"]).arg(root().join("models/zoo/mae-64.onnx"));
        command.args(["--out", "small.onnx", "--json", "--precision", precision]);
        let output = command.output().unwrap();
        succeeds(&output);
        let card: Value = serde_json::from_slice(&output.stdout).unwrap();
        let engines = card["provenance"]["results"]["engines"].as_array().unwrap();
        assert_eq!((engines.len(), &card["provenance"]["results"]["precision"]), (2, &Value::from(precision)));
        for engine in engines {
            let cosine = engine["cosine_tokens"].as_f64().unwrap();
            assert!(cosine > least_cosine, "{precision}: {engine}");
        }
    }
}
