//! The filter against its promises: row by row, by properties, and over a million random ticks.

mod judge;
mod measured;
mod outside;
mod random;

use self::judge::Judge;
use super::*;
use foresee_firmware_config::{PositionLimits, parse};

fn joint(minimum: f64, maximum: f64, max_rate_per_second: f64) -> JointProfile {
    JointProfile {
        name: "joint".to_owned(),
        command: CommandKind::TorqueNormalised,
        minimum,
        maximum,
        continuous: false,
        max_rate_per_second,
        max_acceleration_per_second_squared: None,
        max_jerk_per_second_cubed: None,
        home: Some(0.0),
        damping_per_radian_per_second: 0.0,
        position: None,
        link: None,
    }
}

fn action(value: f64) -> Action {
    Action { values: vec![value] }
}

fn millis(millis: u64) -> Stamp {
    Stamp { nanos: millis * 1_000_000 }
}

fn state(position: f64, velocity: f64) -> JointState {
    JointState { stamp: Stamp::default(), positions: vec![position], velocities: vec![velocity] }
}

#[test]
fn each_limit_is_kept_and_told() {
    let mut filter = SafetyFilter::new(&[joint(-1.0, 1.0, 10.0)], Duration::from_millis(20));
    assert_eq!(filter.state(), SafetyState::Starting);
    let mut check = |stamp, value, expected: f64, verdict: Verdict| {
        let command = filter.filter(stamp, Some(&action(value)));
        assert!((command.values()[0] - expected).abs() < 1e-12, "{command:?}");
        assert_eq!((command.verdict(), command.stamp()), (verdict, stamp));
    };
    let (free, held) = (Verdict::default(), |why| Verdict { held: Some(why), ..Verdict::default() });
    let slowed = Verdict { num_rate_limited: 1, ..free };
    check(millis(1000), 0.9, 0.2, slowed);
    check(millis(1010), 0.25, 0.25, free);
    check(millis(1010), 0.5, 0.25, slowed);
    check(millis(9000), -7.0, -0.15, Verdict { num_clamped: 1, ..slowed });
    check(millis(500), 1.0, -0.15, slowed);
    check(millis(510), 1.0, -0.05, slowed);
    // The safe action of a torque is to go, as fast as its rate allows.
    check(millis(511), f64::NAN, -0.04, held(Hold::NotFinite));
    check(millis(521), 1.0, 0.0, held(Hold::NotFinite));
    assert_eq!(filter.state(), SafetyState::Stopped { reason: Hold::NotFinite });
    filter.clear();
    let command = filter.filter(millis(520), None);
    assert_eq!(command.verdict().held, Some(Hold::StageFailed));
    assert_eq!(filter.state(), SafetyState::Holding { since: millis(520), reason: Hold::StageFailed });
    assert_eq!(filter.filter(millis(530), Some(&Action::default())).verdict().held, Some(Hold::WrongLength));
    filter.degrade(true);
    assert_eq!(filter.filter(millis(540), Some(&action(0.1))).values(), [0.1]);
    assert_eq!(filter.state(), SafetyState::Degraded { since: millis(540) });
    filter.degrade(false);
    filter.throttle(true);
    assert_eq!(filter.filter(millis(545), Some(&action(0.1))).values(), [0.1]);
    assert_eq!(filter.state(), SafetyState::Degraded { since: millis(540) }, "a hot machine is degraded as well");
    filter.throttle(false);
    assert_eq!(filter.filter(millis(550), Some(&action(0.1))).values(), [0.1]);
    assert_eq!(filter.state(), SafetyState::Normal);
    assert_eq!(filter.stop(millis(560)).values(), [0.0]);
    assert_eq!(filter.filter(millis(570), Some(&action(1.0))).verdict().held, Some(Hold::Stopped));
    filter.clear();
    assert_eq!(filter.state(), SafetyState::Stopped { reason: Hold::Stopped }, "a stop is no fault to clear");
    filter.reset();
    assert_eq!(filter.filter(millis(0), Some(&action(1.0))).values(), [0.2]);
    assert_eq!(filter.state(), SafetyState::Normal);
}

#[test]
fn each_safe_action_does_what_it_says() {
    let torque = JointProfile { damping_per_radian_per_second: 0.5, ..joint(-4.0, 4.0, 1000.0) };
    let velocity = JointProfile { command: CommandKind::VelocityRadiansPerSecond, ..torque.clone() };
    let position = JointProfile { command: CommandKind::PositionRadians, home: Some(1.0), ..torque.clone() };
    for (joint, safe, expected) in [
        (&torque, SafeAction::Hold, 2.0),
        (&torque, SafeAction::Damp, -1.5),
        (&torque, SafeAction::Stop, 0.0),
        (&velocity, SafeAction::Hold, 0.0),
        (&velocity, SafeAction::Damp, 0.0),
        (&velocity, SafeAction::Stop, 0.0),
        (&position, SafeAction::Hold, 2.0),
        (&position, SafeAction::Stop, 2.0),
        (&position, SafeAction::ReturnHome, 1.0),
    ] {
        let safety = SafetyProfile { action: safe, workspace: None };
        let mut filter = SafetyFilter::with(std::slice::from_ref(joint), Duration::from_millis(20), &safety, None);
        filter.see(&state(2.0, 3.0), millis(20));
        filter.filter(millis(20), Some(&action(2.0)));
        let values = filter.hold(millis(40), Hold::StaleFrame).values().to_vec();
        assert!((values[0] - expected).abs() < 1e-9, "{safe:?} of {:?}: {values:?}", joint.command);
        let is_against = safe == SafeAction::Damp && joint.command == CommandKind::TorqueNormalised;
        assert_eq!(filter.is_at_rest(), !is_against, "{safe:?} of {:?}", joint.command);
        // Stopped by what worked against it, the joint is at rest.
        filter.see(&state(2.0, 0.0), millis(60));
        filter.hold(millis(60), Hold::StaleFrame);
        assert!(filter.is_at_rest(), "{safe:?} of {:?}", joint.command);
    }
}

/// A joint of 1 kg m2 that is damped, and of which nothing is heard any more: it is not driven the other way.
#[test]
fn nothing_works_against_a_velocity_of_long_ago() {
    let torque = JointProfile { damping_per_radian_per_second: 2.0, ..joint(-4.0, 4.0, 1000.0) };
    let safety = SafetyProfile { action: SafeAction::Damp, workspace: None };
    let (period, max_age) = (Duration::from_millis(20), Duration::from_millis(100));
    let mut filter = SafetyFilter::with(&[torque], period, &safety, Some(max_age));
    let mut velocity = 1.0;
    filter.see(&JointState { stamp: millis(1000), ..state(0.0, velocity) }, millis(1020));
    for tick in 51..200 {
        let torque = filter.hold(millis(20 * tick), Hold::StaleFrame).values()[0];
        assert_eq!(torque != 0.0, tick <= 55, "{torque} at tick {tick}");
        assert_eq!(filter.is_at_rest(), torque == 0.0);
        velocity += 0.02 * torque;
        assert!((0.0..=1.0).contains(&velocity), "{velocity} at tick {tick}");
    }
}

#[test]
fn joints_that_are_old_or_of_the_future_are_none() {
    let max_age = Duration::from_millis(100);
    let (period, safety) = (Duration::from_millis(20), SafetyProfile::default());
    let mut filter = SafetyFilter::with(&[joint(-1.0, 1.0, 1000.0)], period, &safety, Some(max_age));
    for (stamp, now, expected) in [
        (1000, 1000, None),
        (1000, 1100, None),
        (1000, 1101, Some(Hold::NoJointState)),
        (1300, 1200, None),
        (1301, 1200, Some(Hold::NoJointState)),
        (9000, 1300, Some(Hold::NoJointState)),
    ] {
        filter.see(&JointState { stamp: millis(stamp), ..state(0.0, 0.0) }, millis(now));
        let command = filter.filter(millis(now), Some(&action(0.5)));
        assert_eq!(command.verdict().held, expected, "stamp {stamp} at {now}");
    }
}

#[test]
fn a_position_begins_where_the_joint_is() {
    let position = JointProfile { command: CommandKind::PositionRadians, ..joint(-3.0, 3.0, 1.0) };
    let mut filter = SafetyFilter::new(&[position], Duration::from_millis(50));
    filter.see(&state(1.2, 0.0), millis(10));
    assert_eq!(filter.filter(millis(10), Some(&action(2.0))).values(), [1.25]);
    filter.see(&state(f64::NAN, 0.0), millis(20));
    assert_eq!(filter.filter(millis(20), Some(&action(2.0))).verdict().held, Some(Hold::NotFinite));
}

/// What a joint takes, and what it is told before it was ever measured: nothing, if any value would move it.
#[test]
fn nothing_is_commanded_before_it_is_known_where_a_position_is() {
    let positions = JointProfile { command: CommandKind::PositionRadians, home: Some(1.0), ..joint(-3.0, 3.0, 1.0) };
    for safe in [SafeAction::Stop, SafeAction::Hold, SafeAction::ReturnHome] {
        let safety = SafetyProfile { action: safe, workspace: None };
        let joints = [positions.clone(), joint(-1.0, 1.0, 10.0)];
        let mut filter = SafetyFilter::with(&joints, Duration::from_millis(50), &safety, None);
        assert!(filter.last().is_empty() && filter.is_at_rest() && filter.needs_joints());
        let unknown = JointState { stamp: Stamp::default(), positions: vec![f64::NAN, 0.0], velocities: vec![0.0; 2] };
        let wanted = Action { values: vec![2.0, 0.0] };
        for tick in 1..5 {
            let command = match tick {
                1 => filter.hold(millis(tick * 50), Hold::StaleFrame),
                2 => filter.filter(millis(tick * 50), Some(&wanted)),
                3 => filter.filter(millis(tick * 50), None),
                _ => {
                    filter.see(&unknown, millis(tick * 50));
                    filter.filter(millis(tick * 50), Some(&wanted))
                }
            };
            assert!(command.is_empty() && command.verdict().held == Some(Hold::Unmeasured), "{tick}: {command:?}");
        }
        filter.clear();
        filter.see(&JointState { positions: vec![-2.0, 0.0], ..unknown }, millis(9000));
        assert_eq!(filter.filter(millis(9000), Some(&wanted)).values(), [-1.95, 0.0]);
        filter.reset();
        assert!(filter.last().is_empty() && filter.stop(millis(0)).is_empty());
    }
    let mut filter = SafetyFilter::new(&[joint(-1.0, 1.0, 10.0)], Duration::from_millis(50));
    assert_eq!(filter.hold(millis(50), Hold::StaleFrame).values(), [0.0], "no torque moves nothing");
}

/// A joint that follows velocities exactly, two periods late, driven at its limits by a policy that knows none.
#[test]
fn a_velocity_brakes_before_the_joint_limit() {
    let limits =
        PositionLimits { minimum_radians: -1.0, maximum_radians: 1.0, braking_radians_per_second_squared: 5.0 };
    let joint = JointProfile {
        command: CommandKind::VelocityRadiansPerSecond,
        position: Some(limits),
        ..joint(-3.0, 3.0, 5.0)
    };
    let mut filter = SafetyFilter::new(&[joint], Duration::from_millis(20));
    assert!(filter.needs_joints());
    assert_eq!(filter.filter(millis(0), Some(&action(1.0))).verdict().held, Some(Hold::NoJointState));
    let (mut position, mut in_flight, mut furthest): (f64, [f64; 2], f64) = (0.0, [0.0; 2], 0.0);
    for tick in 1..2000_u64 {
        filter.see(&state(position, in_flight[0]), millis(20 * tick));
        let wanted = if (tick / 150) % 2 == 0 { 9.0 } else { -9.0 };
        let command = filter.filter(millis(20 * tick), Some(&action(wanted))).values()[0];
        position += 0.02 * in_flight[0];
        in_flight = [in_flight[1], command];
        furthest = furthest.max(position.abs());
        assert!(position.abs() <= 1.0, "{position} at tick {tick}");
    }
    assert!(furthest > 0.9, "it uses its room: {furthest}");
}

#[test]
fn a_torque_towards_a_near_limit_is_taken_away() {
    let limits =
        PositionLimits { minimum_radians: -1.0, maximum_radians: 1.0, braking_radians_per_second_squared: 5.0 };
    let joint = JointProfile { position: Some(limits), ..joint(-1.0, 1.0, 1000.0) };
    let mut filter = SafetyFilter::new(&[joint], Duration::from_millis(20));
    for (tick, (position, velocity, wanted, expected)) in [
        (0.0, 0.0, 0.7, 0.7),
        (0.9, 2.0, 0.7, 0.0),
        (0.9, 2.0, -0.7, -0.7),
        (0.9, -2.0, 0.7, 0.7),
        (1.1, 0.0, 0.7, 0.0),
        (-0.95, -1.0, -0.7, 0.0),
    ]
    .into_iter()
    .enumerate()
    {
        filter.see(&state(position, velocity), Stamp::default());
        let command = filter.filter(millis(20 * (tick as u64 + 1)), Some(&action(wanted)));
        assert_eq!(command.values(), [expected], "{position} {velocity}");
        assert_eq!(command.verdict().num_position_limited, u32::from(expected != wanted));
    }
}
