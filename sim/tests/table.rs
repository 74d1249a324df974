//! Our own scene: the expert picks and places, and the calibration views show the whole board where geometry says.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::Path;

use foresee_sim::{Camera, CameraOptions, Checkerboard, Environment, Quality};
use nalgebra::{Isometry3, Point3, Quaternion, Translation3, UnitQuaternion};

fn environment(task: &str) -> Environment {
    // The scene is made of primitives: no asset is read.
    Environment::new(task, Path::new("nowhere")).unwrap()
}

#[test]
fn the_expert_picks_and_places() {
    let mut environment = environment("table/pick-place");
    let num_seeds = 60;
    let mut failed = Vec::new();
    for seed in 0..num_seeds {
        environment.reset(seed).unwrap();
        assert!(!environment.success(), "seed {seed} begins with success");
        let (mut is_over, mut success, mut steps_to_success) = (false, false, None);
        while !is_over {
            let action = environment.expert_action().unwrap();
            let transition = environment.step(&action).unwrap();
            assert!((0.0..=1.0).contains(&transition.reward) && transition.warning.is_none(), "{seed}: {transition:?}");
            is_over = transition.is_last();
            success = transition.success;
            steps_to_success = steps_to_success.or(success.then(|| environment.num_steps()));
        }
        println!("seed {seed}: {success}, after {steps_to_success:?} steps");
        if !success {
            failed.push(seed);
        }
    }
    assert!(failed.len() <= 1, "of {num_seeds} seeds failed: {failed:?}");
}

#[test]
fn an_idle_arm_wins_nothing() {
    let mut environment = environment("table/pick-place");
    environment.reset(0).unwrap();
    let action = environment.physics().control().to_vec();
    let before = environment.physics().body_position("hand").unwrap();
    let mut highest = f64::NEG_INFINITY;
    for _ in 0..100 {
        highest = environment.step(&action).unwrap().reward.max(highest);
    }
    let after = environment.physics().body_position("hand").unwrap();
    let moved = (0..3).map(|axis| (after[axis] - before[axis]).abs()).fold(0.0, f64::max);
    assert!(highest < 0.5 && moved < 1e-3, "{highest}, {moved} m");
}

fn pose(environment: &Environment, body: &str) -> Isometry3<f64> {
    let physics = environment.physics();
    let body = physics.body(body).unwrap();
    let [w, x, y, z] = physics.xquat(body);
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
    Isometry3::from_parts(Translation3::from(Point3::from(physics.xpos(body))), rotation)
}

/// The camera is fixed in one body and the board in the other: what hand-eye calibration looks for is the same in every view,
/// every corner is in the image, and black meets white there.
#[test]
fn calibration_views_show_the_whole_board() {
    for (task, name, camera_in) in
        [("table/calibrate-wrist", "wrist", "hand"), ("table/calibrate-fixed", "fixed", "base")]
    {
        let mut environment = environment(task);
        environment.reset(0).unwrap();
        let options = CameraOptions { name: name.to_owned(), width: 640, height: 480, quality: Quality::Fast };
        let mut camera = Camera::new(&environment, &options).unwrap();
        let mut rgb = vec![0; camera.num_bytes()];
        let mut mounting = None;
        let mut turns = Vec::new();
        for seed in 0..40 {
            environment.reset(seed).unwrap();
            let view = camera.view(&environment).unwrap();
            let mounted = pose(&environment, camera_in).inverse() * view.world_from_camera;
            let first = *mounting.get_or_insert(mounted);
            let off = (mounted.translation.vector - first.translation.vector).norm();
            assert!(off < 1e-9 && mounted.rotation.angle_to(&first.rotation) < 1e-7, "{task}, seed {seed}: {off}");
            turns.push((view.world_from_camera.inverse() * pose(&environment, "board")).rotation);

            camera.render(&mut environment, &mut rgb).unwrap();
            let grey = |x: f64, y: f64| f64::from(rgb[(y.round() as usize * 640 + x.round() as usize) * 3 + 1]);
            let world_from_board = pose(&environment, "board");
            for (index, corner) in Checkerboard::SCENE.corners().enumerate() {
                let at = |x: f64, y: f64| {
                    let point = world_from_board * Point3::new(corner[0] + x, corner[1] + y, 0.0);
                    view.project(point.into()).unwrap().0
                };
                let [x, y] = at(0.0, 0.0);
                assert!((4.0..636.0).contains(&x) && (4.0..476.0).contains(&y), "{task}, seed {seed}: {x}, {y}");
                let quarter = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]].map(|[x, y]| {
                    let [x, y] = at(x * 0.005, y * 0.005);
                    grey(x, y)
                });
                let is_even =
                    (index / Checkerboard::SCENE.columns + index % Checkerboard::SCENE.columns).is_multiple_of(2);
                let [black, white] = if is_even { [0, 1] } else { [1, 0] };
                for (dark, light) in [(black, white), (black + 2, white + 2)] {
                    assert!(quarter[dark] + 40.0 < quarter[light], "{task}, seed {seed}, {index}: {quarter:?}");
                }
            }
        }
        let apart = turns.iter().map(|turn| turn.angle_to(&turns[0])).fold(0.0, f64::max);
        assert!(apart > 0.5, "{task}: views differ by {apart} rad alone");
    }
}
