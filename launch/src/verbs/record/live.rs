//! `foresee record` without a task: a live robot over zenoh, into demonstrations.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, bail};
use foresee_firmware_config::{DeviceProfile, ZenohMode};
use foresee_runtime::{LiveCounts, LiveLimits, LiveLog, LogHeader, LogWriter, ZenohLink};
use serde::Serialize;

use super::Arguments;
use crate::progress::bar;
use crate::words::{print, say};
use crate::{log_room, machine, trail};

/// Logs of one folder.
const MOST_LOGS: u32 = 1_000_000;

#[derive(Serialize)]
struct Recorded {
    log: PathBuf,
    frames: u64,
    extra_frames: u64,
    joint_states: u64,
    joint_commands: u64,
    expert_commands: u64,
    unreadable: u64,
    dropped: u64,
}

/// Records what the profile's robot and its teleoperator send, until Ctrl-C or the time is over: one log, one demonstration.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(super) fn act(arguments: &Arguments, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    let named = arguments
        .profile
        .as_deref()
        .context("name a task to simulate, such as dmc/reacher-easy, or a robot to record with --profile NAME|FILE")?;
    let profile = foresee_firmware_config::load(named)?;
    let link = open_link(arguments, &profile)?;
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("--out {}: cannot be made", arguments.out.display()))?;
    let path = free_name(&arguments.out)?;
    // Under its own name from the start: a log is whole after a kill at any moment.
    let writer = LogWriter::create(&path, &header(&profile, foresee_firmware_config::show(named)?))?;
    let max_bytes = machine::free_bytes(&arguments.out).map_or(u64::MAX, |free| free / 2);
    log_room::warning(&profile, max_bytes).iter().for_each(|line| say(line));
    say(&format!("record: robot {}, into {}; Ctrl-C ends the demonstration", profile.robot, path.display()));
    let live = LiveLog::new(&link, &profile, writer)?;
    let progress_bar = bar(0);
    let mut observe = |counts: &LiveCounts| progress_bar.set_message(in_words(counts));
    let duration = arguments.seconds.map(Duration::try_from_secs_f64).transpose();
    let duration = duration.with_context(|| "--seconds: give a positive number")?;
    let (counts, problem) = live.run(LiveLimits { duration, max_bytes }, stop, &mut observe)?;
    progress_bar.finish_and_clear();
    link.close()?;
    if let Some(problem) = problem {
        say(&format!("record: {} messages could not be read, the first of them {problem}", counts.num_unreadable));
    }
    if counts.num_frames == 0 {
        std::fs::remove_file(&path).with_context(|| format!("{}: cannot be removed", path.display()))?;
        let endpoints =
            profile.zenoh.connect.iter().chain(&profile.zenoh.listen).cloned().collect::<Vec<_>>().join(", ");
        bail!(
            "no image came on foresee/{}/camera/image over {endpoints}; start the robot, or give its address with --endpoint",
            profile.robot
        );
    }
    trail::leave(&arguments.out, [])?;
    report(arguments, path, &counts)?;
    Ok(ExitCode::SUCCESS)
}

fn report(arguments: &Arguments, log: PathBuf, counts: &LiveCounts) -> anyhow::Result<()> {
    if counts.num_joint_states == 0 {
        say("record: no joint_states came: train bc cannot use this log");
    }
    if counts.num_commands + counts.num_expert_commands == 0 {
        say("record: neither expert_command nor joint_command came: train bc cannot use this log");
    }
    if counts.num_dropped > 0 {
        say(&format!("record: {} messages found no room: the disk is too slow", counts.num_dropped));
    }
    if !arguments.json {
        print(&format!("{}: {}", log.display(), in_words(counts)));
        return Ok(());
    }
    let recorded = Recorded {
        log,
        frames: counts.num_frames,
        extra_frames: counts.num_extra_frames,
        joint_states: counts.num_joint_states,
        joint_commands: counts.num_commands,
        expert_commands: counts.num_expert_commands,
        unreadable: counts.num_unreadable,
        dropped: counts.num_dropped,
    };
    print(&serde_json::to_string_pretty(&recorded)?);
    Ok(())
}

fn in_words(counts: &LiveCounts) -> String {
    let LiveCounts { num_frames, num_extra_frames, num_joint_states, num_commands, num_expert_commands, .. } = counts;
    let extra = if *num_extra_frames > 0 { format!(" and {num_extra_frames} of other cameras") } else { String::new() };
    format!(
        "{num_frames} frames{extra}, {num_joint_states} joint states, {num_commands} joint commands, {num_expert_commands} expert commands"
    )
}

fn open_link(arguments: &Arguments, profile: &DeviceProfile) -> anyhow::Result<ZenohLink> {
    let mut zenoh = profile.zenoh.clone();
    if let Some(endpoint) = &arguments.endpoint {
        zenoh.connect = vec![endpoint.clone()];
    }
    if let Some(endpoint) = &arguments.listen {
        if zenoh.mode == ZenohMode::Client {
            bail!("--listen {endpoint}: profile {} is a client of a router and listens nowhere", profile.name);
        }
        zenoh.listen = vec![endpoint.clone()];
    }
    Ok(ZenohLink::open(&profile.robot, &zenoh)?)
}

fn header(profile: &DeviceProfile, toml: String) -> LogHeader {
    LogHeader {
        robot: profile.robot.clone(),
        profile: profile.name.clone(),
        joints: profile.joints.iter().map(|joint| joint.name.clone()).collect(),
        cameras: profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect(),
        git_revision: machine::GIT_REVISION.to_owned(),
        ..LogHeader::default()
    }
    .with_profile(toml)
}

/// The first name of the folder that is not taken.
fn free_name(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut names = (1..=MOST_LOGS).map(|number| folder.join(format!("demonstration-{number:06}.mcap")));
    names.find(|path| !path.exists()).with_context(|| format!("--out {}: is full", folder.display()))
}
