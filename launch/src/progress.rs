//! Progress of long jobs on standard error: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::words::say;

/// Between two lines where standard error is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar of `length` steps with a message and the time left; hidden when standard error is no terminal.
pub(crate) fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Progress of a verb through a known number of steps.
pub(crate) struct Steps {
    what: String,
    bar: ProgressBar,
    length: u64,
    /// `None` on a terminal, which has the bar.
    lines: Option<Lines>,
}

struct Lines {
    started: Instant,
    /// Steps that were done at the start: their time is not known.
    done_before: Option<u64>,
    next: Instant,
}

impl Steps {
    /// Nothing is shown before the first step, or for `LINE_EVERY` where standard error is no terminal.
    pub(crate) fn new(what: &str, length: u64) -> Self {
        let now = Instant::now();
        let lines = Lines { started: now, done_before: None, next: now + LINE_EVERY };
        let lines = (!std::io::stderr().is_terminal()).then_some(lines);
        Self { what: what.to_owned(), bar: bar(length), length, lines }
    }

    /// So many steps are done.
    pub(crate) fn set(&mut self, done: u64, message: &str) {
        self.bar.set_position(done);
        self.bar.set_message(message.to_owned());
        let Some(lines) = &mut self.lines else { return };
        let before = *lines.done_before.get_or_insert(done.saturating_sub(1));
        let now = Instant::now();
        if now >= lines.next && done < self.length {
            lines.next = now + LINE_EVERY;
            let left = time_left(now - lines.started, done.saturating_sub(before), self.length - done);
            say(&format!("{}: {done} of {}, {message}, about {} left", self.what, self.length, in_words(left)));
        }
    }

    /// Ends the display.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// At the pace so far.
fn time_left(elapsed: Duration, done: u64, remaining: u64) -> Duration {
    elapsed.mul_f64(remaining as f64 / done.max(1) as f64)
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds @ 100..=5_999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_that_of_the_steps_left() {
        let left = |done, remaining| in_words(time_left(Duration::from_secs(30), done, remaining));
        assert_eq!([left(3, 1), left(10, 100), left(1, 1000), left(0, 1)], ["10 s", "5 min", "8.3 h", "30 s"]);
    }
}
