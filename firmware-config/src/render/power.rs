//! The shell script that sets a Jetson's power mode and clocks.

use super::RenderError;
use crate::profile::DeviceProfile;

/// A POSIX shell script for root that looks the profile's mode up by name in the device's own list, sets it, and looks whether it
/// took. Exit code 1 with one line on standard error when it did not.
///
/// # Errors
/// [`RenderError`] for a profile without `[power]`.
pub fn power_script(profile: &DeviceProfile) -> Result<String, RenderError> {
    let power = profile.power.as_ref().ok_or_else(|| RenderError {
        profile: profile.name.clone(),
        key: "power".to_owned(),
        rule: "is not given, so there is no mode to set; a Jetson's profile has [power] with nvpmodel_mode and lock_clocks".to_owned(),
    })?;
    let clocks = match power.lock_clocks {
        true => "jetson_clocks || fail \"jetson_clocks failed: the clocks are not held\"\n",
        false => "",
    };
    Ok(SCRIPT
        .replace("@PROFILE@", &profile.name.replace(|c: char| c.is_control(), " "))
        .replace("@MODE@", &power.nvpmodel_mode)
        .replace("@CLOCKS@\n", clocks))
}

/// `@MODE@` holds letters, digits, `-`, `_` and `.` alone: the profile's check sees to it.
const SCRIPT: &str = r#"#!/bin/sh
# Made by `foresee config render nvpmodel` from profile @PROFILE@; make it again rather than edit it.
# Run as root: sets the power mode, and the clocks where the profile holds them.
set -eu
mode='@MODE@'
list="${NVPMODEL_CONF:-/etc/nvpmodel.conf}"
fail() { echo "foresee power mode: $1" >&2; exit 1; }
command -v nvpmodel >/dev/null || fail "there is no nvpmodel: is this a Jetson? use a profile without [power]"
[ -r "$list" ] || fail "$list cannot be read"
modes="$(sed -n 's/^[[:space:]]*<[[:space:]]*POWER_MODEL[[:space:]]\{1,\}ID=\([0-9]\{1,\}\)[[:space:]]\{1,\}NAME=\([^[:space:]>]\{1,\}\).*/\1 \2/p' "$list")"
# NVIDIA writes one mode as 15W on one module and as MODE_15W on another.
number="$(printf '%s\n' "$modes" | awk -v mode="$mode" '{ name = $2; sub(/^MODE_/, "", name); sub(/^MODE_/, "", mode) } name == mode { print $1; exit }')"
[ -n "$number" ] || fail "mode $mode is not in $list; it has: $(printf '%s\n' "$modes" | awk '{ printf "%s%s", (NR > 1 ? ", " : ""), $2 }')"
# Some changes want a restart and ask for it: not from here.
echo NO | nvpmodel -m "$number" || fail "nvpmodel -m $number failed: are you root?"
now="$(nvpmodel -q | tail -n 1)"
[ "$now" = "$number" ] || fail "mode $mode ($number) was not taken, the device is in mode $now: run 'nvpmodel -m $number', let it restart, and try again"
@CLOCKS@
"#;

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;
    use crate::load::load;

    /// A device with NVIDIA's list and a `nvpmodel` that keeps its mode in a file; `refuses`: one that wants a restart.
    fn device(folder: &Path, refuses: bool) {
        let executable = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).unwrap();
            let done = Command::new("chmod").arg("+x").arg(&file).status().unwrap();
            assert!(done.success());
        };
        let state = folder.join("mode");
        std::fs::write(&state, "2").unwrap();
        let set = if refuses { ":".to_owned() } else { format!("echo \"$2\" > '{}'", state.display()) };
        let ask = format!("echo 'NV Power Mode: x'; cat '{}'", state.display());
        executable("nvpmodel", format!("#!/bin/sh\ncase $1 in -m) {set};; -q) {ask};; esac\n"));
        executable("jetson_clocks", format!("#!/bin/sh\ntouch '{}'\n", folder.join("clocks").display()));
        let list = "# comment\n< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=3 NAME=MODE_15W >\n< POWER_MODEL ID=2 NAME=7W >\n";
        std::fs::write(folder.join("nvpmodel.conf"), list).unwrap();
    }

    fn run(folder: &Path, profile: &str) -> (bool, String) {
        let script = folder.join("power.sh");
        std::fs::write(&script, power_script(&load(profile).unwrap()).unwrap()).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let mut command = Command::new("/bin/sh");
        let output =
            command.arg(&script).env("PATH", path).env("NVPMODEL_CONF", folder.join("nvpmodel.conf")).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    #[test]
    fn the_mode_is_set_by_its_name_and_the_clocks_held() {
        let folder = tempfile::tempdir().unwrap();
        device(folder.path(), false);
        let (done, said) = run(folder.path(), "jetson-orin-nano");
        assert!(done, "{said}");
        assert_eq!(std::fs::read_to_string(folder.path().join("mode")).unwrap().trim(), "3");
        assert!(folder.path().join("clocks").exists());
    }

    #[test]
    fn what_the_device_lacks_or_refuses_is_said() {
        let folder = tempfile::tempdir().unwrap();
        device(folder.path(), false);
        let (done, said) = run(folder.path(), "jetson-thor");
        assert!(!done && said.contains("120W") && said.contains("MAXN, MODE_15W, 7W"), "{said}");
        device(folder.path(), true);
        let (done, said) = run(folder.path(), "jetson-orin-nano");
        assert!(!done && said.contains("was not taken") && said.contains("restart"), "{said}");
        assert!(!folder.path().join("clocks").exists());
        let error = power_script(&load("desktop-cpu").unwrap()).unwrap_err().to_string();
        assert!(error.contains("desktop-cpu") && error.contains("nvpmodel_mode"), "{error}");
    }
}
