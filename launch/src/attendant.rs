//! Attends a running loop from a thread of its own: keeps the health page, reads the temperatures, and tells systemd how it goes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_runtime::{
    FactTap, HealthFacts, HealthServer, LoopEvent, PairReport, SharedFilter, SwapNews, THERMAL_ZONES, ThermalWatch,
    VitalState, Vitals,
};

use crate::systemd::Systemd;
use crate::words::{say, say_later};
use crate::{machine, places};

/// It looks at least this often whether the loop has begun or ended.
const LONGEST_LOOK: Duration = Duration::from_millis(200);
/// Shorter silences are no illness.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(2);

/// What is attended, beside the profile.
pub(crate) struct Attended {
    /// What answers at the start.
    pub(crate) models: PairReport,
    pub(crate) filter: SharedFilter,
    /// What becomes of models that take over.
    pub(crate) news: Option<Receiver<SwapNews>>,
    /// Overrides the profile's address of the page.
    pub(crate) health: Option<SocketAddr>,
}

/// The handle; dropping it tells systemd that the service stops and ends page and thread.
pub(crate) struct Attendant {
    vitals: Arc<Vitals>,
    filter: SharedFilter,
    /// The thread ends when this is gone.
    log: Option<Sender<FactTap>>,
    thread: Option<JoinHandle<Vec<PairReport>>>,
}

impl Attendant {
    /// Starts what the profile and the environment ask for.
    ///
    /// # Errors
    /// One line: the page's address is taken or not of this machine alone, or `NOTIFY_SOCKET` is none.
    pub(crate) fn start(profile: &DeviceProfile, attended: Attended) -> anyhow::Result<Self> {
        let systemd = Systemd::connect(&places::service())?;
        Self::attend(profile, attended, systemd)
    }

    fn attend(profile: &DeviceProfile, attended: Attended, systemd: Option<Systemd>) -> anyhow::Result<Self> {
        let Attended { models, filter, news, health } = attended;
        let others = profile.extra_cameras.iter().map(|extra| extra.camera.name.as_str());
        let vitals = Arc::new(Vitals::of(std::iter::once(profile.camera.name.as_str()).chain(others)));
        let patience = Duration::from_millis(10 * profile.watchdog.action_timeout_millis).max(SHORTEST_PATIENCE);
        let facts = HealthFacts {
            robot: profile.robot.clone(),
            profile: profile.name.clone(),
            git_revision: machine::GIT_REVISION.to_owned(),
            engines: models.by_role(),
            patience,
            max_age: match profile.pace {
                Pace::Fixed { max_frame_age_millis, .. } => Some(Duration::from_millis(max_frame_age_millis)),
                Pace::Lockstep { .. } => None,
            },
        };
        let page = health
            .or(profile.health)
            .map(|address| HealthServer::start(address, facts, Arc::clone(&vitals)))
            .transpose()?;
        if let Some(page) = &page {
            say(&format!("health page on http://{}/healthz, /readyz, /metrics", page.address()));
        }
        let thermal = profile.thermal.map(|thermal| ThermalWatch::new(Path::new(THERMAL_ZONES), thermal));
        let poll = Duration::from_millis(profile.thermal.map_or(1000, |thermal| thermal.poll_millis));
        let (log, taps) = channel();
        let round = Round {
            vitals: Arc::clone(&vitals),
            filter: filter.clone(),
            page,
            thermal,
            poll,
            systemd,
            patience,
            models: vec![models],
            news,
            log: None,
            num_outside: 0,
        };
        let thread = std::thread::Builder::new()
            .name("foresee-attend".to_owned())
            .spawn(move || round.attend(&taps))
            .context("no thread for the health page")?;
        Ok(Self { vitals, filter, log: Some(log), thread: Some(thread) })
    }

    /// From now on models that take over are written into a log.
    pub(crate) fn record_into(&self, log: FactTap) {
        // A thread that is gone attends no more.
        let _ = self.log.as_ref().map(|taps| taps.send(log));
    }

    /// Ends it; gives every pair of models that answered, in order.
    pub(crate) fn finish(mut self) -> Vec<PairReport> {
        self.end()
    }

    fn end(&mut self) -> Vec<PairReport> {
        self.vitals.set_state(VitalState::Stopped);
        self.log = None;
        // The thread does not panic; if it did, there is nothing left to end.
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }

    /// Counts what the loop tells; waits for nobody.
    pub(crate) fn observe(&self, event: &LoopEvent<'_>) {
        if let LoopEvent::Ticked { num_unreadable, num_restarts, .. }
        | LoopEvent::Waiting { num_unreadable, num_restarts, .. } = event
        {
            self.vitals.num_unreadable.store(*num_unreadable, Ordering::Relaxed);
            self.vitals.num_restarts.store(*num_restarts, Ordering::Relaxed);
        }
        match event {
            LoopEvent::Ticked { observation, report, num_dropped, cameras, .. } => {
                self.vitals.see_frame(observation.frame.stamp);
                self.vitals.see_joints(observation.joints.stamp);
                self.vitals.record_cameras(cameras);
                self.vitals.record(report, *num_dropped);
            }
            LoopEvent::Waiting { held: Some(_), .. } => self.vitals.record_hold(),
            _ => self.vitals.hear(),
        }
        self.vitals.follow(self.filter.state());
    }
}

impl Drop for Attendant {
    fn drop(&mut self) {
        self.end();
    }
}

struct Round {
    vitals: Arc<Vitals>,
    filter: SharedFilter,
    page: Option<HealthServer>,
    thermal: Option<ThermalWatch>,
    poll: Duration,
    systemd: Option<Systemd>,
    patience: Duration,
    /// Every pair that answered so far.
    models: Vec<PairReport>,
    news: Option<Receiver<SwapNews>>,
    log: Option<FactTap>,
    /// Joints outside their range at the last look.
    num_outside: usize,
}

impl Round {
    fn attend(mut self, taps: &Receiver<FactTap>) -> Vec<PairReport> {
        let watchdog = self.systemd.as_ref().and_then(Systemd::watchdog);
        let look = watchdog.map_or(LONGEST_LOOK, |watchdog| LONGEST_LOOK.min(watchdog / 4)).min(self.poll);
        let (mut is_ready, mut looked, mut state) = (false, None::<Instant>, VitalState::Starting);
        loop {
            match taps.recv_timeout(look) {
                Ok(log) => self.log = Some(log),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.hear_of_models();
            if looked.is_none_or(|looked| looked.elapsed() >= self.poll) {
                looked = Some(Instant::now());
                self.look_at_temperatures();
            }
            self.look_at_joints();
            let Some(silence) = self.vitals.silence() else { continue };
            if !is_ready {
                is_ready = true;
                self.tell("READY=1");
            }
            // A loop that is not heard of is not spoken for: systemd then ends it and starts another.
            if silence <= self.patience {
                self.tell("WATCHDOG=1");
            }
            // A loop that hangs says nothing of what the watchdog does.
            if silence > LONGEST_LOOK {
                self.vitals.follow(self.filter.state());
            }
            if self.vitals.state() != state {
                state = self.vitals.state();
                let num_ticks = self.vitals.num_ticks.load(Ordering::Relaxed);
                self.tell(&format!("STATUS={} after {num_ticks} ticks", state.name()));
            }
        }
        self.tell("STOPPING=1");
        self.hear_of_models();
        self.models
    }

    /// Joint states come while no frame does; a joint that is found outside its range is said.
    fn look_at_joints(&mut self) {
        self.filter.joint_stamp().into_iter().for_each(|stamp| self.vitals.see_joints(stamp));
        let outside = self.filter.outside();
        if outside.len() > self.num_outside {
            let joints = outside.join("; ");
            say(&format!(
                "outside its range: {joints}: held there, and moved back in within its limits as the policy leads"
            ));
        } else if outside.is_empty() && self.num_outside > 0 {
            say("every joint is in its range again");
        }
        self.num_outside = outside.len();
        self.page.iter().for_each(|page| page.set_outside(outside.clone()));
    }

    /// Page, log and result name the models that answer.
    fn hear_of_models(&mut self) {
        for news in self.news.iter().flat_map(Receiver::try_iter) {
            let (SwapNews::Switched(models) | SwapNews::Back { models, .. }) = news else { continue };
            if let Some(page) = &self.page {
                page.set_engines(models.by_role());
            }
            if let Some(log) = &self.log {
                log.record_models(&models);
            }
            self.models.push(PairReport::clone(&models));
        }
    }

    fn look_at_temperatures(&mut self) {
        let Some(thermal) = &mut self.thermal else { return };
        let zones = thermal.look();
        let was_hot = self.vitals.is_hot();
        self.vitals.set_hot(thermal.is_hot());
        self.filter.throttle(thermal.is_hot());
        if thermal.is_hot() != was_hot {
            let at_limit: Vec<String> = zones
                .iter()
                .filter_map(|zone| Some(format!("{} {:.1} of {:.1} C", zone.zone, zone.celsius, zone.limit_celsius?)))
                .collect();
            let what = if thermal.is_hot() { "the machine throttles: degraded" } else { "the machine has cooled" };
            say_later(&format!("{what} ({})", at_limit.join(", ")));
        }
        if let Some(page) = &self.page {
            page.set_temperatures(zones);
        }
    }

    /// A systemd that does not listen costs its own restart, not the robot's loop.
    fn tell(&self, state: &str) {
        let _ = self.systemd.as_ref().map(|systemd| systemd.tell(state));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::AtomicBool;

    use foresee_runtime::{
        Action, Actuator, Clock, ControlLoop, Ends, Features, FrameSource, JointState, LogHeader, LogReader, LogWriter,
        Observation, Policy, RawPixels, Recorder, RecorderOptions, RuntimeError, SafeCommand, SourceEvent, Watchdog,
        Watched,
    };

    use super::*;
    use crate::systemd::ServiceEnvironment;

    struct Still;

    impl Policy for Still {
        fn reset(&mut self) {}

        fn act(&mut self, _: &Features, joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
            action.values = vec![0.0; joints.positions.len()];
            Ok(())
        }
    }

    /// Gives this many frames, and then none.
    struct DeadCamera {
        num_left: u64,
    }

    impl FrameSource for DeadCamera {
        fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
            if self.num_left == 0 {
                std::thread::sleep(timeout);
                return Ok(SourceEvent::TimedOut);
            }
            self.num_left -= 1;
            observation.frame.fill_with_noise(self.num_left as u32);
            observation.frame.stamp = Clock::Wall.now();
            observation.joints.stamp = observation.frame.stamp;
            Ok(SourceEvent::Observed)
        }

        fn num_dropped(&self) -> u64 {
            0
        }
    }

    struct Nowhere;

    impl Actuator for Nowhere {
        fn send(&mut self, _sequence: u64, _command: &SafeCommand) -> Result<(), RuntimeError> {
            Ok(())
        }
    }

    fn fixed() -> (DeviceProfile, ControlLoop) {
        let text =
            "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 100.0\nmax_frame_age_millis = 50\n";
        let profile = foresee_firmware_config::parse("mine", text).unwrap();
        let control_loop = ControlLoop::new(Box::new(RawPixels::new(16, 16)), Box::new(Still), &profile).unwrap();
        (profile, control_loop)
    }

    /// Of models called so.
    fn models(sha256: &str) -> PairReport {
        let mut models = PairReport::of(&RawPixels::new(16, 16), &Still);
        models.encoder.model_sha256 = sha256.to_owned();
        models
    }

    fn attended(control_loop: &ControlLoop, news: Option<Receiver<SwapNews>>) -> Attended {
        Attended { models: models("first"), filter: control_loop.filter(), news, health: None }
    }

    #[test]
    fn log_and_result_name_every_model_that_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.mcap");
        let (profile, control_loop) = fixed();
        let (tell, news) = channel();
        let attendant = Attendant::attend(&profile, attended(&control_loop, Some(news)), None).unwrap();
        let writer = LogWriter::create(&path, &LogHeader::default()).unwrap();
        let recorder = Recorder::start(writer, &profile, RecorderOptions::default()).unwrap();
        attendant.record_into(recorder.fact_tap());
        tell.send(SwapNews::Switched(Arc::new(models("second")))).unwrap();
        tell.send(SwapNews::Kept).unwrap();
        let back = SwapNews::Back { reason: "spent".to_owned(), models: Arc::new(models("first")) };
        tell.send(back).unwrap();
        let names: Vec<String> = attendant.finish().into_iter().map(|models| models.encoder.model_sha256).collect();
        assert_eq!(names, ["first", "second", "first"]);
        recorder.finish().unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert_eq!((reader.by_ref().count(), reader.num_swaps()), (0, 2));
    }

    #[test]
    fn a_loop_without_frames_is_not_ready() {
        let (profile, mut control_loop) = fixed();
        let attendant = Attendant::attend(&profile, attended(&control_loop, None), None).unwrap();
        let (stop, mut seen) = (AtomicBool::new(false), Vec::new());
        let mut source = DeadCamera { num_left: 3 };
        let ends = Ends { source: &mut source, actuator: &mut Nowhere };
        let mut listen = |event: LoopEvent<'_>| {
            attendant.observe(&event);
            seen.push((matches!(event, LoopEvent::Waiting { .. }), attendant.vitals.state()));
            stop.store(seen.len() == 5, Ordering::Relaxed);
            Ok(())
        };
        foresee_runtime::run(ends, &mut control_loop, &stop, &mut listen).unwrap();
        let (ticked, held) = ((false, VitalState::Normal), (true, VitalState::Holding));
        assert_eq!(seen, [ticked, ticked, ticked, held, held]);
        assert_eq!(attendant.vitals.num_held.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_the_watchdog_does_while_the_loop_hangs_is_shown() {
        let (profile, mut control_loop) = fixed();
        let attendant = Attendant::attend(&profile, attended(&control_loop, None), None).unwrap();
        let (filter, stop) = (control_loop.filter(), Arc::<AtomicBool>::default());
        let watched = Watched { actuator: Box::new(Nowhere), filter, clock: Clock::Wall, stop };
        let (watchdog, mut actuator) = Watchdog::start(watched, &profile).unwrap();
        let (stop, mut source) = (AtomicBool::new(false), DeadCamera { num_left: 1 });
        let ends = Ends { source: &mut source, actuator: &mut actuator };
        let mut listen = |event: LoopEvent<'_>| {
            attendant.observe(&event);
            assert_eq!(attendant.vitals.state(), VitalState::Normal);
            let began = Instant::now();
            while attendant.vitals.state() != VitalState::Holding {
                assert!(began.elapsed() < Duration::from_secs(20), "never shown");
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
            Ok(())
        };
        foresee_runtime::run(ends, &mut control_loop, &stop, &mut listen).unwrap();
        assert_eq!(watchdog.finish().unwrap().num_trips, 1);
    }

    #[test]
    fn systemd_is_told_that_the_loop_is_ready_lives_and_stops() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let receive = || {
            let mut buffer = [0; 256];
            let num_bytes = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..num_bytes].to_vec()).unwrap()
        };
        let environment =
            ServiceEnvironment { notify_socket: Some(path.into_os_string()), watchdog_micros: Some(40_000) };
        let systemd = Systemd::connect(&environment).unwrap();
        let (profile, mut control_loop) = fixed();
        let attendant = Attendant::attend(&profile, attended(&control_loop, None), systemd).unwrap();
        attendant.observe(&LoopEvent::Waiting { held: None, num_unreadable: 0, num_restarts: 0 });
        assert_eq!(receive(), "READY=1");
        assert_eq!(receive(), "WATCHDOG=1");
        assert_eq!(receive(), "WATCHDOG=1");
        // The loop says no more; that it stops is seen all the same.
        let (stop, mut source) = (AtomicBool::new(true), DeadCamera { num_left: 0 });
        let ends = Ends { source: &mut source, actuator: &mut Nowhere };
        foresee_runtime::run(ends, &mut control_loop, &stop, &mut |_| Ok(())).unwrap();
        let mut said = receive();
        while said == "WATCHDOG=1" {
            said = receive();
        }
        assert_eq!(said, "STATUS=holding after 0 ticks");
        drop(attendant);
        while said != "STOPPING=1" {
            said = receive();
        }
    }
}
