//! An EGL context without a display, and MuJoCo's rendering context in it.

use std::num::NonZero;

use glutin::api::egl::context::PossiblyCurrentContext;
use glutin::api::egl::device::Device;
use glutin::api::egl::display::Display;
use glutin::api::egl::surface::Surface;
use glutin::config::{ConfigSurfaceTypes, ConfigTemplateBuilder};
use glutin::context::{ContextApi, ContextAttributesBuilder, GlProfile, Version};
use glutin::error::{ErrorKind, Result as GlResult};
use glutin::prelude::{GlDisplay, NotCurrentGlContext, PossiblyCurrentGlContext};
use glutin::surface::{PbufferSurface, SurfaceAttributesBuilder};
use mujoco_rs::prelude::{MjModel, MjrContext, MjrRectangle, MjtDepthMap};

use super::rendering;
use crate::error::SimError;

/// MuJoCo's offscreen buffer for one model. It stays on the thread that made it.
#[derive(Debug)]
pub(super) struct Offscreen {
    // Before `gl`: it is freed inside of it.
    context: MjrContext,
    gl: Gl,
    viewport: MjrRectangle,
}

#[derive(Debug)]
struct Gl {
    context: PossiblyCurrentContext,
    surface: Surface<PbufferSurface>,
}

impl Offscreen {
    /// Uploads the model's meshes and textures; buffers have the sizes and samples that the model asks for.
    ///
    /// # Errors
    /// [`SimError::Rendering`] on a machine without EGL.
    pub(super) fn new(model: &MjModel, width: u32, height: u32) -> Result<Self, SimError> {
        let gl = Gl::new(width, height).map_err(|error| rendering(&no_context(&error)))?;
        #[expect(unsafe_code, reason = "MuJoCo cannot tell whether a GL context is current")]
        // SAFETY: the context just made is current on this thread, is made current again before the drop, and neither it
        // nor MuJoCo's context is `Send`.
        let mut context = unsafe { MjrContext::new(model) };
        context.offscreen();
        #[expect(unsafe_code, reason = "mujoco-rs has no safe way to choose the mapping of depth")]
        // SAFETY: the field takes any `mjtDepthMap` at any time.
        unsafe {
            context.ffi_mut().readDepthMap = MjtDepthMap::mjDEPTH_ZEROFAR as i32;
        }
        // The casts are exact: sizes are checked before.
        let viewport = MjrRectangle::new(0, 0, width as i32, height as i32);
        Ok(Self { context, gl, viewport })
    }

    /// MuJoCo's context, with its GL context current.
    ///
    /// # Errors
    /// [`SimError::Rendering`].
    pub(super) fn current(&self) -> Result<(&MjrContext, &MjrRectangle), SimError> {
        self.gl.make_current().map_err(|error| rendering(&error))?;
        Ok((&self.context, &self.viewport))
    }
}

impl Drop for Offscreen {
    fn drop(&mut self) {
        // A failure leaves nothing else to do: MuJoCo's buffers are then freed with the process.
        let _ = self.gl.make_current();
    }
}

impl Gl {
    /// On the first EGL device that gives a context.
    fn new(width: u32, height: u32) -> GlResult<Self> {
        let mut last = ErrorKind::NotSupported("no EGL device").into();
        for device in Device::query_devices()? {
            match Self::on_device(&device, width, height) {
                Ok(gl) => return Ok(gl),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn on_device(device: &Device, width: u32, height: u32) -> GlResult<Self> {
        let template = ConfigTemplateBuilder::new()
            .with_surface_type(ConfigSurfaceTypes::PBUFFER)
            .with_alpha_size(0)
            .with_depth_size(24)
            .with_stencil_size(8)
            .build();
        let version = ContextApi::OpenGl(Some(Version::new(2, 0)));
        let attributes = ContextAttributesBuilder::new()
            .with_profile(GlProfile::Compatibility)
            .with_context_api(version)
            .build(None);
        let side = |pixels| NonZero::new(pixels).unwrap_or(NonZero::<u32>::MIN);
        let buffer = SurfaceAttributesBuilder::<PbufferSurface>::new().build(side(width), side(height));
        #[expect(unsafe_code, reason = "glutin marks unsafe what takes handles of the window system")]
        // SAFETY: the device comes from EGL itself, each step takes what the one before gave, and there is no window.
        let (context, surface) = unsafe {
            let display = Display::with_device(device, None)?;
            let config = display.find_configs(template)?.next();
            let config = config.ok_or(ErrorKind::NotSupported("no buffer with 24 bits of depth"))?;
            (display.create_context(&config, &attributes)?, display.create_pbuffer_surface(&config, &buffer)?)
        };
        Ok(Self { context: context.make_current(&surface)?, surface })
    }

    fn make_current(&self) -> GlResult<()> {
        self.context.make_current(&self.surface)
    }
}

fn no_context(error: &glutin::error::Error) -> String {
    match error.error_kind() {
        ErrorKind::NotFound => "libEGL.so.1 was not found".to_string(),
        _ => format!("EGL gives no context ({error})"),
    }
}
