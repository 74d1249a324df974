//! The two ways in which a verb speaks: results on standard output, what happens on standard error.

use std::io::Write;

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

#[cfg(test)]
mod tests {
    use anyhow::Context;

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::from(std::io::ErrorKind::NotFound);
        let known = cause.to_string();
        let error = Err::<(), _>(cause).context(format!("a.onnx: {known}")).context("models").unwrap_err();
        assert_eq!(super::joined(&error), format!("models: a.onnx: {known}"));
        assert_eq!(super::joined(&anyhow::anyhow!("two\nlines")), "two lines");
    }
}
