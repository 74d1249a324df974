//! No random tick, joint, profile or safe action leads to a command outside a limit.

use proptest::prelude::*;

use super::*;

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![proptest::num::f64::ANY, -2.0..2.0, Just(f64::NAN), Just(f64::MAX), Just(-0.0)]
}

#[derive(Clone, Debug)]
enum Tick {
    See(Vec<f64>),
    Filter(u64, Vec<f64>),
    Hold(u64),
    Clear,
    Reset,
    Stop(u64),
}

fn any_tick() -> impl Strategy<Value = Tick> {
    // Mostly forward; sometimes far, or back.
    let stamp = || prop_oneof![8 => 0_u64..100_000_000, 1 => proptest::num::u64::ANY];
    prop_oneof![
        12 => (stamp(), prop::collection::vec(-3.0..3.0, 2)).prop_map(|(step, values)| Tick::Filter(step, values)),
        1 => (stamp(), prop::collection::vec(any_value(), 0..4)).prop_map(|(step, values)| Tick::Filter(step, values)),
        3 => prop::collection::vec(-3.0..3.0, 2).prop_map(Tick::See),
        2 => stamp().prop_map(Tick::Hold),
        1 => Just(Tick::Clear),
        1 => Just(Tick::Reset),
        1 => stamp().prop_map(Tick::Stop),
    ]
}

fn any_kind() -> impl Strategy<Value = CommandKind> {
    prop_oneof![
        Just(CommandKind::PositionRadians),
        Just(CommandKind::VelocityRadiansPerSecond),
        Just(CommandKind::TorqueNewtonMetres)
    ]
}

fn any_joint() -> impl Strategy<Value = JointProfile> {
    let optional = |range: std::ops::Range<f64>| prop::option::of(range);
    (any_kind(), -2.0..0.5_f64, 0.1..3.0_f64, 0.01..50.0_f64, optional(0.1..500.0), optional(1.0..1e5)).prop_map(
        |(command, minimum, width, rate, acceleration, jerk)| JointProfile {
            command,
            max_acceleration_per_second_squared: acceleration,
            max_jerk_per_second_cubed: acceleration.and(jerk),
            ..joint(minimum, minimum + width, rate)
        },
    )
}

fn any_action() -> impl Strategy<Value = SafeAction> {
    use SafeAction::{Damp, Hold, ReturnHome, Stop};
    prop_oneof![Just(Hold), Just(Damp), Just(Stop), Just(ReturnHome)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_comes_every_limit_holds_at_once(
        joints in prop::collection::vec(any_joint(), 2),
        safe in any_action(),
        ticks in prop::collection::vec(any_tick(), 1..60),
    ) {
        let period = Duration::from_millis(20);
        let safety = SafetyProfile { action: safe, workspace: None };
        let mut filter = SafetyFilter::with(&joints, period, &safety, None);
        let mut judge = Judge::new(&joints);
        let (mut now, mut last, mut measured) = (0_u64, None::<u64>, None::<&Vec<f64>>);
        for tick in &ticks {
            let step = match tick {
                Tick::Filter(step, _) | Tick::Hold(step) | Tick::Stop(step) => *step,
                Tick::See(positions) => {
                    let stamp = Stamp::default();
                    let joints = JointState { stamp, positions: positions.clone(), velocities: vec![0.0; 2] };
                    filter.see(&joints, stamp);
                    measured = Some(positions);
                    continue;
                }
                Tick::Clear => {
                    if filter.state() == (SafetyState::Stopped { reason: Hold::NotFinite }) {
                        measured = None;
                    }
                    filter.clear();
                    continue;
                }
                Tick::Reset => {
                    filter.reset();
                    judge.forget();
                    (last, measured) = (None, None);
                    continue;
                }
            };
            now = now.wrapping_add(step);
            let moment = Stamp { nanos: now };
            let command = match tick {
                Tick::Filter(_, values) => {
                    let action = Action { values: values.clone() };
                    filter.filter(moment, Some(&action)).clone()
                }
                Tick::Hold(_) => filter.hold(moment, Hold::StaleFrame).clone(),
                _ => filter.stop(moment).clone(),
            };
            let has_positions = joints.iter().any(|joint| is_position(joint.command));
            prop_assert_eq!(command.is_empty(), has_positions && last.is_none() && measured.is_none());
            if command.is_empty() {
                continue;
            }
            if let (None, Some(measured)) = (last, measured) {
                judge.begin(measured);
            }
            let granted = last.map_or(period, |last| Duration::from_nanos(now.saturating_sub(last)).min(2 * period));
            last = Some(now);
            let judged = judge.look(&command, granted.as_secs_f64());
            prop_assert!(judged.is_ok(), "{}", judged.unwrap_err());
        }
    }

    #[test]
    fn limits_that_are_none_do_no_harm(
        limits in prop::collection::vec((any_value(), any_value(), any_value()), 2),
        values in prop::collection::vec(any_value(), 2),
    ) {
        let joints: Vec<_> = limits.iter().map(|(low, high, rate)| joint(*low, *high, *rate)).collect();
        let mut filter = SafetyFilter::new(&joints, Duration::from_millis(20));
        for tick in 0..5 {
            let command = filter.filter(millis(tick * 20), Some(&Action { values: values.clone() }));
            prop_assert!(command.values().iter().all(|value| value.is_finite()));
        }
    }
}

/// A small xorshift: a million ticks must not wait for a better one.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A planar arm of two links in a box that cuts into its reach; positions with every limit.
fn arm() -> DeviceProfile {
    let head = "inherit = \"desktop-cpu\"\nrobot = \"arm\"\n[camera]\nname = \"c\"\nwidth = 8\nheight = 8\nencoding = \"rgb8\"\n\
        [pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n\
        [safety]\naction = \"return_home\"\n[safety.workspace]\nminimum_metres = [-0.2, -0.5, 0.0]\nmaximum_metres = [0.7, 0.5, 0.4]\n\
        tool_metres = [0.3, 0.0, 0.0]\n";
    let joint = |name: &str, x: f64, home: f64| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"position_radians\"\nminimum = -2.5\nmaximum = 2.5\nhome = {home}\n\
             max_rate_per_second = 3.0\nmax_acceleration_per_second_squared = 20.0\nmax_jerk_per_second_cubed = 400.0\n\
             axis = [0.0, 0.0, 1.0]\norigin_metres = [{x}, 0.0, 0.1]\n"
        )
    };
    parse("arm", &format!("{head}{}{}", joint("shoulder", 0.0, 0.5), joint("elbow", 0.5, -1.5))).unwrap()
}

#[test]
fn no_command_of_a_million_random_ticks_is_outside_a_limit() {
    let profile = arm();
    let workspace = workspace::Workspace::new(profile.safety.workspace.as_ref().unwrap(), &profile.joints).unwrap();
    let mut filter = SafetyFilter::of(&profile);
    let mut judge = Judge::new(&profile.joints);
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    let (mut now, mut target, mut num_held, mut num_boxed) = (0_u64, [0.0, 0.0], 0, 0);
    let (mut furthest, mut turned, mut angles): (f64, f64, _) = (0.0, 0.0, vec![0.5, -1.5]);
    for tick in 0..1_000_000_u64 {
        if noise.share() < 0.02 {
            target = [noise.share() * 8.0 - 4.0, noise.share() * 8.0 - 4.0];
        }
        let step = if tick == 0 { 20_000_000 } else { 1_000_000 + noise.next() % 39_000_000 };
        now += step;
        let (stamp, chance) = (Stamp { nanos: now }, noise.share());
        filter.see(&JointState { stamp, positions: angles.clone(), velocities: vec![0.0; 2] }, stamp);
        let command = match chance {
            chance if chance < 0.001 => filter.filter(stamp, Some(&Action { values: vec![f64::NAN, 0.0] })),
            chance if chance < 0.01 => filter.hold(stamp, Hold::StaleFrame),
            chance if chance < 0.02 => filter.filter(stamp, None),
            _ => filter.filter(stamp, Some(&Action { values: target.to_vec() })),
        };
        num_held += u64::from(command.verdict().held.is_some());
        num_boxed += u64::from(command.verdict().num_position_limited > 0);
        if let Err(problem) = judge.look(command, step as f64 * 1e-9) {
            panic!("tick {tick}: {problem}");
        }
        turned += (command.values()[0] - angles[0]).abs();
        angles = command.values().to_vec();
        assert!(workspace.contains(angles.iter().copied(), 0.0, None), "tick {tick}: {angles:?} leaves the box");
        furthest = furthest.max(workspace.tool(&angles).x);
        if noise.share() < 0.01 {
            filter.clear();
        }
    }
    assert!(num_held > 10_000 && num_boxed > 10_000, "{num_held} held, {num_boxed} kept in the box");
    // The poses looked at are some way apart, and what lies between is kept free.
    assert!(furthest > 0.65 && turned > 1000.0, "it uses the box: {furthest} m, {turned} rad");
}
