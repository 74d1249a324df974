//! Files: written whole or not at all, read within a limit, named by their hash.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::RuntimeError;

/// Writes `bytes` to a temporary sibling, syncs it and renames it to `path`: a reader or a kill at any moment sees the old file
/// or the new one.
///
/// # Errors
/// [`RuntimeError::File`] naming `path`; the temporary file is removed.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = write_synced(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.map_err(|source| {
        // The first failure is the one to report; a leftover partial file harms nobody.
        let _ = fs::remove_file(&partial);
        RuntimeError::File { path: path.to_path_buf(), source }
    })
}

/// Hex sha256 of a file.
///
/// # Errors
/// [`RuntimeError::File`] when it cannot be read.
pub fn sha256_file(path: &Path) -> Result<String, RuntimeError> {
    let read = |source| RuntimeError::File { path: path.to_path_buf(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => return Ok(hex(&hasher.finalize())),
            num_bytes => hasher.update(buffer.get(..num_bytes).unwrap_or_default()),
        }
    }
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, RuntimeError> {
    let read = |source| RuntimeError::File { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes)).map_err(read)?;
    if bytes.len() as u64 > limit {
        return Err(read(std::io::Error::other(format!(
            "more than the {limit} bytes allowed; is this the right file?"
        ))));
    }
    Ok(bytes)
}

/// A relative path inside a folder without `.` and `..`, such as `weights/x.data` of `./weights/x.data`; nothing when it leads out.
pub(crate) fn inside_folder(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" if parts.is_empty() && path.starts_with('/') => return None,
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part if part.contains(['\\', '\0']) => return None,
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_a_folder_loses_its_detours_and_never_leads_out() {
        let check = |path: &str, expected: Option<&str>| assert_eq!(inside_folder(path).as_deref(), expected, "{path}");
        check("x.data", Some("x.data"));
        check("./x.data", Some("x.data"));
        check("weights/../x.data", Some("x.data"));
        check(".//weights/./x.data", Some("weights/x.data"));
        for outside in ["", ".", "..", "../x.data", "weights/../../x.data", "/x.data", "..\\x.data", "x\0"] {
            check(outside, None);
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.onnx");
        write_atomically(&path, b"old").expect("written");
        write_atomically(&path, b"new").expect("replaced");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
        let missing = folder.path().join("missing").join("model.onnx");
        assert!(write_atomically(&missing, b"x").is_err());
    }
}
