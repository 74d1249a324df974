//! Against golden vectors that the methods' official code computed.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;

use foresee_models::verify_golden;

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
        &["mae_tiny/forward", "mae_tiny/gradient/", "mae_tiny/step3/", "rsp_tiny/loss.kl_value.2", "rsp_tiny/step1/"],
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
