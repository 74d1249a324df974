//! Time as a value: a stamp, and the clock that is injected into whatever needs one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::safety::Moment;

/// Where [`Clock::Monotonic`] counts from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// What it gives there: what happened within the hour before has a stamp as well.
const BEFORE_BEGIN: Duration = Duration::from_secs(3600);

/// Nanoseconds since the epoch of the clock that made it (Unix time for [`Clock::Wall`], 0 = start for simulation).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Nanoseconds.
    pub nanos: u64,
}

impl Stamp {
    /// The time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanos.saturating_sub(earlier.nanos))
    }

    /// So much earlier; not before 0.
    #[must_use]
    pub(crate) fn before(self, by: Duration) -> Self {
        Self { nanos: self.nanos.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)) }
    }

    /// The time between two stamps, whichever is the later one.
    pub(crate) fn apart(self, other: Self) -> Duration {
        Duration::from_nanos(self.nanos.abs_diff(other.nanos))
    }

    /// A stamp from seconds; negative and non-finite values become 0.
    pub fn from_seconds(seconds: f64) -> Self {
        // A float-to-integer cast saturates, and NaN becomes 0.
        Self { nanos: (seconds * 1e9).round() as u64 }
    }
}

/// Where "now" comes from. Simulation and replay advance theirs; nothing in the loop reads the machine's clock itself.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's Unix time.
    Wall,
    /// Nanoseconds since an hour before it was first asked for; never jumps. No other process knows it.
    Monotonic,
    /// The machine's Unix time and so many nanoseconds more: a clock that jumps when somebody makes it.
    Shifted(Arc<AtomicI64>),
    /// The stamp last set by [`Clock::advance`]: simulated or replayed time, shared by every clone.
    Driven(Arc<AtomicU64>),
}

impl Clock {
    /// A clock at 0 that stands still until it is advanced.
    pub fn driven() -> Self {
        Self::Driven(Arc::default())
    }

    /// The time now.
    pub fn now(&self) -> Stamp {
        match self {
            Self::Wall => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Stamp { nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
            }
            Self::Monotonic => {
                let since = BEGIN.elapsed() + BEFORE_BEGIN;
                Stamp { nanos: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
            }
            Self::Shifted(nanos) => {
                Stamp { nanos: Self::Wall.now().nanos.saturating_add_signed(nanos.load(Ordering::Acquire)) }
            }
            Self::Driven(nanos) => Stamp { nanos: nanos.load(Ordering::Acquire) },
        }
    }

    /// Now, on this clock and on the one that limits count by: that does not jump, unless the time itself is given.
    pub(crate) fn moment(&self) -> Moment {
        let stamp = self.now();
        Moment { stamp, time: if self.is_real() { Self::Monotonic.now() } else { stamp } }
    }

    /// Whether it goes by itself; simulated and replayed time does not.
    pub fn is_real(&self) -> bool {
        !matches!(self, Self::Driven(_))
    }

    /// Sets a driven clock; any other goes its own way.
    pub fn advance(&self, to: Stamp) {
        if let Self::Driven(nanos) = self {
            nanos.store(to.nanos, Ordering::Release);
        }
    }
}
