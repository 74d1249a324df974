//! Colours, depth, segments and projection of a known scene, against Python's `mujoco.Renderer` and against geometry.

#![expect(clippy::unwrap_used, clippy::panic, reason = "these helpers run in tests alone")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foresee_sim::{
    Camera, CameraOptions, Environment, EnvironmentOptions, FREE_CAMERA, ObservationWriter, Physics, Quality,
    RandomState, Segment, SimError, Task, TaskParts, UserGoal, UserModel,
};
use safetensors::SafeTensors;

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;
const NUM_PIXELS: usize = 64 * 48;
/// Ball (place and quaternion), then the arm's turn: the state that the fixture was made in.
const STATE: [f64; 8] = [0.05, 0.1, 0.35, 1.0, 0.0, 0.0, 0.0, 0.4];

/// Shows a state and asks for nothing.
struct Still;

impl Task for Still {
    fn initialise_episode(&mut self, physics: &mut Physics, _random: &mut RandomState) -> Result<(), SimError> {
        physics.set_state(&STATE, &[0.0; 7])
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        observation.vector("qpos", physics.qpos());
    }

    fn reward(&self, _physics: &Physics) -> f64 {
        0.0
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/camera").join(name)
}

fn scene() -> Environment {
    let physics = Physics::load_file("scene", &fixture("scene.xml")).unwrap();
    let parts = TaskParts {
        physics,
        task: Box::new(Still),
        time_limit_seconds: 1.0,
        control_timestep_seconds: None,
        success_criterion: None,
    };
    let mut environment = Environment::from_parts("scene", parts, EnvironmentOptions::default()).unwrap();
    environment.reset(0).unwrap();
    environment
}

fn camera(environment: &Environment, name: &str, quality: Quality) -> Camera {
    let options = CameraOptions { name: name.to_string(), width: WIDTH, height: HEIGHT, quality };
    Camera::new(environment, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// Of `len` values, how many differ by more than `tolerance`.
fn num_different(ours: impl IntoIterator<Item = f64>, theirs: impl IntoIterator<Item = f64>, tolerance: f64) -> usize {
    ours.into_iter().zip(theirs).filter(|(ours, theirs)| (ours - theirs).abs() > tolerance).count()
}

/// On the GL that made the fixture every value is equal (measured: 0 different). Another Mesa rounds a few edge pixels
/// otherwise, so a hundredth of them may differ.
#[test]
fn images_equal_those_of_the_python_renderer() {
    let bytes = std::fs::read(fixture("python.safetensors")).unwrap();
    let python = SafeTensors::deserialize(&bytes).unwrap();
    let mut environment = scene();
    let allowed = NUM_PIXELS / 100;
    for name in ["fixed", "wrist", "sensor", "flat", FREE_CAMERA] {
        let theirs = |kind: &str| python.tensor(&format!("{name}.{kind}")).unwrap().data().to_vec();
        let mut camera = camera(&environment, name, Quality::Reference);

        let mut rgb = vec![0; camera.num_bytes()];
        camera.render(&mut environment, &mut rgb).unwrap();
        let colours =
            num_different(rgb.iter().map(|&value| f64::from(value)), theirs("rgb").into_iter().map(f64::from), 0.0);

        let mut depth = vec![0.0; NUM_PIXELS];
        camera.render_depth(&mut environment, &mut depth).unwrap();
        let metres = theirs("depth");
        let metres = metres.chunks_exact(4).map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap())));
        let depths = num_different(depth.iter().map(|&value| f64::from(value)), metres, 0.0);

        let mut segments = vec![Segment::BACKGROUND; NUM_PIXELS];
        camera.render_segments(&mut environment, &mut segments).unwrap();
        let pairs = segments.iter().flat_map(|segment| [segment.object_id, segment.object_type]);
        let words = theirs("segments");
        let words = words.chunks_exact(4).map(|word| f64::from(i32::from_le_bytes(word.try_into().unwrap())));
        let objects = num_different(pairs.map(f64::from), words, 0.0);

        println!("{name}: different colours {colours}, depths {depths}, segments {objects}");
        assert!(colours <= 3 * allowed && depths <= allowed && objects <= 2 * allowed, "{name}");

        // Depth and segments leave nothing behind that colours would show.
        let mut again = vec![0; camera.num_bytes()];
        camera.render(&mut environment, &mut again).unwrap();
        assert_eq!(rgb, again, "{name}");
    }
}

/// Fast is what Python renders from a model without shadows, reflectance and samples.
#[test]
fn fast_images_equal_those_of_the_python_renderer() {
    let bytes = std::fs::read(fixture("python.safetensors")).unwrap();
    let python = SafeTensors::deserialize(&bytes).unwrap();
    let mut environment = scene();
    let mut camera = camera(&environment, "fixed", Quality::Fast);
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(&mut environment, &mut rgb).unwrap();
    let theirs = python.tensor("fast.rgb").unwrap().data().iter().map(|&value| f64::from(value));
    let different = num_different(rgb.into_iter().map(f64::from), theirs, 0.0);
    println!("fast: different colours {different}");
    assert!(different <= 3 * NUM_PIXELS / 100);
}

/// A sphere's silhouette is centred on its projection, and a pixel's depth leads back to its surface.
#[test]
fn a_sphere_is_where_geometry_says() {
    let mut environment = scene();
    let ball = environment.physics().geom("ball").unwrap();
    let centre = environment.physics().geom_xpos(ball);
    for (name, quality) in [("fixed", Quality::Fast), ("sensor", Quality::Fast), (FREE_CAMERA, Quality::Reference)] {
        let mut camera = camera(&environment, name, quality);
        let mut segments = vec![Segment::BACKGROUND; NUM_PIXELS];
        let mut depth = vec![0.0; NUM_PIXELS];
        camera.render_segments(&mut environment, &mut segments).unwrap();
        camera.render_depth(&mut environment, &mut depth).unwrap();
        let view = camera.view(&environment).unwrap();
        let ([x, y], distance) = view.project(centre).unwrap();

        let shown = |segment: &Segment| {
            segment.is_geom() && segment.body(environment.physics()) == environment.physics().body("ball").ok()
        };
        let pixels: Vec<[f64; 2]> = (0..NUM_PIXELS)
            .filter(|index| shown(&segments[*index]))
            .map(|index| [(index % WIDTH as usize) as f64, (index / WIDTH as usize) as f64])
            .collect();
        let mean = |axis: usize| pixels.iter().map(|pixel| pixel[axis]).sum::<f64>() / pixels.len() as f64;
        let off = [mean(0) - x, mean(1) - y];
        assert!(pixels.len() > 40 && off.iter().all(|off| off.abs() < 0.35), "{name}: {off:?} of {}", pixels.len());

        assert!(distance > 0.5, "{name}: {distance} m");
        // Facets lie up to 1.3 mm below the sphere that they stand for.
        for [column, row] in pixels {
            let metres = f64::from(depth[row as usize * WIDTH as usize + column as usize]);
            let point = view.unproject([column, row], metres);
            let radius = (0..3).map(|axis| (point[axis] - centre[axis]).powi(2)).sum::<f64>().sqrt();
            assert!((-1.4e-3..1e-4).contains(&(radius - 0.12)), "{name}: {radius} m at {column}, {row}");
        }
    }
}

#[test]
fn what_a_camera_cannot_give_is_named() {
    let mut environment = scene();
    let mut fixed = camera(&environment, "fixed", Quality::Fast);
    let error = fixed.render_depth(&mut environment, &mut [0.0; 3]).unwrap_err().to_string();
    assert!(error.contains("depth buffer has 3 values, but 3072 are needed"), "{error}");
    let error = fixed.render_segments(&mut environment, &mut []).unwrap_err().to_string();
    assert!(error.contains("segment buffer has 0 values"), "{error}");
    let flat = camera(&environment, "flat", Quality::Fast);
    let error = flat.view(&environment).unwrap_err().to_string();
    assert!(error.contains("\"flat\" is orthographic"), "{error}");
    let native = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native");
    let mut other = Environment::new("dmc/reacher-easy", &native).unwrap();
    other.reset(0).unwrap();
    let error = fixed.render_depth(&mut other, &mut [0.0; NUM_PIXELS]).unwrap_err().to_string();
    assert!(error.contains("another model"), "{error}");
}

/// Calibrated cameras: a ball's picture is where `project` puts it, whatever the principal point, the way it is written, and
/// the aspect of the image.
#[test]
fn a_calibrated_camera_projects_where_it_renders() {
    let sensors = [
        r#"sensorsize="0.0048 0.0036" focal="0.0045 0.0052""#,
        r#"sensorsize="0.0048 0.0036" focal="0.0045 0.0052" principal="0.0006 0""#,
        r#"sensorsize="0.0048 0.0036" focal="0.0045 0.0045" principal="0 0.0005""#,
        r#"sensorsize="0.0048 0.0036" resolution="640 480" focalpixel="600 620" principalpixel="-40 60""#,
    ];
    for sensor in sensors {
        let mjcf = format!(
            r#"<mujoco><visual><map znear=".01"/></visual><worldbody>
            <camera name="it" pos="0 -2 .5" xyaxes="1 .1 0 -.02 .2 1" {sensor}/>
            <body pos=".25 0 .6"><freejoint/><geom name="ball" type="sphere" size=".08"/></body></worldbody></mujoco>"#
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("it.xml");
        std::fs::write(&path, mjcf).unwrap();
        let (control_timestep_seconds, time_limit_seconds) = (0.02, 1.0);
        let model = UserModel {
            path,
            packages: BTreeMap::new(),
            goal: UserGoal::Still,
            control_timestep_seconds,
            time_limit_seconds,
        };
        let mut environment = Environment::of_user_model(&model, EnvironmentOptions::default()).unwrap();
        environment.reset(0).unwrap();
        let centre = environment.physics().geom_position("ball").unwrap();
        for (width, height) in [(160, 120), (120, 120), (200, 90)] {
            let options = CameraOptions { name: "it".to_owned(), width, height, quality: Quality::Fast };
            let mut camera = Camera::new(&environment, &options).unwrap();
            let mut segments = vec![Segment::BACKGROUND; camera.num_pixels()];
            camera.render_segments(&mut environment, &mut segments).unwrap();
            let shown = segments.iter().enumerate().filter(|(_, segment)| segment.is_geom()).map(|(index, _)| index);
            let pixels: Vec<[f64; 2]> =
                shown.map(|index| [index % width as usize, index / width as usize].map(|at| at as f64)).collect();
            let mean = |axis: usize| pixels.iter().map(|pixel| pixel[axis]).sum::<f64>() / pixels.len() as f64;
            let ([x, y], _) = camera.view(&environment).unwrap().project(centre).unwrap();
            let off = [mean(0) - x, mean(1) - y];
            let problem = format!("{sensor} at {width}x{height}: {off:?} of {} pixels", pixels.len());
            assert!(pixels.len() > 40 && off.iter().all(|off| off.abs() < 0.6), "{problem}");
        }
    }
}
