//! What stands beside a running loop: the watchdog, the operator's word, the scheduling, and an end even when the loop hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use foresee_firmware_config::{DeviceProfile, Pace, STOPPED};
use foresee_runtime::{
    Actuator, Clock, CommandTap, ControlLoop, Hearing, RecordedActuator, Scheduled, SharedFilter, Watchdog,
    WatchdogSummary, Watched, ZenohActuator, ZenohLink, lock_memory, show_joints,
};

use crate::stop::Stop;
use crate::words::{say, say_later, settle};

/// A loop that was asked to stop and hangs is left after this, and once its joints are at rest.
const HANG_PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);

/// Guards a run; ended with [`Guard::finish`].
pub(crate) struct Guard {
    watchdog: Option<Watchdog>,
    has_ended: Arc<AtomicBool>,
    signals: Stop,
    _hearings: Vec<Hearing>,
}

impl Guard {
    /// Starts what the pace needs; gives the actuator that the loop is to use. At a fixed pace the joints are stopped even while
    /// the loop hangs; in lockstep time stands still with it.
    ///
    /// # Errors
    /// One line: no thread, or no zenoh.
    pub(crate) fn start(
        link: &ZenohLink,
        profile: &DeviceProfile,
        control_loop: &ControlLoop,
        (signals, tap): (&Stop, Option<CommandTap>),
    ) -> anyhow::Result<(Self, Box<dyn Actuator>)> {
        let stop = &signals.flag;
        let direct: Box<dyn Actuator + Send> = Box::new(ZenohActuator::new(link, profile)?);
        // At the very end: what the watchdog sends is recorded, and what it refuses is not.
        let direct = match tap {
            Some(tap) => Box::new(RecordedActuator { actuator: direct, tap }),
            None => direct,
        };
        let mut hearings = vec![hear_stop(link, stop)?, hear_clear(link, control_loop)?];
        let has_ended = Arc::<AtomicBool>::default();
        if let Pace::Lockstep { .. } = profile.pace {
            let signals = signals.clone();
            return Ok((Self { watchdog: None, has_ended, signals, _hearings: hearings }, direct));
        }
        hearings.push(show_joints(link, profile, control_loop.filter())?);
        let watched =
            Watched { actuator: direct, filter: control_loop.filter(), clock: Clock::Wall, stop: Arc::clone(stop) };
        let (watchdog, actuator) = Watchdog::start(watched, profile)?;
        leave_when_hung(signals.clone(), Arc::clone(&has_ended), control_loop.filter())?;
        signals.guard()?;
        let signals = signals.clone();
        Ok((Self { watchdog: Some(watchdog), has_ended, signals, _hearings: hearings }, Box::new(actuator)))
    }

    /// The safe action until the joints rest; says, and gives, what the watchdog did.
    ///
    /// # Errors
    /// What the actuator said when the joints could not be stopped, and the joints that did not come to rest.
    pub(crate) fn finish(self) -> anyhow::Result<WatchdogSummary> {
        self.has_ended.store(true, Ordering::Release);
        let Some(watchdog) = self.watchdog else { return Ok(WatchdogSummary::default()) };
        let finished = watchdog.finish();
        self.signals.release();
        let summary = finished?;
        if summary.num_trips > 0 {
            let (trips, refused) = (summary.num_trips, summary.num_refused);
            say(&format!(
                "watchdog: took the safe action {trips} times, refused {refused} commands that came too late"
            ));
        }
        Ok(summary)
    }
}

fn hear_stop(link: &ZenohLink, stop: &Arc<AtomicBool>) -> anyhow::Result<Hearing> {
    let stop = Arc::clone(stop);
    let heard = move || {
        stop.store(true, Ordering::Release);
        say_later("stop: the operator said so");
    };
    link.hear("stop", heard).map_err(Into::into)
}

fn hear_clear(link: &ZenohLink, control_loop: &ControlLoop) -> anyhow::Result<Hearing> {
    let filter = control_loop.filter();
    let heard = move || {
        filter.clear_fault();
        say_later("clear_fault: the operator said so");
    };
    link.hear("clear_fault", heard).map_err(Into::into)
}

/// This thread as the loop's, while what is given lives: nothing else is to be started meanwhile, or made of what was measured. Nothing
/// in lockstep.
pub(crate) fn scheduled(profile: &DeviceProfile) -> Option<Scheduled> {
    let is_fixed = matches!(profile.pace, Pace::Fixed { .. });
    is_fixed.then(|| Scheduled::begin(&profile.threads, &profile.threads.control))
}

/// Says what became of the profile's wishes; keeps the process's pages in memory, if that is one of them.
pub(crate) fn say_scheduled(profile: &DeviceProfile, scheduled: &Scheduled) {
    let memory = profile.threads.lock_memory.then(lock_memory);
    for report in scheduled.reports.iter().chain(&memory) {
        match report {
            Ok(told) => say(&format!("scheduling: {told}")),
            Err(told) => say(&format!("scheduling: not permitted: {told}")),
        }
    }
}

/// Ends the process when the loop does not return from a stop: an inference may hang for ever.
#[expect(clippy::exit, reason = "the loop's thread cannot be made to return; the joints are stopped")]
fn leave_when_hung(signals: Stop, has_ended: Arc<AtomicBool>, filter: SharedFilter) -> anyhow::Result<()> {
    let wait = move || {
        while !signals.flag.load(Ordering::Acquire) {
            std::thread::sleep(LOOK);
        }
        let (began, patience) = (Instant::now(), filter.stop_patience());
        std::thread::sleep(HANG_PATIENCE);
        while !has_ended.load(Ordering::Acquire) && !filter.moving().is_empty() && began.elapsed() < patience {
            std::thread::sleep(LOOK);
        }
        if !has_ended.load(Ordering::Acquire) {
            let joints = match filter.moving().join(", ") {
                none if none.is_empty() => "the joints were stopped by the watchdog".to_owned(),
                moving => format!("{moving} did not come to rest; look at the robot"),
            };
            say_later(&format!("the loop hangs: left without a result; {joints}"));
            settle();
            signals.end_as_asked();
            std::process::exit(i32::from(STOPPED));
        }
    };
    std::thread::Builder::new().name("foresee-leave".to_owned()).spawn(wait).context("thread").map(drop)
}
