//! The simulated robot as a child process of `foresee run --simulate`.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long the child may take to leave by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// A child that is about to end does so within this.
const LAST_BREATH: Duration = Duration::from_millis(500);

/// What `foresee sim` says once it listens.
pub(crate) const READY: &str = "sim: ready";

/// What the child is asked to simulate.
pub(crate) struct Simulation<'a> {
    /// A task, or the arguments of a model of the user's own.
    pub(crate) what: Vec<OsString>,
    pub(crate) profile: &'a str,
    pub(crate) endpoint: Option<&'a str>,
    pub(crate) episodes: u32,
    pub(crate) seed: u64,
}

/// A running `foresee sim`. Dropping it ends the process; so does the death of this one, since the pipe to it closes.
pub(crate) struct Simulator {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Simulator {
    /// Starts this same binary as `foresee sim`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn start(simulation: &Simulation<'_>) -> anyhow::Result<Self> {
        let exe = std::env::current_exe().context("the running binary's path")?;
        let mut command = Command::new(exe);
        command.arg("sim").args(&simulation.what).args(["--profile", simulation.profile]);
        command.args(["--episodes", &simulation.episodes.to_string(), "--seed", &simulation.seed.to_string()]);
        if let Some(endpoint) = simulation.endpoint {
            command.args(["--endpoint", endpoint]);
        }
        command.arg("--until-input-ends");
        Self::of(command)
    }

    fn of(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("foresee sim: cannot be started")?;
        let (sender, lines) = channel();
        if let Some(stderr) = child.stderr.take() {
            let read = move || {
                let lines = BufReader::new(stderr).lines().map_while(Result::ok);
                lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
            };
            std::thread::Builder::new().name("simulator-words".to_owned()).spawn(read).context("thread")?;
        }
        Ok(Self { child, lines, said: Vec::new() })
    }

    /// Waits until the child listens, so that nothing is begun beside a simulator that cannot.
    ///
    /// # Errors
    /// The child's last words when it ended instead.
    pub(crate) fn wait_until_ready(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        while !self.words().iter().any(|line| line == READY) && !stop.load(Ordering::Relaxed) {
            self.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What the child has said since the last call, line by line.
    pub(crate) fn words(&mut self) -> Vec<String> {
        let fresh: Vec<String> = self.lines.try_iter().collect();
        self.said.extend(fresh.iter().cloned());
        fresh
    }

    /// Fails, with the child's last words, when it has ended with an error.
    ///
    /// # Errors
    /// One line.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait().context("foresee sim")? else { return Ok(()) };
        if status.success() {
            return Ok(());
        }
        // The pipe may still hold the last line.
        std::thread::sleep(Duration::from_millis(50));
        self.words();
        let last = self.said.last().map_or("it said nothing", String::as_str);
        bail!("the simulator ended ({status}): {}", last.trim_start_matches("foresee: "));
    }

    /// Why the child has ended or is about to, if it does so with an error: whoever spoke with it hears of that first.
    pub(crate) fn why_it_ended(&mut self) -> Option<anyhow::Error> {
        self.leaves_within(LAST_BREATH);
        self.check().err()
    }

    /// Asks the child to leave (its standard input ends), and kills it when it does not.
    pub(crate) fn finish(&mut self) {
        drop(self.child.stdin.take());
        if !self.leaves_within(PATIENCE) {
            // Both calls fail only when the child is gone already.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    fn leaves_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Simulator {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Simulator::of(command).unwrap()
    }

    #[test]
    fn what_a_simulator_said_at_its_end_is_why_it_is_gone() {
        let told = shell("sleep 0.1; echo 'foresee: out of memory' >&2; exit 3").why_it_ended().unwrap().to_string();
        assert!(told.contains("out of memory") && told.contains('3'), "{told}");
        assert!(shell("exit 0").why_it_ended().is_none());
        assert!(shell("cat").why_it_ended().is_none(), "one that lives has not ended");
    }
}
