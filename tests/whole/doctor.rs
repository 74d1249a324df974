//! `foresee doctor` on a machine where the tests run: everything that the demo needs works.

use foresee_tests::foresee;
use serde_json::Value;

#[test]
fn the_doctor_finds_what_the_demo_needs() {
    let folder = tempfile::tempdir().unwrap();
    let output = foresee(folder.path()).args(["doctor", "--json"]).output().unwrap();
    let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
    let state = |name: &str| {
        let mut found = findings.as_array().unwrap().iter().filter(|finding| finding["name"] == name);
        found.next().map(|finding| finding["state"].as_str().unwrap().to_owned())
    };
    let parts = ["MuJoCo", "task assets", "rendering", "provider cpu", "provider tract", "--provider auto", "zenoh"];
    for name in parts {
        assert_eq!(state(name).as_deref(), Some("works"), "{name}: {findings:#}");
    }
    for name in ["provider tensorrt", "provider cuda", "OpenCV", "TensorRT", "CUDA driver"] {
        assert!(state(name).is_some(), "{name}: {findings:#}");
    }
    for finding in findings.as_array().unwrap() {
        assert_eq!(finding["state"] != "works", finding["fix"].is_string(), "a lack comes with its mend: {finding}");
    }
    assert!(output.status.success());
}

#[test]
fn without_its_library_onnxruntime_lacks_and_auto_takes_tract() {
    let folder = tempfile::tempdir().unwrap();
    let doctor =
        foresee(folder.path()).args(["doctor", "--json"]).env("ORT_DYLIB_PATH", "nowhere.so").output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    let findings: Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let auto = findings.as_array().unwrap().iter().find(|finding| finding["name"] == "--provider auto").unwrap();
    assert!(auto["detail"].as_str().unwrap().contains("takes tract"), "{auto}");
}

#[test]
fn every_shipped_profile_has_an_opinion() {
    let folder = tempfile::tempdir().unwrap();
    for (profile, taken) in [("desktop-cpu", "takes cpu"), ("raspberry-pi-5", "takes cpu"), ("jetson-thor", "takes ")] {
        let output = foresee(folder.path()).args(["doctor", "--json", "--profile", profile]).output().unwrap();
        let findings: Value = serde_json::from_slice(&output.stdout).unwrap();
        let find = |name: &str| findings.as_array().unwrap().iter().find(|finding| finding["name"] == name).unwrap();
        assert!(find("--provider auto")["detail"].as_str().unwrap().contains(taken), "{findings:#}");
        let fits = find("profile");
        assert_eq!(fits["state"] == "works", fits["fix"].is_null(), "{fits}");
        // No test machine is a Jetson Thor.
        assert!(profile != "jetson-thor" || fits["state"] == "lacks", "{fits}");
    }
}
