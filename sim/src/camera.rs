//! Headless rendering through EGL: colours, depth and what is what. One camera, one renderer, one thread; no display is ever
//! opened.

mod named;
mod offscreen;
mod view;

use foresee_firmware_config::{CameraProfile, ExtraCameraProfile};
use foresee_runtime::{Frame, Stamp};
use mujoco_rs::prelude::{MjModel, MjtRndFlag};
use mujoco_rs::wrappers::mj_model::MjtObj;
use mujoco_rs::wrappers::mj_visualization::{MjvCamera, MjvOption, MjvPerturb, MjvScene};

pub(crate) use named::{default_camera, is_aimed};
pub use view::CameraView;

use crate::environment::Environment;
use crate::error::SimError;
use crate::physics::{BodyId, Physics};
use crate::task::TaskSpec;
use named::{camera_of, check_randomised};
use offscreen::Offscreen;

/// The camera that looks at the whole model from outside; every model has it.
pub const FREE_CAMERA: &str = "free";

/// Pixels a side that are still rendered.
const MAX_SIDE: u32 = 4096;

/// Room for what a scene draws; as Python's `mujoco.Renderer` has it.
const MAX_DRAWN: usize = 10_000;

/// How an image is rendered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// No shadows, no reflections, no multisampling, a buffer of the image's size: ten to twenty times cheaper on a CPU.
    #[default]
    Fast,
    /// The model's own quality: pixels equal Python's `mujoco.Renderer` on the same GL.
    Reference,
}

/// What a camera renders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CameraOptions {
    /// A camera of the model, or [`FREE_CAMERA`].
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// How.
    pub quality: Quality,
}

impl CameraOptions {
    /// What a profile's camera sees.
    pub fn of(camera: &CameraProfile, quality: Quality) -> Self {
        Self { name: camera.name.clone(), width: camera.width, height: camera.height, quality }
    }
}

impl CameraOptions {
    /// What a profile's camera beside the first sees.
    pub fn of_extra(extra: &ExtraCameraProfile, quality: Quality) -> Self {
        let name = extra.source.as_ref().unwrap_or(&extra.camera.name).clone();
        Self { name, ..Self::of(&extra.camera, quality) }
    }
}

impl CameraOptions {
    /// Camera, size and quality of CortexBench (Majumdar et al. 2023, `mujoco_vc/visual_imitation/config`): 256 pixels a side;
    /// DMC's first camera, Adroit's `vil_camera`, Meta-World's `top_cap2`. `None` for tasks of other suites.
    pub fn cortexbench(spec: &TaskSpec) -> Option<Self> {
        let name = match spec.name.split('/').next()? {
            "dmc" => spec.camera.as_str(),
            "adroit" => "vil_camera",
            "metaworld" => "top_cap2",
            _ => return None,
        };
        Some(Self { name: name.to_string(), width: 256, height: 256, quality: Quality::Reference })
    }
}

/// What a pixel shows, as Python's `mujoco.Renderer` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Which of the objects of its type; -1 where there is nothing.
    pub object_id: i32,
    /// MuJoCo's `mjtObj`: 5 is a geom, 6 a site, 18 a tendon; -1 where there is nothing.
    pub object_type: i32,
}

impl Segment {
    /// Behind everything.
    pub const BACKGROUND: Self = Self { object_id: -1, object_type: -1 };

    /// Whether the pixel shows a geom.
    pub fn is_geom(self) -> bool {
        self.object_type == MjtObj::mjOBJ_GEOM as i32
    }

    /// The body that a geom or site is part of; body 0 is the world.
    pub fn body(self, physics: &Physics) -> Option<BodyId> {
        let id = usize::try_from(self.object_id).ok()?;
        let model = physics.model();
        let bodies = match self.object_type {
            kind if kind == MjtObj::mjOBJ_GEOM as i32 => model.geom_bodyid(),
            kind if kind == MjtObj::mjOBJ_SITE as i32 => model.site_bodyid(),
            _ => return None,
        };
        bodies.get(id).and_then(|body| usize::try_from(*body).ok()).map(BodyId)
    }
}

/// A camera in one model, with its GL context. It stays on the thread that made it, and renders any environment of the
/// same task.
#[derive(Debug)]
pub struct Camera {
    options: CameraOptions,
    camera: MjvCamera,
    scene: MjvScene,
    offscreen: Offscreen,
    drawing: MjvOption,
    /// Which textures are uploaded; see [`Physics::textures`].
    textures: u64,
    /// The colours that stand for objects, and what each stands for; empty until segments are asked for.
    codes: Vec<u8>,
    segments: Vec<Segment>,
}

impl Camera {
    /// Opens a headless renderer on this thread.
    ///
    /// # Errors
    /// [`SimError::UnknownCamera`], [`SimError::ImageSize`], [`SimError::Rendering`] on a machine without EGL.
    pub fn new(environment: &Environment, options: &CameraOptions) -> Result<Self, SimError> {
        let CameraOptions { width, height, quality, .. } = *options;
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(SimError::ImageSize { width, height, maximum: MAX_SIDE });
        }
        let camera = camera_of(environment, &options.name)?;
        check_randomised(environment, &camera, &options.name)?;
        let mut model = environment.physics().model().clone();
        shape_buffers(&mut model, options);
        let offscreen = Offscreen::new(&model, width, height)?;
        let mut scene = MjvScene::new(&model, MAX_DRAWN);
        if quality == Quality::Fast {
            set_flags(&mut scene, [MjtRndFlag::mjRND_SHADOW, MjtRndFlag::mjRND_REFLECTION], false);
        }
        let options = options.clone();
        let drawing = MjvOption::default();
        let textures = environment.physics().textures();
        Ok(Self { options, camera, scene, offscreen, drawing, textures, codes: Vec::new(), segments: Vec::new() })
    }

    /// What it renders.
    pub fn options(&self) -> &CameraOptions {
        &self.options
    }

    /// Pixels of an image.
    pub fn num_pixels(&self) -> usize {
        self.options.width as usize * self.options.height as usize
    }

    /// Bytes of an image: `height * width * 3`.
    pub fn num_bytes(&self) -> usize {
        self.num_pixels() * 3
    }

    /// Renders the present state into `rgb`, `[height, width, 3]`, rows from top to bottom. The state is not changed;
    /// MuJoCo needs its scratch memory.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::Rendering`].
    pub fn render(&mut self, environment: &mut Environment, rgb: &mut [u8]) -> Result<(), SimError> {
        check_size("image", self.num_bytes(), rgb.len())?;
        self.draw(environment, Some(rgb), None)?;
        flip_rows(rgb, self.options.width as usize * 3);
        Ok(())
    }

    /// Renders into a frame of the camera's size, stamped with the simulated time.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::Rendering`].
    pub fn render_frame(&mut self, environment: &mut Environment, frame: &mut Frame) -> Result<(), SimError> {
        self.render(environment, &mut frame.data)?;
        frame.width = self.options.width;
        frame.height = self.options.height;
        frame.encoding = foresee_firmware_config::PixelEncoding::Rgb8;
        frame.stamp = Stamp::from_seconds(environment.physics().time_seconds());
        Ok(())
    }

    /// Renders how far away things are into `metres`, `[height, width]`: along the optical axis, no further than the model's
    /// far plane, which is what pixels show that nothing is in. As `mujoco.Renderer` with `enable_depth_rendering`.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::Rendering`].
    pub fn render_depth(&mut self, environment: &mut Environment, metres: &mut [f32]) -> Result<(), SimError> {
        check_size("depth", self.num_pixels(), metres.len())?;
        self.draw_codes(environment, None, Some(metres))?;
        flip_rows(metres, self.options.width as usize);
        let model = environment.physics().model();
        let (map, extent) = (&model.vis().map, model.stat().extent);
        let planes = [map.znear, map.zfar].map(|plane| (f64::from(plane) * extent) as f32);
        to_metres(metres, planes, self.scene.camera()[0].orthographic != 0);
        Ok(())
    }

    /// Renders which object each pixel shows, `[height, width]`. As `mujoco.Renderer` with
    /// `enable_segmentation_rendering`.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::Rendering`].
    pub fn render_segments(&mut self, environment: &mut Environment, segments: &mut [Segment]) -> Result<(), SimError> {
        check_size("segment", self.num_pixels(), segments.len())?;
        let mut codes = std::mem::take(&mut self.codes);
        codes.resize(self.num_bytes(), 0);
        let drawn = self.draw_codes(environment, Some(&mut codes), None);
        self.codes = codes;
        drawn?;
        self.segments.clear();
        self.segments.resize(self.scene.geoms().len() + 1, Segment::BACKGROUND);
        for geom in self.scene.geoms() {
            let slot = usize::try_from(geom.segid + 1).ok().filter(|code| *code > 0);
            if let Some(slot) = slot.and_then(|code| self.segments.get_mut(code)) {
                *slot = Segment { object_id: geom.objid, object_type: geom.objtype };
            }
        }
        for (segment, code) in segments.iter_mut().zip(self.codes.chunks_exact(3)) {
            let code = usize::from(code[0]) | usize::from(code[1]) << 8 | usize::from(code[2]) << 16;
            *segment = self.segments.get(code).copied().unwrap_or(Segment::BACKGROUND);
        }
        flip_rows(segments, self.options.width as usize);
        Ok(())
    }

    /// Where the camera is now, and its intrinsics.
    ///
    /// # Errors
    /// [`SimError::Orthographic`] for a camera without perspective.
    pub fn view(&self, environment: &Environment) -> Result<CameraView, SimError> {
        let CameraOptions { width, height, .. } = self.options;
        view::view(environment.physics(), &self.camera, [width, height])
            .ok_or_else(|| SimError::Orthographic { name: self.options.name.clone() })
    }

    /// Draws every object in the colour that stands for it. Depth is read from the same drawing, as the original does.
    fn draw_codes(
        &mut self,
        environment: &mut Environment,
        codes: Option<&mut [u8]>,
        depth: Option<&mut [f32]>,
    ) -> Result<(), SimError> {
        let flags = [MjtRndFlag::mjRND_SEGMENT, MjtRndFlag::mjRND_IDCOLOR];
        set_flags(&mut self.scene, flags, true);
        let drawn = self.draw(environment, codes, depth);
        set_flags(&mut self.scene, flags, false);
        drawn
    }

    /// Rows come from bottom to top.
    fn draw(
        &mut self,
        environment: &mut Environment,
        rgb: Option<&mut [u8]>,
        depth: Option<&mut [f32]>,
    ) -> Result<(), SimError> {
        let textures = environment.physics().textures();
        let data = environment.physics_mut().data_mut();
        if !self.scene.is_compatible_with_model(data.model()) {
            return Err(rendering(&"the camera was made for another model"));
        }
        self.scene.update(data, &self.drawing, &MjvPerturb::default(), &mut self.camera);
        if self.scene.status() != 0 {
            return Err(rendering(&format!("the scene has more than {MAX_DRAWN} things to draw")));
        }
        let (context, viewport) = self.offscreen.current()?;
        if textures != self.textures {
            for texture in 0..data.model().tex_adr().len() {
                context.upload_texture(data.model(), texture).map_err(|error| rendering(&error))?;
            }
            self.textures = textures;
        }
        self.scene.render(viewport, context);
        context.read_pixels(rgb, depth, viewport).map_err(|error| rendering(&error))
    }
}

/// Metres from what MuJoCo reads with the near plane at 1 and the far plane at 0; the same roundings as Python's.
fn to_metres(depth: &mut [f32], [near, far]: [f32; 2], is_orthographic: bool) {
    if is_orthographic {
        depth.iter_mut().for_each(|value| *value = (f64::from(far) - f64::from(*value) * f64::from(far - near)) as f32);
        return;
    }
    let scale = -0.5 * (-(2.0 * far * near) / (far - near));
    let shift = -0.5 * (-(far + near) / (far - near)) - 0.5;
    depth.iter_mut().for_each(|value| *value = (f64::from(scale) / (f64::from(*value) + f64::from(shift))) as f32);
}

fn set_flags(scene: &mut MjvScene, flags: [MjtRndFlag; 2], is_on: bool) {
    flags.into_iter().for_each(|flag| scene.flags_mut()[flag as usize] = u8::from(is_on));
}

/// The first row becomes the last.
fn flip_rows<T>(image: &mut [T], row: usize) {
    let num_rows = image.len() / row;
    let (upper, lower) = image.split_at_mut(num_rows.div_ceil(2) * row);
    for (above, below) in upper.chunks_exact_mut(row).zip(lower.chunks_exact_mut(row).rev()) {
        above.swap_with_slice(below);
    }
}

fn check_size(what: &'static str, expected: usize, found: usize) -> Result<(), SimError> {
    if found == expected { Ok(()) } else { Err(SimError::BufferSize { what, expected, found }) }
}

/// Sets what the GL buffers are made from: their size, shadows and samples.
fn shape_buffers(model: &mut MjModel, options: &CameraOptions) {
    // The cast is exact: both are at most MAX_SIDE.
    let [width, height] = [options.width as i32, options.height as i32];
    let visual = model.vis_mut();
    match options.quality {
        Quality::Fast => {
            visual.quality.shadowsize = 0;
            visual.quality.offsamples = 0;
            visual.global.offwidth = width;
            visual.global.offheight = height;
        }
        Quality::Reference => {
            visual.global.offwidth = visual.global.offwidth.max(width);
            visual.global.offheight = visual.global.offheight.max(height);
        }
    }
}

fn rendering(problem: &dyn std::fmt::Display) -> SimError {
    SimError::Rendering { problem: problem.to_string() }
}
