//! The run: from event to event until the source has no more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foresee_firmware_config::{Pace, Provider};

use crate::control_loop::{ControlLoop, TickReport, nanos_since};
use crate::ends::{Actuator, Episode, FrameSource, Observation, SourceEvent, send};
use crate::error::RuntimeError;
use crate::rig::CameraRig;
use crate::safety::{Hold, SafeCommand};
use crate::time::Clock;

/// How long the run waits for an event before it looks whether it was asked to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What a run tells while it goes. Whoever listens must not hold the loop back.
#[derive(Debug)]
pub enum LoopEvent<'a> {
    /// A frame was answered.
    Ticked {
        /// What was seen.
        observation: &'a Observation,
        /// What was sent, unless it is empty.
        command: &'a SafeCommand,
        /// How the tick went.
        report: TickReport,
        /// The failing stage's words, if one failed.
        failure: Option<&'a RuntimeError>,
        /// Frames lost before the loop so far.
        num_dropped: u64,
        /// Messages that could not be read so far.
        num_unreadable: u64,
        /// Times that the sequence of a stream went back so far.
        num_restarts: u64,
        /// The cameras, with their accounts so far.
        cameras: &'a CameraRig,
        /// What ran the encoder.
        provider: Provider,
    },
    /// An episode began.
    EpisodeStarted(&'a Episode),
    /// An episode is over.
    EpisodeEnded(&'a Episode),
    /// Nothing came for a while; the loop goes on waiting.
    Waiting {
        /// Why the safe action is taken meanwhile; `None` while the last frame is not too old, and in lockstep, where time stands still.
        held: Option<Hold>,
        /// Messages that could not be read so far.
        num_unreadable: u64,
        /// Times that the sequence of a stream went back so far.
        num_restarts: u64,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The source has no more.
    Finished,
    /// The stop flag was set.
    Stopped,
}

/// The two ends of a run.
pub struct Ends<'a> {
    /// Where observations come from.
    pub source: &'a mut dyn FrameSource,
    /// Where commands go.
    pub actuator: &'a mut dyn Actuator,
}

/// Answers observation after observation until the source has no more or `stop` is set. At a fixed pace it waits for each period,
/// takes the safe action once the last frame is older than frames may be, and stops the joints before it ends, however it ends.
///
/// # Errors
/// What an end says when it is broken for good. A failing stage inside a tick is not an error: the safety filter answers it.
pub fn run(
    mut ends: Ends<'_>,
    control_loop: &mut ControlLoop,
    stop: &AtomicBool,
    listener: &mut dyn FnMut(LoopEvent<'_>) -> Result<(), RuntimeError>,
) -> Result<RunEnd, RuntimeError> {
    let mut observation = control_loop.blank();
    let is_fixed = matches!(control_loop.pace, Pace::Fixed { .. });
    // Replayed time is as fast as the log is read.
    let mut metronome = match control_loop.clock {
        Clock::Driven(_) => None,
        _ => is_fixed.then(|| Metronome::new(control_loop.pace.period())),
    };
    let ended = loop {
        if stop.load(Ordering::Relaxed) {
            break Ok(RunEnd::Stopped);
        }
        match step(&mut ends, control_loop, &mut observation, listener) {
            Ok(Stepped::Ticked) => metronome.iter_mut().for_each(Metronome::wait),
            Ok(Stepped::Heard) => {}
            Ok(Stepped::Finished) => break Ok(RunEnd::Finished),
            Err(error) => break Err(error),
        }
    };
    if is_fixed {
        control_loop.stop();
        let stopped = send(ends.actuator, observation.frame.sequence, control_loop.command());
        return ended.and_then(|ended| stopped.map(|()| ended));
    }
    ended
}

enum Stepped {
    Ticked,
    Heard,
    Finished,
}

/// One event of the source.
fn step(
    ends: &mut Ends<'_>,
    control_loop: &mut ControlLoop,
    observation: &mut Observation,
    listener: &mut dyn FnMut(LoopEvent<'_>) -> Result<(), RuntimeError>,
) -> Result<Stepped, RuntimeError> {
    let patience = control_loop.time_to_hold(observation.frame.stamp).map_or(LOOK_UP, |left| left.min(LOOK_UP));
    match ends.source.next(observation, patience)? {
        SourceEvent::Observed => {
            let arrived = ends.source.arrived();
            let wait_nanos = arrived.map(nanos_since);
            let arrival_nanos = control_loop.arrival_nanos(observation.frame.stamp, wait_nanos);
            let report = TickReport { arrival_nanos, wait_nanos, ..control_loop.tick(observation) };
            let (command, failure) = (control_loop.command(), control_loop.failure());
            if command.is_empty() && matches!(control_loop.pace, Pace::Lockstep { .. }) {
                let problem = "a joint state that is not finite came with an episode's first frame; in lockstep there is no going on without an answer";
                return Err(RuntimeError::End { name: "robot".to_owned(), problem: problem.to_owned() });
            }
            let started = Instant::now();
            send(ends.actuator, observation.frame.sequence, command)?;
            let report = TickReport { publish_nanos: Some(nanos_since(started)), ..report };
            let (num_dropped, num_unreadable) = (ends.source.num_dropped(), ends.source.num_unreadable());
            let (cameras, provider) = (control_loop.cameras(), control_loop.encoder().report().provider);
            listener(LoopEvent::Ticked {
                observation,
                command,
                report,
                failure,
                num_dropped,
                num_unreadable,
                num_restarts: ends.source.num_restarts(),
                cameras,
                provider,
            })?;
            return Ok(Stepped::Ticked);
        }
        SourceEvent::EpisodeStarted(episode) => {
            control_loop.reset();
            listener(LoopEvent::EpisodeStarted(&episode))?;
        }
        SourceEvent::EpisodeEnded(episode) => listener(LoopEvent::EpisodeEnded(&episode))?,
        SourceEvent::Finished => return Ok(Stepped::Finished),
        SourceEvent::TimedOut => {
            let mut held = None;
            if control_loop.is_too_old(observation.frame.stamp) {
                control_loop.hold(Hold::StaleFrame);
                control_loop.forget();
                send(ends.actuator, observation.frame.sequence, control_loop.command())?;
                held = control_loop.command().verdict().held;
            }
            let (num_unreadable, num_restarts) = (ends.source.num_unreadable(), ends.source.num_restarts());
            listener(LoopEvent::Waiting { held, num_unreadable, num_restarts })?;
        }
    }
    Ok(Stepped::Heard)
}

/// The period of a fixed pace.
struct Metronome {
    period: Duration,
    deadline: Instant,
}

impl Metronome {
    fn new(period: Duration) -> Self {
        Self { period, deadline: Instant::now() }
    }

    /// Waits until the next period begins. A loop that is late goes on at once, does not catch up with periods that are over, and
    /// stays on the beat: frames that come on it too do not wait from then on.
    fn wait(&mut self) {
        let left = self.next(Instant::now());
        std::thread::sleep(left);
    }

    fn next(&mut self, now: Instant) -> Duration {
        self.deadline += self.period;
        if let Some(late) = now.checked_duration_since(self.deadline) {
            let num_over = late.as_nanos() / self.period.as_nanos().max(1);
            self.deadline += self.period.saturating_mul(u32::try_from(num_over).unwrap_or(u32::MAX));
        }
        self.deadline.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_loop_stays_on_the_beat() {
        let (began, millis) = (Instant::now(), Duration::from_millis);
        let mut metronome = Metronome { period: millis(20), deadline: began };
        // Now, and how long is waited: on time, late by 5 ms, on time again, late by two periods and 7 ms, on time.
        for (now, left) in [(4, 16), (45, 0), (52, 8), (127, 0), (133, 7), (141, 19)] {
            assert_eq!(metronome.next(began + millis(now)), millis(left), "at {now}");
        }
    }
}
