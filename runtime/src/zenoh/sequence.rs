//! Where a message stands in its stream, by the number that its publisher attaches.
//!
//! At a fixed pace no number keeps a message from being taken: a publisher that starts again counts from 0, and what another program
//! attaches (a text, a time) need not be a number at all. A number tells how many messages are missing, and no more.

/// What jumps further ahead is not a sequence, such as a time in nanoseconds.
const LARGEST_GAP: u64 = 100_000;

/// The numbers of one stream so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sequence {
    last: Option<u64>,
    attached: Option<u64>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The publisher's number; counted on here where it attaches none.
    pub(super) sequence: u64,
    /// Messages missing since the one before.
    pub(super) num_missing: u64,
    /// The number before, where this one is smaller: the publisher started again.
    pub(super) restarted_after: Option<u64>,
}

impl Sequence {
    /// Takes the number attached to the next message.
    pub(super) fn next(&mut self, attached: Option<u64>) -> Place {
        let is_first = self.last.is_none();
        let before = std::mem::replace(&mut self.attached, attached);
        let counted = self.last.map_or(0, |last| last.saturating_add(1));
        let (sequence, num_missing, restarted_after) = match (before, attached) {
            (Some(before), Some(now)) if now < before => (now, 0, Some(before)),
            (Some(before), Some(now)) if now > before && now - before <= LARGEST_GAP => (now, now - before - 1, None),
            (None, Some(now)) if is_first => (now, 0, None),
            _ => (counted, 0, None),
        };
        self.last = Some(sequence);
        Place { sequence, num_missing, restarted_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(attached: impl IntoIterator<Item = Option<u64>>) -> Vec<(u64, u64, Option<u64>)> {
        let mut sequence = Sequence::default();
        let place = |attached| sequence.next(attached);
        let places = attached.into_iter().map(place);
        places.map(|place| (place.sequence, place.num_missing, place.restarted_after)).collect()
    }

    #[test]
    fn gaps_are_counted_and_a_restart_is_followed_at_once() {
        let told = places([5, 6, 9, 0, 1, 0].map(Some));
        assert_eq!(told, [(5, 0, None), (6, 0, None), (9, 2, None), (0, 0, Some(9)), (1, 0, None), (0, 0, Some(1))]);
    }

    #[test]
    fn what_is_not_a_sequence_is_counted_here() {
        assert_eq!(places([None; 3]), [(0, 0, None), (1, 0, None), (2, 0, None)]);
        let text = u64::from_le_bytes(*b"wrist/l8");
        assert_eq!(places([Some(text); 3]), [(text, 0, None), (text + 1, 0, None), (text + 2, 0, None)]);
        let times = places([1_000_000_000, 1_033_000_000, 1_066_000_000].map(Some));
        assert_eq!(times.iter().map(|place| place.1).sum::<u64>(), 0);
        assert_eq!(places([Some(u64::MAX), Some(u64::MAX), None]).last(), Some(&(u64::MAX, 0, None)));
    }
}
