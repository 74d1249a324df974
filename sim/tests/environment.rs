//! One environment: bad input, episode ends, repeatability.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::{Path, PathBuf};

use foresee_sim::{Assets, Environment, PhysicsWarning, SimError, TASKS, Textures};

fn native() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native")
}

fn reacher() -> Environment {
    let mut environment = Environment::new("dmc/reacher-easy", &native()).unwrap();
    environment.reset(3).unwrap();
    environment
}

#[test]
fn bad_input_is_named() {
    let check = |error: SimError, expected: &str| {
        let text = error.to_string();
        assert!(text.contains(expected) && !text.contains('\n'), "{text:?} does not say {expected:?}");
    };
    check(Environment::new("dmc/reacher", &native()).unwrap_err(), "did you mean dmc/reacher-");
    check(Environment::new("dmc/reacher-easy", Path::new("nowhere")).unwrap_err(), "run ./launch/setup");
    let mut environment = reacher();
    check(environment.step(&[0.0]).unwrap_err(), "1 values, but the task has 2 actuators");
    check(environment.step(&[0.0, f64::NAN]).unwrap_err(), "NaN at index 1");
    check(environment.reset(1 << 32).unwrap_err(), "seed 4294967296 is out of range");
    check(environment.physics().geom("tar\0get").unwrap_err(), "no geom named");
    let mut fresh = Environment::new("dmc/reacher-easy", &native()).unwrap();
    check(fresh.step(&[0.0, 0.0]).unwrap_err(), "call reset first");
}

#[test]
fn a_hidden_goal_is_zeros_and_nothing_else_changes() {
    let [plain, visible, hidden] = ["", "-goal-observable", "-goal-hidden"].map(|ending| {
        let mut environment = Environment::new(&format!("metaworld/push{ending}"), &native()).unwrap();
        environment.reset(5).unwrap();
        let transition = environment.step(&[0.5, -0.5, 0.1, 0.0]).unwrap();
        (environment.observation().to_vec(), transition)
    });
    assert_eq!(plain, visible);
    assert_eq!((&visible.0[..36], visible.1), (&hidden.0[..36], hidden.1));
    assert!(visible.0[36..].iter().all(|value| *value != 0.0));
    assert_eq!(hidden.0[36..], [0.0; 3]);
    let error = Environment::new("dmc/reacher-easy-goal-hidden", &native()).unwrap_err().to_string();
    assert!(error.contains("did you mean dmc/reacher-easy"), "{error}");
}

#[test]
fn the_time_limit_truncates_and_the_episode_is_then_over() {
    let mut environment = reacher();
    let steps = environment.spec().max_steps;
    for step in 1..=steps {
        let transition = environment.step(&[0.1, 0.0]).unwrap();
        assert_eq!((transition.truncated, transition.terminated), (step == steps, false));
        assert_eq!(transition.discount, 1.0);
    }
    assert!(matches!(environment.step(&[0.0, 0.0]), Err(SimError::NoEpisode { .. })));
}

#[test]
fn a_diverged_simulation_is_cut_off_without_a_nan() {
    let mut environment = reacher();
    environment.physics_mut().data_mut().qvel_mut()[0] = f64::NAN;
    let transition = environment.step(&[0.0, 0.0]).unwrap();
    assert_eq!((transition.truncated, transition.reward), (true, 0.0));
    assert_eq!(transition.warning, Some(PhysicsWarning::BadPosition));
    assert!(environment.observation().iter().all(|value| value.is_finite()));
    environment.reset(3).unwrap();
    assert_eq!(environment.observation(), reacher().observation());
}

#[test]
fn success_is_the_fingertip_in_the_target() {
    let mut environment = reacher();
    let physics = environment.physics_mut();
    let target = physics.geom_position("target").unwrap();
    // The elbow's angle by the law of cosines over two links of 0.12 m, then the shoulder's.
    let reach = target[0].hypot(target[1]);
    let elbow = (reach * reach / (2.0 * 0.12 * 0.12) - 1.0).clamp(-1.0, 1.0).acos();
    let shoulder = target[1].atan2(target[0]) - elbow / 2.0;
    physics.set_state(&[shoulder, elbow], &[0.0, 0.0]).unwrap();
    let transition = environment.step(&[0.0, 0.0]).unwrap();
    assert!(transition.success && transition.reward == 1.0);
}

/// An environment that was used gives the same episode for a seed as a new one, and every task keeps its promises.
#[test]
fn every_task_is_repeatable_and_within_its_spec() {
    let native = native();
    let assets = Assets { native: &native, textures: Textures::Small };
    for entry in TASKS {
        let mut used = Environment::with_assets(entry.name, assets).unwrap();
        let spec = used.spec().clone();
        assert!(!spec.observations.is_empty() && spec.max_steps > 0, "{spec:?}");
        assert!(spec.observations.iter().all(|part| part.unit.is_some()), "{spec:?}");
        assert!(spec.actions.iter().all(|action| action.scale.is_finite() && action.scale != 0.0), "{spec:?}");
        let action: Vec<f64> = spec.actions.iter().map(|action| 0.3 * action.maximum.min(1.0)).collect();
        let highest = match entry.name.split('/').next() {
            Some("dmc" | "table") => 1.0,
            Some("kitchen") => 7.0,
            Some("metaworld") => 10.0,
            _ => 100.0,
        };
        let mut trajectory = Vec::new();
        for repeat in 0..2 {
            let mut fresh = Environment::with_assets(entry.name, assets).unwrap();
            let environment = if repeat == 0 { &mut fresh } else { &mut used };
            environment.reset(if repeat == 0 { 7 } else { 8 }).unwrap();
            environment.step(&action).unwrap();
            environment.reset(7).unwrap();
            for _ in 0..3 {
                let transition = environment.step(&action).unwrap();
                assert_eq!(environment.observation().len(), spec.num_observations(), "{}", entry.name);
                assert!(transition.reward <= highest, "{}: {transition:?}", entry.name);
                let row = (transition.reward, environment.observation().to_vec());
                if repeat == 0 {
                    trajectory.push(row);
                } else {
                    assert_eq!(trajectory.remove(0), row, "{}", entry.name);
                }
            }
        }
    }
}

/// The recorded episodes seldom touch the target, so its edge is tried here: a target of 0.05 m (easy) or 0.015 m (hard) and a
/// fingertip of 0.01 m, as dm_control's `reacher.py` and `reacher.xml` have them.
#[test]
fn the_reacher_is_rewarded_to_the_edge_of_its_target() {
    for (task, radii) in [("dmc/reacher-easy", 0.05 + 0.01), ("dmc/reacher-hard", 0.015 + 0.01)] {
        let mut environment = Environment::new(task, &native()).unwrap();
        let (mut num_just_inside, mut num_outside) = (0, 0);
        for seed in 0..400 {
            environment.reset(seed).unwrap();
            for step in 0..100 {
                let action = f64::from(step % 40 < 20) * 2.0 - 1.0;
                let transition = environment.step(&[action, -action]).unwrap();
                let to_target = &environment.observation()[2..4];
                let distance = to_target[0].hypot(to_target[1]);
                let is_inside = distance <= radii;
                assert_eq!(transition.reward, f64::from(is_inside), "{task}, seed {seed}: {distance} m");
                num_just_inside += u32::from(is_inside && distance > 0.9 * radii);
                num_outside += u32::from(!is_inside);
            }
        }
        assert!(
            num_just_inside >= 20 && num_outside > 1000,
            "{task}: {num_just_inside} at the edge, {num_outside} outside"
        );
    }
}
