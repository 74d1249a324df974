//! The profile as written: TOML with `inherit`, strict keys; checked once into [`DeviceProfile`].

use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

use crate::control::{RawBudget, RawDynamics, RawRates, RawSafety, RawThreads, RawWatchdog};
use crate::error::ProfileError;
use crate::profile::{
    CameraProfile, CommandKind, DeviceProfile, InferenceProfile, JointProfile, Pace, PixelEncoding, Provider,
    ZenohProfile,
};

/// Profiles compiled in: (name, TOML). One line a profile.
pub const BUILT_IN_PROFILES: &[(&str, &str)] = &[
    ("desktop-cpu", include_str!("../profiles/desktop-cpu.toml")),
    ("desktop-sim", include_str!("../profiles/desktop-sim.toml")),
];

/// A profile is a page of text; more is another file.
pub(crate) const MAX_PROFILE_BYTES: u64 = 1 << 20;
const MAX_CAMERA_PIXELS: u32 = 16_384;
const MAX_INHERIT_DEPTH: usize = 8;

/// Loads a profile by built-in name or path, follows `inherit`, and checks it.
///
/// # Errors
/// [`ProfileError`] names the profile, the key and the value.
pub fn load(name_or_path: &str) -> Result<DeviceProfile, ProfileError> {
    resolve(name_or_path, None, &mut Vec::new()).and_then(|(name, raw)| raw.check(&name))
}

/// Checks a profile given as text; `inherit` may name built-in profiles.
///
/// # Errors
/// As [`load`].
pub fn parse(name: &str, text: &str) -> Result<DeviceProfile, ProfileError> {
    let (name, raw) = inherit(name, text, None, &mut Vec::new())?;
    raw.check(&name)
}

fn resolve(
    name_or_path: &str,
    base: Option<&Path>,
    chain: &mut Vec<String>,
) -> Result<(String, RawProfile), ProfileError> {
    if let Some((name, text)) = BUILT_IN_PROFILES.iter().find(|(name, _)| *name == name_or_path) {
        return inherit(name, text, None, chain);
    }
    let path = base.map_or_else(|| Path::new(name_or_path).to_path_buf(), |base| base.join(name_or_path));
    if !path.is_file() {
        let known = BUILT_IN_PROFILES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(ProfileError::Unknown { name: name_or_path.to_owned(), known });
    }
    let read = |source| ProfileError::Read { path: path.clone(), source };
    let bytes = std::fs::metadata(&path).map_err(read)?.len();
    if bytes > MAX_PROFILE_BYTES {
        return Err(ProfileError::TooLarge { name: path.display().to_string(), bytes, limit: MAX_PROFILE_BYTES });
    }
    let text = std::fs::read_to_string(&path).map_err(read)?;
    inherit(&path.display().to_string(), &text, path.parent(), chain)
}

fn inherit(
    name: &str,
    text: &str,
    base: Option<&Path>,
    chain: &mut Vec<String>,
) -> Result<(String, RawProfile), ProfileError> {
    let again = chain.iter().any(|seen| seen == name);
    chain.push(name.to_owned());
    if again || chain.len() > MAX_INHERIT_DEPTH {
        return Err(ProfileError::Circular { name: name.to_owned(), chain: chain.join(" -> ") });
    }
    let raw: RawProfile = toml::from_str(text)
        .map_err(|error| ProfileError::Syntax { name: name.to_owned(), message: one_line(&error, text) })?;
    let stem = Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into_owned());
    let merged = match &raw.inherit {
        Some(parent) => raw.clone().over(resolve(parent, base, chain)?.1),
        None => raw,
    };
    Ok((stem, merged))
}

fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
    let quoted =
        error.span().and_then(|span| text.get(span)).unwrap_or_default().lines().next().unwrap_or_default().trim();
    let message = error.message().replace('\n', " ");
    match line {
        Some(line) => format!("line {line}: `{quoted}`: {message}"),
        None => message,
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    inherit: Option<String>,
    description: Option<String>,
    robot: Option<String>,
    camera: Option<RawCamera>,
    joints: Option<Vec<RawJoint>>,
    inference: Option<RawInference>,
    pace: Option<RawPace>,
    zenoh: Option<RawZenoh>,
    safety: Option<RawSafety>,
    watchdog: Option<RawWatchdog>,
    budget: Option<RawBudget>,
    threads: Option<RawThreads>,
    rates: Option<RawRates>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCamera {
    name: String,
    width: u32,
    height: u32,
    encoding: PixelEncoding,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJoint {
    name: String,
    command: CommandKind,
    minimum: f64,
    maximum: f64,
    max_rate_per_second: f64,
    max_acceleration_per_second_squared: Option<f64>,
    max_jerk_per_second_cubed: Option<f64>,
    home: Option<f64>,
    damping_per_radian_per_second: Option<f64>,
    minimum_position_radians: Option<f64>,
    maximum_position_radians: Option<f64>,
    braking_radians_per_second_squared: Option<f64>,
    axis: Option<[f64; 3]>,
    origin_metres: Option<[f64; 3]>,
    origin_radians: Option<[f64; 3]>,
}

impl RawJoint {
    fn dynamics(&self) -> RawDynamics {
        RawDynamics {
            max_acceleration_per_second_squared: self.max_acceleration_per_second_squared,
            max_jerk_per_second_cubed: self.max_jerk_per_second_cubed,
            home: self.home,
            damping_per_radian_per_second: self.damping_per_radian_per_second,
            minimum_position_radians: self.minimum_position_radians,
            maximum_position_radians: self.maximum_position_radians,
            braking_radians_per_second_squared: self.braking_radians_per_second_squared,
            axis: self.axis,
            origin_metres: self.origin_metres,
            origin_radians: self.origin_radians,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInference {
    providers: Vec<Provider>,
    intra_threads: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum RawPace {
    Lockstep { period_millis: u64, answer_timeout_millis: u64 },
    Fixed { rate_hertz: f64, max_frame_age_millis: u64 },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawZenoh {
    listen: Vec<String>,
    connect: Vec<String>,
    shared_memory: bool,
}

impl RawProfile {
    /// A table given here replaces the inherited one whole, so that no half of a table comes from elsewhere unseen.
    fn over(self, parent: Self) -> Self {
        Self {
            inherit: self.inherit,
            description: self.description.or(parent.description),
            robot: self.robot.or(parent.robot),
            camera: self.camera.or(parent.camera),
            joints: self.joints.or(parent.joints),
            inference: self.inference.or(parent.inference),
            pace: self.pace.or(parent.pace),
            zenoh: self.zenoh.or(parent.zenoh),
            safety: self.safety.or(parent.safety),
            watchdog: self.watchdog.or(parent.watchdog),
            budget: self.budget.or(parent.budget),
            threads: self.threads.or(parent.threads),
            rates: self.rates.or(parent.rates),
        }
    }

    fn check(self, name: &str) -> Result<DeviceProfile, ProfileError> {
        let missing = |key: &str, rule: &str| ProfileError::Missing {
            name: name.to_owned(),
            key: key.to_owned(),
            rule: rule.to_owned(),
        };
        let check = Check { name };
        let robot =
            self.robot.ok_or_else(|| missing("robot", "the robot's name in zenoh keys, such as \"reacher\""))?;
        check.key_part("robot", &robot)?;
        let camera = self.camera.ok_or_else(|| missing("camera", "a table with name, width, height, encoding"))?;
        check.within("camera.width", camera.width, 1..=MAX_CAMERA_PIXELS)?;
        check.within("camera.height", camera.height, 1..=MAX_CAMERA_PIXELS)?;
        let joints = self.joints.ok_or_else(|| missing("joints", "at least one [[joints]] table"))?;
        let inference = self.inference.ok_or_else(|| missing("inference", "a table with providers, intra_threads"))?;
        check.within("inference.intra_threads", inference.intra_threads, 1..=1024)?;
        if inference.providers.is_empty() {
            return Err(check.value("inference.providers", "[]", "name at least one of tensorrt, cuda, cpu, tract"));
        }
        let zenoh = self.zenoh.ok_or_else(|| missing("zenoh", "a table with listen, connect, shared_memory"))?;
        let joints = check.joints(joints)?;
        let pace = self.pace.ok_or_else(|| missing("pace", "a table with kind = \"lockstep\" or \"fixed\""))?;
        let pace = check.pace(pace)?;
        Ok(DeviceProfile {
            name: name.to_owned(),
            description: self.description.unwrap_or_default(),
            robot,
            camera: CameraProfile {
                name: camera.name,
                width: camera.width,
                height: camera.height,
                encoding: camera.encoding,
            },
            safety: check.safety(self.safety.unwrap_or_default(), &joints)?,
            watchdog: check.watchdog(&self.watchdog.unwrap_or_default(), pace)?,
            budget: check.budget(self.budget)?,
            threads: check.threads(self.threads.unwrap_or_default())?,
            rates: check.rates(&self.rates.unwrap_or_default(), pace)?,
            joints,
            inference: InferenceProfile { providers: inference.providers, intra_threads: inference.intra_threads },
            pace,
            zenoh: ZenohProfile { listen: zenoh.listen, connect: zenoh.connect, shared_memory: zenoh.shared_memory },
        })
    }
}

pub(crate) struct Check<'a> {
    name: &'a str,
}

impl Check<'_> {
    pub(crate) fn value(&self, key: &str, value: impl std::fmt::Display, rule: &str) -> ProfileError {
        ProfileError::Value {
            name: self.name.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            rule: rule.to_owned(),
        }
    }

    pub(crate) fn within<T: PartialOrd + std::fmt::Display>(
        &self,
        key: &str,
        value: T,
        range: RangeInclusive<T>,
    ) -> Result<(), ProfileError> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(self.value(key, value, &format!("must lie from {} to {}", range.start(), range.end())))
    }

    fn key_part(&self, key: &str, value: &str) -> Result<(), ProfileError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !value.is_empty() && value.chars().all(allowed) {
            return Ok(());
        }
        Err(self.value(
            key,
            format!("{value:?}"),
            "use letters, digits, `-` and `_` only: it becomes part of zenoh keys",
        ))
    }

    fn joints(&self, joints: Vec<RawJoint>) -> Result<Vec<JointProfile>, ProfileError> {
        if joints.is_empty() {
            return Err(self.value("joints", "[]", "name at least one joint"));
        }
        let mut checked: Vec<JointProfile> = Vec::with_capacity(joints.len());
        for (joint_idx, joint) in joints.into_iter().enumerate() {
            let key = |field: &str| format!("joints[{joint_idx}].{field}");
            if checked.iter().any(|other| other.name == joint.name) {
                return Err(self.value(
                    &key("name"),
                    format!("{:?}", joint.name),
                    "is given twice; joint names are unique",
                ));
            }
            if !(joint.minimum.is_finite() && joint.maximum.is_finite() && joint.minimum < joint.maximum) {
                let range = format!("{} with maximum = {}", joint.minimum, joint.maximum);
                return Err(self.value(&key("minimum"), range, "both must be finite and minimum < maximum"));
            }
            if !(joint.max_rate_per_second.is_finite() && joint.max_rate_per_second > 0.0) {
                return Err(self.value(
                    &key("max_rate_per_second"),
                    joint.max_rate_per_second,
                    "must be finite and > 0",
                ));
            }
            let dynamics = joint.dynamics();
            let joint = JointProfile {
                name: joint.name,
                command: joint.command,
                minimum: joint.minimum,
                maximum: joint.maximum,
                max_rate_per_second: joint.max_rate_per_second,
                max_acceleration_per_second_squared: None,
                max_jerk_per_second_cubed: None,
                home: 0.0,
                damping_per_radian_per_second: 0.0,
                position: None,
                link: None,
            };
            checked.push(self.dynamics(joint, &dynamics, &key)?);
        }
        Ok(checked)
    }

    fn pace(&self, pace: RawPace) -> Result<Pace, ProfileError> {
        match pace {
            RawPace::Lockstep { period_millis, answer_timeout_millis } => {
                self.within("pace.period_millis", period_millis, 1..=60_000)?;
                self.within("pace.answer_timeout_millis", answer_timeout_millis, 1..=3_600_000)?;
                Ok(Pace::Lockstep { period_millis, answer_timeout_millis })
            }
            RawPace::Fixed { rate_hertz, max_frame_age_millis } => {
                self.within("pace.rate_hertz", rate_hertz, 0.1..=10_000.0)?;
                self.within("pace.max_frame_age_millis", max_frame_age_millis, 1..=60_000)?;
                Ok(Pace::Fixed { rate_hertz, max_frame_age_millis })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_profile_that_names_a_robot_is_valid() {
        for (name, text) in BUILT_IN_PROFILES {
            match load(name) {
                Ok(profile) => assert_eq!(profile.name, *name),
                Err(ProfileError::Missing { key, .. }) => assert!(!text.contains(&format!("{key} =")), "{name}: {key}"),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        let profile = load("desktop-sim").unwrap();
        assert_eq!(profile.joints.len(), 2);
        assert_eq!(profile.inference.providers, [Provider::Cpu, Provider::Tract]);
    }

    fn check(change: &str, expected: &[&str]) {
        let text = format!("inherit = \"desktop-sim\"\n{change}\n");
        let message = parse("mine", &text).unwrap_err().to_string();
        assert!(!message.contains('\n'), "one line: {message}");
        for part in expected {
            assert!(message.contains(part), "{message:?} lacks {part:?}");
        }
    }

    #[test]
    fn a_wrong_profile_is_named_with_key_value_and_rule() {
        check("robto = \"arm\"", &["mine", "line 2", "robto", "robot"]);
        check("robot = \"a/b\"", &["mine", "robot", "a/b", "letters"]);
        check("[camera]\nname = \"c\"\nwidth = 0\nheight = 3\nencoding = \"rgb8\"", &["camera.width", "0", "16384"]);
        check("[camera]\nname = \"c\"\nwidth = 2\nheight = 3\nencoding = \"rgb9\"", &["line 6", "rgb9", "bgr8"]);
        check("[pace]\nkind = \"fixed\"\nrate_hertz = nan\nmax_frame_age_millis = 1", &["pace.rate_hertz", "NaN"]);
        check("[inference]\nproviders = []\nintra_threads = 1", &["inference.providers", "tensorrt"]);
        check(
            "[[joints]]\nname = \"a\"\ncommand = \"position_radians\"\nminimum = 1.0\nmaximum = 0.0\nmax_rate_per_second = 1.0",
            &["joints[0].minimum", "minimum < maximum"],
        );
        check("inherit = \"nowhere\"", &["mine", "line 2"]);
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
        assert!(message.contains("desktop-sim"), "{message}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loop.toml");
        std::fs::write(&file, "inherit = \"loop.toml\"\n").unwrap();
        let message = load(&file.display().to_string()).unwrap_err().to_string();
        assert!(message.contains("loop.toml"), "{message}");
    }
}
