//! `foresee config` and the health page as users meet them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use foresee_tests::{foresee, free_endpoint};
use serde_json::Value;

fn json(arguments: &[&str], expected_code: i32) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = foresee(folder.path()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(expected_code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_shipped_profile_passes_and_knows_its_differences() {
    let checked = json(&["config", "check", "--json"], 0);
    let names: Vec<&str> =
        checked["profiles"].as_array().unwrap().iter().map(|row| row["profile"].as_str().unwrap()).collect();
    for name in [
        "jetson-orin-nano",
        "jetson-orin-nx",
        "jetson-agx-orin",
        "jetson-thor",
        "raspberry-pi-5",
        "desktop-cpu",
        "desktop-cuda",
        "desktop-sim",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let differences = json(&["config", "diff", "jetson-orin-nano", "jetson-orin-nx", "--json"], 1);
    let keys: Vec<&str> =
        differences["differences"].as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert!(keys.contains(&"hardware.cpu_cores") && keys.contains(&"power.nvpmodel_mode"), "{keys:?}");
    assert_eq!(json(&["config", "show", "desktop-sim", "--json"], 0)["pace"]["kind"], "lockstep");
    assert!(json(&["config", "schema"], 0)["properties"]["joints"].is_object());
}

#[test]
fn a_wrong_profile_fails_the_check_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "inherit = \"desktop-cpu\"\n[camera]\nname = \"c\"\nwidht = 4\n")
        .unwrap();
    let output = foresee(folder.path()).args(["config", "check", "mine.toml", "desktop-cpu"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for part in ["mine.toml line 4", "camera.widht = 4", "did you mean `width`"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(String::from_utf8(output.stdout).unwrap().contains("ok     desktop-cpu"));
}

/// A machine with a GPU passes; another one is told what it lacks.
#[test]
fn a_profile_is_held_against_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let check = |profile: &str| {
        let output = foresee(folder.path()).args(["config", "check", profile, "--here", "--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems: Vec<String> = serde_json::from_value(told["profiles"][0]["problems"].clone()).unwrap();
        assert_eq!(output.status.code(), Some(if problems.is_empty() { 0 } else { 2 }), "{problems:?}");
        problems
    };
    assert_eq!(check("desktop-sim"), Vec::<String>::new());
    let problems = check("desktop-cuda");
    let is_cuda_here = Path::new("/dev/nvidia0").exists();
    assert!(is_cuda_here || !problems.is_empty(), "a machine without an NVIDIA GPU has no CUDA provider");
    assert!(
        problems.iter().all(|problem| problem.contains("inference.providers begins with \"cuda\"")),
        "{problems:?}"
    );
    let problems = check("jetson-thor");
    assert!(problems.iter().any(|problem| problem.contains("hardware.cpu_cores")), "{problems:?}");
}

#[test]
fn what_is_rendered_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (target, profile, expected) in [
        ("systemd", "raspberry-pi-5", "Type=notify"),
        ("nvpmodel", "jetson-agx-orin", "mode='MODE_50W'"),
        ("zenoh", "desktop-sim", "tcp/127.0.0.1:7447"),
        ("zenoh-pico-header", "desktop-sim", "FORESEE_NUM_JOINTS 2u"),
    ] {
        let output = foresee(folder.path())
            .args(["config", "render", target, "--profile", profile, "--out", target])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read_to_string(folder.path().join(target)).unwrap();
        assert!(text.contains(expected), "{target}: {text}");
    }
}

/// systemd waits for as long as the slowest safe action takes by the joints' limits: 3 radians at 0.3 a second are ten seconds.
#[test]
fn a_unit_waits_for_the_joints() {
    let folder = tempfile::tempdir().unwrap();
    let text = "inherit = \"desktop-cpu\"\n[safety]\naction = \"return_home\"\n[[joints]]\nname = \"a\"\n\
                command = \"position_radians\"\nminimum = -3.0\nmaximum = 3.0\nmax_rate_per_second = 0.3\nhome = 0.0\n";
    std::fs::write(folder.path().join("slow.toml"), text).unwrap();
    let output = foresee(folder.path()).args(["config", "render", "systemd", "slow.toml"]).output().unwrap();
    let unit = String::from_utf8(output.stdout).unwrap();
    let seconds = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).unwrap();
    assert!(seconds.parse::<u64>().unwrap() >= 2 * 10, "{unit}");
    assert!(unit.contains("RestartPreventExitStatus=130"), "{unit}");
}

/// A service starts in another folder, as another user, and does not see the folders of users.
#[test]
fn a_unit_names_its_files_by_whole_paths_and_what_a_service_cannot_see() {
    let folder = tempfile::tempdir().unwrap();
    let text = "inherit = \"desktop-cpu\"\nrobot = \"arm\"\n";
    std::fs::create_dir(folder.path().join("my models")).unwrap();
    for (file, text) in [("arm.toml", text), ("my models/50%.onnx", ""), ("bc.onnx", "")] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let render = |arguments: &[&str]| {
        let output = foresee(folder.path())
            .args(["config", "render", "systemd", "arm.toml", "--"])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, unit, message) = render(&["--encoder", "my models/50%.onnx", "--policy=./bc.onnx"]);
    assert_eq!(code, Some(0), "{message}");
    let here = folder.path().display();
    let start = format!(
        "ExecStart=/usr/local/bin/foresee run --profile {here}/arm.toml --encoder \"{here}/my models/50%%.onnx\" \
         --policy={here}/bc.onnx\n"
    );
    assert!(unit.contains(&start), "{unit}");
    for option in ["profile", "--encoder", "--policy"] {
        let warning = format!("{option} {here}/");
        assert!(message.lines().any(|line| line.contains(&warning) && line.contains("DynamicUser")), "{message}");
        assert!(unit.lines().any(|line| line.starts_with("# WARNING") && line.contains(&warning)), "{unit}");
    }
    let (code, _, message) = render(&["--encoder", "/home/ann/encoder.onnx"]);
    assert!(code == Some(0) && message.contains("/home/ann/encoder.onnx: ProtectHome=yes"), "{message}");
    let (code, unit, message) = render(&["--encoder", "none.onnx"]);
    assert!(code == Some(2) && unit.is_empty() && message.contains("none.onnx"), "{message}");
}

/// One request, as `curl` makes it.
fn get(address: &str, path: &str) -> Option<String> {
    let mut client = TcpStream::connect(address).ok()?;
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    client.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn a_run_tells_the_page_and_systemd_how_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = std::os::unix::net::UnixDatagram::bind(folder.path().join("notify")).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let address = free_endpoint().replace("tcp/", "");
    let mut command = foresee(folder.path());
    command.args(["run", "--simulate", "dmc/reacher-easy", "--episodes", "1000", "--endpoint", &free_endpoint()]);
    command.args(["--health", &address, "--no-log"]).env("NOTIFY_SOCKET", folder.path().join("notify"));
    command.env("WATCHDOG_USEC", "1000000").env_remove("WATCHDOG_PID");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let told = |expected: &str| {
        let mut buffer = [0; 256];
        for _ in 0..1000 {
            let num_bytes = systemd.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..num_bytes]).starts_with(expected) {
                return;
            }
        }
        panic!("systemd was not told {expected}");
    };
    told("READY=1");
    told("WATCHDOG=1");
    let deadline = Instant::now() + Duration::from_secs(120);
    while !get(&address, "/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
        assert!(Instant::now() < deadline, "never ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    let metrics = get(&address, "/metrics").unwrap();
    let ticks = metrics.lines().find_map(|line| line.strip_prefix("foresee_ticks_total ")).unwrap();
    assert!(ticks.parse::<f64>().unwrap() >= 1.0, "{metrics}");
    let engine = metrics
        .lines()
        .find(|line| line.starts_with("foresee_engine_info") && line.contains("role=\"encoder\""))
        .unwrap();
    assert!(engine.contains("provider=\"cpu\"") && engine.contains("engine=\"onnxruntime"), "{engine}");
    assert!(get(&address, "/healthz").unwrap().ends_with("ok\n"));
    let ended = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    told("STOPPING=1");
    child.wait().unwrap();
}
