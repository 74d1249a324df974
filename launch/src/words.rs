//! The two ways in which a verb speaks: results on standard output, what happens on standard error.

/// A line of a result.
#[expect(clippy::print_stdout, reason = "a verb's result goes to standard output")]
pub(crate) fn print(line: &str) {
    println!("{line}");
}

/// A line of what happens.
#[expect(clippy::print_stderr, reason = "what happens goes to standard error, beside the result")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
