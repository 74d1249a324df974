//! Pretraining as users meet it: killed at any moment it goes on to the last bit; what cannot be read is skipped and listed.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use foresee_models::Checkpoint;
use foresee_tests::{foresee, root};

/// A small recipe of this name's kind, written into `folder`.
fn write_recipe(folder: &Path, name: &str, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = std::fs::read_to_string(root().join("models/recipes").join(format!("{name}.toml"))).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    let path = folder.join("recipe.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// (step, loss) of each line of a run's metrics, as written.
fn losses(run: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    let read = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some((line["step"].as_u64()?, line["loss"].to_string()))
    };
    text.lines().map_while(read).collect()
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        ("depth = 6", "depth = 1"),
        ("batch_size = 64", "batch_size = 8"),
        ("warm_up_steps = 200", "warm_up_steps = 5"),
    ];
    let recipe = write_recipe(folder.path(), "rsp-64", &changes);
    let start = |run: &str| {
        let mut command = foresee(folder.path());
        command.arg("pretrain").arg(&recipe).args(["--data", "sim:dmc/reacher-easy", "--out", run, "--steps", "60"]);
        command.args(["--checkpoint-minutes", "0.001", "--resume"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    assert!(start("whole").wait().unwrap().success());
    let run = folder.path().join("killed");
    let mut num_killed = 0;
    for wanted in [4, 21, 38] {
        let mut child = start("killed");
        let deadline = Instant::now() + Duration::from_secs(120);
        // The checkpoint is of a later step than the metrics that a kill leaves, or of an earlier one: both must do.
        while losses(&run).len() < wanted && Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(3));
        }
        num_killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(num_killed > 0, "the run was over before it could be killed");
    assert!(start("killed").wait().unwrap().success());
    let (whole, killed) = (losses(&folder.path().join("whole")), losses(&run));
    assert_eq!((whole.len(), killed.len()), (60, 60));
    assert_eq!(whole, killed);
    let checkpoint = |run: &str| Checkpoint::load(&folder.path().join(run).join("checkpoint.safetensors")).unwrap();
    assert!(checkpoint("whole") == checkpoint("killed"), "the losses agree and the checkpoints do not");
}

#[test]
fn videos_are_read_and_broken_ones_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        ("depth = 6", "depth = 1"),
        ("batch_size = 64", "batch_size = 5"),
        ("warm_up_steps = 200", "warm_up_steps = 1"),
    ];
    let recipe = write_recipe(folder.path(), "rsp-64", &changes);
    let videos = folder.path().join("videos");
    std::fs::create_dir(&videos).unwrap();
    for entry in std::fs::read_dir(root().join("tests/fixtures/videos")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, videos.join(path.file_name().unwrap())).unwrap();
    }
    std::fs::write(videos.join("text.webm"), "no video").unwrap();
    let run = |decode_threads: &str, keep_gib: &str| {
        let mut command = foresee(folder.path());
        command.arg("pretrain").arg(&recipe).args([
            "--data",
            "videos",
            "--steps",
            "8",
            "--json",
            "--out",
            decode_threads,
        ]);
        command.args(["--decode-threads", decode_threads, "--keep-gib", keep_gib]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems = result["data_problems"].as_array().unwrap().clone();
        let problems: Vec<String> = problems.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
        (problems, losses(&folder.path().join(decode_threads)))
    };
    let (problems, first) = run("1", "1");
    let mentions = |name: &str, what: &str| problems.iter().any(|line| line.contains(name) && line.contains(what));
    assert!(mentions("half.mp4", "skipped") && mentions("text.webm", "skipped"), "{problems:?}");
    assert!(!problems.iter().any(|line| line.contains("moving")), "{problems:?}");
    for (decode_threads, keep_gib) in [("2", "1"), ("4", "0")] {
        let what = format!("{decode_threads} threads, {keep_gib} GiB kept");
        assert_eq!(run(decode_threads, keep_gib), (problems.clone(), first.clone()), "{what}");
    }
    let report = std::fs::read_to_string(folder.path().join("1/report.html")).unwrap();
    assert!(report.contains("half.mp4") && report.contains("data:image/png;base64,"));
    // One file: nothing is fetched.
    assert!(!report.contains("src=\"http") && !report.contains("src=http") && !report.contains("href"));
}

#[test]
fn stills_cannot_teach_what_moves() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = write_recipe(folder.path(), "rsp-64", &[]);
    std::fs::create_dir(folder.path().join("pictures")).unwrap();
    std::fs::write(folder.path().join("pictures/one.png"), "no matter").unwrap();
    let mut command = foresee(folder.path());
    command.arg("pretrain").arg(&recipe).args(["--data", "pictures", "--out", "run", "--resume"]);
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && words.contains("the data are stills"), "{words}");
    assert!(!folder.path().join("run").exists());
    assert!(words.contains("run holds no checkpoint yet; the run begins at step 0"), "{words}");
}

#[test]
fn videos_that_cannot_be_read_are_one_line_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = write_recipe(folder.path(), "mae-64", &[("depth = 6", "depth = 1")]);
    std::fs::create_dir(folder.path().join("videos")).unwrap();
    for name in ["a.mp4", "b.mp4", "c.webm"] {
        std::fs::write(folder.path().join("videos").join(name), vec![7; 5000]).unwrap();
    }
    let mut command = foresee(folder.path());
    command.arg("pretrain").arg(&recipe).args(["--data", "videos", "--out", "runs/one"]);
    let output = command.output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    let lines: Vec<&str> = words.lines().collect();
    // What is trained on, and the error.
    assert!(lines.len() == 2 && lines[1].contains("videos/"), "{words}");
    assert!(!folder.path().join("runs").exists());
}

#[test]
fn a_bench_of_training_says_where_the_time_of_a_step_goes() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = write_recipe(folder.path(), "mae-64", &[("depth = 6", "depth = 1")]);
    let mut command = foresee(folder.path());
    command.args(["bench", "pretrain"]).arg(&recipe).args(["--batch", "2", "--rounds", "1", "--json"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let parts = result["rows"][0]["parts"].as_array().unwrap();
    for name in ["linear layers, backward", "attention, forward", "optimiser"] {
        let part = parts.iter().find(|part| part["name"] == name).unwrap();
        assert!(part["seconds"].as_f64().unwrap() > 0.0, "{part}");
    }
}
