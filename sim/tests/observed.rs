//! Gymnasium's semantics: spaces, stacks of frames, held actions, time limits, and every kind of observation.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these helpers run in tests alone")]

use std::path::Path;

use foresee_runtime::{Encoder as _, EncoderInput, Features, Frame, Preprocessor, RawPixels};
use foresee_sim::{
    Assets, Autoreset, Camera, CameraOptions, Channel, Element, Environment, EnvironmentOptions, ObservedEnvironment,
    Quality, Sight, SimError, Textures, Values, VectorEnvironment,
};

const TASK: &str = "table/pick-place";

fn environment(options: EnvironmentOptions) -> Result<Environment, SimError> {
    Environment::with_options(TASK, Assets { native: Path::new("nowhere"), textures: Textures::Full }, options)
}

fn wrist() -> CameraOptions {
    CameraOptions { name: "wrist".to_owned(), width: 24, height: 16, quality: Quality::Fast }
}

fn channel(name: &str, sight: Sight) -> Channel {
    Channel { name: name.to_owned(), sight }
}

fn everything(frame_stack: usize) -> ObservedEnvironment {
    let channels = vec![
        channel("state", Sight::State),
        channel("wrist", Sight::Pixels(wrist())),
        channel("overview", Sight::Pixels(CameraOptions { name: "fixed".to_owned(), ..wrist() })),
        channel("depth", Sight::Depth(wrist())),
        channel("segments", Sight::Segments(wrist())),
        channel("features", Sight::Features(wrist(), Box::new(RawPixels::new(8, 8)))),
    ];
    let environment = environment(EnvironmentOptions::default()).unwrap();
    ObservedEnvironment::new(environment, channels, frame_stack).unwrap_or_else(|error| panic!("{error}"))
}

/// An action that moves the base.
fn action(environment: &ObservedEnvironment) -> Vec<f64> {
    let mut action = environment.environment().physics().control().to_vec();
    action[0] += 0.3;
    action
}

#[test]
fn spaces_say_names_shapes_and_units() {
    let observed = everything(3);
    let rows: Vec<_> = observed
        .spaces()
        .iter()
        .map(|space| (space.name.as_str(), space.shape.as_slice(), space.element, space.unit))
        .collect();
    let expected: [(&str, &[usize], Element, Option<&str>); 6] = [
        ("state", &[3, 26], Element::F64, None),
        ("wrist", &[3, 16, 24, 3], Element::U8, Some("1")),
        ("overview", &[3, 16, 24, 3], Element::U8, Some("1")),
        ("depth", &[3, 16, 24], Element::F32, Some("m")),
        ("segments", &[3, 16, 24, 2], Element::I32, Some("1")),
        ("features", &[3, 9, 24], Element::F32, Some("1")),
    ];
    assert_eq!(rows, expected);
    let [first, .., gripper] = observed.actions() else { panic!("{:?}", observed.actions()) };
    assert_eq!((first.name.as_str(), first.unit, first.minimum, first.maximum), ("base_yaw", "rad", -2.6, 2.6));
    assert_eq!((gripper.name.as_str(), gripper.unit, gripper.maximum), ("gripper", "m", 0.04));
    let parts = &observed.environment().spec().observations;
    assert!(parts.iter().any(|part| part.name == "joint_velocities" && part.unit == Some("rad/s")));
    assert_eq!((Environment::AUTORESET, VectorEnvironment::AUTORESET), (Autoreset::Disabled, Autoreset::NextStep));
}

/// Every frame of every stack after a reset is the first; then each step moves one in. Within bounds, always.
#[test]
fn a_stack_holds_the_latest_frames_oldest_first() {
    let mut stacked = everything(3);
    let mut single = everything(1);
    stacked.reset(4).unwrap();
    single.reset(4).unwrap();
    let names: Vec<String> = single.spaces().iter().map(|space| space.name.clone()).collect();
    let values = |observed: &ObservedEnvironment| -> Vec<Vec<f64>> {
        names.iter().map(|name| numbers(observed.values(name).unwrap())).collect()
    };
    let mut history = vec![values(&single); 3];
    for step in 0..4 {
        let latest = &history[history.len() - 3..];
        for (index, (stack, space)) in values(&stacked).into_iter().zip(stacked.spaces()).enumerate() {
            let expected: Vec<f64> = latest.iter().flat_map(|frame| frame[index].clone()).collect();
            assert_eq!(stack, expected, "{} at step {step}", space.name);
            assert_eq!(stack.len(), space.shape.iter().product::<usize>());
            assert!(stack.iter().all(|value| (space.minimum..=space.maximum).contains(value)), "{space:?}");
        }
        let action = action(&single);
        assert_eq!(stacked.step(&action).unwrap(), single.step(&action).unwrap());
        history.push(values(&single));
    }
    for (index, name) in names.iter().enumerate() {
        assert_ne!(history[2][index], history[6][index], "{name} never changes");
    }
    stacked.reset(4).unwrap();
    assert_eq!(values(&stacked)[0], [history[0][0].clone(), history[0][0].clone(), history[0][0].clone()].concat());
}

fn numbers(values: Values<'_>) -> Vec<f64> {
    match values {
        Values::F64(values) => values.to_vec(),
        Values::F32(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Values::U8(values) => values.iter().map(|&value| f64::from(value)).collect(),
        Values::I32(values) => values.iter().map(|&value| f64::from(value)).collect(),
    }
}

#[test]
fn features_are_what_the_runtime_computes_from_the_same_pixels() {
    let mut observed = everything(1);
    observed.reset(9).unwrap();
    let mut alone = environment(EnvironmentOptions::default()).unwrap();
    alone.reset(9).unwrap();
    let mut camera = Camera::new(&alone, &wrist()).unwrap();
    let mut frame = Frame::black(24, 16, foresee_firmware_config::PixelEncoding::Rgb8);
    camera.render_frame(&mut alone, &mut frame).unwrap();
    let mut encoder = RawPixels::new(8, 8);
    let mut input = EncoderInput::zeros(8, 8);
    let mut features = Features::zeros(8, 24);
    let card = encoder.card().preprocessing.clone().unwrap();
    Preprocessor::new(&card).unwrap().run(&frame, &mut input).unwrap();
    encoder.encode(&input, &mut features).unwrap();
    let expected = [features.cls, features.tokens].concat();
    assert_eq!(observed.values("features").unwrap(), Values::F32(&expected));
    assert_eq!(observed.values("wrist").unwrap(), Values::U8(&frame.data));
}

#[test]
fn a_held_action_is_as_many_actions() {
    let mut held = environment(EnvironmentOptions { action_repeat: 3, ..Default::default() }).unwrap();
    let mut single = environment(EnvironmentOptions::default()).unwrap();
    let [held_spec, spec] = [held.spec(), single.spec()];
    assert_eq!((held_spec.num_substeps, spec.num_substeps), (60, 20));
    assert!((held_spec.control_timestep_seconds - 0.12).abs() < 1e-12);
    // 250 control steps: 83 actions of three and one of one.
    assert_eq!((held_spec.max_steps, spec.max_steps), (84, 250));
    held.reset(1).unwrap();
    single.reset(1).unwrap();
    let mut num_actions = 0;
    loop {
        let action = single.expert_action().unwrap();
        let transition = held.step(&action).unwrap();
        num_actions += 1;
        let mut sum = 0.0;
        for _ in 0..3 {
            let single_transition = single.step(&action).unwrap();
            sum += single_transition.reward;
            if single_transition.is_last() {
                break;
            }
        }
        assert_eq!((transition.reward, held.observation()), (sum, single.observation()));
        assert_eq!(held.num_steps(), num_actions);
        if transition.is_last() {
            break;
        }
    }
    assert_eq!((num_actions, held.physics().time_seconds()), (84, single.physics().time_seconds()));
}

#[test]
fn a_time_limit_truncates() {
    let mut environment =
        environment(EnvironmentOptions { time_limit_seconds: Some(0.2), ..Default::default() }).unwrap();
    environment.reset(0).unwrap();
    let action = environment.physics().control().to_vec();
    let ends: Vec<bool> = (0..5).map(|_| environment.step(&action).unwrap().truncated).collect();
    assert_eq!((ends, environment.spec().max_steps), (vec![false, false, false, false, true], 5));
}

#[test]
fn options_that_cannot_be_are_named() {
    let check = |error: SimError, expected: &str| {
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains('\n'), "{text:?} does not say {expected:?}");
    };
    let with = |action_repeat, time_limit_seconds| {
        environment(EnvironmentOptions { action_repeat, time_limit_seconds, randomisation: None })
    };
    check(with(0, None).unwrap_err(), "action_repeat is 0; take at least 1");
    check(with(1, Some(f64::NAN)).unwrap_err(), "time_limit_seconds is NaN; take above 0 and finite");
    check(with(1, Some(-1.0)).unwrap_err(), "time_limit_seconds is -1");
    let open =
        |channels, frame_stack| ObservedEnvironment::new(with(1, None).unwrap(), channels, frame_stack).map(|_| ());
    let state = || channel("state", Sight::State);
    check(open(vec![state()], 0).unwrap_err(), "frame_stack is 0");
    check(open(vec![], 1).unwrap_err(), "channels is []; take one or more");
    check(open(vec![state(), state()], 1).unwrap_err(), "each with a name of its own");
    let unknown = CameraOptions { name: "ceiling".to_owned(), ..wrist() };
    check(open(vec![channel("pixels", Sight::Pixels(unknown))], 1).unwrap_err(), "no camera \"ceiling\"");
    let observed = everything(1);
    check(observed.values("touch").unwrap_err(), "nothing is observed as \"touch\"; there are state, wrist");
}
