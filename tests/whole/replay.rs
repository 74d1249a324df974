//! `foresee replay` as users meet it: what differs is told by its exit code, at a fixed pace too, and so is a log that holds nothing.

use std::path::Path;

use foresee_runtime::{CommandTopic, LogEntry, LogReader, LogWriter, Stamp};
use foresee_tests::{foresee, free_endpoint};
use serde_json::Value;

use crate::robot::run_with_robot;

/// A run of one episode, in `runs/test`.
fn record(folder: &Path) {
    let mut command = foresee(folder);
    command.args(["run", "--simulate", "dmc/reacher-easy", "--name", "test", "--provider", "tract"]);
    command.args(["--episodes", "1", "--seed", "77", "--endpoint", &free_endpoint()]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The log anew, with other commands and stamps; `None`: without it.
fn rewrite(folder: &Path, name: &str, change: impl Fn(u64, &mut Stamp, &mut [f64]) -> Option<()>) {
    let reader = LogReader::open(&folder.join("runs/test/log.mcap")).unwrap();
    let mut writer = LogWriter::create(&folder.join(name), reader.header()).unwrap();
    let mut num_commands = 0;
    for entry in reader {
        match entry.unwrap() {
            LogEntry::Frame(frame) => writer.write_frame(&frame),
            LogEntry::Joints { names, state } => writer.write_joints(&names, &state),
            LogEntry::Command { names, mut stamp, mut values, .. } => {
                num_commands += 1;
                if change(num_commands, &mut stamp, &mut values).is_none() {
                    continue;
                }
                writer.write_command(CommandTopic::JointCommand, &names, (stamp, &values))
            }
            LogEntry::Episode { phase, stamp, episode } => writer.write_episode(stamp, phase, &episode),
            LogEntry::ExtraFrame { .. } => continue,
        }
        .unwrap();
    }
    writer.finish().unwrap();
}

fn replay(folder: &Path, log: &str, more: &[&str]) -> (i32, Value, String) {
    let output = foresee(folder).args(["replay", log, "--json", "--provider", "tract"]).args(more).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.stdout.is_empty(), "{said}");
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap(), said)
}

/// Far beyond what was wanted, where no limit brings a command.
fn exaggerate(command: u64, _: &mut Stamp, values: &mut [f64]) -> Option<()> {
    if command.is_multiple_of(10) {
        values[0] = if values[0] > 0.0 { 1.0 } else { -1.0 };
    }
    Some(())
}

fn count(told: &Value, key: &str) -> u64 {
    told[key].as_u64().unwrap()
}

#[test]
fn a_replay_that_differs_fails_and_one_that_compares_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder);
    let whole = "runs/test/log.mcap";
    let (code, told, said) = replay(folder, whole, &[]);
    assert_eq!((code, count(&told, "commands_bit_equal"), count(&told, "commands_excused")), (0, 1000, 0));
    assert_eq!(said, "");
    rewrite(folder, "other.mcap", exaggerate);
    let (code, told, _) = replay(folder, "other.mcap", &[]);
    assert_eq!((code, count(&told, "commands_compared")), (1, 1000), "{told}");
    assert!((900..1000).contains(&count(&told, "commands_bit_equal")), "{told}");
    rewrite(folder, "mute.mcap", |_, _, _| None);
    let (code, told, said) = replay(folder, "mute.mcap", &[]);
    assert_eq!((code, count(&told, "frames"), count(&told, "commands_compared")), (1, 1000, 0));
    assert!(said.contains("mute.mcap: holds no command"), "{said}");
    rewrite(folder, "elsewhere.mcap", |_, stamp, _| {
        stamp.nanos += 1;
        Some(())
    });
    let (code, _, said) = replay(folder, "elsewhere.mcap", &[]);
    assert!(code == 1 && said.contains("none of its 1000 commands answers a frame"), "{said}");
    // Broken off in its first half: what is left is compared, and that it is not all is told.
    let bytes = std::fs::read(folder.join(whole)).unwrap();
    std::fs::write(folder.join("cut.mcap"), &bytes[..bytes.len() / 2]).unwrap();
    let (code, told, _) = replay(folder, "cut.mcap", &[]);
    assert!(code == 0 && told["truncation"].is_string() && count(&told, "commands_compared") > 0, "{told}");
}

/// An expert's demonstrations hold no models, and a policy's commands are others.
#[test]
fn a_log_of_unknown_models_of_which_no_command_is_equal_fails() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut command = foresee(folder);
    command.args(["record", "dmc/reacher-easy", "--episodes", "1", "--max-steps", "20", "--out", "demos"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("with success"));
    let (code, told, said) = replay(folder, "demos/episode-0000000000.mcap", &[]);
    assert_eq!((code, count(&told, "commands_compared"), count(&told, "commands_bit_equal")), (1, 20, 0), "{told}");
    assert!(said.contains("nothing could be compared"), "{said}");
}

#[test]
fn a_profile_of_another_robot_is_refused_by_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = foresee(folder.path());
    command.args(["record", "metaworld/reach", "--profile", "desktop-sim", "--episodes", "1", "--out", "demos"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("shoulder") && said.contains("gripper"), "{said}");
}

#[test]
fn at_a_fixed_pace_a_replay_that_differs_fails_too() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let pace = "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 500\n";
    let profile = |zenoh: &str| format!("inherit = \"desktop-sim\"\n{pace}{zenoh}");
    let output = run_with_robot(folder, profile, 4 << 20);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let profile = ["--profile", "loop.toml"];
    // The profile lies in the log: its file is not needed.
    let (code, told, said) = replay(folder, "runs/test/log.mcap", &[]);
    assert_eq!(code, 0, "{told} {said}");
    let [compared, equal] = ["commands_compared", "commands_bit_equal"].map(|key| count(&told, key));
    assert!(compared >= 20 && equal > compared / 2, "{told}");
    assert_eq!(equal + count(&told, "commands_excused"), compared, "{told}");
    rewrite(folder, "other.mcap", exaggerate);
    let (code, told, said) = replay(folder, "other.mcap", &profile);
    assert_eq!(code, 1, "{told} {said}");
}

#[test]
fn frames_of_another_size_than_the_profiles_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    record(folder);
    let text = "inherit = \"desktop-sim\"\n[camera]\nname = \"eye\"\nwidth = 32\nheight = 32\nencoding = \"rgb8\"\n";
    std::fs::write(folder.join("small.toml"), text).unwrap();
    let (code, told, said) = replay(folder, "runs/test/log.mcap", &["--profile", "small.toml"]);
    assert_eq!((code, count(&told, "frames_failed")), (1, count(&told, "frames")), "{said}");
    let failure = told["failure"].as_str().unwrap();
    assert!(failure.contains("`eye` gives 32x32") && said.contains(failure), "{said}");
}
