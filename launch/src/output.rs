//! Files that a verb writes: each ends as its kind does, and none is a file that the verb reads.

use std::path::Path;

use anyhow::bail;

use crate::places::is_same_file;

/// Whether `--out` may be written: it ends in `.extension` and is none of `inputs`, under whatever name.
///
/// # Errors
/// Names the file and what to give instead.
pub(crate) fn check_output(output: &Path, extension: &str, inputs: &[&Path]) -> anyhow::Result<()> {
    let shown = output.display();
    if output.extension().is_none_or(|given| given != extension) {
        bail!("--out {shown}: give a file that ends in .{extension}");
    }
    if inputs.iter().any(|input| is_same_file(input, output)) {
        bail!("--out {shown}: is the file that is read, and would be lost; give another name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_output;

    #[test]
    fn what_is_read_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let [input, other] = ["in.onnx", "other.onnx"].map(|name| folder.path().join(name));
        std::fs::write(&input, "weights").unwrap();
        std::os::unix::fs::symlink(&input, folder.path().join("link.onnx")).unwrap();
        let check = |output: &str| {
            check_output(&folder.path().join(output), "onnx", &[&input]).map_err(|error| error.to_string())
        };
        for same in ["in.onnx", "./in.onnx", "link.onnx"] {
            assert!(check(same).is_err_and(|said| said.contains("is the file that is read")), "{same}");
        }
        assert!(check("card.json").is_err_and(|said| said.contains("card.json: give a file that ends in .onnx")));
        assert_eq!(check("other.onnx"), Ok(()));
        std::fs::write(other, "an older export").unwrap();
        assert_eq!(check("other.onnx"), Ok(()));
    }
}
