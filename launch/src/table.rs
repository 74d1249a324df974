//! The live table of a run: one row an episode, the current one redrawn in place on a terminal.

use std::cell::Cell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::result::Millis;
use crate::words::{later, say_later, settle};

/// One row.
pub(crate) struct Row<'a> {
    /// Counts from 1.
    pub(crate) episode: u32,
    /// `None` while the episode runs.
    pub(crate) episode_return: Option<f64>,
    pub(crate) num_steps: u32,
    /// `None` while the episode runs.
    pub(crate) success: Option<bool>,
    pub(crate) loop_millis: Millis,
    pub(crate) frames_dropped: u64,
    pub(crate) provider: &'a str,
}

/// Draws rows on standard error, from a thread of its own: whoever fills it in does not wait for a terminal.
pub(crate) struct Table {
    live: Option<ProgressBar>,
    /// Whether the columns of episodes were named; a robot has none.
    has_head: Cell<bool>,
}

impl Table {
    /// An empty table; its head comes with the first episode.
    pub(crate) fn new() -> Self {
        let live = std::io::stderr().is_terminal().then(|| {
            let live = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{msg}") {
                live.set_style(style);
            }
            live.enable_steady_tick(Duration::from_millis(250));
            live
        });
        Self { live, has_head: Cell::new(false) }
    }

    fn head(&self) {
        if !self.has_head.replace(true) {
            self.line("episode    steps   return  success   p50 ms   p99 ms  dropped  provider");
        }
    }

    /// Redraws the current episode; nothing when the output is not a terminal.
    pub(crate) fn update(&self, row: &Row<'_>) {
        self.head();
        self.set(|| text(row));
    }

    /// Redraws the line of a robot, which has no episodes; nothing when the output is not a terminal.
    pub(crate) fn update_robot(&self, text: impl FnOnce() -> String) {
        self.set(text);
    }

    fn set(&self, text: impl FnOnce() -> String) {
        if let Some(live) = &self.live {
            let (live, text) = (live.clone(), text());
            later(move || live.set_message(text));
        }
    }

    /// A finished episode becomes a row that stays.
    pub(crate) fn finish_row(&self, row: &Row<'_>) {
        self.head();
        self.line(&text(row));
    }

    /// A line above the current row.
    pub(crate) fn line(&self, line: &str) {
        match &self.live {
            Some(live) => {
                let (live, line) = (live.clone(), line.to_owned());
                later(move || live.println(line));
            }
            None => say_later(line),
        }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            later(move || live.finish_and_clear());
        }
        settle();
    }
}

fn text(row: &Row<'_>) -> String {
    let success = match row.success {
        None => "...",
        Some(true) => "yes",
        Some(false) => "no",
    };
    let episode_return = row.episode_return.map_or_else(|| "...".to_owned(), |value| format!("{value:.1}"));
    format!(
        "{:>7}  {:>7}  {episode_return:>7}  {success:>7}  {:>7.2}  {:>7.2}  {:>7}  {}",
        row.episode, row.num_steps, row.loop_millis.p50, row.loop_millis.p99, row.frames_dropped, row.provider
    )
}
