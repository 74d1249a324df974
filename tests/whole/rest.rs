//! How a run ends whose joints do not come to rest.

use serde_json::Value;

use crate::robot::run_with_robot;

/// Home lies outside the workspace: the way there ends at its side, and never comes to its end.
fn profile(zenoh: &str) -> String {
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"position_radians\"\nminimum = -2.0\nmaximum = 2.0\n\
             max_rate_per_second = 4.0\nhome = 1.5\naxis = [0.0, 0.0, 1.0]\norigin_metres = [0.3, 0.0, 0.0]\n"
        )
    };
    format!(
        "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 500\n{zenoh}\
         [safety]\naction = \"return_home\"\n[safety.workspace]\nminimum_metres = [-1.0, -0.3, -1.0]\n\
         maximum_metres = [1.0, 0.3, 1.0]\ntool_metres = [0.3, 0.0, 0.0]\n{}{}",
        joint("shoulder"),
        joint("wrist")
    )
}

#[test]
fn a_run_whose_joints_do_not_rest_fails_and_keeps_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let output = run_with_robot(folder.path(), profile, 200_000);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(131), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.contains("shoulder")), "{said}");
    let result = std::fs::read(folder.path().join("runs/test/result.json")).unwrap();
    let result: Value = serde_json::from_slice(&result).unwrap();
    assert!(result["failure"].as_str().is_some_and(|failure| failure.contains("shoulder")), "{}", result["failure"]);
    assert!(result["frames"].as_u64() > Some(0) && result["interrupted"] == true);
    let page = std::fs::read_to_string(folder.path().join("runs/test/report.html")).unwrap();
    assert!(page.contains("<b>Failed:</b>"), "{page}");
    // A robot has no episodes: the page shows its joints and commands, and nothing of a simulator.
    for shown in ["Joints and commands", "position (rad or m)", "position command (rad)", "shoulder", "wrist"] {
        assert!(page.contains(shown), "{shown} is not in {page}");
    }
    for absent in ["mean return", "scripted expert", "<td>seeds"] {
        assert!(!page.contains(absent), "{absent} is in {page}");
    }
    assert!(!said.contains("return  success"), "{said}");
}
