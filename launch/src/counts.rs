//! Counts on the command line: what no machine can mean is refused by the flag that it was given with.

use anyhow::bail;

/// Whether each count lies in 1 to its limit: flag, count, limit.
///
/// # Errors
/// Names the first flag that does not.
pub(crate) fn check_counts(counts: &[(&str, usize, usize)]) -> anyhow::Result<()> {
    match counts.iter().find(|(_, count, most)| !(1..=*most).contains(count)) {
        Some((flag, 0, _)) => bail!("{flag} 0: give at least 1"),
        Some((flag, count, most)) => bail!("{flag} {count}: give at most {most}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check_counts;

    #[test]
    fn a_count_outside_its_limits_is_named_by_its_flag() {
        let said =
            |count: usize| check_counts(&[("--one", 1, 1), ("--two", count, 8)]).map_err(|error| error.to_string());
        assert_eq!(said(8), Ok(()));
        assert_eq!(said(0), Err("--two 0: give at least 1".to_owned()));
        assert_eq!(said(9), Err("--two 9: give at most 8".to_owned()));
    }
}
