//! `foresee sim`: a simulated robot. It publishes what its camera sees and where its joints are, and obeys joint commands, in
//! lockstep on simulated time.

mod contact_sheet;
mod label;
mod list;
mod show;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use foresee_firmware_config::{CameraProfile, DeviceProfile, Pace, ZenohMode, ZenohProfile};
use foresee_runtime::{CommandWait, Episode, EpisodePhase, Observation, SourceEvent, ZenohLink, ZenohRobot};
use foresee_sim::{Camera, CameraOptions, CommandMap, EpisodePlan, EpisodePlayer, Quality, Randomisation};
use serde::Serialize;

use crate::simulated::SimulatedArguments;
use crate::words::{print, say};
use crate::{simulator, stop};

/// A frame that was not answered for this long is sent again: a stalled reader can lose shared memory.
const REPEAT_AFTER: Duration = Duration::from_millis(250);
const LOOK_UP: Duration = Duration::from_millis(100);

/// Arguments of `foresee sim`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Task, such as dmc/reacher-easy; see --list
    #[arg(required_unless_present_any = ["list", "mjcf", "contact_sheet"])]
    task: Option<String>,
    /// List the tasks: observation, action, cameras, licence of the assets.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    simulated: SimulatedArguments,
    /// Draw every task (of this --seed, after some steps) into one PNG file.
    #[arg(long, value_name = "FILE.png", conflicts_with_all = ["task", "list", "view", "record"])]
    contact_sheet: Option<PathBuf>,
    /// Play the episodes here and now, without a loop, and show them in this terminal, or write a GIF; its expert acts, or else
    /// smooth random motion.
    #[arg(long, value_name = "FILE.gif", num_args = 0..=1, require_equals = true, default_missing_value = show::TERMINAL)]
    view: Option<PathBuf>,
    /// Play the episodes here and now, as --view does, and write an MCAP log.
    #[arg(long, value_name = "FILE.mcap")]
    record: Option<PathBuf>,
    /// With --view or --record: cut episodes off after this many control steps.
    #[arg(long, value_name = "STEPS")]
    max_steps: Option<u32>,
    /// With --view or --record: camera of the model [default: the task's first]
    #[arg(long, value_name = "NAME")]
    camera: Option<String>,
    /// Robot: a built-in profile or a TOML file; gives camera, robot name and endpoint.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Episodes to play [default: 20; with --view or --record: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    episodes: Option<u32>,
    /// Seed of the first episode; the next ones count up.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Where to listen for the loop (a client: where its router is), such as tcp/127.0.0.1:7447 [default: where the profile connects]
    #[arg(long, value_name = "ENDPOINT")]
    endpoint: Option<String>,
    /// Render as MuJoCo's own renderer does (shadows, reflections, multisampling); ten times slower.
    #[arg(long)]
    reference_quality: bool,
    /// End when standard input does (for a parent process that watches over this one).
    #[arg(long, hide = true)]
    until_input_ends: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Plays the robot until its episodes are over, the loop leaves, or Ctrl-C.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if arguments.list {
        return list::act(arguments.json);
    }
    if let Some(path) = &arguments.contact_sheet {
        return contact_sheet::act(path, arguments);
    }
    let stop = stop::flag()?;
    if arguments.until_input_ends {
        stop_with_input(&stop)?;
    }
    let profile = foresee_firmware_config::load(&arguments.profile)?;
    let num_episodes = arguments.episodes.unwrap_or(1);
    EpisodePlan { first_seed: arguments.seed, num_episodes }.check()?;
    if arguments.view.is_some() || arguments.record.is_some() {
        return show::act(&profile, arguments, &stop);
    }
    let shown = [("--camera", arguments.camera.is_some()), ("--max-steps", arguments.max_steps.is_some())];
    if let Some((flag, _)) = shown.iter().find(|(_, is_given)| *is_given) {
        bail!("{flag}: goes with --view or --record; on the wire the profile says what the camera is");
    }
    let mut robot = Robot::new(arguments, &profile)?;
    let is_finished = robot.play(&stop)?;
    robot.report(arguments.json, arguments.until_input_ends)?;
    Ok(if is_finished { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

/// Whether a file to write ends as its kind does: what is of another kind is not written over.
fn expect_ending(flag: &str, path: &Path, ending: &str) -> anyhow::Result<()> {
    let is_of_kind = path.extension().is_some_and(|extension| extension == ending);
    ensure!(is_of_kind, "{flag}{}: is not a .{ending} file", path.display());
    Ok(())
}

/// Sets `stop` when standard input ends.
fn stop_with_input(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let stop = stop.clone();
    let watch = move || {
        // Nothing is ever written: any end of the read means that the parent is gone.
        let _ = std::io::stdin().read(&mut [0]);
        stop.store(true, Ordering::Relaxed);
    };
    std::thread::Builder::new().name("parent-watch".to_owned()).spawn(watch).context("thread")?;
    Ok(())
}

/// The simulated robot on the wire.
struct Robot {
    link: ZenohLink,
    wire: ZenohRobot,
    player: EpisodePlayer,
    observation: Observation,
    command: Vec<f64>,
    answer_timeout: Duration,
    num_repeated: u64,
    played: Vec<Episode>,
}

impl Robot {
    fn new(arguments: &Arguments, profile: &DeviceProfile) -> anyhow::Result<Self> {
        let environment = arguments.simulated.open(arguments.task.as_deref(), profile)?;
        let joints = CommandMap::new(&environment, profile)?;
        let joint_names = joints.names().to_vec();
        joints.notes().iter().chain(&environment.notes()).for_each(|note| say(&format!("sim: {note}")));
        let quality = if arguments.reference_quality { Quality::Reference } else { Quality::Fast };
        let camera = |view: &CameraProfile| Camera::new(&environment, &CameraOptions::of(view, quality));
        let first = camera(&profile.camera)?;
        let others = profile.extra_cameras.iter();
        let others = others.map(|extra| Camera::new(&environment, &CameraOptions::of_extra(extra, quality)));
        let others = others.collect::<Result<_, _>>()?;
        let endpoints =
            arguments.endpoint.clone().map_or_else(|| profile.zenoh.connect.clone(), |endpoint| vec![endpoint]);
        // The loop connects there; a client meets it at the router.
        let [listen, connect] = match profile.zenoh.mode {
            ZenohMode::Peer => [endpoints, Vec::new()],
            ZenohMode::Client => [Vec::new(), endpoints],
        };
        let zenoh = ZenohProfile { listen, connect, ..profile.zenoh };
        let command = vec![0.0; joint_names.len()];
        let (width, height) = (profile.camera.width, profile.camera.height);
        let observation = Observation::blank(width, height, joint_names.len());
        let link = ZenohLink::open(&profile.robot, &zenoh)?;
        let cameras: Vec<String> = profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect();
        let wire = ZenohRobot::new(&link, joint_names)?.with_cameras(&link, &cameras)?;
        let plan = EpisodePlan { first_seed: arguments.seed, num_episodes: arguments.episodes.unwrap_or(20) };
        let answer_timeout = match profile.pace {
            Pace::Lockstep { answer_timeout_millis, .. } => Duration::from_millis(answer_timeout_millis),
            Pace::Fixed { .. } => anyhow::bail!(
                "profile `{}`: pace.kind is not \"lockstep\"; the simulator needs one that is",
                profile.name
            ),
        };
        let player = EpisodePlayer::new(environment, first, plan).with_cameras(others).with_joints(joints);
        Ok(Self { link, wire, player, observation, command, answer_timeout, num_repeated: 0, played: Vec::new() })
    }

    /// Gives whether every episode was played.
    fn play(&mut self, stop: &AtomicBool) -> anyhow::Result<bool> {
        say(simulator::READY);
        let mut has_said = false;
        while !self.wire.wait_for_loop(LOOK_UP) {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            if !has_said {
                say("sim: waiting for the loop (foresee run)");
                has_said = true;
            }
        }
        while !stop.load(Ordering::Relaxed) {
            match self.player.next_event(&mut self.observation)? {
                SourceEvent::EpisodeStarted(episode) => self.announce(EpisodePhase::Started, &episode)?,
                SourceEvent::EpisodeEnded(episode) => {
                    self.announce(EpisodePhase::Ended, &episode)?;
                    self.played.push(episode);
                }
                SourceEvent::Observed => {
                    if !self.exchange(stop)? {
                        return Ok(false);
                    }
                }
                SourceEvent::Finished => {
                    self.announce(EpisodePhase::Finished, &Episode::default())?;
                    self.wait_until_the_loop_left(stop);
                    return Ok(true);
                }
                // The player answers at once.
                SourceEvent::TimedOut => {}
            }
        }
        Ok(false)
    }

    fn announce(&mut self, phase: EpisodePhase, episode: &Episode) -> anyhow::Result<()> {
        self.wire.announce(self.observation.frame.stamp, phase, episode).map_err(Into::into)
    }

    /// Shows the observation and applies the command that answers it; false when the loop left or the run was stopped.
    fn exchange(&mut self, stop: &AtomicBool) -> anyhow::Result<bool> {
        let sequence = self.observation.frame.sequence;
        let mut waiting_since = Some(Instant::now());
        loop {
            self.wire.publish(&self.observation)?;
            match self.wire.wait_command(sequence, REPEAT_AFTER, &mut self.command)? {
                CommandWait::Answered => {
                    if let Some(warning) = self.player.act(&self.command)?.and_then(|transition| transition.warning) {
                        say(&format!("sim: the episode was cut off: {warning}"));
                    }
                    return Ok(true);
                }
                CommandWait::LoopLeft => {
                    say("sim: the loop left before the last episode was over");
                    return Ok(false);
                }
                CommandWait::TimedOut if stop.load(Ordering::Relaxed) => return Ok(false),
                CommandWait::TimedOut => self.num_repeated += 1,
            }
            if waiting_since.is_some_and(|since| since.elapsed() > self.answer_timeout) {
                say(&format!(
                    "sim: frame {sequence} has not been answered for {:?}; still waiting",
                    self.answer_timeout
                ));
                waiting_since = None;
            }
        }
    }

    /// The last announcement must arrive before this end goes away.
    fn wait_until_the_loop_left(&mut self, stop: &AtomicBool) {
        if self.wire.num_foreign() > 0 {
            say(&format!("sim: {} commands of another loop were refused", self.wire.num_foreign()));
        }
        let deadline = Instant::now() + self.answer_timeout;
        while Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
            if matches!(self.wire.wait_command(u64::MAX, LOOK_UP, &mut []), Ok(CommandWait::LoopLeft)) {
                return;
            }
        }
    }

    fn report(&self, json: bool, is_watched: bool) -> anyhow::Result<()> {
        self.link.close()?;
        if json {
            #[derive(Serialize)]
            struct Played<'a> {
                episodes: &'a [Episode],
                frames_repeated: u64,
                /// That the simulated camera lost on purpose.
                frames_dropped: u64,
                diverged: Vec<Diverged>,
                randomisation: Option<&'a Randomisation>,
            }
            #[derive(Serialize)]
            struct Diverged {
                episode: u32,
                reason: String,
            }
            let diverged = self.player.warnings().iter();
            print(&serde_json::to_string_pretty(&Played {
                episodes: &self.played,
                frames_repeated: self.num_repeated,
                frames_dropped: self.player.num_dropped(),
                diverged: diverged
                    .map(|(episode, warning)| Diverged { episode: *episode, reason: warning.to_string() })
                    .collect(),
                randomisation: self.player.environment().randomisation().map(AsRef::as_ref),
            })?);
        } else if !is_watched {
            for episode in &self.played {
                print(&format!(
                    "episode {:>4}  seed {:>6}  return {:>8.2}",
                    episode.index + 1,
                    episode.seed,
                    episode.episode_return
                ));
            }
            print(&format!("{} episodes, {} frames sent again", self.played.len(), self.num_repeated));
        }
        Ok(())
    }
}
