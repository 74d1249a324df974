//! A machine without GL: cameras say what is missing, and tasks without images run as ever.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "these helpers run in tests alone")]

use std::path::Path;
use std::process::Command;

use foresee_sim::{Camera, CameraOptions, Environment, Quality};

/// Set in the child, where EGL finds no driver.
const CHILD: &str = "FORESEE_TEST_WITHOUT_GL";

#[test]
fn state_tasks_run_and_cameras_name_the_packages() {
    if std::env::var_os(CHILD).is_some() {
        return in_the_child();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["state_tasks_run_and_cameras_name_the_packages", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .env("__EGL_VENDOR_LIBRARY_DIRS", "/nonexistent")
        .env_remove("__EGL_VENDOR_LIBRARY_FILENAMES")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("no image, but 20 steps"), "{said}");
}

fn in_the_child() {
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    let mut environment = Environment::new("dmc/walker-walk", &native).unwrap();
    environment.reset(0).unwrap();
    let options = CameraOptions { name: "side".to_owned(), width: 16, height: 16, quality: Quality::Fast };
    let error = Camera::new(&environment, &options).unwrap_err().to_string();
    assert!(error.starts_with("headless rendering: EGL gives no context"), "{error}");
    assert!(error.contains("install libegl1, libegl-mesa0 and libgl1-mesa-dri, or run without images"), "{error}");
    for _ in 0..20 {
        environment.step(&[0.1; 6]).unwrap();
    }
    println!("no image, but {} steps: {error}", environment.num_steps());
}
