//! The control loop at 30 Hz for minutes, its watchdog beside it, under load when asked for: how it keeps its time and its memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{
    Action, Actuator, Clock, ControlLoop, Encoder, Ends, Features, Frame, FrameSource, JointState, LoopEvent,
    Observation, Policy, RuntimeError, SafeCommand, SourceEvent, Watchdog, Watched,
};
use serde::Serialize;

const PERIOD: Duration = Duration::from_nanos(33_333_333);
const BYTES_PER_PAGE: f64 = 4096.0;
/// The demo's robot at a fixed pace, as slow to call a frame old as a profile may be by default.
const PACE: &str =
    "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 30.0\nmax_frame_age_millis = 100\n";

/// How long, and beside what.
pub(super) struct Load {
    pub(super) minutes: f64,
    /// Threads that turn in place.
    pub(super) threads: usize,
}

#[derive(Serialize)]
pub(super) struct HeldLoop {
    minutes: f64,
    load_threads: usize,
    pub(super) ticks: usize,
    /// From the moment that a frame is due to the command that was sent.
    pub(super) p50_millis: f64,
    pub(super) p99_millis: f64,
    p99_over_p50: f64,
    max_millis: f64,
    /// Commands that were sent after the next frame was due.
    pub(super) missed_deadlines: usize,
    /// Frames that another one overtook.
    pub(super) frames_dropped: u64,
    /// Ticks that were answered by the safe action, and times that the watchdog took it.
    pub(super) held: usize,
    watchdog_trips: u64,
    /// By least squares over one sample a second, the first tenth left out.
    pub(super) rss_slope_mebibytes_per_minute: f64,
    rss_mebibytes: f64,
}

impl HeldLoop {
    pub(super) fn run(
        encoder: Box<dyn Encoder>,
        frame: &Frame,
        load: &Load,
        stop: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let Frame { width, height, .. } = frame;
        let camera = format!("[camera]\nname = \"camera\"\nwidth = {width}\nheight = {height}\nencoding = \"bgr8\"\n");
        let profile = foresee_firmware_config::parse("loop.toml", &format!("{PACE}{camera}"))?;
        let done = AtomicBool::new(false);
        let mut ticks = Ticks::default();
        let watchdog_trips = std::thread::scope(|scope| {
            for _ in 0..load.threads {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let ran = ticks.run((encoder, frame), &profile, (load.minutes, stop));
            done.store(true, Ordering::Relaxed);
            ran
        })?;
        let Ticks { mut millis, memory, held, frames_dropped } = ticks;
        let period_millis = PERIOD.as_secs_f64() * 1e3;
        let missed_deadlines = millis.iter().filter(|millis| **millis > period_millis).count();
        let ticks = millis.len();
        millis.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = ((ticks as f64 * quantile) as usize).min(ticks.saturating_sub(1));
            millis.get(rank).copied().unwrap_or(f64::NAN)
        };
        Ok(Self {
            minutes: load.minutes,
            load_threads: load.threads,
            ticks,
            p50_millis: at(0.5),
            p99_millis: at(0.99),
            p99_over_p50: at(0.99) / at(0.5),
            max_millis: at(1.0),
            missed_deadlines,
            frames_dropped,
            held,
            watchdog_trips,
            rss_slope_mebibytes_per_minute: slope_per_minute(memory.get(memory.len() / 10..).unwrap_or_default()),
            rss_mebibytes: resident_mebibytes(),
        })
    }
}

/// What is counted tick by tick.
#[derive(Default)]
struct Ticks {
    millis: Vec<f64>,
    /// Minutes and MiB.
    memory: Vec<(f64, f64)>,
    held: usize,
    frames_dropped: u64,
}

impl Ticks {
    /// Gives how many times the watchdog took the safe action.
    fn run(
        &mut self,
        (encoder, frame): (Box<dyn Encoder>, &Frame),
        profile: &DeviceProfile,
        (minutes, stop): (f64, &AtomicBool),
    ) -> anyhow::Result<u64> {
        let mut control = ControlLoop::new(encoder, Box::new(Rest(profile.joints.len())), profile)?;
        let watched =
            Watched { actuator: Box::new(Sink), filter: control.filter(), clock: Clock::Wall, stop: Arc::default() };
        let (watchdog, mut actuator) = Watchdog::start(watched, profile)?;
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(60.0 * minutes);
        let mut source = Beat { frame: frame.clone(), due: started, until, num_dropped: 0 };
        let ends = Ends { source: &mut source, actuator: &mut actuator };
        foresee_runtime::run(ends, &mut control, stop, &mut |event| {
            if let LoopEvent::Ticked { observation, report, .. } = event {
                let nanos = Clock::Wall.now().since(observation.frame.stamp).as_nanos();
                self.millis.push(nanos as f64 * 1e-6);
                self.held += usize::from(report.verdict.held.is_some());
                if self.millis.len() % 30 == 1 {
                    self.memory.push((started.elapsed().as_secs_f64() / 60.0, resident_mebibytes()));
                }
            }
            Ok(())
        })?;
        self.frames_dropped = source.num_dropped;
        Ok(watchdog.finish()?.num_trips)
    }
}

/// A camera that has a new picture every period, at the moment that it is due, and gives the latest.
struct Beat {
    frame: Frame,
    due: Instant,
    until: Instant,
    num_dropped: u64,
}

impl FrameSource for Beat {
    fn next(&mut self, observation: &mut Observation, _timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        // A picture that stands still is held.
        self.frame.data.iter_mut().step_by(97).for_each(|byte| *byte = byte.wrapping_add(1));
        self.frame.sequence += 1;
        observation.frame.copy_from(&self.frame);
        if let Some(left) = self.due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        let now = Instant::now();
        if now >= self.until {
            return Ok(SourceEvent::Finished);
        }
        while self.due + PERIOD <= now {
            self.due += PERIOD;
            self.num_dropped += 1;
        }
        let stamp = Clock::Wall.now().nanos.saturating_sub((now - self.due).as_nanos() as u64);
        (observation.frame.stamp.nanos, observation.joints.stamp.nanos) = (stamp, stamp);
        self.due += PERIOD;
        Ok(SourceEvent::Observed)
    }

    fn num_dropped(&self) -> u64 {
        self.num_dropped
    }
}

/// Wants every joint to rest: what the loop costs beside its encoder is in question, and no policy's skill.
struct Rest(usize);

impl Policy for Rest {
    fn reset(&mut self) {}

    fn act(&mut self, _: &Features, _: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        action.values.clear();
        action.values.resize(self.0, 0.0);
        Ok(())
    }
}

/// Nothing listens.
struct Sink;

impl Actuator for Sink {
    fn send(&mut self, _sequence: u64, _command: &SafeCommand) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// Least squares of `(minutes, MiB)`.
fn slope_per_minute(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let along: f64 = samples.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square: f64 = samples.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if square > 0.0 { along / square } else { 0.0 }
}

/// Of this process.
pub(super) fn resident_mebibytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<f64>().ok());
    pages.map_or(f64::NAN, |pages| pages * BYTES_PER_PAGE / f64::from(1 << 20))
}
