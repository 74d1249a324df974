//! `foresee replay`: a log's observations through the loop again, and its commands compared to the last bit.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use foresee_firmware_config::Pace;
use foresee_runtime::{
    CommandRecorder, ControlLoop, Ends, EngineReport, FrameSource, LogSource, LoopEvent, LoopStatistics, PairReport,
    RecordedCommand,
};
use serde::Serialize;

use crate::models::ModelArguments;
use crate::stop;
use crate::words::print;

/// Arguments of `foresee replay`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The log, such as runs/demo/log.mcap
    log: PathBuf,
    /// Robot [default: the log's]
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
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
}

/// Exit code 1 when a command differs although nothing is known that would make it differ.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let named = match &arguments.profile {
        Some(named) => named.clone(),
        None => foresee_runtime::LogReader::open(&arguments.log)?.header().profile.clone(),
    };
    let log = arguments.log.display();
    if named.is_empty() {
        bail!("{log}: does not say of which profile it is; give --profile NAME|FILE");
    }
    let profile = foresee_firmware_config::load(&named);
    let profile = match &arguments.profile {
        Some(_) => profile?,
        None => profile.with_context(|| {
            format!("{log} is of profile `{named}`, which is found by no name here; give its file with --profile FILE")
        })?,
    };
    let mut source = LogSource::open(&arguments.log, &profile)?;
    let (encoder, policy) = arguments.models.open(&profile)?;
    let now = PairReport::of(encoder.as_ref(), policy.as_ref());
    let header = source.header();
    let then = (header.encoder.clone(), header.policy.clone());
    let mut differences = differences((&then.0, &then.1), &now);
    let mut control_loop = ControlLoop::new(encoder, policy, &profile)?.with_clock(source.clock());
    let mut actuator = CommandRecorder::default();
    let mut statistics = LoopStatistics::default();
    let mut num_frames = 0;
    let mut listen = |event: LoopEvent<'_>| {
        if let LoopEvent::Ticked { report, .. } = event {
            statistics.record(&report);
            num_frames += 1;
        }
        Ok(())
    };
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    foresee_runtime::run(ends, &mut control_loop, &stop, &mut listen)?;
    if num_frames == 0 {
        match source.truncation() {
            Some(why) => bail!("{log}: holds no frame that can be read: {why}"),
            None => bail!("{log}: holds no frame; was it recorded with foresee run or foresee record?"),
        }
    }
    let compared = compare(source.recorded(), &actuator.commands);
    if source.num_swaps() > 0 {
        differences.push(format!("other models took over {} times while the log was made", source.num_swaps()));
    }
    if let Pace::Fixed { .. } = profile.pace {
        differences.push(
            "at a fixed pace a limit counts by the time at which a command was made, and by what the watchdog did between two frames: a log has neither"
                .to_owned(),
        );
    }
    let replay = Replay {
        log: arguments.log.clone(),
        frames: num_frames,
        commands_compared: compared.num_compared,
        commands_bit_equal: compared.num_equal,
        worst_difference: compared.worst,
        frames_missing_in_log: source.num_dropped(),
        truncation: source.truncation().map(str::to_owned),
        commands_without_frame: source.recorded().len() as u64 - compared.num_compared,
        provider_then: then.0.map(|then| then.provider.name().to_owned()),
        provider_now: now.encoder.provider.name().to_owned(),
        differences,
        loop_p50_millis: statistics.total.quantile_millis(0.5),
    };
    report(&replay, arguments.json)?;
    let is_as_then = compared.num_equal == compared.num_compared;
    let may_differ = !replay.differences.is_empty() || replay.frames_missing_in_log > 0;
    Ok(ExitCode::from(u8::from(!is_as_then && !may_differ)))
}

struct Compared {
    num_compared: u64,
    num_equal: u64,
    worst: f64,
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

/// A command of the log is looked for among so many of the replay's.
const WINDOW: usize = 256;

/// Commands of equal stamps, in order. What only one side has (what the watchdog commanded, the last stop, a lost end) is not compared.
fn compare(recorded: &[RecordedCommand], replayed: &[RecordedCommand]) -> Compared {
    let mut compared = Compared { num_compared: 0, num_equal: 0, worst: 0.0 };
    let mut rest = replayed;
    for then in recorded {
        let Some(found) = rest.iter().take(WINDOW).position(|now| now.stamp == then.stamp) else { continue };
        let Some((now, behind)) = rest.get(found..).and_then(<[_]>::split_first) else { continue };
        rest = behind;
        let bits = |command: &RecordedCommand| command.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        compared.num_compared += 1;
        compared.num_equal += u64::from(bits(then) == bits(now));
        let differences = then.values.iter().zip(&now.values).map(|(then, now)| (then - now).abs());
        compared.worst = differences.fold(compared.worst, f64::max);
    }
    compared
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
    use foresee_runtime::{Encoder, RawPixels, Stamp};

    use super::*;

    #[test]
    fn commands_without_a_frame_do_not_shift_the_others() {
        let commands = |stamps: &[(u64, f64)]| -> Vec<RecordedCommand> {
            let command =
                |(nanos, value): &(u64, f64)| RecordedCommand { stamp: Stamp { nanos: *nanos }, values: vec![*value] };
            stamps.iter().map(command).collect()
        };
        // Two episodes on simulated time; the watchdog commanded at 7 and 8, and a stop came last.
        let recorded = commands(&[(1, 0.1), (2, 0.2), (7, 0.0), (8, 0.0), (1, 0.3), (2, 0.4), (99, 0.0)]);
        let replayed = commands(&[(1, 0.1), (2, 0.2), (1, 0.3), (2, 0.5), (50, 0.0)]);
        let Compared { num_compared, num_equal, worst } = compare(&recorded, &replayed);
        assert_eq!((num_compared, num_equal), (4, 3));
        assert!((worst - 0.1).abs() < 1e-12);
    }

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
