//! Others' environments in a Python process, which steps when it is told to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, bail};
use foresee_sim::{Seconds, SteppingMode, VectorOptions};
use serde::{Deserialize, Serialize};

use crate::verbs::bench::median;

const SCRIPT: &str = include_str!("../../../../peers/stepping.py");
const RENDERER: &str = "mujoco.Renderer";

/// Which peers play a task in this mode.
pub(super) fn of_stepping(task: &str, mode: SteppingMode) -> Vec<&'static str> {
    match (mode, task.split('/').next()) {
        (SteppingMode::Single, Some("dmc")) if has_envpool(task) => vec!["dm_control", "envpool-sync"],
        (SteppingMode::Single, Some("dmc")) => vec!["dm_control"],
        (SteppingMode::Single, Some("metaworld")) => vec!["metaworld"],
        (SteppingMode::Single, _) if ["kitchen/all", "adroit/pen", "adroit/door"].contains(&task) => vec!["gymnasium"],
        (SteppingMode::Lockstep | SteppingMode::Asynchronous, _) if has_envpool(task) => {
            vec!["envpool-sync", "envpool-async"]
        }
        _ => Vec::new(),
    }
}

fn has_envpool(task: &str) -> bool {
    ["dmc/walker-walk", "dmc/walker-run", "dmc/walker-stand", "dmc/cheetah-run"].contains(&task)
}

/// What a round took, and what it got done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) seconds: Seconds,
    /// Images, where these are compared.
    pub(super) physics_steps: f64,
}

/// Others' speed, and ours beside it in the same rounds.
#[derive(Debug, Serialize)]
pub(super) struct PeerFigure {
    peer: &'static str,
    version: String,
    task: String,
    threads: usize,
    environments: usize,
    /// Physics steps; images of `mujoco.Renderer`.
    steps_per_cpu_second: f64,
    steps_per_wall_second: f64,
    /// Our steps per second of processor time, divided by theirs; above 1 we are faster.
    ours_over_peer_cpu: f64,
    ours_over_peer_wall: f64,
}

impl PeerFigure {
    pub(super) fn is_rendering(&self) -> bool {
        self.peer == RENDERER
    }

    pub(super) fn line(&self) -> String {
        let setting = format!("{}, {} on {} threads", self.version, self.environments, self.threads);
        format!(
            "  {:<14} {:<30} {setting:<44} {:>9.0} /CPU s  ours {:.2} x (wall {:.2} x)",
            self.peer, self.task, self.steps_per_cpu_second, self.ours_over_peer_cpu, self.ours_over_peer_wall
        )
    }
}

/// A process with others' environments.
pub(super) struct Peer {
    name: &'static str,
    version: String,
    task: String,
    size: VectorOptions,
    substeps: f64,
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    turns: Vec<(Turn, Turn)>,
}

#[derive(Deserialize)]
struct Hello {
    #[serde(default)]
    missing: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    substeps: f64,
}

impl Peer {
    /// Starts it; the inner error says what the interpreter lacks.
    ///
    /// # Errors
    /// When the interpreter cannot be started or its script fails.
    pub(super) fn open(
        python: &Path,
        name: &'static str,
        (task, size): (&str, VectorOptions),
    ) -> anyhow::Result<Result<Self, String>> {
        let numbers = [size.num_environments, size.num_threads].map(|number| number.to_string());
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", SCRIPT, name, task])
            .args(numbers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("--python {}: cannot be started", python.display()))?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        let answers = answers.context("the peer's answers")?;
        let version = String::new();
        let task = task.to_owned();
        let mut peer = Self { name, version, task, size, substeps: 0.0, child, questions, answers, turns: Vec::new() };
        let Ok(hello) = peer.answer::<Hello>() else {
            return Ok(Err(format!("{} fails on it; run launch/peers/stepping.py by hand to see", python.display())));
        };
        if let Some(missing) = hello.missing {
            return Ok(Err(format!("{}: {missing}", python.display())));
        }
        (peer.version, peer.substeps) = (hello.version, hello.substeps);
        Ok(Ok(peer))
    }

    /// Control steps of each environment that match what we got done.
    pub(super) fn as_long_as(&self, own: Turn, num_environments: usize) -> u32 {
        // At least one, and far below the type's end: a round takes a quarter of a second.
        (own.physics_steps / self.substeps / num_environments as f64).ceil().max(1.0) as u32
    }

    /// One round, beside what we took in the same turn.
    ///
    /// # Errors
    /// When the process ends.
    pub(super) fn round(&mut self, (num_steps, seed): (u32, u32), own: Turn) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Took {
            cpu: f64,
            wall: f64,
        }
        let questions = self.questions.as_mut().context("the peer's questions")?;
        writeln!(questions, "{num_steps} {seed}").and_then(|()| questions.flush()).context(self.name)?;
        let Took { cpu, wall } = self.answer()?;
        let physics_steps = f64::from(num_steps) * self.substeps * self.size.num_environments as f64;
        self.turns.push((Turn { seconds: Seconds { cpu, wall }, physics_steps }, own));
        Ok(())
    }

    pub(super) fn figure(&self) -> PeerFigure {
        let per_second = |read: fn(&Turn) -> f64| {
            median(&mut self.turns.iter().map(|(turn, _)| turn.physics_steps / read(turn)).collect::<Vec<_>>())
        };
        let ours = |read: fn(&Turn) -> f64| {
            let speed = |turn: &Turn| turn.physics_steps / read(turn);
            median(&mut self.turns.iter().map(|(turn, own)| speed(own) / speed(turn)).collect::<Vec<_>>())
        };
        PeerFigure {
            peer: self.name,
            version: self.version.clone(),
            task: self.task.clone(),
            threads: self.size.num_threads,
            environments: self.size.num_environments,
            steps_per_cpu_second: per_second(|turn| turn.seconds.cpu),
            steps_per_wall_second: per_second(|turn| turn.seconds.wall),
            ours_over_peer_cpu: ours(|turn| turn.seconds.cpu),
            ours_over_peer_wall: ours(|turn| turn.seconds.wall),
        }
    }

    fn answer<T: for<'a> Deserialize<'a>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context(self.name)?;
        if line.is_empty() {
            bail!("{} ended before it answered; run launch/peers/stepping.py by hand to see why", self.name);
        }
        serde_json::from_str(&line).with_context(|| format!("{}: answer {line:?}", self.name))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its standard input ends, and with it the script.
        self.questions = None;
        // It ends by itself; how does not matter any more.
        let _ = self.child.wait();
    }
}
