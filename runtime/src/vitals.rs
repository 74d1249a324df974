//! What a running loop tells about itself: counters that the loop writes without waiting and anybody may read.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::control_loop::{Stage, TickReport};
use crate::rig::CameraRig;
use crate::safety::{Hold, SafetyState};
use crate::time::Stamp;

/// Upper edges of the bars of a [`VitalHistogram`], in microseconds; a last bar takes the rest.
pub const VITAL_EDGES_MICROS: [u64; 14] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 33_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

/// No stamp.
const NEVER: u64 = u64::MAX;

/// What a loop is doing, as its page shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VitalState {
    /// No command came yet.
    Starting,
    /// Commands follow the policy.
    Normal,
    /// Commands follow the policy, under a condition that may not last: heat, a late tick.
    Degraded,
    /// Commands hold.
    Holding,
    /// The loop has ended.
    Stopped,
}

impl VitalState {
    /// Every state, in order.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Normal, Self::Degraded, Self::Holding, Self::Stopped];

    /// The name used in pages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Holding => "holding",
            Self::Stopped => "stopped",
        }
    }
}

/// A histogram of times that is written without waiting.
#[derive(Debug, Default)]
pub struct VitalHistogram {
    bars: [AtomicU64; VITAL_EDGES_MICROS.len() + 1],
    sum_nanos: AtomicU64,
}

impl VitalHistogram {
    /// Counts one time in nanoseconds.
    pub fn record(&self, nanos: u64) {
        let bar = VITAL_EDGES_MICROS.partition_point(|edge| edge * 1000 < nanos);
        if let Some(bar) = self.bars.get(bar) {
            bar.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// How many times were at most each edge, and at last how many there were.
    pub fn cumulative(&self) -> [u64; VITAL_EDGES_MICROS.len() + 1] {
        let mut so_far = 0;
        self.bars.each_ref().map(|bar| {
            so_far += bar.load(Ordering::Relaxed);
            so_far
        })
    }

    /// The sum of the times, in nanoseconds.
    pub fn sum_nanos(&self) -> u64 {
        self.sum_nanos.load(Ordering::Relaxed)
    }
}

/// The counters of one loop. Writing one is a few relaxed atomic additions: it allocates nothing and waits for nobody.
#[derive(Debug)]
pub struct Vitals {
    started: Instant,
    /// Nanoseconds after `started` at which the loop was last heard of; 0: never.
    heard_nanos: AtomicU64,
    state: AtomicU8,
    /// Of [`Hold::ALL`], counted from 1; 0: nothing is held.
    hold: AtomicU8,
    is_hot: AtomicU8,
    /// Stamps of the newest frame and joint state; [`NEVER`]: none came.
    frame_nanos: AtomicU64,
    joints_nanos: AtomicU64,
    /// Ticks answered.
    pub num_ticks: AtomicU64,
    /// Frames lost before the loop.
    pub num_dropped: AtomicU64,
    /// Messages that could not be read.
    pub num_unreadable: AtomicU64,
    /// Times that the sequence of a stream went back: its publisher started again.
    pub num_restarts: AtomicU64,
    /// Ticks in which a stage failed.
    pub num_failures: AtomicU64,
    /// Commands in which a joint was moved into its range.
    pub num_clamped: AtomicU64,
    /// Commands in which a joint was slowed to its rate.
    pub num_rate_limited: AtomicU64,
    /// Commands held, while frames came and while none did.
    pub num_held: AtomicU64,
    /// Frame in memory to command in memory.
    pub tick: VitalHistogram,
    /// By stage, in [`Stage::ALL`]'s order.
    pub stages: [VitalHistogram; Stage::ALL.len()],
    /// One a camera, the profile's first.
    pub cameras: Vec<CameraVitals>,
}

/// The counters of one camera, as [`crate::CameraAccount`] has them.
#[derive(Debug, Default)]
pub struct CameraVitals {
    /// The camera's name.
    pub name: String,
    /// Frames encoded.
    pub num_frames: AtomicU64,
    /// Frames that another one overtook.
    pub num_passed_over: AtomicU64,
    /// Ticks not answered because of this camera.
    pub num_refused: AtomicU64,
    /// Ticks over this camera's budget.
    pub num_over_budget: AtomicU64,
}

impl Default for Vitals {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            heard_nanos: AtomicU64::default(),
            state: AtomicU8::default(),
            hold: AtomicU8::default(),
            is_hot: AtomicU8::default(),
            frame_nanos: AtomicU64::new(NEVER),
            joints_nanos: AtomicU64::new(NEVER),
            num_ticks: AtomicU64::default(),
            num_dropped: AtomicU64::default(),
            num_unreadable: AtomicU64::default(),
            num_restarts: AtomicU64::default(),
            num_failures: AtomicU64::default(),
            num_clamped: AtomicU64::default(),
            num_rate_limited: AtomicU64::default(),
            num_held: AtomicU64::default(),
            tick: VitalHistogram::default(),
            stages: Default::default(),
            cameras: Vec::new(),
        }
    }
}

impl Vitals {
    /// Of a loop with these cameras.
    pub fn of<'a>(cameras: impl IntoIterator<Item = &'a str>) -> Self {
        let vitals = |name: &str| CameraVitals { name: name.to_owned(), ..CameraVitals::default() };
        Self { cameras: cameras.into_iter().map(vitals).collect(), ..Self::default() }
    }

    /// Takes over what the cameras counted.
    pub fn record_cameras(&self, cameras: &CameraRig) {
        for (vitals, account) in self.cameras.iter().zip(cameras.accounts()) {
            for (counter, count) in [
                (&vitals.num_frames, account.num_frames),
                (&vitals.num_passed_over, account.num_passed_over),
                (&vitals.num_refused, account.num_refused),
                (&vitals.num_over_budget, account.num_over_budget),
            ] {
                counter.store(count, Ordering::Relaxed);
            }
        }
    }

    /// Counts a tick; [`Vitals::follow`] says what the joints do.
    pub fn record(&self, report: &TickReport, num_dropped: u64) {
        let add = |counter: &AtomicU64, one: bool| counter.fetch_add(u64::from(one), Ordering::Relaxed);
        add(&self.num_ticks, true);
        add(&self.num_failures, report.failed.is_some());
        add(&self.num_clamped, report.verdict.num_clamped > 0);
        add(&self.num_rate_limited, report.verdict.num_rate_limited > 0);
        add(&self.num_held, report.verdict.held.is_some());
        self.num_dropped.store(num_dropped, Ordering::Relaxed);
        self.tick.record(report.total_nanos());
        for (histogram, nanos) in self.stages.iter().zip(report.stage_nanos) {
            histogram.record(nanos);
        }
        self.hear();
    }

    /// Counts a command that held because no frame came.
    pub fn record_hold(&self) {
        self.num_held.fetch_add(1, Ordering::Relaxed);
        self.hear();
    }

    /// Takes over what the joints are doing.
    pub fn follow(&self, state: SafetyState) {
        let place = |why: Hold| Hold::ALL.iter().position(|known| *known == why).unwrap_or_default();
        let hold = state.reason().map_or(0, |why| u8::try_from(place(why) + 1).unwrap_or_default());
        self.hold.store(hold, Ordering::Relaxed);
        self.set_state(match state {
            SafetyState::Starting => VitalState::Starting,
            SafetyState::Normal => VitalState::Normal,
            SafetyState::Degraded { .. } => VitalState::Degraded,
            SafetyState::Holding { .. } | SafetyState::Stopped { .. } => VitalState::Holding,
        });
    }

    /// Why the joints are held, if they are.
    pub fn hold(&self) -> Option<Hold> {
        let place = usize::from(self.hold.load(Ordering::Relaxed)).checked_sub(1)?;
        Hold::ALL.get(place).copied()
    }

    /// Takes over the stamp of the newest frame.
    pub fn see_frame(&self, stamp: Stamp) {
        self.frame_nanos.store(stamp.nanos, Ordering::Relaxed);
    }

    /// Takes over the stamp of the newest joint state.
    pub fn see_joints(&self, stamp: Stamp) {
        self.joints_nanos.store(stamp.nanos, Ordering::Relaxed);
    }

    /// The stamp of the newest frame, if one came.
    pub fn frame_stamp(&self) -> Option<Stamp> {
        stamp_of(&self.frame_nanos)
    }

    /// The stamp of the newest joint state, if one came.
    pub fn joints_stamp(&self) -> Option<Stamp> {
        stamp_of(&self.joints_nanos)
    }

    /// The loop lives, whether or not a frame came.
    pub fn hear(&self) {
        let nanos = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_nanos.store(nanos.max(1), Ordering::Relaxed);
    }

    /// How long the loop was not heard of; `None`: it never was.
    pub fn silence(&self) -> Option<Duration> {
        match self.heard_nanos.load(Ordering::Relaxed) {
            0 => None,
            heard => Some(self.started.elapsed().saturating_sub(Duration::from_nanos(heard))),
        }
    }

    /// How long ago the account began.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Sets what the loop does. One that has stopped stays so.
    pub fn set_state(&self, state: VitalState) {
        if self.state.load(Ordering::Relaxed) != VitalState::Stopped as u8 {
            self.state.store(state as u8, Ordering::Relaxed);
        }
    }

    /// Says whether the machine throttles for heat: a loop that is normal is then degraded.
    pub fn set_hot(&self, is_hot: bool) {
        self.is_hot.store(u8::from(is_hot), Ordering::Relaxed);
    }

    /// Whether the machine throttles for heat.
    pub fn is_hot(&self) -> bool {
        self.is_hot.load(Ordering::Relaxed) != 0
    }

    /// What the loop does.
    pub fn state(&self) -> VitalState {
        let state = self.state.load(Ordering::Relaxed);
        let state = VitalState::ALL.into_iter().find(|known| *known as u8 == state).unwrap_or(VitalState::Stopped);
        if state == VitalState::Normal && self.is_hot() { VitalState::Degraded } else { state }
    }
}

fn stamp_of(nanos: &AtomicU64) -> Option<Stamp> {
    Some(nanos.load(Ordering::Relaxed)).filter(|nanos| *nanos != NEVER).map(|nanos| Stamp { nanos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safety::{Hold, Verdict};
    use crate::time::Stamp;

    #[test]
    fn a_tick_is_counted_in_its_bar_and_state() {
        let vitals = Vitals::default();
        assert_eq!((vitals.state(), vitals.silence()), (VitalState::Starting, None));
        let report = TickReport { stage_nanos: [100_000, 1_000_001, 0, 0], ..TickReport::default() };
        vitals.record(&report, 3);
        vitals.follow(SafetyState::Normal);
        assert_eq!(vitals.state(), VitalState::Normal);
        // An edge belongs to its bar.
        assert_eq!(vitals.stages[Stage::Preprocess as usize].cumulative()[0], 1);
        assert_eq!(vitals.stages[Stage::Encode as usize].cumulative()[3..6], [0, 1, 1]);
        assert_eq!(vitals.tick.sum_nanos(), 1_100_001);
        vitals.tick.record(u64::from(u32::MAX));
        assert_eq!(vitals.tick.cumulative()[13..], [1, 2]);
        vitals.set_hot(true);
        assert_eq!(vitals.state(), VitalState::Degraded);
        let verdict = Verdict { held: Some(Hold::StaleFrame), ..Verdict::default() };
        vitals.record(&TickReport { verdict, ..TickReport::default() }, 3);
        vitals.record_hold();
        assert_eq!(vitals.num_held.load(Ordering::Relaxed), 2);
        let since = Stamp::default();
        for (state, shown) in [
            (SafetyState::Degraded { since }, VitalState::Degraded),
            (SafetyState::Holding { since, reason: Hold::StaleFrame }, VitalState::Holding),
            (SafetyState::Stopped { reason: Hold::NotFinite }, VitalState::Holding),
        ] {
            vitals.follow(state);
            assert_eq!((vitals.state(), vitals.hold()), (shown, state.reason()));
        }
        assert_eq!((vitals.frame_stamp(), vitals.joints_stamp()), (None, None));
        vitals.see_frame(Stamp { nanos: 0 });
        vitals.see_joints(Stamp { nanos: 7 });
        assert_eq!((vitals.frame_stamp(), vitals.joints_stamp()), (Some(Stamp { nanos: 0 }), Some(Stamp { nanos: 7 })));
        vitals.set_state(VitalState::Stopped);
        vitals.follow(SafetyState::Normal);
        assert_eq!(vitals.state(), VitalState::Stopped);
    }
}
