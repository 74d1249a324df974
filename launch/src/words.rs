//! The two ways in which a verb speaks: results on standard output, what happens on standard error.

/// A line of a result.
#[expect(clippy::print_stdout, reason = "a verb's result goes to standard output")]
pub(crate) fn print(line: &str) {
    println!("{line}");
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
#[expect(clippy::print_stderr, reason = "what happens goes to standard error, beside the result")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
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
