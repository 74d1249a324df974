//! `foresee replay`: a log's observations through the loop again, and its commands compared to the last bit.

mod compare;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_runtime::{
    CommandRecorder, ControlLoop, Ends, EngineReport, FrameSource, LogReader, LogSource, LogTopics, LoopEvent,
    LoopStatistics, PairReport,
};
use serde::Serialize;

use self::compare::{Answer, Compared, is_shaped};
use crate::models::ModelArguments;
use crate::stop;
use crate::words::{print, say};

/// Arguments of `foresee replay`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The log, such as runs/demo/log.mcap
    log: PathBuf,
    /// Robot [default: the profile that lies in the log, else the one that it names]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
    /// Topic of the log to read, where several could be meant; CAMERA=TOPIC for a camera beside the first. May be given more than once.
    #[arg(long, value_name = "[CAMERA=]TOPIC")]
    topic: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Replay {
    log: PathBuf,
    frames: u64,
    commands_compared: u64,
    commands_bit_equal: u64,
    /// Of those that differ, the ones that a limit or a hold shaped, which at a fixed pace count by a time that no log has.
    commands_excused: u64,
    /// Largest absolute difference of a command's value.
    worst_difference: f64,
    /// Commands of the log that were made without a frame: holds, the watchdog's, the last stop; and those of frames that it lost.
    commands_without_frame: u64,
    frames_missing_in_log: u64,
    /// Why the log ends early, if it does.
    truncation: Option<String>,
    provider_then: Option<String>,
    provider_now: String,
    /// Why commands may differ, if there is a reason.
    differences: Vec<String>,
    loop_p50_millis: f64,
    /// Frames of which a stage failed, such as frames of another size than the profile's.
    frames_failed: u64,
    /// Why the first of them did.
    failure: Option<String>,
}

/// Exit code 1 when a command differs although nothing is known that would make it differ, and when there is nothing to compare.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let log = arguments.log.display();
    let profile = profile_of(arguments)?;
    let topics = LogTopics::of_profile(&profile).with_named(&arguments.topic);
    let mut source = LogSource::open_with(&arguments.log, &profile, &topics)?;
    let (encoder, policy) = arguments.models.open(&profile)?;
    let now = PairReport::of(encoder.as_ref(), policy.as_ref());
    let header = source.header();
    let then = (header.encoder.clone(), header.policy.clone());
    let mut differences = differences((&then.0, &then.1), &now);
    let mut control_loop = ControlLoop::new(encoder, policy, &profile)?.with_clock(source.clock());
    let mut actuator = CommandRecorder::default();
    let mut statistics = LoopStatistics::default();
    let mut played = Played::default();
    let mut listen = |event: LoopEvent<'_>| {
        if let LoopEvent::Ticked { report, .. } = &event {
            statistics.record(report);
        }
        played.take(event);
        Ok(())
    };
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    foresee_runtime::run(ends, &mut control_loop, &stop, &mut listen)?;
    source.passed_over().iter().for_each(|line| say(&format!("replay: {line}")));
    if played.num_frames == 0 {
        match source.truncation() {
            Some(why) => bail!("{log}: holds no frame that can be read: {why}"),
            None => bail!("{log}: holds no frame; was it recorded with foresee run or foresee record?"),
        }
    }
    let compared = played.compare(&source, &profile);
    if source.num_swaps() > 0 {
        differences.push(format!("other models took over {} times while the log was made", source.num_swaps()));
    }
    let is_plain = profile.rates.encode_every_ticks == 1 && profile.rates.policy_every_ticks == 1;
    if matches!(profile.pace, Pace::Fixed { .. }) && !is_plain {
        differences.push(
            "with [rates] at a fixed pace, a frame that was held then and is not now shifts every chunk behind it"
                .to_owned(),
        );
    }
    let replay = Replay {
        log: arguments.log.clone(),
        frames: played.num_frames,
        commands_compared: compared.num_compared,
        commands_bit_equal: compared.num_equal,
        commands_excused: compared.num_excused,
        worst_difference: compared.worst,
        frames_missing_in_log: source.num_dropped(),
        truncation: source.truncation().map(str::to_owned),
        commands_without_frame: source.recorded().len() as u64 - compared.num_compared,
        provider_then: then.0.as_ref().map(|then| then.provider.name().to_owned()),
        provider_now: now.encoder.provider.name().to_owned(),
        differences,
        loop_p50_millis: statistics.total.quantile_millis(0.5),
        frames_failed: played.num_failed,
        failure: played.failure.clone(),
    };
    report(&replay, arguments.json)?;
    if let Some(failure) = &replay.failure {
        let (failed, frames) = (replay.frames_failed, replay.frames);
        say(&format!(
            "foresee: {log}: {failed} of {frames} frames could not be answered with profile {}: {failure}",
            profile.name
        ));
        if failed == frames {
            return Ok(ExitCode::FAILURE);
        }
    }
    let is_of_known_models = then.0.is_some() || then.1.is_some();
    if let Some(why) = nothing_compared(&source, &compared, is_of_known_models) {
        say(&format!("foresee: {log}: {why}"));
        return Ok(ExitCode::FAILURE);
    }
    let is_lossy = matches!(profile.pace, Pace::Lockstep { .. }) && replay.frames_missing_in_log > 0;
    let may_differ = !replay.differences.is_empty() || is_lossy;
    Ok(ExitCode::from(u8::from(compared.num_unexplained() > 0 && !may_differ)))
}

/// The profile that is given, else the one that lies in the log, else the one that it names.
fn profile_of(arguments: &Arguments) -> anyhow::Result<DeviceProfile> {
    if let Some(named) = &arguments.profile {
        return Ok(foresee_firmware_config::load(named)?);
    }
    let log = arguments.log.display();
    let header = LogReader::open_with(&arguments.log, &LogTopics::frames())?.header().clone();
    let named = &header.profile;
    if let Some(toml) = header.profile_toml() {
        let inside = foresee_firmware_config::parse(named, toml);
        return inside.with_context(|| {
            format!("{log}: the profile that lies in it is not understood; give one with --profile FILE")
        });
    }
    if named.is_empty() {
        bail!("{log}: names no profile; give --profile NAME|FILE");
    }
    foresee_firmware_config::load(named).with_context(|| {
        format!("{log} is of profile `{named}`, which is found by no name here; give its file with --profile FILE")
    })
}

/// Why nothing can be concluded from a log with frames, if so.
fn nothing_compared(source: &LogSource, compared: &Compared, is_of_known_models: bool) -> Option<String> {
    let cut = source.truncation().map_or_else(String::new, |why| format!("; the log ends early: {why}"));
    let num_commands = source.recorded().len();
    match compared {
        Compared { num_compared: 0, .. } if num_commands == 0 => {
            Some(format!("holds no command, so that nothing could be compared{cut}"))
        }
        Compared { num_compared: 0, .. } => Some(format!(
            "none of its {num_commands} commands answers a frame that it holds, so that nothing could be compared{cut}"
        )),
        Compared { num_equal: 0, .. } if !is_of_known_models => Some(format!(
            "names no encoder and no policy, and none of its {num_commands} commands is equal to the replay's, so that nothing could be compared: other models, or no model, made it; give those that did with --encoder and --policy{cut}"
        )),
        Compared { num_equal: 0, num_excused, num_compared, .. } if num_excused == num_compared => Some(format!(
            "each of its {num_compared} commands was shaped by a limit or a hold, so that nothing could be compared{cut}"
        )),
        Compared { .. } => None,
    }
}

/// What the loop made of the log, by episode.
#[derive(Default)]
struct Played {
    num_frames: u64,
    /// Before the first episode, then of each.
    episodes: Vec<Vec<Answer>>,
    last_sequence: Option<u64>,
    num_failed: u64,
    /// Of the first frame of which a stage failed.
    failure: Option<String>,
}

impl Played {
    fn take(&mut self, event: LoopEvent<'_>) {
        match event {
            LoopEvent::Ticked { observation, command, report, failure, .. } => {
                self.num_frames += 1;
                if let Some(failure) = failure {
                    self.num_failed += 1;
                    self.failure.get_or_insert_with(|| failure.to_string());
                }
                let sequence = observation.frame.sequence;
                let is_behind_gap = self.last_sequence.is_some_and(|last| sequence > last + 1);
                self.last_sequence = Some(sequence);
                if self.episodes.is_empty() {
                    self.episodes.push(Vec::new());
                }
                let (stamp, values) = (command.stamp(), command.values().to_vec());
                let answer = Answer { stamp, values, is_shaped: is_shaped(report.verdict), is_behind_gap };
                if let Some(episode) = self.episodes.last_mut() {
                    episode.push(answer);
                }
            }
            LoopEvent::EpisodeStarted(_) => self.episodes.resize_with(self.episodes.len().max(1) + 1, Vec::new),
            LoopEvent::EpisodeEnded(_) | LoopEvent::Waiting { .. } => {}
        }
    }

    fn compare(&mut self, source: &LogSource, profile: &DeviceProfile) -> Compared {
        if source.num_unrecorded() == Some(0) {
            // What is missing never came to the loop.
            self.episodes.iter_mut().flatten().for_each(|answer| answer.is_behind_gap = false);
        }
        Compared::of(profile, (source.recorded(), source.recorded_before_episodes()), &self.episodes)
    }
}

/// Why commands may differ from those of the log, as far as its header tells.
fn differences((encoder, policy): (&Option<EngineReport>, &Option<EngineReport>), now: &PairReport) -> Vec<String> {
    let mut differences = Vec::new();
    for (role, then, now) in [("encoder", encoder, Some(&now.encoder)), ("policy", policy, now.policy.as_ref())] {
        let Some(then) = then else {
            differences.push(format!("the log does not say which {role} ran"));
            continue;
        };
        let Some(now) = now else { continue };
        if then.model_sha256 != now.model_sha256 {
            differences.push(format!("the log was made with another {role}: {}", then.model_sha256));
        } else if then.provider != now.provider {
            let (then, now) = (then.provider.name(), now.provider.name());
            differences.push(format!("the {role} ran on {then}, and runs on {now} here"));
        }
    }
    differences
}

fn report(replay: &Replay, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string_pretty(replay)?);
        return Ok(());
    }
    let counts = (replay.frames, replay.commands_bit_equal, replay.commands_compared, replay.worst_difference);
    print(&format!(
        "{} frames; {} of {} commands equal to the last bit, worst difference {:e}",
        counts.0, counts.1, counts.2, counts.3
    ));
    let then = replay.provider_then.as_deref().unwrap_or("unknown");
    print(&format!("provider then {then}, now {}; loop p50 {:.2} ms", replay.provider_now, replay.loop_p50_millis));
    if replay.commands_excused > 0 {
        print(&format!(
            "{} that differ were shaped by a limit or a hold: at a fixed pace those count by times that no log has",
            replay.commands_excused
        ));
    }
    if replay.commands_without_frame > 0 {
        print(&format!("{} commands of the log answer no frame of it", replay.commands_without_frame));
    }
    replay.differences.iter().for_each(|why| print(&format!("commands may differ: {why}")));
    if let Some(truncation) = &replay.truncation {
        print(&format!("the log ends early: {truncation}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foresee_runtime::{Encoder, RawPixels};

    use super::*;

    #[test]
    fn another_policy_is_told() {
        let report = RawPixels::new(4, 4).report().clone();
        let now = PairReport { encoder: report.clone(), policy: Some(report.clone()) };
        let other = EngineReport { model_sha256: "00ff".to_owned(), ..report.clone() };
        assert_eq!(differences((&Some(report.clone()), &Some(report.clone())), &now), Vec::<String>::new());
        let told = differences((&Some(report), &Some(other)), &now);
        assert!(told.len() == 1 && told[0].contains("another policy: 00ff"), "{told:?}");
    }
}
