//! The rows of the fault matrix that need real processes: this binary's own `foresee run` as a child, this process as its robot, and
//! between them a relay that can be cut.
//!
//! What counts is what the robot obeys: answers to its late frames, and no torque at all when none has come for 100 ms.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{Clock, CommandGate, FaultRow, Observation, ZenohLink, ZenohRobot};

use crate::relay::{BROKEN, CUT, ENDED, OPEN, Relay};

const PERIOD: Duration = Duration::from_millis(20);
const SILENCE: Duration = Duration::from_millis(100);
/// A loop that starts on a busy machine.
const START_PATIENCE: Duration = Duration::from_secs(60);
const FAULT: Duration = Duration::from_millis(700);
/// What a row may take beyond the silence: two periods, and a machine with other work.
const GRACE: Duration = Duration::from_millis(80);
const RATE_PER_SECOND: f64 = 20.0;
/// Frames that may be sent before the one that a command answers is too old.
const MAX_FRAMES: u64 = 5;
/// Blocks of 512 bytes that the log may have: a few chunks of noise.
const LOG_BLOCKS: u32 = 4096;
/// The smallest page there is; with larger ones the limit is tighter still.
const PAGE_BYTES: u64 = 4096;

/// One line a row, in the order of the matrix.
const ROWS: &[(&str, Provoke)] = &[
    ("loop SIGSTOP", stopped_process),
    ("loop SIGKILL (zenoh peer killed)", killed_process),
    ("loop SIGTERM", terminated_process),
    ("network cut", cut_network),
    ("router killed (connection broken)", broken_connection),
    ("disk full under the recorder", full_disk),
    ("memory limit", limited_memory),
];

type Provoke = fn(&mut Bench) -> anyhow::Result<Times>;

/// Runs every row, one after the other, in a folder for the children's files.
///
/// # Errors
/// When a child cannot be started or never commands.
pub(crate) fn run_process_faults(folder: &Path, stop: &AtomicBool) -> anyhow::Result<Vec<FaultRow>> {
    let mut rows = Vec::new();
    for (name, provoke) in ROWS.iter().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let row = Bench::new(folder).and_then(|mut bench| {
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
}

fn stopped_process(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = bench.signal(libc::SIGSTOP)?;
    std::thread::sleep(FAULT);
    let ended = bench.signal(libc::SIGCONT)?;
    Ok(Times { began, ended: Some(ended), said: None, undisturbed: None })
}

fn killed_process(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = bench.signal(libc::SIGKILL)?;
    bench.child.wait()?;
    std::thread::sleep(FAULT);
    let ended = Instant::now();
    (bench.child, bench.said) = start_loop(&bench.folder, &bench.relay.endpoint, None)?;
    bench.wait_for_commands(ended)?;
    Ok(Times { began, ended: Some(ended), said: None, undisturbed: None })
}

fn terminated_process(bench: &mut Bench) -> anyhow::Result<Times> {
    let began = bench.signal(libc::SIGTERM)?;
    let status = bench.child.wait()?;
    if status.code() != Some(i32::from(crate::guard::STOPPED)) {
        bail!("after SIGTERM the loop ended with {status}");
    }
    Ok(Times { began, ended: None, said: None, undisturbed: None })
}

fn cut_network(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.relay.mode.store(CUT, Ordering::SeqCst);
    let began = Instant::now();
    std::thread::sleep(FAULT);
    bench.relay.mode.store(OPEN, Ordering::SeqCst);
    Ok(Times { began, ended: Some(Instant::now()), said: None, undisturbed: None })
}

fn broken_connection(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.relay.mode.store(BROKEN, Ordering::SeqCst);
    let began = Instant::now();
    std::thread::sleep(FAULT);
    bench.relay.mode.store(OPEN, Ordering::SeqCst);
    let ended = Instant::now();
    bench.wait_for_commands(ended)?;
    Ok(Times { began, ended: Some(ended), said: None, undisturbed: None })
}

/// The loop goes on: what is looked for is its word, and that commands never fail to come.
fn full_disk(bench: &mut Bench) -> anyhow::Result<Times> {
    bench.signal(libc::SIGKILL)?;
    bench.child.wait()?;
    (bench.child, bench.said) = start_loop(&bench.folder, &bench.relay.endpoint, Some(LOG_BLOCKS))?;
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
            return Ok(Times { began: full.unwrap_or(said), ended: None, said: Some(said), undisturbed: Some(said) });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    bail!("a log of {LOG_BLOCKS} blocks never became full");
}

/// No page more than it has: a loop that needs none goes on; one that does is ended by its allocator, and started again.
fn limited_memory(bench: &mut Bench) -> anyhow::Result<Times> {
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", bench.child.id())).context("memory of the loop")?;
    let num_pages: u64 = statm.split_whitespace().next().unwrap_or_default().parse().context("memory of the loop")?;
    let began = bench.limit_memory(num_pages * PAGE_BYTES)?;
    std::thread::sleep(2 * FAULT);
    if bench.child.try_wait()?.is_none() {
        return Ok(Times { began, ended: None, said: None, undisturbed: Some(began) });
    }
    let ended = Instant::now();
    (bench.child, bench.said) = start_loop(&bench.folder, &bench.relay.endpoint, None)?;
    bench.wait_for_commands(ended)?;
    Ok(Times { began, ended: Some(ended), said: None, undisturbed: None })
}

/// What the robot executed from then on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// A command, and the largest torque in it.
    Obeyed(f64),
    /// None came in time: no torque.
    Silent,
    Unsafe,
}

type Events = Arc<Mutex<Vec<(Instant, Kind)>>>;
type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// A robot in this process, a loop in another, and the relay between.
struct Bench {
    folder: PathBuf,
    child: Child,
    said: Lines,
    relay: Relay,
    events: Events,
    stop: Arc<AtomicBool>,
    robot: Option<std::thread::JoinHandle<anyhow::Result<()>>>,
}

impl Bench {
    /// Starts everything and waits until the loop commands.
    fn new(folder: &Path) -> anyhow::Result<Self> {
        let robot_endpoint = format!("tcp/{}", free_address()?);
        let relay = Relay::start(robot_endpoint.trim_start_matches("tcp/").to_owned())?;
        let profile = write_profile(folder)?;
        let (events, stop) = (Events::default(), Arc::<AtomicBool>::default());
        let robot = std::thread::Builder::new().name("foresee-fault-robot".to_owned()).spawn({
            let (events, stop) = (Arc::clone(&events), Arc::clone(&stop));
            move || play_robot(&profile, &robot_endpoint, &events, &stop)
        })?;
        let (child, said) = start_loop(folder, &relay.endpoint, None)?;
        let mut bench = Self { folder: folder.to_path_buf(), child, said, relay, events, stop, robot: Some(robot) };
        bench.wait_for_commands(Instant::now())?;
        std::thread::sleep(FAULT);
        Ok(bench)
    }

    fn wait_for_commands(&mut self, since: Instant) -> anyhow::Result<()> {
        while since.elapsed() < START_PATIENCE {
            if lock(&self.events)
                .iter()
                .any(|(at, kind)| *at > since && matches!(kind, Kind::Obeyed(torque) if *torque > 0.0))
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                let said = lock(&self.said).last().map(|(_, line)| line.clone()).unwrap_or_default();
                bail!("the loop ended ({status}): {said}");
            }
            std::thread::sleep(PERIOD);
        }
        bail!("no command came within {} s", START_PATIENCE.as_secs())
    }

    #[expect(unsafe_code, reason = "a system call without pointers")]
    fn signal(&self, signal: libc::c_int) -> anyhow::Result<Instant> {
        let process = libc::pid_t::try_from(self.child.id()).context("process id")?;
        // SAFETY: the child is ours and not waited for yet, so the id is its own.
        match unsafe { libc::kill(process, signal) } {
            0 => Ok(Instant::now()),
            _ => Err(std::io::Error::last_os_error()).context("kill"),
        }
    }

    #[expect(unsafe_code, reason = "a system call; its one pointer is to a local value")]
    fn limit_memory(&self, bytes: u64) -> anyhow::Result<Instant> {
        let process = libc::pid_t::try_from(self.child.id()).context("process id")?;
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        // SAFETY: the limit outlives the call, and no old one is asked for.
        match unsafe { libc::prlimit(process, libc::RLIMIT_AS, &raw const limit, std::ptr::null_mut()) } {
            0 => Ok(Instant::now()),
            _ => Err(std::io::Error::last_os_error()).context("prlimit"),
        }
    }

    fn judge(&self, name: &str, times: &Times) -> FaultRow {
        if times.ended.is_some() {
            std::thread::sleep(FAULT);
        }
        let events = lock(&self.events);
        let millis = |from: Instant, at: Instant| at.saturating_duration_since(from).as_secs_f64() * 1e3;
        let after = |from: Instant, is: fn(&Kind) -> bool| {
            events.iter().find(|(at, kind)| *at >= from && is(kind)).map(|(at, _)| millis(from, *at))
        };
        let is_safe = |kind: &Kind| matches!(kind, Kind::Silent | Kind::Obeyed(0.0));
        let safe = if times.undisturbed.is_some() { None } else { after(times.began, is_safe) };
        let detected = times.said.map_or(safe, |said| Some(millis(times.began, said)));
        let recovered =
            times.ended.and_then(|ended| after(ended, |kind| matches!(kind, Kind::Obeyed(torque) if *torque > 0.0)));
        let unsafe_commands = events.iter().filter(|(_, kind)| *kind == Kind::Unsafe).count() as u64;
        let limit = (SILENCE + GRACE).as_secs_f64() * 1e3;
        let is_silent_after = |from: Instant| events.iter().any(|(at, kind)| *at >= from && *kind == Kind::Silent);
        let is_undisturbed = times.undisturbed.is_some_and(|from| !is_silent_after(from));
        let is_safe_in_time = safe.is_some_and(|safe| safe <= limit) || is_undisturbed;
        FaultRow {
            name: name.to_owned(),
            detected_millis: detected,
            safe_action_millis: safe,
            recovered_millis: recovered,
            unsafe_commands,
            num_commands: events.iter().filter(|(_, kind)| *kind != Kind::Silent).count() as u64,
            passed: is_safe_in_time && unsafe_commands == 0 && (times.ended.is_none() || recovered.is_some()),
            skipped: None,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.relay.mode.store(ENDED, Ordering::SeqCst);
        // Both fail only when the child is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
        let _ = self.robot.take().map(std::thread::JoinHandle::join);
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_address() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("loopback has no free port")?;
    Ok(listener.local_addr()?.to_string())
}

fn write_profile(folder: &Path) -> anyhow::Result<DeviceProfile> {
    let path = folder.join("faults.toml");
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"torque_normalised\"\nminimum = -1.0\nmaximum = 1.0\n\
             max_rate_per_second = {RATE_PER_SECOND:.1}\n"
        )
    };
    let text = format!(
        "inherit = \"desktop-sim\"\nrobot = \"faults\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n{}{}",
        joint("shoulder"),
        joint("wrist")
    );
    std::fs::write(&path, text).with_context(|| format!("{}: cannot be written", path.display()))?;
    foresee_firmware_config::load(&path.display().to_string()).map_err(Into::into)
}

/// `foresee run` of this binary, and what it says. With `blocks`, no file of it may have more blocks of 512 bytes.
fn start_loop(folder: &Path, endpoint: &str, blocks: Option<u32>) -> anyhow::Result<(Child, Lines)> {
    let exe = std::env::current_exe().context("the running binary's path")?;
    let mut command = match blocks {
        None => Command::new(&exe),
        Some(blocks) => {
            let mut shell = Command::new("sh");
            // Ignored, the signal of a file that is too large becomes an error of the write, as a full disk is.
            shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]).arg(&exe);
            shell
        }
    };
    let profile = folder.join("faults.toml");
    command.args(["run", "--name", "faults", "--endpoint", endpoint, "--profile"]).arg(profile);
    command.arg("--runs").arg(folder);
    if blocks.is_none() {
        command.arg("--no-log");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("foresee run: cannot be started")?;
    let lines = Lines::default();
    if let Some(stderr) = child.stderr.take() {
        let lines = Arc::clone(&lines);
        let read = move || {
            let heard = BufReader::new(stderr).lines().map_while(Result::ok);
            heard.for_each(|line| lock(&lines).push((Instant::now(), line)));
        };
        std::thread::Builder::new().name("foresee-fault-words".to_owned()).spawn(read)?;
    }
    Ok((child, lines))
}

/// 50 noisy frames a second, and whatever may be obeyed of what comes back.
fn play_robot(profile: &DeviceProfile, endpoint: &str, events: &Events, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut zenoh = profile.zenoh.clone();
    (zenoh.listen, zenoh.connect, zenoh.shared_memory) = (vec![endpoint.to_owned()], Vec::new(), false);
    let link = ZenohLink::open(&profile.robot, &zenoh)?;
    let names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
    let mut robot = ZenohRobot::new(&link, names)?;
    let mut gate = CommandGate::new(MAX_FRAMES);
    let mut observation = Observation::blank(profile.camera.width, profile.camera.height, profile.joints.len());
    observation.frame.encoding = profile.camera.encoding;
    let (mut values, mut last) = (vec![0.0; profile.joints.len()], vec![0.0; profile.joints.len()]);
    let mut obeyed = Instant::now();
    let mut deadline = Instant::now();
    for sequence in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        observation.frame.sequence = sequence;
        observation.frame.stamp = Clock::Wall.now();
        observation.joints.stamp = observation.frame.stamp;
        let bytes = (0_u64..).zip(&mut observation.frame.data);
        bytes.for_each(|(at, byte)| {
            *byte = ((at ^ sequence.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u8
        });
        gate.sent(sequence);
        robot.publish(&observation)?;
        deadline += PERIOD;
        // Until the next frame is due, commands are looked for every millisecond.
        while Instant::now() < deadline {
            if robot.newest_command(&mut gate, &mut values)?.is_some() {
                let elapsed = obeyed.elapsed().as_secs_f64();
                obeyed = Instant::now();
                lock(events).push((obeyed, judge(&values, &last, elapsed)));
                last.clone_from(&values);
            } else if obeyed.elapsed() > SILENCE {
                last.fill(0.0);
                lock(events).push((Instant::now(), Kind::Silent));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        deadline = deadline.max(Instant::now() - PERIOD);
    }
    link.close().map_err(Into::into)
}

/// Limits as the wire shows them: arrivals jitter, so two periods are granted to a change.
fn judge(values: &[f64], last: &[f64], elapsed_seconds: f64) -> Kind {
    let granted = RATE_PER_SECOND * (elapsed_seconds + 2.0 * PERIOD.as_secs_f64());
    let is_safe =
        |(value, last): (&f64, &f64)| value.is_finite() && value.abs() <= 1.0 && (value - last).abs() <= granted;
    match values.iter().zip(last).all(is_safe) {
        true => Kind::Obeyed(values.iter().fold(0.0, |largest, value| value.abs().max(largest))),
        false => Kind::Unsafe,
    }
}
