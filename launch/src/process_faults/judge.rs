//! What a row came to: when the fault was noticed, when it was safe, and whether both were in time.

use std::time::{Duration, Instant};

use foresee_runtime::FaultRow;

use super::bench::{Bench, Events};
use super::robot::{Kind, PERIOD};
use super::{Seen, Times, lock};

/// A connection that was silent is tried again by the kernel after twice the time, and twice that.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(15);

impl Bench {
    /// What became of a fault that went on at these times.
    pub(super) fn judge(&self, name: &str, times: &Times) -> FaultRow {
        let millis = |from: Instant, at: Instant| at.saturating_duration_since(from).as_secs_f64() * 1e3;
        let seen = if times.seen == Seen::AtTheRobot { &self.events } else { &self.commands };
        let recovered = times.ended.and_then(|ended| self.first_motion(seen, ended).map(|at| millis(ended, at)));
        let events = lock(seen).clone();
        let is_safe = |kind: &Kind| matches!(kind, Kind::Silent | Kind::Obeyed(0.0));
        let first_safe = events.iter().find(|(at, kind)| *at >= times.began && is_safe(kind));
        let safe = first_safe.filter(|_| times.undisturbed.is_none()).map(|(at, _)| millis(times.began, *at));
        let unsafe_commands: usize = [&self.events, &self.commands]
            .map(|events| lock(events).iter().filter(|(_, kind)| *kind == Kind::Unsafe).count())
            .iter()
            .sum();
        let late = self.lateness.between(times.began, times.began + times.limit.max(times.detection));
        let is_silent_after = |from: Instant| events.iter().any(|(at, kind)| *at >= from && *kind == Kind::Silent);
        let is_undisturbed = times.undisturbed.is_some_and(|from| !is_silent_after(from));
        let is_by = |at: f64, limit: Duration| at <= (limit + late).as_secs_f64() * 1e3;
        let is_safe_in_time = safe.is_some_and(|safe| is_by(safe, times.limit)) || is_undisturbed;
        let detected = times.said.map_or(safe, |said| Some(millis(times.began, said)));
        // What disturbs nothing need not be noticed.
        let is_noticed_in_time = detected.map_or(is_undisturbed, |detected| is_by(detected, times.detection));
        FaultRow {
            name: name.to_owned(),
            detected_millis: detected,
            detection_limit_millis: times.detection.as_secs_f64() * 1e3,
            safe_action_millis: safe,
            limit_millis: times.limit.as_secs_f64() * 1e3,
            lateness_millis: late.as_secs_f64() * 1e3,
            recovered_millis: recovered,
            unsafe_commands: unsafe_commands as u64,
            num_commands: events.iter().filter(|(_, kind)| *kind != Kind::Silent).count() as u64,
            passed: is_noticed_in_time
                && is_safe_in_time
                && unsafe_commands == 0
                && (times.ended.is_none() || recovered.is_some()),
            skipped: None,
        }
    }

    /// Waits for the first command that moves the robot.
    fn first_motion(&self, seen: &Events, from: Instant) -> Option<Instant> {
        // What a row waited for already is there; the rest is given some seconds.
        let asked = Instant::now();
        loop {
            let moves =
                |(at, kind): &&(Instant, Kind)| *at >= from && matches!(kind, Kind::Obeyed(torque) if *torque > 0.0);
            if let Some((at, _)) = lock(seen).iter().find(moves) {
                return Some(*at);
            }
            if asked.elapsed() > RECOVERY_PATIENCE {
                return None;
            }
            std::thread::sleep(PERIOD);
        }
    }
}
