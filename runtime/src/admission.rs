//! What a fixed pace asks of a frame before it is looked at: new enough, in order, no clock that jumped, no picture that stands still.

use std::time::{Duration, Instant};

use foresee_firmware_config::Pace;

use crate::frame::Frame;
use crate::safety::Hold;
use crate::time::{Clock, Stamp};

/// Bytes of a frame that are looked at: a frozen picture is equal in all of them, and sensor noise changes some.
const NUM_SAMPLES: usize = 4096;
/// A picture without a pixel above this is black: a covered lens or a dead sensor.
const BLACKEST: u8 = 4;

/// Remembers what came before.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    /// `None` in lockstep, where simulated time does not age and a picture may stand still.
    max_age: Option<Duration>,
    /// The newest stamp of this episode.
    newest: Stamp,
    /// Wall and monotonic time of the last look.
    last_look: Option<(Stamp, Instant)>,
    /// Of the last picture, and since when it has been the same.
    picture: Option<(u64, Stamp)>,
}

impl Admission {
    pub(crate) fn new(pace: Pace) -> Self {
        let max_age = match pace {
            Pace::Lockstep { .. } => None,
            Pace::Fixed { max_frame_age_millis, .. } => Some(Duration::from_millis(max_frame_age_millis)),
        };
        Self::with_max_age(max_age)
    }

    /// Of a camera with an age of its own.
    pub(crate) fn with_max_age(max_age: Option<Duration>) -> Self {
        Self { max_age, newest: Stamp::default(), last_look: None, picture: None }
    }

    /// A new episode begins.
    pub(crate) fn reset(&mut self) {
        self.newest = Stamp::default();
        self.picture = None;
    }

    /// Why a frame is not to be answered, if it is not.
    pub(crate) fn refuse(&mut self, frame: &Frame, clock: &Clock) -> Option<Hold> {
        if self.has_jumped(clock) {
            // What counts from now on is the new time.
            self.newest = Stamp::default();
            self.picture = None;
            return Some(Hold::ClockJumped);
        }
        if frame.stamp < self.newest {
            return Some(Hold::StaleFrame);
        }
        let max_age = self.max_age?;
        let now = clock.now();
        if frame.stamp.since(now) > max_age {
            return Some(Hold::ClockJumped);
        }
        if now.since(frame.stamp) > max_age {
            return Some(Hold::StaleFrame);
        }
        self.is_frozen(frame, max_age).then_some(Hold::FrozenFrame)
    }

    /// Whether an answer would come too late by now; a stamp from as far ahead is of another time, and never becomes old.
    pub(crate) fn is_too_old(&self, stamp: Stamp, clock: &Clock) -> bool {
        self.max_age.is_some_and(|max_age| clock.now().apart(stamp) > max_age)
    }

    /// How long it takes until an answer would come too late; `None`: for ever, or it would by now.
    pub(crate) fn time_left(&self, stamp: Stamp, clock: &Clock) -> Option<Duration> {
        let left = self.max_age?.checked_sub(clock.now().apart(stamp))?;
        // Then it is too old, and not just as old as it may be.
        Some(left + Duration::from_nanos(1))
    }

    /// A frame that is answered: none before it will be.
    pub(crate) fn note(&mut self, stamp: Stamp) {
        self.newest = stamp;
    }

    fn has_jumped(&mut self, clock: &Clock) -> bool {
        let Some(max_age) = self.max_age.filter(|_| clock.is_real()) else { return false };
        let (now, instant) = (clock.now(), Instant::now());
        let last = self.last_look.replace((now, instant));
        last.is_some_and(|(last, last_instant)| {
            let passed = instant.saturating_duration_since(last_instant);
            let (ahead, behind) = (now.since(last).saturating_sub(passed), passed.saturating_sub(now.since(last)));
            ahead.max(behind).max(last.since(now)) > max_age / 2
        })
    }

    fn is_frozen(&mut self, frame: &Frame, max_age: Duration) -> bool {
        let stride = (frame.data.len() / NUM_SAMPLES) | 1;
        // FNV-1a: http://www.isthe.com/chongo/tech/comp/fnv/
        let hash = frame.data.iter().step_by(stride).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let since = match self.picture {
            Some((last, since)) if last == hash => since,
            _ => frame.stamp,
        };
        self.picture = Some((hash, since));
        let is_black = frame.brightest(NUM_SAMPLES).is_some_and(|brightest| brightest <= BLACKEST);
        is_black || frame.stamp.since(since) > max_age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_now_or_not_and_one_from_ahead_never_ages() {
        let millis = |millis: u64| Stamp { nanos: millis * 1_000_000 };
        let clock = Clock::driven();
        clock.advance(millis(5000));
        let admission = Admission::with_max_age(Some(Duration::from_millis(100)));
        for (stamp, left) in
            [(4899, None), (4900, Some(0)), (4970, Some(70)), (5000, Some(100)), (5101, None), (9000, None)]
        {
            let left = left.map(|left| Duration::from_millis(left) + Duration::from_nanos(1));
            assert_eq!(admission.time_left(millis(stamp), &clock), left, "{stamp}");
            assert_eq!(admission.is_too_old(millis(stamp), &clock), left.is_none(), "{stamp}");
        }
        let lockstep = Admission::with_max_age(None);
        assert!(!lockstep.is_too_old(millis(0), &clock) && lockstep.time_left(millis(0), &clock).is_none());
    }
}
