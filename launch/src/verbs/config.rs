//! `foresee config`: profiles checked, shown, compared, and written out for the programs beside the loop.

#[cfg(feature = "sim")]
mod new;
mod unit;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use foresee_firmware_config::{
    BUILT_IN_PROFILES, DeviceProfile, UnitOptions, difference, load, notes, power_script, schema, show, systemd_unit,
    zenoh_config, zenoh_pico_header,
};
use foresee_runtime::{probe_providers, stop_patience, write_atomically};
use serde_json::json;

use crate::fitness::{Machine, absent_provider};
use crate::places::{self, is_same_file};
use crate::words::{print, say};

/// Arguments of `foresee config`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write a profile for the robot of a task or of a model of your own: joints, command kinds, ranges, period, cameras.
    #[cfg(feature = "sim")]
    New(new::NewArguments),
    /// Check profiles: every key, value and unit, and what must agree.
    Check(CheckArguments),
    /// Print a profile with everything that it inherits, and where each table comes from.
    Show(ShowArguments),
    /// Print the keys in which two profiles differ; exit code 1 when there are such.
    Diff(DiffArguments),
    /// Print the JSON schema of profiles, for editors.
    Schema,
    /// Write what another program needs to know of a profile.
    Render(RenderArguments),
}

#[derive(Args)]
struct CheckArguments {
    /// Built-in names or TOML files [default: every built-in profile]
    #[arg(value_name = "NAME|FILE")]
    profiles: Vec<String>,
    /// The same, as other verbs have it.
    #[arg(long = "profile", value_name = "NAME|FILE")]
    more: Vec<String>,
    /// Hold them against this machine as well: cores, memory, power mode, camera, providers, real-time priority.
    #[arg(long)]
    here: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ShowArguments {
    #[command(flatten)]
    profile: ProfileArgument,
    /// Print it as JSON, without origins.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DiffArguments {
    /// Built-in name or TOML file.
    #[arg(value_name = "LEFT")]
    left: String,
    /// Built-in name or TOML file.
    #[arg(value_name = "RIGHT")]
    right: String,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// A profile, as a word of its own or with `--profile`.
#[derive(Args)]
struct ProfileArgument {
    /// Built-in name or TOML file.
    #[arg(value_name = "NAME|FILE", required_unless_present = "named")]
    profile: Option<String>,
    /// The same, as other verbs have it.
    #[arg(long = "profile", id = "named", value_name = "NAME|FILE", conflicts_with = "profile")]
    named: Option<String>,
}

impl ProfileArgument {
    fn name(&self) -> &str {
        self.profile.as_deref().or(self.named.as_deref()).unwrap_or_default()
    }
}

#[derive(Args)]
struct RenderArguments {
    /// For whom.
    #[arg(value_enum)]
    target: Target,
    #[command(flatten)]
    profile: ProfileArgument,
    /// File to write [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// systemd: the installed binary.
    #[arg(long, default_value = "/usr/local/bin/foresee", value_name = "FILE")]
    binary: String,
    /// systemd: further arguments of `foresee run`, after `--`.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Target {
    /// The unit of `foresee run`.
    Systemd,
    /// The shell script that sets a Jetson's power mode and clocks.
    Nvpmodel,
    /// zenoh's configuration, for a router or driver beside the loop.
    Zenoh,
    /// Keys, pace and limits in C, for a motor controller.
    ZenohPicoHeader,
}

/// Exit code 2 when a profile is wrong, 1 when a comparison finds a difference.
///
/// # Errors
/// One line with file, line, key, value and what is allowed.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        #[cfg(feature = "sim")]
        What::New(arguments) => new::act(arguments),
        What::Check(arguments) => check(arguments),
        What::Show(arguments) => {
            let text = show(arguments.profile.name())?;
            if arguments.json {
                let value: toml::Value = toml::from_str(&text).context("a shown profile")?;
                print(&serde_json::to_string_pretty(&value)?);
            } else {
                print(text.trim_end());
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Diff(arguments) => diff(arguments),
        What::Schema => {
            print(&serde_json::to_string_pretty(&schema())?);
            Ok(ExitCode::SUCCESS)
        }
        What::Render(arguments) => render(arguments),
    }
}

fn check(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let mut names: Vec<String> = arguments.profiles.iter().chain(&arguments.more).cloned().collect();
    if names.is_empty() {
        names.extend(BUILT_IN_PROFILES.iter().map(|(name, _)| (*name).to_owned()));
    }
    let probes = if arguments.here { probe_providers(places::onnxruntime(None).as_deref()) } else { Vec::new() };
    let mut rows = Vec::new();
    for name in &names {
        let (mut notes, mut problems) = (Vec::new(), Vec::new());
        match load(name).and_then(|profile| Ok((profile, self::notes(name)?))) {
            Ok((profile, found)) => {
                notes = found;
                if arguments.here {
                    let machine = Machine::here();
                    problems = machine.misfits(&profile);
                    problems.extend(machine.denied_priority(&profile));
                    problems.extend(absent_provider(&profile, &probes));
                }
            }
            Err(error) => problems.push(error.to_string()),
        }
        if !arguments.json {
            print(&format!("{:<6} {name}", if problems.is_empty() { "ok" } else { "WRONG" }));
            for note in &notes {
                print(&format!("       note: {note}"));
            }
            for problem in &problems {
                say(&format!("foresee: {problem}"));
            }
        }
        rows.push(json!({ "profile": name, "passed": problems.is_empty(), "problems": problems, "notes": notes }));
    }
    let has_failed = rows.iter().any(|row| row["passed"] == false);
    if arguments.json {
        print(&serde_json::to_string_pretty(&json!({ "profiles": rows }))?);
    }
    Ok(ExitCode::from(if has_failed { 2 } else { 0 }))
}

fn diff(arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let differences = difference(&arguments.left, &arguments.right)?;
    if arguments.json {
        print(&serde_json::to_string_pretty(&json!({ "differences": differences }))?);
    } else {
        for difference in &differences {
            let text = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
            print(&format!("{}: {} -> {}", difference.key, text(&difference.left), text(&difference.right)));
        }
    }
    Ok(ExitCode::from(u8::from(!differences.is_empty())))
}

fn render(arguments: &RenderArguments) -> anyhow::Result<ExitCode> {
    let name = arguments.profile.name();
    if arguments.target != Target::Systemd && !arguments.arguments.is_empty() {
        bail!(
            "-- {}: arguments of `foresee run` belong to `config render systemd` alone",
            arguments.arguments.join(" ")
        );
    }
    let profile = load(name)?;
    let text = match arguments.target {
        Target::Systemd => service(arguments, &profile)?,
        Target::Nvpmodel => power_script(&profile)?,
        Target::Zenoh => format!(
            "// Made by `foresee config render zenoh` from profile {}; make it again rather than edit it.\n{}\n",
            profile.name,
            serde_json::to_string_pretty(&zenoh_config(&profile.zenoh))?
        ),
        Target::ZenohPicoHeader => zenoh_pico_header(&profile)?,
    };
    match &arguments.out {
        Some(file) if is_same_file(file, Path::new(name)) => {
            bail!("--out {}: is the profile itself; give another file", file.display())
        }
        Some(file) => write_atomically(file, text.as_bytes())?,
        None => print(text.trim_end()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The unit, with every path absolute; what the service cannot reach is named here and in the unit.
fn service(arguments: &RenderArguments, profile: &DeviceProfile) -> anyhow::Result<String> {
    let name = arguments.profile.name();
    if !Path::new(&arguments.binary).is_absolute() {
        bail!("--binary {}: systemd wants the whole path, such as /usr/local/bin/foresee", arguments.binary);
    }
    let mut checked = unit::Checked::of(&arguments.arguments)?;
    let profile_name = match BUILT_IN_PROFILES.iter().any(|(built_in, _)| *built_in == name) {
        true => name.to_owned(),
        false => checked.absolute("profile", Path::new(name))?,
    };
    checked.look_at(&arguments.binary, profile);
    for warning in &checked.warnings {
        say(&format!("foresee: {warning}"));
    }
    let options = UnitOptions {
        binary: arguments.binary.clone(),
        profile: profile_name,
        arguments: checked.arguments,
        warnings: checked.warnings,
        stop_patience: stop_patience(profile),
    };
    Ok(systemd_unit(profile, &options))
}
