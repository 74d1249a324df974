//! `foresee replay`: a log's observations through the loop again, and its commands compared to the last bit.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use foresee_runtime::{
    CommandRecorder, ControlLoop, Ends, FrameSource, LogSource, LoopEvent, LoopStatistics, RecordedCommand,
};
use serde::Serialize;

use crate::models::ModelArguments;
use crate::stop;
use crate::words::{print, say};

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
    frames_missing_in_log: u64,
    /// Why the log ends early, if it does.
    truncation: Option<String>,
    provider_then: Option<String>,
    provider_now: String,
    loop_p50_millis: f64,
}

/// Exit code 1 when a command differs although the same models ran on the same provider.
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
    let now = encoder.report().clone();
    let then = source.header().encoder.clone();
    if then.as_ref().is_some_and(|then| then.model_sha256 != now.model_sha256) {
        say("replay: the log was made with another encoder: commands will differ");
    }
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
    let is_same_engine =
        then.as_ref().is_some_and(|then| (then.provider, &then.model_sha256) == (now.provider, &now.model_sha256));
    let replay = Replay {
        log: arguments.log.clone(),
        frames: num_frames,
        commands_compared: compared.num_compared,
        commands_bit_equal: compared.num_equal,
        worst_difference: compared.worst,
        frames_missing_in_log: source.num_dropped(),
        truncation: source.truncation().map(str::to_owned),
        provider_then: then.map(|then| then.provider.name().to_owned()),
        provider_now: now.provider.name().to_owned(),
        loop_p50_millis: statistics.total.quantile_millis(0.5),
    };
    report(&replay, arguments.json)?;
    let is_as_then = compared.num_equal == compared.num_compared;
    Ok(ExitCode::from(u8::from(is_same_engine && !is_as_then && replay.frames_missing_in_log == 0)))
}

struct Compared {
    num_compared: u64,
    num_equal: u64,
    worst: f64,
}

/// Commands of equal stamps, in order; what only one side has (the log's end was lost, the loop's last stop) is not compared.
fn compare(recorded: &[RecordedCommand], replayed: &[RecordedCommand]) -> Compared {
    let mut compared = Compared { num_compared: 0, num_equal: 0, worst: 0.0 };
    for (then, now) in recorded.iter().zip(replayed).filter(|(then, now)| then.stamp == now.stamp) {
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
    if let Some(truncation) = &replay.truncation {
        print(&format!("the log ends early: {truncation}"));
    }
    Ok(())
}
