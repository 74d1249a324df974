//! Whether this machine is what a profile says: what only the machine itself can tell, before anything is started.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use foresee_firmware_config::{DeviceProfile, Scheduling};
use foresee_runtime::ProviderProbe;

/// Which cores are online, as ranges.
const ONLINE: &str = "/sys/devices/system/cpu/online";
/// CAP_SYS_NICE's bit of a process's capabilities (capabilities(7)).
const CAP_SYS_NICE: u32 = 23;
/// Of the processors that are served; of larger pages the count is smaller, and so is what is taken away.
const PAGE_BYTES: u64 = 4096;

/// A machine as its files describe it.
pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// What the profile asks for and the machine has not: one line each, with key, value and the fix.
    pub(crate) fn misfits(&self, profile: &DeviceProfile) -> Vec<String> {
        let mut misfits = Vec::new();
        let name = &profile.name;
        if let Some(hardware) = profile.hardware {
            let cores = self.num_cores();
            if cores.is_some_and(|cores| cores < u64::from(hardware.cpu_cores)) {
                misfits.push(format!(
                    "profile {name}: hardware.cpu_cores = {}: this machine has {} online; give [hardware] and [threads] for it, or a power mode with more cores",
                    hardware.cpu_cores,
                    cores.unwrap_or_default()
                ));
            }
            // Firmware and carve-outs take up to an eighth of what is soldered on.
            let memory = self.memory_mebibytes();
            if memory.is_some_and(|memory| memory < hardware.memory_mebibytes - hardware.memory_mebibytes / 8) {
                misfits.push(format!(
                    "profile {name}: hardware.memory_mebibytes = {}: this machine has {}; give [hardware] for it",
                    hardware.memory_mebibytes,
                    memory.unwrap_or_default()
                ));
            }
        }
        let threads = &profile.threads;
        for (key, thread) in [("control", &threads.control), ("watchdog", &threads.watchdog)] {
            let online = self.online().unwrap_or_default();
            let is_off = |core: &&usize| !online.is_empty() && !online.iter().any(|range| range.contains(core));
            if let Some(core) = thread.cores.iter().find(is_off) {
                let online = self.text(ONLINE).unwrap_or_default();
                misfits.push(format!(
                    "profile {name}: threads.{key}_cores names core {core}: this machine has {} online; give [threads] for it",
                    online.trim()
                ));
            }
        }
        misfits.extend(self.power(profile));
        if let Some(device) = profile.camera.device.as_deref().filter(|device| device.starts_with("/dev/"))
            && !self.file(device).exists()
        {
            misfits.push(format!(
                "profile {name}: camera.device = {device:?}: there is no such device; `foresee camera list` says what is there"
            ));
        }
        misfits
    }

    /// The real-time priority that the profile asks for and this user may not take: the loop then runs without, and says so.
    pub(crate) fn denied_priority(&self, profile: &DeviceProfile) -> Option<String> {
        let threads = &profile.threads;
        if threads.scheduling != Scheduling::Fifo {
            return None;
        }
        let (key, wanted) = [("control", threads.control.priority), ("watchdog", threads.watchdog.priority)]
            .into_iter()
            .max_by_key(|(_, priority)| *priority)?;
        let line =
            |text: String, name: &str| Some(text.lines().find_map(|line| line.strip_prefix(name))?.trim().to_owned());
        let status = line(self.text("/proc/self/status")?, "CapEff:")?;
        let is_capable = u64::from_str_radix(&status, 16).is_ok_and(|bits| bits >> CAP_SYS_NICE & 1 == 1);
        let limit = line(self.text("/proc/self/limits")?, "Max realtime priority")?;
        let limit = limit.split_whitespace().next()?;
        let allowed = if limit == "unlimited" { 99 } else { limit.parse().ok()? };
        (!is_capable && allowed < wanted).then(|| {
            format!(
                "profile {}: threads.{key}_priority = {wanted}: this user may take {allowed} at most; the unit of `config render systemd` gives the right, a shell needs `ulimit -r {wanted}` or CAP_SYS_NICE; or give [threads] without fifo",
                profile.name
            )
        })
    }

    /// The power mode, where the profile names one.
    pub(crate) fn power(&self, profile: &DeviceProfile) -> Option<String> {
        let wanted = &profile.power.as_ref()?.nvpmodel_mode;
        let key = format!("profile {}: power.nvpmodel_mode = {wanted:?}", profile.name);
        let Some(list) = self.text("/etc/nvpmodel.conf") else {
            return Some(format!(
                "{key}: there is no /etc/nvpmodel.conf: this is no Jetson; use a profile without [power], such as desktop-cpu"
            ));
        };
        let modes: Vec<(u32, &str)> = list.lines().filter_map(power_mode).collect();
        let Some((number, _)) = modes.iter().find(|(_, mode)| plain(mode) == plain(wanted)) else {
            let known: Vec<&str> = modes.iter().map(|(_, mode)| *mode).collect();
            return Some(format!("{key}: this device has {}", known.join(", ")));
        };
        let status = self.text("/var/lib/nvpmodel/status")?;
        let now: u32 = status.split_whitespace().find_map(|word| word.strip_prefix("pmode:"))?.parse().ok()?;
        let fix = "run the script of `foresee config render nvpmodel` as root";
        (now != *number).then(|| {
            let mode = modes.iter().find(|(number, _)| *number == now).map_or("another", |(_, mode)| mode);
            format!("{key}: the device is in mode {mode} ({now}); {fix}")
        })
    }

    /// Memory that this process may still take, in bytes, and what limits it.
    pub(crate) fn memory_left(&self) -> Option<(u64, &'static str)> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let pages = |column: usize| number(self.text("/proc/self/statm")?.split_whitespace().nth(column)?);
        let address_space = || {
            let limits = self.text("/proc/self/limits")?;
            let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
            number(limit.split_whitespace().next()?)?.checked_sub(pages(0)? * PAGE_BYTES)
        };
        let group = || Some(self.group("memory.max")?.saturating_sub(self.group("memory.current")?));
        let machine = || {
            let text = self.text("/proc/meminfo")?;
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            Some(number(line.split_whitespace().next()?)? * 1024)
        };
        let known = [
            (address_space(), "RLIMIT_AS (ulimit -v)"),
            (group(), "memory.max of the control group (MemoryMax= of the unit)"),
            (machine(), "the machine's free memory"),
        ];
        known.into_iter().filter_map(|(bytes, what)| Some((bytes?, what))).min_by_key(|(bytes, _)| *bytes)
    }

    /// Why a model of so many bytes does not fit into memory, if it does not: its file is read whole, and the engine makes its own copy.
    pub(crate) fn does_not_fit(&self, num_bytes: u64) -> Option<String> {
        let (left, limit) = self.memory_left()?;
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        (2 * num_bytes > left).then(|| {
            format!(
                "needs about {} MiB of memory to load, and {limit} leaves {} MiB; give it more, or a smaller model",
                mebibytes(2 * num_bytes),
                mebibytes(left)
            )
        })
    }

    /// Why so many weights cannot be trained here, if they cannot: with their gradients, both moments and the copy that a step runs on, of
    /// four bytes each, they are larger than the whole memory.
    #[cfg(feature = "pretrain")]
    pub(crate) fn cannot_train(&self, num_values: u64) -> Option<String> {
        let machine = (self.memory_mebibytes()?, "this machine has");
        let group = self.group("memory.max").map(|bytes| (bytes >> 20, "memory.max of the control group allows"));
        let (held, limit) = group.into_iter().chain([machine]).min_by_key(|(mebibytes, _)| *mebibytes)?;
        let needed = num_values.saturating_mul(5 * 4).div_ceil(1 << 20);
        (needed > held).then(|| {
            format!(
                "its {num_values} weights take {needed} MiB of memory to train (weights, gradients, two moments, a copy), and {limit} {held} MiB; make encoder or decoders smaller"
            )
        })
    }

    /// A number among the files of this process's control group.
    fn group(&self, name: &str) -> Option<u64> {
        let groups = self.text("/proc/self/cgroup")?;
        let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        self.text(&format!("/sys/fs/cgroup{}/{name}", group.trim_end_matches('/')))?.trim().parse().ok()
    }

    fn num_cores(&self) -> Option<u64> {
        Some(self.online()?.into_iter().map(|range| range.count() as u64).sum())
    }

    /// The cores that are online.
    fn online(&self) -> Option<Vec<RangeInclusive<usize>>> {
        let online = self.text(ONLINE)?;
        let range = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        online.trim().split(',').map(range).collect()
    }

    fn memory_mebibytes(&self) -> Option<u64> {
        let text = self.text("/proc/meminfo")?;
        let kibibytes: u64 =
            text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes / 1024)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn text(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.file(path)).ok()
    }
}

/// The provider that the profile means and that does not come up here: `--provider auto` then takes another one, or finds none.
pub(crate) fn absent_provider(profile: &DeviceProfile, probes: &[ProviderProbe]) -> Option<String> {
    let providers = &profile.inference.providers;
    let probe = |provider| probes.iter().find(|probe| probe.provider == provider);
    let first = *providers.first()?;
    let missing = probe(first).filter(|probe| !probe.is_ready)?;
    let taken = providers.iter().find(|provider| probe(**provider).is_some_and(|probe| probe.is_ready));
    let instead = taken.map_or_else(
        || "and no other of the list does".to_owned(),
        |taken| format!("`--provider auto` takes {}", taken.name()),
    );
    Some(format!(
        "profile {}: inference.providers begins with \"{}\", which does not come up here ({}); {instead}; install it, or give [inference] with another one first",
        profile.name,
        first.name(),
        missing.detail
    ))
}

/// `< POWER_MODEL ID=2 NAME=15W >`.
fn power_mode(line: &str) -> Option<(u32, &str)> {
    let line = line.trim().strip_prefix('<')?.trim().strip_prefix("POWER_MODEL")?;
    let field = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
    Some((field("ID=")?.parse().ok()?, field("NAME=")?.trim_end_matches('>')))
}

/// NVIDIA writes one mode as 15W on one module and as MODE_15W on another.
fn plain(mode: &str) -> &str {
    mode.strip_prefix("MODE_").unwrap_or(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(folder: &Path, files: &[(&str, &str)]) -> Machine {
        for (path, text) in files {
            let file = folder.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        Machine { root: folder.to_owned() }
    }

    #[test]
    fn a_machine_that_is_another_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let profile = foresee_firmware_config::load("jetson-orin-nano").unwrap();
        let desktop = machine(
            folder.path(),
            &[("sys/devices/system/cpu/online", "0-1,3\n"), ("proc/meminfo", "MemTotal:        4000000 kB\n")],
        );
        let misfits = desktop.misfits(&profile);
        let check = |idx: usize, parts: &[&str]| {
            parts.iter().for_each(|part| assert!(misfits[idx].contains(part), "{}", misfits[idx]))
        };
        check(0, &["hardware.cpu_cores = 6", "has 3 online"]);
        check(1, &["hardware.memory_mebibytes = 8192", "3906"]);
        check(2, &["threads.control_cores", "0-1,3 online"]);
        let last = misfits.last().unwrap();
        assert!(last.contains("power.nvpmodel_mode = \"15W\"") && last.contains("no Jetson"), "{misfits:?}");
        let pi = foresee_firmware_config::load("raspberry-pi-5").unwrap();
        assert!(desktop.misfits(&pi).last().unwrap().contains("/dev/video0"));
    }

    #[test]
    fn a_priority_that_may_not_be_taken_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let profile = foresee_firmware_config::load("jetson-orin-nano").unwrap();
        let check = |limit: &str, capabilities: &str, expected: bool| {
            let limits =
                format!("Max nice priority         0    0    \nMax realtime priority     {limit}    {limit}    \n");
            let status = format!("Name:\tforesee\nCapEff:\t{capabilities}\n");
            let files = [("proc/self/limits", limits.as_str()), ("proc/self/status", status.as_str())];
            let denied = machine(folder.path(), &files).denied_priority(&profile);
            assert_eq!(denied.is_some(), expected, "{limit} {capabilities}: {denied:?}");
            denied
        };
        let denied = check("0", "0000000000000000", true).unwrap();
        for part in ["threads.watchdog_priority = 80", "may take 0", "ulimit -r 80", "CAP_SYS_NICE"] {
            assert!(denied.contains(part), "{denied}");
        }
        check("79", "0000000000000000", true);
        check("80", "0000000000000000", false);
        check("unlimited", "0000000000000000", false);
        check("0", "0000000000800000", false);
        let desktop = foresee_firmware_config::load("desktop-sim").unwrap();
        assert_eq!(machine(folder.path(), &[]).denied_priority(&desktop), None);
    }

    #[test]
    fn a_provider_that_does_not_come_up_is_named() {
        use foresee_firmware_config::Provider;
        let probe = |ready: &[Provider]| -> Vec<ProviderProbe> {
            let probe = |provider| ProviderProbe {
                provider,
                is_ready: ready.contains(&provider),
                engine: String::new(),
                library: None,
                detail: "no libcuda.so".to_owned(),
            };
            Provider::ALL.into_iter().map(probe).collect()
        };
        let profile = foresee_firmware_config::load("desktop-cuda").unwrap();
        assert_eq!(absent_provider(&profile, &probe(&Provider::ALL)), None);
        let absent = absent_provider(&profile, &probe(&[Provider::Cpu, Provider::Tract])).unwrap();
        for part in ["inference.providers", "\"cuda\"", "no libcuda.so", "takes cpu"] {
            assert!(absent.contains(part), "{absent}");
        }
        assert!(absent_provider(&profile, &probe(&[])).unwrap().contains("no other"));
    }

    #[test]
    fn the_tightest_limit_of_memory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let desktop = machine(folder.path(), &[("proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 4096 kB\n")]);
        assert_eq!(desktop.memory_left(), Some((4 << 20, "the machine's free memory")));
        assert_eq!(desktop.does_not_fit(2 << 20), None);
        assert!(desktop.does_not_fit(3 << 20).unwrap().contains("about 6 MiB"));
        let files = [
            ("proc/self/cgroup", "0::/robot\n"),
            ("sys/fs/cgroup/robot/memory.max", "3145728\n"),
            ("sys/fs/cgroup/robot/memory.current", "1048576\n"),
        ];
        let unit = machine(folder.path(), &files);
        assert!(unit.does_not_fit(2 << 20).unwrap().contains("MemoryMax= of the unit"));
        let files = [
            ("proc/self/statm", "256 1 1 1 0 1 0\n"),
            (
                "proc/self/limits",
                "Max cpu time unlimited unlimited seconds\nMax address space         2097152   2097152    bytes\n",
            ),
        ];
        let shell = machine(folder.path(), &files);
        assert_eq!(shell.memory_left(), Some((1 << 20, "RLIMIT_AS (ulimit -v)")));
    }

    #[cfg(feature = "pretrain")]
    #[test]
    fn weights_that_cannot_be_trained_are_told_with_both_sizes() {
        let folder = tempfile::tempdir().unwrap();
        let desktop = machine(folder.path(), &[("proc/meminfo", "MemTotal: 102400 kB\nMemAvailable: 4096 kB\n")]);
        // A hundred MiB hold what is trained of five.
        assert_eq!(desktop.cannot_train(5 << 20), None);
        let problem = desktop.cannot_train(6 << 20).unwrap();
        assert!(problem.contains("take 120 MiB") && problem.contains("this machine has 100 MiB"), "{problem}");
        let files = [("proc/self/cgroup", "0::/robot\n"), ("sys/fs/cgroup/robot/memory.max", "52428800\n")];
        let problem = machine(folder.path(), &files).cannot_train(3 << 20).unwrap();
        assert!(problem.contains("the control group allows 50 MiB"), "{problem}");
    }

    #[test]
    fn a_jetson_in_the_wrong_mode_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let profile = foresee_firmware_config::load("jetson-orin-nano").unwrap();
        let list = "< POWER_MODEL ID=0 NAME=MODE_15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=25W >\n";
        let files = [
            ("sys/devices/system/cpu/online", "0-5\n"),
            ("proc/meminfo", "MemTotal:        7801856 kB\n"),
            ("etc/nvpmodel.conf", list),
        ];
        let jetson = machine(folder.path(), &files);
        assert_eq!(jetson.misfits(&profile), Vec::<String>::new());
        machine(folder.path(), &[("var/lib/nvpmodel/status", "pmode:0001 fmode:quiet\n")]);
        assert!(jetson.misfits(&profile)[0].contains("in mode 25W (1)"), "{:?}", jetson.misfits(&profile));
        let thor = foresee_firmware_config::load("jetson-thor").unwrap();
        assert!(jetson.power(&thor).unwrap().contains("this device has MODE_15W, 25W"));
    }
}
