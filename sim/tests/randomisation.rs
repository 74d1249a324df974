//! Domain randomisation and sensor faults on real tasks: seeded, within their ranges, and gone with the file.

#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::Path;
use std::sync::Arc;

use foresee_runtime::{Observation, SourceEvent};
use foresee_sim::{
    Assets, Camera, CameraOptions, Environment, EnvironmentOptions, EpisodePlan, EpisodePlayer, Quality, Randomisation,
    Textures,
};

const TASK: &str = "table/pick-place";
const EXAMPLE: &str = include_str!("../../launch/doc/randomise.toml");

fn environment(ranges: Option<&str>) -> Environment {
    let randomisation = ranges.map(|text| Arc::new(Randomisation::parse(Path::new("r.toml"), text).unwrap()));
    let assets = Assets { native: Path::new("nowhere"), textures: Textures::Full };
    Environment::with_options(TASK, assets, EnvironmentOptions { randomisation, ..Default::default() }).unwrap()
}

fn options() -> CameraOptions {
    CameraOptions { name: "fixed".to_owned(), width: 48, height: 36, quality: Quality::Fast }
}

fn image(camera: &mut Camera, environment: &mut Environment) -> Vec<u8> {
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(environment, &mut rgb).unwrap();
    rgb
}

/// Observations and images of the first steps.
fn beginning(environment: &mut Environment, camera: &mut Camera, seed: u64) -> (Vec<Vec<f64>>, Vec<Vec<u8>>) {
    environment.reset(seed).unwrap();
    let mut action = environment.physics().control().to_vec();
    action[0] += 0.5;
    let rows = (0..4).map(|_| {
        environment.step(&action).unwrap();
        (environment.observation().to_vec(), image(camera, environment))
    });
    rows.unzip()
}

#[test]
fn a_seed_repeats_and_the_task_draws_as_ever() {
    let mut plain = environment(None);
    let mut used = environment(Some(EXAMPLE));
    let mut camera = Camera::new(&used, &options()).unwrap();
    let first = beginning(&mut used, &mut camera, 1);
    let other = beginning(&mut used, &mut camera, 2);
    assert!(first.0 != other.0 && first.1 != other.1);
    used.reset_again().unwrap();
    assert_eq!(beginning(&mut used, &mut camera, 1), first);
    let mut fresh = environment(Some(EXAMPLE));
    let mut fresh_camera = Camera::new(&fresh, &options()).unwrap();
    assert_eq!(beginning(&mut fresh, &mut fresh_camera, 1), first);

    for seed in 0..5 {
        plain.reset(seed).unwrap();
        used.reset(seed).unwrap();
        assert_eq!(plain.physics().qpos(), used.physics().qpos());
    }
    // Ranges of nothing change nothing.
    let mut still = environment(Some("[mass]\nfactor = 1\n[texture]\ntint = 1\n[camera]\nturn_radians = 0"));
    let mut plain_camera = Camera::new(&plain, &options()).unwrap();
    let mut still_camera = Camera::new(&still, &options()).unwrap();
    let [expected, found] = [beginning(&mut plain, &mut plain_camera, 3), beginning(&mut still, &mut still_camera, 3)];
    assert_eq!(expected.1, found.1);
    let furthest = expected.0.iter().flatten().zip(found.0.iter().flatten()).map(|(a, b)| (a - b).abs());
    assert!(furthest.fold(0.0, f64::max) < 1e-9);
}

/// Over many episodes every ratio to the untouched model stays within its range and fills it: nothing adds up.
#[test]
fn each_range_reaches_what_it_names() {
    let mut plain = environment(None);
    plain.reset(0).unwrap();
    let text = "[light]\nbrightness = [0.5, 0.8]\nshift_metres = [0.1, 0.2]\n[colour]\ntint = [0.6, 0.9]\n[mass]\nfactor = [1.5, 2]\n\
        [friction]\nfactor = [0.5, 0.7]\n[camera]\nshift_metres = [0.01, 0.02]\nfovy = [0.9, 0.95]\n[actuator]\ngain = [1.1, 1.4]";
    let mut changed = environment(Some(text));
    let mut seen = [[f64::INFINITY, f64::NEG_INFINITY]; 8];
    for seed in 0..40 {
        if seed % 3 == 0 {
            changed.reset(seed).unwrap()
        } else {
            changed.reset_again().unwrap()
        }
        let [old, new] = [plain.physics().model(), changed.physics().model()];
        let ratio = |new: f64, old: f64| new / old;
        let values = [
            ratio(f64::from(new.light_diffuse()[0][0]), f64::from(old.light_diffuse()[0][0])),
            new.light_pos()[0][2] - old.light_pos()[0][2],
            ratio(f64::from(new.mat_rgba()[2][1]), f64::from(old.mat_rgba()[2][1])),
            ratio(new.body_mass()[3], old.body_mass()[3]),
            ratio(new.geom_friction()[1][0], old.geom_friction()[1][0]),
            new.cam_pos()[0][0] - old.cam_pos()[0][0],
            ratio(new.cam_fovy()[0], old.cam_fovy()[0]),
            ratio(new.actuator_gainprm()[2][0], old.actuator_gainprm()[2][0]),
        ];
        for ([lowest, highest], value) in seen.iter_mut().zip(values) {
            (*lowest, *highest) = (lowest.min(value), highest.max(value));
        }
        let stiffness = new.actuator_biasprm()[2][1] / old.actuator_biasprm()[2][1];
        assert!((stiffness - values[7]).abs() < 1e-12, "a servo keeps its set point");
        let total: f64 = new.body_mass().iter().sum();
        assert!((new.body_subtreemass()[0] - total).abs() < 1e-9, "what follows from masses follows");
    }
    let ranges = [[0.5, 0.8], [0.1, 0.2], [0.6, 0.9], [1.5, 2.0], [0.5, 0.7], [0.01, 0.02], [0.9, 0.95], [1.1, 1.4]];
    for (index, ([lowest, highest], [from, to])) in seen.into_iter().zip(ranges).enumerate() {
        let slack = 0.15 * (to - from);
        assert!(lowest >= from - 1e-6 && highest <= to + 1e-6, "{index}: {lowest} to {highest}");
        assert!(lowest < from + slack && highest > to - slack, "{index}: {lowest} to {highest} of {from} to {to}");
    }
}

#[test]
fn textures_are_tinted_in_the_image_and_the_camera_follows_the_environment() {
    let mut plain = environment(None);
    let mut dark = environment(Some("[texture]\nbrightness = 0.25"));
    plain.reset(0).unwrap();
    let mut camera = Camera::new(&plain, &options()).unwrap();
    let sum = |image: &[u8]| image.iter().map(|&value| u64::from(value)).sum::<u64>();
    let bright = image(&mut camera, &mut plain);
    dark.reset(0).unwrap();
    let tinted = image(&mut camera, &mut dark);
    assert!(sum(&tinted) * 2 < sum(&bright), "{} of {}", sum(&tinted), sum(&bright));
    assert_eq!(image(&mut camera, &mut plain), bright);
}

#[test]
fn latency_shifts_commands_by_whole_actions() {
    let mut plain = environment(None);
    let mut late = environment(Some("[latency]\nactions = 3"));
    plain.reset(6).unwrap();
    late.reset(6).unwrap();
    let idle = plain.physics().control().to_vec();
    let action = |step: usize| -> Vec<f64> { idle.iter().map(|value| value + 0.02 * step as f64).collect() };
    for step in 0..10 {
        late.step(&action(step)).unwrap();
        plain.step(&step.checked_sub(3).map_or_else(|| idle.clone(), action)).unwrap();
        assert_eq!(late.observation(), plain.observation(), "step {step}");
    }
}

/// Dropped frames leave gaps in the sequence, the world goes on meanwhile, and every frame is counted.
#[test]
fn the_ends_play_through_a_faulty_camera() {
    let environment = environment(Some("[sensor]\ndropped_share = 0.3\nnoise_levels = 4\ndelay_frames = 1"));
    let max_steps = environment.spec().max_steps;
    let idle = environment.physics().control().to_vec();
    let camera = Camera::new(&environment, &options()).unwrap();
    let mut player = EpisodePlayer::new(environment, camera, EpisodePlan { first_seed: 2, num_episodes: 2 });
    let mut observation = Observation::blank(48, 36, idle.len());
    let (mut num_shown, mut last, mut ended) = (0, None, Vec::new());
    loop {
        match player.next_event(&mut observation).unwrap() {
            SourceEvent::Observed => {
                num_shown += 1;
                let sequence = Some(observation.frame.sequence);
                assert!(last < sequence && observation.frame.stamp == observation.joints.stamp);
                last = sequence;
                player.act(&idle).unwrap();
            }
            SourceEvent::EpisodeEnded(episode) => ended.push(episode.num_steps),
            SourceEvent::Finished => break,
            SourceEvent::EpisodeStarted(_) | SourceEvent::TimedOut => {}
        }
    }
    assert_eq!(ended, [max_steps; 2]);
    assert_eq!(num_shown + player.num_dropped(), u64::from(2 * max_steps));
    let share = player.num_dropped() as f64 / f64::from(2 * max_steps);
    assert!((share - 0.3).abs() < 0.08, "{share}");
}

/// Meta-World's hand hangs on a weld that the task relaxes: masses times 1 must leave the episode what it is.
#[test]
fn masses_times_one_leave_welds_alone() {
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    let assets = Assets { native: &native, textures: Textures::Small };
    let ranges = Arc::new(Randomisation::parse(Path::new("r.toml"), "[mass]\nfactor = 1").unwrap());
    let mut plain = Environment::with_assets("metaworld/drawer-open", assets).unwrap();
    let options = EnvironmentOptions { randomisation: Some(ranges), ..Default::default() };
    let mut randomised = Environment::with_options("metaworld/drawer-open", assets, options).unwrap();
    plain.reset(3).unwrap();
    randomised.reset(3).unwrap();
    let off = plain.observation().iter().zip(randomised.observation()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < 1e-6, "{off} m");
}

/// Half a tint halves what is seen, whether the colour is a geom's own or its material's.
#[test]
fn a_tint_scales_the_colours_that_are_seen() {
    let mut plain = environment(None);
    let mut tinted = environment(Some("[colour]\ntint = 0.5"));
    plain.reset(0).unwrap();
    tinted.reset(0).unwrap();
    let mut camera = Camera::new(&plain, &options()).unwrap();
    let [bright, dark] = [image(&mut camera, &mut plain), image(&mut camera, &mut tinted)];
    // The sky has a texture and no material; everything else is half as bright, whatever its hue.
    let ratios = bright.iter().zip(&dark).skip(3 * 48 * 12).filter(|(bright, _)| **bright > 60);
    let furthest = ratios.map(|(bright, dark)| (f64::from(*dark) / f64::from(*bright) - 0.5).abs()).fold(0.0, f64::max);
    assert!(furthest < 0.12, "{furthest}");
}
