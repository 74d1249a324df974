//! `launch/install` puts a tree that runs by itself, wherever it is moved to.

use std::path::Path;
use std::process::{Command, Output};

use foresee_tests::{binary, free_endpoint, root};

/// Installs the built binary; nothing is built.
fn install(arguments: &[&str]) -> Output {
    Command::new(root().join("launch/install"))
        .args(["--binary".as_ref(), binary().as_os_str()])
        .args(arguments)
        .output()
        .unwrap()
}

/// The installed `foresee`, in a folder of its own and without what a checkout sets.
fn installed(prefix: &Path, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(prefix.join("bin/foresee"));
    for name in ["FORESEE_NATIVE", "FORESEE_ZOO", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH", "MUJOCO_DYNAMIC_LINK_DIR"] {
        command.env_remove(name);
    }
    command.current_dir(folder).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_installed_tree_runs_where_it_is_moved_to() {
    let folder = tempfile::tempdir().unwrap();
    let (first, prefix) = (folder.path().join("first"), folder.path().join("moved here"));
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    for _ in 0..2 {
        let output = install(&["--prefix", &first.display().to_string()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let unit = std::fs::read_to_string(first.join("share/foresee/foresee.service")).unwrap();
    let expected = format!("ExecStart={}/bin/foresee run --profile /etc/foresee/robot.toml", first.display());
    assert!(unit.contains(&expected), "{unit}");
    std::fs::rename(&first, &prefix).unwrap();
    let doctor = installed(&prefix, &work, &["doctor", "--json"]);
    let found = text(&doctor.stdout);
    let library = prefix.join("lib/foresee/native/onnxruntime/lib/libonnxruntime.so");
    assert!(found.contains(&library.display().to_string()), "{found} {}", text(&doctor.stderr));
    let help = installed(&prefix, &work, &["run", "--help"]);
    assert!(help.status.success() && text(&help.stdout).contains("--encoder"), "{}", text(&help.stderr));
    let endpoint = free_endpoint();
    let arguments = ["run", "--simulate", "dmc/reacher-easy", "--episodes", "1", "--no-log", "--endpoint", &endpoint];
    let run = installed(&prefix, &work, &arguments);
    assert!(run.status.success(), "{}{}", text(&run.stdout), text(&run.stderr));
    assert!(work.join("runs/run/result.json").is_file());
}

#[test]
fn a_library_that_is_missing_is_named_with_the_fix() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("prefix");
    let output = install(&["--prefix", &prefix.display().to_string()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    std::fs::remove_dir_all(prefix.join("lib/foresee/native/mujoco")).unwrap();
    let output = installed(&prefix, folder.path(), &["--version"]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("libmujoco.so") && message.contains("launch/install"), "{message}");
    assert!(!message.contains("error while loading shared libraries"), "{message}");
    std::fs::remove_dir_all(prefix.join("lib/foresee/bin")).unwrap();
    let output = installed(&prefix, folder.path(), &["--version"]);
    assert!(text(&output.stderr).contains("install again"), "{}", text(&output.stderr));
}

#[test]
fn what_cannot_be_installed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    std::fs::create_dir_all(other.join("bin")).unwrap();
    std::fs::write(other.join("bin/foresee"), "#!/bin/sh\n").unwrap();
    let other = other.display().to_string();
    for (arguments, expected) in [
        (&["--prefix", &other][..], "is not of launch/install"),
        (&["--prefix", &other, "--robot"], "has a simulator"),
        (&[], "give --prefix DIR"),
        (&["--prefix", &other, "--binary", "/etc/hostname"], "is not a program"),
    ] {
        let output = install(arguments);
        let message = text(&output.stderr);
        assert!(!output.status.success() && message.contains(expected), "{message}");
        assert!(!message.contains("Traceback"), "{message}");
    }
}
