//! The rows of the fault matrix that need real processes: `foresee run` of this binary as the loop, this binary once more as the
//! robot, and between them a relay or a cable that can be cut, or a router that can be killed.
//!
//! What counts is what the robot obeys: answers to its late frames, and no torque at all when none has come for 100 ms. Where the
//! robot itself is what fails, it is what the loop puts on the wire.

mod bench;
mod judge;
mod namespaces;
mod robot;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foresee_runtime::FaultRow;

use self::bench::{Bench, Burden, Wiring, limit_memory, signal};
use self::namespaces::Cable;
use self::robot::{PERIOD, RATE_PER_SECOND, SILENCE, Spoil};
pub(crate) use self::robot::{play, route};
use crate::places;
use crate::relay::{BROKEN, CUT, OPEN};

/// A loop that starts on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
const FAULT: Duration = Duration::from_millis(700);
/// A command that was on its way, and a look of the watchdog.
const LIMIT: Duration = SILENCE.saturating_add(PERIOD).saturating_add(PERIOD);
/// A recorder writes once a second, and its loop looks at every tick whether it could.
const WRITING: Duration = Duration::from_secs(2);
/// Models are read and proved before anything can be said of them.
const LOADING: Duration = Duration::from_secs(20);
/// Blocks of 512 bytes that the log may have: a few chunks of noise.
const LOG_BLOCKS: u32 = 4096;
/// The smallest page there is; with larger ones the limit is tighter still.
const PAGE_BYTES: u64 = 4096;
/// Address space for a model that is larger than it.
const SMALL_MEMORY_KIBIBYTES: u64 = 1 << 20;

/// One line a row, in the order of the matrix.
const ROWS: &[(&str, Wiring, Provoke)] = &[
    ("loop SIGSTOP", Wiring::Relay, stopped_loop),
    ("loop SIGKILL (zenoh peer killed)", Wiring::Relay, killed_loop),
    ("loop SIGTERM", Wiring::Relay, terminated_loop),
    ("operator stop", Wiring::Relay, stopped_by_operator),
    ("robot SIGSTOP", Wiring::Relay, stopped_robot),
    ("robot SIGKILL", Wiring::Relay, killed_robot),
    ("network cut", Wiring::Relay, cut_network),
    ("network cut (namespaces)", Wiring::Cable, pulled_cable),
    ("connection broken", Wiring::Relay, broken_connection),
    ("router SIGSTOP", Wiring::Router, stopped_router),
    ("router SIGKILL", Wiring::Router, killed_router),
    ("images cut short on the wire", Wiring::Relay, |bench| spoilt(bench, Spoil::CutImages)),
    ("images of a wrong size on the wire", Wiring::Relay, |bench| spoilt(bench, Spoil::HalfImages)),
    ("joint states without velocities", Wiring::Relay, |bench| spoilt(bench, Spoil::NoVelocities)),
    ("disk full under the recorder", Wiring::Relay, full_disk),
    ("memory limit", Wiring::Relay, limited_memory),
    ("memory limit while models are swapped", Wiring::Relay, limited_swap),
    ("memory limit (a model that does not fit)", Wiring::Relay, large_model),
];

type Provoke = fn(&mut Bench) -> anyhow::Result<Times>;

/// Runs every row, one after the other, in a folder for the children's files. A row whose means are not here is skipped, and says why.
///
/// # Errors
/// When a child cannot be started or never commands.
pub(crate) fn run_process_faults(folder: &Path, stop: &AtomicBool) -> anyhow::Result<Vec<FaultRow>> {
    let mut rows = Vec::new();
    for (name, wiring, provoke) in ROWS.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let cable = match wiring {
            Wiring::Relay | Wiring::Router => None,
            Wiring::Cable => match Cable::lay() {
                Ok(cable) => Some(cable),
                Err(reason) => {
                    rows.push(FaultRow::skipped(name, reason));
                    continue;
                }
            },
        };
        let row = Bench::new(folder, *wiring, cable).and_then(|mut bench| {
            let times = provoke(&mut bench)?;
            Ok(bench.judge(name, &times))
        });
        rows.push(row.with_context(|| format!("fault row `{name}`"))?);
    }
    Ok(rows)
}

/// When the fault began and ended.
struct Times {
    began: Instant,
    /// `None`: there is nothing to come back from.
    ended: Option<Instant>,
    /// When the loop said it, where it is the loop that notices.
    said: Option<Instant>,
    /// Since when the loop is to go on as if nothing were; `None`: a safe action is due.
    undisturbed: Option<Instant>,
    seen: Seen,
    /// The fault is to be noticed by then.
    detection: Duration,
    /// The safe action is due by then.
    limit: Duration,
}

/// Where the safe action is looked for.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    AtTheRobot,
    OnTheWire,
}

impl Times {
    /// A fault that a robot sees.
    fn of(began: Instant, ended: Option<Instant>) -> Self {
        Self { began, ended, said: None, undisturbed: None, seen: Seen::AtTheRobot, detection: LIMIT, limit: LIMIT }
    }
}

fn stopped_loop(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = signal(&bench.control, libc::SIGSTOP)?;
    std::thread::sleep(FAULT);
    let ended = signal(&bench.control, libc::SIGCONT)?;
    Ok(Times::of(began, Some(ended)))
}

fn killed_loop(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = kill_loop(bench)?;
    std::thread::sleep(FAULT);
    let ended = Instant::now();
    bench.start_loop(&Burden::Nothing)?;
    bench.wait_for_commands(ended)?;
    Ok(Times::of(began, Some(ended)))
}

fn kill_loop(bench: &mut Bench) -> anyhow::Result<Instant> {
    let began = signal(&bench.control, libc::SIGKILL)?;
    bench.control.wait()?;
    Ok(began)
}

fn terminated_loop(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = signal(&bench.control, libc::SIGTERM)?;
    leaves(bench, began)
}

fn stopped_by_operator(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.tap()?;
    let began = bench.say_stop()?;
    leaves(bench, began)
}

/// A loop that was asked to stop does so, and says by its exit code that it was asked.
fn leaves(bench: &mut Bench, began: Instant) -> anyhow::Result<Times> {
    let status = bench.control.wait()?;
    if status.code() != Some(i32::from(foresee_firmware_config::STOPPED)) {
        bail!("asked to stop, the loop ended with {status}");
    }
    Ok(Times::of(began, None))
}

/// The loop sees no frame: what it sends is to be the safe action, whoever obeys it.
fn stopped_robot(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.tap()?;
    let began = signal(&bench.robot, libc::SIGSTOP)?;
    std::thread::sleep(FAULT);
    let ended = signal(&bench.robot, libc::SIGCONT)?;
    bench.wait_for_commands(ended)?;
    Ok(Times { seen: Seen::OnTheWire, ..Times::of(began, Some(ended)) })
}

fn killed_robot(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.tap()?;
    let began = signal(&bench.robot, libc::SIGKILL)?;
    bench.robot.wait()?;
    std::thread::sleep(FAULT);
    let ended = Instant::now();
    bench.start_robot()?;
    bench.wait_for_commands(ended)?;
    Ok(Times { seen: Seen::OnTheWire, ..Times::of(began, Some(ended)) })
}

fn cut_network(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.relay.mode.store(CUT, Ordering::SeqCst);
    let began = Instant::now();
    std::thread::sleep(FAULT);
    bench.relay.mode.store(OPEN, Ordering::SeqCst);
    Ok(Times::of(began, Some(Instant::now())))
}

fn pulled_cable(bench: &mut Bench) -> anyhow::Result<Times> {
    let cable = bench.cable.as_ref().context("no cable")?;
    cable.set("down").map_err(anyhow::Error::msg)?;
    let began = Instant::now();
    std::thread::sleep(FAULT);
    cable.set("up").map_err(anyhow::Error::msg)?;
    let ended = Instant::now();
    bench.wait_for_commands(ended)?;
    Ok(Times::of(began, Some(ended)))
}

fn broken_connection(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.relay.mode.store(BROKEN, Ordering::SeqCst);
    let began = Instant::now();
    std::thread::sleep(FAULT);
    bench.relay.mode.store(OPEN, Ordering::SeqCst);
    let ended = Instant::now();
    bench.wait_for_commands(ended)?;
    Ok(Times::of(began, Some(ended)))
}

fn stopped_router(bench: &mut Bench) -> anyhow::Result<Times> {
    let router = bench.router.as_ref().context("no router")?;
    let began = signal(router, libc::SIGSTOP)?;
    std::thread::sleep(FAULT);
    let ended = signal(router, libc::SIGCONT)?;
    bench.wait_for_commands(ended)?;
    Ok(Times::of(began, Some(ended)))
}

fn killed_router(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = signal(bench.router.as_ref().context("no router")?, libc::SIGKILL)?;
    bench.router = None;
    std::thread::sleep(FAULT);
    let ended = Instant::now();
    bench.start_router()?;
    bench.wait_for_commands(ended)?;
    Ok(Times::of(began, Some(ended)))
}

/// A robot whose messages are none, or none of this profile, for a while; the loop says so and goes on.
fn spoilt(bench: &mut Bench, spoil: Spoil) -> anyhow::Result<Times> {
    let began = bench.spoil(spoil)?;
    std::thread::sleep(FAULT);
    let ended = bench.spoil(Spoil::Nothing)?;
    bench.wait_for_commands(ended)?;
    let said = lock(&bench.said).iter().find(|(at, _)| *at >= began).map(|(at, _)| *at);
    let said = said.with_context(|| format!("the loop said nothing of {}", spoil.line()))?;
    // Frames are answered all the while, and the robot lets go of nothing: the torques go as fast as they may.
    let limit = LIMIT + Duration::from_secs_f64(1.0 / RATE_PER_SECOND);
    Ok(Times { said: Some(said), detection: limit, limit, ..Times::of(began, Some(ended)) })
}

/// The loop goes on: what is looked for is its word, and that commands never fail to come.
fn full_disk(bench: &mut Bench) -> anyhow::Result<Times> {
    kill_loop(bench)?;
    bench.start_loop(&Burden::LogBlocks(LOG_BLOCKS))?;
    let restarted = Instant::now();
    bench.wait_for_commands(restarted)?;
    let log = bench.folder.join("faults/log.mcap");
    let mut full = None;
    while restarted.elapsed() < 2 * START_PATIENCE {
        if full.is_none() && std::fs::metadata(&log).is_ok_and(|file| file.len() >= u64::from(LOG_BLOCKS) * 512) {
            full = Some(Instant::now());
        }
        let said = lock(&bench.said).iter().find(|(_, line)| line.contains("cannot be written")).map(|(at, _)| *at);
        if let Some(said) = said {
            std::thread::sleep(FAULT);
            let times = Times::of(full.unwrap_or(said), None);
            return Ok(Times { said: Some(said), undisturbed: Some(said), detection: WRITING, ..times });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("a log of {LOG_BLOCKS} blocks never became full");
}

/// No page more than it has: a loop that needs none goes on; one that does is ended by its allocator, and started again.
fn limited_memory(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = take_memory(bench)?;
    std::thread::sleep(2 * FAULT);
    after_memory(bench, began, None)
}

/// New models need memory that there is not: they are refused and the loop goes on, or it ends and is started again.
fn limited_swap(bench: &mut Bench) -> anyhow::Result<Times> {
    kill_loop(bench)?;
    let models = bench.folder.join("models");
    let copy = || copy_files(&places::zoo(), &models).context("copies of the models");
    copy()?;
    bench.start_loop(&Burden::WatchedModels(models.clone()))?;
    bench.wait_for_commands(Instant::now())?;
    std::thread::sleep(FAULT);
    let began = take_memory(bench)?;
    copy()?;
    let refused = |bench: &Bench| {
        lock(&bench.said).iter().find(|(_, line)| line.contains("new ones are refused")).map(|(at, _)| *at)
    };
    while refused(bench).is_none() && bench.control.try_wait()?.is_none() && began.elapsed() < START_PATIENCE {
        std::thread::sleep(PERIOD);
    }
    let said = refused(bench);
    std::thread::sleep(FAULT);
    if said.is_none() && bench.control.try_wait()?.is_none() {
        let words = bench.last_words();
        bail!("new models were neither refused nor the end of a loop without memory; it reported: {words}");
    }
    after_memory(bench, began, said)
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn take_memory(bench: &Bench) -> anyhow::Result<Instant> {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", bench.control.id())).context("memory of the loop")?;
    let num_pages: u64 = statm.split_whitespace().next().unwrap_or_default().parse().context("memory of the loop")?;
    limit_memory(&bench.control, num_pages * PAGE_BYTES)
}

fn after_memory(bench: &mut Bench, began: Instant, said: Option<Instant>) -> anyhow::Result<Times> {
    if bench.control.try_wait()?.is_none() {
        return Ok(Times { said, undisturbed: Some(began), detection: LOADING, ..Times::of(began, None) });
    }
    let ended = Instant::now();
    bench.start_loop(&Burden::Nothing)?;
    bench.wait_for_commands(ended)?;
    let detection = if said.is_some() { LOADING } else { LIMIT };
    Ok(Times { said, detection, ..Times::of(began, Some(ended)) })
}

/// Started with a model that is larger than its memory, a loop says so and ends; the robot goes on doing nothing.
fn large_model(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = kill_loop(bench)?;
    let encoder = bench.folder.join("large.onnx");
    let file = std::fs::File::create(&encoder).and_then(|file| file.set_len(SMALL_MEMORY_KIBIBYTES * 1024 * 3 / 2));
    file.with_context(|| format!("{}: cannot be written", encoder.display()))?;
    bench.start_loop(&Burden::Memory { encoder: encoder.clone(), kibibytes: SMALL_MEMORY_KIBIBYTES })?;
    let status = bench.control.wait()?;
    let (said, words) = (Instant::now(), bench.last_words());
    if status.code() != Some(2) || !words.contains("large.onnx: needs") {
        bail!("with a model that does not fit the loop ended with {status} and said: {words}");
    }
    std::fs::remove_file(&encoder).with_context(|| format!("{}: cannot be removed", encoder.display()))?;
    let ended = Instant::now();
    bench.start_loop(&Burden::Nothing)?;
    bench.wait_for_commands(ended)?;
    Ok(Times { said: Some(said), detection: LOADING, ..Times::of(began, Some(ended)) })
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
