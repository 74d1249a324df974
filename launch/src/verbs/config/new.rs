//! `foresee config new`: a profile for the robot of a task or of a model of the user's own.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;
use foresee_firmware_config::CommandKind;
use foresee_runtime::write_atomically;
use foresee_sim::{
    ActionSpec, Assets, Environment, EnvironmentOptions, TaskSpec, Textures, UserGoal, UserModel, load_plugins,
    toml_number,
};

use crate::places;
use crate::simulated::packages;
use crate::words::{print, say};

/// The period of a model of the user's own is the multiple of its timestep nearest to this.
const PERIOD_SECONDS: f64 = 0.02;
/// What stands in for a range that the model does not have.
const STAND_IN: f64 = 1.0;

/// Arguments of `foresee config new`.
#[derive(Args)]
pub(super) struct NewArguments {
    /// Task whose robot it is, such as metaworld/reach; see foresee sim --list
    #[arg(long, value_name = "TASK", required_unless_present = "mjcf", conflicts_with = "mjcf")]
    task: Option<String>,
    /// A model of your own in place of a task: MJCF or URDF.
    #[arg(long, value_name = "FILE")]
    mjcf: Option<PathBuf>,
    /// Folder of a ROS package that a URDF names as package://NAME/; may be given more than once
    #[arg(long = "package", value_name = "NAME=DIR", requires = "mjcf")]
    packages: Vec<String>,
    /// Side of the square image, pixels.
    #[arg(long, default_value_t = 128, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=4096))]
    side: u32,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE.toml")]
    out: Option<PathBuf>,
}

/// Writes the profile.
///
/// # Errors
/// What the simulator says of task or model; when the file is there already or cannot be written.
pub(super) fn act(arguments: &NewArguments) -> anyhow::Result<ExitCode> {
    let spec = spec(arguments)?;
    let text = profile_text(&spec, arguments.side)?;
    match &arguments.out {
        Some(file) => {
            ensure!(!file.exists(), "--out {}: is there already; give another file, or remove it", file.display());
            write_atomically(file, text.as_bytes())?;
            say(&format!("config: wrote {}", file.display()));
        }
        None => print(text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(arguments: &NewArguments) -> anyhow::Result<TaskSpec> {
    let native = places::native();
    if let Some(path) = &arguments.mjcf {
        load_plugins(&native);
        let mut model = UserModel {
            path: path.clone(),
            packages: packages(&arguments.packages)?,
            goal: UserGoal::Still,
            control_timestep_seconds: PERIOD_SECONDS,
            time_limit_seconds: 1.0,
        };
        let timestep = Environment::timestep_of_user_model(&model)?;
        model.control_timestep_seconds = (PERIOD_SECONDS / timestep).round().max(1.0) * timestep;
        return Ok(Environment::of_user_model(&model, EnvironmentOptions::default())?.spec().clone());
    }
    let task = arguments.task.as_deref().context("name a task with --task, or a model with --mjcf")?;
    let assets = Assets { native: &native, textures: Textures::Small };
    Ok(Environment::with_assets(task, assets)?.spec().clone())
}

/// A profile that fits the robot of a task: its joints with the whole of what their actuators can do, its period, its first camera.
///
/// # Errors
/// When the robot has no actuators.
fn profile_text(spec: &TaskSpec, side: u32) -> anyhow::Result<String> {
    ensure!(
        !spec.actions.is_empty(),
        "{}: the model has no actuators, so that a profile would have no joints",
        spec.name
    );
    let period_millis = spec.control_timestep_seconds * 1e3;
    let mut text = format!(
        "# Written by `foresee config new` for the robot of {name}.\ninherit = \"desktop-sim\"\n\
         description = {description}\nrobot = \"{robot}\"\n\n\
         [pace]\nkind = \"lockstep\"\nperiod_millis = {period}\nanswer_timeout_millis = 2000\n\n\
         [camera]\n{camera}",
        name = spec.name,
        description = quoted(&format!("the simulated robot of {}", spec.name)),
        robot = key_part(spec.name.rsplit('/').next().unwrap_or(&spec.name)),
        period = toml_number(period_millis),
        camera = camera_keys(&quoted(&spec.camera), side),
    );
    text.push_str(&extra_cameras(spec, side));
    text.push_str(
        "\n# Ranges are those of the model's actuators. max_rate_per_second lets a command cross its range within one period, which limits\n\
         # nothing: a real robot's data sheet has less, and accelerations as well.\n",
    );
    for action in &spec.actions {
        text.push_str(&joint(action, spec.control_timestep_seconds));
    }
    Ok(text)
}

fn camera_keys(name: &str, side: u32) -> String {
    format!("name = {name}\nwidth = {side}\nheight = {side}\nencoding = \"rgb8\"\n")
}

/// The other cameras of the model, as comments: a policy sees the first one alone unless it was trained with more.
fn extra_cameras(spec: &TaskSpec, side: u32) -> String {
    let mut text = String::new();
    for name in spec.cameras.iter().filter(|name| **name != spec.camera) {
        let key = key_part(name);
        let source = if key == *name { String::new() } else { format!("source = {}\n", quoted(name)) };
        let keys = camera_keys(&format!("\"{key}\""), side);
        let commented: Vec<String> =
            format!("[[extra_cameras]]\n{source}{keys}").lines().map(|line| format!("# {line}")).collect();
        text.push('\n');
        text.push_str(&commented.join("\n"));
        text.push('\n');
    }
    text
}

fn joint(action: &ActionSpec, period_seconds: f64) -> String {
    let (kind, range) = action.command();
    let is_known = range.iter().all(|end| end.is_finite());
    let [minimum, maximum] = match range {
        _ if is_known => range,
        _ if kind == CommandKind::PositionRadians => [-std::f64::consts::PI, std::f64::consts::PI],
        _ => [-STAND_IN, STAND_IN],
    };
    let mut text = String::from("\n[[joints]]\n");
    let unit = match kind {
        CommandKind::TorqueNormalised => String::new(),
        _ if action.unit == "1" => "   # as the actuator's plugin takes it".to_owned(),
        _ => format!("   # {}", action.unit),
    };
    // Writing into a String cannot fail.
    let _ = writeln!(text, "name = {}\ncommand = \"{}\"{unit}", quoted(&action.name), kind.name());
    if !is_known {
        text.push_str("# The model limits nothing: write the robot's own range.\n");
    }
    let rate = (maximum - minimum) / period_seconds;
    let _ = writeln!(
        text,
        "minimum = {}\nmaximum = {}\nmax_rate_per_second = {}",
        toml_number(minimum),
        toml_number(maximum),
        toml_number(rate)
    );
    text
}

/// Letters, digits, `-` and `_`, as a zenoh key has them.
fn key_part(name: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    let text: String = name.chars().map(|letter| if allowed(letter) { letter } else { '_' }).collect();
    if text.is_empty() { "robot".to_owned() } else { text }
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use foresee_firmware_config::{DeviceProfile, load};
    use foresee_sim::{CommandMap, TASKS};

    use super::*;

    fn loaded(folder: &Path, text: &str) -> DeviceProfile {
        let file = folder.join("new.toml");
        std::fs::write(&file, text).unwrap();
        load(file.to_str().unwrap()).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// The commands of the profile are the whole of the robot's actions, in its units and back.
    fn check(environment: &Environment, text: &str, folder: &Path) {
        let spec = environment.spec();
        let profile = loaded(folder, text);
        let period = profile.pace.period().as_secs_f64();
        assert!((period - spec.control_timestep_seconds).abs() < 1e-9, "{}: {period}", spec.name);
        assert_eq!((&profile.camera.name, profile.joints.len()), (&spec.camera, spec.actions.len()), "{}", spec.name);
        let map =
            CommandMap::new(environment, &profile).unwrap_or_else(|error| panic!("{}: {error}\n{text}", spec.name));
        let highest: Vec<f64> = profile.joints.iter().map(|joint| joint.maximum).collect();
        let mut action = vec![0.0; spec.actions.len()];
        map.write_action(&spec.name, &highest, &mut action).unwrap();
        let mut back = Vec::new();
        map.write_commands(&action, &mut back);
        for ((joint, action), (control, back)) in profile.joints.iter().zip(&spec.actions).zip(action.iter().zip(&back))
        {
            assert!((back - joint.maximum).abs() <= 1e-9 * joint.maximum.abs().max(1.0), "{}", joint.name);
            let ends = [action.minimum, action.maximum];
            let is_end = ends.iter().any(|end| end.is_infinite() || (control - end).abs() < 1e-3 * end.abs().max(1e-3));
            assert!(is_end, "{}: {}: {control} of {ends:?}", spec.name, joint.name);
        }
    }

    #[test]
    fn the_profile_of_every_task_is_valid_and_fits_its_robot() {
        let (native, folder) = (places::native(), tempfile::tempdir().unwrap());
        for entry in TASKS {
            let assets = Assets { native: &native, textures: Textures::Small };
            let environment = Environment::with_assets(entry.name, assets).unwrap();
            check(&environment, &profile_text(environment.spec(), 64).unwrap(), folder.path());
        }
    }

    #[test]
    fn the_profile_of_a_model_names_cameras_and_odd_names() {
        let mjcf = r#"<mujoco><option timestep="0.0025"/><worldbody><camera name="head/left &quot;eye&quot;"/><camera name="side"/><camera name="top:0"/>
            <body name="a"><joint name="j" axis="0 1 0" range="-1 1"/><geom size=".1"/></body></worldbody>
            <actuator><position name="robot0:A" joint="j" gear="50" kp="4" ctrlrange="-50 50"/><motor joint="j"/></actuator></mujoco>"#;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a b.xml");
        std::fs::write(&path, mjcf).unwrap();
        let arguments = NewArguments {
            task: None,
            mjcf: Some(path.clone()),
            packages: Vec::new(),
            side: 64,
            out: Some(folder.path().join("out.toml")),
        };
        let text = profile_text(&spec(&arguments).unwrap(), 64).unwrap();
        assert!(text.contains("# source = \"top:0\"") && text.contains("# name = \"top_0\""), "{text}");
        let model = UserModel {
            path,
            packages: BTreeMap::new(),
            goal: UserGoal::Still,
            control_timestep_seconds: 0.02,
            time_limit_seconds: 1.0,
        };
        let environment = Environment::of_user_model(&model, EnvironmentOptions::default()).unwrap();
        check(&environment, &text, folder.path());
        let with_all: String = text
            .lines()
            .map(|line| {
                line.strip_prefix("# ")
                    .filter(|rest| !rest.contains(' ') || rest.contains(" = "))
                    .unwrap_or(line)
                    .to_owned()
                    + "\n"
            })
            .collect();
        let extra = loaded(folder.path(), &with_all).extra_cameras;
        assert_eq!(extra.len(), 2);
        assert_eq!((extra[1].camera.name.as_str(), extra[1].source.as_deref()), ("top_0", Some("top:0")));
        act(&arguments).unwrap();
        let error = act(&arguments).unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
    }
}
