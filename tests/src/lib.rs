//! What the tests of the whole share: the checkout, the built binary, a free port.

pub mod decoders;
pub mod memory;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The built `foresee`, beside the folder that holds the running test.
///
/// # Panics
/// When it was not built: `./launch/test` builds it before the tests.
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_default();
    let path = exe.ancestors().nth(2).map(|folder| folder.join("foresee")).unwrap_or_default();
    assert!(
        path.exists(),
        "{} is not built; run ./launch/test, or cargo build --release --workspace first",
        path.display()
    );
    path
}

/// A `foresee` command in `folder`, with the checkout's zoo and native libraries.
pub fn foresee(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    command.current_dir(folder).env("FORESEE_ZOO", root().join("models/zoo"));
    command
}

/// An endpoint on loopback that nobody listens on now.
///
/// # Panics
/// When loopback has no free port.
pub fn free_endpoint() -> String {
    let endpoint = foresee_runtime::free_loopback_endpoint();
    assert!(endpoint.is_ok(), "{endpoint:?}");
    endpoint.unwrap_or_default()
}
