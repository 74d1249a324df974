//! Joints and arms that stand where they should not be: no command is a step, and there is only one way.

use std::f64::consts::{PI, TAU};

use foresee_firmware_config::{JointLink, WorkspaceProfile};
use proptest::prelude::*;

use super::*;

const PERIOD: Duration = Duration::from_millis(20);
const MAX_AGE: Duration = Duration::from_millis(100);
const ACTIONS: [SafeAction; 4] = [SafeAction::Hold, SafeAction::Damp, SafeAction::Stop, SafeAction::ReturnHome];

fn position(rate: f64) -> JointProfile {
    JointProfile { command: CommandKind::PositionRadians, ..joint(-2.0, 2.0, rate) }
}

fn continuous() -> JointProfile {
    JointProfile { continuous: true, minimum: -3.15, maximum: 3.15, ..position(1.0) }
}

fn at(tick: u64) -> Stamp {
    millis(1000 + 20 * tick)
}

fn with(joints: &[JointProfile], action: SafeAction) -> SafetyFilter {
    SafetyFilter::with(joints, PERIOD, &SafetyProfile { action, workspace: None }, Some(MAX_AGE))
}

/// Pushed past its limit by hand, or by more than a turn, and no frame ever comes.
#[test]
fn every_safe_action_holds_a_joint_where_it_is_measured() {
    for (action, start) in
        ACTIONS.into_iter().flat_map(|action| [2.8, 7.3, -9.0, 2.0, 0.3].map(|start| (action, start)))
    {
        let mut filter = with(&[position(0.5)], action);
        let mut last = start;
        for tick in 0..50 {
            filter.see(&JointState { stamp: at(tick), ..state(last, 0.0) }, at(tick));
            let command = filter.hold(at(tick), Hold::StaleFrame);
            let value = command.values()[0];
            match action {
                SafeAction::ReturnHome => assert!((value - last).abs() <= 0.02 * 0.5 + 1e-12, "{last} to {value}"),
                _ => assert_eq!(value, start, "{action:?}"),
            }
            last = value;
        }
        assert!(filter.is_at_rest() || action == SafeAction::ReturnHome);
        let outside = filter.outside().join("");
        assert_eq!(outside.is_empty(), last.abs() <= 2.0, "{outside}");
        assert!(outside.is_empty() || outside.contains("`joint`") && outside.contains("-2 to 2"), "{outside}");
    }
}

/// A driver that is switched off and on again, its arm pushed out of its range meanwhile; an episode that begins outside.
#[test]
fn what_is_measured_again_is_where_it_is() {
    let mut filter = with(&[position(0.5)], SafeAction::Stop);
    filter.see(&JointState { stamp: at(0), ..state(1.0, 0.0) }, at(0));
    assert_eq!(filter.filter(at(0), Some(&action(2.0))).values(), [1.01]);
    (1..60).for_each(|tick| drop(filter.hold(at(tick), Hold::StaleFrame).clone()));
    assert!(filter.last().is_empty());
    filter.see(&JointState { stamp: at(60), ..state(-2.9, 0.0) }, at(60));
    assert_eq!(filter.filter(at(60), Some(&action(2.0))).values(), [-2.89]);
    filter.reset();
    filter.see(&JointState { stamp: at(61), ..state(5.0, 0.0) }, at(61));
    assert_eq!(filter.filter(at(61), Some(&action(2.0))).values(), [4.99]);
    assert_eq!(filter.stop(at(61)).values(), [4.99]);
}

/// Two turns on, an angle is asked for: it goes there the shortest way, and home as well.
#[test]
fn a_joint_that_turns_without_end_takes_the_shortest_way() {
    for (start, wanted, end) in [
        (7.3, 0.2, 0.2 + TAU),
        (7.3, 7.4, 7.4),
        (3.1, -3.1, -3.1 + TAU),
        (-2.0 * TAU - 0.5, 0.5, 0.5 - 2.0 * TAU),
        (0.0, 2.0, 2.0),
    ] {
        let mut filter = with(&[continuous()], SafeAction::ReturnHome);
        let mut last = start;
        for tick in 0..400 {
            filter.see(&JointState { stamp: at(tick), ..state(last, 0.0) }, at(tick));
            let command = filter.filter(at(tick), Some(&action(wanted)));
            assert_eq!((command.verdict().held, command.verdict().num_clamped), (None, 0));
            assert!((command.values()[0] - last).abs() <= 0.02 + 1e-12, "{last} to {:?}", command.values());
            last = command.values()[0];
        }
        assert!((last - end).abs() < 1e-9, "{start} to {wanted}: {last}, not {end}");
        assert!(filter.outside().is_empty());
        (400..800).for_each(|tick| drop(filter.hold(at(tick), Hold::StaleFrame).clone()));
        let home = filter.last().values().first().map_or(f64::NAN, |value| value % TAU);
        assert!(filter.is_at_rest() && (filter.last().is_empty() || home.abs() < 1e-9), "{:?}", filter.last());
        assert!(filter.longest_stop() < Duration::from_secs_f64(PI + 0.5), "{:?}", filter.longest_stop());
    }
}

/// A velocity or torque of a joint that is past its position limits.
#[test]
fn past_a_position_limit_only_the_way_back_is_open() {
    let position =
        PositionLimits { minimum_radians: -1.0, maximum_radians: 1.0, braking_radians_per_second_squared: 5.0 };
    for command in [CommandKind::VelocityRadiansPerSecond, CommandKind::TorqueNewtonMetres] {
        let profile = JointProfile { command, position: Some(position), ..joint(-3.0, 3.0, 1000.0) };
        for (start, wanted, expected) in
            [(1.4, 1.0, 0.0), (1.4, -1.0, -1.0), (9.0, 3.0, 0.0), (-1.4, -1.0, 0.0), (-1.4, 1.0, 1.0)]
        {
            let mut filter = with(std::slice::from_ref(&profile), SafeAction::Stop);
            filter.see(&JointState { stamp: at(0), ..state(start, 0.0) }, at(0));
            let values = filter.filter(at(0), Some(&action(wanted))).values().to_vec();
            assert_eq!(values, [expected], "{command:?} at {start}");
            assert!(filter.outside().join("").contains("-1 to 1"), "{:?}", filter.outside());
            assert_eq!(filter.hold(at(1), Hold::StaleFrame).values(), [0.0]);
        }
    }
}

fn boxed(rate: f64, acceleration: Option<f64>) -> (Vec<JointProfile>, WorkspaceProfile) {
    let link = |x| JointLink { axis: [0.0, 0.0, 1.0], origin_metres: [x, 0.0, 0.0], origin_radians: [0.0; 3] };
    let joint = |x| JointProfile {
        max_acceleration_per_second_squared: acceleration,
        link: Some(link(x)),
        minimum: -3.0,
        maximum: 3.0,
        ..position(rate)
    };
    let workspace = WorkspaceProfile {
        minimum_metres: [-0.9, -0.3, -0.1],
        maximum_metres: [0.9, 0.3, 0.1],
        tool_metres: [0.4, 0.0, 0.0],
    };
    (vec![joint(0.0), joint(0.4)], workspace)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// From anywhere outside, under any limits, action and policy: no sample breaks a limit, each is no further out than the one
    /// before it, and a policy that leads back in is followed there.
    #[test]
    fn from_outside_a_joint_comes_back_within_its_limits(
        start in prop_oneof![-30.0..-2.0_f64, 2.0..30.0_f64],
        rate in 0.2..20.0_f64,
        acceleration in prop::option::of(0.5..100.0_f64),
        jerk in prop::option::of(2.0..2000.0_f64),
        wanted in prop::collection::vec(-4.0..4.0_f64, 1..8),
        (safe, every) in (0..4_usize, 1..40_u64),
    ) {
        let joints = [JointProfile {
            max_acceleration_per_second_squared: acceleration,
            max_jerk_per_second_cubed: acceleration.and(jerk),
            ..position(rate)
        }];
        let mut filter = with(&joints, ACTIONS[safe]);
        let mut judge = judge::Judge::new(&joints);
        judge.begin(&[start]);
        let mut last = start;
        for tick in 0..400_u64 {
            filter.see(&JointState { stamp: at(tick), ..state(last, 0.0) }, at(tick));
            let wanted = wanted[(tick / 40) as usize % wanted.len()];
            let command = match tick % (2 * every) < every {
                true => filter.filter(at(tick), Some(&action(wanted))),
                false => filter.hold(at(tick), Hold::StaleFrame),
            };
            let judged = judge.look(command, 0.02);
            prop_assert!(judged.is_ok(), "tick {}: {}", tick, judged.unwrap_err());
            last = command.values()[0];
        }
        for tick in 400..60_000 {
            filter.see(&JointState { stamp: at(tick), ..state(last, 0.0) }, at(tick));
            last = filter.filter(at(tick), Some(&action(1.0))).values()[0];
            if (last - 1.0).abs() < 1e-6 {
                break;
            }
        }
        prop_assert!((last - 1.0).abs() < 1e-6, "{} after 20 minutes", last);
    }

    /// An arm outside its box is not moved in a step either; no point of it goes further out than it began, and what cannot go in is held and said.
    #[test]
    fn an_arm_outside_its_box_only_moves_back_in(
        (shoulder, elbow) in (-2.5..2.5_f64, -2.5..2.5_f64),
        rate in 0.5..4.0_f64,
        acceleration in prop::option::of(2.0..40.0_f64),
        targets in prop::collection::vec((-2.5..2.5_f64, -2.5..2.5_f64), 1..6),
        safe in 0..4_usize,
    ) {
        let (joints, workspace) = boxed(rate, acceleration);
        let kinematics = workspace::Workspace::new(&workspace, &joints).unwrap();
        let safety = SafetyProfile { action: ACTIONS[safe], workspace: Some(workspace) };
        let mut filter = SafetyFilter::with(&joints, PERIOD, &safety, Some(MAX_AGE));
        let mut judge = judge::Judge::new(&joints);
        let mut angles = vec![shoulder, elbow];
        judge.begin(&angles);
        let reached = kinematics.reached(angles.iter().copied());
        for tick in 0..300_u64 {
            filter.see(&JointState { stamp: at(tick), positions: angles.clone(), velocities: vec![0.0; 2] }, at(tick));
            let (one, two) = targets[(tick / 50) as usize % targets.len()];
            let command = match tick % 50 < 40 {
                true => filter.filter(at(tick), Some(&Action { values: vec![one, two] })),
                false => filter.hold(at(tick), Hold::StaleFrame),
            };
            let judged = judge.look(command, 0.02);
            prop_assert!(judged.is_ok(), "tick {}: {}", tick, judged.unwrap_err());
            let is_no_further_out = kinematics.contains(command.values().iter().copied(), -1e-9, Some(&reached));
            prop_assert!(is_no_further_out, "tick {}: {:?} to {:?}", tick, angles, command.values());
            if command.verdict().held == Some(Hold::OutsideWorkspace) {
                prop_assert!(!kinematics.contains(angles.iter().copied(), 0.0, None));
            }
            angles = command.values().to_vec();
        }
    }
}

/// Outside of its box an arm follows what leads back in, and says why it follows nothing else.
#[test]
fn an_arm_outside_its_box_is_led_back_in_or_held() {
    let (joints, workspace) = boxed(1.0, Some(10.0));
    let kinematics = workspace::Workspace::new(&workspace, &joints).unwrap();
    let safety = SafetyProfile { action: SafeAction::Stop, workspace: Some(workspace) };
    for (wanted, is_led) in [(0.0, true), (2.0, false)] {
        let mut filter = SafetyFilter::with(&joints, PERIOD, &safety, Some(MAX_AGE));
        let (mut angles, mut num_held) = (vec![1.2, 0.0], 0);
        for tick in 0..200 {
            filter.see(&JointState { stamp: at(tick), positions: angles.clone(), velocities: vec![0.0; 2] }, at(tick));
            let command = filter.filter(at(tick), Some(&Action { values: vec![wanted, 0.0] }));
            num_held += u32::from(command.verdict().held == Some(Hold::OutsideWorkspace));
            angles = command.values().to_vec();
        }
        assert_eq!(kinematics.contains(angles.iter().copied(), 0.0, None), is_led, "{angles:?}");
        assert_eq!(num_held, if is_led { 0 } else { 200 }, "{angles:?}");
        let reason = if is_led {
            SafetyState::Normal
        } else {
            SafetyState::Holding { since: at(0), reason: Hold::OutsideWorkspace }
        };
        assert_eq!(filter.state(), reason);
    }
}
