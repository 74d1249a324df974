//! Domain randomisation and sensor faults as data: ranges by name, read from TOML, drawn from at every reset.

mod model;
mod sensor;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub(crate) use model::ModelRandomiser;
pub use sensor::SensorFaults;

use crate::error::SimError;
use crate::random::RandomState;

/// What can be randomised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knob {
    LightBrightness,
    LightAmbient,
    LightShift,
    TextureBrightness,
    TextureTint,
    ColourTint,
    Mass,
    Friction,
    CameraShift,
    CameraTurn,
    CameraFovy,
    ActuatorGain,
    LatencyActions,
    SensorNoise,
    SensorBlur,
    SensorDelay,
    SensorDropped,
    SensorFrozen,
    SensorFrozenFrames,
}

/// A key of the file.
struct Key {
    knob: Knob,
    section: &'static str,
    name: &'static str,
    lowest: f64,
    highest: f64,
    is_whole: bool,
}

const fn key(knob: Knob, (section, name): (&'static str, &'static str), [lowest, highest]: [f64; 2]) -> Key {
    Key { knob, section, name, lowest, highest, is_whole: false }
}

const fn whole(knob: Knob, name: (&'static str, &'static str), range: [f64; 2]) -> Key {
    Key { is_whole: true, ..key(knob, name, range) }
}

const PI: f64 = std::f64::consts::PI;

/// Every key, and what it may be.
const KEYS: &[Key] = &[
    key(Knob::LightBrightness, ("light", "brightness"), [0.0, 10.0]),
    key(Knob::LightAmbient, ("light", "ambient"), [0.0, 10.0]),
    key(Knob::LightShift, ("light", "shift_metres"), [-10.0, 10.0]),
    key(Knob::TextureBrightness, ("texture", "brightness"), [0.0, 10.0]),
    key(Knob::TextureTint, ("texture", "tint"), [0.0, 10.0]),
    key(Knob::ColourTint, ("colour", "tint"), [0.0, 10.0]),
    key(Knob::Mass, ("mass", "factor"), [0.01, 100.0]),
    key(Knob::Friction, ("friction", "factor"), [0.01, 100.0]),
    key(Knob::CameraShift, ("camera", "shift_metres"), [-10.0, 10.0]),
    key(Knob::CameraTurn, ("camera", "turn_radians"), [-PI, PI]),
    key(Knob::CameraFovy, ("camera", "fovy"), [0.1, 2.0]),
    key(Knob::ActuatorGain, ("actuator", "gain"), [0.01, 100.0]),
    whole(Knob::LatencyActions, ("latency", "actions"), [0.0, 100.0]),
    key(Knob::SensorNoise, ("sensor", "noise_levels"), [0.0, 255.0]),
    key(Knob::SensorBlur, ("sensor", "blur_pixels"), [0.0, 20.0]),
    whole(Knob::SensorDelay, ("sensor", "delay_frames"), [0.0, 100.0]),
    key(Knob::SensorDropped, ("sensor", "dropped_share"), [0.0, 0.99]),
    key(Knob::SensorFrozen, ("sensor", "frozen_share"), [0.0, 1.0]),
    whole(Knob::SensorFrozenFrames, ("sensor", "frozen_frames"), [1.0, 10_000.0]),
];

/// Ranges to draw from, and the file that they come from: what a result says of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Randomisation {
    file: PathBuf,
    /// `[lowest, highest]` by section and key.
    ranges: BTreeMap<&'static str, BTreeMap<&'static str, [f64; 2]>>,
}

impl Randomisation {
    /// Reads a file; `launch/doc/randomise.toml` names every key.
    ///
    /// # Errors
    /// [`SimError::Randomisation`] with file, key, value and what can be.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        let refuse = |problem: String| SimError::Randomisation { path: path.to_path_buf(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Self::parse(path, &text)
    }

    /// Reads a text; errors and results call it `path`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, SimError> {
        let refuse = |problem: String| SimError::Randomisation { path: path.to_path_buf(), problem };
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| refuse(one_line(&error, text)))?;
        let mut ranges: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (section, keys) in &table {
            let known = KEYS.iter().filter(|key| key.section == section);
            let names: Vec<&str> = known.clone().map(|key| key.name).collect();
            if names.is_empty() {
                return Err(refuse(format!("`{section}` is no section; take {}", sections().join(", "))));
            }
            let Some(keys) = keys.as_table() else {
                return Err(refuse(format!(
                    "`{section} = {keys}`: it is a section; write [{section}] and its keys below"
                )));
            };
            for (name, value) in keys {
                let Some(key) = known.clone().find(|key| key.name == name) else {
                    return Err(refuse(format!("`{name}` is no key of [{section}]; take {}", names.join(", "))));
                };
                let range = key.range(value).map_err(|rule| refuse(format!("{section}.{name} = {value}: {rule}")))?;
                ranges.entry(key.section).or_default().insert(key.name, range);
            }
        }
        Ok(Self { file: path.to_path_buf(), ranges })
    }

    /// A draw, or `None` where the file does not name it.
    fn draw(&self, knob: Knob, random: &mut RandomState) -> Option<f64> {
        let key = KEYS.iter().find(|key| key.knob == knob)?;
        let [lowest, highest] = *self.ranges.get(key.section)?.get(key.name)?;
        Some(match key.is_whole {
            true => random.integer(lowest as i64, highest as i64 + 1) as f64,
            false => random.uniform(lowest, highest),
        })
    }

    fn draw_whole(&self, knob: Knob, random: &mut RandomState) -> Option<usize> {
        self.draw(knob, random).map(|value| value as usize)
    }

    /// Whether an episode moves or turns cameras, and the key that a camera of the mode would not follow: a free camera follows
    /// none, one that is aimed at a body cannot be turned.
    pub(crate) fn camera_key(&self, is_free: bool, is_aimed: bool) -> Option<String> {
        let keys: &[Knob] = match (is_free, is_aimed) {
            (true, _) => &[Knob::CameraShift, Knob::CameraTurn, Knob::CameraFovy],
            (false, true) => &[Knob::CameraTurn],
            (false, false) => &[],
        };
        let key = KEYS.iter().find(|key| keys.contains(&key.knob) && self.names(&[key.knob]))?;
        Some(format!("{}.{}", key.section, key.name))
    }

    fn names(&self, knobs: &[Knob]) -> bool {
        let named = |key: &&Key| self.ranges.get(key.section).is_some_and(|keys| keys.contains_key(key.name));
        KEYS.iter().filter(named).any(|key| knobs.contains(&key.knob))
    }
}

impl Key {
    /// The range that a value stands for, or what it should be.
    fn range(&self, value: &toml::Value) -> Result<[f64; 2], String> {
        let Self { lowest, highest, is_whole, .. } = self;
        let number = if *is_whole { "whole number" } else { "number" };
        let rule = || format!("take one {number} or [lowest, highest], from {lowest} to {highest}");
        let single = |value: &toml::Value| match value {
            toml::Value::Integer(value) => Some(*value as f64),
            toml::Value::Float(value) if !is_whole => Some(*value),
            _ => None,
        };
        let range = match value {
            toml::Value::Array(ends) => match ends.as_slice() {
                [low, high] => single(low).zip(single(high)).map(|(low, high)| [low, high]),
                _ => None,
            },
            value => single(value).map(|value| [value; 2]),
        };
        let [low, high] = range.ok_or_else(rule)?;
        if low > high {
            return Err("the lowest comes first".to_string());
        }
        if low >= *lowest && high <= *highest { Ok([low, high]) } else { Err(rule()) }
    }
}

fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections
}

/// Where TOML itself is wrong.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {line}: {}", error.message().replace('\n', "; "))
}

/// A stream of its own for a purpose, so that the task's draws stay what they are.
fn stream(seed: u64, purpose: u32) -> RandomState {
    // The cast keeps the 32 bits that a seed has; the multiplier (Knuth's) keeps neighbouring seeds apart.
    RandomState::new((seed as u32).wrapping_mul(2_654_435_761) ^ purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Randomisation, SimError> {
        Randomisation::parse(Path::new("r.toml"), text)
    }

    #[test]
    fn the_example_names_every_key() {
        let example = parse(include_str!("../../launch/doc/randomise.toml")).unwrap();
        for key in KEYS {
            assert!(example.ranges[key.section].contains_key(key.name), "{}.{}", key.section, key.name);
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let check = |text: &str, expected: &str| {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("r.toml: ") && error.contains(expected) && !error.contains('\n'), "{error:?}");
        };
        check("[lights]\n", "`lights` is no section; take light, texture,");
        check("light = 3", "`light = 3`: it is a section");
        check("[light]\nshine = 2", "`shine` is no key of [light]; take brightness, ambient, shift_metres");
        check(
            "[mass]\nfactor = [1, 2, 3]",
            "mass.factor = [1, 2, 3]: take one number or [lowest, highest], from 0.01 to 100",
        );
        check("[mass]\nfactor = [2.0, 1.0]", "mass.factor = [2.0, 1.0]: the lowest comes first");
        check("[mass]\nfactor = 0", "mass.factor = 0: take one number");
        check("[mass]\nfactor = nan", "mass.factor = nan: take one number");
        check("[latency]\nactions = 1.5", "latency.actions = 1.5: take one whole number");
        check("[latency]\nactions = \"2\"", "latency.actions = \"2\"");
        check("[sensor]\ndropped_share = [0, 1]", "from 0 to 0.99");
        check("[light]\nbrightness = 1\nbrightness = 2", "line 3: duplicate key");
        let missing = Randomisation::load(Path::new("nowhere.toml")).unwrap_err().to_string();
        assert!(missing.starts_with("nowhere.toml: "), "{missing}");
    }

    #[test]
    fn draws_stay_in_their_range() {
        let ranges = parse("[latency]\nactions = [1, 3]\n[mass]\nfactor = [0.5, 0.7]\n[friction]\nfactor = 2").unwrap();
        let mut random = stream(5, 0);
        let mut actions = [false; 5];
        for _ in 0..200 {
            actions[ranges.draw_whole(Knob::LatencyActions, &mut random).unwrap()] = true;
            assert!((0.5..=0.7).contains(&ranges.draw(Knob::Mass, &mut random).unwrap()));
            assert_eq!(ranges.draw(Knob::Friction, &mut random), Some(2.0));
        }
        assert_eq!(actions, [false, true, true, true, false]);
        assert_eq!(ranges.draw(Knob::SensorBlur, &mut random), None);
    }
}
