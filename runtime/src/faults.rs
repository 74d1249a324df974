//! The fault matrix: the loop with its watchdog on the machine's own clock, one fault at a time, and a judge at the joints.
//!
//! Everything between source and actuator is what serves a robot. Each row runs normally, then under its fault, then
//! normally again.

mod lateness;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use foresee_firmware_config::{CameraProfile, DeviceProfile, Pace, PixelEncoding, WatchdogProfile};
use serde::{Deserialize, Serialize};

use crate::card::ModelCard;
use crate::command::Action;
use crate::control_loop::ControlLoop;
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::ends::{Actuator, FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::policy::Policy;
use crate::raw_pixels::RawPixels;
use crate::run::{Ends, run};
use crate::safety::SafeCommand;
use crate::time::{Clock, Stamp};
use crate::watchdog::{Watchdog, Watched};

pub use lateness::Lateness;

const PERIOD: Duration = Duration::from_millis(20);
const MAX_FRAME_AGE: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(300);
const FAULT: Duration = Duration::from_millis(500);
const RECOVERY: Duration = Duration::from_millis(500);
/// What a row may take beyond the frame's age and the period for which a command is in force: a look of the watchdog.
const LOOK: Duration = Duration::from_millis(10);

/// The faults, in the order of the matrix. One line a fault.
const FAULTS: &[(&str, Fault)] = &[
    ("frozen frames", Fault::Frozen),
    ("black frames", Fault::Black),
    ("NaN features", Fault::FeaturesNan),
    ("frames of a wrong size", Fault::WrongSize),
    ("frames cut short", Fault::CutFrames),
    ("frames out of order", Fault::OutOfOrder),
    ("stale frames", Fault::StaleStamps),
    ("camera gone and back", Fault::CameraGone),
    ("inference error", Fault::EncoderFails),
    ("inference hangs", Fault::EncoderHangs),
    ("inference is slow", Fault::EncoderSlow),
    ("policy gives NaN", Fault::PolicyNan),
    ("policy out of range", Fault::PolicyOutOfRange),
    ("policy gives too few values", Fault::PolicyShort),
    ("clock jumps", Fault::ClockJumps),
];

/// One row of the matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRow {
    /// The fault.
    pub name: String,
    /// From the fault to the first sign of it: a command that is not simply the policy's, or a robot that gets none.
    pub detected_millis: Option<f64>,
    /// From the fault to the joints being told the safe action (or what is in range, where that is all that is wrong).
    pub safe_action_millis: Option<f64>,
    /// The safe action is due by then, as specified.
    pub limit_millis: f64,
    /// What this machine was measured to be late meanwhile ([`Lateness`]), granted beyond the limit.
    pub lateness_millis: f64,
    /// From the end of the fault (for a latched one: from the operator's word) to the policy being followed again.
    pub recovered_millis: Option<f64>,
    /// Commands that were not finite, out of range, or changed faster than allowed.
    pub unsafe_commands: u64,
    /// Commands in all.
    pub num_commands: u64,
    /// Safe in time, recovered, and nothing unsafe.
    pub passed: bool,
    /// Why the row was not run on this machine, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

impl FaultRow {
    /// A row that cannot be run here: it does not pass, and is counted apart.
    pub fn skipped(name: &str, reason: String) -> Self {
        Self {
            name: name.to_owned(),
            detected_millis: None,
            safe_action_millis: None,
            limit_millis: 0.0,
            lateness_millis: 0.0,
            recovered_millis: None,
            unsafe_commands: 0,
            num_commands: 0,
            passed: false,
            skipped: Some(reason),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Frozen,
    Black,
    StaleStamps,
    OutOfOrder,
    WrongSize,
    CutFrames,
    CameraGone,
    EncoderFails,
    EncoderHangs,
    EncoderSlow,
    FeaturesNan,
    PolicyNan,
    PolicyShort,
    PolicyOutOfRange,
    ClockJumps,
}

/// Runs every row, all at once: about a second and a half. The joints are those of `profile`, at a fixed pace of 50 Hz and
/// with frames of at most 100 ms.
///
/// # Errors
/// [`RuntimeError`] when a loop or its watchdog cannot be started.
pub fn run_faults(profile: &DeviceProfile) -> Result<Vec<FaultRow>, RuntimeError> {
    let camera = CameraProfile { width: 64, height: 48, encoding: PixelEncoding::Rgb8, ..profile.camera.clone() };
    let pace =
        Pace::Fixed { rate_hertz: 1.0 / PERIOD.as_secs_f64(), max_frame_age_millis: MAX_FRAME_AGE.as_millis() as u64 };
    let watchdog = WatchdogProfile { look_millis: 5, action_timeout_millis: MAX_FRAME_AGE.as_millis() as u64 };
    let extra_cameras = Vec::new();
    let profile = DeviceProfile { camera, extra_cameras, pace, watchdog, budget: None, ..profile.clone() };
    let broken = |problem: &str| RuntimeError::End { name: "faults".to_owned(), problem: problem.to_owned() };
    let lateness = Lateness::start().map_err(|error| broken(&format!("no thread: {error}")))?;
    std::thread::scope(|scope| {
        let spawn = |(name, fault): &(&str, Fault)| {
            let (name, fault, profile, lateness) = ((*name).to_owned(), *fault, &profile, &lateness);
            let row = move || run_row(&name, fault, profile, lateness);
            std::thread::Builder::new().name("foresee-fault".to_owned()).spawn_scoped(scope, row)
        };
        let rows: Vec<_> = FAULTS.iter().map(spawn).collect();
        let join = |row: std::io::Result<std::thread::ScopedJoinHandle<'_, _>>| {
            let row = row.map_err(|error| broken(&format!("no thread: {error}")))?;
            row.join().unwrap_or_else(|_| Err(broken("a row panicked")))
        };
        rows.into_iter().map(join).collect()
    })
}

fn run_row(name: &str, fault: Fault, profile: &DeviceProfile, lateness: &Lateness) -> Result<FaultRow, RuntimeError> {
    let injection = Arc::new(Injection { fault, is_on: AtomicBool::new(false) });
    let (judge, sent) = Judge::new(profile);
    let shift = Arc::<AtomicI64>::default();
    let clock = Clock::Shifted(shift.clone());
    let encoder = FaultyEncoder { sound: RawPixels::new(24, 32), injection: Arc::clone(&injection) };
    let policy = FaultyPolicy { num_joints: profile.joints.len(), injection: Arc::clone(&injection) };
    let mut control_loop = ControlLoop::new(Box::new(encoder), Box::new(policy), profile)?.with_clock(clock.clone());
    let filter = control_loop.filter();
    let watched = Watched { actuator: Box::new(judge), filter: filter.clone(), clock, stop: Arc::default() };
    let (watchdog, mut actuator) = Watchdog::start(watched, profile)?;
    let mut source = FaultySource { injection: Arc::clone(&injection), sequence: 0, began: Instant::now() };
    let stop = AtomicBool::new(false);
    let (began, ended) = std::thread::scope(|scope| {
        let conductor = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            let began = Instant::now();
            injection.is_on.store(true, Ordering::SeqCst);
            if fault == Fault::ClockJumps {
                shift.store(3600 * 1_000_000_000, Ordering::SeqCst);
            }
            std::thread::sleep(FAULT);
            injection.is_on.store(false, Ordering::SeqCst);
            shift.store(0, Ordering::SeqCst);
            if fault == Fault::EncoderHangs || fault == Fault::EncoderSlow {
                // What hung answers once more.
                std::thread::sleep(PERIOD);
            }
            let ended = Instant::now();
            // The operator's word, without which what is latched stays so.
            filter.clear_fault();
            std::thread::sleep(RECOVERY);
            stop.store(true, Ordering::SeqCst);
            (began, ended)
        });
        let ends = Ends { source: &mut source, actuator: &mut actuator };
        let ran = run(ends, &mut control_loop, &stop, &mut |_| Ok(()));
        // The conductor only sleeps and counts time; it does not panic.
        conductor.join().map_or_else(|_| Err(ran.is_err()), Ok).map_err(|_| broken_row(name))
    })?;
    watchdog.finish()?;
    let sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(judge_row(name, &sent, (began, ended), lateness))
}

fn broken_row(name: &str) -> RuntimeError {
    RuntimeError::End { name: "faults".to_owned(), problem: format!("the row `{name}` broke") }
}

fn judge_row(name: &str, sent: &[Sent], (began, ended): (Instant, Instant), lateness: &Lateness) -> FaultRow {
    let millis = |from: Instant, at: Instant| at.saturating_duration_since(from).as_secs_f64() * 1e3;
    let safe = sent.iter().find(|sent| sent.at >= began && !sent.is_free).map(|sent| millis(began, sent.at));
    let recovered = sent.iter().find(|sent| sent.at >= ended && sent.is_free).map(|sent| millis(ended, sent.at));
    let unsafe_commands = sent.iter().filter(|sent| !sent.is_safe).count() as u64;
    let limit = MAX_FRAME_AGE + PERIOD + LOOK;
    let late = lateness.between(began, began + limit);
    let in_time = safe.is_some_and(|millis| millis <= (limit + late).as_secs_f64() * 1e3);
    FaultRow {
        name: name.to_owned(),
        detected_millis: safe,
        safe_action_millis: safe,
        limit_millis: limit.as_secs_f64() * 1e3,
        lateness_millis: late.as_secs_f64() * 1e3,
        recovered_millis: recovered,
        unsafe_commands,
        num_commands: sent.len() as u64,
        passed: in_time && recovered.is_some() && unsafe_commands == 0,
        skipped: None,
    }
}

#[derive(Debug)]
struct Injection {
    fault: Fault,
    is_on: AtomicBool,
}

impl Injection {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault && self.is_on.load(Ordering::SeqCst)
    }
}

/// A camera at the loop's rate.
struct FaultySource {
    injection: Arc<Injection>,
    sequence: u64,
    began: Instant,
}

impl FrameSource for FaultySource {
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        if self.injection.is(Fault::CameraGone) {
            std::thread::sleep(timeout);
            return Ok(SourceEvent::TimedOut);
        }
        let brightness = (self.began.elapsed().as_secs_f64() * 6.0).sin() * 100.0 + 128.0;
        let frame = &mut observation.frame;
        (frame.width, frame.height) = (64, 48);
        frame.data.resize(64 * 48 * 3, 0);
        frame.stamp = Clock::Wall.now();
        (frame.sequence, self.sequence) = (self.sequence, self.sequence + 1);
        if !self.injection.is(Fault::Frozen) {
            // A picture with the noise of a sensor.
            let noise = self.sequence;
            let bytes = (0_u64..).zip(&mut frame.data);
            bytes.for_each(|(at, byte)| *byte = brightness as u8 + ((at * 31 + noise * 17) % 23) as u8);
        }
        let back = |stamp: Stamp, by: Duration| Stamp { nanos: stamp.nanos.saturating_sub(by.as_nanos() as u64) };
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::Black => frame.data.fill(0),
            Fault::StaleStamps => frame.stamp = back(frame.stamp, 3 * MAX_FRAME_AGE),
            Fault::OutOfOrder if self.sequence.is_multiple_of(2) => frame.stamp = back(frame.stamp, MAX_FRAME_AGE / 2),
            Fault::WrongSize => (frame.width, frame.height) = (48, 64),
            Fault::CutFrames => frame.data.truncate(1000),
            _ => {}
        }
        observation.joints.stamp = observation.frame.stamp;
        Ok(SourceEvent::Observed)
    }

    fn num_dropped(&self) -> u64 {
        0
    }
}

struct FaultyEncoder {
    sound: RawPixels,
    injection: Arc<Injection>,
}

impl Encoder for FaultyEncoder {
    fn card(&self) -> &ModelCard {
        self.sound.card()
    }

    fn report(&self) -> &EngineReport {
        self.sound.report()
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::EncoderFails => {
                let problem = "on purpose".to_owned();
                return Err(RuntimeError::Inference { model: self.card().name.clone(), problem });
            }
            Fault::EncoderHangs => {
                while self.injection.is(Fault::EncoderHangs) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Fault::EncoderSlow => std::thread::sleep(2 * MAX_FRAME_AGE),
            _ => {}
        }
        self.sound.encode(input, features)?;
        if self.injection.is(Fault::FeaturesNan) {
            features.cls.fill(f32::NAN);
        }
        Ok(())
    }
}

/// The image's brightness as a command, for every joint.
struct FaultyPolicy {
    num_joints: usize,
    injection: Arc<Injection>,
}

impl Policy for FaultyPolicy {
    fn reset(&mut self) {}

    fn act(&mut self, features: &Features, _joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let brightness = features.cls.iter().sum::<f32>() / features.cls.len().max(1) as f32;
        action.values.clear();
        action.values.resize(self.num_joints, f64::from(brightness));
        match self.injection.fault {
            _ if !self.injection.is_on.load(Ordering::SeqCst) => {}
            Fault::PolicyNan => action.values.fill(f64::NAN),
            Fault::PolicyShort => action.values.truncate(self.num_joints.saturating_sub(1)),
            Fault::PolicyOutOfRange => action.values.fill(1e6),
            _ => {}
        }
        Ok(())
    }
}

/// A command as it reached the joints.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Instant,
    /// Neither held nor clamped.
    is_free: bool,
    is_safe: bool,
}

/// The joints: looks at every command.
struct Judge {
    limits: Vec<(f64, f64, f64)>,
    last: Option<SafeCommand>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl Judge {
    fn new(profile: &DeviceProfile) -> (Self, Arc<Mutex<Vec<Sent>>>) {
        let limits = profile.joints.iter().map(|joint| (joint.minimum, joint.maximum, joint.max_rate_per_second));
        let sent = Arc::<Mutex<Vec<Sent>>>::default();
        (Self { limits: limits.collect(), last: None, sent: Arc::clone(&sent) }, sent)
    }

    fn is_safe(&self, command: &SafeCommand) -> bool {
        let elapsed = self.last.as_ref().map_or(PERIOD, |last| command.time().since(last.time()));
        command.values().len() == self.limits.len()
            && command.values().iter().zip(&self.limits).enumerate().all(|(joint_idx, (value, limits))| {
                let (minimum, maximum, rate) = limits;
                let last = self.last.as_ref().and_then(|last| last.values().get(joint_idx));
                let change = (value - last.copied().unwrap_or(0.0)).abs();
                let is_in_rate = change <= rate * elapsed.min(2 * PERIOD).as_secs_f64() + 1e-12;
                value.is_finite() && (minimum..=maximum).contains(&value) && is_in_rate
            })
    }
}

impl Actuator for Judge {
    fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        let verdict = command.verdict();
        let is_free = verdict.held.is_none() && verdict.num_clamped == 0;
        let sent = Sent { at: Instant::now(), is_free, is_safe: self.is_safe(command) };
        self.last = Some(command.clone());
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_made_safe_and_recovered_from() {
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        let joints = profile.joints.iter().cloned();
        let joints = joints.map(|joint| foresee_firmware_config::JointProfile { max_rate_per_second: 20.0, ..joint });
        let profile = DeviceProfile { joints: joints.collect(), ..profile };
        for row in run_faults(&profile).unwrap() {
            assert_eq!(row.unsafe_commands, 0, "{row:?}");
            assert!(row.safe_action_millis.is_some() && row.recovered_millis.is_some(), "{row:?}");
        }
    }
}
