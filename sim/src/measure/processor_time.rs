//! Processor time as Linux's scheduler counts it, in nanoseconds; not a number where it does not say.

use std::fs;
use std::path::Path;

/// Seconds that the calling thread has run.
pub(super) fn thread_seconds() -> f64 {
    seconds_of(Path::new("/proc/thread-self/schedstat"))
}

/// Seconds that the threads of this process that are alive have run.
pub(super) fn process_seconds() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return f64::NAN;
    };
    threads
        .flatten()
        .map(|thread| seconds_of(&thread.path().join("schedstat")))
        .filter(|seconds| seconds.is_finite())
        .sum()
}

fn seconds_of(path: &Path) -> f64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let nanos = text.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
    nanos.map_or(f64::NAN, |nanos| nanos as f64 * 1e-9)
}
