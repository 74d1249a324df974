//! What is wrong with a stamp, in words for who sets it: which stream, which stamp, which clock, and by how much they differ.

use std::time::Duration;

use crate::time::Stamp;

/// No running computer was started longer ago than this: a smaller stamp counts from a start, a greater one is Unix time.
const LONGEST_UPTIME_NANOS: u64 = 10 * 365 * 86_400 * 1_000_000_000;
/// Beyond this a difference is one of clocks, and not of latency.
const LONGEST_LATENCY: Duration = Duration::from_secs(10);

/// Why a stamp is too old, or too far ahead of `now`, by more than `max_age`; `None`: it is neither.
pub fn stamp_fault(stream: &str, stamp: Stamp, now: Stamp, max_age: Duration) -> Option<String> {
    let (old, ahead) = (now.since(stamp), stamp.since(now));
    if old.max(ahead) <= max_age {
        return None;
    }
    let (seconds, clock) = (stamp.nanos as f64 * 1e-9, now.nanos as f64 * 1e-9);
    let stamped = format!("{stream} is stamped {seconds:.3} s");
    Some(match () {
        () if stamp.nanos == 0 => {
            format!(
                "{stream} is stamped 0: its publisher sets no time; set header.stamp to the Unix time of the measurement"
            )
        }
        () if now.nanos > LONGEST_UPTIME_NANOS && stamp.nanos < LONGEST_UPTIME_NANOS => format!(
            "{stamped}, {:.4e} s before this clock ({clock:.3} s): time since boot or simulated time? set header.stamp to Unix \
             time (CLOCK_REALTIME; use_sim_time false)",
            old.as_secs_f64()
        ),
        () if ahead > max_age => format!(
            "{stamped}, {:.3} s after this clock ({clock:.3} s): bring the clocks of both machines in step (chrony, PTP)",
            ahead.as_secs_f64()
        ),
        () if old > LONGEST_LATENCY => format!(
            "{stamped}, {:.3} s before this clock ({clock:.3} s): it ceased, or the clocks of both machines are not in step \
             (chrony, PTP)",
            old.as_secs_f64()
        ),
        () => format!("{stream} is {:.3} s old, at most {:.3} s are allowed", old.as_secs_f64(), max_age.as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_of_another_clock_is_named() {
        let at = |seconds: f64| Stamp::from_seconds(seconds);
        let fault = |seconds, now| stamp_fault("joint_states", at(seconds), at(now), Duration::from_millis(100));
        let now = 1_764_556_800.0;
        for (seconds, words) in [
            (0.0, &["joint_states is stamped 0", "header.stamp"][..]),
            (
                86_400.5,
                &["joint_states is stamped 86400.500 s", "1.7645e9 s before this clock (1764556800.000 s)", "boot"],
            ),
            (now + 3.0, &["3.000 s after this clock", "chrony"]),
            (now - 60.0, &["60.000 s before this clock", "chrony"]),
            (now - 0.3, &["joint_states is 0.300 s old", "at most 0.100 s"]),
        ] {
            let fault = fault(seconds, now).unwrap();
            assert!(words.iter().all(|word| fault.contains(word)), "{fault}");
        }
        assert_eq!(fault(now - 0.1, now), None);
        assert_eq!(fault(now + 0.1, now), None);
        // A clock that was never set is no reason to speak of another one's boot.
        assert!(fault(60.0, 100.0).unwrap().contains("not in step"));
    }
}
