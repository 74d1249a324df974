//! Against golden vectors that the methods' official code computed.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;

use foresee_models::{GoldenReport, verify_golden};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

fn check(folder: &str, wanted: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(folder);
    let report = verify_golden(&folder).expect("reads");
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.passed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    for name in wanted {
        assert!(report.checks.iter().any(|check| check.name.starts_with(name)), "no check {name}");
    }
}

#[test]
fn mae_and_rsp_are_exact() {
    check(
        "golden",
        &[
            "mae_tiny/forward",
            "mae_tiny/gradient/",
            "mae_tiny/step3/f64/",
            "rsp_tiny/loss.kl_value.2",
            "rsp_tiny/step1/f64/",
        ],
    );
}

#[test]
fn schedules_tables_propagation_and_scores_are_exact() {
    let units =
        ["schedule/", "sincos/", "position_interpolation/", "adamw/", "kl/above", "st.z", "ln.grad_x", "gelu.y"];
    let labels =
        ["label_propagation/lp.soft", "label_propagation/vw.preds", "davis/J", "davis/F", "vip/miou", "jhmdb/pck"];
    let units = units.map(|name| format!("units_tiny/{name}"));
    let labels = labels.map(|name| format!("labelprop_tiny/{name}"));
    let wanted: Vec<&str> = units.iter().chain(&labels).map(String::as_str).collect();
    check("golden", &wanted);
}

#[test]
fn the_other_methods_are_exact() {
    check("golden-wave1", &["cropmae_tiny/", "siammae_tiny/", "tobo_tiny/", "croco_tiny/", "croco_rope_tiny/"]);
    // Another seed, with the decoder's official hidden width.
    check("golden-wave1", &["cropmae_ff2048_tiny/gradient/", "cropmae_ff2048_tiny/gradient_norm/"]);
}

#[test]
fn activations_inside_the_network_are_exact() {
    let acts = ["mae_tiny/forward/act.enc.mae.block0.mlp_gelu", "mae_tiny/forward/act.dec.mae.block1.out"];
    let more = ["rsp_tiny/forward/act.dec.prior.block0.cattn", "rsp_tiny/forward/act.dec.post.kv_in"];
    check("golden", &[acts, more].concat());
    let acts = ["tobo_tiny/forward/act.sm.query_in", "tobo_tiny/forward/act.decoder_norm"];
    let more = ["cropmae_tiny/forward/act.dec.block0.ffn", "croco_tiny/forward/act.decoder_pred"];
    check("golden-wave1", &[acts, more].concat());
}

/// A golden file of the fixtures with other metadata, verified alone.
fn verify_changed(file: &str, facts: &[(&str, &str)]) -> GoldenReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(file);
    let changed = with_metadata(&std::fs::read(&path).expect("the file"), facts);
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(path.file_name().expect("a name")), changed).expect("written");
    verify_golden(folder.path()).expect("reads")
}

fn with_metadata(bytes: &[u8], facts: &[(&str, &str)]) -> Vec<u8> {
    let (_, header) = SafeTensors::read_metadata(bytes).expect("whole");
    let mut metadata = header.metadata().clone().expect("metadata");
    metadata.extend(facts.iter().map(|(key, value)| ((*key).to_string(), (*value).to_string())));
    let tensors = SafeTensors::deserialize(bytes).expect("whole");
    safetensors::serialize(tensors.tensors(), Some(metadata)).expect("serialises")
}

#[test]
fn what_the_metadata_says_is_done_or_refused_by_name() {
    let mae = "golden/mae_tiny.safetensors";
    for same in [("mlp_ratio", "4.0"), ("norm_pix_loss", "True"), ("ln_eps", "1e-6"), ("betas", "[0.9, 0.95]")] {
        assert!(verify_changed(mae, &[same]).passed(), "{same:?}");
    }
    let refused = |file: &str, facts: &[(&str, &str)], wanted: &str| {
        let report = verify_changed(file, facts);
        let problems: Vec<&String> = report.checks.iter().filter_map(|check| check.problem.as_ref()).collect();
        assert!(problems.iter().any(|problem| problem.contains(wanted)), "{facts:?}: {problems:?}");
    };
    refused(mae, &[("ln_eps", "1e-05")], "ln_eps = 1e-05");
    refused(mae, &[("mlp_ratio", "-1")], "mlp_ratio = -1");
    refused(mae, &[("betas", "0.9")], "betas = 0.9");
    refused(mae, &[("norm_pix_loss", "maybe")], "norm_pix_loss = maybe");
    refused(mae, &[("dropout", "0.1 (official 0.1)")], "dropout = 0.1");
    let [tobo, croco] = ["golden-wave1/tobo_tiny.safetensors", "golden-wave1/croco_tiny.safetensors"];
    refused(tobo, &[("tobo_path", "csm")], "tobo_path = csm");
    refused(tobo, &[("tgt_path", "scm")], "tgt_path = scm");
    refused(croco, &[("norm_im2_in_dec", "False")], "norm_im2_in_dec = False");
    // Without the normalisation the same weights have another loss, and the same prediction.
    let report = verify_changed(mae, &[("norm_pix_loss", "False")]);
    let passed = |name: &str| report.checks.iter().find(|check| check.name == name).map(|check| check.passed);
    assert_eq!(passed("mae_tiny/loss.loss.0"), Some(false));
    assert_eq!(passed("mae_tiny/forward/out.pred"), Some(true));
}

#[test]
fn plain_pixels_and_other_moments_are_honoured() {
    let report = verify_golden(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden")).expect("reads");
    let plain = report.checks.iter().find(|check| check.name == "mae_tiny/forward/unit.loss_no_norm_pix");
    assert!(plain.is_some_and(|check| check.passed), "{plain:?}");
    let other = verify_with_steps(&[("betas", "(0.5, 0.95)")]);
    let failed =
        |report: &GoldenReport| report.checks.iter().any(|check| !check.passed && check.name.contains("step3"));
    assert!(failed(&other) && !failed(&verify_with_steps(&[])));
}

/// MAE's file with other metadata, and the weights after its steps.
fn verify_with_steps(facts: &[(&str, &str)]) -> GoldenReport {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden");
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = std::fs::read(fixtures.join("mae_tiny.safetensors")).expect("the file");
    let changed = with_metadata(&bytes, facts);
    std::fs::write(folder.path().join("mae_tiny.safetensors"), changed).expect("written");
    let steps = "mae_tiny_steps_f64.safetensors";
    std::fs::copy(fixtures.join(steps), folder.path().join(steps)).expect("copied");
    verify_golden(folder.path()).expect("reads")
}

#[test]
fn a_folder_without_golden_files_says_what_they_are_called() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = verify_golden(folder.path()).expect_err("nothing there").to_string();
    assert!(error.contains("<kind>_<set>.safetensors"), "{error}");
}

#[test]
fn a_broken_file_is_a_failed_check_and_the_others_are_compared() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(fixtures.join("units_tiny.safetensors"), folder.path().join("units_x.safetensors")).expect("copied");
    let bytes = std::fs::read(fixtures.join("mae_tiny.safetensors")).expect("the file");
    std::fs::write(folder.path().join("mae_x.safetensors"), &bytes[..bytes.len() / 2]).expect("written");
    let report = verify_golden(folder.path()).expect("reads");
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.passed).collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert_eq!(failed[0].name, "mae_x/readable");
    assert!(failed[0].problem.as_ref().is_some_and(|problem| problem.contains("mae_x.safetensors")), "{failed:#?}");
    assert!(report.checks.iter().any(|check| check.name.starts_with("units_x/kl") && check.passed));
}

/// A golden file of these tensors: name, shape, values.
fn write_golden(file: &Path, tensors: &[(&str, &[usize], Vec<f32>)]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).expect("a view");
        ((*name).to_string(), view)
    });
    std::fs::write(file, safetensors::serialize(views, None).expect("serialises")).expect("written");
}

#[test]
fn sizes_that_no_memory_holds_are_failed_checks() {
    let ones = |count: usize| vec![1.0; count];
    let params = |params: [f32; 9]| params.to_vec();
    let square = |changed: [f32; 9]| {
        vec![
            ("lp.feats", [32].as_slice(), ones(32)),
            ("lp.first_seg", [8].as_slice(), ones(8)),
            ("lp.soft", [8].as_slice(), ones(8)),
            ("lp.hard", [4].as_slice(), ones(4)),
            ("lp.temperature", [1].as_slice(), ones(1)),
            ("lp.params", [9].as_slice(), params(changed)),
        ]
    };
    let disc = |changed: [f32; 8]| {
        vec![
            ("vw.feats", [32].as_slice(), ones(32)),
            ("vw.labels", [8].as_slice(), ones(8)),
            ("vw.preds", [8].as_slice(), ones(8)),
            ("vw.weights", [8].as_slice(), ones(8)),
            ("vw.temperature", [1].as_slice(), ones(1)),
            ("vw.params", [8].as_slice(), changed.to_vec()),
        ]
    };
    let cases = [
        ("units_a", vec![("sincos.mae.g1000000000.d8", [1].as_slice(), ones(1))], "names a table"),
        ("units_b", vec![("sincos.mae.g2.d0", [1].as_slice(), ones(1))], "names a table"),
        (
            "units_c",
            vec![
                ("interp.dino_900000000x900000000", [1, 4].as_slice(), ones(4)),
                ("interp.in_1x1", [1, 2, 4].as_slice(), ones(8)),
            ],
            "not 1 + 900000000 * 900000000 rows",
        ),
        (
            "units_d",
            vec![
                ("ln.x", [2, 4].as_slice(), ones(8)),
                ("ln.weight", [3].as_slice(), ones(3)),
                ("ln.bias", [4].as_slice(), ones(4)),
            ],
            "ln.weight is [3]",
        ),
        ("labelprop_a", square([2.0, 2.0, 2.0, 4.0, 2.0, 3.0, 1.0, 1.0, 1e9]), "lp.params"),
        ("labelprop_b", square([2.0, 2.0, 2.0, 4.0, 1e12, 3.0, 1.0, 1.0, 1.0]), "lp.params"),
        ("labelprop_c", disc([2.0, 2.0, 2.0, 4.0, 2.0, 1e15, 3.0, 1.0]), "vw.params"),
        ("labelprop_d", disc([2.0, 2.0, 2.0, 4.0, 2.0, 1.0, 1e15, 1.0]), "vw.params"),
    ];
    for (stem, tensors, wanted) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        write_golden(&folder.path().join(format!("{stem}.safetensors")), &tensors);
        let report = verify_golden(folder.path()).expect("reads");
        let told = |problem: &String| problem.contains(wanted);
        assert!(report.checks.iter().any(|check| !check.passed && check.problem.as_ref().is_some_and(told)), "{stem}");
    }
}

#[test]
fn what_is_not_compared_is_listed_and_a_set_without_its_main_file_fails() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden");
    let folder = tempfile::tempdir().expect("a folder");
    let copy = |from: &str, to: &str| {
        std::fs::copy(fixtures.join(from), folder.path().join(to)).expect("copied");
    };
    copy("mae_tiny.safetensors", "mae_a.safetensors");
    copy("mae_tiny_acts.safetensors", "mae_a_acts.safetensors");
    copy("mae_tiny_steps_f64.safetensors", "mae_a_steps_f32.safetensors");
    copy("mae_tiny_steps_f64.safetensors", "mae_b_steps_f64.safetensors");
    copy("mae_tiny_acts.safetensors", "foo_tiny.safetensors");
    for name in ["mae_a_info.json", "mae_b_tolerances.json", "mae_a.pth", "README.md"] {
        std::fs::write(folder.path().join(name), "text").expect("written");
    }
    let report = verify_golden(folder.path()).expect("reads");
    let failed: Vec<_> = report.checks.iter().filter(|check| !check.passed).collect();
    assert_eq!(failed.iter().map(|check| check.name.as_str()).collect::<Vec<_>>(), ["mae_b/readable"], "{failed:#?}");
    for name in ["mae_a/step3/f32/weights", "mae_a/loss.loss.0/f32"] {
        assert!(report.checks.iter().any(|check| check.name == name), "no check {name}");
    }
    let files: Vec<&str> = report.not_compared.iter().map(|left| left.file.as_str()).collect();
    let wanted = [
        ("README.md", "no .safetensors"),
        ("foo_tiny.safetensors", "no kind"),
        ("mae_a.pth", "foresee import"),
        ("mae_a.safetensors", "draw.ids_restore (3 tensors), draw.ids_shuffle (3 tensors)"),
        ("mae_a_acts.safetensors", "nothing is compared with its"),
        ("mae_a_info.json", "a note"),
        ("mae_b_steps_f64.safetensors", "goes with mae_b.safetensors, which is not there"),
        ("mae_b_tolerances.json", "goes with mae_b.safetensors, which is not there"),
    ];
    assert_eq!(files, wanted.map(|(file, _)| file));
    for (left, (file, reason)) in report.not_compared.iter().zip(wanted) {
        assert!(left.reason.contains(reason), "{file}: {}", left.reason);
    }
}
