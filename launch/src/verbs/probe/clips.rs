//! Rendered videos that know their labels exactly: which body is at each pixel, where each geom is, where the joints stand.

use std::path::PathBuf;

use anyhow::bail;
use foresee_firmware_config::PixelEncoding;
use foresee_models::{ClassMask, LabelledVideo};
use foresee_policies::{SmoothRandom, StateActor};
use foresee_runtime::{Frame, JointState};
use foresee_sim::{Camera, CameraOptions, Environment, Quality, Segment};

/// Simulated seconds between frames: 25 a second, as published videos have them.
pub(crate) const FRAME_SECONDS: f64 = 0.04;
/// Control steps that are played before the first frame, so that clips do not all begin at rest.
const LEAD_IN_STEPS: usize = 10;

/// Pixels that the middle of some part of a body leaves its first place by, for the body to count as moving.
const LEAST_MOTION: f64 = 6.0;

/// Which videos.
#[derive(Clone, Debug)]
pub(crate) struct ClipOptions<'a> {
    pub(crate) task: &'a str,
    pub(crate) native: PathBuf,
    /// Pixels, square.
    pub(crate) size: u32,
    pub(crate) num_frames: usize,
    /// One a video: of its reset and of its smooth random actions.
    pub(crate) seeds: std::ops::Range<u64>,
    pub(crate) labels: Labels,
}

/// What is rendered beside the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Labels {
    /// Nothing.
    None,
    /// Masks and key points. A body counts as an object when it moves and its part of the first frame has at least this many pixels.
    Objects {
        /// Pixels.
        least_pixels: usize,
    },
}

impl Labels {
    /// One and a half patches of 8 pixels.
    pub(crate) const LEAST_PIXELS: usize = 96;
    /// Masks and key points of what is large enough to be followed.
    pub(crate) const OBJECTS: Self = Self::Objects { least_pixels: Self::LEAST_PIXELS };
}

/// A video with its joints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clip {
    pub(crate) video: LabelledVideo,
    /// Positions of what the actuators drive, a row a frame.
    pub(crate) joints: Vec<Vec<f64>>,
}

/// Renders the videos of one task; `each` gets one after the other and says whether to go on.
///
/// # Errors
/// When the task is not known, the machine cannot render, or an episode diverges.
pub(crate) fn render_clips(
    options: &ClipOptions<'_>,
    each: &mut dyn FnMut(Clip) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut environment = Environment::new(options.task, &options.native)?;
    let camera = environment.spec().camera.clone();
    let size = options.size;
    let camera = CameraOptions { name: camera, width: size, height: size, quality: Quality::Fast };
    let mut camera = Camera::new(&environment, &camera)?;
    let stride = (FRAME_SECONDS / environment.spec().control_timestep_seconds).round().max(1.0) as usize;
    for seed in options.seeds.clone() {
        let mut episode = Episode { actor: SmoothRandom::new(), action: vec![0.0; environment.spec().actions.len()] };
        environment.reset(seed)?;
        episode.actor.reset(seed);
        episode.play(&mut environment, LEAD_IN_STEPS)?;
        let mut shot = Shot::default();
        shot.clip.video.name = format!("{} seed {seed}", options.task);
        for _ in 0..options.num_frames {
            shot.take(&mut environment, &mut camera, options)?;
            episode.play(&mut environment, stride)?;
        }
        if let Labels::Objects { least_pixels } = options.labels {
            shot.name_objects(least_pixels);
        }
        if !each(shot.clip)? {
            break;
        }
    }
    Ok(())
}

struct Episode {
    actor: SmoothRandom,
    action: Vec<f64>,
}

impl Episode {
    fn play(&mut self, environment: &mut Environment, num_steps: usize) -> anyhow::Result<()> {
        for _ in 0..num_steps {
            self.actor.act(environment, &mut self.action)?;
            let transition = environment.step(&self.action)?;
            if transition.is_last() {
                let task = &environment.spec().name;
                bail!("{task}: the episode ends after {} steps; ask for fewer frames", environment.num_steps());
            }
        }
        Ok(())
    }
}

/// A clip while it is taken: masks hold body numbers until its objects are known.
#[derive(Default)]
struct Shot {
    clip: Clip,
    bodies: Vec<Vec<usize>>,
    /// `[frame][geom]`: body, pixel.
    geoms: Vec<Vec<(usize, Option<[f64; 2]>)>>,
}

impl Shot {
    fn take(
        &mut self,
        environment: &mut Environment,
        camera: &mut Camera,
        options: &ClipOptions<'_>,
    ) -> anyhow::Result<()> {
        let mut frame = Frame::black(options.size, options.size, PixelEncoding::Rgb8);
        camera.render_frame(environment, &mut frame)?;
        self.clip.video.frames.push(frame);
        let mut joints = JointState::default();
        environment.write_joint_state(&mut joints);
        self.clip.joints.push(joints.positions);
        if options.labels == Labels::None {
            return Ok(());
        }
        let mut segments = vec![Segment::BACKGROUND; camera.num_pixels()];
        camera.render_segments(environment, &mut segments)?;
        let view = camera.view(environment)?;
        let physics = environment.physics();
        let bodies_of_geoms: Vec<usize> =
            physics.model().geom_bodyid().iter().map(|body| usize::try_from(*body).unwrap_or(0)).collect();
        let body_of = |segment: &Segment| {
            let geom = usize::try_from(segment.object_id).ok().filter(|_| segment.is_geom());
            geom.and_then(|geom| bodies_of_geoms.get(geom)).copied().unwrap_or(0)
        };
        self.bodies.push(segments.iter().map(body_of).collect());
        let places = physics.data().geom_xpos().iter().map(|place| view.project(*place).map(|(pixel, _)| pixel));
        self.geoms.push(bodies_of_geoms.iter().copied().zip(places).collect());
        Ok(())
    }

    /// Whether anything of a body leaves its place in the picture: what stands still is followed by doing nothing.
    fn moves(&self, body: usize) -> bool {
        let num_geoms = self.geoms.first().map_or(0, Vec::len);
        (0..num_geoms).any(|geom| {
            let mut places = self.geoms.iter().filter_map(|geoms| geoms.get(geom)).filter(|(of, _)| *of == body);
            let Some((_, Some([first_x, first_y]))) = places.next().copied() else { return false };
            places.filter_map(|(_, place)| *place).any(|[x, y]| (x - first_x).hypot(y - first_y) > LEAST_MOTION)
        })
    }

    /// Bodies that are large enough in the first frame and move become classes; the middles of their geoms become key points, which count
    /// where their own body is what the camera sees.
    fn name_objects(&mut self, least_pixels: usize) {
        let Some(first) = self.bodies.first() else { return };
        let num_bodies = self.bodies.iter().flatten().max().map_or(1, |most| most + 1);
        let mut sizes = vec![0; num_bodies];
        first.iter().for_each(|body| sizes.get_mut(*body).into_iter().for_each(|size| *size += 1));
        let mut classes = vec![0_u8; num_bodies];
        let mut num_classes = 1_u8;
        for (body, (class, size)) in classes.iter_mut().zip(&sizes).enumerate().skip(1) {
            if *size >= least_pixels && num_classes < u8::MAX && self.moves(body) {
                *class = num_classes;
                num_classes += 1;
            }
        }
        let class_of = |body: usize| classes.get(body).copied().unwrap_or(0);
        let width = self.clip.video.frames.first().map_or(0, |frame| frame.width as usize);
        let video = &mut self.clip.video;
        video.num_classes = usize::from(num_classes);
        video.masks = self
            .bodies
            .iter()
            .map(|bodies| ClassMask { width, classes: bodies.iter().map(|body| class_of(*body)).collect() })
            .collect();
        let num_geoms = self.geoms.first().map_or(0, Vec::len);
        for geom in 0..num_geoms {
            let mut places = Vec::new();
            let mut visible = Vec::new();
            for (geoms, bodies) in self.geoms.iter().zip(&self.bodies) {
                let Some((body, place)) = geoms.get(geom).copied() else { continue };
                let at = place.and_then(|place| pixel_at(place, width));
                visible.push(class_of(body) > 0 && at.and_then(|pixel| bodies.get(pixel)) == Some(&body));
                places.push(place.unwrap_or([f64::NAN; 2]));
            }
            if visible.first() == Some(&true) {
                video.key_points.points.places.push(places);
                video.key_points.visible.push(visible);
            }
        }
    }
}

/// The pixel of a square image that a place is in.
fn pixel_at([x, y]: [f64; 2], width: usize) -> Option<usize> {
    let inside = 0.0..width as f64;
    let [x, y] = [x.round(), y.round()];
    (inside.contains(&x) && inside.contains(&y)).then(|| y as usize * width + x as usize)
}
