//! Listens to a running loop: counts, fills the table, feeds the recorder and the film.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_runtime::{
    Clock, Episode, EpisodePhase, Hold, LatencyHistogram, LoopEvent, LoopStatistics, Observation, Recorder,
    RuntimeError, Stamp, SwapHandle, stamp_fault,
};

use crate::film::Film;
use crate::filming::Filming;
use crate::result::Millis;
use crate::simulator::Simulator;
use crate::table::{Row, Table};
use crate::traces::Traces;

/// A reason for the safe action is said this often.
const MAX_SAID: u64 = 5;

/// What is counted while the loop runs.
#[derive(Default)]
pub(crate) struct Account {
    pub(crate) statistics: LoopStatistics,
    pub(crate) num_frames: u64,
    pub(crate) num_dropped: u64,
    pub(crate) num_unreadable: u64,
    pub(crate) num_restarts: u64,
    pub(crate) num_failures: u64,
    pub(crate) start_to_first_action_seconds: Option<f64>,
    pub(crate) film: Film,
    pub(crate) episodes: Vec<Episode>,
    /// What a robot's run shows in the place of episodes.
    pub(crate) traces: Traces,
    /// Times that the safe action was begun, by reason.
    pub(crate) safe_actions: BTreeMap<String, u64>,
    /// What was wrong with the stamps of a stream when the safe action was begun for it, the first time.
    pub(crate) stamp_faults: BTreeMap<String, String>,
}

/// What the stamps of a robot's streams are held against.
pub(crate) struct Stamps {
    /// `None`: simulated time.
    max_age: Option<Duration>,
    /// Topics of the cameras beside the first.
    extra: Vec<String>,
}

impl Stamps {
    pub(crate) fn of(profile: &DeviceProfile) -> Self {
        let max_age = match profile.pace {
            Pace::Fixed { max_frame_age_millis, .. } => Some(Duration::from_millis(max_frame_age_millis)),
            Pace::Lockstep { .. } => None,
        };
        let extra = profile.extra_cameras.iter().map(|extra| format!("camera/{}/image", extra.camera.name));
        Self { max_age, extra: extra.collect() }
    }

    /// Each stream whose stamp is too old or too far ahead, and what is wrong with it.
    fn faults(&self, observation: &Observation) -> Vec<(String, String)> {
        let Some(max_age) = self.max_age else { return Vec::new() };
        let now = Clock::Wall.now();
        let extra = self.extra.iter().map(String::as_str).zip(observation.extra.iter().map(|frame| frame.stamp));
        let streams = [("camera/image", observation.frame.stamp), ("joint_states", observation.joints.stamp)];
        let fault = |(stream, stamp): (&str, Stamp)| {
            stamp_fault(stream, stamp, now, max_age).map(|fault| (stream.to_owned(), fault))
        };
        streams.into_iter().chain(extra).filter_map(fault).collect()
    }
}

/// What stands beside the loop and is told of it.
pub(crate) struct Beside<'a> {
    pub(crate) recorder: Option<Recorder>,
    pub(crate) filming: Filming,
    pub(crate) swap: Option<SwapHandle>,
    pub(crate) simulator: Option<&'a mut Simulator>,
    pub(crate) traces: Traces,
}

/// Listens to the loop: counts, fills the table, feeds what stands beside it.
pub(crate) struct Observed<'a> {
    started: Instant,
    provider: &'static str,
    stamps: Stamps,
    beside: Beside<'a>,
    /// The film is of the first episode that was a success, until then of the latest.
    film_is_final: bool,
    table: Table,
    account: Account,
    episode_latency: LatencyHistogram,
    current: Option<Episode>,
    num_steps: u32,
    stamp: Stamp,
    held: Option<Hold>,
    has_log_ended: bool,
}

impl<'a> Observed<'a> {
    pub(crate) fn new(started: Instant, provider: &'static str, stamps: Stamps, mut beside: Beside<'a>) -> Self {
        let traces = std::mem::take(&mut beside.traces);
        Self {
            started,
            provider,
            stamps,
            beside,
            film_is_final: false,
            table: Table::new(),
            account: Account { traces, ..Account::default() },
            episode_latency: LatencyHistogram::default(),
            current: None,
            num_steps: 0,
            stamp: Stamp::default(),
            held: None,
            has_log_ended: false,
        }
    }

    pub(crate) fn take(&mut self, event: LoopEvent<'_>) -> Result<(), RuntimeError> {
        match event {
            LoopEvent::Ticked {
                observation,
                command,
                report,
                failure,
                num_dropped,
                num_unreadable,
                num_restarts,
                provider,
                ..
            } => {
                // Models that took over may run elsewhere.
                self.provider = provider.name();
                let started = self.started;
                let account = &mut self.account;
                account.start_to_first_action_seconds.get_or_insert_with(|| started.elapsed().as_secs_f64());
                account.statistics.record(&report);
                account.traces.take(observation, command);
                account.num_frames += 1;
                account.num_dropped = num_dropped;
                (account.num_unreadable, account.num_restarts) = (num_unreadable, num_restarts);
                self.episode_latency.record(report.total_nanos());
                self.stamp = observation.frame.stamp;
                self.num_steps += 1;
                if let Some(recorder) = &self.beside.recorder {
                    recorder.observe(observation);
                }
                if !self.film_is_final {
                    self.beside.filming.show(&observation.frame);
                }
                if let Some(failure) = failure {
                    account.num_failures += 1;
                    // Said once; the count is in the result.
                    if account.num_failures == 1 {
                        self.table.line(&format!("held: {failure}"));
                    }
                }
                self.hear_of_hold(report.verdict.held, Some(observation));
                self.look_at_log();
                if self.num_steps.is_multiple_of(50) {
                    self.redraw();
                }
            }
            LoopEvent::EpisodeStarted(episode) => self.start_episode(episode),
            LoopEvent::EpisodeEnded(episode) => self.end_episode(episode),
            LoopEvent::Waiting { held, num_unreadable, num_restarts } => {
                (self.account.num_unreadable, self.account.num_restarts) = (num_unreadable, num_restarts);
                if held.is_some() {
                    self.account.statistics.num_held += 1;
                    self.hear_of_hold(held, None);
                }
                self.hear_simulator()?;
            }
        }
        Ok(())
    }

    /// A safe action that begins or ends is said, the first few times; every one is counted. Models on trial have failed it if it
    /// begins meanwhile; one that they found there is not theirs.
    fn hear_of_hold(&mut self, held: Option<Hold>, observation: Option<&Observation>) {
        if held == self.held {
            return;
        }
        if let (Some(swap), Some(why)) = (&self.beside.swap, held) {
            swap.hear_of_hold(why);
        }
        self.held = held;
        let num_said: u64 = self.account.safe_actions.values().sum();
        let Some(why) = held else {
            if num_said <= MAX_SAID {
                self.table.line("the policy is followed again");
            }
            return;
        };
        let count = self.account.safe_actions.entry(why.words().to_owned()).or_default();
        *count += 1;
        if *count > MAX_SAID {
            return;
        }
        let is_of_time = matches!(why, Hold::StaleFrame | Hold::ClockJumped | Hold::NoJointState | Hold::Unmeasured);
        let mut line = format!("safe action: {}", why.words());
        for (stream, fault) in observation.filter(|_| is_of_time).iter().flat_map(|seen| self.stamps.faults(seen)) {
            line = format!("{line}; {fault}");
            self.account.stamp_faults.entry(stream).or_insert(fault);
        }
        self.table.line(&line);
    }

    /// A log that ends early is said once; the run goes on.
    fn look_at_log(&mut self) {
        let Some(recorder) = self.beside.recorder.as_ref().filter(|_| !self.has_log_ended) else { return };
        let why = match (recorder.has_failed(), recorder.is_full()) {
            (true, _) => "cannot be written any more (is the disk full?)",
            (false, true) => "as large as --max-log-mebibytes or the disk lets it be",
            (false, false) => return,
        };
        self.has_log_ended = true;
        self.table.line(&format!("log: {why}; it ends here, and the run goes on"));
    }

    fn start_episode(&mut self, episode: &Episode) {
        if let Some(recorder) = &self.beside.recorder {
            recorder.episode(self.stamp, EpisodePhase::Started, episode);
        }
        if !self.film_is_final {
            self.beside.filming.begin();
        }
        self.episode_latency = LatencyHistogram::default();
        self.num_steps = 0;
        self.current = Some(episode.clone());
    }

    fn end_episode(&mut self, episode: &Episode) {
        if let Some(recorder) = &self.beside.recorder {
            recorder.episode(self.stamp, EpisodePhase::Ended, episode);
        }
        self.film_is_final |= episode.success;
        self.table.finish_row(&self.row(episode, Some(episode.success)));
        self.account.episodes.push(episode.clone());
        self.current = None;
    }

    fn redraw(&self) {
        if let Some(episode) = &self.current {
            self.table.update(&self.row(episode, None));
        } else if self.account.episodes.is_empty() {
            let (account, millis) = (&self.account, Millis::of(&self.episode_latency));
            self.table.update_robot(|| {
                format!(
                    "{}  p50 {:.2} ms  p99 {:.2} ms  dropped {}  {}",
                    account.traces.text(),
                    millis.p50,
                    millis.p99,
                    account.num_dropped,
                    self.provider
                )
            });
        }
    }

    fn row(&self, episode: &Episode, success: Option<bool>) -> Row<'_> {
        Row {
            episode: episode.index + 1,
            // The robot tells the return when the episode is over.
            episode_return: success.map(|_| episode.episode_return),
            num_steps: self.num_steps,
            success,
            loop_millis: Millis::of(&self.episode_latency),
            frames_dropped: self.account.num_dropped,
            provider: self.provider,
        }
    }

    fn hear_simulator(&mut self) -> Result<(), RuntimeError> {
        let Some(simulator) = &mut self.beside.simulator else { return Ok(()) };
        for line in simulator.words() {
            self.table.line(&line);
        }
        let problem =
            |error: anyhow::Error| RuntimeError::End { name: "foresee sim".to_owned(), problem: error.to_string() };
        simulator.check().map_err(problem)
    }

    pub(crate) fn into_parts(self) -> (Account, Option<Recorder>) {
        (Account { film: self.beside.filming.finish(), ..self.account }, self.beside.recorder)
    }
}
