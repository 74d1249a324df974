//! Signals that end a process, as a flag that long work looks at. A further one ends the process at once, unless joints still move.
//!
//! Every terminating signal that can be caught is: the joints of a robot must not keep their last command because a terminal was closed
//! or a service was ended in an unusual way. What the process was started to ignore (SIGHUP under `nohup`) stays ignored.

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::Context;
use signal_hook::consts::{
    SIGABRT, SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
    SIGXFSZ,
};
use signal_hook::iterator::Signals;
use signal_hook::low_level::{emulate_default_handler, signal_name};

use crate::words::{say_later, settle};

/// Signals that end a process by default, but for those that cannot be caught, those of a broken program, and SIGPIPE, which is
/// ignored: a closed pipe is an error of the write.
const TERMINATING: [c_int; 15] = [
    SIGINT,
    SIGTERM,
    SIGHUP,
    SIGQUIT,
    SIGUSR1,
    SIGUSR2,
    SIGALRM,
    SIGVTALRM,
    SIGPROF,
    SIGIO,
    SIGXCPU,
    SIGXFSZ,
    SIGABRT,
    libc::SIGPWR,
    libc::SIGSTKFLT,
];

/// What the signals have asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Becomes true at the first signal.
    pub(crate) flag: Arc<AtomicBool>,
    /// The first signal's number; 0: none.
    first: Arc<AtomicI32>,
    /// Whether a further signal must not end the process: joints may move.
    is_guarded: Arc<AtomicBool>,
}

/// Installs the handlers. The flag becomes true at the first signal.
///
/// # Errors
/// When the system refuses a handler or a thread.
pub(crate) fn flag() -> anyhow::Result<Arc<AtomicBool>> {
    Stop::install().map(|stop| stop.flag)
}

impl Stop {
    /// As [`flag`].
    pub(crate) fn install() -> anyhow::Result<Self> {
        let stop = Self::default();
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let all = TERMINATING.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
        let signals: Vec<c_int> = all.filter(|signal| !is_in(ignored, *signal)).collect();
        for signal in &signals {
            // The flag does not wait for a thread.
            signal_hook::flag::register(*signal, Arc::clone(&stop.flag)).context("signal handler")?;
        }
        stop.attend(&signals)?;
        Ok(stop)
    }

    /// From now on joints move: a further signal must not end the process, nor SIGTSTP (Ctrl-Z) suspend it, which leads to the
    /// safe action as well.
    ///
    /// # Errors
    /// When the system refuses a handler or a thread.
    pub(crate) fn guard(&self) -> anyhow::Result<()> {
        self.is_guarded.store(true, Ordering::Release);
        signal_hook::flag::register(SIGTSTP, Arc::clone(&self.flag)).context("signal handler")?;
        self.attend(&[SIGTSTP])
    }

    /// The joints rest.
    pub(crate) fn release(&self) {
        self.is_guarded.store(false, Ordering::Release);
    }

    /// After SIGABRT, with which systemd ends a service that hangs, the process ends by that signal, and the service starts again.
    pub(crate) fn end_as_asked(&self) {
        if self.first.load(Ordering::Acquire) == SIGABRT {
            settle();
            // It returns only if the system refuses, and then the process ends as after any other signal.
            drop(emulate_default_handler(SIGABRT));
        }
    }

    fn attend(&self, signals: &[c_int]) -> anyhow::Result<()> {
        let mut signals = Signals::new(signals).context("signal handler")?;
        let stop = self.clone();
        let attend = move || signals.forever().for_each(|signal| stop.take(signal));
        std::thread::Builder::new().name("foresee-signals".to_owned()).spawn(attend).context("thread").map(drop)
    }

    fn take(&self, signal: c_int) {
        let name = signal_name(signal).unwrap_or("a signal");
        let is_first = self.first.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Acquire).is_ok();
        match (is_first, self.is_guarded.load(Ordering::Acquire)) {
            (true, false) => {}
            (true, true) => say_later(&format!("stop: {name}; the joints are brought to rest")),
            (false, true) => say_later(&format!("stop: {name} again; the process ends once the joints rest")),
            (false, false) => std::process::exit(128 + signal),
        }
    }
}

/// The mask of ignored signals in `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn is_in(mask: u64, signal: c_int) -> bool {
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read() {
        let mask = ignored("Name:\tforesee\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n");
        assert!(is_in(mask, SIGHUP) && is_in(mask, 13) && !is_in(mask, SIGINT) && !is_in(mask, SIGTERM));
        assert!(!is_in(ignored(""), SIGHUP));
    }
}
