//! What the filter does of what is measured: damping, silence, joint limits, the box, the latch.

use foresee_firmware_config::{JointLink, WorkspaceProfile};
use proptest::prelude::*;

use super::*;
use crate::time::Clock;

const PERIOD: Duration = Duration::from_millis(20);
const MAX_AGE: Duration = Duration::from_millis(100);

fn filter(joint: JointProfile, action: SafeAction) -> SafetyFilter {
    SafetyFilter::with(&[joint], PERIOD, &SafetyProfile { action, workspace: None }, Some(MAX_AGE))
}

fn measured(stamp: Stamp, position: f64, velocity: f64) -> JointState {
    JointState { stamp, ..state(position, velocity) }
}

/// A position that may turn by one radian a second.
fn position() -> JointProfile {
    JointProfile { command: CommandKind::PositionRadians, ..joint(-3.0, 3.0, 1.0) }
}

fn damped() -> JointProfile {
    JointProfile { damping_per_radian_per_second: 2.0, ..joint(-4.0, 4.0, 1000.0) }
}

/// A joint of 1 kg m2 whose measured velocity goes on coming: it is damped for as long as it moves.
#[test]
fn what_is_measured_is_damped_until_it_is_still() {
    let mut filter = filter(damped(), SafeAction::Damp);
    let mut velocity = 1.0;
    let mut tick = |filter: &mut SafetyFilter, tick: u64, is_stopped: bool| {
        filter.see(&measured(millis(20 * tick), 0.0, velocity), millis(20 * tick));
        let command = match is_stopped {
            true => filter.stop(millis(20 * tick)),
            false => filter.hold(millis(20 * tick), Hold::StaleFrame),
        };
        let torque = command.values()[0];
        assert!((torque == -2.0 * velocity) || torque == 0.0, "{torque} of {velocity} at tick {tick}");
        velocity += 0.02 * torque;
        (torque, velocity)
    };
    let mut slowed = 1.0;
    for number in 50..250 {
        let (torque, velocity) = tick(&mut filter, number, false);
        assert!(torque < 0.0 && velocity < slowed, "held at tick {number}");
        slowed = velocity;
    }
    assert!(slowed < 1e-3, "{slowed}");
    assert!(!filter.is_at_rest());
    tick(&mut filter, 250, true);
    assert!(filter.is_at_rest(), "what is still is let go");
}

/// A load that goes on sinking at a steady speed.
#[test]
fn a_stop_for_good_ends_although_a_load_sinks() {
    let mut filter = filter(damped(), SafeAction::Damp);
    let mut last_damped = 0;
    for tick in 50..400 {
        filter.see(&measured(millis(20 * tick), 0.0, -0.5), millis(20 * tick));
        if filter.stop(millis(20 * tick)).values()[0] > 0.0 {
            last_damped = tick;
        }
    }
    assert_eq!(last_damped, 50 + 100, "two seconds");
    assert!(filter.is_at_rest() && filter.longest_stop() >= LONGEST_DAMPING);
}

/// A driver that is switched off and on again, its arm sagged meanwhile.
#[test]
fn a_robot_that_was_silent_is_measured_again() {
    for (found, expected) in [(-0.5, -0.48), (1.06, 1.04), (0.98, 1.04), (1.08, 1.1)] {
        let mut filter = filter(position(), SafeAction::Stop);
        filter.see(&measured(millis(1000), 1.0, 0.0), millis(1000));
        assert_eq!(filter.filter(millis(1000), Some(&action(2.0))).values(), [1.02]);
        // It stays where it was commanded to be while the silence may be an accident.
        assert_eq!(filter.hold(millis(1100), Hold::StaleFrame).values(), [1.02]);
        assert_eq!(filter.hold(millis(1101), Hold::StaleFrame).values(), [1.02]);
        assert_eq!(filter.hold(millis(1201), Hold::StaleFrame).values(), [1.02]);
        for tick in [1202, 1300, 1500] {
            let command = filter.hold(millis(tick), Hold::StaleFrame);
            assert!(command.is_empty() && command.verdict().held == Some(Hold::Unmeasured), "{command:?}");
        }
        assert!(filter.is_at_rest());
        filter.see(&measured(millis(1600), found, 0.0), millis(1600));
        let values = filter.filter(millis(1600), Some(&action(2.0))).values().to_vec();
        assert!((values[0] - expected).abs() < 1e-12, "found at {found}: {values:?}");
    }
}

/// An arm of which one joint takes torques: what holds it is said as long as nothing is heard, and its position begins anew after.
#[test]
fn a_silent_arm_of_two_kinds_is_told_to_rest_all_the_while() {
    let joints = [position(), joint(-1.0, 1.0, 1000.0)];
    let safety = SafetyProfile { action: SafeAction::Hold, workspace: None };
    let mut filter = SafetyFilter::with(&joints, PERIOD, &safety, Some(MAX_AGE));
    let measured = |at: u64, position: f64| {
        (JointState { stamp: millis(at), positions: vec![position, 0.0], velocities: vec![0.0; 2] }, millis(at))
    };
    let see = |filter: &mut SafetyFilter, (joints, now): (JointState, Stamp)| filter.see(&joints, now);
    see(&mut filter, measured(1000, 1.0));
    let wanted = Action { values: vec![2.0, 0.5] };
    assert_eq!(filter.filter(millis(1000), Some(&wanted)).values(), [1.02, 0.5]);
    for tick in (1020..3000).step_by(20) {
        assert_eq!(filter.hold(millis(tick), Hold::StaleFrame).values(), [1.02, 0.5]);
    }
    see(&mut filter, measured(3000, -0.5));
    assert_eq!(filter.hold(millis(3000), Hold::StaleFrame).values(), [-0.5, 0.5]);
    assert_eq!(filter.filter(millis(3020), Some(&wanted)).values(), [-0.48, 0.5]);
}

/// The first joint state after a silence comes a moment after the last command: what goes on has had no period to change in.
#[test]
fn an_arm_of_two_kinds_that_is_measured_again_keeps_its_rates() {
    let joints = [position(), joint(-1.0, 1.0, 10.0)];
    let safety = SafetyProfile { action: SafeAction::Hold, workspace: None };
    let mut filter = SafetyFilter::with(&joints, PERIOD, &safety, Some(MAX_AGE));
    let measured = |at| JointState { stamp: millis(at), positions: vec![1.0, 0.0], velocities: vec![0.0; 2] };
    filter.see(&measured(1000), millis(1000));
    filter.hold(millis(1000), Hold::StaleFrame);
    (1020..2000).step_by(20).for_each(|tick| drop(filter.hold(millis(tick), Hold::StaleFrame).clone()));
    let last = filter.last().time();
    filter.see(&measured(1981), millis(1981));
    let torque = filter.filter(millis(1981), Some(&Action { values: vec![1.0, 0.5] })).values()[1];
    assert!(last == millis(1980) && torque <= 10.0 * 0.001 + 1e-12, "{torque} in 1 ms");
}

#[test]
fn a_silent_joint_that_moves_is_brought_to_rest_first() {
    let joint = JointProfile { max_acceleration_per_second_squared: Some(2.0), ..position() };
    let mut filter = filter(joint, SafeAction::Stop);
    for tick in 50..80 {
        filter.see(&measured(millis(20 * tick), 0.0, 0.0), millis(20 * tick));
        filter.filter(millis(20 * tick), Some(&action(3.0)));
    }
    let fast = filter.last().values()[0];
    let (mut last, mut num_moved) = (fast, 0);
    for tick in 90..200 {
        let command = filter.hold(millis(20 * tick), Hold::StaleFrame);
        let Some(value) = command.values().first() else { break };
        num_moved += u32::from(*value > last);
        last = *value;
    }
    assert!(num_moved > 5 && filter.last().is_empty(), "{num_moved} {fast} {last}");
}

/// The first joint state that a process hears may be an old one.
#[test]
fn a_joint_state_from_before_the_process_is_old() {
    let mut filter = filter(position(), SafeAction::Stop);
    let now = Moment { stamp: millis(1_000_000), time: Clock::Monotonic.now() };
    filter.see(&measured(millis(990_000), 1.0, 0.0), now);
    assert!(filter.filter(now, Some(&action(1.0))).is_empty());
    filter.see(&measured(millis(999_950), 1.0, 0.0), now);
    assert_eq!(filter.filter(now, Some(&action(1.0))).values(), [1.0]);
}

fn limits(minimum_radians: f64, width: f64, braking: f64) -> PositionLimits {
    let maximum_radians = minimum_radians + width;
    PositionLimits { minimum_radians, maximum_radians, braking_radians_per_second_squared: braking }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// A joint that follows velocities exactly, two periods late, and keeps the braking that the profile says, never leaves its room.
    #[test]
    fn no_velocity_leads_out_of_a_joints_limits(
        (minimum, width, braking) in (-2.0..0.0_f64, 0.5..4.0_f64, 0.5..20.0_f64),
        wanted in prop::collection::vec(-9.0..9.0_f64, 1..12),
        share in 0.05..0.95_f64,
    ) {
        let room = limits(minimum, width, braking);
        let joint = JointProfile {
            command: CommandKind::VelocityRadiansPerSecond,
            position: Some(room),
            ..joint(-3.0, 3.0, braking)
        };
        let mut filter = SafetyFilter::new(&[joint], PERIOD);
        let (mut position, mut in_flight): (f64, [f64; 2]) = (minimum + share * width, [0.0; 2]);
        for tick in 0..600_u64 {
            let wanted = wanted[(tick / 50) as usize % wanted.len()];
            filter.see(&state(position, in_flight[0]), millis(20 * tick));
            let command = filter.filter(millis(20 * tick), Some(&action(wanted))).values()[0];
            position += 0.02 * in_flight[0];
            in_flight = [in_flight[1], command];
            let is_inside = (room.minimum_radians..=room.maximum_radians).contains(&position);
            prop_assert!(is_inside, "{position} at tick {tick} of {room:?}");
        }
    }

    /// A torque towards a limit within braking distance is gone, one away from it stays, and no other is touched.
    #[test]
    fn no_torque_pushes_towards_a_limit_that_is_near(
        (minimum, width, braking) in (-2.0..0.0_f64, 0.5..4.0_f64, 0.5..20.0_f64),
        (share, velocity, wanted) in (-0.2..1.2_f64, -6.0..6.0_f64, -1.0..1.0_f64),
    ) {
        let room = limits(minimum, width, braking);
        let joint = JointProfile { position: Some(room), ..joint(-1.0, 1.0, 1e6) };
        let mut filter = SafetyFilter::new(&[joint], PERIOD);
        let position = minimum + share * width;
        filter.see(&state(position, velocity), Stamp::default());
        let torque = filter.filter(millis(20), Some(&action(wanted))).values()[0];
        prop_assert!(torque == wanted || torque == 0.0, "{torque} of {wanted}");
        let stop = position + velocity * velocity.abs() / (2.0 * braking);
        if (stop >= room.maximum_radians && velocity >= 0.0) || position >= room.maximum_radians {
            prop_assert!(torque <= 0.0, "{torque} towards the top, {position} {velocity} {room:?}");
        }
        if (stop <= room.minimum_radians && velocity <= 0.0) || position <= room.minimum_radians {
            prop_assert!(torque >= 0.0, "{torque} towards the bottom, {position} {velocity} {room:?}");
        }
        let delay = velocity * 2.0 * 0.02;
        let (low, high) = (room.minimum_radians.max(0.0 - 1e9), room.maximum_radians);
        if (stop + delay) < high && (stop + delay) > low && position < high && position > low {
            prop_assert_eq!(torque, wanted);
        }
    }

    /// After anything that is not a number, nothing is followed until the fault is cleared.
    #[test]
    fn a_fault_stays_until_it_is_cleared(
        bad in prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY)],
        is_joint in any::<bool>(),
        wanted in prop::collection::vec(-1.0..1.0_f64, 1..20),
    ) {
        let mut filter = SafetyFilter::new(&[joint(-1.0, 1.0, 1e6)], PERIOD);
        filter.see(&state(if is_joint { bad } else { 0.0 }, 0.0), millis(0));
        filter.filter(millis(20), Some(&action(if is_joint { 0.5 } else { bad })));
        for (tick, wanted) in (2..).zip(&wanted) {
            filter.see(&state(0.0, 0.0), millis(20 * tick));
            let command = filter.filter(millis(20 * tick), Some(&action(*wanted)));
            prop_assert_eq!((command.values(), command.verdict().held), (&[0.0][..], Some(Hold::NotFinite)));
        }
        filter.clear();
        filter.see(&state(0.0, 0.0), millis(5000));
        let command = filter.filter(millis(5000), Some(&action(0.5)));
        prop_assert_eq!((command.values(), command.verdict().held), (&[0.5][..], None));
    }

    /// Chains of two or three links about random axes, of positions, in a box about a pose of theirs: no commanded pose leaves it.
    #[test]
    fn no_chain_of_positions_leaves_its_box(
        links in prop::collection::vec((0..3_usize, 0.1..0.6_f64, -1.5..1.5_f64), 2..4),
        (room, tool) in (0.05..0.6_f64, 0.05..0.3_f64),
        targets in prop::collection::vec(prop::collection::vec(-2.5..2.5_f64, 3), 1..8),
        (rate, acceleration) in (0.5..6.0_f64, prop::option::of(2.0..60.0_f64)),
    ) {
        let axes = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let joints: Vec<JointProfile> = links.iter().map(|(axis, length, _)| JointProfile {
            command: CommandKind::PositionRadians,
            max_acceleration_per_second_squared: acceleration,
            link: Some(JointLink { axis: axes[*axis], origin_metres: [*length, 0.0, 0.0], origin_radians: [0.0; 3] }),
            ..joint(-2.5, 2.5, rate)
        }).collect();
        let pose: Vec<f64> = links.iter().map(|(_, _, angle)| *angle).collect();
        let free = |minimum_metres, maximum_metres| WorkspaceProfile { minimum_metres, maximum_metres, tool_metres: [tool, 0.0, 0.0] };
        let tip = workspace::Workspace::new(&free([-9.0; 3], [9.0; 3]), &joints).unwrap().tool(&pose);
        let corner = |sign: f64| [tip.x + sign * room, tip.y + sign * room, tip.z + sign * room];
        // Every point of the chain is to be inside, so the box reaches from the base to about the tip.
        let [low, high] = [corner(-1.0).map(|side| side.min(-0.05)), corner(1.0).map(|side| side.max(1.0))];
        let profile = free(low, high);
        let boxed = workspace::Workspace::new(&profile, &joints).unwrap();
        prop_assume!(boxed.contains(pose.iter().copied(), 0.0, None));
        let safety = SafetyProfile { action: SafeAction::Stop, workspace: Some(profile) };
        let mut filter = SafetyFilter::with(&joints, PERIOD, &safety, None);
        let (mut angles, zeros) = (pose, vec![0.0; joints.len()]);
        for tick in 0..200_u64 {
            let stamp = millis(20 * tick);
            filter.see(&JointState { stamp, positions: angles.clone(), velocities: zeros.clone() }, stamp);
            let target = &targets[(tick / 25) as usize % targets.len()];
            let wanted = Action { values: target.iter().take(joints.len()).copied().collect() };
            let command = filter.filter(stamp, Some(&wanted));
            prop_assert!(!command.is_empty());
            angles = command.values().to_vec();
            prop_assert!(boxed.contains(angles.iter().copied(), 0.0, None), "tick {}: {:?}", tick, angles);
        }
    }

    /// Links that take velocities or torques cannot be kept by their commands: outside, or about to be, nothing is followed.
    #[test]
    fn a_chain_that_leaves_its_box_is_held(
        (angle, velocity) in (-2.0..2.0_f64, -3.0..3.0_f64),
        is_torque in any::<bool>(),
    ) {
        let command = if is_torque { CommandKind::TorqueNormalised } else { CommandKind::VelocityRadiansPerSecond };
        let link = JointLink { axis: [0.0, 0.0, 1.0], origin_metres: [0.0; 3], origin_radians: [0.0; 3] };
        let joint = JointProfile { command, position: Some(limits(-3.0, 6.0, 4.0)), link: Some(link), ..joint(-1.0, 1.0, 1e6) };
        let (minimum_metres, maximum_metres) = ([-0.1, -0.3, -0.1], [0.6, 0.3, 0.1]);
        let profile = WorkspaceProfile { minimum_metres, maximum_metres, tool_metres: [0.5, 0.0, 0.0] };
        let boxed = workspace::Workspace::new(&profile, std::slice::from_ref(&joint)).unwrap();
        let safety = SafetyProfile { action: SafeAction::Stop, workspace: Some(profile) };
        let mut filter = SafetyFilter::with(&[joint], PERIOD, &safety, None);
        filter.see(&state(angle, velocity), millis(20));
        let verdict = filter.filter(millis(20), Some(&action(0.1))).verdict();
        let stop = angle + velocity * velocity.abs() / 8.0;
        let is_inside = boxed.contains([angle].into_iter(), 0.0, None) && boxed.contains([stop].into_iter(), 0.0, None);
        prop_assert_eq!(verdict.held, (!is_inside).then_some(Hold::OutsideWorkspace));
    }
}
