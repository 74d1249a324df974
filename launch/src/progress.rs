//! Progress bars for long jobs.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of `length` steps with a message and the time left; hidden when standard error is no terminal.
pub(crate) fn bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  {eta} left") {
        bar.set_style(style);
    }
    bar
}
