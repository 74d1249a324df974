//! Where things lie: native libraries, the zoo, run folders. The only file that reads or sets the environment.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::systemd::ServiceEnvironment;

/// The folder of unpacked native libraries and assets: `FORESEE_NATIVE`, else beside the binary's folder, else `target/native`.
pub(crate) fn native() -> PathBuf {
    if let Some(folder) = std::env::var_os("FORESEE_NATIVE") {
        return folder.into();
    }
    installed("native").unwrap_or_else(|| PathBuf::from("target/native"))
}

/// A folder next to the binary's own: of the build folder, or of `PREFIX/lib/foresee` where `launch/install` put it.
fn installed(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    Some(exe.parent()?.parent()?.join(name)).filter(|folder| folder.is_dir())
}

/// ONNX Runtime's library: the one given, else `ORT_DYLIB_PATH`, else the unpacked wheel's when it is there.
pub(crate) fn onnxruntime(given: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = given {
        return Some(path.to_owned());
    }
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH") {
        return Some(path.into());
    }
    Some(native().join("onnxruntime/lib/libonnxruntime.so")).filter(|path| path.exists())
}

/// Whether two paths lead to one file that is there.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// The folder of TensorRT's engines: the one given, else `foresee/engines` in `XDG_CACHE_HOME` or `~/.cache`.
pub(crate) fn engine_cache(given: Option<&Path>) -> PathBuf {
    if let Some(path) = given {
        return path.to_owned();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("foresee/engines")
}

/// Asks ffmpeg, behind OpenCV, for no lines of its own: what cannot be read is told once, by name. Unless the user asks for them.
#[cfg(feature = "camera")]
#[expect(unsafe_code, reason = "called first in main, before any other thread could read the environment")]
pub(crate) fn quieten_decoders() {
    const LEVEL: &str = "OPENCV_FFMPEG_LOGLEVEL";
    if std::env::var_os(LEVEL).is_none() {
        // AV_LOG_QUIET.
        unsafe { std::env::set_var(LEVEL, "-8") };
    }
}

/// The committed models: `FORESEE_ZOO`, else those installed with the binary, else `models/zoo`.
pub(crate) fn zoo() -> PathBuf {
    if let Some(folder) = std::env::var_os("FORESEE_ZOO") {
        return folder.into();
    }
    installed("zoo").unwrap_or_else(|| PathBuf::from("models/zoo"))
}

/// What systemd gave this process, when it is a service.
pub(crate) fn service() -> ServiceEnvironment {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let is_ours = number("WATCHDOG_PID").is_none_or(|process| process == u64::from(std::process::id()));
    ServiceEnvironment {
        notify_socket: std::env::var_os("NOTIFY_SOCKET"),
        watchdog_micros: number("WATCHDOG_USEC").filter(|_| is_ours),
    }
}

/// Whether a run can be called so.
///
/// # Errors
/// A name that is not one folder name.
pub(crate) fn check_run_name(name: &str) -> anyhow::Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        bail!("--name {name:?}: use letters, digits, `-`, `_` and `.` only: it becomes a folder");
    }
    Ok(())
}

/// Makes `runs/<name>` anew. A folder of that name is kept, renamed to the first free `<name>.1`, `<name>.2`, ...
///
/// # Errors
/// As [`check_run_name`], or a folder that cannot be made.
pub(crate) fn run_folder(runs: &Path, name: &str) -> anyhow::Result<PathBuf> {
    check_run_name(name)?;
    let folder = runs.join(name);
    if folder.exists() {
        let kept = (1_u32..)
            .map(|count| runs.join(format!("{name}.{count}")))
            .find(|kept| !kept.exists())
            .context("no free name for the previous run")?;
        std::fs::rename(&folder, &kept).with_context(|| format!("{}: cannot be renamed", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    Ok(folder)
}

/// A folder of this process's own for what is not kept.
///
/// # Errors
/// A folder that cannot be made.
pub(crate) fn scratch_folder(name: &str) -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("foresee-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    Ok(folder)
}
