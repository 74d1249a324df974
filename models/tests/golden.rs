//! Against golden vectors that the methods' official code computed.

#![expect(clippy::expect_used, reason = "helpers of tests may panic as tests do")]

use std::path::Path;

use foresee_models::verify_golden;

fn check(folder: &str, wanted: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(folder);
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
