//! The cameras of this machine, and why one cannot be opened: what Linux knows of them.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A Video4Linux device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraFinding {
    /// Such as `/dev/video0`.
    pub device: PathBuf,
    /// The driver's name for it.
    pub name: String,
    /// Why it cannot be used now, with the fix; `None`: nothing stands against it.
    pub problem: Option<String>,
}

/// Every Video4Linux device, in the order of their numbers. Of a camera with several, the first mostly gives the images.
pub fn list_cameras() -> Vec<CameraFinding> {
    let class = Path::new("/sys/class/video4linux");
    let entries = std::fs::read_dir(class).into_iter().flatten().filter_map(Result::ok);
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()).collect();
    numbers.sort_unstable();
    let finding = |number: u32| {
        let device = PathBuf::from(format!("/dev/video{number}"));
        let name = std::fs::read_to_string(class.join(format!("video{number}/name"))).unwrap_or_default();
        CameraFinding { problem: obstacle(&device), device, name: name.trim().to_owned() }
    };
    numbers.into_iter().map(finding).collect()
}

/// Why a device cannot be opened, with the fix; `None` when nothing is known against it.
pub(super) fn obstacle(device: &Path) -> Option<String> {
    match OpenOptions::new().read(true).write(true).open(device) {
        Err(error) if error.kind() == ErrorKind::NotFound => Some(
            "there is no such device; is the camera connected? `foresee camera list` says what is there".to_owned(),
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some("this user may not open it; add the user to the group `video`, then log in again".to_owned())
        }
        Err(error) if error.kind() != ErrorKind::ResourceBusy => Some(error.to_string()),
        _ => holder(device)
            .map(|(process, command)| format!("held by process {process} ({command}); end it, or give another camera")),
    }
}

/// Another process that has the device open, as far as this user may see: its number and name.
pub(super) fn holder(device: &Path) -> Option<(u32, String)> {
    let device = device.canonicalize().ok()?;
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let numbers = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    let others = numbers.filter(|number| *number != std::process::id());
    let mut holders = others.filter(|number| {
        let files = std::fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten().filter_map(Result::ok);
        { files }.any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == device))
    });
    let number = holders.next()?;
    let name = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    Some((number, name.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn who_holds_a_device_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("video0");
        assert!(obstacle(&device).unwrap().contains("no such device"));
        std::fs::write(&device, "").unwrap();
        assert_eq!(obstacle(&device), None);
        let held = Stdio::from(std::fs::File::open(&device).unwrap());
        let mut child = Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
        let problem = obstacle(&device);
        child.kill().unwrap();
        child.wait().unwrap();
        let problem = problem.unwrap();
        assert!(problem.contains(&child.id().to_string()) && problem.contains("end it"), "{problem}");
    }
}
