//! The two ways in which a verb speaks: results on standard output, what happens on standard error. A running loop never waits for
//! either: what it has to say is said by a thread of its own.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// What may wait to be said. A terminal that was stopped, or a pipe that nobody reads, costs lines and no more.
const NUM_WAITING: usize = 256;

/// How long the end of what is said is waited for, and how often room for it is looked for.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(5);

type Saying = Box<dyn FnOnce() + Send>;

/// Whoever speaks for those that do not wait; `None` where no thread can be had.
static SPEAKER: LazyLock<Option<SyncSender<Saying>>> = LazyLock::new(|| speaker(&NUM_UNSAID));
static NUM_UNSAID: AtomicU64 = AtomicU64::new(0);

/// A line of a result.
pub(crate) fn print(line: &str) {
    // Whoever read it may have read enough: a pipe that was closed ends no robot.
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// An error and its causes on one line; a cause that the text before it tells already is not told again.
pub(crate) fn joined(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(|cause| cause.to_string().replace('\n', " ")) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// A line of what happens.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// The same without waiting for whoever reads it.
pub(crate) fn say_later(line: &str) {
    let line = line.to_owned();
    later(move || say(&line));
}

/// Starts the thread that speaks: later there may be no memory for one.
pub(crate) fn start_speaker() {
    LazyLock::force(&SPEAKER);
}

/// Speaks on a thread of its own, in order. What finds no room is left out; how much that was is said later.
pub(crate) fn later(saying: impl FnOnce() + Send + 'static) {
    leave(SPEAKER.as_ref(), &NUM_UNSAID, Box::new(saying));
}

/// Waits until everything is said, but not for long.
pub(crate) fn settle() {
    let Some(speaker) = SPEAKER.as_ref() else { return };
    let (said, all) = sync_channel(1);
    let mut last: Saying = Box::new(move || {
        let _ = said.try_send(());
    });
    // Whoever does not read for that long will not.
    let until = Instant::now() + PATIENCE;
    while let Err(TrySendError::Full(left)) = speaker.try_send(last) {
        if Instant::now() >= until {
            return;
        }
        last = left;
        std::thread::sleep(LOOK);
    }
    let _ = all.recv_timeout(until.saturating_duration_since(Instant::now()));
}

fn leave(speaker: Option<&SyncSender<Saying>>, num_unsaid: &AtomicU64, saying: Saying) {
    if speaker.is_none_or(|speaker| speaker.try_send(saying).is_err()) {
        num_unsaid.fetch_add(1, Ordering::Relaxed);
    }
}

fn speaker(num_unsaid: &'static AtomicU64) -> Option<SyncSender<Saying>> {
    let (sender, sayings) = sync_channel::<Saying>(NUM_WAITING);
    let speak = move || {
        for saying in sayings {
            saying();
            let num = num_unsaid.swap(0, Ordering::Relaxed);
            if num > 0 {
                say(&format!("{num} lines were not shown: nobody read them in time"));
            }
        }
    };
    std::thread::Builder::new().name("foresee-words".to_owned()).spawn(speak).ok().map(|_| sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn whoever_speaks_later_does_not_wait_for_who_reads() {
        static UNSAID: AtomicU64 = AtomicU64::new(0);
        let speaker = speaker(&UNSAID);
        let (read, unread) = sync_channel::<()>(0);
        let (said, heard) = sync_channel(2 * NUM_WAITING);
        // Nobody reads what is said first.
        leave(speaker.as_ref(), &UNSAID, Box::new(move || assert!(unread.recv().is_err())));
        for number in 0..2 * NUM_WAITING {
            let said = said.clone();
            leave(speaker.as_ref(), &UNSAID, Box::new(move || said.send(number).unwrap()));
        }
        let num_unsaid = UNSAID.load(Ordering::Relaxed);
        // What is said at the moment waits no more; the speaker may not have begun yet.
        assert!([NUM_WAITING, NUM_WAITING + 1].contains(&(num_unsaid as usize)), "{num_unsaid}");
        drop(read);
        let num_said = 2 * NUM_WAITING - num_unsaid as usize;
        for number in 0..num_said {
            assert_eq!(heard.recv_timeout(Duration::from_secs(20)), Ok(number));
        }
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        let known = cause.to_string();
        let error = Err::<(), _>(cause).context(format!("a.onnx: {known}")).context("models").unwrap_err();
        assert_eq!(super::joined(&error), format!("models: a.onnx: {known}"));
        assert_eq!(super::joined(&anyhow::anyhow!("two\nlines")), "two lines");
    }
}
