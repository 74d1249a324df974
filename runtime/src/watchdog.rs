//! An independent watchdog: when no fresh command comes in time, because a camera is gone or an inference hangs, a thread of its
//! own stops the joints.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foresee_firmware_config::{DeviceProfile, Pace};

use crate::ends::Actuator;
use crate::error::RuntimeError;
use crate::safety::{SafeCommand, SafetyFilter};
use crate::time::{Clock, Stamp};

/// The watchdog looks at least this often.
const LONGEST_LOOK: Duration = Duration::from_millis(10);
/// In lockstep the simulation waits, and only a loop that is gone for this long is one.
const LOCKSTEP_PATIENCE: Duration = Duration::from_secs(10);

/// What the joints are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoopState {
    /// No command came yet; none was sent.
    Starting,
    /// Fresh commands come in time.
    Normal,
    /// The joints are stopped, since no fresh command came in time; they move again when one comes.
    Holding {
        /// When they were stopped.
        since: Stamp,
    },
    /// The joints are stopped for good: the watchdog was told to end, or the actuator failed.
    Stopped,
}

/// What a watchdog did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogSummary {
    /// Times that the joints were stopped.
    pub num_trips: u64,
    /// Commands that came too late and were not passed on.
    pub num_refused: u64,
}

/// The watchdog's handle; dropping it stops the joints and ends the thread.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Mutex<Shared>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The actuator as the loop sees it, with the watchdog between.
#[derive(Debug)]
pub struct WatchedActuator(Arc<Mutex<Shared>>);

/// What loop and watchdog share; held only while a command is sent.
struct Shared {
    actuator: Box<dyn Actuator + Send>,
    /// Knows what was last executed, which after a stop the loop's own filter does not.
    filter: SafetyFilter,
    clock: Clock,
    patience: Duration,
    state: LoopState,
    sequence: u64,
    last_fresh: Instant,
    summary: WatchdogSummary,
    failure: Option<RuntimeError>,
}

impl Watchdog {
    /// Starts watching over an actuator: a frame older than the profile's `max_frame_age_millis`, or no command for that long,
    /// stops the joints within 10 ms. Give the loop the [`WatchedActuator`].
    ///
    /// # Errors
    /// [`RuntimeError::End`] when no thread can be started.
    pub fn start(
        actuator: Box<dyn Actuator + Send>,
        profile: &DeviceProfile,
        clock: Clock,
    ) -> Result<(Self, WatchedActuator), RuntimeError> {
        let patience = match profile.pace {
            Pace::Lockstep { .. } => LOCKSTEP_PATIENCE,
            Pace::Fixed { max_frame_age_millis, .. } => Duration::from_millis(max_frame_age_millis),
        };
        let shared = Arc::new(Mutex::new(Shared {
            actuator,
            filter: SafetyFilter::new(&profile.joints, profile.pace.period()),
            clock,
            patience,
            state: LoopState::Starting,
            sequence: 0,
            last_fresh: Instant::now(),
            summary: WatchdogSummary::default(),
            failure: None,
        }));
        let (end, ended) = channel();
        let watched = Arc::clone(&shared);
        let look = profile.pace.period().min(LONGEST_LOOK).max(Duration::from_millis(1));
        let thread = std::thread::Builder::new()
            .name("foresee-watchdog".to_owned())
            .spawn(move || watch(&watched, &ended, look))
            .map_err(|error| RuntimeError::End {
                name: "watchdog".to_owned(),
                problem: format!("no thread: {error}"),
            })?;
        let actuator = WatchedActuator(Arc::clone(&shared));
        Ok((Self { shared, end: Some(end), thread: Some(thread) }, actuator))
    }

    /// What the joints are doing.
    pub fn state(&self) -> LoopState {
        lock(&self.shared).state
    }

    /// What it did so far.
    pub fn summary(&self) -> WatchdogSummary {
        lock(&self.shared).summary
    }

    /// Stops the joints for good and ends the thread.
    ///
    /// # Errors
    /// What the actuator said when the watchdog could not stop the joints.
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
        formatter.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
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
    let mut shared = lock(shared);
    if shared.state != LoopState::Starting {
        shared.stop();
    }
    shared.state = LoopState::Stopped;
}

impl Shared {
    /// The loop's command, through a filter that knows what was executed; refused when its frame is too old.
    fn pass(&mut self, sequence: u64, command: &SafeCommand) -> Result<(), RuntimeError> {
        if let Some(failure) = &self.failure {
            return Err(RuntimeError::End { name: "watchdog".to_owned(), problem: failure.to_string() });
        }
        let is_late = matches!(self.state, LoopState::Holding { .. })
            && !matches!(self.clock, Clock::Driven(_))
            && self.clock.now().since(command.stamp()) > self.patience;
        if is_late || self.state == LoopState::Stopped {
            self.summary.num_refused += 1;
            return Ok(());
        }
        self.sequence = sequence;
        // A command that only holds tells that the loop lives, and not that it sees.
        if command.verdict().held.is_none() {
            self.last_fresh = Instant::now();
            self.state = LoopState::Normal;
        }
        self.actuator.send(sequence, self.filter.follow(command))
    }

    fn look(&mut self) {
        if self.state == LoopState::Normal && self.last_fresh.elapsed() > self.patience {
            self.state = LoopState::Holding { since: self.clock.now() };
            self.summary.num_trips += 1;
        }
        if let LoopState::Holding { .. } = self.state {
            // Again at every look: a command may be lost on its way.
            self.stop();
        }
    }

    fn stop(&mut self) {
        let command = self.filter.stop(self.clock.now());
        if let Err(failure) = self.actuator.send(self.sequence, command) {
            self.failure.get_or_insert(failure);
            self.state = LoopState::Stopped;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Action;
    use crate::safety::Hold;

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

    fn profile() -> DeviceProfile {
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        DeviceProfile { pace: Pace::Fixed { rate_hertz: 100.0, max_frame_age_millis: 50 }, ..profile }
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
        let (log, profile) = (Log::default(), profile());
        let (watchdog, mut actuator) = Watchdog::start(Box::new(log.clone()), &profile, Clock::Wall).unwrap();
        let mut filter = SafetyFilter::new(&profile.joints, profile.pace.period());
        assert_eq!(watchdog.state(), LoopState::Starting);
        let action = Action { values: vec![1.0, -1.0] };
        let late = filter.filter(Clock::Wall.now(), Some(&action)).clone();
        actuator.send(0, &late).unwrap();
        // The loop hangs.
        wait_until(|| matches!(watchdog.state(), LoopState::Holding { .. }));
        wait_until(|| log.0.lock().unwrap().last().unwrap().1 == Some(Hold::Stopped));
        assert_eq!(log.0.lock().unwrap().last().unwrap().0, [0.0, 0.0]);
        std::thread::sleep(Duration::from_millis(60));
        // What it answers afterwards is about a frame of long ago.
        actuator.send(1, &late).unwrap();
        assert_eq!(watchdog.summary(), WatchdogSummary { num_trips: 1, num_refused: 1 });
        // It lives again, at the rate that the joints allow.
        log.0.lock().unwrap().clear();
        wait_until(|| {
            actuator.send(2, filter.filter(Clock::Wall.now(), Some(&action))).unwrap();
            log.0.lock().unwrap().contains(&(vec![1.0, -1.0], None))
        });
        watchdog.finish().unwrap();
        assert_eq!(log.0.lock().unwrap().last().unwrap().0, [0.0, 0.0]);
        let before = log.0.lock().unwrap().len();
        actuator.send(3, filter.filter(Clock::Wall.now(), Some(&action))).unwrap();
        assert_eq!(log.0.lock().unwrap().len(), before, "nothing moves after the end");
    }

    #[test]
    fn a_loop_that_only_holds_is_stopped() {
        let (log, profile) = (Log::default(), profile());
        let (watchdog, mut actuator) = Watchdog::start(Box::new(log), &profile, Clock::Wall).unwrap();
        let mut filter = SafetyFilter::new(&profile.joints, profile.pace.period());
        let action = Action { values: vec![0.5, 0.5] };
        actuator.send(0, filter.filter(Clock::Wall.now(), Some(&action))).unwrap();
        wait_until(|| {
            // A frozen camera: frames come no more, and the loop says so.
            let held = filter.hold(Clock::Wall.now(), Hold::StaleFrame);
            lock(&watchdog.shared).pass(1, held).is_ok() && matches!(watchdog.state(), LoopState::Holding { .. })
        });
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
        let profile = profile();
        let (watchdog, mut actuator) = Watchdog::start(Box::new(Broken), &profile, Clock::Wall).unwrap();
        let mut filter = SafetyFilter::new(&profile.joints, profile.pace.period());
        let action = Action { values: vec![0.5, 0.5] };
        let command = filter.filter(Clock::Wall.now(), Some(&action)).clone();
        actuator.send(0, &command).unwrap();
        wait_until(|| watchdog.state() == LoopState::Stopped);
        assert!(actuator.send(1, &command).unwrap_err().to_string().contains("the cable is out"));
        assert!(watchdog.finish().unwrap_err().to_string().contains("the cable is out"));
    }
}
