//! Profiles as people look at them: merged with its origins, side by side, and as a JSON schema for editors.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::error::ProfileError;
use crate::load::Layers;
use crate::raw::RawProfile;

/// A key that two profiles do not agree on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Dotted path.
    pub key: String,
    /// The first profile's value as TOML; `None`: it has none.
    pub left: Option<String>,
    /// The second profile's value as TOML; `None`: it has none.
    pub right: Option<String>,
}

/// The profile as TOML with everything that it inherits; above each table stands where it comes from.
///
/// # Errors
/// As [`load`](crate::load()).
pub fn show(name_or_path: &str) -> Result<String, ProfileError> {
    let layers = Layers::load(name_or_path)?;
    let table = merged(&layers.raw);
    let sources: Vec<&str> = layers.sources.iter().map(|source| source.file.as_str()).collect();
    let mut text = format!("# {}\n", sources.join(", inherits "));
    // Keys before tables: TOML takes what follows a table's header as the table's.
    for is_table in [false, true] {
        for (key, value) in table.iter().filter(|(_, value)| is_table == is_nested(value)) {
            let origin = layers.origin(key).unwrap_or_default();
            let one = toml::Table::from_iter([(key.clone(), value.clone())]);
            let written = one.to_string();
            match is_table {
                true => text.push_str(&format!("\n# from {origin}\n{written}")),
                false => text.push_str(&format!("{} # from {origin}\n", written.trim_end())),
            }
        }
    }
    layers.check()?;
    Ok(text)
}

/// The keys in which two profiles differ, in alphabetical order.
///
/// # Errors
/// As [`load`](crate::load()).
pub fn difference(left: &str, right: &str) -> Result<Vec<Difference>, ProfileError> {
    let flat = |name: &str| -> Result<BTreeMap<String, String>, ProfileError> {
        let layers = Layers::load(name)?;
        let mut flat = BTreeMap::new();
        flatten("", &toml::Value::Table(merged(&layers.raw)), &mut flat);
        layers.check()?;
        Ok(flat)
    };
    let (left, right) = (flat(left)?, flat(right)?);
    let keys = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key)));
    let mut differences: Vec<Difference> = keys
        .map(|key| Difference { key: key.clone(), left: left.get(key).cloned(), right: right.get(key).cloned() })
        .filter(|difference| difference.left != difference.right)
        .collect();
    differences.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(differences)
}

/// What is allowed and still worth a second look.
///
/// # Errors
/// As [`load`](crate::load()).
pub fn notes(name_or_path: &str) -> Result<Vec<String>, ProfileError> {
    let layers = Layers::load(name_or_path)?;
    let origin = |key: &str| layers.origin(key).map(str::to_owned);
    let (robot, joints) = (origin("robot"), origin("joints"));
    let mut notes = Vec::new();
    if let (Some(robot), Some(joints)) = (&robot, &joints)
        && robot != joints
    {
        notes.push(format!(
            "`robot` is from {robot}, its [[joints]] and their limits from {joints}: is it the same robot?"
        ));
    }
    let profile = layers.check()?;
    if profile.camera.device.is_some() && profile.intrinsics.is_none() {
        notes.push(
            "[intrinsics] is not given: images are used as they come; `foresee camera calibrate` measures it"
                .to_owned(),
        );
    }
    if let Some(lens) = profile.intrinsics
        && lens.straightening.is_none()
        && lens.distortion.iter().any(|coefficient| *coefficient != 0.0)
    {
        notes.push(
            "[intrinsics] is given, and frames are used as they come; undistort = true straightens them".to_owned(),
        );
    }
    Ok(notes)
}

/// The JSON schema of profiles (draft 2020-12).
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RawProfile).to_value()
}

fn merged(raw: &RawProfile) -> toml::Table {
    let raw = RawProfile { inherit: None, ..raw.clone() };
    // Every value of a profile has a form in TOML: it came from there.
    toml::Table::try_from(raw).unwrap_or_default()
}

fn is_nested(value: &toml::Value) -> bool {
    match value {
        toml::Value::Table(_) => true,
        toml::Value::Array(array) => array.iter().any(toml::Value::is_table),
        _ => false,
    }
}

fn flatten(path: &str, value: &toml::Value, flat: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, flat);
            }
        }
        toml::Value::Array(array) if is_nested(value) => {
            for (idx, value) in array.iter().enumerate() {
                flatten(&format!("{path}[{idx}]"), value, flat);
            }
        }
        value => drop(flat.insert(path.to_owned(), value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{BUILT_IN_PROFILES, load, parse};

    #[test]
    fn what_is_shown_is_the_same_profile() {
        for (name, _) in BUILT_IN_PROFILES {
            let shown = show(name).unwrap();
            assert_eq!(parse(name, &shown).unwrap(), load(name).unwrap(), "{shown}");
        }
        let shown = show("desktop-sim").unwrap();
        assert!(
            shown.contains("# from desktop-sim\n[pace]") && shown.contains("# from demo-robot\n[zenoh]"),
            "{shown}"
        );
    }

    #[test]
    fn a_difference_is_named_by_its_key() {
        assert_eq!(difference("desktop-sim", "desktop-sim").unwrap(), []);
        let differences = difference("desktop-cpu", "desktop-sim").unwrap();
        let kind = differences.iter().find(|difference| difference.key == "pace.kind").unwrap();
        assert_eq!((kind.left.as_deref(), kind.right.as_deref()), (Some("\"fixed\""), Some("\"lockstep\"")));
        assert!(differences.iter().any(|difference| difference.key == "pace.rate_hertz" && difference.right.is_none()));
        assert!(differences.iter().all(|difference| !difference.key.starts_with("joints")), "{differences:?}");
    }

    #[test]
    fn borrowed_joints_are_noted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        std::fs::write(&file, "inherit = \"desktop-cpu\"\nrobot = \"arm\"\n").unwrap();
        let notes = notes(&file.display().to_string()).unwrap();
        assert!(notes.len() == 1 && notes[0].contains("from demo-robot"), "{notes:?}");
        assert!(super::notes("desktop-cpu").unwrap().is_empty());
    }

    /// The schema is held to what the parser does: it knows every key and enum value, and no other.
    #[test]
    fn the_schema_knows_what_the_parser_knows() {
        let schema = schema();
        assert_eq!(schema["additionalProperties"], false);
        let definitions = schema["$defs"].as_object().unwrap();
        assert!(definitions.len() >= 12, "{definitions:?}");
        for (name, definition) in definitions {
            if definition["type"] == "object" {
                assert_eq!(definition["additionalProperties"], false, "{name}");
                for (key, property) in definition["properties"].as_object().unwrap() {
                    let text = property.to_string();
                    assert!(text.contains("\"description\""), "{name}.{key} has no sentence: {text}");
                }
            }
        }
        let keys: Vec<&String> = schema["properties"].as_object().unwrap().keys().collect();
        let message = parse("mine", "nonsense = 1").unwrap_err().to_string();
        assert!(keys.len() >= 15 && keys.iter().all(|key| message.contains(key.as_str())), "{keys:?} {message}");
        assert!(schema.to_string().contains("torque_newton_metres"), "{schema:#}");
    }
}
