//! The paths of a systemd unit: absolute, there, and where a service with the unit's rights can reach them.

use std::any::TypeId;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::builder::ArgAction;
use clap::{Args, Command};
use foresee_firmware_config::DeviceProfile;

use crate::verbs::run;

/// Folders of `foresee run` that the service writes into.
const WRITTEN: [&str; 2] = ["runs", "engine-cache"];
/// Where a service of the unit may write (StateDirectory and CacheDirectory).
const WRITABLE: [&str; 2] = ["/var/lib/foresee", "/var/cache/foresee"];
/// Folders that the unit hides, and by which of its lines.
const HIDDEN: [(&str, &str); 5] = [
    ("/home", "ProtectHome=yes hides /home"),
    ("/root", "ProtectHome=yes hides /root"),
    ("/run/user", "ProtectHome=yes hides /run/user"),
    ("/tmp", "DynamicUser=yes gives the service a /tmp of its own"),
    ("/var/tmp", "DynamicUser=yes gives the service a /var/tmp of its own"),
];
/// Digits of a key that is given itself and not as a file.
const KEY_DIGITS: usize = 64;

/// Arguments of `foresee run` for a unit, and what stands against it on the robot.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// With every path absolute.
    pub(super) arguments: Vec<String>,
    /// One sentence a path, with the fix.
    pub(super) warnings: Vec<String>,
}

impl Checked {
    /// The arguments with their paths made absolute against the current folder.
    ///
    /// # Errors
    /// Arguments that `foresee run` does not take, and relative paths of files that are not there.
    pub(super) fn of(arguments: &[String]) -> anyhow::Result<Self> {
        let command = run::Arguments::augment_args(Command::new("run").no_binary_name(true));
        if let Err(error) = command.clone().try_get_matches_from(arguments) {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
            bail!("-- {}: `foresee run` does not take this: {line}", arguments.join(" "));
        }
        let mut checked = Self::default();
        let mut option = None;
        for word in arguments {
            if word.chars().any(char::is_control) {
                bail!("-- {word:?}: has a control character, which a unit cannot hold");
            }
            let (word, path) = match word.strip_prefix("--") {
                Some(flag) => {
                    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
                    if name == "profile" {
                        bail!("-- --profile: give the profile before `--`: config render systemd PROFILE -- ...");
                    }
                    option = path_option(&command, name);
                    let value = value.zip(option.clone()).filter(|(value, name)| is_path(name, value));
                    match value {
                        Some((value, name)) => (format!("--{name}="), Some((name, value))),
                        None => (word.clone(), None),
                    }
                }
                None => match option.clone().filter(|name| is_path(name, word)) {
                    Some(name) => (String::new(), Some((name, word.as_str()))),
                    None => (word.clone(), None),
                },
            };
            let absolute = path.map(|(name, value)| checked.absolute(&format!("--{name}"), Path::new(value)));
            let absolute = absolute.transpose()?.unwrap_or_default();
            checked.arguments.push(word + &absolute);
        }
        Ok(checked)
    }

    /// A path made absolute and looked at.
    ///
    /// # Errors
    /// A relative path of a file that is not there, and one that is not UTF-8.
    pub(super) fn absolute(&mut self, option: &str, path: &Path) -> anyhow::Result<String> {
        let shown = path.display();
        let absolute = std::path::absolute(path).with_context(|| format!("{option} {shown}"))?;
        let text = absolute.to_str().with_context(|| format!("{option} {shown}: is not UTF-8"))?.to_owned();
        let is_written = WRITTEN.iter().any(|name| option.strip_prefix("--") == Some(name));
        if !is_written && !absolute.exists() {
            if path.is_relative() {
                bail!(
                    "{option} {shown}: there is no {text}; give a path that is there, or the absolute one on the robot"
                );
            }
            self.warnings.push(format!("{option} {text}: is not on this machine; put it there on the robot"));
        }
        let hidden = hidden(&absolute);
        match hidden {
            Some(why) if is_written => self.warnings.push(format!(
                "{option} {text}: {why}, and the service may write below {} only: leave {option} out",
                WRITABLE.join(" and ")
            )),
            Some(why) => self.warnings.push(format!(
                "{option} {text}: {why}, so that the service cannot read it: copy it to /etc/foresee and render the unit again with that path"
            )),
            None if is_written && !WRITABLE.iter().any(|folder| absolute.starts_with(folder)) => {
                self.warnings.push(format!(
                    "{option} {text}: ProtectSystem=strict lets the service write below {} only: leave {option} out",
                    WRITABLE.join(" and ")
                ));
            }
            None if !is_written => self.warnings.extend(
                unreadable(&absolute).map(|what| format!("{option} {text}: {what}; the service runs as a user of its own: chmod a+rX")),
            ),
            None => {}
        }
        Ok(text)
    }

    /// Looks at the binary and at what the profile itself names.
    pub(super) fn look_at(&mut self, binary: &str, profile: &DeviceProfile) {
        if let Some(why) = hidden(Path::new(binary)) {
            self.warnings.push(format!("--binary {binary}: {why}: install it with launch/install --prefix /usr/local"));
        }
        let cameras = std::iter::once(&profile.camera).chain(profile.extra_cameras.iter().map(|extra| &extra.camera));
        for device in cameras.filter_map(|camera| camera.device.as_deref()) {
            let path = Path::new(device);
            let is_file = path.exists() && !path.starts_with("/dev");
            let why = match is_file && path.is_relative() {
                true => Some("is relative, and the service runs in /var/lib/foresee"),
                false => hidden(path).filter(|_| is_file),
            };
            self.warnings
                .extend(why.map(|why| format!("camera.device {device:?}: {why}: give an absolute path elsewhere")));
        }
    }
}

/// The name of an option that takes paths, or keys that may be files.
fn path_option(command: &Command, name: &str) -> Option<String> {
    let argument = command.get_arguments().find(|argument| argument.get_long() == Some(name))?;
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let is_path = argument.get_value_parser().type_id() == TypeId::of::<PathBuf>() || name == "trust";
    (takes_value && is_path).then(|| name.to_owned())
}

fn is_path(name: &str, value: &str) -> bool {
    let is_key = value.len() == KEY_DIGITS && value.chars().all(|digit| digit.is_ascii_hexdigit());
    !(name == "trust" && is_key)
}

/// Which line of the unit hides a path from the service, where a link in it leads included.
fn hidden(path: &Path) -> Option<&'static str> {
    let target = path.canonicalize().ok();
    let is_below =
        |folder: &str| path.starts_with(folder) || target.as_ref().is_some_and(|path| path.starts_with(folder));
    HIDDEN.into_iter().find(|(folder, _)| is_below(folder)).map(|(_, why)| why)
}

/// What keeps another user from reading a file that is there.
fn unreadable(path: &Path) -> Option<String> {
    let mode = |path: &Path| Some(std::fs::metadata(path).ok()?.permissions().mode());
    if mode(path)? & 0o004 == 0 {
        return Some("is not readable by everyone".to_owned());
    }
    let closed = path.ancestors().skip(1).find(|folder| mode(folder).is_some_and(|mode| mode & 0o001 == 0))?;
    Some(format!("lies below {}, which not everyone may enter", closed.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> anyhow::Result<Checked> {
        Checked::of(&arguments.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_path_argument_becomes_absolute_and_nothing_else() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        let key = "0".repeat(KEY_DIGITS);
        let found = checked(&[
            "--encoder",
            "Cargo.toml",
            "--policy=src/../Cargo.toml",
            "--onnxruntime",
            "/opt/libonnxruntime.so",
            "--name",
            "runs",
            "--runs",
            "logs",
            "--engine-cache=cache",
            "--trust",
            &key,
            "--trust=Cargo.toml",
            "--no-log",
            "--health",
            "127.0.0.1:9464",
        ])
        .unwrap();
        let expected = [
            "--encoder".to_owned(),
            format!("{here}/Cargo.toml"),
            format!("--policy={here}/src/../Cargo.toml"),
            "--onnxruntime".to_owned(),
            "/opt/libonnxruntime.so".to_owned(),
            "--name".to_owned(),
            "runs".to_owned(),
            "--runs".to_owned(),
            format!("{here}/logs"),
            format!("--engine-cache={here}/cache"),
            "--trust".to_owned(),
            key,
            format!("--trust={here}/Cargo.toml"),
            "--no-log".to_owned(),
            "--health".to_owned(),
            "127.0.0.1:9464".to_owned(),
        ];
        assert_eq!(found.arguments, expected);
        assert!(
            found.warnings.iter().any(|warning| warning.contains("/opt/libonnxruntime.so: is not on this machine"))
        );
        assert!(found.warnings.iter().any(|warning| warning.contains("/logs") && warning.contains("leave --runs out")));
    }

    #[test]
    fn what_the_service_cannot_reach_is_named() {
        for (path, why) in [
            ("/home/ann/encoder.onnx", "ProtectHome"),
            ("/root/encoder.onnx", "ProtectHome"),
            ("/tmp/encoder.onnx", "DynamicUser"),
            ("/var/tmp/encoder.onnx", "DynamicUser"),
        ] {
            let warnings = checked(&["--encoder", path]).unwrap().warnings;
            assert!(warnings.iter().any(|warning| warning.contains(path) && warning.contains(why)), "{warnings:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link.onnx");
        std::os::unix::fs::symlink("/tmp", &link).unwrap();
        assert!(hidden(&link).is_some_and(|why| why.contains("/tmp")));
        assert_eq!(hidden(Path::new("/etc/foresee/encoder.onnx")), None);
        assert_eq!(hidden(Path::new("/homes/encoder.onnx")), None);
    }

    #[test]
    fn arguments_that_cannot_be_are_refused() {
        for (arguments, expected) in [
            (&["--encoder", "nowhere/x.onnx"][..], "there is no"),
            (&["--encodr", "x"], "--encodr"),
            (&["--profile", "x.toml"], "before `--`"),
            (&["--name", "a\nb"], "control character"),
        ] {
            let error = checked(arguments).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
