//! The closed loop as users run it: two real processes over loopback, watched, interrupted, killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use foresee_runtime::{
    LogEntry, LogReader, ModelCard, OnnxDim, OnnxGraph, TensorCard, TensorData, sha256_file, write_model,
};
use foresee_tests::{foresee, free_endpoint, root};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// `foresee run` beside its own `foresee sim`, in a folder of its own.
fn run(folder: &Path, episodes: u32, provider: &str) -> Command {
    let mut command = foresee(folder);
    command.args(["run", "--simulate", "dmc/reacher-easy", "--name", "test", "--provider", provider]);
    command.args(["--episodes", &episodes.to_string(), "--seed", "77", "--endpoint", &free_endpoint()]);
    command
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn result(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("runs/test/result.json")).unwrap()).unwrap()
}

#[test]
fn a_run_leaves_what_it_promises_and_replays_to_the_bit() {
    for provider in ["cpu", "tract"] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(folder.path(), 1, provider).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let result = result(folder.path());
        for returns in ["policy", "expert", "random"] {
            let returns = &result[returns];
            let mean = returns["mean_return"].as_f64().unwrap();
            let [lower, upper] = [0, 1].map(|end| returns["ci95"][end].as_f64().unwrap());
            assert!((lower..=upper).contains(&mean) && returns["success_rate"].is_f64(), "{returns}");
        }
        assert_eq!((result["episodes"].as_u64(), &result["seeds"][0]), (Some(1), &Value::from(77)));
        assert_eq!(result["provider"], provider);
        assert_eq!(result["frames"], 1000);
        assert_eq!((&result["frames_dropped"], &result["commands_held"]), (&Value::from(0), &Value::from(0)));
        assert_eq!(result["mujoco_version"], "3.17.0");
        for text in ["encoder_sha256", "policy_sha256", "git_revision", "provider_reason"] {
            assert!(result[text].as_str().is_some_and(|text| text.len() >= 7), "{text}: {}", result[text]);
        }
        assert!(!result["cpu_features"].as_array().unwrap().is_empty());
        let [p50, p99, max] = ["p50", "p99", "max"].map(|which| result["loop_millis"][which].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{p50} {p99} {max}");
        let page = std::fs::read_to_string(folder.path().join("runs/test/report.html")).unwrap();
        assert!(page.matches("<svg").count() == 2 && page.contains("episode.gif"), "{page}");
        for picture in ["episode.gif", "filmstrip.png"] {
            assert!(std::fs::metadata(folder.path().join("runs/test").join(picture)).unwrap().len() > 1000);
        }
        let replay = foresee(folder.path());
        let replayed =
            { replay }.args(["replay", "runs/test/log.mcap", "--json", "--provider", provider]).output().unwrap();
        assert!(replayed.status.success(), "{}", said(&replayed));
        let replayed: Value = serde_json::from_slice(&replayed.stdout).unwrap();
        assert_eq!(
            (&replayed["commands_compared"], &replayed["commands_bit_equal"]),
            (&Value::from(1000), &Value::from(1000))
        );
    }
}

/// Writes a policy for the zoo's encoder that gives the actions of two steps at once, from the joints alone.
fn write_chunk_policy(model: &Path) {
    let mut card = ModelCard::load(&root().join("models/zoo/reacher-easy-bc.onnx")).unwrap();
    let weights: [[f32; 4]; 4] = std::array::from_fn(|row| std::array::from_fn(|column| (row + column) as f32 / 40.0));
    let mut graph = OnnxGraph::new("chunk");
    let mut inputs = BTreeMap::new();
    for input in &card.inputs {
        let shape: Vec<_> = input.shape.iter().map(|size| OnnxDim::Fixed(*size)).collect();
        inputs.insert(input.name.as_str(), graph.add_input(&input.name, &shape));
    }
    let weight = graph.add_constant("weight", &[4, 4], weights.as_flattened());
    let flat = graph.matmul(&inputs["joints"], &weight);
    let shape = graph.add_indices("shape", &[1, 2, 2]);
    let action = graph.add_node("Reshape", &[&flat, &shape], Vec::new());
    graph.add_output("action", &action, &[1, 2, 2].map(OnnxDim::Fixed));
    write_model(model, &graph.to_bytes()).unwrap();

    let joints = card.golden.inputs["joints"].values().unwrap();
    let column = |column: usize| joints.iter().zip(&weights).map(|(joint, row)| joint * row[column]).sum();
    let golden: [f32; 4] = std::array::from_fn(column);
    card.golden.outputs = [("action".to_owned(), TensorData::new(&[1, 2, 2], &golden))].into();
    card.outputs = vec![TensorCard::f32("action", &[1, 2, 2])];
    (card.model, card.sha256) = ("chunk.onnx".to_owned(), sha256_file(model).unwrap());
    card.save(model).unwrap();
}

#[test]
fn in_lockstep_a_policy_that_gives_chunks_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("chunk.onnx");
    write_chunk_policy(&policy);
    let output = run(folder.path(), 1, "cpu").arg("--policy").arg(&policy).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let result = result(folder.path());
    for (key, expected) in [("frames", 1000), ("commands_held", 0), ("chunks_late", 0)] {
        assert_eq!(result[key], expected, "{key}");
    }
}

#[test]
fn a_run_for_which_the_disk_has_nothing_left_goes_on_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // No folder can be made under it.
    std::fs::write(folder.path().join("runs"), "").unwrap();
    let output = { run(folder.path(), 1, "cpu") }.arg("--json").output().unwrap();
    assert!(
        output.status.success() && said(&output).contains("it is left out, and the run goes on"),
        "{}",
        said(&output)
    );
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["frames"], &result["log_entries_dropped"]), (&Value::from(1000), &Value::from(1000)));
}

/// Name and cores of every thread of a process; the main thread first.
fn threads(process: u32) -> Vec<(String, String)> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let thread = |task: PathBuf| {
        let status = read(task.join("status"));
        let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        (read(task.join("comm")).trim().to_owned(), cores.trim().to_owned())
    };
    let mut tasks: Vec<PathBuf> =
        std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|task| task.unwrap().path()).collect();
    tasks.sort_by_key(|task| !task.ends_with(process.to_string()));
    tasks.into_iter().map(thread).collect()
}

#[test]
fn only_the_loop_keeps_to_its_cores() {
    let folder = tempfile::tempdir().unwrap();
    let profile = "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n\
                   [threads]\ncontrol_cores = [0]\n[budget]\ntotal_millis = 1000.0\nself_test_ticks = 300\n";
    std::fs::write(folder.path().join("pinned.toml"), profile).unwrap();
    let mut command = foresee(folder.path());
    command.args(["run", "--profile", "pinned.toml", "--provider", "tract", "--endpoint", &free_endpoint()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    let helpers = ["foresee-recorde", "foresee-watchdo", "foresee-film", "foresee-attend"];
    let mut is_proved_there = false;
    let found = loop {
        let found = threads(child.id());
        // The budget is proved before anything else is started, under the conditions that the loop will run in.
        let is_alone = !found.iter().any(|(name, _)| helpers.contains(&name.as_str()));
        is_proved_there |= is_alone && found.first().is_some_and(|(_, cores)| cores == "0");
        // A thread has its name a moment after it was started.
        let is_running = helpers.iter().all(|helper| found.iter().any(|(name, _)| name == helper));
        if is_running && found.first().is_some_and(|(_, cores)| cores == "0") {
            break found;
        }
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "never ran: {found:?}");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(is_proved_there, "the self-test runs on the loop's cores");
    child.kill().unwrap();
    child.wait().unwrap();
    let is_one_core = std::thread::available_parallelism().unwrap().get() == 1;
    for helper in helpers {
        let (_, cores) = found.iter().find(|(name, _)| name == helper).unwrap_or_else(|| panic!("{found:?}"));
        assert!(is_one_core || cores != "0", "{helper}: {found:?}");
    }
}

/// Models of the zoo are replaced on disk while they drive a robot: it goes on with the new ones, and the result names both.
#[test]
fn models_are_swapped_while_the_robot_moves() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mae-64", "reacher-easy-bc"] {
        for extension in ["onnx", "card.json"] {
            let name = format!("{name}.{extension}");
            std::fs::copy(root().join("models/zoo").join(&name), folder.path().join(&name)).unwrap();
        }
    }
    let mut command = run(folder.path(), 100_000, "cpu");
    command.args(["--encoder", "mae-64.onnx", "--policy", "reacher-easy-bc.onnx", "--watch-models"]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(folder.path().join("said.txt")).unwrap());
    let mut child = command.spawn().unwrap();
    let said = || std::fs::read_to_string(folder.path().join("said.txt")).unwrap();
    let mut wait_for = |wanted: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !said().contains(wanted) {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "{}", said());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("episode    steps");
    // A comment of one letter (field 6 of the model): the same answers from another file.
    let model = folder.path().join("reacher-easy-bc.onnx");
    let mut card = ModelCard::load(&model).unwrap();
    let old = card.sha256.clone();
    let mut bytes = std::fs::read(&model).unwrap();
    bytes.extend(b"\x32\x01x");
    std::fs::write(&model, bytes).unwrap();
    card.sha256 = sha256_file(&model).unwrap();
    card.save(&model).unwrap();
    wait_for("are kept");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", said());
    let result = result(folder.path());
    let of = |pair: usize| result["models"][pair]["policy"]["model_sha256"].as_str().map(str::to_owned);
    assert_eq!((of(0), of(1), of(2)), (Some(old), Some(card.sha256), None), "{}", said());
    assert_eq!((&result["commands_held"], &result["frames_dropped"]), (&Value::from(0), &Value::from(0)), "{}", said());
}

/// Starts a run and waits until its log holds something.
fn start(folder: &Path) -> (Child, PathBuf) {
    let mut child = run(folder, 1000, "cpu").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.join("runs/test/log.mcap");
    let deadline = Instant::now() + PATIENCE;
    while std::fs::metadata(&log).map_or(0, |file| file.len()) < 20_000 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "no log came");
        std::thread::sleep(Duration::from_millis(20));
    }
    (child, log)
}

/// Frames of a log as our own reader and as the `mcap` crate's reader of whole files find them.
fn frames_in(log: &Path) -> [usize; 2] {
    let reader = LogReader::open(log).unwrap();
    let ours = reader.filter(|entry| matches!(entry, Ok(LogEntry::Frame(_)))).count();
    let bytes = std::fs::read(log).unwrap();
    let messages = mcap::MessageStream::new(&bytes).unwrap();
    let theirs = messages.filter(|message| message.as_ref().unwrap().channel.topic.ends_with("camera/image")).count();
    [ours, theirs]
}

#[test]
fn killed_at_any_moment_the_log_opens_and_the_simulator_leaves() {
    for wait_millis in [0, 333, 1234] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, log) = start(folder.path());
        std::thread::sleep(Duration::from_millis(wait_millis));
        child.kill().unwrap();
        child.wait().unwrap();
        let [ours, theirs] = frames_in(&log);
        assert!(ours > 10 && ours == theirs, "after {wait_millis} ms: {ours} and {theirs} frames");
        let marker = folder.path().display().to_string();
        let deadline = Instant::now() + Duration::from_secs(20);
        while simulators_in(&marker) > 0 {
            assert!(Instant::now() < deadline, "the simulator outlives the killed run");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Processes of `foresee sim` that work in this folder.
fn simulators_in(folder: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let is_ours = |process: &PathBuf| {
        let works_in = std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.display().to_string() == folder);
        let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
        works_in && command.split(|byte| *byte == 0).nth(1) == Some(b"sim")
    };
    processes.filter(is_ours).count()
}

#[test]
fn interrupted_it_keeps_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, log) = start(folder.path());
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let result = result(folder.path());
    assert_eq!(result["interrupted"], true);
    let [ours, theirs] = frames_in(&log);
    let frames = result["frames"].as_u64().unwrap();
    let dropped = result["log_entries_dropped"].as_u64().unwrap();
    assert!(
        ours == theirs && ours as u64 + dropped >= frames && ours > 10,
        "{ours} frames of {frames}, {dropped} dropped"
    );
    assert_eq!(simulators_in(&folder.path().display().to_string()), 0);
}

#[test]
fn an_earlier_run_of_the_same_name_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, log) = start(folder.path());
    first.kill().unwrap();
    first.wait().unwrap();
    let kept = std::fs::read(&log).unwrap();
    let mut second = run(folder.path(), 1000, "cpu").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let moved = folder.path().join("runs/test.1/log.mcap");
    let deadline = Instant::now() + PATIENCE;
    while !moved.exists() {
        assert!(Instant::now() < deadline && second.try_wait().unwrap().is_none(), "the earlier run was not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    second.kill().unwrap();
    second.wait().unwrap();
    assert_eq!(std::fs::read(moved).unwrap(), kept);
}
