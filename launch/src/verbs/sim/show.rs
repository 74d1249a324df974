//! `foresee sim TASK --view` and `--record`: episodes played here, without a loop, as a preview, a GIF or an MCAP log.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use foresee_firmware_config::{DeviceProfile, PixelEncoding};
use foresee_policies::{SmoothRandom, StateActor, expert_for};
use foresee_runtime::{CommandTopic, Episode, EpisodePhase, Frame, JointState, LogHeader, LogWriter};
use foresee_sim::{Camera, CameraOptions, Environment, MUJOCO_VERSION, Quality};

use super::Arguments;
use crate::film::Film;
use crate::machine;
use crate::words::{print, say};

/// Stands for this terminal in place of a file's name.
pub(super) const TERMINAL: &str = "-";
/// Columns of a preview; its rows show two pixels each.
const COLUMNS: u32 = 96;
const ROWS: u32 = 36;

/// Plays and shows.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(super) fn act(profile: &DeviceProfile, arguments: &Arguments, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    let mut stage = Stage::new(profile, arguments)?;
    let task = stage.environment.spec().name.clone();
    let mut played = Vec::new();
    for (index, seed) in (0..arguments.episodes.unwrap_or(1)).zip(arguments.seed..) {
        let Some(episode) = stage.play(Episode { index, seed, task: task.clone(), ..Episode::default() }, stop)? else {
            break;
        };
        played.push(episode);
    }
    stage.finish()?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&serde_json::json!({ "episodes": played }))?);
    } else {
        for Episode { index, seed, num_steps, episode_return, success, .. } in &played {
            let number = index + 1;
            let outcome = if *success { "solved" } else { "" };
            print(&format!(
                "episode {number:>4}  seed {seed:>6}  steps {num_steps:>5}  return {episode_return:>8.2}  {outcome}"
            ));
        }
    }
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Where pictures go.
enum Screen<'a> {
    None,
    Terminal { next: Instant },
    Gif { film: Film, path: &'a Path },
}

struct Stage<'a> {
    environment: Environment,
    camera: Camera,
    actor: Box<dyn StateActor>,
    screen: Screen<'a>,
    log: Option<LogWriter>,
    names: Vec<String>,
    action: Vec<f64>,
    frame: Frame,
    joints: JointState,
    max_steps: u32,
}

impl<'a> Stage<'a> {
    fn new(profile: &DeviceProfile, arguments: &'a Arguments) -> anyhow::Result<Self> {
        let screen = match arguments.view.as_deref() {
            None => Screen::None,
            Some(path) if path == Path::new(TERMINAL) => {
                let problem = "--view: standard output is no terminal; write a GIF with --view=FILE.gif";
                ensure!(std::io::stdout().is_terminal(), problem);
                Screen::Terminal { next: Instant::now() }
            }
            Some(path) => {
                super::expect_ending("--view=", path, "gif")?;
                Screen::Gif { film: Film::default(), path }
            }
        };
        ensure!(arguments.max_steps != Some(0), "--max-steps 0: give at least 1");
        if let Some(path) = &arguments.record {
            super::expect_ending("--record ", path, "mcap")?;
        }
        let mut environment = arguments.simulated.open(arguments.task.as_deref(), profile)?;
        environment.notes().iter().for_each(|note| say(&format!("sim: {note}")));
        let keeps_all = matches!(screen, Screen::Gif { .. }) || arguments.record.is_some();
        let ends = arguments.max_steps.is_some() || !environment.spec().is_endless();
        ensure!(ends || !keeps_all, "{} has no time limit; give one with --max-steps STEPS", environment.spec().name);
        environment.reset(arguments.seed)?;
        let actor = expert_for(&environment).unwrap_or_else(|_| {
            say("sim: no expert for this task; smooth random motion acts");
            Box::new(SmoothRandom::new())
        });
        let (width, height) = match (&screen, arguments.record.is_some()) {
            (Screen::Terminal { .. }, false) => (COLUMNS, 2 * ROWS),
            (Screen::Gif { .. }, false) => (256, 192),
            _ => (profile.camera.width, profile.camera.height),
        };
        let name = arguments.camera.clone().unwrap_or_else(|| environment.spec().camera.clone());
        let quality = if arguments.reference_quality { Quality::Reference } else { Quality::Fast };
        let camera = Camera::new(&environment, &CameraOptions { name, width, height, quality })?;
        let (names, task) = (environment.actuator_names(), environment.spec().name.clone());
        let header = LogHeader {
            robot: profile.robot.clone(),
            profile: profile.name.clone(),
            joints: names.clone(),
            git_revision: machine::GIT_REVISION.to_owned(),
            facts: [("task", task.as_str()), ("mujoco", MUJOCO_VERSION)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..LogHeader::default()
        };
        let log = arguments.record.as_deref().map(|path| LogWriter::create(path, &header)).transpose()?;
        Ok(Self {
            actor,
            screen,
            log,
            action: vec![0.0; names.len()],
            frame: Frame::black(width, height, PixelEncoding::Rgb8),
            joints: JointState::zeros(names.len()),
            names,
            max_steps: arguments.max_steps.unwrap_or(u32::MAX),
            environment,
            camera,
        })
    }

    /// `None` when asked to stop.
    fn play(&mut self, mut episode: Episode, stop: &AtomicBool) -> anyhow::Result<Option<Episode>> {
        self.environment.reset(episode.seed)?;
        self.actor.reset(episode.seed);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            self.camera.render_frame(&mut self.environment, &mut self.frame)?;
            self.frame.sequence += 1;
            self.actor.act(&self.environment, &mut self.action)?;
            self.write_log(&episode)?;
            self.show(&episode)?;
            let transition = self.environment.step(&self.action)?;
            episode.episode_return += transition.reward;
            episode.num_steps += 1;
            episode.success = transition.success;
            if transition.is_last() || episode.num_steps >= self.max_steps {
                break;
            }
        }
        if let Some(log) = &mut self.log {
            log.write_episode(self.frame.stamp, EpisodePhase::Ended, &episode)?;
        }
        Ok(Some(episode))
    }

    fn write_log(&mut self, episode: &Episode) -> anyhow::Result<()> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let stamp = self.frame.stamp;
        if episode.num_steps == 0 {
            log.write_episode(stamp, EpisodePhase::Started, episode)?;
        }
        self.environment.write_joint_state(&mut self.joints);
        log.write_frame(&self.frame)?;
        log.write_joints(&self.names, &self.joints)?;
        log.write_command(CommandTopic::JointCommand, &self.names, (stamp, &self.action))?;
        Ok(())
    }

    fn show(&mut self, episode: &Episode) -> anyhow::Result<()> {
        match &mut self.screen {
            Screen::None => Ok(()),
            Screen::Gif { film, .. } => {
                film.add(&self.frame);
                Ok(())
            }
            Screen::Terminal { next } => {
                let Episode { seed, num_steps, episode_return, .. } = episode;
                let status = format!("{}  seed {seed}  step {num_steps}  return {episode_return:.2}", episode.task);
                let mut out = std::io::stdout().lock();
                let home = if *num_steps == 0 { "\x1b[2J\x1b[H" } else { "\x1b[H" };
                writeln!(out, "{home}{}{status}\x1b[K", half_blocks(&self.frame)).context("standard output")?;
                out.flush().context("standard output")?;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                *next = Instant::now() + Duration::from_secs_f64(self.environment.spec().control_timestep_seconds);
                Ok(())
            }
        }
    }

    fn finish(self) -> anyhow::Result<()> {
        if let Screen::Gif { film, path } = &self.screen {
            film.write_gif(path)?;
            say(&format!("sim: wrote {}", path.display()));
        }
        if let Some(log) = self.log {
            let path = log.path().display().to_string();
            log.finish()?;
            say(&format!("sim: wrote {path}"));
        }
        Ok(())
    }
}

/// Two rows of pixels a line: the upper as the foreground of a half block, the lower as its background. Wide frames are thinned out.
fn half_blocks(frame: &Frame) -> String {
    let step = frame.width.div_ceil(COLUMNS).max(1) as usize;
    let (width, height) = (frame.width as usize, frame.height as usize);
    let pixel = |x: usize, y: usize| {
        let start = (y.min(height - 1) * width + x) * 3;
        frame.data.get(start..start + 3).unwrap_or(&[0; 3])
    };
    let mut text = String::new();
    for y in (0..height).step_by(2 * step) {
        for x in (0..width).step_by(step) {
            if let ([r, g, b], [under_r, under_g, under_b]) = (pixel(x, y), pixel(x, y + step)) {
                // Writing into a String cannot fail.
                let _ = write!(text, "\x1b[38;2;{r};{g};{b}m\x1b[48;2;{under_r};{under_g};{under_b}m\u{2580}");
            }
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_two_rows_of_pixels() {
        let mut frame = Frame::black(2, 2, PixelEncoding::Rgb8);
        frame.data.copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let expected = "\x1b[38;2;1;2;3m\x1b[48;2;7;8;9m\u{2580}\x1b[38;2;4;5;6m\x1b[48;2;10;11;12m\u{2580}\x1b[0m\n";
        assert_eq!(half_blocks(&frame), expected);
    }
}
