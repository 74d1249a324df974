//! The systemd unit of `foresee run`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::control::Scheduling;
use crate::profile::{DeviceProfile, Provider};

/// systemd hears from the loop at least this often, however short the watchdog's own time is.
const SHORTEST_WATCHDOG_SECONDS: u64 = 2;

/// Where the unit's engines lie, which systemd makes and keeps.
const ENGINE_CACHE: &str = "/var/cache/foresee/engines";
/// TensorRT takes minutes for an engine of each model that is not in the cache.
const BUILDING_SECONDS: u64 = 1800;
/// Once the joints rest, log and result are written; a slow card takes that long for what may wait.
const WRITING: Duration = Duration::from_secs(30);
/// What `foresee run` exits with after a signal or the operator's word.
pub const STOPPED: u8 = 130;
/// The same, when something went wrong on the way: joints that do not rest, a result that cannot be written.
pub const STOPPED_BADLY: u8 = 131;

/// What the unit needs to know beside the profile.
#[derive(Clone, Debug)]
pub struct UnitOptions {
    /// The installed binary, an absolute path.
    pub binary: String,
    /// The profile as the service will find it: a built-in name or an absolute path.
    pub profile: String,
    /// Further arguments of `foresee run`.
    pub arguments: Vec<String>,
    /// What stands against the service on the robot; one comment each.
    pub warnings: Vec<String>,
    /// How long the joints may take to come to rest.
    pub stop_patience: Duration,
}

/// A unit of `Type=notify` that systemd restarts when the loop is no longer heard of, with the rights that the profile asks for
/// and no others.
pub fn systemd_unit(profile: &DeviceProfile, options: &UnitOptions) -> String {
    let mut cameras = std::iter::once(&profile.camera).chain(profile.extra_cameras.iter().map(|extra| &extra.camera));
    let is_csi = cameras.any(|camera| camera.device.as_ref().is_some_and(|device| device.starts_with("csi:")));
    let builds_engines = profile.inference.providers.contains(&Provider::Tensorrt);
    let after = if is_csi { "network.target nvargus-daemon.service" } else { "network.target" };
    let warnings = options.warnings.iter().map(|warning| format!("# WARNING: {}\n", warning.replace('\n', " ")));
    let warnings: String = warnings.collect();
    let mut unit = format!(
        "# Made by `foresee config render systemd` from profile {}; make it again rather than edit it.\n{warnings}\
         [Unit]\nDescription=Foresee control loop of robot {}\nAfter={after}\nStartLimitIntervalSec=60\nStartLimitBurst=5\n\n\
         [Service]\nType=notify\nNotifyAccess=main\n",
        profile.name,
        profile.robot.replace('%', "%%")
    );
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(unit, "{key}={value}");
    };
    if profile.power.is_some() {
        line("ExecStartPre", "+/usr/local/lib/foresee/power.sh");
    }
    let is_given = options.arguments.iter().any(|argument| argument.starts_with("--engine-cache"));
    let cache = if builds_engines && !is_given { ["--engine-cache", ENGINE_CACHE].as_slice() } else { &[] };
    let words = [options.binary.as_str(), "run", "--profile", &options.profile];
    let words: Vec<String> = words
        .into_iter()
        .chain(options.arguments.iter().map(String::as_str))
        .chain(cache.iter().copied())
        .map(quoted)
        .collect();
    line("ExecStart", &words.join(" "));
    let seconds = (10 * profile.watchdog.action_timeout_millis).div_ceil(1000).max(SHORTEST_WATCHDOG_SECONDS);
    line("WatchdogSec", &seconds.to_string());
    if builds_engines {
        line("TimeoutStartSec", &BUILDING_SECONDS.to_string());
    }
    line("Restart", "on-failure");
    line("RestartSec", "1");
    // Who stopped the robot does not want it to move again a second later, and it is no failure.
    line("SuccessExitStatus", &STOPPED.to_string());
    line("RestartPreventExitStatus", &format!("{STOPPED} {STOPPED_BADLY}"));
    // SIGTERM makes the loop take its safe action first. The time also counts from the operator's word, of which the loop tells systemd.
    line("KillSignal", "SIGTERM");
    line("TimeoutStopSec", &(options.stop_patience + WRITING).as_secs_f64().ceil().to_string());
    line("DynamicUser", "yes");
    line("SupplementaryGroups", "video render");
    line("StateDirectory", "foresee");
    line("CacheDirectory", "foresee");
    line("WorkingDirectory", "/var/lib/foresee");
    if is_csi {
        // A dynamic user's /tmp is its own, and NVIDIA's camera daemon is spoken with there.
        line("BindPaths", "-/tmp/argus_socket");
    }
    if let Some(mebibytes) = profile.max_resident_mebibytes {
        line("MemoryMax", &format!("{mebibytes}M"));
    }
    let threads = &profile.threads;
    if threads.scheduling == Scheduling::Fifo {
        let priority = threads.control.priority.max(threads.watchdog.priority);
        line("LimitRTPRIO", &priority.to_string());
    }
    if threads.lock_memory {
        line("LimitMEMLOCK", "infinity");
    }
    line("NoNewPrivileges", "yes");
    line("ProtectSystem", "strict");
    line("ProtectHome", "yes");
    line("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK");
    unit.push_str("\n[Install]\nWantedBy=multi-user.target\n");
    unit
}

/// A word as systemd splits command lines: quoted where it must be, `%` and `$` doubled.
fn quoted(word: &str) -> String {
    let word = word.replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+%$".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word;
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load;

    fn unit(profile: &str) -> String {
        let options = UnitOptions {
            binary: "/usr/local/bin/foresee".to_owned(),
            profile: "/etc/foresee/my robot.toml".to_owned(),
            arguments: vec!["--name".to_owned(), "100%".to_owned()],
            warnings: vec!["/home/x: is hidden".to_owned()],
            stop_patience: Duration::from_millis(21_100),
        };
        systemd_unit(&load(profile).unwrap(), &options)
    }

    #[test]
    fn a_unit_has_what_the_profile_asks_for_and_nothing_else() {
        let jetson = unit("jetson-orin-nano");
        for line in [
            "Type=notify",
            "WatchdogSec=2",
            "MemoryMax=3072M",
            "LimitRTPRIO=80",
            "LimitMEMLOCK=infinity",
            "ExecStartPre=+/usr/local/lib/foresee/power.sh",
            "After=network.target nvargus-daemon.service",
            "BindPaths=-/tmp/argus_socket",
            "CacheDirectory=foresee",
            "TimeoutStartSec=1800",
            "Restart=on-failure",
            "SuccessExitStatus=130",
            "RestartPreventExitStatus=130 131",
            "TimeoutStopSec=52",
            "ExecStart=/usr/local/bin/foresee run --profile \"/etc/foresee/my robot.toml\" --name 100%% --engine-cache /var/cache/foresee/engines",
        ] {
            assert!(jetson.lines().any(|found| found == line), "{line} is not in\n{jetson}");
        }
        assert!(jetson.contains("\n# WARNING: /home/x: is hidden\n[Unit]\n"), "{jetson}");
        let desktop = unit("desktop-sim");
        for absent in
            ["ExecStartPre", "LimitRTPRIO", "LimitMEMLOCK", "MemoryMax", "BindPaths", "TimeoutStart", "engine-cache"]
        {
            assert!(!desktop.contains(absent), "{absent} is in\n{desktop}");
        }
    }

    #[test]
    fn words_are_quoted_as_systemd_splits_them() {
        for (word, expected) in [
            ("/etc/foresee/encoder.onnx", "/etc/foresee/encoder.onnx"),
            ("/etc/my robot/a.onnx", "\"/etc/my robot/a.onnx\""),
            ("/etc/50%/a b", "\"/etc/50%%/a b\""),
            ("/etc/$x", "/etc/$$x"),
            ("say \"no\" \\", "\"say \\\"no\\\" \\\\\""),
            ("it's", "\"it's\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    /// systemd's own opinion, where it is installed.
    #[test]
    fn systemd_takes_the_unit() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("foresee.service");
        let text = unit("jetson-orin-nano").replace("+/usr/local/lib/foresee/power.sh", "+/bin/true");
        let text = text.replace("/usr/local/bin/foresee", "/bin/true");
        std::fs::write(&file, text).unwrap();
        let Ok(output) = std::process::Command::new("systemd-analyze").arg("verify").arg(&file).output() else {
            eprintln!("skipped: there is no systemd-analyze here to hold the unit against");
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("foresee.service"), "{said}");
    }
}
