//! The loop at a fixed pace, played step by step on a driven clock.
#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

mod reflex;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use foresee_firmware_config::{DeviceProfile, Pace};
use foresee_runtime::{
    Action, Clock, CommandRecorder, ControlLoop, Encoder, EncoderInput, Ends, EngineReport, Episode, Features,
    FrameSource, Hold, ModelCard, ModelPair, Observation, RawPixels, RuntimeError, SourceEvent, Stamp, SwapNews,
    swappable,
};

use self::reflex::{Reflex, observe, profile, spoil};

/// A loop, and the clock that it goes by.
fn driven(
    profile: &DeviceProfile,
    misbehave: fn(u64, &mut Action) -> Result<(), RuntimeError>,
) -> (ControlLoop, Clock) {
    let clock = Clock::driven();
    let policy = Box::new(Reflex { num_acts: 0, misbehave });
    let control = ControlLoop::new(Box::new(RawPixels::new(8, 8)), policy, profile).unwrap();
    (control.with_clock(clock.clone()), clock)
}

#[test]
fn at_a_fixed_pace_an_old_frame_is_held() {
    let pace = Pace::Fixed { rate_hertz: 50.0, max_frame_age_millis: 100 };
    let (mut control, clock) = driven(&DeviceProfile { pace, ..profile() }, |_, _| Ok(()));
    let mut observation = Observation::blank(128, 128, 2);
    for (age_millis, expected) in
        [(0, None), (100, None), (101, Some(Hold::StaleFrame)), (5000, Some(Hold::StaleFrame))]
    {
        // A black frame would be refused for that.
        observe(&mut observation, 1);
        observation.frame.stamp = Stamp { nanos: 10_000_000_000 };
        observation.joints.stamp = observation.frame.stamp;
        clock.advance(Stamp { nanos: 10_000_000_000 + age_millis * 1_000_000 });
        assert_eq!(control.tick(&observation).verdict.held, expected, "{age_millis} ms old");
    }
}

/// What comes, and at which millisecond.
#[derive(Clone, Copy)]
enum Step {
    /// A frame, with every joint at this position.
    Frame(f64),
    Nothing,
    NewEpisode,
}

/// Plays steps on a driven clock.
struct Script<'a>(std::slice::Iter<'a, (u64, Step)>, Clock);

impl FrameSource for Script<'_> {
    fn next(&mut self, observation: &mut Observation, _timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let Some(&(now_millis, step)) = self.0.next() else { return Ok(SourceEvent::Finished) };
        let now = Stamp { nanos: now_millis * 1_000_000 };
        self.1.advance(now);
        Ok(match step {
            Step::Frame(position) => {
                observe(observation, now_millis);
                (observation.frame.stamp, observation.joints.stamp) = (now, now);
                observation.joints.positions.fill(position);
                SourceEvent::Observed
            }
            Step::Nothing => SourceEvent::TimedOut,
            Step::NewEpisode => SourceEvent::EpisodeStarted(Episode::default()),
        })
    }

    fn num_dropped(&self) -> u64 {
        0
    }
}

/// What a run at a fixed pace of 50 Hz, with frames of at most 250 ms, sent while these steps came: values and stamps' milliseconds.
fn play(
    more: &str,
    misbehave: fn(u64, &mut Action) -> Result<(), RuntimeError>,
    steps: &[(u64, Step)],
) -> Vec<(u64, Vec<f64>)> {
    let pace = "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 250\n";
    let profile =
        foresee_firmware_config::parse("mine.toml", &format!("inherit = \"desktop-sim\"\n{pace}{more}")).unwrap();
    let (mut control, clock) = driven(&profile, misbehave);
    let mut actuator = CommandRecorder::default();
    let mut source = Script(steps.iter(), clock);
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    foresee_runtime::run(ends, &mut control, &AtomicBool::new(false), &mut |_| Ok(())).unwrap();
    let commands = actuator.commands.into_iter();
    commands.map(|command| (command.stamp.nanos / 1_000_000, command.values)).collect()
}

fn joints(command: &str, more: &str) -> String {
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"{command}\"\nminimum = -3.0\nmaximum = 3.0\nmax_rate_per_second = 1.0\n{more}"
        )
    };
    format!("{}{}", joint("shoulder"), joint("wrist"))
}

#[test]
fn at_a_fixed_pace_the_joints_are_held_without_frames_and_stopped_at_the_end() {
    let steps = [(1000, Step::Frame(0.3)), (1300, Step::Nothing), (1400, Step::Nothing)];
    let sent = play("", |_, _| Ok(()), &steps);
    let [first, rest @ ..] = sent.as_slice() else { panic!("{sent:?}") };
    assert!(first.1.iter().all(|value| *value != 0.0), "{sent:?}");
    assert_eq!(rest.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1300, 1400, 1400], "held twice, then stopped");
    assert!(rest.iter().all(|(_, values)| values == &[0.0, 0.0]), "{sent:?}");
}

#[test]
fn positions_are_commanded_from_where_they_are_and_never_before_that_is_known() {
    let positions = joints("position_radians", "home = 1.0\n");
    let early = [(1000, Step::Nothing), (1100, Step::Nothing)];
    assert_eq!(play(&positions, |_, _| Ok(()), &early), [], "not even a stop at the end");
    let late = [early.as_slice(), &[(1200, Step::Frame(-2.0)), (1220, Step::Frame(-2.0))]].concat();
    let sent = play(&positions, |_, _| Ok(()), &late);
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert!(sent.iter().all(|(_, values)| values.iter().all(|value| (value + 2.0).abs() < 0.1)), "{sent:?}");
}

/// The policy acts on the joints, so that a robot that says no more of them is held, whatever limits it has.
#[test]
fn at_a_fixed_pace_joints_that_are_old_or_of_the_future_are_held() {
    let pace = Pace::Fixed { rate_hertz: 50.0, max_frame_age_millis: 100 };
    let (mut control, clock) = driven(&DeviceProfile { pace, ..profile() }, |_, _| Ok(()));
    let mut observation = Observation::blank(128, 128, 2);
    let now = Stamp { nanos: 10_000_000_000 };
    clock.advance(now);
    for (millis, expected) in [
        (9_900, None),
        (9_899, Some(Hold::NoJointState)),
        (10_100, None),
        (10_101, Some(Hold::NoJointState)),
        (90_000, Some(Hold::NoJointState)),
    ] {
        observe(&mut observation, 1);
        (observation.frame.stamp, observation.joints.stamp) = (now, Stamp { nanos: millis * 1_000_000 });
        assert_eq!(control.tick(&observation).verdict.held, expected, "joints of {millis} ms");
    }
}

/// A robot says that an episode begins: its joints are where they were, and so is a fault.
#[test]
fn at_a_fixed_pace_limits_and_faults_outlast_an_episode() {
    let torques = joints("torque_newton_metres", "");
    let steps: Vec<_> = (0..100).map(|tick| (1000 + 20 * tick, Step::Frame(-9.0))).collect();
    let sent = play(&torques, |_, _| Ok(()), &[&steps[..50], &[(1980, Step::NewEpisode)], &steps[50..]].concat());
    assert_eq!(sent.len(), 101, "one a frame, and the stop");
    assert!(
        sent.iter().take(100).zip(1..).all(|((_, values), tick)| (values[0] - 0.02 * f64::from(tick)).abs() < 1e-9),
        "{sent:?}"
    );

    let once = |tick, action: &mut Action| spoil(tick, || action.values[0] = f64::NAN);
    let steps: Vec<_> = (0..10).map(|tick| (1000 + 20 * tick, Step::Frame(-9.0))).collect();
    let sent = play(&torques, once, &[&steps[..7], &[(1130, Step::NewEpisode)], &steps[7..]].concat());
    let falling = sent.windows(2).skip(4).all(|pair| pair[1].1[0] < pair[0].1[0] || pair[1].1[0] == 0.0);
    assert!(falling && sent[4].1[0] > 0.0, "{sent:?}");
}

/// Frames may be 250 ms old, and come every 200 ms: nothing is held between them.
#[test]
fn a_slow_camera_is_waited_for_as_long_as_its_frames_may_be_old() {
    let beat = |at| [(at, Step::Frame(0.3)), (at + 100, Step::Nothing), (at + 199, Step::Nothing)];
    let mut steps: Vec<_> = (0..10).flat_map(|beat_idx| beat(1000 + 200 * beat_idx)).collect();
    let sent = play("", |_, _| Ok(()), &steps);
    assert_eq!(sent.len(), 11, "one a frame, and the stop: {sent:?}");
    assert!(sent[..10].iter().all(|(_, values)| values[0] != 0.0), "{sent:?}");
    steps.push((3051, Step::Nothing));
    let sent = play("", |_, _| Ok(()), &steps);
    assert_eq!((sent.len(), sent[10].1[0]), (12, 0.0), "older than it may be, it is held: {sent:?}");
}

/// Counts what it encodes.
struct Counted(RawPixels, Arc<AtomicU64>);

impl Encoder for Counted {
    fn card(&self) -> &ModelCard {
        self.0.card()
    }

    fn report(&self) -> &EngineReport {
        self.0.report()
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.encode(input, features)
    }
}

fn slow_encoder() -> DeviceProfile {
    let more =
        "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 250\n[rates]\nencode_every_ticks = 4\n";
    foresee_firmware_config::parse("mine.toml", &format!("inherit = \"desktop-sim\"\n{more}")).unwrap()
}

/// After frames were missing, what was seen before says nothing any more: the first tick looks, whoever's turn it is.
#[test]
fn after_a_gap_the_encoder_looks_anew() {
    let num_encodes = Arc::<AtomicU64>::default();
    let encoder = Box::new(Counted(RawPixels::new(8, 8), Arc::clone(&num_encodes)));
    let policy = Box::new(Reflex { num_acts: 0, misbehave: |_, _| Ok(()) });
    let clock = Clock::driven();
    let mut control = ControlLoop::new(encoder, policy, &slow_encoder()).unwrap().with_clock(clock.clone());
    let steps = [
        (1000, Step::Frame(0.3)),
        (1020, Step::Frame(0.3)),
        (5000, Step::Nothing),
        (9000, Step::Frame(0.3)),
        (9020, Step::Frame(0.3)),
        (9040, Step::Frame(0.3)),
        (9060, Step::Frame(0.3)),
        (9080, Step::Frame(0.3)),
    ];
    let (mut actuator, mut source) = (CommandRecorder::default(), Script(steps.iter(), clock));
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    let mut counts = Vec::new();
    let mut listen = |_: foresee_runtime::LoopEvent<'_>| {
        counts.push(num_encodes.load(Ordering::Relaxed));
        Ok(())
    };
    foresee_runtime::run(ends, &mut control, &AtomicBool::new(false), &mut listen).unwrap();
    assert_eq!(counts, [1, 1, 1, 2, 2, 2, 2, 3]);
}

/// An inference that took long: the features are as old as its frame, and the next frame is looked at whatever the rates.
#[test]
fn after_a_slow_inference_the_encoder_looks_anew() {
    struct Slow(Counted, Clock);
    impl Encoder for Slow {
        fn card(&self) -> &ModelCard {
            self.0.card()
        }

        fn report(&self) -> &EngineReport {
            self.0.report()
        }

        fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
            if self.0.1.load(Ordering::Relaxed) == 0 {
                self.1.advance(Stamp { nanos: self.1.now().nanos + 2_000_000_000 });
            }
            self.0.encode(input, features)
        }
    }
    let (clock, num_encodes) = (Clock::driven(), Arc::<AtomicU64>::default());
    let encoder = Slow(Counted(RawPixels::new(8, 8), Arc::clone(&num_encodes)), clock.clone());
    let policy = Box::new(Reflex { num_acts: 0, misbehave: |_, _| Ok(()) });
    let mut control = ControlLoop::new(Box::new(encoder), policy, &slow_encoder()).unwrap().with_clock(clock.clone());
    let mut observation = Observation::blank(128, 128, 2);
    let mut tick = |number: u64| {
        observe(&mut observation, number);
        clock.advance(observation.frame.stamp);
        (control.tick(&observation).verdict.held, num_encodes.load(Ordering::Relaxed))
    };
    assert_eq!(tick(50), (Some(Hold::StaleFrame), 1));
    assert_eq!([tick(200), tick(201), tick(202)], [(None, 2), (None, 2), (None, 2)]);
}

/// Models that fail between two encodes: the old ones are back in the next tick, and the robot moves on.
#[test]
fn models_that_fail_between_encodes_are_not_waited_for() {
    let pair = |misbehave| ModelPair {
        encoder: Box::new(RawPixels::new(8, 8)),
        policy: Box::new(Reflex { num_acts: 0, misbehave }),
    };
    let (ModelPair { encoder, policy }, swap) = swappable(pair(|_, _| Ok(())));
    let clock = Clock::driven();
    let mut control = ControlLoop::new(encoder, policy, &slow_encoder()).unwrap().with_clock(clock.clone());
    let mut observation = Observation::blank(128, 128, 2);
    let mut tick = |control: &mut ControlLoop, number: u64| {
        observe(&mut observation, 50 + number);
        clock.advance(observation.frame.stamp);
        control.tick(&observation).verdict.held
    };
    assert_eq!(tick(&mut control, 0), None);
    let broken = |act: u64, _: &mut Action| match act {
        1 => Err(RuntimeError::Inference { model: "new".to_owned(), problem: "broken".to_owned() }),
        _ => Ok(()),
    };
    swap.offer(pair(broken)).unwrap();
    let held: Vec<_> = (1..10).map(|number| tick(&mut control, number)).collect();
    // Taken at tick 4, they fail at tick 5.
    let expected: Vec<_> = (1..10).map(|number| (number == 5).then_some(Hold::StageFailed)).collect();
    assert_eq!(held, expected);
    let news = swap.news();
    assert!(matches!(news.as_slice(), [SwapNews::Switched(_), SwapNews::Back { .. }]), "{news:?}");
}
