//! Bad input on the command line: exit code 2, one line that names the thing and the fix, nothing half-written.

use std::net::TcpListener;
use std::path::Path;

use foresee_tests::{foresee, root};

/// Runs `foresee` with these arguments in an empty folder that `prepare` fills.
fn check(arguments: &[&str], prepare: fn(&Path), expected: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path());
    let before = files(folder.path());
    let output = foresee(folder.path()).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    let line = said.trim_end().lines().last().unwrap_or_default();
    assert!(line.starts_with("foresee: ") && !said.contains("panicked"), "{arguments:?}: {said}");
    for part in expected {
        assert!(line.contains(part), "{arguments:?}: {line:?} lacks {part:?}");
    }
    let causes: Vec<&str> = line.split(": ").collect();
    assert!(causes.windows(2).all(|pair| pair[0] != pair[1]), "{arguments:?}: tells a cause twice: {line}");
    assert_eq!(files(folder.path()), before, "{arguments:?}: left something behind");
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn nothing(_: &Path) {}

fn copy_zoo(folder: &Path) {
    for entry in std::fs::read_dir(root().join("models/zoo")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_model_that_is_not_right_is_named() {
    check(&["run", "--encoder", "nowhere.onnx"], nothing, &["nowhere.onnx", "--encoder"]);
    let truncate = |folder: &Path| {
        copy_zoo(folder);
        let path = folder.join("mae-64.onnx");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    };
    check(&["run", "--encoder", "mae-64.onnx"], truncate, &["mae-64", "sha256"]);
    let swap_cards = |folder: &Path| {
        copy_zoo(folder);
        std::fs::copy(folder.join("reacher-easy-bc.card.json"), folder.join("mae-64.card.json")).unwrap();
    };
    check(&["run", "--encoder", "mae-64.onnx"], swap_cards, &["mae-64.card.json"]);
    let no_card = |folder: &Path| {
        copy_zoo(folder);
        std::fs::remove_file(folder.join("mae-64.card.json")).unwrap();
    };
    check(&["run", "--encoder", "mae-64.onnx"], no_card, &["mae-64.card.json"]);
    let other_size = |folder: &Path| {
        copy_zoo(folder);
        let path = folder.join("mae-64.card.json");
        let card = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, card.replace("\"width\": 64", "\"width\": 32")).unwrap();
    };
    check(&["run", "--encoder", "mae-64.onnx"], other_size, &["mae-64.card.json"]);
    check(&["run", "--encoder", "mae-64.onnx", "--policy", "mae-64.onnx"], copy_zoo, &["mae-64"]);
}

#[test]
fn a_thing_that_is_not_there_is_named() {
    check(&["sim", "dmc/reacher-eazy"], nothing, &["dmc/reacher-eazy", "dmc/reacher-easy"]);
    check(&["run", "--simulate", "dmc/reacher-eazy"], nothing, &["dmc/reacher-eazy", "dmc/reacher-easy"]);
    check(&["run", "--provider", "cpu", "--onnxruntime", "nowhere.so"], nothing, &["nowhere.so"]);
    check(&["run", "--provider", "cuda"], nothing, &["cuda"]);
    for word in ["--endpoint", "--listen"] {
        check(&["run", word, "nonsense"], nothing, &["endpoint \"nonsense\"", "tcp/127.0.0.1:7447"]);
        check(&["run", word, "tcp/127.0.0.1:99999"], nothing, &["99999"]);
    }
    check(&["stop", "--endpoint", "nonsense"], nothing, &["endpoint \"nonsense\""]);
    check(&["stop", "--endpoint", "tcp/127.0.0.1:1", "--timeout-seconds", "-1"], nothing, &["--timeout-seconds -1"]);
    check(&["export", "mine.pth"], nothing, &["mine.pth", "foresee import mine.pth"]);
    check(&["export", "mine.safetensors"], nothing, &["foresee export encoder mine.safetensors"]);
    check(&["export", "encoder", "mine.pth", "--out", "mine.onnx"], nothing, &["foresee import mine.pth"]);
    let torch = |folder: &Path| std::fs::write(folder.join("mine.pth"), b"PK\x03\x04").unwrap();
    check(&["run", "--encoder", "mine.pth"], torch, &["mine.pth", "foresee import"]);
    check(&["card", "make", "mine.pth"], torch, &["mine.pth", "foresee import"]);
    check(&["replay", "nowhere.mcap"], nothing, &["nowhere.mcap"]);
    check(&["run", "--profile", "nowhere"], nothing, &["nowhere", "desktop-sim"]);
    check(&["run", "--profile", "jetson-orin-nano"], nothing, &["profile jetson-orin-nano: "]);
    check(&["run", "--health", "0.0.0.0:9464"], nothing, &["0.0.0.0:9464", "loopback"]);
    check(&["pretrain", "mae-65", "--data", ".", "--out", "run"], nothing, &["mae-65", "mae-64"]);
    check(&["pretrain", "mae-64", "--data", "nowhere", "--out", "run"], nothing, &["nowhere"]);
    check(&["probe", "davis", "nowhere"], nothing, &["nowhere/ImageSets/2017/val.txt"]);
    check(&["probe", "vip", "nowhere"], nothing, &["nowhere/lists/val_videos.txt"]);
    check(&["probe", "jhmdb", "nowhere"], nothing, &["nowhere/Rename_Images"]);
    check(&["probe", "images", "nowhere"], nothing, &["nowhere/train"]);
    check(&["probe", "sim", "dmc/finger-spim"], nothing, &["dmc/finger-spim", "dmc/finger-spin"]);
    check(&["probe", "sim", "dmc/finger-spin", "--encoder", "nowhere.safetensors"], nothing, &["nowhere.safetensors"]);
    check(&["probe", "sim", "dmc/finger-spin", "--frames", "2"], nothing, &["--frames 2"]);
    check(&["export", "encoder", "nowhere.onnx", "--out", "mine.onnx"], nothing, &["nowhere.onnx"]);
}

#[test]
fn a_run_that_is_there_is_not_begun_anew() {
    let run = |folder: &Path| {
        std::fs::create_dir(folder.join("run")).unwrap();
        std::fs::write(folder.join("run/checkpoint.safetensors"), "hours of work").unwrap();
    };
    let pretrain = ["pretrain", "mae-64", "--data", ".", "--out", "run"];
    check(&pretrain, run, &["run: ", "--resume", "another --out"]);
    let file = |folder: &Path| std::fs::write(folder.join("run"), "no folder").unwrap();
    check(&pretrain, file, &["run: is a file", "--out"]);
    check(&["train", "bc", "--data", ".", "--out", "run"], file, &["--out run: is a file"]);
}

#[test]
fn an_output_that_would_destroy_a_file_is_refused() {
    let files = |folder: &Path| {
        copy_zoo(folder);
        for name in ["w.safetensors", "card.json"] {
            std::fs::write(folder.join(name), "weights").unwrap();
        }
    };
    check(&["import", "w.safetensors", "--out", "card.json"], files, &["--out card.json", ".safetensors"]);
    check(&["import", "w.safetensors", "--out", "./w.safetensors"], files, &["--out ./w.safetensors", "would be lost"]);
    check(&["export", "encoder", "w.safetensors", "--out", "w.safetensors"], files, &["--out w.safetensors", ".onnx"]);
    let in_place = ["export", "encoder", "mae-64.onnx", "--out", "./mae-64.onnx", "--precision", "f16"];
    check(&in_place, files, &["--out ./mae-64.onnx", "would be lost"]);
    check(&["export", "policy", "w.safetensors", "--out", "policy.pt"], files, &["--out policy.pt", ".onnx"]);
}

#[test]
fn a_model_of_another_kind_is_named() {
    check(&["export", "policy", "mae-64.onnx", "--out", "p.onnx"], copy_zoo, &["mae-64.onnx: is an ONNX file"]);
    check(&["import", "mae-64.onnx"], copy_zoo, &["mae-64.onnx: is an ONNX file", "foresee export encoder"]);
    let text = |folder: &Path| std::fs::write(folder.join("w.txt"), "no weights at all").unwrap();
    check(&["export", "encoder", "w.txt", "--out", "w.onnx"], text, &["w.txt", "foresee pretrain"]);
    check(&["export", "policy", "w.txt", "--out", "w.onnx"], text, &["w.txt", "foresee train"]);
}

#[test]
fn a_count_that_cannot_be_is_named_by_its_flag() {
    for (flag, count) in [
        ("--decode-threads", "0"),
        ("--decode-threads", "100000"),
        ("--micro-batch", "0"),
        ("--threads", "0"),
        ("--threads", "100000"),
    ] {
        let named = format!("{flag} {count}: ");
        check(&["pretrain", "mae-64", "--data", ".", "--out", "run", flag, count], nothing, &[&named]);
    }
    for flag in ["--epochs", "--token-width", "--memory-gib"] {
        check(&["train", "bc", "--data", ".", "--out", "run", flag, "0"], nothing, &[&format!("{flag} 0: ")]);
    }
    for flag in ["--episodes", "--stride"] {
        check(&["record", "dmc/reacher-easy", "--out", "run", flag, "0"], nothing, &[&format!("{flag} 0: ")]);
    }
}

#[test]
fn a_recipe_that_cannot_be_is_named_by_its_file() {
    let recipe = |folder: &Path| {
        let text = std::fs::read_to_string(root().join("models/recipes/mae-64.toml")).unwrap();
        std::fs::write(folder.join("large.toml"), text.replace("batch_size = 64", "batch_size = 4000000000")).unwrap();
        let wide = text.replace("dim = 128\ndepth = 6", "dim = 65536\ndepth = 600");
        std::fs::write(folder.join("wide.toml"), wide).unwrap();
        std::fs::write(folder.join("key.toml"), text.replace("batch_size", "batch_sise")).unwrap();
    };
    let pretrain = |file| ["pretrain", file, "--data", ".", "--out", "run"];
    check(&pretrain("large.toml"), recipe, &["recipe large.toml: optimiser.batch_size is 4000000000", "65536"]);
    check(&pretrain("key.toml"), recipe, &["recipe key.toml: ", "batch_sise"]);
    check(
        &pretrain("wide.toml"),
        recipe,
        &["recipe wide.toml: its ", " weights take ", " MiB; make encoder or decoders smaller"],
    );
    check(&["bench", "pretrain", "mae-64", "--batch", "0"], nothing, &["--batch 0: "]);
}

#[test]
fn a_profile_with_a_wrong_key_is_named() {
    let misspelt = |folder: &Path| {
        std::fs::write(folder.join("mine.toml"), "inherit = \"desktop-sim\"\n[zenohh]\nlisten = []\n").unwrap();
    };
    check(&["run", "--profile", "mine.toml"], misspelt, &["mine.toml", "line 2", "zenohh"]);
    let log = |folder: &Path| std::fs::write(folder.join("not.mcap"), "not a log").unwrap();
    check(&["replay", "not.mcap"], log, &["not.mcap"]);
}

#[test]
fn a_port_in_use_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp/{}", listener.local_addr().unwrap());
    check(&["sim", "dmc/reacher-easy", "--endpoint", &endpoint], nothing, &[&endpoint, "in use"]);
    check(&["run", "--simulate", "dmc/reacher-easy", "--endpoint", &endpoint], nothing, &[&endpoint, "in use"]);
}

#[test]
fn a_simulation_that_cannot_be_is_named() {
    check(&["sim", "--mjcf", "nowhere.xml"], nothing, &["nowhere.xml", "No such file"]);
    let broken = |folder: &Path| {
        std::fs::write(folder.join("arm.xml"), "<mujoco><worldbody><geom type=\"egg\"/></worldbody></mujoco>").unwrap()
    };
    check(&["sim", "--mjcf", "arm.xml"], broken, &["arm.xml", "egg", "line 1"]);
    check(&["sim", "--mjcf", "arm.xml", "--task", "walk"], nothing, &["task is \"walk\"", "distance:NAME:NAME"]);
    check(&["sim", "dmc/reacher-easy", "--mjcf", "arm.xml"], nothing, &["dmc/reacher-easy", "arm.xml", "not both"]);
    check(&["sim", "--mjcf", "arm.xml", "--package", "arm"], nothing, &["--package arm: write NAME=DIR"]);
    let ranges = |folder: &Path| std::fs::write(folder.join("r.toml"), "[mass]\nfactor = [2, 1]\n").unwrap();
    check(&["sim", "dmc/reacher-easy", "--randomise", "r.toml"], ranges, &["r.toml", "mass.factor = [2, 1]", "lowest"]);
    check(&["eval", "dmc/reacher-easy", "--randomise", "r.toml"], ranges, &["r.toml", "mass.factor"]);
}

#[test]
fn a_number_that_cannot_be_is_named_with_its_flag() {
    check(
        &["run", "--simulate", "dmc/reacher-easy", "--threads", "100000"],
        nothing,
        &["--threads 100000", "1 to 256"],
    );
    check(&["run", "--simulate", "dmc/reacher-easy", "--trust", "zz"], nothing, &["--trust zz", "64 hex digits"]);
    let past_the_end = ["run", "--simulate", "dmc/reacher-easy", "--episodes", "3", "--seed", "4294967294"];
    check(&past_the_end, nothing, &["4294967296"]);
    let folder = tempfile::tempdir().unwrap();
    for (arguments, parts) in [
        (["sim", "dmc/reacher-easy", "--seed", "-1"], ["--seed", "-1"]),
        (["sim", "dmc/reacher-easy", "--episodes", "0"], ["--episodes", "0"]),
        (["run", "--simulate=dmc/reacher-easy", "--episodes", "0"], ["--episodes", "0"]),
        (["eval", "dmc/reacher-easy", "--workers", "0"], ["--workers", "0"]),
    ] {
        let output = foresee(folder.path()).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("invalid value"), "{arguments:?}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{arguments:?}: {said}"));
    }
}

#[test]
fn what_would_be_written_over_or_ignored_is_named() {
    let profile = |folder: &Path| std::fs::write(folder.join("mine.toml"), "inherit = \"desktop-sim\"\n").unwrap();
    check(
        &["config", "render", "zenoh", "mine.toml", "--out", "mine.toml"],
        profile,
        &["mine.toml", "the profile itself"],
    );
    check(&["sim", "dmc/reacher-easy", "--record", "model.onnx"], nothing, &["model.onnx", ".mcap"]);
    check(&["sim", "--contact-sheet", "sheet.txt"], nothing, &["sheet.txt", ".png"]);
    check(&["sim", "--contact-sheet", "nowhere/sheet.png"], nothing, &["no folder nowhere"]);
    check(&["sim", "dmc/reacher-easy", "--max-steps", "5"], nothing, &["--max-steps", "--view or --record"]);
    check(&["sim", "dmc/walker-walk"], nothing, &["desktop-sim", "shoulder", "dmc/walker-walk", "--profile"]);
    check(&["eval", "dmc/walker-walk", "--episodes", "1"], nothing, &["desktop-sim", "shoulder", "dmc/walker-walk"]);
    let other = ["record", "dmc/walker-walk", "--profile", "desktop-sim", "--out", "other"];
    check(&other, nothing, &["desktop-sim", "shoulder", "dmc/walker-walk", "config new"]);
    check(&["config", "new", "--task", "dmc/reacher-eazy"], nothing, &["did you mean dmc/reacher-easy"]);
}

#[test]
fn a_model_whose_time_stands_still_is_named() {
    let still = |folder: &Path| {
        let text = "<mujoco><option timestep=\"0\"/><worldbody><geom size=\"1\"/></worldbody></mujoco>";
        std::fs::write(folder.join("still.xml"), text).unwrap();
    };
    check(&["sim", "--mjcf", "still.xml", "--record", "a.mcap"], still, &["still.xml", "timestep"]);
    let limit = ["sim", "--mjcf", "still.xml", "--time-limit", "0", "--record", "a.mcap"];
    check(&limit, still, &["time limit is 0", "above 0"]);
}

#[test]
fn an_image_that_no_encoder_takes_is_named() {
    let model = |folder: &Path| {
        let zoo = foresee_tests::root().join("models/zoo/mae-64.onnx");
        std::fs::copy(zoo, folder.join("model.onnx")).unwrap();
    };
    check(&["card", "make", "model.onnx", "--image", "99999999999"], model, &["8192"]);
    check(&["card", "make", "model.onnx", "--image", "30000"], model, &["30000", "8192"]);
}

#[test]
fn a_card_is_shown_with_what_lies_beside_it() {
    let unsigned = |folder: &Path| {
        for file in ["mae-64.onnx", "mae-64.card.json"] {
            std::fs::copy(foresee_tests::root().join("models/zoo").join(file), folder.join(file)).unwrap();
        }
        std::fs::write(folder.join("mae-64.card.sig"), "garbage").unwrap();
    };
    check(&["card", "show", "mae-64.onnx"], unsigned, &["mae-64.card.sig", "not a signature"]);
}

#[test]
fn a_profile_that_is_nowhere_is_named_with_who_wants_it() {
    let orphan = |folder: &Path| std::fs::write(folder.join("mine.toml"), "inherit = \"nowhere.toml\"\n").unwrap();
    check(&["run", "--profile", "mine.toml"], orphan, &["nowhere.toml", "inherited by `mine.toml`"]);
}
