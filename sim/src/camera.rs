//! Headless rendering through EGL: one camera, one renderer, one thread. No display is ever opened.

use foresee_runtime::{Frame, Stamp};
use mujoco_rs::prelude::MjModel;
use mujoco_rs::renderer::MjRenderer;
use mujoco_rs::wrappers::mj_visualization::MjvCamera;

use crate::environment::Environment;
use crate::error::SimError;

/// The camera that looks at the whole model from outside; every model has it.
pub const FREE_CAMERA: &str = "free";

/// Pixels a side that are still rendered.
const MAX_SIDE: u32 = 4096;

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

/// A camera in one model, with its GL context. It stays on the thread that made it, and renders any environment of the
/// same task.
#[derive(Debug)]
pub struct Camera {
    options: CameraOptions,
    renderer: MjRenderer,
    /// Stands in for the model's reflectances while a scene is made without reflections.
    reflectances: Vec<f32>,
}

impl Camera {
    /// Opens a headless renderer on this thread.
    ///
    /// # Errors
    /// [`SimError::UnknownCamera`], [`SimError::ImageSize`], [`SimError::Rendering`] on a machine without EGL.
    pub fn new(environment: &Environment, options: &CameraOptions) -> Result<Self, SimError> {
        let CameraOptions { width, height, .. } = *options;
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(SimError::ImageSize { width, height, maximum: MAX_SIDE });
        }
        let view = view_of(environment, &options.name)?;
        let mut model = environment.physics().model().clone();
        shape_buffers(&mut model, options);
        let builder = MjRenderer::builder().width(width).height(height).camera(view);
        let renderer = builder.build(&model).map_err(|error| rendering(&error))?;
        let reflectances = match options.quality {
            Quality::Fast => vec![0.0; model.mat_reflectance().len()],
            Quality::Reference => Vec::new(),
        };
        Ok(Self { options: options.clone(), renderer, reflectances })
    }

    /// What it renders.
    pub fn options(&self) -> &CameraOptions {
        &self.options
    }

    /// Bytes of an image: `height * width * 3`.
    pub fn num_bytes(&self) -> usize {
        self.options.width as usize * self.options.height as usize * 3
    }

    /// Renders the present state into `rgb`, `[height, width, 3]`, rows from top to bottom. The state is not changed;
    /// MuJoCo needs its scratch memory.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::Rendering`].
    pub fn render(&mut self, environment: &mut Environment, rgb: &mut [u8]) -> Result<(), SimError> {
        let expected = self.num_bytes();
        if rgb.len() != expected {
            return Err(SimError::BufferSize { what: "image", expected, found: rgb.len() });
        }
        self.swap_reflectances(environment);
        let synced = self.renderer.sync_data(environment.physics_mut().data_mut());
        self.swap_reflectances(environment);
        synced.map_err(|error| rendering(&error))?;
        self.renderer.render().map_err(|error| rendering(&error))?;
        let pixels = self.renderer.rgb_flat().ok_or_else(|| rendering(&"the renderer gave no image"))?;
        rgb.copy_from_slice(pixels);
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

    fn swap_reflectances(&mut self, environment: &mut Environment) {
        if !self.reflectances.is_empty() {
            environment.physics_mut().model_mut().mat_reflectance_mut().swap_with_slice(&mut self.reflectances);
        }
    }
}

fn view_of(environment: &Environment, name: &str) -> Result<MjvCamera, SimError> {
    let spec = environment.spec();
    if let Some(index) = spec.cameras.iter().position(|camera| camera == name) {
        return Ok(MjvCamera::new_fixed(index));
    }
    if name == FREE_CAMERA {
        return Ok(MjvCamera::new_free(environment.physics().model()));
    }
    let known = spec.cameras.iter().map(String::as_str).chain([FREE_CAMERA]).collect::<Vec<_>>().join(", ");
    Err(SimError::UnknownCamera { task: spec.name.clone(), name: name.to_string(), known })
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
