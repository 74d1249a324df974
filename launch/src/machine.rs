//! What made a result: the revision of the code and the processor's features; and what the disk has free.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Git revision of the code this binary was built from; `-dirty` after it when the tree had changes.
pub(crate) const GIT_REVISION: &str = env!("FORESEE_GIT_REVISION");

/// The processor features that change floating-point results or speed, as this machine has them.
pub(crate) fn cpu_features() -> Vec<&'static str> {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let mut note = |name, present| {
            if present {
                features.push(name);
            }
        };
        note("sse4.2", std::arch::is_x86_feature_detected!("sse4.2"));
        note("avx", std::arch::is_x86_feature_detected!("avx"));
        note("avx2", std::arch::is_x86_feature_detected!("avx2"));
        note("fma", std::arch::is_x86_feature_detected!("fma"));
        note("avx512f", std::arch::is_x86_feature_detected!("avx512f"));
        note("avx512vnni", std::arch::is_x86_feature_detected!("avx512vnni"));
        note("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16"));
    }
    #[cfg(target_arch = "aarch64")]
    features.extend(["neon"]);
    features
}

/// MuJoCo's version, in builds that simulate.
pub(crate) fn mujoco_version() -> Option<String> {
    #[cfg(feature = "sim")]
    let version = Some(foresee_sim::MUJOCO_VERSION.to_owned());
    #[cfg(not(feature = "sim"))]
    let version = None;
    version
}

/// Bytes of the program that runs, also when another one lies under its name meanwhile; 0 where nothing tells.
pub(crate) fn running_binary_bytes() -> u64 {
    std::fs::metadata("/proc/self/exe").map_or(0, |binary| binary.len())
}

/// Bytes that the disk of this folder has free for this user.
#[expect(unsafe_code, reason = "a system call; its pointers are to local values")]
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let path = CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut disk = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a path that ends with zero, and room for the answer; it is read only when there is one.
    let disk = unsafe {
        match libc::statvfs(path.as_ptr(), disk.as_mut_ptr()) {
            0 => disk.assume_init(),
            _ => return None,
        }
    };
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    /// As an update does it: the file under the program's name is another one, or none.
    #[test]
    fn a_program_that_was_replaced_still_has_its_size() {
        let name = "FORESEE_TEST_REPLACED";
        if std::env::var_os(name).is_some() {
            std::fs::remove_file(std::env::current_exe().unwrap()).unwrap();
            assert!(super::running_binary_bytes() > 100_000);
            return;
        }
        let exe = std::env::current_exe().unwrap();
        // Beside it, where its libraries are found.
        let copy = exe.with_extension(format!("copy-{}", std::process::id()));
        std::fs::copy(exe, &copy).unwrap();
        let mut again = std::process::Command::new(&copy);
        again.args(["a_program_that_was_replaced_still_has_its_size"]).env(name, "1");
        let output = again.output().unwrap();
        let is_left = std::fs::remove_file(&copy).is_ok();
        assert!(output.status.success() && !is_left, "{}", String::from_utf8_lossy(&output.stderr));
    }
}
