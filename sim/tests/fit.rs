//! A profile's command kind and range held against the model's actuators.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{Observation, SourceEvent};
use foresee_sim::{
    Camera, CameraOptions, CommandMap, Environment, EnvironmentOptions, EpisodePlan, EpisodePlayer, Quality, SimError,
    UserGoal, UserModel,
};

/// A free box and a ball joint before the arm, so that no address equals a joint's number.
fn arm(actuators: &str, keyframe: &str) -> String {
    format!(
        r#"<mujoco><compiler angle="radian"/><option timestep="0.005" integrator="implicitfast"/><worldbody><geom type="plane" size="2 2 .1"/>
        <body name="box" pos="1 1 .1"><freejoint name="loose"/><geom type="box" size=".1 .1 .1"/></body>
        <body name="lamp" pos="-1 -1 1"><joint name="ball" type="ball" damping="1"/><geom type="capsule" fromto="0 0 0 0 0 -.3" size=".03"/></body>
        <body name="upper" pos="0 0 .8"><joint name="j1" axis="0 1 0" damping="4" range="-2.5 2.5"/>
          <geom type="capsule" fromto="0 0 0 .35 0 0" size=".04" mass="2"/>
          <body name="lower" pos=".35 0 0"><joint name="j2" axis="0 1 0" damping="2" range="-2.5 2.5"/>
            <geom type="capsule" fromto="0 0 0 .3 0 0" size=".03" mass="1"/><site name="tip" pos=".3 0 0"/>
            <body name="finger" pos=".3 0 0"><joint name="f" type="slide" axis="0 0 1" range="0 .04" damping="20"/>
              <geom type="box" size=".02 .02 .02" mass=".05"/></body></body></body></worldbody>
        <tendon><fixed name="grip"><joint joint="f" coef="1"/></fixed><fixed name="both"><joint joint="j1" coef=".5"/><joint joint="j2" coef=".5"/></fixed></tendon>
        <actuator>{actuators}</actuator>{keyframe}</mujoco>"#
    )
}

/// Its free box, its lamp and its arm at 0.5 and 0.4 rad with an open finger.
fn bent(ctrl: &str) -> String {
    let ctrl = if ctrl.is_empty() { String::new() } else { format!("ctrl=\"{ctrl}\"") };
    format!("<keyframe><key qpos=\"1 1 .1 1 0 0 0 1 0 0 0 .5 .4 .04\" {ctrl}/></keyframe>")
}

struct Joint<'a>(&'a str, &'a str, f64, f64);

fn profile(folder: &Path, joints: &[Joint<'_>]) -> DeviceProfile {
    let mut text = "inherit = \"desktop-sim\"\nrobot = \"arm\"\n".to_owned();
    for Joint(name, command, minimum, maximum) in joints {
        writeln!(
            text,
            "[[joints]]\nname = \"{name}\"\ncommand = \"{command}\"\nminimum = {minimum:?}\nmaximum = {maximum:?}\nmax_rate_per_second = 1000.0"
        )
        .unwrap();
    }
    let path = folder.join("robot.toml");
    std::fs::write(&path, text).unwrap();
    foresee_firmware_config::load(path.to_str().unwrap()).unwrap()
}

fn environment(folder: &Path, mjcf: &str) -> Environment {
    let path = folder.join("arm.xml");
    std::fs::write(&path, mjcf).unwrap();
    let (control_timestep_seconds, time_limit_seconds) = (0.02, 5.0);
    let model = UserModel {
        path,
        packages: BTreeMap::new(),
        goal: UserGoal::Still,
        control_timestep_seconds,
        time_limit_seconds,
    };
    Environment::of_user_model(&model, EnvironmentOptions::default()).unwrap()
}

fn map(mjcf: &str, joints: &[Joint<'_>]) -> Result<CommandMap, SimError> {
    let folder = tempfile::tempdir().unwrap();
    CommandMap::new(&environment(folder.path(), mjcf), &profile(folder.path(), joints))
}

/// Plays some steps in which each command is what `command` makes of the joints' positions; gives the first and last
/// positions of the profile's joints and the control of the first step.
fn play(mjcf: &str, joints: &[Joint<'_>], command: impl Fn(&[f64]) -> Vec<f64>) -> ([Vec<f64>; 2], Vec<f64>) {
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(folder.path(), mjcf);
    environment.reset(0).unwrap();
    let map = CommandMap::new(&environment, &profile(folder.path(), joints)).unwrap();
    let options = CameraOptions { name: "free".to_owned(), width: 8, height: 8, quality: Quality::Fast };
    let camera = Camera::new(&environment, &options).unwrap();
    let plan = EpisodePlan { first_seed: 0, num_episodes: 1 };
    let mut player = EpisodePlayer::new(environment, camera, plan).with_joints(map);
    let mut observation = Observation::blank(8, 8, joints.len());
    let (mut first, mut control) = (None, None);
    for _ in 0..6 {
        while player.next_event(&mut observation).unwrap() != SourceEvent::Observed {}
        let positions = observation.joints.positions.clone();
        assert_eq!((positions.len(), observation.joints.velocities.len()), (joints.len(), joints.len()));
        let held = first.get_or_insert(positions).clone();
        player.act(&command(&held)).unwrap();
        control.get_or_insert(player.environment().physics().control().to_vec());
    }
    while player.next_event(&mut observation).unwrap() != SourceEvent::Observed {}
    ([first.unwrap(), observation.joints.positions.clone()], control.unwrap())
}

fn refused(actuators: &str, joints: &[Joint<'_>], expected: &[&str]) {
    let text = map(&arm(actuators, &bent("")), joints).unwrap_err().to_string();
    assert!(expected.iter().all(|part| text.contains(part)) && !text.contains('\n'), "{text:?} lacks {expected:?}");
}

const MOTORS: &str =
    r#"<motor name="shoulder" joint="j1" ctrlrange="-87 87"/><motor name="wrist" joint="j2" ctrlrange="-12 12"/>"#;

#[test]
fn a_share_is_of_the_full_torque() {
    let joints = [Joint("wrist", "torque_normalised", -1.0, 1.0), Joint("shoulder", "torque_normalised", -1.0, 1.0)];
    let (_, control) = play(&arm(MOTORS, &bent("")), &joints, |_| vec![-0.5, 1.0]);
    assert_eq!(control, [87.0, -6.0]);
    // A force range, a gear and a joint's own force range narrow what is full.
    for (attributes, expected) in [
        (r#"ctrlrange="-100 100" forcerange="-87 87""#, 87.0),
        (r#"ctrlrange="-1 1" gear="-20""#, -1.0),
        (r#"forcerange="-30 30" gear="2""#, 30.0),
    ] {
        let motor = format!(r#"<motor name="shoulder" joint="j1" {attributes}/>"#);
        let joints = [Joint("shoulder", "torque_normalised", -1.0, 1.0)];
        let (_, control) = play(&arm(&motor, &bent("")), &joints, |_| vec![1.0]);
        assert_eq!(control, [expected], "{attributes}");
    }
    let newton = [Joint("shoulder", "torque_newton_metres", -20.0, 20.0)];
    let motor = r#"<motor name="shoulder" joint="j1" ctrlrange="-1 1" gear="-20"/>"#;
    let (_, control) = play(&arm(motor, &bent("")), &newton, |_| vec![5.0]);
    assert_eq!(control, [-0.25]);
}

/// The first command of a servo is its joint's position: nothing moves, whatever counts the control has.
#[test]
fn the_first_command_keeps_a_servo_where_it_is() {
    let cases = [
        (r#"<position name="a" joint="j1" gear="50" kp="4" kv=".4" ctrlrange="-125 125"/>"#, [-2.5, 2.5], 25.0),
        (r#"<position name="a" joint="j1" gear="-50" kp="4" kv=".4" ctrlrange="-125 125"/>"#, [-2.5, 2.5], -25.0),
        (r#"<position name="a" joint="j1" kp="4e4" kv="400"/>"#, [-2.5, 2.5], 0.5),
        (
            r#"<general name="a" tendon="grip" ctrlrange="0 255" gainprm="1.57 0 0" biasprm="0 -10000 -10" biastype="affine"/>"#,
            [0.0, 0.04],
            254.777,
        ),
        (
            r#"<general name="a" joint="j1" ctrlrange="-255 255" gainprm="100" biasprm="50 -10000 -100" biastype="affine"/>"#,
            [-2.5, 2.5],
            49.5,
        ),
        (
            r#"<general name="a" tendon="both" ctrlrange="-255 255" gainprm="100" biasprm="0 -10000 -100" biastype="affine"/>"#,
            [-2.5, 2.5],
            45.0,
        ),
        (r#"<position name="a" joint="j1" kp="4e4" kv="400" ctrlrange="-2.5 2.5" timeconst=".1"/>"#, [-2.5, 2.5], 0.5),
    ];
    for (actuator, [minimum, maximum], expected) in cases {
        // A stiff servo of the other joint, which the profile does not name, holds what it had.
        let other = r#"<position name="b" joint="j2" kp="2e4" kv="200" ctrlrange="-2.5 2.5"/>"#;
        let joints = [Joint("a", "position_radians", minimum, maximum)];
        let ([first, last], control) = play(&arm(&format!("{actuator}{other}"), &bent("")), &joints, <[f64]>::to_vec);
        assert!((control[0] - expected).abs() < 1e-3 && (control[1] - 0.4).abs() < 1e-6, "{actuator}: {control:?}");
        let moved = (first[0] - last[0]).abs();
        assert!(moved < if first[0] < 0.1 { 0.002 } else { 0.02 }, "{actuator}: {first:?} to {last:?}");
    }
}

/// Integrated velocity servos, velocity servos, and controls without a unit.
#[test]
fn the_other_kinds_are_scaled_as_well() {
    let still = |_: &[f64]| vec![0.0];
    let velocity = [Joint("a", "velocity_radians_per_second", -1.0, 1.0)];
    let actuator = r#"<intvelocity name="a" joint="j1" kp="4e4" kv="400" gear="2" ctrlrange="-2 2" actrange="-6 6"/>"#;
    let ([first, last], _) = play(&arm(actuator, &bent("")), &velocity, still);
    assert!((first[0] - last[0]).abs() < 0.02, "{first:?} to {last:?}");
    let ([first, last], control) = play(&arm(actuator, &bent("")), &velocity, |_| vec![0.5]);
    assert!(control == [1.0] && (last[0] - first[0] - 0.06).abs() < 0.02, "{control:?} {first:?} to {last:?}");
    let actuator = r#"<velocity name="a" joint="j1" kv="50" gear="3" ctrlrange="-30 30"/>"#;
    let (_, control) = play(&arm(actuator, &bent("")), &velocity, |_| vec![0.5]);
    assert_eq!(control, [1.5]);
    let muscle = r#"<muscle name="a" tendon="both" ctrlrange="0 1" lengthrange="-2 2" force="10"/>"#;
    let (_, control) = play(&arm(muscle, &bent("")), &[Joint("a", "torque_normalised", 0.0, 1.0)], |_| vec![0.25]);
    assert_eq!(control, [0.25]);
    let adhesion = r#"<adhesion name="a" body="finger" ctrlrange="0 1" gain="4"/>"#;
    let (_, control) = play(&arm(adhesion, &bent("")), &[Joint("a", "torque_newton_metres", 0.0, 4.0)], |_| vec![2.0]);
    assert_eq!(control, [0.5]);
}

/// Positions and velocities are of the degree of freedom that is driven.
#[test]
fn joint_states_are_of_what_is_driven() {
    let actuators = r#"<motor name="two" joint="j2" ctrlrange="-1 1"/><motor name="one" joint="j1" ctrlrange="-1 1"/>
        <motor name="again" joint="j1" gear="7" ctrlrange="-1 1"/><motor name="turn" joint="ball" gear="0 2 0 0 0 0" ctrlrange="-1 1"/>
        <motor name="slide" joint="f" ctrlrange="-1 1"/><motor name="tip" site="tip" gear="0 0 3 0 0 0" ctrlrange="-1 1"/>"#;
    let half = std::f64::consts::FRAC_1_SQRT_2;
    let keyframe = format!(
        r#"<keyframe><key qpos="1 1 .1 1 0 0 0 {half} 0 {half} 0 .5 .4 .04" qvel="1 2 3 4 5 6 .1 .2 .3 .7 .8 .9"/></keyframe>"#
    );
    let folder = tempfile::tempdir().unwrap();
    let mut environment = environment(folder.path(), &arm(actuators, &keyframe));
    environment.reset(0).unwrap();
    let mut joints = foresee_runtime::JointState::zeros(6);
    environment.write_joint_state(&mut joints);
    let expected = [0.4, 0.5, 0.5, std::f64::consts::FRAC_PI_2, 0.04];
    for (found, expected) in joints.positions.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-9, "{:?}", joints.positions);
    }
    for (found, expected) in joints.velocities.iter().zip([0.8, 0.7, 0.7, 0.2, 0.9]) {
        assert!((found - expected).abs() < 1e-9, "{:?}", joints.velocities);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_both() {
    let position = |low, high| [Joint("a", "position_radians", low, high)];
    refused(
        MOTORS,
        &[Joint("wrist", "position_radians", -2.5, 2.5)],
        &[
            "joint `wrist` has command = \"position_radians\" from -2.5 to 2.5",
            "takes a torque in N m, -12 to 12",
            "write command = \"torque_normalised\" and minimum = -1.0 and maximum = 1.0",
        ],
    );
    refused(MOTORS, &[Joint("wrist", "torque_newton_metres", -87.0, 87.0)], &["-12 to 12", "write minimum = -12.0"]);
    refused(
        r#"<position name="a" joint="j1" gear="50" kp="4" ctrlrange="-125 125"/>"#,
        &position(-125.0, 125.0),
        &["from -125 to 125", "takes a position in rad, -2.5 to 2.5", "a control of 1 is 0.02 rad", "minimum = -2.5"],
    );
    refused(
        r#"<general name="a" tendon="grip" ctrlrange="0 255" gainprm="0.0157 0 0" biasprm="0 -100 -10" biastype="affine"/>"#,
        &position(0.0, 255.0),
        &["takes a position in m, 0 to 0.040035", "control 0 to 255", "maximum = 0.040035"],
    );
    let servo = r#"<position name="a" joint="j1" kp="4" ctrlrange="-1 1"/>"#;
    refused(servo, &[Joint("a", "torque_normalised", -1.0, 1.0)], &["takes a position", "\"position_radians\""]);
    refused(servo, &[Joint("a", "velocity_radians_per_second", -1.0, 1.0)], &["takes a position"]);
    refused(servo, &[Joint("b", "position_radians", -1.0, 1.0)], &["joint `b` is no actuator", "which has a;"]);
    refused(
        r#"<motor name="a" joint="j1"/>"#,
        &[Joint("a", "torque_normalised", -1.0, 1.0)],
        &["ctrlrange or forcerange", "torque_newton_metres"],
    );
    refused(
        r#"<adhesion name="a" body="finger" ctrlrange="0 1" gain="4"/>"#,
        &[Joint("a", "torque_normalised", -1.0, 1.0)],
        &["takes a force in N, 0 to 4", "write minimum = 0.0 and maximum = 1.0"],
    );
    refused(
        r#"<damper name="a" joint="j1" kv="3" ctrlrange="0 1"/>"#,
        &[Joint("a", "torque_newton_metres", 0.0, 1.0)],
        &["takes a share of its range, 0 to 1", "\"torque_normalised\""],
    );
}

/// Rounded numbers of a data sheet fit; so does a part of the range.
#[test]
fn a_range_may_be_rounded_or_narrower() {
    let servo = r#"<position name="a" joint="j1" kp="4" ctrlrange="-2.8973 2.8973"/>"#;
    for (low, high) in [(-2.9, 2.9), (-1.0, 0.5)] {
        let map = map(&arm(servo, &bent("")), &[Joint("a", "position_radians", low, high)]).unwrap();
        assert!(map.notes().is_empty() && map.names() == ["a"]);
    }
    let two = map(&arm(MOTORS, &bent("")), &[Joint("wrist", "torque_normalised", -1.0, 1.0)]).unwrap();
    assert!(two.notes().concat().contains("shoulder: they keep the control of the reset"), "{:?}", two.notes());
}
