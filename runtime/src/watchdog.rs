//! An independent watchdog: when no fresh command comes in time, because a camera is gone or an inference hangs, a thread of its
//! own stops the joints.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foresee_firmware_config::{DeviceProfile, Pace};

use crate::ends::{Actuator, send};
use crate::error::RuntimeError;
use crate::safety::{Hold, SafeCommand, SafetyState, SharedFilter};
use crate::schedule::schedule;
use crate::time::Clock;

/// What a watchdog did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogSummary {
    /// Times that it took the safe action.
    pub num_trips: u64,
    /// Commands that came after it and were not passed on.
    pub num_refused: u64,
}

/// What a watchdog watches.
pub struct Watched {
    /// Where the commands go.
    pub actuator: Box<dyn Actuator + Send>,
    /// The loop's filter: [`crate::ControlLoop::filter`].
    pub filter: SharedFilter,
    /// The loop's clock.
    pub clock: Clock,
    /// Once set, the safe action is taken for good: Ctrl-C, SIGTERM, the operator.
    pub stop: Arc<AtomicBool>,
}

/// The watchdog's handle; dropping it stops the joints and ends the thread.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Mutex<Shared>>,
    filter: SharedFilter,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The actuator as the loop sees it, with the watchdog between.
#[derive(Debug)]
pub struct WatchedActuator(Arc<Mutex<Shared>>);

/// What loop and watchdog share; held only while a command is sent.
struct Shared {
    watched: Watched,
    patience: Duration,
    max_frame_age: Duration,
    sequence: u64,
    /// When the last fresh command came, and how old its frame was then; `None` before the first.
    last_fresh: Option<(Instant, Duration)>,
    summary: WatchdogSummary,
    failure: Option<RuntimeError>,
}

impl Watchdog {
    /// Starts watching over an actuator: a frame older than the profile's `max_frame_age_millis`, no fresh command for its
    /// `watchdog.action_timeout_millis`, or the stop flag lead to the safe action within `watchdog.look_millis`. Give the loop
    /// the [`WatchedActuator`].
    ///
    /// # Errors
    /// [`RuntimeError::End`] when no thread can be started.
    pub fn start(watched: Watched, profile: &DeviceProfile) -> Result<(Self, WatchedActuator), RuntimeError> {
        let patience = Duration::from_millis(profile.watchdog.action_timeout_millis);
        let max_frame_age = match profile.pace {
            Pace::Lockstep { .. } => patience,
            Pace::Fixed { max_frame_age_millis, .. } => Duration::from_millis(max_frame_age_millis),
        };
        let filter = watched.filter.clone();
        let shared = Shared {
            watched,
            patience,
            max_frame_age,
            sequence: 0,
            last_fresh: None,
            summary: WatchdogSummary::default(),
            failure: None,
        };
        let shared = Arc::new(Mutex::new(shared));
        let (end, ended) = channel();
        let look = Duration::from_millis(profile.watchdog.look_millis);
        let thread = std::thread::Builder::new()
            .name("foresee-watchdog".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                let threads = profile.threads.clone();
                move || {
                    // What was refused is said at the start of the run.
                    drop(schedule(&threads, &threads.watchdog));
                    watch(&shared, &ended, look);
                }
            })
            .map_err(|error| RuntimeError::End {
                name: "watchdog".to_owned(),
                problem: format!("no thread: {error}"),
            })?;
        let actuator = WatchedActuator(Arc::clone(&shared));
        Ok((Self { shared, filter, end: Some(end), thread: Some(thread) }, actuator))
    }

    /// What the joints are doing.
    pub fn state(&self) -> SafetyState {
        self.filter.state()
    }

    /// What it did so far.
    pub fn summary(&self) -> WatchdogSummary {
        lock(&self.shared).summary
    }

    /// Takes the safe action until the joints rest, and ends the thread. They are given twice the time that their limits need, and a second.
    ///
    /// # Errors
    /// What the actuator said when the watchdog could not stop the joints, and the joints that did not come to rest in time.
    pub fn finish(mut self) -> Result<WatchdogSummary, RuntimeError> {
        self.end();
        let mut shared = lock(&self.shared);
        match shared.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(shared.summary),
        }
    }

    fn end(&mut self) {
        self.end = None;
        // The thread does not panic; if it did, there is nothing left to end.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end();
    }
}

impl Actuator for WatchedActuator {
    fn send(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        lock(&self.0).pass(sequence, command)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("summary", &self.summary).finish_non_exhaustive()
    }
}

/// A thread that panicked while it held the lock left values that are still whole.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch(shared: &Mutex<Shared>, ended: &Receiver<()>, look: Duration) {
    while ended.recv_timeout(look) == Err(RecvTimeoutError::Timeout) {
        lock(shared).look();
    }
    let (began, patience) = (Instant::now(), lock(shared).watched.filter.stop_patience());
    while lock(shared).stop() {
        if began.elapsed() > patience {
            return lock(shared).give_up(patience);
        }
        std::thread::sleep(look);
    }
}

impl Shared {
    /// The loop's command, unless the watchdog has commanded since it was made.
    fn pass(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        if let Some(failure) = &self.failure {
            return Err(RuntimeError::End { name: "watchdog".to_owned(), problem: failure.to_string() });
        }
        if self.watched.filter.lock().last().ordinal() != command.ordinal() {
            self.summary.num_refused += 1;
            return Ok(());
        }
        self.sequence = sequence;
        // A command that only holds tells that the loop lives, and not that it sees.
        if command.verdict().held.is_none() {
            self.last_fresh = Some((Instant::now(), self.watched.clock.now().since(command.stamp())));
        }
        self.watched.actuator.send(sequence, command)
    }

    fn look(&mut self) {
        if self.watched.stop.load(Ordering::Acquire) {
            self.stop();
            return;
        }
        let Some((at, age)) = self.last_fresh else { return };
        let silent = at.elapsed();
        let why = if age + silent > self.max_frame_age {
            Hold::StaleFrame
        } else if silent > self.patience {
            Hold::NoCommand
        } else {
            return;
        };
        let mut filter = self.watched.filter.lock();
        let moment = self.watched.clock.moment();
        // A hold that the loop found a reason for keeps it.
        let (is_new, why) = match filter.state() {
            SafetyState::Holding { reason, .. } | SafetyState::Stopped { reason } => (false, reason),
            _ => (true, why),
        };
        self.summary.num_trips += u64::from(is_new);
        // Again at every look: a command may be lost on its way, and a joint takes time to stop.
        let sent = send(self.watched.actuator.as_mut(), self.sequence, filter.hold(moment, why));
        drop(filter);
        self.note(sent);
    }

    /// The safe action for good; gives whether it has further to go.
    fn stop(&mut self) -> bool {
        let mut filter = self.watched.filter.lock();
        let moment = self.watched.clock.moment();
        if filter.state() == SafetyState::Starting && self.last_fresh.is_none() {
            // Nothing moves that could be stopped; from now on nothing will.
            filter.stop(moment);
            return false;
        }
        let sent = send(self.watched.actuator.as_mut(), self.sequence, filter.stop(moment));
        let goes_on = sent.is_ok() && !filter.is_at_rest();
        drop(filter);
        self.note(sent);
        goes_on
    }

    /// Something is in the way of the safe action: the side of the workspace, or a machine that hardly runs this thread.
    fn give_up(&mut self, patience: Duration) {
        let (joints, seconds) = (self.watched.filter.moving().join(", "), patience.as_secs_f64());
        let problem =
            format!("the safe action did not bring {joints} to rest within {seconds:.1} s; look at the robot");
        self.note(Err(RuntimeError::End { name: "watchdog".to_owned(), problem }));
    }

    fn note(&mut self, sent: Result<(), RuntimeError>) {
        if let Err(failure) = sent {
            self.failure.get_or_insert(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Action;
    use crate::joints::JointState;
    use crate::safety::Moment;

    type Sent = (Vec<f64>, Option<Hold>);

    /// Commands as an actuator got them.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<Sent>>>);

    impl Actuator for Log {
        fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
            self.0.lock().unwrap().push((command.values().to_vec(), command.verdict().held));
            Ok(())
        }
    }

    fn profile(more: &str) -> DeviceProfile {
        let pace = "[pace]\nkind = \"fixed\"\nrate_hertz = 100.0\nmax_frame_age_millis = 50\n";
        foresee_firmware_config::parse("mine", &format!("inherit = \"desktop-sim\"\n{pace}{more}")).unwrap()
    }

    fn joints(command: &str, more: &str) -> String {
        let joint = |name: &str| {
            format!("[[joints]]\nname = \"{name}\"\ncommand = \"{command}\"\nminimum = -3.0\nmaximum = 3.0\n{more}")
        };
        format!("{}{}", joint("shoulder"), joint("wrist"))
    }

    struct Bench {
        log: Log,
        filter: SharedFilter,
        stop: Arc<AtomicBool>,
        watchdog: Watchdog,
        actuator: WatchedActuator,
    }

    impl Bench {
        fn new(more: &str) -> Self {
            let (log, profile) = (Log::default(), profile(more));
            let (filter, stop) = (SharedFilter::of(&profile), Arc::<AtomicBool>::default());
            let watched = Watched {
                actuator: Box::new(log.clone()),
                filter: filter.clone(),
                clock: Clock::Wall,
                stop: stop.clone(),
            };
            let (watchdog, actuator) = Watchdog::start(watched, &profile).unwrap();
            Self { log, filter, stop, watchdog, actuator }
        }

        fn command(&self, values: [f64; 2]) -> SafeCommand {
            let moment = Moment { stamp: Clock::Wall.now(), time: Clock::Monotonic.now() };
            let mut filter = self.filter.lock();
            filter.see(&JointState { stamp: moment.stamp, ..JointState::zeros(2) }, moment);
            filter.filter(moment, Some(&Action { values: values.to_vec() })).clone()
        }

        fn last(&self) -> Option<Sent> {
            self.log.0.lock().unwrap().last().cloned()
        }
    }

    fn wait_until(mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(20), "never came about");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_silent_loop_is_stopped_and_a_late_command_refused() {
        let mut bench = Bench::new("");
        assert_eq!(bench.watchdog.state(), SafetyState::Starting);
        let late = bench.command([1.0, -1.0]);
        bench.actuator.send(0, &late).unwrap();
        // The loop hangs.
        wait_until(|| matches!(bench.watchdog.state(), SafetyState::Holding { .. }));
        wait_until(|| bench.last().unwrap().0 == [0.0, 0.0]);
        assert!(matches!(bench.last().unwrap().1, Some(Hold::StaleFrame | Hold::NoCommand)));
        // What it answers afterwards was made before the stop.
        bench.actuator.send(1, &late).unwrap();
        assert_eq!(bench.watchdog.summary(), WatchdogSummary { num_trips: 1, num_refused: 1 });
        // It lives again.
        wait_until(|| {
            let command = bench.command([1.0, -1.0]);
            bench.actuator.send(2, &command).unwrap();
            bench.log.0.lock().unwrap().iter().skip(1).any(|sent| *sent == (vec![1.0, -1.0], None))
        });
        bench.watchdog.finish().unwrap();
        let sent = bench.log.0.lock().unwrap().clone();
        assert_eq!(*sent.last().unwrap(), (vec![0.0, 0.0], Some(Hold::Stopped)));
        bench.actuator.send(3, &late).unwrap();
        assert_eq!(bench.log.0.lock().unwrap().len(), sent.len(), "nothing moves after the end");
    }

    #[test]
    fn the_stop_flag_stops_while_the_loop_hangs() {
        let mut bench = Bench::new("");
        let command = bench.command([0.5, 0.5]);
        bench.actuator.send(0, &command).unwrap();
        bench.stop.store(true, Ordering::Release);
        wait_until(|| bench.last().unwrap() == (vec![0.0, 0.0], Some(Hold::Stopped)));
        assert_eq!(bench.watchdog.state(), SafetyState::Stopped { reason: Hold::Stopped });
        let command = bench.command([0.5, 0.5]);
        assert_eq!((command.values(), command.verdict().held), (&[0.0, 0.0][..], Some(Hold::Stopped)));
    }

    #[test]
    fn a_loop_that_only_holds_is_stopped() {
        let mut bench = Bench::new("");
        let command = bench.command([0.5, 0.5]);
        bench.actuator.send(0, &command).unwrap();
        wait_until(|| {
            // A frozen camera: frames come no more, and the loop says so.
            let moment = Moment { stamp: Clock::Wall.now(), time: Clock::Monotonic.now() };
            let held = bench.filter.lock().hold(moment, Hold::StaleFrame).clone();
            bench.actuator.send(1, &held).is_ok() && bench.last().unwrap().0 == [0.0, 0.0]
        });
    }

    #[test]
    fn a_position_that_was_never_measured_is_not_moved() {
        let positions = joints("position_radians", "home = 1.0\nmax_rate_per_second = 1.0\n");
        let bench = Bench::new(&positions);
        // As if one had been followed before an episode began anew.
        lock(&bench.watchdog.shared).last_fresh = Some((Instant::now(), Duration::ZERO));
        wait_until(|| bench.watchdog.summary().num_trips > 0 || bench.watchdog.state() != SafetyState::Starting);
        bench.stop.store(true, Ordering::Release);
        wait_until(|| bench.watchdog.state() == SafetyState::Stopped { reason: Hold::Stopped });
        bench.watchdog.finish().unwrap();
        assert_eq!(*bench.log.0.lock().unwrap(), []);
    }

    #[test]
    fn joints_are_given_the_time_that_their_limits_need() {
        let velocities = joints("velocity_radians_per_second", "max_rate_per_second = 1.0\n");
        let mut bench = Bench::new(&velocities);
        wait_until(|| {
            let command = bench.command([3.0, -3.0]);
            bench.actuator.send(0, &command).unwrap();
            bench.last().unwrap().0 == [3.0, -3.0]
        });
        assert_eq!(bench.watchdog.filter.moving(), ["shoulder", "wrist"]);
        bench.watchdog.finish().unwrap();
        let sent = bench.log.0.lock().unwrap().clone();
        assert_eq!(*sent.last().unwrap(), (vec![0.0, 0.0], Some(Hold::Stopped)));
    }

    #[test]
    fn a_joint_that_does_not_come_to_rest_is_named() {
        let velocities = joints("velocity_radians_per_second", "max_rate_per_second = 1.0\n");
        let mut bench = Bench::new(&velocities);
        wait_until(|| {
            let command = bench.command([3.0, 0.0]);
            bench.actuator.send(0, &command).unwrap();
            command.values()[0] > 0.5
        });
        lock(&bench.watchdog.shared).give_up(Duration::from_secs(7));
        let told = bench.watchdog.finish().unwrap_err().to_string();
        assert!(told.contains("did not bring shoulder to rest within 7.0 s"), "{told}");
    }

    struct Broken;

    impl Actuator for Broken {
        fn send(&mut self, _sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
            match command.verdict().held {
                None => Ok(()),
                Some(_) => Err(RuntimeError::Transport("the cable is out".to_owned())),
            }
        }
    }

    #[test]
    fn an_actuator_that_fails_ends_the_loop() {
        let mut bench = Bench::new("");
        lock(&bench.watchdog.shared).watched.actuator = Box::new(Broken);
        let command = bench.command([0.5, 0.5]);
        bench.actuator.send(0, &command).unwrap();
        wait_until(|| bench.actuator.send(1, &command).is_err());
        let told = bench.actuator.send(1, &command).unwrap_err().to_string();
        assert!(told.contains("the cable is out"), "{told}");
        assert!(bench.watchdog.finish().unwrap_err().to_string().contains("the cable is out"));
    }
}
