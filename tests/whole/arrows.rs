//! The arrows between the crates: who may depend on whom.

use std::collections::BTreeSet;

use foresee_tests::root;

/// (folder, what it may depend on). `tests` may see everything.
const ARROWS: [(&str, &[&str]); 6] = [
    ("firmware-config", &[]),
    ("runtime", &["firmware-config"]),
    ("models", &["firmware-config", "runtime"]),
    ("sim", &["firmware-config", "runtime"]),
    ("policies", &["firmware-config", "runtime", "sim"]),
    ("launch", &["firmware-config", "runtime", "models", "sim", "policies"]),
];

fn dependencies(folder: &str) -> BTreeSet<String> {
    let path = root().join(folder).join("Cargo.toml");
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        if let Some(table) = manifest.get(section).and_then(toml::Value::as_table) {
            names.extend(table.keys().filter_map(|name| name.strip_prefix("foresee-")).map(str::to_owned));
        }
    }
    names
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let mut num_arrows = 0;
    for (folder, allowed) in ARROWS {
        for name in dependencies(folder) {
            assert!(allowed.contains(&name.as_str()), "{folder} must not depend on {name}; allowed: {allowed:?}");
            num_arrows += 1;
        }
    }
    assert!(num_arrows >= 8, "the manifests were not read: {num_arrows} arrows");
}

#[test]
fn the_robot_build_links_neither_simulator_nor_trainer() {
    let output = std::process::Command::new("cargo")
        .args(["tree", "--locked", "--offline", "-p", "foresee", "--no-default-features", "--features", "robot"])
        .args(["-e", "normal", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(tree.contains("zenoh v") && tree.contains("tract-onnx v"), "not the robot's tree: {tree}");
    for absent in ["mujoco-rs v", "burn v", "foresee-sim v", "foresee-models v", "foresee-policies v"] {
        assert!(!tree.contains(absent), "the robot build links {absent}");
    }
}
