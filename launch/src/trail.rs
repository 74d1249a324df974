//! The trail of commands behind a folder or a file: each job leaves `commands.json` with its own command line after those of what it read.

use std::path::Path;

use foresee_runtime::write_atomically;

const TRAIL_FILE: &str = "commands.json";

/// This process's command line, as a user would type it from a checkout.
pub(crate) fn command_line() -> String {
    let arguments = std::env::args().skip(1).map(|argument| {
        let is_plain = argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=,:".contains(c));
        if is_plain { argument } else { format!("'{}'", argument.replace('\'', r"'\''")) }
    });
    std::iter::once("./launch/foresee".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The commands that led to `folders`, in order, each once; a folder without a trail adds none.
pub(crate) fn behind<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for folder in folders {
        let trail = std::fs::read(folder.join(TRAIL_FILE)).ok();
        let known: Vec<String> = trail.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        for command in known {
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
    }
    commands
}

/// Leaves in `folder` the commands behind `inputs` and this one.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn leave<'a>(folder: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
    let mut commands = behind(inputs);
    commands.push(command_line());
    write_atomically(&folder.join(TRAIL_FILE), &serde_json::to_vec_pretty(&commands)?).map_err(Into::into)
}
