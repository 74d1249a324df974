//! `foresee doctor`: what this machine has and lacks, where it was found, and how to mend each lack.

use std::process::ExitCode;

use clap::Args;
use foresee_firmware_config::{DeviceProfile, Provider, ZenohProfile};
use foresee_runtime::{ProviderProbe, ZenohLink, probe_providers};
use serde::Serialize;

use crate::fitness::Machine;
use crate::places;
use crate::words::print;

/// Arguments of `foresee doctor`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Hold this profile against the machine: cores, memory, power mode, camera, and what `--provider auto` takes of its list.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Print JSON instead of the table.
    #[arg(long)]
    json: bool,
}

/// One part of the machine.
#[derive(Serialize)]
struct Finding {
    name: &'static str,
    state: State,
    /// Version where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// Where it was found, or what was said when it was not.
    detail: String,
    /// The exact mend of a lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// There, and tried.
    Works,
    /// Not there; the demo needs it.
    Lacks,
    /// Not there; only some robots have it.
    Optional,
    /// Left out of this build.
    NotBuilt,
}

/// Looks, prints, and gives exit code 1 when something that the demo needs is lacking.
///
/// # Errors
/// A profile that is wrong, or a result that cannot be printed.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let profile = foresee_firmware_config::load(&arguments.profile)?;
    let mut findings = vec![fitness(&profile)];
    findings.extend(simulator());
    findings.extend(engines(&profile));
    findings.push(opencv());
    findings.push(zenoh());
    report(arguments.json, &findings)?;
    let lacks = findings.iter().any(|finding| finding.state == State::Lacks);
    Ok(ExitCode::from(u8::from(lacks)))
}

fn works(name: &'static str, version: &str, detail: String) -> Finding {
    Finding { name, state: State::Works, version: Some(version.to_owned()), detail, fix: None }
}

fn lacks(name: &'static str, detail: String, fix: &str) -> Finding {
    Finding { name, state: State::Lacks, version: None, detail, fix: Some(fix.to_owned()) }
}

/// Whether this is the machine that the profile is of.
fn fitness(profile: &DeviceProfile) -> Finding {
    let misfits = Machine::here().misfits(profile);
    match misfits.is_empty() {
        true => works("profile", "", format!("{}: {}", profile.name, profile.description)),
        false => lacks(
            "profile",
            misfits.join("; "),
            "give --profile the profile of this machine; `foresee config show NAME` prints one",
        ),
    }
}

#[cfg(feature = "sim")]
fn simulator() -> Vec<Finding> {
    use foresee_sim::{Camera, CameraOptions, Environment, MUJOCO_VERSION, Quality, TASKS};

    let library = loaded_library("libmujoco").unwrap_or_else(|| "linked in".to_owned());
    let mujoco = works("MuJoCo", MUJOCO_VERSION, library);
    let environment = match Environment::new("dmc/reacher-easy", &places::native()) {
        Ok(environment) => environment,
        Err(error) => return vec![mujoco, lacks("task assets", error.to_string(), "./launch/setup")],
    };
    let assets = works("task assets", "", format!("{} tasks; {}", TASKS.len(), places::native().display()));
    let name = environment.spec().camera.clone();
    let options = CameraOptions { name, width: 64, height: 64, quality: Quality::Fast };
    let packages = "apt-get install -y --no-install-recommends libegl1 libegl-mesa0 libgl1-mesa-dri";
    let rendering = match Camera::new(&environment, &options) {
        Ok(_) => {
            let library = loaded_library("libEGL").unwrap_or_else(|| "EGL".to_owned());
            works("rendering", "", format!("headless, without a display; {library}"))
        }
        Err(error) => lacks("rendering", error.to_string(), packages),
    };
    vec![mujoco, assets, rendering]
}

#[cfg(not(feature = "sim"))]
fn simulator() -> Vec<Finding> {
    let detail = "a robot's build has no simulator".to_owned();
    vec![Finding { name: "MuJoCo", state: State::NotBuilt, version: None, detail, fix: None }]
}

fn engines(profile: &DeviceProfile) -> Vec<Finding> {
    let probes = probe_providers(places::onnxruntime(None).as_deref());
    let mut findings = Vec::new();
    for probe in &probes {
        let (_, version) = probe.engine.rsplit_once(' ').unwrap_or(("", &probe.engine));
        let name = match probe.provider {
            Provider::Tensorrt => "provider tensorrt",
            Provider::Cuda => "provider cuda",
            Provider::Cpu => "provider cpu",
            Provider::Tract => "provider tract",
        };
        let library = probe.library.as_ref().map_or_else(String::new, |library| format!("; {}", library.display()));
        let detail = format!("{}{library}", probe.detail);
        let fix = match probe.provider {
            _ if probe.is_ready => None,
            Provider::Tensorrt => {
                Some("an NVIDIA GPU with TensorRT, and ORT_DYLIB_PATH to an ONNX Runtime built for it")
            }
            Provider::Cuda => Some("an NVIDIA GPU with CUDA, and ORT_DYLIB_PATH to an ONNX Runtime built for it"),
            Provider::Cpu => Some("./launch/setup, or ORT_DYLIB_PATH to a libonnxruntime.so"),
            Provider::Tract => Some("build with the feature `tract`"),
        };
        let state = match probe.provider {
            _ if probe.is_ready => State::Works,
            Provider::Tensorrt | Provider::Cuda => State::Optional,
            Provider::Cpu | Provider::Tract => State::Lacks,
        };
        findings.push(Finding { name, state, version: Some(version.to_owned()), detail, fix: fix.map(str::to_owned) });
    }
    findings.push(auto(&probes, &profile.inference.providers));
    findings.push(shared_library("CUDA driver", "libcuda.so", "the driver of an NVIDIA GPU"));
    findings.push(shared_library("TensorRT", "libnvinfer.so", "NVIDIA's TensorRT packages (JetPack has them)"));
    findings
}

/// Which provider of the profile's list `--provider auto` takes, and why.
fn auto(probes: &[ProviderProbe], providers: &[Provider]) -> Finding {
    let is_ready = |provider: &Provider| probes.iter().any(|probe| probe.provider == *provider && probe.is_ready);
    let order = providers.iter().map(|provider| provider.name()).collect::<Vec<_>>().join(", ");
    match providers.iter().find(|provider| is_ready(provider)) {
        Some(taken) => {
            works("--provider auto", "", format!("takes {}: the first of [{order}] that is ready", taken.name()))
        }
        None => lacks("--provider auto", format!("none of [{order}] is ready"), "./launch/setup"),
    }
}

fn opencv() -> Finding {
    let fix = "./launch/setup full && cargo build --release --workspace";
    match find_library("libopencv_core.so") {
        Some((path, version)) if cfg!(feature = "camera") => works("OpenCV", &version, path),
        Some((path, version)) => {
            let detail = format!("{path}; this build has no cameras (the demo needs none)");
            Finding {
                name: "OpenCV",
                state: State::NotBuilt,
                version: Some(version),
                detail,
                fix: Some(fix.to_owned()),
            }
        }
        None => {
            let detail = "not installed; cameras and video files need it, the demo does not".to_owned();
            Finding { name: "OpenCV", state: State::Optional, version: None, detail, fix: Some(fix.to_owned()) }
        }
    }
}

fn shared_library(name: &'static str, file: &str, fix: &str) -> Finding {
    match find_library(file) {
        Some((path, version)) => works(name, &version, path),
        None => {
            let detail = format!("no {file} in the system's library folders");
            Finding { name, state: State::Optional, version: None, detail, fix: Some(fix.to_owned()) }
        }
    }
}

fn zenoh() -> Finding {
    let listen = vec!["tcp/127.0.0.1:0".to_owned()];
    let loopback = ZenohProfile { listen, shared_memory: true, ..ZenohProfile::default() };
    match ZenohLink::open("doctor", &loopback).and_then(|link| link.close()) {
        Ok(()) => {
            works("zenoh", env!("FORESEE_ZENOH_VERSION"), "a session on loopback opened, with shared memory".to_owned())
        }
        Err(error) => lacks("zenoh", error.to_string(), "allow this process to listen on 127.0.0.1"),
    }
}

/// A library of this process, by the start of its file name.
#[cfg(feature = "sim")]
fn loaded_library(start: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let mut paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    paths.find(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(start))).map(str::to_owned)
}

/// A library in the system's folders: path and the version in its longest name.
fn find_library(start: &str) -> Option<(String, String)> {
    let folders = [
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/local/lib",
        "/usr/local/cuda/lib64",
    ];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
    let names = files.map(|file| file.path().display().to_string());
    let found = names.filter(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(start)));
    let path = found.max_by_key(String::len)?;
    let version = path.rsplit_once(".so.").map_or(String::new(), |(_, version)| version.to_owned());
    Some((path, version))
}

fn report(json: bool, findings: &[Finding]) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string_pretty(findings)?);
        return Ok(());
    }
    for finding in findings {
        let mark = match finding.state {
            State::Works => "works",
            State::Lacks => "LACKS",
            State::Optional => "optional",
            State::NotBuilt => "not built",
        };
        let version = finding.version.as_deref().unwrap_or_default();
        print(&format!("{mark:<9}  {:<17}  {version:<8}  {}", finding.name, finding.detail));
        if let Some(fix) = &finding.fix {
            print(&format!("{:>40}mend: {fix}", ""));
        }
    }
    Ok(())
}
