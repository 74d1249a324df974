//! A run at a fixed pace with a robot of noise, for the tests of what it leaves.

use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use foresee_tests::{foresee, free_endpoint};

const PATIENCE: Duration = Duration::from_secs(120);

/// Killed when it goes.
struct Robot(Child);

impl Drop for Robot {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As [`run_until`], and ended by SIGINT.
pub(crate) fn run_with_robot(folder: &Path, profile: impl Fn(&str) -> String, log_bytes: u64) -> Output {
    run_until(folder, profile, log_bytes, &["INT"])
}

/// Runs the profile `loop.toml` in this folder until its log `runs/test/log.mcap` holds some bytes, then sends it these signals, one
/// every 100 ms. `profile` is written with the robot's own `[zenoh]`, and without one for the loop.
pub(crate) fn run_until(folder: &Path, profile: impl Fn(&str) -> String, log_bytes: u64, signals: &[&str]) -> Output {
    let endpoint = free_endpoint();
    let listens = format!("[zenoh]\nlisten = [\"{endpoint}\"]\nconnect = []\nshared_memory = false\n");
    std::fs::write(folder.join("robot.toml"), profile(&listens)).unwrap();
    std::fs::write(folder.join("loop.toml"), profile("")).unwrap();
    let mut robot = foresee(folder);
    robot.args(["faults", "--play-robot", "--profile", "robot.toml"]).stdin(Stdio::piped());
    let _robot = Robot(robot.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mut run = foresee(folder);
    run.args(["run", "--profile", "loop.toml", "--provider", "tract", "--name", "test", "--endpoint", &endpoint]);
    let mut run = run.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let log = folder.join("runs/test/log.mcap");
    let began = Instant::now();
    while std::fs::metadata(&log).map_or(0, |file| file.len()) < log_bytes {
        assert!(began.elapsed() < PATIENCE && run.try_wait().unwrap().is_none(), "no log came");
        std::thread::sleep(Duration::from_millis(20));
    }
    for signal in signals {
        let asked = std::process::Command::new("kill").args([&format!("-{signal}"), &run.id().to_string()]).status();
        assert!(asked.unwrap().success());
        std::thread::sleep(Duration::from_millis(100));
    }
    run.wait_with_output().unwrap()
}
