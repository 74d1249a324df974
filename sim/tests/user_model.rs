//! Models of the user's own: MJCF, URDF, both; what does not compile; a simulation that diverges.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::Path;

use foresee_sim::{
    Camera, CameraOptions, Environment, EnvironmentOptions, EpisodePlan, EpisodePlayer, Quality, SimError, UserGoal,
    UserModel,
};

const MJCF: &str = r#"<mujoco><option timestep="0.005"/><worldbody>
    <body name="arm"><joint name="turn" axis="0 1 0" damping="0.1"/><geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0"/>
      <body name="tip" pos="0.3 0 0"><geom size="0.04"/></body></body>
    <site name="goal" pos="0 0 0.3"/></worldbody>
  <actuator><position name="turn" joint="turn" kp="20" ctrlrange="-3 3"/></actuator>
  <sensor><jointpos joint="turn"/></sensor>
  <keyframe><key qpos="0.5" ctrl="0.5"/></keyframe></mujoco>"#;

const URDF: &str = r#"<robot name="arm"><link name="base"/><link name="upper"><inertial><mass value="1"/>
    <inertia ixx="0.01" iyy="0.01" izz="0.01" ixy="0" ixz="0" iyz="0"/></inertial></link>
    <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="10" velocity="1"/></joint></robot>"#;

const BOTH: &str = r#"<mujoco><asset><model name="arm" file="arm.urdf"/></asset>
    <worldbody><frame pos="0 0 1"><attach model="arm" body="upper" prefix="left_"/></frame></worldbody>
    <actuator><motor name="shoulder" joint="left_shoulder" ctrlrange="-1 1"/></actuator></mujoco>"#;

fn open(folder: &Path, file: &str, goal: &str) -> Result<Environment, SimError> {
    let model = UserModel {
        path: folder.join(file),
        goal: UserGoal::parse(goal)?,
        control_timestep_seconds: 0.02,
        time_limit_seconds: 2.0,
    };
    Environment::of_user_model(&model, EnvironmentOptions::default())
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

#[test]
fn a_distance_is_rewarded_and_met() {
    let folder = folder(&[("arm.xml", MJCF)]);
    let mut environment = open(folder.path(), "arm.xml", "distance:tip:goal").unwrap();
    let spec = environment.spec().clone();
    let parts: Vec<_> = spec.observations.iter().map(|part| (part.name.as_str(), part.num_values())).collect();
    assert_eq!(parts, [("qpos", 1), ("qvel", 1), ("sensordata", 1)]);
    assert_eq!((spec.name.as_str(), spec.max_steps, spec.num_substeps), ("mjcf/arm", 100, 4));
    environment.reset(7).unwrap();
    assert_eq!((environment.physics().qpos()[0], environment.physics().control()[0]), (0.5, 0.5));
    let mut last = None;
    for step in 1..=100 {
        // Straight up is a quarter turn backwards; gravity and damping leave the servo a little short of it.
        let transition = environment.step(&[-std::f64::consts::FRAC_PI_2]).unwrap();
        assert!(transition.reward <= 0.0 && !transition.terminated);
        assert_eq!(transition.truncated, step == 100);
        last = Some(transition);
    }
    let last = last.unwrap();
    assert!(last.success && last.reward > -0.02, "{last:?}");
}

#[test]
fn urdf_runs_alone_and_inside_mjcf() {
    let folder = folder(&[("arm.urdf", URDF), ("both.xml", BOTH)]);
    let mut alone = open(folder.path(), "arm.urdf", "still").unwrap();
    assert!(alone.spec().actions.is_empty());
    alone.reset(0).unwrap();
    assert_eq!(alone.step(&[]).unwrap().reward, 0.0);
    let mut both = open(folder.path(), "both.xml", "still").unwrap();
    assert_eq!(both.actuator_names(), ["shoulder"]);
    both.reset(0).unwrap();
    let before = both.observation().to_vec();
    both.step(&[1.0]).unwrap();
    assert_ne!(both.observation(), before);
}

#[test]
fn what_is_wrong_with_a_model_is_named() {
    let folder = folder(&[
        ("arm.xml", MJCF),
        ("broken.xml", "<mujoco><worldbody><geom type=\"egg\"/></worldbody></mujoco>"),
        ("cut.xml", "<mujoco><worldbody>"),
        ("mesh.xml", "<mujoco><asset><mesh file=\"gone.stl\"/></asset></mujoco>"),
        ("slow.xml", "<mujoco><option timestep=\"0.03\"/></mujoco>"),
    ]);
    let check = |file: &str, goal: &str, expected: &[&str]| {
        let text = open(folder.path(), file, goal).unwrap_err().to_string();
        assert!(expected.iter().all(|part| text.contains(part)) && !text.contains('\n'), "{text:?} lacks {expected:?}");
    };
    check("nowhere.xml", "still", &["nowhere.xml", "No such file"]);
    check("broken.xml", "still", &["broken.xml", "invalid keyword: 'egg'", "line 1"]);
    check("cut.xml", "still", &["cut.xml", "XML"]);
    check("mesh.xml", "still", &["mesh.xml", "gone.stl"]);
    check("slow.xml", "still", &["slow", "control timestep 0.02 s is not a multiple"]);
    check("arm.xml", "distance:tip:moon", &["no body, site or geom named \"moon\""]);
    check("arm.xml", "walk", &["task is \"walk\"; take `still` or `distance:NAME:NAME`"]);
}

/// A motor that winds a light wheel up until its speed is no number MuJoCo accepts.
#[test]
fn a_simulation_that_diverges_is_cut_off_with_its_reason() {
    let mjcf = r#"<mujoco><option timestep="0.02" integrator="Euler"/><worldbody><body><joint name="wheel" axis="0 0 1"/>
        <geom size="0.01" density="1"/></body></worldbody><actuator><motor name="wheel" joint="wheel" gear="1e9"/></actuator></mujoco>"#;
    let folder = folder(&[("wheel.xml", mjcf)]);
    let mut environment = open(folder.path(), "wheel.xml", "still").unwrap();
    environment.reset(0).unwrap();
    let mut steps = 0;
    let cut_off = loop {
        let transition = environment.step(&[1.0]).unwrap();
        steps += 1;
        assert!(transition.reward.is_finite() && environment.observation().iter().all(|value| value.is_finite()));
        if transition.is_last() {
            break transition;
        }
    };
    assert!(cut_off.truncated && !cut_off.terminated && cut_off.warning.is_some() && steps < 100, "{cut_off:?}");
    assert!(matches!(environment.step(&[0.0]), Err(SimError::NoEpisode { .. })));
    environment.reset(0).unwrap();
    assert_eq!(environment.step(&[0.0]).unwrap().warning, None);

    // The player says of which episode, and goes on with the next.
    let options = CameraOptions { name: "free".to_owned(), width: 8, height: 8, quality: Quality::Fast };
    let camera = Camera::new(&environment, &options).unwrap();
    let mut player = EpisodePlayer::new(environment, camera, EpisodePlan { first_seed: 0, num_episodes: 2 });
    let mut observation = foresee_runtime::Observation::blank(8, 8, 1);
    while player.next_event(&mut observation).unwrap() != foresee_runtime::SourceEvent::Finished {
        player.act(&[1.0]).unwrap();
    }
    let episodes: Vec<u32> = player.warnings().iter().map(|(episode, _)| *episode).collect();
    assert_eq!(episodes, [0, 1]);
}
