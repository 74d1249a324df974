//! Headless images and the two in-process ends.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use foresee_runtime::{Actuator, FrameSource, Observation, SafetyFilter, SourceEvent};
use foresee_sim::{Camera, CameraOptions, Environment, EpisodePlan, EpisodePlayer, Quality, SimError, in_process_ends};

const SIDE: u32 = 64;

fn reacher() -> Environment {
    let native: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    let mut environment = Environment::new("dmc/reacher-easy", &native).unwrap();
    environment.reset(0).unwrap();
    environment
}

fn options(name: &str, width: u32, quality: Quality) -> CameraOptions {
    CameraOptions { name: name.to_string(), width, height: SIDE, quality }
}

fn image(environment: &mut Environment, quality: Quality) -> Vec<u8> {
    let mut camera = Camera::new(environment, &options("fixed", SIDE, quality)).unwrap();
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(environment, &mut rgb).unwrap();
    rgb
}

#[test]
fn images_follow_the_state_and_repeat() {
    let mut environment = reacher();
    for quality in [Quality::Fast, Quality::Reference] {
        let first = image(&mut environment, quality);
        assert_eq!(first, image(&mut environment, quality));
        assert!(first.iter().max() > first.iter().min());
        environment.reset(1).unwrap();
        assert_ne!(first, image(&mut environment, quality));
        environment.reset(0).unwrap();
        assert_eq!(first, image(&mut environment, quality));
    }
    // Rendering without reflections leaves the model as it was.
    assert!(environment.physics().model().mat_reflectance().iter().any(|reflectance| *reflectance > 0.0));
}

#[test]
fn a_camera_that_cannot_be_is_named() {
    let mut environment = reacher();
    let error = Camera::new(&environment, &options("back", SIDE, Quality::Fast)).unwrap_err().to_string();
    assert!(error.contains("it has fixed, hand, free"), "{error}");
    let error = Camera::new(&environment, &options("fixed", 0, Quality::Fast)).unwrap_err();
    assert!(matches!(error, SimError::ImageSize { width: 0, .. }));
    let mut camera = Camera::new(&environment, &options("free", SIDE, Quality::Fast)).unwrap();
    let error = camera.render(&mut environment, &mut [0; 3]).unwrap_err();
    assert!(matches!(error, SimError::BufferSize { found: 3, .. }));
}

#[test]
fn the_ends_play_a_plan_in_lockstep() {
    let environment = reacher();
    let max_steps = environment.spec().max_steps;
    let camera = Camera::new(&environment, &options("fixed", SIDE, Quality::Fast)).unwrap();
    let (mut source, mut actuator) =
        in_process_ends(EpisodePlayer::new(environment, camera, EpisodePlan { first_seed: 5, num_episodes: 1 }));
    let mut observation = Observation::blank(SIDE, SIDE, 2);
    let mut filter = SafetyFilter::new(&[], std::time::Duration::from_millis(20));
    let mut next = |observation: &mut Observation| source.next(observation, Duration::ZERO).unwrap();
    assert!(matches!(next(&mut observation), SourceEvent::EpisodeStarted(episode) if episode.seed == 5));
    assert_eq!(next(&mut observation), SourceEvent::Observed);
    assert_eq!((observation.frame.sequence, observation.joints.positions.len()), (0, 2));
    assert_eq!(next(&mut observation), SourceEvent::TimedOut);
    let error = actuator.send(0, filter.filter(observation.frame.stamp, None)).unwrap_err().to_string();
    assert!(error.contains("0 values, but the task has 2 actuators"), "{error}");
    assert!(max_steps == 1000 && observation.frame.data.iter().any(|value| *value > 0));
}

/// The sizes and cameras of CortexBench are there for every task of its suites; `top_cap2` looks at the table from where R3M put it.
#[test]
fn cortexbench_has_its_cameras() {
    let native: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    for (task, name) in
        [("dmc/walker-walk", "side"), ("adroit/pen", "vil_camera"), ("metaworld/drawer-open", "top_cap2")]
    {
        let mut environment = Environment::new(task, &native).unwrap();
        environment.reset(0).unwrap();
        let preset = CameraOptions::cortexbench(environment.spec()).unwrap();
        assert_eq!((preset.name.as_str(), preset.width, preset.height), (name, 256, 256));
        let mut camera = Camera::new(&environment, &CameraOptions { quality: Quality::Fast, ..preset }).unwrap();
        let mut rgb = vec![0; camera.num_bytes()];
        camera.render(&mut environment, &mut rgb).unwrap();
        assert!(rgb.iter().max() > rgb.iter().min());
        let view = camera.view(&environment).unwrap();
        if name == "top_cap2" {
            let place = view.world_from_camera.translation.vector;
            assert!((place - nalgebra::Vector3::new(0.0, 0.9, 0.6)).norm() < 1e-9, "{place}");
            let table = environment.physics().body_position("tablelink").unwrap();
            let ([x, y], _) = view.project(table).unwrap();
            assert!((x - 127.5).abs() < 1e-6 && (y - 127.5).abs() < 1e-6, "{x}, {y}");
        }
    }
    let table = Environment::new("table/pick-place", &native).unwrap();
    assert_eq!(CameraOptions::cortexbench(table.spec()), None);
}
