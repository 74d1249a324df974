//! How late this machine runs a thread that is due: what a row of the fault matrix may be granted, measured and no guess.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Nothing later than this is granted.
const MOST: Duration = Duration::from_millis(500);
const NAP: Duration = Duration::from_millis(1);
/// What a sound machine takes beyond a sleep.
const USUAL: Duration = Duration::from_millis(1);

type Naps = Arc<Mutex<Vec<(Instant, Instant)>>>;

/// A reference thread that only sleeps, and the times at which it woke later than it asked for.
#[derive(Debug)]
pub struct Lateness {
    late: Naps,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lateness {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, when there is no thread.
    pub fn start() -> std::io::Result<Self> {
        let (late, stop) = (Naps::default(), Arc::<AtomicBool>::default());
        let nap = {
            let (late, stop) = (Arc::clone(&late), Arc::clone(&stop));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let due = Instant::now() + NAP;
                    std::thread::sleep(NAP);
                    let woke = Instant::now();
                    if woke > due + USUAL {
                        late.lock().unwrap_or_else(PoisonError::into_inner).push((due, woke));
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("foresee-lateness".to_owned()).spawn(nap)?;
        Ok(Self { late, stop, thread: Some(thread) })
    }

    /// The longest that the thread was late for between the two moments; at most half a second.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        worst(&late, from, to)
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // It only sleeps; it does not panic.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn worst(late: &[(Instant, Instant)], from: Instant, to: Instant) -> Duration {
    let inside = late.iter().filter(|(due, woke)| *woke >= from && *due <= to);
    inside.map(|(due, woke)| woke.saturating_duration_since(*due)).max().unwrap_or_default().min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_late_meanwhile_is_granted_and_never_more_than_the_most() {
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        let late = [(at(10), at(40)), (at(100), at(105)), (at(200), at(900))];
        for (from, to, millis) in [(0, 50, 30), (50, 150, 5), (120, 150, 0), (20, 120, 30), (300, 400, 500)] {
            assert_eq!(worst(&late, at(from), at(to)), Duration::from_millis(millis), "{from} to {to}");
        }
    }
}
