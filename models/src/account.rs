//! Where the time of a training step goes: seconds by kind of work, over all threads, counted only while that is asked for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Linear,
    Attention,
    Norm,
    Activation,
    /// All of the network, with what is above and the rest of it.
    Network,
    /// Waiting for samples, and drawing what is random.
    Samples,
    /// Reading gradients off the graph and adding them up.
    Gradients,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    Backward,
}

const NUM_KINDS: usize = Work::Gradients as usize + 1;

static IS_COUNTING: AtomicBool = AtomicBool::new(false);
static NANOS: [[AtomicU64; 2]; NUM_KINDS] = [const { [const { AtomicU64::new(0) }; 2] }; NUM_KINDS];

/// Counts from now until it is dropped.
#[must_use]
pub(crate) struct Timer(Option<(Work, Pass, Instant)>);

impl Timer {
    pub(crate) fn start(work: Work, pass: Pass) -> Self {
        Self(IS_COUNTING.load(Ordering::Relaxed).then(|| (work, pass, Instant::now())))
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some((work, pass, started)) = self.0.take() {
            let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            counter(work, pass).fetch_add(nanos, Ordering::Relaxed);
        }
    }
}

/// Sets all counts to zero and begins to count.
pub(crate) fn begin() {
    NANOS.iter().flatten().for_each(|nanos| nanos.store(0, Ordering::Relaxed));
    IS_COUNTING.store(true, Ordering::Relaxed);
}

/// Counts no longer.
pub(crate) fn end() {
    IS_COUNTING.store(false, Ordering::Relaxed);
}

/// Seconds counted between [`begin`] and [`end`].
pub(crate) fn seconds(work: Work, pass: Pass) -> f64 {
    counter(work, pass).load(Ordering::Relaxed) as f64 / 1e9
}

#[expect(clippy::indexing_slicing, reason = "the kinds are as many as the counters")]
fn counter(work: Work, pass: Pass) -> &'static AtomicU64 {
    &NANOS[work as usize][pass as usize]
}
