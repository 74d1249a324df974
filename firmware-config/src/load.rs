//! Finds profiles, follows `inherit`, and turns every complaint into one with file, line, key and value.

use std::path::Path;

use crate::check::{Problem, check};
use crate::error::{Place, ProfileError};
use crate::nearest;
use crate::place::Source;
use crate::profile::DeviceProfile;
use crate::raw::RawProfile;

/// Profiles compiled in: (name, TOML). One line a profile.
pub const BUILT_IN_PROFILES: &[(&str, &str)] = &[
    ("desktop-cpu", include_str!("../profiles/desktop-cpu.toml")),
    ("desktop-cuda", include_str!("../profiles/desktop-cuda.toml")),
    ("desktop-sim", include_str!("../profiles/desktop-sim.toml")),
    ("jetson-agx-orin", include_str!("../profiles/jetson-agx-orin.toml")),
    ("jetson-orin-nano", include_str!("../profiles/jetson-orin-nano.toml")),
    ("jetson-orin-nx", include_str!("../profiles/jetson-orin-nx.toml")),
    ("jetson-thor", include_str!("../profiles/jetson-thor.toml")),
    ("raspberry-pi-5", include_str!("../profiles/raspberry-pi-5.toml")),
];

/// What several of them inherit, and no device by itself: (name, TOML).
const PARTS: &[(&str, &str)] = &[("demo-robot", include_str!("../profiles/demo-robot.toml"))];

/// A profile is a page of text; more is another file.
const MAX_PROFILE_BYTES: u64 = 1 << 20;
const MAX_INHERIT_DEPTH: usize = 8;
/// A value in a message is cut here.
const MAX_QUOTED: usize = 80;

/// A profile as written, with the texts that it was inherited from: the nearest first.
pub(crate) struct Layers {
    /// Built-in name or file stem.
    pub(crate) name: String,
    pub(crate) raw: RawProfile,
    pub(crate) sources: Vec<Source>,
}

/// Loads a profile by built-in name or path, follows `inherit`, and checks it.
///
/// # Errors
/// [`ProfileError`] names the profile, the line, the key and the value.
pub fn load(name_or_path: &str) -> Result<DeviceProfile, ProfileError> {
    Layers::load(name_or_path)?.check()
}

/// Checks a profile given as text; `inherit` may name built-in profiles.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<DeviceProfile, ProfileError> {
    Layers::of(name, text, None, &mut Vec::new())?.check()
}

impl Layers {
    pub(crate) fn load(name_or_path: &str) -> Result<Self, ProfileError> {
        resolve(name_or_path, None, &mut Vec::new())
    }

    fn of(name: &str, text: &str, base: Option<&Path>, chain: &mut Vec<String>) -> Result<Self, ProfileError> {
        let again = chain.iter().any(|seen| seen == name);
        chain.push(name.to_owned());
        if again || chain.len() > MAX_INHERIT_DEPTH {
            return Err(ProfileError::Circular { name: name.to_owned(), chain: chain.join(" -> ") });
        }
        let source = Source { file: name.to_owned(), text: text.to_owned() };
        let raw: RawProfile = toml::from_str(text).map_err(|error| explain(&error, &source))?;
        let stem = Path::new(name).file_stem().map_or_else(|| name.into(), |stem| stem.to_string_lossy());
        let mut layers = Self { name: stem.into_owned(), raw, sources: vec![source] };
        if let Some(parent) = layers.raw.inherit.clone() {
            let parent = resolve(&parent, base, chain).map_err(|error| match error {
                // A name that is nowhere says little without who names it.
                ProfileError::Unknown { name: missing, by, known, hint } if by.is_empty() => {
                    ProfileError::Unknown { name: missing, by: format!(" (inherited by `{name}`)"), known, hint }
                }
                other => other,
            })?;
            layers.raw = layers.raw.over(parent.raw);
            layers.sources.extend(parent.sources);
        }
        Ok(layers)
    }

    /// The checked profile.
    pub(crate) fn check(self) -> Result<DeviceProfile, ProfileError> {
        check(self.raw, &self.name).map_err(|problem| place(problem, &self.sources))
    }

    /// The text that gives a top-level key.
    pub(crate) fn origin(&self, key: &str) -> Option<&str> {
        self.sources.iter().find(|source| source.has(key)).map(|source| source.file.as_str())
    }
}

fn resolve(name_or_path: &str, base: Option<&Path>, chain: &mut Vec<String>) -> Result<Layers, ProfileError> {
    if let Some((name, text)) = BUILT_IN_PROFILES.iter().chain(PARTS).find(|(name, _)| *name == name_or_path) {
        return Layers::of(name, text, None, chain);
    }
    let path = base.map_or_else(|| Path::new(name_or_path).to_path_buf(), |base| base.join(name_or_path));
    if !path.is_file() {
        let known: Vec<&str> = BUILT_IN_PROFILES.iter().map(|(name, _)| *name).collect();
        let hint = nearest::hint(name_or_path, &known);
        return Err(ProfileError::Unknown {
            name: name_or_path.to_owned(),
            by: String::new(),
            known: known.join(", "),
            hint,
        });
    }
    let read = |source| ProfileError::Read { path: path.clone(), source };
    let bytes = std::fs::metadata(&path).map_err(read)?.len();
    if bytes > MAX_PROFILE_BYTES {
        return Err(ProfileError::TooLarge { name: path.display().to_string(), bytes, limit: MAX_PROFILE_BYTES });
    }
    let text = std::fs::read_to_string(&path).map_err(read)?;
    Layers::of(&path.display().to_string(), &text, path.parent(), chain)
}

/// The place of a wrong value: in the text that gives its table.
fn place(problem: Problem, sources: &[Source]) -> ProfileError {
    let source = sources.iter().find(|source| source.has(&problem.key)).or_else(|| sources.first());
    let written = source.and_then(|source| source.find(&problem.key));
    let file = source.map(|source| source.file.clone()).unwrap_or_default();
    let place = Place { file, line: written.map(|written| written.line) };
    let Problem { key, value, rule } = problem;
    match value {
        Some(value) => ProfileError::Value { place, key, value: cut(&value), rule },
        None => ProfileError::Missing { place, key, rule },
    }
}

/// The parser's complaint with its place, and with the key and value where it is about one.
fn explain(error: &toml::de::Error, source: &Source) -> ProfileError {
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let offset = error.span().map(|span| span.start);
    let place = offset.map_or_else(|| Place { file: source.file.clone(), line: None }, |offset| source.place(offset));
    let names = backquoted(&message);
    let allowed = names.get(1..).unwrap_or_default();
    match offset.and_then(|offset| source.at(offset)) {
        Some(written) if message.starts_with("unknown field") => {
            let wrong = names.first().copied().unwrap_or_default();
            let hint = nearest::key_hint(wrong, &written.value, allowed);
            let rule = format!("there is no key `{wrong}`{hint}; allowed here: {}", allowed.join(", "));
            ProfileError::Value { place, key: written.key, value: cut(&written.value), rule }
        }
        Some(written) => {
            let wrong = names.first().filter(|_| message.starts_with("unknown variant"));
            let hint = wrong.map_or_else(String::new, |wrong| nearest::hint(wrong, allowed));
            let rule = format!("{message}{}{hint}", unit_rule(&written.key, &message));
            ProfileError::Value { place, key: written.key, value: cut(&written.value), rule }
        }
        None => {
            let text = error.span().and_then(|span| source.text.get(span)).unwrap_or_default();
            let quoted = cut(text.lines().next().unwrap_or_default().trim());
            ProfileError::Syntax { place, quoted, message }
        }
    }
}

/// A text where a number belongs is mostly a number with its unit.
fn unit_rule(key: &str, message: &str) -> &'static str {
    let is_number =
        ["expected f64", "expected u64", "expected u32", "expected usize"].iter().any(|kind| message.contains(kind));
    if is_number && message.contains("string") && key.contains('_') {
        return "; give a plain number: the unit is in the key's name";
    }
    ""
}

fn backquoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTED {
        return text.to_owned();
    }
    text.chars().take(MAX_QUOTED).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Provider;

    #[test]
    fn every_built_in_profile_is_valid() {
        for (name, _) in BUILT_IN_PROFILES {
            match load(name) {
                Ok(profile) => assert_eq!(profile.name, *name),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        let profile = load("desktop-sim").unwrap();
        assert_eq!(profile.joints.len(), 2);
        assert_eq!(profile.inference.providers, [Provider::Cpu, Provider::Tract]);
        assert!(load("demo-robot").unwrap_err().to_string().contains("pace"), "a robot is no device");
    }

    /// A period need not be whole milliseconds: Meta-World's is 12.5 ms.
    #[test]
    fn a_period_may_be_a_fraction() {
        let file = std::env::temp_dir().join(format!("fraction-{}.toml", std::process::id()));
        let camera = "[[extra_cameras]]\nname = \"eye\"\nsource = \"head/left eye\"\nwidth = 64\nheight = 48\nencoding = \"rgb8\"\n";
        let text = "inherit = \"desktop-sim\"\n[pace]\nkind = \"lockstep\"\nperiod_millis = 12.5\nanswer_timeout_millis = 100\n";
        std::fs::write(&file, format!("{text}{camera}")).unwrap();
        let profile = load(file.to_str().unwrap());
        std::fs::remove_file(&file).unwrap();
        let profile = profile.unwrap();
        assert_eq!(profile.pace.period(), std::time::Duration::from_micros(12_500));
        let extra = &profile.extra_cameras[0];
        assert_eq!((extra.camera.name.as_str(), extra.source.as_deref()), ("eye", Some("head/left eye")));
        assert_eq!(load("desktop-sim").unwrap().pace.period(), std::time::Duration::from_millis(20));
    }

    /// What a device is: each says it, or inherits it, and nothing is left to what a key means when it is not there.
    #[test]
    fn every_built_in_profile_is_whole() {
        for (name, _) in BUILT_IN_PROFILES {
            let shown: toml::Table = toml::from_str(&crate::inspect::show(name).unwrap()).unwrap();
            let mut families = vec!["camera", "inference", "pace", "joints", "safety", "watchdog", "zenoh"];
            let is_board = name.starts_with("jetson") || name.starts_with("raspberry");
            if *name != "desktop-sim" {
                families.extend(["budget", "threads", "memory", "thermal"]);
                assert!(shown["inference"].get("precision").is_some(), "{name} lacks inference.precision");
            }
            if is_board {
                families.extend(["hardware", "health"]);
            }
            if name.starts_with("jetson") {
                families.push("power");
            }
            for family in families {
                assert!(shown.contains_key(family), "{name} lacks [{family}]");
            }
            let watchdog = load(name).unwrap().watchdog;
            let patience = if *name == "desktop-sim" { 10_000 } else { 100 };
            assert_eq!((watchdog.look_millis, watchdog.action_timeout_millis), (5, patience), "{name}");
        }
        // What cannot be known of a robot is said where its place is.
        let (_, robot) = PARTS[0];
        for word in ["[intrinsics]", "max_acceleration_per_second_squared"] {
            assert!(robot.contains(word), "{word}");
        }
    }

    fn check(change: &str, expected: &[&str]) {
        let text = format!("inherit = \"desktop-sim\"\n{change}\n");
        let message = parse("mine.toml", &text).unwrap_err().to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        for part in expected {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_wrong_key_is_named_with_place_value_and_the_right_one() {
        check("robto = \"arm\"", &["mine.toml line 2", "robto = \"arm\"", "did you mean `robot`", "zenoh"]);
        check("[camera]\nname = \"c\"\nwidht = 3", &["mine.toml line 4", "camera.widht = 3", "`width`", "encoding"]);
        check("[pace]\nkind = \"fixed\"\nrate_hz = 30", &["line 4", "pace.rate_hz = 30", "write `rate_hertz = 30`"]);
        check(
            "[pace]\nkind = \"fixed\"\nrate_hertz = 30\nmax_frame_age_seconds = 0.1",
            &["line 5", "pace.max_frame_age_seconds = 0.1", "write `max_frame_age_millis = 100`"],
        );
        check("inherit = \"nowhere\"", &["mine.toml line 2"]);
        check("[camera", &["mine.toml line 2"]);
    }

    #[test]
    fn a_wrong_value_is_named_with_place_and_rule() {
        let camera =
            |change: &str| format!("[camera]\nname = \"c\"\nwidth = 2\nheight = 3\nencoding = \"rgb8\"\n{change}");
        let rate = "rate_hertz = 30\nmax_frame_age_millis = 100";
        check("robot = \"a/b\"", &["mine.toml line 2", "robot", "a/b", "letters"]);
        check(
            "[camera]\nname = \"c\"\nwidth = 0\nheight = 3\nencoding = \"rgb8\"",
            &["line 4", "camera.width = 0", "16384"],
        );
        check("[camera]\nname = \"c\"\nwidth = 2\nheight = 3\nencoding = \"rgb9\"", &["line 6", "rgb9", "bgr8"]);
        check(
            &camera("rate_hertz = \"30 Hz\""),
            &["line 7", "camera.rate_hertz", "30 Hz", "the unit is in the key's name"],
        );
        check(&camera("format = \"MJPEG\""), &["line 7", "camera.format = \"MJPEG\"", "YUYV"]);
        check(&camera("rate_hertz = 30\nexposure_millis = 40"), &["line 8", "camera.exposure_millis = 40", "33.3"]);
        check(
            "[pace]\nkind = \"fixed\"\nrate_hertz = nan\nmax_frame_age_millis = 1",
            &["line 4", "pace.rate_hertz", "NaN"],
        );
        let lockstep = "[pace]\nkind = \"lockstep\"\nperiod_millis = 20\nanswer_timeout_millis = 100";
        check(&format!("{}\n{lockstep}", camera("device = \"0\"")), &["line 9", "pace.kind", "fixed"]);
        check("[pace]\nkind = \"fixt\"", &["line 3", "fixt", "did you mean `fixed`"]);
        check("[pace]\nkind = \"fixed\"\nrate_hertz = 30", &["line 2", "pace.max_frame_age_millis", "missing"]);
        check(
            &format!("[pace]\nkind = \"fixed\"\n{rate}\nperiod_millis = 1"),
            &["line 6", "pace.period_millis", "lockstep", "fixed"]
                .map(|part| if part == "lockstep" { "does not go with" } else { part }),
        );
        check("[inference]\nproviders = []\nintra_threads = 1", &["line 3", "inference.providers", "tensorrt"]);
        check("[inference]\nproviders = [\"cpu\", \"cpu\"]\nintra_threads = 1", &["line 3", "twice"]);
        check(
            "[hardware]\ncpu_cores = 2\nmemory_mebibytes = 4096\n[inference]\nproviders = [\"cpu\"]\nintra_threads = 3",
            &["line 7", "inference.intra_threads = 3", "2 cores"],
        );
        check(
            "[hardware]\ncpu_cores = 2\nmemory_mebibytes = 4096\n[memory]\nmax_resident_mebibytes = 5000",
            &["line 6", "5000", "4096"],
        );
        check(
            "[[joints]]\nname = \"a\"\ncommand = \"position_radians\"\nminimum = 1.0\nmaximum = 0.0\nmax_rate_per_second = 1.0",
            &["line 5", "joints[0].minimum", "minimum < maximum"],
        );
        let extra = |name: &str, more: &str| {
            format!("[[extra_cameras]]\nname = \"{name}\"\nwidth = 64\nheight = 48\nencoding = \"rgb8\"\n{more}")
        };
        check(&extra("fixed", ""), &["line 3", "extra_cameras[0].name = \"fixed\"", "another camera"]);
        check(&format!("{}{}", extra("a", ""), extra("a", "")), &["line 8", "extra_cameras[1].name", "another camera"]);
        check(&extra("a/b", ""), &["line 3", "extra_cameras[0].name", "letters", "source = \"a/b\""]);
        let fraction = "[pace]\nkind = \"lockstep\"\nperiod_millis = 0.01\nanswer_timeout_millis = 100";
        check(fraction, &["line 4", "pace.period_millis = 0.01", "from 0.1 to 60000"]);
        check(&extra("a", "rate_hertz = 0.0"), &["line 7", "extra_cameras[0].rate_hertz = 0", "0.1"]);
        check(&extra("a", "max_frame_age_millis = 50"), &["line 7", "max_frame_age_millis = 50", "lockstep"]);
        check(&extra("a", "budget_millis = 0.0"), &["line 7", "extra_cameras[0].budget_millis", "0.001"]);
        check(&extra("a", "budget_seconds = 1.0"), &["line 7", "budget_seconds", "budget_millis"]);
        check(&(0..8).map(|idx| extra(&format!("c{idx}"), "")).collect::<String>(), &["extra_cameras", "at most 7"]);
        check("[rates]\ncameras = \"both\"", &["line 3", "both", "round_robin"]);
        check(
            "[zenoh]\nlisten = [\"127.0.0.1:7447\"]\nconnect = []\nshared_memory = true",
            &["line 3", "zenoh.listen[0]", "tcp/127.0.0.1:7447"],
        );
        check(
            "[zenoh]\nmode = \"client\"\nlisten = []\nconnect = []\nshared_memory = true",
            &["line 3", "zenoh.mode = \"client\"", "router", "peer"],
        );
        check(
            "[zenoh]\nmode = \"client\"\nlisten = [\"tcp/127.0.0.1:1\"]\nconnect = [\"tcp/127.0.0.1:2\"]\nshared_memory = true",
            &["line 4", "zenoh.listen", "listens nowhere"],
        );
        check(
            "[zenoh]\nmode = \"router\"\nlisten = []\nconnect = []\nshared_memory = true",
            &["line 3", "zenoh.mode", "router", "client"],
        );
        check("[health]\nlisten = \"0.0.0.0:9464\"", &["line 3", "health.listen", "0.0.0.0:9464", "loopback"]);
        check(
            "[power]\nnvpmodel_mode = \"15 W; reboot\"\nlock_clocks = true",
            &["line 3", "power.nvpmodel_mode", "nvpmodel.conf"],
        );
        check(
            "[mount]\nparent = \"hand\"\nparent_from_camera_metres = [0, 0, 0]\nparent_from_camera_quaternion_wxyz = [1, 1, 0, 0]",
            &["line 5", "length 1"],
        );
        check(
            "[intrinsics]\nwidth = 640\nheight = 128\nfx_pixels = 1\nfy_pixels = 1\ncx_pixels = 1\ncy_pixels = 1\ndistortion = [0, 0, 0, 0, 0]",
            &["line 3", "intrinsics.width = 640", "camera.width is 128"],
        );
        let lens = |more: &str| {
            format!(
                "[intrinsics]\nwidth = 128\nheight = 128\nfx_pixels = 90\nfy_pixels = 90\ncx_pixels = 64\ncy_pixels = 64\n{more}"
            )
        };
        check(&lens("distortion = [0.1, 0.0, 0.0, 0.0]"), &["line 9", "intrinsics.distortion", "plumb_bob", "8"]);
        let lens = |more: &str| lens(&format!("distortion = [0.1, 0, 0, 0, 0]\n{more}"));
        check(&lens("projection_pixels = [90, 90, 64, 64]"), &["line 10", "projection_pixels", "undistort = true"]);
        check(&lens("undistort = true\nprojection_pixels = [90, 0, 64, 64]"), &["line 11", "projection_pixels", "fy"]);
        check(
            &lens("undistort = true\nrectification = [1, 0, 0, 0, 1, 0, 0, 0, -1]"),
            &["line 11", "intrinsics.rectification", "rotation"],
        );
    }

    #[test]
    fn a_value_that_clashes_is_told_where_it_is_inherited_from() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("base.toml"),
            "inherit = \"desktop-sim\"\n[inference]\nproviders = [\"cpu\"]\nintra_threads = 8\n",
        )
        .unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "inherit = \"base.toml\"\n[hardware]\ncpu_cores = 4\nmemory_mebibytes = 4096\n").unwrap();
        let message = load(&file.display().to_string()).unwrap_err().to_string();
        assert!(message.contains("base.toml line 4") && message.contains("4 cores"), "{message}");
    }

    #[test]
    fn limits_that_cannot_hold_together_are_named() {
        let joint = |command: &str, more: &str| {
            format!(
                "[[joints]]\nname = \"a\"\ncommand = \"{command}\"\nminimum = -1.0\nmaximum = 1.0\nmax_rate_per_second = 2.0\n{more}"
            )
        };
        let (position, torque) = ("position_radians", "torque_newton_metres");
        let limits =
            "minimum_position_radians = -1.0\nmaximum_position_radians = 1.0\nbraking_radians_per_second_squared";
        let velocity = joint("velocity_radians_per_second", &format!("{limits} = 3.0"));
        for (change, expected) in [
            (joint(position, "max_jerk_per_second_cubed = 9.0"), ["joints[0].max_jerk", "max_acceleration"]),
            (joint(position, "max_acceleration_per_second_squared = 0.0"), ["max_acceleration", "> 0"]),
            (joint(position, "home = 1.5"), ["joints[0].home", "-1 to 1"]),
            (joint(position, &format!("{limits} = 1.0")), ["minimum_position_radians", "minimum and maximum"]),
            (joint(torque, "minimum_position_radians = 0.0"), ["minimum_position_radians", "none of them"]),
            (velocity, ["braking_radians_per_second_squared = 3", "at most max_rate_per_second"]),
            (joint(position, "axis = [1.0, 1.0, 0.0]"), ["joints[0].axis", "unit vector"]),
            (joint(torque, "[safety]\naction = \"damp\""), ["safety.action", "damping_per_radian_per_second"]),
            (joint(torque, "[safety]\naction = \"return_home\""), ["safety.action", "positions"]),
            (joint(position, "[safety]\naction = \"return_home\""), ["safety.action", "home = RADIANS of joint `a`"]),
            (joint(position, "continuous = true"), ["joints[0].continuous", "at least one turn"]),
            (joint(torque, "continuous = true"), ["joints[0].continuous", "position_radians"]),
            (
                joint(
                    position,
                    "[safety.workspace]\nminimum_metres = [0.0, 0.0, 0.0]\nmaximum_metres = [1.0, 1.0, 1.0]\ntool_metres = [0.0, 0.0, 0.0]",
                ),
                ["safety.workspace", "joint `a`"],
            ),
            ("[watchdog]\nlook_millis = 11".to_owned(), ["watchdog.look_millis = 11", "1 to 10"]),
            ("[watchdog]\naction_timeout_millis = 20".to_owned(), ["watchdog.action_timeout_millis = 20", "20.0 ms"]),
            (
                "[budget]\ntotal_millis = 5.0\nencode_millis = 4.0\npolicy_millis = 2.0".to_owned(),
                ["budget.total_millis = 5", "6"],
            ),
            ("[threads]\ncontrol_priority = 50".to_owned(), ["threads.control_priority = 50", "fifo"]),
            ("[threads]\nscheduling = \"fifo\"\ncontrol_priority = 100".to_owned(), ["control_priority = 100", "99"]),
            (
                "[rates]\npolicy_every_ticks = 8\nchunk_expiry_millis = 100.0".to_owned(),
                ["chunk_expiry_millis = 100", "160"],
            ),
        ] {
            check(&change, &expected);
        }
    }

    #[test]
    fn an_unknown_or_circular_profile_is_an_error() {
        let message = load("desktop-simm").unwrap_err().to_string();
        assert!(message.contains("did you mean `desktop-sim`"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loop.toml");
        std::fs::write(&file, "inherit = \"loop.toml\"\n").unwrap();
        let message = load(&file.display().to_string()).unwrap_err().to_string();
        assert!(message.contains("loop.toml"), "{message}");
        let large = folder.path().join("large.toml");
        std::fs::write(&large, vec![b'#'; 2 << 20]).unwrap();
        assert!(load(&large.display().to_string()).unwrap_err().to_string().contains("allowed"));
    }
}
