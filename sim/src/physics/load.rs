//! How a model comes from MJCF text and the files it names.

use std::io::Write as _;
use std::path::Path;
use std::sync::Once;

use mujoco_rs::prelude::{MjLogMessage, MjModel, MjtLogLevel, set_log_handler};
use mujoco_rs::wrappers::mj_auxiliary::MjVfs;

use super::plugins::with_advice;
use crate::error::SimError;

/// The libmujoco that this crate is made for; others change struct layouts or results.
pub const MUJOCO_VERSION: &str = "3.17.0";

/// MJCF text and the files that it names.
#[derive(Debug)]
pub struct ModelSource<'a> {
    /// What errors call it.
    pub name: &'a str,
    /// MJCF.
    pub xml: &'a str,
    /// Folder of the files.
    pub folder: &'a Path,
    /// Included files, meshes, textures: paths below the folder as the MJCF writes them.
    pub files: &'a [String],
    /// Texts that stand in for files of these names.
    pub texts: &'a [(&'a str, &'a str)],
}

/// Where the assets lie, and how much of them is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Assets<'a> {
    /// The folder of native parts (`target/native`).
    pub native: &'a Path,
    /// How large the textures may be.
    pub textures: Textures,
}

/// How large textures may be; they change images alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Textures {
    /// As the original has them.
    Full,
    /// Large backgrounds shrunk: an environment without images takes a twentieth of the memory and loads faster.
    Small,
}

/// Reads one text file of a task's assets.
///
/// # Errors
/// [`SimError::Asset`] when it is not there.
pub(crate) fn read_text(path: &Path) -> Result<String, SimError> {
    std::fs::read_to_string(path).map_err(|source| SimError::Asset { path: path.to_path_buf(), source })
}

/// Compiles a model from its file.
pub(super) fn compile_file(name: &str, path: &Path) -> Result<MjModel, SimError> {
    prepare()?;
    // MuJoCo would say no more than that it cannot open the file.
    std::fs::metadata(path).map_err(|source| SimError::Asset { path: path.to_path_buf(), source })?;
    let problem =
        |problem: String| SimError::Model { name: name.to_string(), problem: with_advice(one_line(&problem)) };
    MjModel::from_xml(path).map_err(|error| problem(error.to_string()))
}

/// Compiles a text in place of a file's; what it names lies beside the file.
pub(super) fn compile_text(name: &str, path: &Path, text: &str) -> Result<MjModel, SimError> {
    prepare()?;
    let problem =
        |problem: String| SimError::Model { name: name.to_string(), problem: with_advice(one_line(&problem)) };
    let path = path.to_string_lossy();
    let mut files = MjVfs::new();
    files.add_from_buffer(&*path, text.as_bytes()).map_err(|error| problem(error.to_string()))?;
    MjModel::from_xml_vfs(&*path, &files).map_err(|error| problem(error.to_string()))
}

/// Compiles a model from memory, so that a changed text needs no file.
pub(super) fn compile(source: &ModelSource<'_>) -> Result<MjModel, SimError> {
    prepare()?;
    let problem = |problem: String| SimError::Model { name: source.name.to_string(), problem };
    let mut files = MjVfs::new();
    for (name, text) in source.texts {
        files.add_from_buffer(name, text.as_bytes()).map_err(|error| problem(format!("{name}: {error}")))?;
    }
    for file in source.files {
        if source.texts.iter().any(|(name, _)| name == file) {
            continue;
        }
        let path = source.folder.join(file);
        let bytes = std::fs::read(&path).map_err(|error| SimError::Asset { path, source: error })?;
        files.add_from_buffer(file, &bytes).map_err(|error| problem(format!("{file}: {error}")))?;
    }
    files.add_from_buffer("model.xml", source.xml.as_bytes()).map_err(|error| problem(error.to_string()))?;
    MjModel::from_xml_vfs("model.xml", &files).map_err(|error| problem(one_line(&error.to_string())))
}

/// What must hold before MuJoCo is used at all.
fn prepare() -> Result<(), SimError> {
    check_version(mujoco_rs::mujoco_version())?;
    keep_quiet();
    Ok(())
}

fn check_version(found: &str) -> Result<(), SimError> {
    if found == MUJOCO_VERSION {
        return Ok(());
    }
    Err(SimError::Version { found: found.to_string(), expected: MUJOCO_VERSION })
}

/// MuJoCo would write its warnings to the terminal and into a file in the working folder; they are read from the state
/// instead. Errors end the process, so their text must still appear.
fn keep_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[expect(unsafe_code, reason = "mujoco-rs has no safe way to set the log handler")]
        // SAFETY: this crate makes every model of the process here, so MuJoCo is not in use before this call returns.
        unsafe {
            set_log_handler(handle_message);
        }
    });
}

fn handle_message(message: &MjLogMessage) {
    if message.level() == MjtLogLevel::mjLOG_ERROR {
        // A failure to write leaves nothing else to do: MuJoCo ends the process after this call.
        let _ = writeln!(std::io::stderr(), "MuJoCo stopped the process: {}", message.subject());
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_libmujoco_is_named_with_the_fix() {
        assert!(check_version(MUJOCO_VERSION).is_ok());
        let error = check_version("4.0.0").unwrap_err().to_string();
        assert!(error.contains("version 4.0.0, but 3.17.0 is needed; run ./launch/setup"), "{error}");
    }
}
