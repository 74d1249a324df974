//! What a file of ranges names that a model has no target for, or a target that MuJoCo does not let it change.

use mujoco_rs::wrappers::mj_model::{MjtGain, MjtLightType, MjtObjBase};

use super::super::{Knob, Randomisation};
use crate::environment::names;
use crate::physics::Physics;

/// Whether the leading parameters of a gain are factors of the force.
pub(crate) fn has_scalable_gain(kind: MjtGain) -> bool {
    matches!(kind, MjtGain::mjGAIN_FIXED | MjtGain::mjGAIN_AFFINE | MjtGain::mjGAIN_MUSCLE)
}

/// One sentence a key and target.
pub(super) fn notes(ranges: &Randomisation, physics: &Physics) -> Vec<String> {
    let model = physics.model();
    let mut notes = Vec::new();
    let mut note = |knob: Knob, key: &str, problem: Option<String>| {
        if let Some(problem) = problem.filter(|_| ranges.names(&[knob])) {
            notes.push(format!("--randomise: {key} {problem}"));
        }
    };
    let absent = |is_absent: bool, what: &str| is_absent.then(|| format!("has no effect: the model has no {what}"));
    let num_lights = model.light_pos().len();
    note(Knob::LightBrightness, "light.brightness", absent(num_lights == 0, "lights"));
    note(Knob::LightShift, "light.shift_metres", absent(num_lights == 0, "lights"));
    let lights = names(physics, MjtObjBase::mjOBJ_LIGHT, num_lights);
    for (light, kind) in lights.iter().zip(model.light_type()) {
        let is_directional = *kind == MjtLightType::mjLIGHT_DIRECTIONAL;
        let problem = format!("moves nothing but the shadows of light `{light}`, which is directional");
        note(Knob::LightShift, "light.shift_metres", is_directional.then_some(problem));
        let is_drawn = matches!(kind, MjtLightType::mjLIGHT_SPOT | MjtLightType::mjLIGHT_DIRECTIONAL);
        let problem =
            || format!("has no effect on light `{light}`: MuJoCo's renderer draws spots and directional lights alone");
        note(Knob::LightShift, "light.shift_metres", (!is_drawn).then(problem));
        note(Knob::LightBrightness, "light.brightness", (!is_drawn).then(problem));
    }
    let is_dark = model.vis().headlight.active == 0;
    note(Knob::LightAmbient, "light.ambient", absent(is_dark, "active headlight"));
    let has_textures = !model.tex_adr().is_empty();
    note(Knob::TextureBrightness, "texture.brightness", absent(!has_textures, "textures"));
    note(Knob::TextureTint, "texture.tint", absent(!has_textures, "textures"));
    let cameras = names(physics, MjtObjBase::mjOBJ_CAMERA, model.cam_fovy().len());
    for (camera, mode) in cameras.iter().zip(model.cam_mode()) {
        let problem = format!("has no effect on camera `{camera}`: it is always aimed at its target body");
        note(Knob::CameraTurn, "camera.turn_radians", crate::camera::is_aimed(*mode).then_some(problem));
    }
    let actuators = names(physics, MjtObjBase::mjOBJ_ACTUATOR, model.actuator_gaintype().len());
    note(Knob::ActuatorGain, "actuator.gain", absent(actuators.is_empty(), "actuators"));
    let kinds = model.actuator_gaintype().iter().zip(model.actuator_plugin());
    for (actuator, (kind, plugin)) in actuators.iter().zip(kinds) {
        let is_own = *plugin >= 0 || !has_scalable_gain(*kind);
        let problem = format!("has no effect on actuator `{actuator}`: its gain is not one factor");
        note(Knob::ActuatorGain, "actuator.gain", is_own.then_some(problem));
    }
    notes
}
