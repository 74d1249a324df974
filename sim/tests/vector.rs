//! Vectors of environments: the same batches on any number of threads, in lockstep and asynchronously.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these helpers run in tests alone")]

use std::path::{Path, PathBuf};

use foresee_sim::{
    CameraOptions, Environment, EnvironmentOptions, ModelSource, ObservationWriter, Physics, Quality, RandomState,
    SimError, Task, TaskParts, VectorEnvironment, VectorOptions,
};

const NUM_ENVIRONMENTS: usize = 5;
const TASK: &str = "dmc/walker-walk";

fn native() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native")
}

fn vector(num_threads: usize) -> VectorEnvironment {
    let options = VectorOptions { num_environments: NUM_ENVIRONMENTS, num_threads };
    VectorEnvironment::new(TASK, &native(), options).unwrap_or_else(|error| panic!("{error}"))
}

fn actions(environments: &[usize], step: usize, num_actions: usize) -> Vec<f64> {
    let value = |environment: usize, index: usize| ((environment * 7 + step * 3 + index) as f64).sin();
    environments.iter().flat_map(|environment| (0..num_actions).map(move |index| value(*environment, index))).collect()
}

/// Every environment's observations and rewards, one line an environment and step.
type Rows = Vec<(usize, Vec<f64>, f64)>;

fn lockstep(num_threads: usize) -> Rows {
    let mut vector = vector(num_threads);
    let everyone: Vec<usize> = (0..NUM_ENVIRONMENTS).collect();
    vector.reset(11).unwrap();
    let mut rows = Rows::new();
    for step in 0..40 {
        let batch = vector.step(&actions(&everyone, step, 6)).unwrap();
        let observations = batch.observations.chunks(batch.observations.len() / NUM_ENVIRONMENTS);
        for ((environment, observation), reward) in batch.environments.iter().zip(observations).zip(batch.rewards) {
            rows.push((*environment, observation.to_vec(), *reward));
        }
    }
    rows.sort_by_key(|row| row.0);
    rows
}

fn asynchronous(num_threads: usize) -> Rows {
    let mut vector = vector(num_threads);
    let everyone: Vec<usize> = (0..NUM_ENVIRONMENTS).collect();
    vector.reset(11).unwrap();
    vector.send(&everyone, &actions(&everyone, 0, 6)).unwrap();
    let mut num_steps = [1; NUM_ENVIRONMENTS];
    let mut rows = Rows::new();
    while rows.len() < NUM_ENVIRONMENTS * 40 {
        let batch = vector.receive(1).unwrap();
        let environment = batch.environments[0];
        rows.push((environment, batch.observations.to_vec(), batch.rewards[0]));
        if num_steps[environment] < 40 {
            vector.send(&[environment], &actions(&[environment], num_steps[environment], 6)).unwrap();
            num_steps[environment] += 1;
        }
    }
    rows.sort_by_key(|row| row.0);
    rows
}

#[test]
fn batches_are_the_same_on_any_number_of_threads() {
    let expected = lockstep(1);
    let mut environment = Environment::new(TASK, &native()).unwrap();
    environment.reset(13).unwrap();
    environment.step(&actions(&[2], 0, 6)).unwrap();
    assert_eq!(environment.observation(), expected[2 * 40].1);
    for num_threads in [2, 8] {
        assert_eq!(lockstep(num_threads), expected, "{num_threads} threads");
    }
    for num_threads in [1, 2, 8] {
        assert_eq!(asynchronous(num_threads), expected, "{num_threads} threads, asynchronous");
    }
}

#[test]
fn an_ended_episode_is_reset_by_the_next_step() {
    let options = VectorOptions { num_environments: 2, num_threads: 2 };
    let mut vector = VectorEnvironment::new("dmc/reacher-easy", &native(), options).unwrap();
    let first = vector.reset(0).unwrap().observations.to_vec();
    for step in 1..=1000 {
        let batch = vector.step(&[0.0; 4]).unwrap();
        assert_eq!(batch.truncated, [step == 1000; 2]);
        assert_eq!(batch.was_reset, [false; 2]);
    }
    let batch = vector.step(&[0.0; 4]).unwrap();
    assert_eq!((batch.was_reset, batch.truncated, batch.rewards), (&[true; 2][..], &[false; 2][..], &[0.0; 2][..]));
    assert_ne!(batch.observations, first);
}

#[test]
fn bad_input_is_named_and_moves_nothing() {
    let mut vector = vector(2);
    vector.reset(0).unwrap();
    let row = [0.0; 6];
    assert!(matches!(vector.step(&row), Err(SimError::BufferSize { expected: 30, found: 6, .. })));
    assert!(matches!(vector.step(&[f64::NAN; 30]), Err(SimError::ActionNotFinite { index: 0, .. })));
    assert!(matches!(vector.send(&[5], &row), Err(SimError::NoSuchEnvironment { index: 5, number: 5 })));
    assert!(matches!(vector.send(&[1, 1], &[0.0; 12]), Err(SimError::InFlight { environment: 1 })));
    assert!(matches!(vector.receive(1), Err(SimError::NotInFlight { wanted: 1, found: 0 })));
    vector.send(&[3], &row).unwrap();
    assert!(matches!(vector.step(&[0.0; 30]), Err(SimError::InFlight { environment: 3 })));
    assert_eq!(vector.receive(1).unwrap().environments, [3]);
    assert!(matches!(vector.reset(u64::MAX), Err(SimError::Seed { .. })));
    let none = VectorOptions { num_environments: 0, num_threads: 1 };
    assert!(matches!(VectorEnvironment::new(TASK, &native(), none), Err(SimError::VectorSize { .. })));
}

/// Images, rewards and environments of 12 steps, batch after batch.
fn seen(num_threads: usize) -> Vec<(Vec<u8>, Vec<f64>)> {
    let options = VectorOptions { num_environments: NUM_ENVIRONMENTS, num_threads };
    let camera = CameraOptions { name: "side".to_string(), width: 32, height: 24, quality: Quality::Fast };
    let mut vector = VectorEnvironment::with_camera(TASK, &native(), options, camera).unwrap();
    let everyone: Vec<usize> = (0..NUM_ENVIRONMENTS).collect();
    vector.reset(11).unwrap();
    let step = |step| {
        let batch = vector.step(&actions(&everyone, step, 6)).unwrap();
        assert_eq!(batch.pixels.len(), NUM_ENVIRONMENTS * 32 * 24 * 3);
        (batch.pixels.to_vec(), batch.rewards.to_vec())
    };
    (0..12).map(step).collect()
}

#[test]
fn images_are_the_same_on_any_number_of_threads() {
    let expected = seen(1);
    let (first, _) = &expected[0];
    let (last, _) = &expected[11];
    assert_ne!(first, last);
    assert_ne!(first[..32 * 24 * 3], first[32 * 24 * 3..2 * 32 * 24 * 3]);
    for num_threads in [2, 8] {
        assert!(seen(num_threads) == expected, "{num_threads} threads");
    }
}

#[test]
fn a_vector_with_images_names_a_wrong_camera_before_it_starts() {
    let options = VectorOptions { num_environments: 1, num_threads: 1 };
    let camera = CameraOptions { name: "nowhere".to_string(), width: 8, height: 8, quality: Quality::Fast };
    let error = VectorEnvironment::with_camera(TASK, &native(), options, camera.clone()).unwrap_err();
    assert!(matches!(error, SimError::UnknownCamera { .. }), "{error}");
    let error = VectorEnvironment::with_camera("dmc/quadruped-escape", &native(), options, camera).unwrap_err();
    assert!(error.to_string().contains("height field"), "{error}");
}

/// A task that panics at an action above 1.
struct Fragile;

impl Task for Fragile {
    fn initialise_episode(&mut self, _physics: &mut Physics, _random: &mut RandomState) -> Result<(), SimError> {
        Ok(())
    }

    fn after_step(&mut self, _physics: &mut Physics, action: &[f64]) {
        assert!(action[0] <= 1.0, "too much: {}", action[0]);
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
    }

    fn reward(&self, _physics: &Physics) -> f64 {
        1.0
    }
}

fn fragile() -> Environment {
    sliding("<actuator><motor joint='j'/></actuator>", Box::new(Fragile))
}

/// A task over one sliding body that is driven by these actuators.
fn sliding(actuators: &str, task: Box<dyn Task>) -> Environment {
    let body = "<body><joint name='j' type='slide'/><geom size='0.1'/></body>";
    let xml = &format!("<mujoco><worldbody>{body}</worldbody>{actuators}</mujoco>");
    let source = ModelSource { name: "fragile", xml, folder: Path::new("."), files: &[], texts: &[] };
    let parts = TaskParts {
        physics: Physics::load(&source).unwrap(),
        task,
        time_limit_seconds: 1.0,
        control_timestep_seconds: None,
        success_criterion: None,
    };
    Environment::from_parts("fragile", parts, EnvironmentOptions::default()).unwrap()
}

#[test]
fn a_panic_on_a_thread_is_an_error_and_a_reset_mends_it() {
    for num_threads in [1, 2, 4] {
        let environments = (0..3).map(|_| fragile()).collect();
        let mut vector = VectorEnvironment::from_environments(environments, num_threads).unwrap();
        vector.reset(0).unwrap();
        let error = vector.step(&[0.0, 2.0, 0.0]).unwrap_err();
        assert!(error.to_string().contains("environment 1 panicked: too much: 2"), "{error}");
        vector.send(&[0, 2], &[0.0, 0.0]).unwrap();
        assert_eq!(vector.receive(2).unwrap().rewards, [1.0, 1.0]);
        assert!(matches!(vector.step(&[0.0; 3]), Err(SimError::Panicked { environment: 1, .. })));
        vector.reset(0).unwrap();
        assert_eq!(vector.step(&[0.0; 3]).unwrap().rewards, [1.0; 3]);
    }
}

/// A body that falls.
struct Falling;

impl Task for Falling {
    fn initialise_episode(&mut self, _physics: &mut Physics, _random: &mut RandomState) -> Result<(), SimError> {
        Ok(())
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("position", physics.qpos());
    }

    fn reward(&self, _physics: &Physics) -> f64 {
        1.0
    }
}

#[test]
fn what_has_no_actuator_is_stepped_all_the_same() {
    let environments = (0..3).map(|_| sliding("", Box::new(Falling))).collect();
    let mut vector = VectorEnvironment::from_environments(environments, 2).unwrap();
    let first = vector.reset(0).unwrap().observations.to_vec();
    for _ in 0..2 {
        let batch = vector.step(&[]).unwrap();
        assert_eq!((batch.was_reset, batch.rewards), (&[false; 3][..], &[1.0; 3][..]));
    }
    vector.send(&[2, 0], &[]).unwrap();
    let batch = vector.receive(2).unwrap();
    assert!(batch.was_reset == [false; 2] && batch.observations != &first[..2]);
}
