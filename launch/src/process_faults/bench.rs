//! One row's processes: a loop, a robot, what lies between, and what each of them did and said.

use std::io::{BufRead, BufReader, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use foresee_runtime::{Hearing, Lateness, ZenohLink, free_loopback_endpoint};

use super::namespaces::{Cable, ROBOT_ADDRESS};
use super::robot::{Judge, Kind, PERIOD, RATE_PER_SECOND, Spoil};
use super::{FAULT, START_PATIENCE, lock};
use crate::relay::{ENDED, Relay};

pub(super) type Events = Arc<Mutex<Vec<(Instant, Kind)>>>;
type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// What lies between loop and robot.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wiring {
    /// A relay on loopback.
    Relay,
    /// A cable between two network namespaces.
    Cable,
    /// A router that both are clients of.
    Router,
}

/// What a loop is started under.
pub(super) enum Burden {
    Nothing,
    /// No file of it may have more blocks of 512 bytes, and it writes a log.
    LogBlocks(u32),
    /// Copies of the zoo's models in this folder, which are watched.
    WatchedModels(PathBuf),
    /// An encoder of its own, and no more address space than so many KiB.
    Memory {
        encoder: PathBuf,
        kibibytes: u64,
    },
}

/// Everything that a row runs; dropped, all of it ends.
pub(super) struct Bench {
    pub(super) folder: PathBuf,
    pub(super) control: Running,
    pub(super) said: Lines,
    pub(super) robot: Running,
    pub(super) router: Option<Running>,
    pub(super) relay: Relay,
    pub(super) cable: Option<Cable>,
    /// What the robot did.
    pub(super) events: Events,
    /// What the loop put on the wire, whoever obeyed it.
    pub(super) commands: Events,
    pub(super) lateness: Lateness,
    endpoint: String,
    /// `None`: the loop is a client, and listens nowhere.
    listen: Option<String>,
    robot_profile: PathBuf,
    tap: Option<(ZenohLink, Hearing)>,
}

impl Bench {
    /// Starts everything and waits until the loop commands.
    ///
    /// # Errors
    /// When something cannot be started, or no command comes.
    pub(super) fn new(folder: &Path, wiring: Wiring, cable: Option<Cable>) -> anyhow::Result<Self> {
        let (address, listen) = (free_loopback_endpoint()?, free_loopback_endpoint()?);
        let relay = Relay::start(address.trim_start_matches("tcp/").to_owned())?;
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let (robot_endpoint, endpoint) = match wiring {
            Wiring::Relay => (address, relay.endpoint.clone()),
            Wiring::Cable => (format!("tcp/{ROBOT_ADDRESS}:{port}"), format!("tcp/{ROBOT_ADDRESS}:{port}")),
            Wiring::Router => (address.clone(), address),
        };
        let client =
            format!("[zenoh]\nmode = \"client\"\nlisten = []\nconnect = [\"{endpoint}\"]\nshared_memory = false\n");
        let peer = format!("[zenoh]\nlisten = [\"{robot_endpoint}\"]\nconnect = []\nshared_memory = false\n");
        let (loop_zenoh, robot_zenoh, router, listen) = match wiring {
            Wiring::Router => (client.as_str(), &client, Some(start_router(&endpoint)?), None),
            Wiring::Relay | Wiring::Cable => ("", &peer, None, Some(listen)),
        };
        write_profile(&folder.join("faults.toml"), loop_zenoh)?;
        let robot_profile = folder.join("robot.toml");
        write_profile(&robot_profile, robot_zenoh)?;
        let events = Events::default();
        let robot = start_robot(&robot_profile, cable.as_ref().map(|cable| cable.robot.as_str()), &events)?;
        let (control, said) = start_loop(folder, (&endpoint, listen.as_deref()), cable.as_ref(), &Burden::Nothing)?;
        let mut bench = Self {
            folder: folder.to_path_buf(),
            control,
            said,
            robot,
            router,
            relay,
            cable,
            events,
            commands: Events::default(),
            lateness: Lateness::start()?,
            endpoint,
            listen,
            robot_profile,
            tap: None,
        };
        bench.wait_for_commands(Instant::now())?;
        std::thread::sleep(FAULT);
        Ok(bench)
    }

    /// Listens to what the loop puts on the wire, at the loop itself.
    ///
    /// # Errors
    /// No zenoh, or nothing heard.
    pub(super) fn tap(&mut self) -> anyhow::Result<()> {
        let profile = foresee_firmware_config::load(&self.robot_profile.display().to_string())?;
        let listen = self.listen.clone().context("the loop listens nowhere")?;
        let mut zenoh = profile.zenoh.clone();
        (zenoh.listen, zenoh.connect) = (Vec::new(), vec![listen.clone()]);
        let link = ZenohLink::open(&profile.robot, &zenoh)?;
        let (judge, commands) = (Judge::amid(profile.joints.len()), Arc::clone(&self.commands));
        let hearing = link.overhear(move |values| lock(&commands).push((Instant::now(), judge.judge(values))))?;
        self.tap = Some((link, hearing));
        let since = Instant::now();
        while lock(&self.commands).is_empty() {
            if since.elapsed() > START_PATIENCE {
                bail!("nothing is heard of the loop at {listen}");
            }
            std::thread::sleep(PERIOD);
        }
        Ok(())
    }

    /// Says stop as an operator does, to a loop that is listened to.
    ///
    /// # Errors
    /// When it does not hear.
    pub(super) fn say_stop(&self) -> anyhow::Result<Instant> {
        let (link, _) = self.tap.as_ref().context("nobody listens to the loop")?;
        let began = Instant::now();
        if !link.say("stop", START_PATIENCE)? {
            bail!("the loop does not listen to an operator");
        }
        Ok(began)
    }

    /// Starts the loop anew, once the old one is gone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_loop(&mut self, burden: &Burden) -> anyhow::Result<()> {
        let ends = (self.endpoint.as_str(), self.listen.as_deref());
        (self.control, self.said) = start_loop(&self.folder, ends, self.cable.as_ref(), burden)?;
        Ok(())
    }

    /// Starts the robot anew, once the old one is gone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_robot(&mut self) -> anyhow::Result<()> {
        self.robot = start_robot(&self.robot_profile, None, &self.events)?;
        Ok(())
    }

    /// Spoils what the robot sends from now on.
    ///
    /// # Errors
    /// When it does not listen.
    pub(super) fn spoil(&mut self, spoil: Spoil) -> anyhow::Result<Instant> {
        let stdin = self.robot.stdin.as_mut().context("the robot does not listen")?;
        writeln!(stdin, "{}", spoil.line()).context("the robot does not listen")?;
        Ok(Instant::now())
    }

    /// Starts the router anew, once the old one is gone.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn start_router(&mut self) -> anyhow::Result<()> {
        self.router = Some(start_router(&self.endpoint)?);
        Ok(())
    }

    /// Waits until the robot obeys a command that moves it.
    ///
    /// # Errors
    /// When none comes, with the loop's last words.
    pub(super) fn wait_for_commands(&mut self, since: Instant) -> anyhow::Result<()> {
        let moves = |(at, kind): &(Instant, Kind)| *at > since && matches!(kind, Kind::Obeyed(torque) if *torque > 0.0);
        while since.elapsed() < START_PATIENCE {
            if lock(&self.events).iter().any(moves) {
                return Ok(());
            }
            if let Some(status) = self.control.try_wait()? {
                bail!("the loop ended ({status}): {}", self.last_words());
            }
            std::thread::sleep(PERIOD);
        }
        bail!("no command came within {} s; the loop said: {}", START_PATIENCE.as_secs(), self.last_words())
    }

    pub(super) fn last_words(&self) -> String {
        // The pipe may still hold the last line.
        std::thread::sleep(Duration::from_millis(50));
        lock(&self.said).last().map(|(_, line)| line.clone()).unwrap_or_default()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.relay.mode.store(ENDED, Ordering::SeqCst);
    }
}

/// A child that ends when it is dropped.
pub(super) struct Running(Child);

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when the child is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a signal to a child that was not waited for yet.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "a system call without pointers")]
pub(super) fn signal(child: &Child, signal: libc::c_int) -> anyhow::Result<Instant> {
    let process = libc::pid_t::try_from(child.id()).context("process id")?;
    // SAFETY: the child is ours and not waited for yet, so the id is its own.
    match unsafe { libc::kill(process, signal) } {
        0 => Ok(Instant::now()),
        _ => Err(std::io::Error::last_os_error()).context("kill"),
    }
}

/// No more address space than so many bytes, from now on.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "a system call; its one pointer is to a local value")]
pub(super) fn limit_memory(child: &Child, bytes: u64) -> anyhow::Result<Instant> {
    let process = libc::pid_t::try_from(child.id()).context("process id")?;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the limit outlives the call, and no old one is asked for.
    match unsafe { libc::prlimit(process, libc::RLIMIT_AS, &raw const limit, std::ptr::null_mut()) } {
        0 => Ok(Instant::now()),
        _ => Err(std::io::Error::last_os_error()).context("prlimit"),
    }
}

fn write_profile(path: &Path, more: &str) -> anyhow::Result<()> {
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"torque_normalised\"\nminimum = -1.0\nmaximum = 1.0\n\
             max_rate_per_second = {RATE_PER_SECOND:.1}\n"
        )
    };
    let text = format!(
        "inherit = \"desktop-sim\"\nrobot = \"faults\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n{more}{}{}",
        joint("shoulder"),
        joint("wrist")
    );
    std::fs::write(path, text).with_context(|| format!("{}: cannot be written", path.display()))
}

/// This binary, in a network namespace where one is given.
fn this_binary(namespace: Option<&str>) -> anyhow::Result<Command> {
    let exe = std::env::current_exe().context("the running binary's path")?;
    Ok(match namespace {
        None => Command::new(exe),
        Some(namespace) => {
            // It becomes the command: the child's id is the command's own.
            let mut ip = Command::new("ip");
            ip.args(["netns", "exec", namespace]).arg(exe);
            ip
        }
    })
}

/// However this process ends, even killed, the child ends with it.
#[expect(unsafe_code, reason = "one system call between fork and exec")]
fn end_with_this(command: &mut Command) {
    // SAFETY: the closure makes one system call, which allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

fn start_router(endpoint: &str) -> anyhow::Result<Running> {
    let mut command = this_binary(None)?;
    command.args(["faults", "--play-router", endpoint]).stdin(Stdio::null()).stdout(Stdio::null());
    end_with_this(&mut command);
    command.spawn().map(Running).context("the router: cannot be started")
}

fn start_robot(profile: &Path, namespace: Option<&str>, events: &Events) -> anyhow::Result<Running> {
    let mut command = this_binary(namespace)?;
    command.args(["faults", "--play-robot", "--profile"]).arg(profile);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    end_with_this(&mut command);
    let mut child = Running(command.spawn().context("the robot: cannot be started")?);
    if let Some(stdout) = child.stdout.take() {
        let events = Arc::clone(events);
        let read = move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter_map(|line| Kind::parse(&line)).for_each(|kind| lock(&events).push((Instant::now(), kind)));
        };
        std::thread::Builder::new().name("foresee-fault-robot".to_owned()).spawn(read)?;
    }
    Ok(child)
}

/// `foresee run` of this binary, and what it says.
fn start_loop(
    folder: &Path,
    (endpoint, listen): (&str, Option<&str>),
    cable: Option<&Cable>,
    burden: &Burden,
) -> anyhow::Result<(Running, Lines)> {
    let under = |limit: String| -> anyhow::Result<Command> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]);
        shell.arg(std::env::current_exe().context("the running binary's path")?);
        Ok(shell)
    };
    let mut command = match burden {
        Burden::Nothing | Burden::WatchedModels(_) => this_binary(cable.map(|cable| cable.control.as_str()))?,
        // Ignored, the signal of a file that is too large becomes an error of the write, as a full disk is.
        Burden::LogBlocks(blocks) => under(format!("trap '' XFSZ; ulimit -f {blocks}"))?,
        Burden::Memory { kibibytes, .. } => under(format!("ulimit -v {kibibytes}"))?,
    };
    command.args(["run", "--name", "faults", "--endpoint", endpoint]);
    if let Some(listen) = listen {
        command.args(["--listen", listen]);
    }
    command.arg("--profile").arg(folder.join("faults.toml")).arg("--runs").arg(folder);
    if !matches!(burden, Burden::LogBlocks(_)) {
        command.arg("--no-log");
    }
    match burden {
        Burden::Memory { encoder, .. } => {
            command.arg("--encoder").arg(encoder);
        }
        Burden::WatchedModels(folder) => {
            command.arg("--watch-models").env("FORESEE_ZOO", folder);
        }
        Burden::Nothing | Burden::LogBlocks(_) => {}
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    end_with_this(&mut command);
    let mut child = Running(command.spawn().context("foresee run: cannot be started")?);
    let lines = Lines::default();
    if let Some(stderr) = child.stderr.take() {
        listen_to(stderr, Arc::clone(&lines))?;
    }
    Ok((child, lines))
}

fn listen_to(stderr: ChildStderr, lines: Lines) -> anyhow::Result<()> {
    let read = move || {
        let heard = BufReader::new(stderr).lines().map_while(Result::ok);
        heard.for_each(|line| lock(&lines).push((Instant::now(), line)));
    };
    std::thread::Builder::new().name("foresee-fault-words".to_owned()).spawn(read)?;
    Ok(())
}
