//! `foresee engine build` as users run it, with an engine that every machine has.

use foresee_tests::{foresee, root};

#[test]
fn encoder_and_policy_are_built_and_proved_together() {
    let folder = tempfile::tempdir().unwrap();
    let zoo = root().join("models/zoo");
    let (encoder, policy) = (zoo.join("mae-64.onnx"), zoo.join("reacher-easy-bc.onnx"));
    let build = |policy: &std::path::Path| {
        let mut command = foresee(folder.path());
        command.args(["engine", "build"]).arg(&encoder).arg("--policy").arg(policy);
        command.args(["--profile", "desktop-sim", "--provider", "tract", "--engine-cache", "engines"]);
        command.output().unwrap()
    };
    let output = build(&policy);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let [first, second] = lines.as_slice() else { panic!("{said}") };
    assert!(first.contains("mae-64.onnx: tract (tract "), "{first}");
    assert!(second.contains("reacher-easy-bc.onnx: tract (tract "), "{second}");
    // An encoder is no policy: nothing is half-built.
    let output = build(&encoder);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && output.stdout.is_empty(), "{said}");
    assert!(said.contains("mae-64.card.json") && said.contains("a policy is wanted here"), "{said}");
    let output = build(&zoo.join("nowhere.onnx"));
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("nowhere.onnx"));
}
