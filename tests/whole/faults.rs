//! The fault matrix as users run it, with real processes.

use std::process::Command;

use foresee_tests::{foresee, free_endpoint};
use serde_json::Value;

#[test]
fn every_fault_is_made_safe_and_nothing_unsafe_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let output = foresee(folder.path()).args(["faults", "--json"]).output().unwrap();
    let rows: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let rows = rows["faults"].as_array().unwrap();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in rows {
        assert_eq!(row["unsafe_commands"], 0, "{row}");
        for key in ["name", "detected_millis", "safe_action_millis", "recovered_millis", "passed"] {
            assert!(row.get(key).is_some(), "{row} lacks {key}");
        }
        if row.get("skipped").is_some() {
            assert!(
                row["skipped"].as_str().is_some_and(|reason| !reason.is_empty()) && row["passed"] == false,
                "{row}"
            );
            continue;
        }
        assert!(row["lateness_millis"].as_f64().is_some_and(|late| late <= 500.0), "{row}");
        // How fast a machine with other work is says nothing of the code; that it noticed, and what became of it, does.
        let name = row["name"].as_str().unwrap();
        let [is_noticed, is_safe, is_over] =
            ["detected_millis", "safe_action_millis", "recovered_millis"].map(|key| row[key].is_number());
        let expected = match name {
            "loop SIGTERM" | "operator stop" => [true, true, false],
            "disk full under the recorder" => [true, false, false],
            // With memory of its own to spare a loop needs no more, and goes on.
            "memory limit" | "memory limit while models are swapped" if !is_safe => [is_noticed, false, false],
            _ => [true; 3],
        };
        assert_eq!([is_noticed, is_safe, is_over], expected, "{row}");
    }
}

#[test]
fn an_operator_is_heard_and_told_when_nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let stop = |endpoint: &str| {
        let mut command = foresee(folder.path());
        command.args(["stop", "--endpoint", endpoint, "--timeout-seconds", "60"]);
        command
    };
    let (robot, listen) = (free_endpoint(), free_endpoint());
    let mut run: Command = foresee(folder.path());
    run.args(["run", "--simulate", "dmc/reacher-easy", "--name", "test", "--episodes", "1000"]);
    run.args(["--endpoint", &robot, "--listen", &listen]);
    let mut child = run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let said = stop(&listen).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let nobody = foresee(folder.path())
        .args(["stop", "--endpoint", &free_endpoint(), "--timeout-seconds", "0.1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{}", String::from_utf8_lossy(&nobody.stdout));
    let nowhere = foresee(folder.path()).arg("stop").output().unwrap();
    assert_eq!(nowhere.status.code(), Some(2), "{}", String::from_utf8_lossy(&nowhere.stderr));
}
