//! Models of the user's own: MJCF, URDF, both; what does not compile; a simulation that diverges.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::collections::BTreeMap;
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
        packages: BTreeMap::new(),
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
    check("arm.xml", "distance:a:b:c:d", &["quotes, as in \"distance:'robot0:grip':'goal:0'\""]);
    check("arm.xml", "distance:'tip:goal", &["quotes"]);
    check("slow.xml", "still", &["write pace.period_millis = 30.0 in the profile"]);
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

/// Names of composed models and of gym's robots: colons, slashes, spaces, quotes.
#[test]
fn names_with_colons_are_quoted_or_escaped() {
    let distance = |from: &str, to: &str| UserGoal::Distance { from: from.to_owned(), to: to.to_owned() };
    for (text, expected) in [
        ("distance:'robot0:grip':'goal:0'", distance("robot0:grip", "goal:0")),
        ("distance:\"robot0:grip\":goal", distance("robot0:grip", "goal")),
        ("distance:robot0\\:grip:goal\\:0", distance("robot0:grip", "goal:0")),
        ("distance:arm/left hand:it's", distance("arm/left hand", "it's")),
        ("distance:a\\\\b:'it\\'s'", distance("a\\b", "it's")),
    ] {
        assert_eq!(UserGoal::parse(text).unwrap(), expected, "{text}");
    }
    let mjcf = MJCF.replace("name=\"goal\"", "name=\"goal:0\"").replace("name=\"tip\"", "name=\"robot0:grip\"");
    let folder = folder(&[("arm.xml", &mjcf)]);
    let mut environment = open(folder.path(), "arm.xml", "distance:'robot0:grip':goal\\:0").unwrap();
    environment.reset(0).unwrap();
    assert!(environment.step(&[0.5]).unwrap().reward < -0.1);
}

/// A tetrahedron, binary STL.
fn tetrahedron() -> Vec<u8> {
    let corners: [[f32; 3]; 4] = [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.1]];
    let mut bytes = vec![0; 80];
    bytes.extend(4_u32.to_le_bytes());
    for face in [[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]] {
        bytes.extend([0; 12]);
        for corner in face {
            corners[corner].iter().for_each(|value: &f32| bytes.extend(value.to_le_bytes()));
        }
        bytes.extend([0; 2]);
    }
    bytes
}

#[test]
fn meshes_of_ros_packages_are_found_where_the_package_is() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("arm_description");
    std::fs::create_dir_all(package.join("urdf")).unwrap();
    std::fs::create_dir_all(package.join("meshes/visual")).unwrap();
    std::fs::write(package.join("meshes/visual/upper.stl"), tetrahedron()).unwrap();
    let shape = r#"<link name="upper"><collision><geometry><mesh filename="package://arm_description/meshes/visual/upper.stl"/></geometry></collision>"#;
    for compiler in [
        "",
        r#"<mujoco><compiler balanceinertia="true"/></mujoco>"#,
        r#"<mujoco><compiler strippath='true'/></mujoco>"#,
    ] {
        let urdf = URDF
            .replace(r#"<link name="upper">"#, shape)
            .replace("<link name=\"base\"/>", &format!("{compiler}<link name=\"base\"/>"));
        let path = package.join("urdf/arm.urdf");
        std::fs::write(&path, urdf).unwrap();
        let open = |packages| {
            let (control_timestep_seconds, time_limit_seconds) = (0.02, 2.0);
            let model = UserModel {
                path: path.clone(),
                packages,
                goal: UserGoal::Still,
                control_timestep_seconds,
                time_limit_seconds,
            };
            Environment::of_user_model(&model, EnvironmentOptions::default())
        };
        let text = open(BTreeMap::new()).unwrap_err().to_string();
        let offered = format!("--package arm_description={}", package.display());
        assert!(text.contains("package://arm_description/") && text.contains(&offered), "{text}");
        let known = open(BTreeMap::from([("arm_description".to_owned(), package.clone())])).unwrap();
        assert_eq!(known.physics().model().mesh_vertnum().len(), 1);
        let gone = open(BTreeMap::from([("arm_description".to_owned(), folder.path().join("gone"))]));
        assert!(gone.unwrap_err().to_string().contains("there is no such folder"));
    }
}

/// MuJoCo's own plugins, as Python loads them.
#[test]
fn models_with_mujocos_own_plugins_load() {
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    foresee_sim::load_plugins(&native);
    let cable = r#"<mujoco><extension><plugin plugin="mujoco.elasticity.cable"/></extension><worldbody>
        <composite type="cable" curve="s" count="9 1 1" size="1" offset="0 0 .6" initial="none">
          <plugin plugin="mujoco.elasticity.cable"><config key="twist" value="1e6"/><config key="bend" value="4e6"/></plugin>
          <joint kind="main" damping=".01"/><geom type="capsule" size=".008"/></composite></worldbody></mujoco>"#;
    let pid = r#"<mujoco><extension><plugin plugin="mujoco.pid"><instance name="pid"><config key="kp" value="40"/></instance></plugin></extension>
        <worldbody><body><joint name="j" axis="0 1 0" damping=".5"/><geom type="capsule" fromto="0 0 0 .3 0 0" size=".03"/></body></worldbody>
        <actuator><plugin name="pull" joint="j" plugin="mujoco.pid" instance="pid" ctrlrange="-1 1"/></actuator></mujoco>"#;
    let folder =
        folder(&[("cable.xml", cable), ("pid.xml", pid), ("gone.xml", &pid.replace("mujoco.pid", "mine.gone"))]);
    for file in ["cable.xml", "pid.xml"] {
        let mut environment = open(folder.path(), file, "still").unwrap();
        environment.reset(0).unwrap();
        let action = vec![0.5; environment.spec().actions.len()];
        assert_eq!(environment.step(&action).unwrap().warning, None);
    }
    let text = open(folder.path(), "gone.xml", "still").unwrap_err().to_string();
    assert!(text.contains("mine.gone") && text.contains("./launch/setup"), "{text}");
}
