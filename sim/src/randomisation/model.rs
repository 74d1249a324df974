//! Draws on the model: light, texture, colour, mass, friction, cameras, actuators, latency.

use std::sync::Arc;

use mujoco_rs::prelude::MjModel;
use mujoco_rs::wrappers::mj_model::{MjtGain, MjtProjection};
use nalgebra::{Quaternion, UnitQuaternion, Vector3};

use super::{Knob, Randomisation, stream};
use crate::physics::Physics;
use crate::random::RandomState;

mod notes;

pub(super) use notes::has_scalable_gain;

const PURPOSE: u32 = 0x6d6f_6465;

/// Draws that change the compiled constants which follow from masses.
const HEAVY: &[Knob] = &[Knob::Mass];
/// Draws that change what textures look like.
const TEXTURES: &[Knob] = &[Knob::TextureBrightness, Knob::TextureTint];

/// No angle of view is widened beyond this: half a turn has no picture.
const WIDEST_DEGREES: f64 = 170.0;

/// The colour of geoms that name none.
const DEFAULT_RGBA: [f32; 4] = [0.5, 0.5, 0.5, 1.0];

/// The parts of a model that draws change, as the task has them.
struct Untouched {
    light_diffuse: Vec<[f32; 3]>,
    light_specular: Vec<[f32; 3]>,
    light_pos: Vec<[f64; 3]>,
    light_pos0: Vec<[f64; 3]>,
    light_poscom0: Vec<[f64; 3]>,
    headlight: [[f32; 3]; 2],
    tex_data: Vec<u8>,
    mat_rgba: Vec<[f32; 4]>,
    geom_rgba: Vec<[f32; 4]>,
    body_mass: Vec<f64>,
    body_inertia: Vec<[f64; 3]>,
    geom_friction: Vec<[f64; 3]>,
    pair_friction: Vec<[f64; 5]>,
    cam_pos: Vec<[f64; 3]>,
    cam_quat: Vec<[f64; 4]>,
    cam_pos0: Vec<[f64; 3]>,
    cam_poscom0: Vec<[f64; 3]>,
    cam_mat0: Vec<[f64; 9]>,
    cam_fovy: Vec<f64>,
    cam_intrinsic: Vec<[f32; 4]>,
    gains: Vec<[f64; 10]>,
    biases: Vec<[f64; 10]>,
}

/// Randomises one environment's model, episode by episode.
pub(crate) struct ModelRandomiser {
    ranges: Arc<Randomisation>,
    random: RandomState,
    untouched: Option<Untouched>,
    latency_actions: usize,
}

impl ModelRandomiser {
    pub(crate) fn new(ranges: Arc<Randomisation>) -> Self {
        Self { ranges, random: stream(0, PURPOSE), untouched: None, latency_actions: 0 }
    }

    /// What is drawn from.
    pub(crate) fn ranges(&self) -> &Arc<Randomisation> {
        &self.ranges
    }

    /// Which targets of the model the named keys cannot change, one sentence a key and target.
    pub(crate) fn notes(&self, physics: &Physics) -> Vec<String> {
        notes::notes(&self.ranges, physics)
    }

    /// Actions between a command and its effect in the present episode.
    pub(crate) fn latency_actions(&self) -> usize {
        self.latency_actions
    }

    /// Gives the model back as the task made it, before the task draws anew itself.
    pub(crate) fn begin_stream(&mut self, physics: &mut Physics, seed: u64) {
        self.random = stream(seed, PURPOSE);
        if let Some(untouched) = self.untouched.take() {
            untouched.restore(physics, self.ranges.names(TEXTURES));
        }
    }

    /// Draws an episode's model. The state is then the default one.
    pub(crate) fn draw(&mut self, physics: &mut Physics) {
        let has_textures = self.ranges.names(TEXTURES);
        let untouched = self.untouched.get_or_insert_with(|| Untouched::of(physics, has_textures));
        untouched.restore(physics, has_textures);
        let mut draws = Draws { ranges: &self.ranges, random: &mut self.random };
        draws.light(physics);
        draws.textures(physics);
        draws.colours(physics);
        draws.dynamics(physics);
        draws.cameras(physics);
        draws.actuators(physics);
        self.latency_actions = self.ranges.draw_whole(Knob::LatencyActions, &mut self.random).unwrap_or(0);
        if self.ranges.names(HEAVY) {
            physics.follow_masses();
        }
        if has_textures {
            physics.mark_textures_changed();
        }
        physics.reset();
    }
}

impl Untouched {
    fn of(physics: &Physics, has_textures: bool) -> Self {
        let model = physics.model();
        let headlight = &model.vis().headlight;
        Self {
            light_diffuse: model.light_diffuse().to_vec(),
            light_specular: model.light_specular().to_vec(),
            light_pos: model.light_pos().to_vec(),
            light_pos0: model.light_pos0().to_vec(),
            light_poscom0: model.light_poscom0().to_vec(),
            headlight: [headlight.ambient, headlight.diffuse],
            tex_data: if has_textures { model.tex_data().to_vec() } else { Vec::new() },
            mat_rgba: model.mat_rgba().to_vec(),
            geom_rgba: model.geom_rgba().to_vec(),
            body_mass: model.body_mass().to_vec(),
            body_inertia: model.body_inertia().to_vec(),
            geom_friction: model.geom_friction().to_vec(),
            pair_friction: model.pair_friction().to_vec(),
            cam_pos: model.cam_pos().to_vec(),
            cam_quat: model.cam_quat().to_vec(),
            cam_pos0: model.cam_pos0().to_vec(),
            cam_poscom0: model.cam_poscom0().to_vec(),
            cam_mat0: model.cam_mat0().to_vec(),
            cam_fovy: model.cam_fovy().to_vec(),
            cam_intrinsic: model.cam_intrinsic().to_vec(),
            gains: model.actuator_gainprm().to_vec(),
            biases: model.actuator_biasprm().to_vec(),
        }
    }

    fn restore(&self, physics: &mut Physics, has_textures: bool) {
        let model = physics.model_mut();
        model.light_diffuse_mut().copy_from_slice(&self.light_diffuse);
        model.light_specular_mut().copy_from_slice(&self.light_specular);
        model.light_pos_mut().copy_from_slice(&self.light_pos);
        model.light_pos0_mut().copy_from_slice(&self.light_pos0);
        model.light_poscom0_mut().copy_from_slice(&self.light_poscom0);
        let headlight = &mut model.vis_mut().headlight;
        [headlight.ambient, headlight.diffuse] = self.headlight;
        if has_textures {
            model.tex_data_mut().copy_from_slice(&self.tex_data);
        }
        model.mat_rgba_mut().copy_from_slice(&self.mat_rgba);
        model.geom_rgba_mut().copy_from_slice(&self.geom_rgba);
        model.body_mass_mut().copy_from_slice(&self.body_mass);
        model.body_inertia_mut().copy_from_slice(&self.body_inertia);
        model.geom_friction_mut().copy_from_slice(&self.geom_friction);
        model.pair_friction_mut().copy_from_slice(&self.pair_friction);
        model.cam_pos_mut().copy_from_slice(&self.cam_pos);
        model.cam_quat_mut().copy_from_slice(&self.cam_quat);
        model.cam_pos0_mut().copy_from_slice(&self.cam_pos0);
        model.cam_poscom0_mut().copy_from_slice(&self.cam_poscom0);
        model.cam_mat0_mut().copy_from_slice(&self.cam_mat0);
        model.cam_fovy_mut().copy_from_slice(&self.cam_fovy);
        model.cam_intrinsic_mut().copy_from_slice(&self.cam_intrinsic);
        physics.set_gains(&self.gains, &self.biases);
    }
}

/// Draws in a fixed order.
struct Draws<'a> {
    ranges: &'a Randomisation,
    random: &'a mut RandomState,
}

impl Draws<'_> {
    fn factor(&mut self, knob: Knob) -> f64 {
        self.ranges.draw(knob, self.random).unwrap_or(1.0)
    }

    fn shift(&mut self, knob: Knob) -> [f64; 3] {
        std::array::from_fn(|_| self.ranges.draw(knob, self.random).unwrap_or(0.0))
    }

    fn light(&mut self, physics: &mut Physics) {
        for light in 0..physics.model().light_pos().len() {
            let brightness = self.factor(Knob::LightBrightness) as f32;
            let shift = self.shift(Knob::LightShift);
            let model = physics.model_mut();
            model.light_diffuse_mut()[light].iter_mut().for_each(|value| *value *= brightness);
            model.light_specular_mut()[light].iter_mut().for_each(|value| *value *= brightness);
            add(&mut model.light_pos_mut()[light], shift);
            let shift = world_from_body(physics, physics.model().light_bodyid()[light]) * Vector3::from(shift);
            let model = physics.model_mut();
            add(&mut model.light_pos0_mut()[light], shift.into());
            add(&mut model.light_poscom0_mut()[light], shift.into());
        }
        let ambient = self.factor(Knob::LightAmbient) as f32;
        let headlight = &mut physics.model_mut().vis_mut().headlight;
        headlight.ambient.iter_mut().chain(&mut headlight.diffuse).for_each(|value| *value *= ambient);
    }

    fn textures(&mut self, physics: &mut Physics) {
        if !self.ranges.names(TEXTURES) {
            return;
        }
        for texture in 0..physics.model().tex_adr().len() {
            let brightness = self.factor(Knob::TextureBrightness);
            let tint: [f64; 3] = std::array::from_fn(|_| brightness * self.factor(Knob::TextureTint));
            let model = physics.model_mut();
            let num_channels = model.tex_nchannel()[texture] as usize;
            let num_texels = model.tex_width()[texture] as usize * model.tex_height()[texture] as usize;
            // A texture that is not in the model has a negative address.
            let Ok(address) = usize::try_from(model.tex_adr()[texture]) else { continue };
            let texels = &mut model.tex_data_mut()[address..address + num_texels * num_channels];
            for texel in texels.chunks_exact_mut(num_channels.max(1)) {
                texel.iter_mut().zip(tint).for_each(|(value, factor)| *value = (f64::from(*value) * factor) as u8);
            }
        }
    }

    fn colours(&mut self, physics: &mut Physics) {
        let model = physics.model_mut();
        for index in 0..model.mat_rgba().len() + model.geom_rgba().len() {
            let tint: [f64; 3] = std::array::from_fn(|_| self.factor(Knob::ColourTint));
            let num_materials = model.mat_rgba().len();
            let colour = match index.checked_sub(num_materials) {
                None => &mut model.mat_rgba_mut()[index],
                // A colour of its own, or MuJoCo's default one, which its material's colour stands in for.
                Some(geom) if model.geom_matid()[geom] < 0 || model.geom_rgba()[geom] != DEFAULT_RGBA => {
                    &mut model.geom_rgba_mut()[geom]
                }
                Some(_) => continue,
            };
            colour.iter_mut().zip(tint).for_each(|(value, factor)| *value = (*value * factor as f32).min(1.0));
        }
    }

    fn dynamics(&mut self, physics: &mut Physics) {
        for body in 0..physics.model().body_mass().len() {
            let factor = self.factor(Knob::Mass);
            let model = physics.model_mut();
            model.body_mass_mut()[body] *= factor;
            model.body_inertia_mut()[body].iter_mut().for_each(|value| *value *= factor);
        }
        for geom in 0..physics.model().geom_friction().len() {
            let factor = self.factor(Knob::Friction);
            physics.model_mut().geom_friction_mut()[geom].iter_mut().for_each(|value| *value *= factor);
        }
        // Explicit pairs of geoms have a friction of their own.
        for pair in 0..physics.model().pair_friction().len() {
            let factor = self.factor(Knob::Friction);
            physics.model_mut().pair_friction_mut()[pair].iter_mut().for_each(|value| *value *= factor);
        }
    }

    fn cameras(&mut self, physics: &mut Physics) {
        for camera in 0..physics.model().cam_pos().len() {
            let (shift, turn) = (self.shift(Knob::CameraShift), self.shift(Knob::CameraTurn));
            let fovy = self.factor(Knob::CameraFovy);
            let model = physics.model_mut();
            add(&mut model.cam_pos_mut()[camera], shift);
            let [w, x, y, z] = model.cam_quat()[camera];
            let turned = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z))
                * UnitQuaternion::from_scaled_axis(Vector3::from(turn));
            model.cam_quat_mut()[camera] = [turned.w, turned.i, turned.j, turned.k];
            let fovy = scale_angle_of_view(model, camera, fovy);
            model.cam_fovy_mut()[camera] = fovy;
            follow_pose(physics, camera, shift, turned);
        }
    }

    fn actuators(&mut self, physics: &mut Physics) {
        let model = physics.model();
        let [mut gains, mut biases] =
            [model.actuator_gainprm(), model.actuator_biasprm()].map(|values| values.to_vec());
        let kinds = model.actuator_gaintype().to_vec();
        for ((gain, bias), kind) in gains.iter_mut().zip(&mut biases).zip(kinds) {
            let factor = self.factor(Knob::ActuatorGain);
            // What the others' parameters mean is their own; `notes` names them.
            if !has_scalable_gain(kind) {
                continue;
            }
            // A muscle's gain and bias hold its peak force, or else a scale for it, after its range of lengths.
            let scaled = if kind == MjtGain::mjGAIN_MUSCLE { 2..4 } else { 0..3 };
            let values = gain[scaled.clone()].iter_mut().chain(&mut bias[scaled]);
            values.for_each(|value| *value *= factor);
        }
        physics.set_gains(&gains, &biases);
    }
}

/// Rotation of a body in the default pose, which is the state that draws are made in.
fn world_from_body(physics: &Physics, body: i32) -> UnitQuaternion<f64> {
    let [w, x, y, z] = physics.data().xquat().get(body as usize).copied().unwrap_or([1.0, 0.0, 0.0, 0.0]);
    UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z))
}

/// Cameras that follow their body keep their pose relative to it in the world's directions: MuJoCo reads it from here.
fn follow_pose(physics: &mut Physics, camera: usize, shift: [f64; 3], body_from_camera: UnitQuaternion<f64>) {
    let world_from_body = world_from_body(physics, physics.model().cam_bodyid()[camera]);
    let shift = world_from_body * Vector3::from(shift);
    let rotation = (world_from_body * body_from_camera).to_rotation_matrix();
    let model = physics.model_mut();
    add(&mut model.cam_pos0_mut()[camera], shift.into());
    add(&mut model.cam_poscom0_mut()[camera], shift.into());
    // Row major, where nalgebra goes by columns.
    model.cam_mat0_mut()[camera].copy_from_slice(rotation.matrix().transpose().as_slice());
}

/// Scales a camera's angle of view, and gives the new `fovy`. A camera with a sensor has it in its focal lengths.
fn scale_angle_of_view(model: &mut MjModel, camera: usize, factor: f64) -> f64 {
    let fovy = model.cam_fovy()[camera];
    if model.cam_projection()[camera] == MjtProjection::mjPROJ_ORTHOGRAPHIC {
        return fovy * factor;
    }
    let scaled = |degrees: f64| (degrees * factor).min(WIDEST_DEGREES.max(degrees));
    let height = f64::from(model.cam_sensorsize()[camera][1]);
    if height > 0.0 {
        let [x, y, ..] = &mut model.cam_intrinsic_mut()[camera];
        let angle = 2.0 * (height / 2.0 / f64::from(*y)).atan();
        let new_y = height / 2.0 / (scaled(angle.to_degrees()).to_radians() / 2.0).tan();
        let ratio = (new_y / f64::from(*y)) as f32;
        (*x, *y) = (*x * ratio, *y * ratio);
    }
    scaled(fovy)
}

fn add(values: &mut [f64; 3], shift: [f64; 3]) {
    values.iter_mut().zip(shift).for_each(|(value, shift)| *value += shift);
}
