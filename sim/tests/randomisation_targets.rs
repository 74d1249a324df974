//! Every key of a randomisation file on every kind of target: the change is seen, or the target is named.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foresee_sim::{
    Assets, Camera, CameraOptions, Environment, EnvironmentOptions, Quality, Randomisation, SimError, Textures,
    UserGoal, UserModel,
};

const MODEL: &str = r#"<mujoco><option timestep="0.005" integrator="implicitfast"/>
  <visual><headlight ambient=".2 .2 .2" diffuse=".2 .2 .2"/></visual>
  <asset><texture name="g" type="2d" builtin="checker" rgb1=".2 .3 .4" rgb2=".8 .8 .7" width="64" height="64"/>
    <material name="g" texture="g" texrepeat="8 8"/></asset>
  <worldbody><geom name="floor" type="plane" size="3 3 .1" material="g"/>
    <camera name="post" pos="0 -1.6 .9" xyaxes="1 0 0 0 .5 1" fovy="50"/>
    <camera name="chip" pos="0 -1.6 .9" xyaxes="1 0 0 0 .5 1" resolution="160 120" sensorsize="0.0048 0.0036" focal="0.0045 0.0045" principal=".0002 .0003"/>
    <camera name="flat" pos="0 -1.6 .9" xyaxes="1 0 0 0 .5 1" projection="orthographic" fovy="2"/>
    <camera name="aimed" mode="targetbody" target="cart" pos="0 -1.6 .9" fovy="50"/>
    <camera name="aimedcom" mode="targetbodycom" target="cart" pos="0 -1.6 .9" fovy="50"/>
    <body name="cart" pos="0 0 .15" euler="0 0 40"><joint name="slide" type="slide" axis="1 0 0" damping="2"/>
      <geom type="box" size=".2 .12 .1" rgba=".8 .3 .2 1" mass="1"/>
      <light name="lamp" mode="trackcom" pos="0 0 2" dir="0 0 -1" diffuse=".7 .7 .7"/>
      <camera name="ride" pos="0 -1.4 .8" xyaxes="1 0 0 0 .5 1" fovy="50"/>
      <camera name="chase" mode="track" pos="0 -1.4 .8" xyaxes="1 0 0 0 .5 1" fovy="50"/>
      <camera name="chasecom" mode="trackcom" pos="0 -1.4 .8" xyaxes="1 0 0 0 .5 1" fovy="50"/>
      <camera name="chasechip" mode="track" pos="0 -1.4 .8" xyaxes="1 0 0 0 .5 1" sensorsize="0.0048 0.0036" focal="0.0045 0.0045"/>
      <body name="pole" pos="0 0 .1"><joint name="hinge" axis="0 1 0" damping=".05"/>
        <geom type="capsule" fromto="0 0 0 0 0 .4" size=".03" rgba=".2 .4 .8 1" mass=".1"/></body></body></worldbody>
  <actuator><motor name="drive" joint="slide" ctrlrange="-5 5"/></actuator></mujoco>"#;

fn ranges(text: &str) -> EnvironmentOptions {
    let randomisation = (!text.is_empty()).then(|| Arc::new(Randomisation::parse(Path::new("r.toml"), text).unwrap()));
    EnvironmentOptions { randomisation, ..EnvironmentOptions::default() }
}

fn of_model(mjcf: &str, text: &str) -> Environment {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rover.xml");
    std::fs::write(&path, mjcf).unwrap();
    let (control_timestep_seconds, time_limit_seconds) = (0.02, 5.0);
    let model = UserModel {
        path,
        packages: BTreeMap::new(),
        goal: UserGoal::Still,
        control_timestep_seconds,
        time_limit_seconds,
    };
    Environment::of_user_model(&model, ranges(text)).unwrap()
}

fn camera(environment: &Environment, name: &str) -> Result<Camera, SimError> {
    let options = CameraOptions { name: name.to_owned(), width: 48, height: 36, quality: Quality::Fast };
    Camera::new(environment, &options)
}

fn picture(environment: &mut Environment, name: &str) -> Vec<u8> {
    let mut camera = camera(environment, name).unwrap();
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(environment, &mut rgb).unwrap();
    rgb
}

fn seen(mjcf: &str, text: &str, name: &str) -> Vec<u8> {
    let mut environment = of_model(mjcf, text);
    environment.reset(5).unwrap();
    picture(&mut environment, name)
}

/// Mean difference in grey levels.
fn off(left: &[u8], right: &[u8]) -> f64 {
    left.iter().zip(right).map(|(left, right)| f64::from(left.abs_diff(*right))).sum::<f64>() / left.len() as f64
}

const SHIFT: &str = "[camera]\nshift_metres = 0.25\n";
const TURN: &str = "[camera]\nturn_radians = 0.15\n";
const FOVY: &str = "[camera]\nfovy = 0.6\n";
const MASS: &str = "[mass]\nfactor = 1\n";

#[test]
fn every_kind_of_camera_is_shifted_turned_and_zoomed() {
    for name in ["post", "chip", "flat", "ride", "chase", "chasecom", "chasechip", "aimed", "aimedcom"] {
        let plain = seen(MODEL, "", name);
        for keys in [SHIFT, TURN, FOVY] {
            if keys == TURN && name.starts_with("aimed") {
                let error = camera(&of_model(MODEL, keys), name).unwrap_err().to_string();
                assert!(
                    error.contains(name) && error.contains("camera.turn_radians") && error.contains("aims"),
                    "{error}"
                );
                continue;
            }
            let [alone, with_mass] = [keys.to_owned(), format!("{keys}{MASS}")].map(|text| seen(MODEL, &text, name));
            assert!(off(&plain, &alone) > 4.0, "{name}: {keys}: {}", off(&plain, &alone));
            assert!(off(&alone, &with_mass) < 0.1, "{name}: {keys} with [mass]: {}", off(&alone, &with_mass));
        }
        assert!(off(&plain, &seen(MODEL, MASS, name)) < 0.1, "{name}: [mass] alone moves the camera");
    }
}

/// A shift is along the axes of the body, and a following camera goes where a fixed one of the same pose goes.
#[test]
fn a_following_camera_is_moved_as_a_fixed_one() {
    let text = format!("{SHIFT}turn_radians = [-0.4, 0.4]\n");
    let single = |mode: &str| {
        format!(
            r#"<mujoco><worldbody><geom type="plane" size="3 3 .1"/><body name="cart" pos="0 0 .15" euler="10 20 40">
            <joint type="slide"/><geom type="box" size=".2 .12 .1" rgba=".8 .3 .2 1"/>
            <camera name="it" {mode} pos="0 -1.4 .8" xyaxes="1 0 0 0 .5 1"/></body></worldbody></mujoco>"#
        )
    };
    let pose = |mode: &str| {
        let mut environment = of_model(&single(mode), &text);
        environment.reset(3).unwrap();
        camera(&environment, "it").unwrap().view(&environment).unwrap().world_from_camera
    };
    let fixed = pose("");
    for mode in ["mode=\"track\"", "mode=\"trackcom\""] {
        let found = pose(mode);
        assert!((found.translation.vector - fixed.translation.vector).norm() < 1e-9, "{mode}");
        assert!(found.rotation.angle_to(&fixed.rotation) < 1e-6, "{mode}");
    }
}

/// The angle of view is scaled by the same factor with a sensor as without one.
#[test]
fn a_sensor_has_the_angle_that_is_drawn() {
    let view = |text: &str, name: &str| {
        let mut environment = of_model(MODEL, text);
        environment.reset(0).unwrap();
        let view = camera(&environment, name).unwrap().view(&environment).unwrap();
        view.focal_pixels.map(|focal| 2.0 * (18.0 / focal).atan())
    };
    for name in ["post", "chip", "chasechip"] {
        let ratio = view(FOVY, name)[1] / view("", name)[1];
        assert!((ratio - 0.6).abs() < 1e-3, "{name}: {ratio}");
    }
}

#[test]
fn every_kind_of_light_is_moved_and_dimmed() {
    for light in [
        r#"<light name="lamp" mode="trackcom""#,
        r#"<light name="lamp" mode="track""#,
        r#"<light name="lamp""#,
        r#"<light name="lamp" mode="targetbody" target="pole""#,
    ] {
        let model = MODEL.replace(r#"<light name="lamp" mode="trackcom""#, light);
        let plain = seen(&model, "", "post");
        for text in ["[light]\nshift_metres = 1.0\n", "[light]\nbrightness = 0.3\n"] {
            let [alone, with_mass] = [text.to_owned(), format!("{text}{MASS}")].map(|text| seen(&model, &text, "post"));
            assert!(off(&plain, &alone) > 0.8, "{light}: {text}: {}", off(&plain, &alone));
            assert!(off(&alone, &with_mass) < 0.1, "{light}: {text} with [mass]: {}", off(&alone, &with_mass));
        }
    }
    let point = MODEL.replace(r#""lamp" mode="trackcom""#, r#""lamp" type="point""#);
    let notes = of_model(&point, "[light]\nshift_metres = 1.0\nbrightness = 0.3\n").notes();
    assert!(notes.len() == 2 && notes.iter().all(|note| note.contains("light `lamp`: MuJoCo's renderer")), "{notes:?}");
    let sun = MODEL.replace(r#""lamp" mode="trackcom""#, r#""lamp" type="directional""#);
    let notes = of_model(&sun, "[light]\nshift_metres = 1.0\n").notes().concat();
    assert!(notes.contains("light `lamp`, which is directional"), "{notes}");
}

#[test]
fn colours_textures_and_the_headlight_change_what_is_seen() {
    let plain = seen(MODEL, "", "post");
    for text in [
        "[light]\nambient = 3.0\n",
        "[texture]\nbrightness = 0.5\n",
        "[texture]\ntint = [0.2, 0.6]\n",
        "[colour]\ntint = [0.2, 0.6]\n",
    ] {
        assert!(off(&plain, &seen(MODEL, text, "post")) > 2.0, "{text}");
    }
    let bare = "<mujoco><visual><headlight active=\"0\"/></visual><worldbody><camera name=\"c\"/></worldbody></mujoco>";
    let text = "[light]\nambient = 2\nbrightness = 2\nshift_metres = 1\n[texture]\ntint = 2\nbrightness = 2\n[actuator]\ngain = 2\n";
    let notes = of_model(bare, text).notes();
    assert_eq!(notes.len(), 6, "{notes:?}");
    assert!(
        notes.iter().all(|note| note.starts_with("--randomise: ") && note.contains("has no effect: the model has no "))
    );
}

/// What happens to a mass, a friction, a gain: the state after some steps is another one.
#[test]
fn dynamics_change_the_motion() {
    let sliding = |pair: &str| {
        format!(
            r#"<mujoco><worldbody><geom name="floor" type="plane" size="3 3 .1"/>
            <body pos="0 0 .1"><freejoint/><geom name="box" type="box" size=".1 .1 .1"/></body></worldbody>
            {pair}<keyframe><key qvel="2 0 0 0 0 0"/></keyframe></mujoco>"#
        )
    };
    let driven = |actuator: &str| {
        format!(
            r#"<mujoco><worldbody><body><joint name="j" type="slide" axis="1 0 0" damping="1" range="-9 9"/><geom size=".1" mass="1"/></body></worldbody>
            <actuator>{actuator}</actuator></mujoco>"#
        )
    };
    let end = |mjcf: &str, text: &str| {
        let mut environment = of_model(mjcf, text);
        environment.reset(1).unwrap();
        let mut action = Vec::new();
        environment.write_idle_action(&mut action);
        action.iter_mut().for_each(|control| *control = 0.7);
        for _ in 0..20 {
            environment.step(&action).unwrap();
        }
        environment.physics().qpos()[0]
    };
    let pair = r#"<contact><pair geom1="floor" geom2="box" friction=".8 .8 .005 .0001 .0001"/></contact>"#;
    for (mjcf, text) in [
        (sliding(""), "[friction]\nfactor = 0.2\n"),
        (sliding(pair), "[friction]\nfactor = 0.2\n"),
        (driven(r#"<motor joint="j"/>"#), "[mass]\nfactor = 3\n"),
        (driven(r#"<motor joint="j"/>"#), "[actuator]\ngain = 2\n"),
        (driven(r#"<position joint="j" kp="5"/>"#), "[actuator]\ngain = 2\n"),
        (driven(r#"<velocity joint="j" kv="5"/>"#), "[actuator]\ngain = 2\n"),
        (driven(r#"<intvelocity joint="j" kp="5" actrange="-9 9"/>"#), "[actuator]\ngain = 2\n"),
        (driven(r#"<motor joint="j"/>"#), "[latency]\nactions = 5\n"),
    ] {
        let (plain, changed) = (end(&mjcf, ""), end(&mjcf, text));
        assert!((plain - changed).abs() > 1e-3, "{text} on {mjcf}: {plain}, {changed}");
    }
}

/// Nothing adds up over episodes, and the model is as it was when the ranges are of nothing.
#[test]
fn nothing_drifts_over_episodes() {
    let text = "[camera]\nshift_metres = 0.1\nturn_radians = 0.05\nfovy = 0.9\n[light]\nshift_metres = 0.2\n[mass]\nfactor = [0.5, 2]\n";
    let mut environment = of_model(MODEL, text);
    environment.reset(0).unwrap();
    let pictures =
        |environment: &mut Environment| ["post", "chip", "chase", "chasecom"].map(|name| picture(environment, name));
    let first = pictures(&mut environment);
    for seed in 1..20 {
        environment.reset(seed).unwrap();
        environment.reset_again().unwrap();
    }
    environment.reset(0).unwrap();
    assert_eq!(first, pictures(&mut environment));
}

/// The cameras of the original tasks: those that follow are moved, those that are aimed and those that are free are named.
#[test]
fn the_tasks_of_the_list_follow_as_well() {
    let native: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    let open = |task: &str, text: &str| {
        let assets = Assets { native: &native, textures: Textures::Full };
        let mut environment = Environment::with_options(task, assets, ranges(text)).unwrap();
        environment.reset(5).unwrap();
        environment
    };
    for (task, name) in [
        ("dmc/cheetah-run", "side"),
        ("dmc/walker-walk", "side"),
        ("dmc/hopper-hop", "cam0"),
        ("dmc/quadruped-walk", "x"),
        ("dmc/reacher-easy", "fixed"),
    ] {
        let plain = picture(&mut open(task, ""), name);
        for text in [SHIFT, TURN, FOVY] {
            let changed = picture(&mut open(task, text), name);
            assert!(off(&plain, &changed) > 2.0, "{task}: {text}: {}", off(&plain, &changed));
        }
    }
    let error = camera(&open("metaworld/reach", SHIFT), "top_cap2").unwrap_err().to_string();
    assert!(error.contains("\"top_cap2\" does not follow camera.shift_metres"), "{error}");
}
