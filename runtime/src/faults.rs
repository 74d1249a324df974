//! The fault matrix: the loop with its watchdog on the machine's own clock, one fault at a time, and a judge at the joints.
//!
//! Everything between source and actuator is what serves a robot. Each row runs normally, then under its fault, then
//! normally again.

mod injection;
mod judge;
mod lateness;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use foresee_firmware_config::{CameraProfile, DeviceProfile, Pace, PixelEncoding, WatchdogProfile};
use serde::{Deserialize, Serialize};

use self::injection::{Fault, FaultyEncoder, FaultyPolicy, FaultySource, Injection};
use self::judge::{Judge, Sent};
use crate::control_loop::ControlLoop;
use crate::error::RuntimeError;
use crate::raw_pixels::RawPixels;
use crate::run::{Ends, run};
use crate::time::Clock;
use crate::watchdog::{Watchdog, Watched};

pub use self::lateness::Lateness;

const PERIOD: Duration = Duration::from_millis(20);
const MAX_FRAME_AGE: Duration = Duration::from_millis(100);
const WARM_UP: Duration = Duration::from_millis(300);
/// How long a fault lasts, beyond the time that the joints may need to come to rest.
const FAULT: Duration = Duration::from_millis(500);
const RECOVERY: Duration = Duration::from_millis(500);
/// What a row may take beyond the frame's age and the period for which a command is in force: a look of the watchdog.
const LOOK: Duration = Duration::from_millis(10);

/// A fault is noticed by then: the joints are told something else than what the policy wants.
const DETECTION: Duration = MAX_FRAME_AGE.saturating_add(PERIOD).saturating_add(LOOK);

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
    /// It is to be noticed by then.
    pub detection_limit_millis: f64,
    /// From the fault to the joints being told to rest (or what is in range, where that is all that is wrong; or the safe action, where
    /// every other frame is sound).
    pub safe_action_millis: Option<f64>,
    /// The safe action is due by then, as specified.
    pub limit_millis: f64,
    /// What this machine was measured to be late meanwhile ([`Lateness`]), granted beyond the limits.
    pub lateness_millis: f64,
    /// From the end of the fault (for a latched one: from the operator's word) to the policy being followed again.
    pub recovered_millis: Option<f64>,
    /// Commands that were not finite, out of range, or changed faster than allowed.
    pub unsafe_commands: u64,
    /// Commands in all.
    pub num_commands: u64,
    /// Noticed and safe in time, recovered, and nothing unsafe.
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
            detection_limit_millis: 0.0,
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
    let profile =
        DeviceProfile { camera, extra_cameras, intrinsics: None, pace, watchdog, budget: None, ..profile.clone() };
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
    let (judge, positions, sent) = Judge::new(profile);
    let shift = Arc::<AtomicI64>::default();
    let clock = Clock::Shifted(shift.clone());
    let encoder = FaultyEncoder { sound: RawPixels::new(24, 32), injection: Arc::clone(&injection) };
    let policy = FaultyPolicy { joints: profile.joints.clone(), injection: Arc::clone(&injection) };
    let mut control_loop = ControlLoop::new(Box::new(encoder), Box::new(policy), profile)?.with_clock(clock.clone());
    let filter = control_loop.filter();
    let settling = filter.longest_stop() + PERIOD;
    let watched = Watched { actuator: Box::new(judge), filter: filter.clone(), clock, stop: Arc::default() };
    let (watchdog, mut actuator) = Watchdog::start(watched, profile)?;
    let mut source = FaultySource { injection: Arc::clone(&injection), positions, sequence: 0, began: Instant::now() };
    let stop = AtomicBool::new(false);
    let (began, ended) = std::thread::scope(|scope| {
        let conductor = scope.spawn(|| {
            std::thread::sleep(WARM_UP);
            let began = Instant::now();
            injection.is_on.store(true, Ordering::SeqCst);
            if fault == Fault::ClockJumps {
                shift.store(3600 * 1_000_000_000, Ordering::SeqCst);
            }
            std::thread::sleep(FAULT + settling);
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
    Ok(judge_row((name, fault), &sent, (began, ended, DETECTION + settling), lateness))
}

fn broken_row(name: &str) -> RuntimeError {
    RuntimeError::End { name: "faults".to_owned(), problem: format!("the row `{name}` broke") }
}

fn judge_row(
    (name, fault): (&str, Fault),
    sent: &[Sent],
    (began, ended, limit): (Instant, Instant, Duration),
    lateness: &Lateness,
) -> FaultRow {
    let first = |from: Instant, is_it: &dyn Fn(&Sent) -> bool| {
        let sent = sent.iter().find(|sent| sent.at >= from && is_it(sent));
        sent.map(|sent| sent.at.saturating_duration_since(from).as_secs_f64() * 1e3)
    };
    let detected = first(began, &|sent| !sent.is_free);
    let safe = first(began, &|sent| fault.is_answered_by(sent));
    let recovered = first(ended, &|sent| sent.is_free);
    let unsafe_commands = sent.iter().filter(|sent| !sent.is_safe).count() as u64;
    let late = lateness.between(began, began + limit);
    let is_by =
        |at: Option<f64>, limit: Duration| at.is_some_and(|millis| millis <= (limit + late).as_secs_f64() * 1e3);
    let in_time = is_by(detected, DETECTION) && is_by(safe, limit);
    FaultRow {
        name: name.to_owned(),
        detected_millis: detected,
        detection_limit_millis: DETECTION.as_secs_f64() * 1e3,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_made_safe_and_recovered_from() {
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        let joints = profile.joints.iter().cloned();
        let joints = joints.map(|joint| foresee_firmware_config::JointProfile { max_rate_per_second: 20.0, ..joint });
        let profile = DeviceProfile { joints: joints.collect(), ..profile };
        let (mut num_ramps, mut late) = (0, Vec::new());
        for row in run_faults(&profile).unwrap() {
            late.extend((!row.passed).then(|| row.name.clone()));
            assert_eq!(row.unsafe_commands, 0, "{row:?}");
            let (Some(detected), Some(safe)) = (row.detected_millis, row.safe_action_millis) else { panic!("{row:?}") };
            assert!(row.recovered_millis.is_some(), "{row:?}");
            assert!(detected <= safe, "{row:?}");
            num_ramps += usize::from(detected < safe);
        }
        // A joint of 20 a second comes to rest after it was told to.
        assert!(num_ramps > FAULTS.len() / 2, "{num_ramps} rows");
        // A machine with other work may miss a limit once.
        for _ in 0..3 {
            if late.is_empty() {
                break;
            }
            let again = run_faults(&profile).unwrap();
            late.retain(|name| again.iter().any(|row| row.name == *name && !row.passed));
        }
        assert!(late.is_empty(), "never in time: {late:?}");
    }

    const ACTIONS: [&str; 4] = ["hold", "damp", "stop", "return_home"];

    /// Joints of these kinds, of ranges that do not all hold zero, slow and fast, with and without an acceleration.
    fn arm(kinds: [&str; 3], action: &str) -> DeviceProfile {
        let mut text = format!("inherit = \"desktop-sim\"\n[safety]\naction = \"{action}\"\n");
        for (idx, kind) in kinds.into_iter().enumerate() {
            let (rate, is_position) = ([2.0, 20.0, 8.0][idx], kind == "position_radians");
            let (minimum, maximum) =
                if is_position { ([0.0, 0.4, -3.2][idx], [2.0, 1.4, 3.2][idx]) } else { (-1.0, 0.8) };
            text += &format!(
                "[[joints]]\nname = \"joint {idx}\"\ncommand = \"{kind}\"\nminimum = {minimum:?}\nmaximum = {maximum:?}\n\
                 max_rate_per_second = {rate:?}\n"
            );
            text += if is_position { "home = 0.6\n" } else { "damping_per_radian_per_second = 0.1\n" };
            text += ["", "max_acceleration_per_second_squared = 100.0\n", ""][idx];
            text += if is_position && idx == 2 { "continuous = true\n" } else { "" };
        }
        foresee_firmware_config::parse("arm", &text).unwrap()
    }

    #[test]
    fn no_kind_of_joint_is_commanded_unsafely_in_any_safe_action() {
        let (position, velocity) = ("position_radians", "velocity_radians_per_second");
        let kinds =
            [[position; 3], [velocity; 3], [position, velocity, "torque_newton_metres"], ["torque_normalised"; 3]];
        for (kinds, action) in kinds.into_iter().flat_map(|kinds| ACTIONS.map(|action| (kinds, action))) {
            if action == "return_home" && kinds != [position; 3] {
                continue;
            }
            for row in run_faults(&arm(kinds, action)).unwrap() {
                assert_eq!(row.unsafe_commands, 0, "{kinds:?} {action}: {row:?}");
                let is_answered = row.detected_millis.and(row.safe_action_millis).and(row.recovered_millis).is_some();
                assert!(is_answered, "{kinds:?} {action}: {row:?}");
            }
        }
    }
}
