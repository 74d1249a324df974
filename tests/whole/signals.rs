//! Every signal that can be caught brings the joints to rest, and no further one ends the process before.

use foresee_runtime::{LogEntry, LogReader};
use foresee_tests::{foresee, free_endpoint, root};

use crate::robot::run_until;

/// Joints that take velocities and need seconds to come to rest.
fn profile(zenoh: &str) -> String {
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"velocity_radians_per_second\"\nminimum = -0.5\nmaximum = 0.5\n\
             max_rate_per_second = 0.1\n"
        )
    };
    format!(
        "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 500\n{zenoh}{}{}",
        joint("shoulder"),
        joint("wrist")
    )
}

/// The largest value of each command in the log, in order.
fn commands(folder: &std::path::Path) -> Vec<f64> {
    let reader = LogReader::open(&folder.join("runs/test/log.mcap")).unwrap();
    let command = |entry| match entry {
        LogEntry::Command { values, .. } => Some(values.iter().fold(0.0_f64, |most, value| most.max(value.abs()))),
        _ => None,
    };
    reader.map(Result::unwrap).filter_map(command).collect()
}

#[test]
fn each_signal_leads_to_rest_and_to_a_result_and_none_cuts_that_short() {
    for signals in [&["HUP"][..], &["QUIT", "HUP"], &["USR1"], &["TSTP", "INT"], &["INT", "INT", "INT", "TERM"]] {
        let folder = tempfile::tempdir().unwrap();
        let output = run_until(folder.path(), profile, 1_000_000, signals);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{signals:?}: {said}");
        assert!(folder.path().join("runs/test/result.json").exists(), "{signals:?}: {said}");
        assert!(said.contains("stop: SIG"), "{signals:?}: {said}");
        let commands = commands(folder.path());
        let most = commands.iter().copied().fold(0.0, f64::max);
        assert!(most > 0.01, "{signals:?}: the joints moved: {most}");
        assert_eq!(commands.last(), Some(&0.0), "{signals:?}: {said}");
    }
}

/// Whatever holds cargo: a robot is stopped by what is built.
#[test]
fn the_script_stops_a_robot_without_a_build_tool() {
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    std::fs::write(&cargo, "#!/bin/sh\necho cargo was called >&2\nexit 9\n").unwrap();
    std::fs::set_permissions(&cargo, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let target = foresee(folder.path());
    let target = std::path::Path::new(target.get_program()).ancestors().nth(2).unwrap().to_path_buf();
    if std::fs::canonicalize(root().join("target")).ok() != std::fs::canonicalize(&target).ok() {
        eprintln!("skipped: the checkout's target is not where this binary was built");
        return;
    }
    let mut script = std::process::Command::new(root().join("launch/foresee"));
    script.args(["stop", "--timeout-seconds", "0", "--endpoint", &free_endpoint()]).current_dir(folder.path());
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = script.env("PATH", path).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no loop of robot") && !said.contains("cargo was called"), "{said}");
}
