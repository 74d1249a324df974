//! Stamps the git revision and zenoh's version into the binary; with the feature `tch`, links it with PyTorch's libraries for CUDA.

use std::process::Command;

fn main() {
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).map_or_else(
        || "unknown".to_owned(),
        |revision| {
            let is_clean =
                git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| changes.is_empty());
            if is_clean { revision } else { format!("{revision}-dirty") }
        },
    );
    println!("cargo::rustc-env=FORESEE_GIT_REVISION={revision}");
    println!("cargo::rustc-env=FORESEE_ZENOH_VERSION={}", locked_version("zenoh"));
    if std::env::var_os("CARGO_FEATURE_TCH").is_some() {
        // CUDA's own libraries are where the program runs. Nothing names a symbol of libtorch_cuda: it must be kept all the same.
        println!("cargo::rustc-link-arg-bins=-Wl,--allow-shlib-undefined");
        println!("cargo::rustc-link-arg-bins=-Wl,--push-state,--no-as-needed,-ltorch_cuda,--pop-state");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../Cargo.lock");
    // The reflog grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn locked_version(package: &str) -> String {
    let lock = std::fs::read_to_string("../Cargo.lock").unwrap_or_default();
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("unknown").trim_matches('"').to_owned()
}
