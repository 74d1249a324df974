//! Cameras by name: those of the model, those that a benchmark adds, and the free one; which of them the randomisation moves.

use mujoco_rs::wrappers::mj_model::MjtCamLight;
use mujoco_rs::wrappers::mj_visualization::MjvCamera;

use super::FREE_CAMERA;
use crate::environment::Environment;
use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::Physics;

/// A view that a benchmark has and the assets lack: from a place towards another, upright.
struct ExtraView {
    suite: &'static str,
    name: &'static str,
    pose: ViewPose,
}

/// Metres and degrees.
enum ViewPose {
    /// From a place towards a body.
    Towards { from: [f64; 3], body: &'static str },
    /// As Gymnasium's `default_camera_config`.
    Around { lookat: [f64; 3], distance: f64, azimuth: f64, elevation: f64 },
}

/// `top_cap2` is R3M's camera of Meta-World (Nair et al. 2022), which CortexBench uses; `default` is what `FrankaKitchen-v1` of
/// gymnasium-robotics renders.
const EXTRA_VIEWS: &[ExtraView] = &[
    ExtraView {
        suite: "metaworld",
        name: "top_cap2",
        pose: ViewPose::Towards { from: [0.0, 0.9, 0.6], body: "tablelink" },
    },
    ExtraView {
        suite: "kitchen",
        name: KITCHEN_CAMERA,
        pose: ViewPose::Around { lookat: [-0.2, 0.5, 2.0], distance: 2.2, azimuth: 70.0, elevation: -35.0 },
    },
];

/// The Kitchen's own camera shows mostly the counter.
const KITCHEN_CAMERA: &str = "default";

/// The camera that a task is looked at through where none is named: the first of its model, or its benchmark's own.
pub(crate) fn default_camera(task: &str, cameras: &[String]) -> String {
    match cameras.first() {
        _ if task.starts_with("kitchen/") => KITCHEN_CAMERA.to_string(),
        Some(first) => first.clone(),
        None => FREE_CAMERA.to_string(),
    }
}

/// The camera of this name: of the model, of the benchmark, or the free one.
pub(super) fn camera_of(environment: &Environment, name: &str) -> Result<MjvCamera, SimError> {
    let spec = environment.spec();
    if let Some(index) = spec.cameras.iter().position(|camera| camera == name) {
        return Ok(MjvCamera::new_fixed(index));
    }
    if name == FREE_CAMERA {
        return Ok(MjvCamera::new_free(environment.physics().model()));
    }
    let suite = spec.name.split('/').next().unwrap_or_default();
    let extra: Vec<_> = EXTRA_VIEWS.iter().filter(|view| view.suite == suite).collect();
    if let Some(view) = extra.iter().find(|view| view.name == name) {
        return look(environment.physics(), view);
    }
    let known = spec
        .cameras
        .iter()
        .map(String::as_str)
        .chain(extra.iter().map(|view| view.name))
        .chain([FREE_CAMERA])
        .collect::<Vec<_>>()
        .join(", ");
    Err(SimError::UnknownCamera { task: spec.name.clone(), name: name.to_string(), known })
}

/// Whether MuJoCo turns a camera of this mode towards a body, whatever its orientation.
pub(crate) fn is_aimed(mode: MjtCamLight) -> bool {
    matches!(mode, MjtCamLight::mjCAMLIGHT_TARGETBODY | MjtCamLight::mjCAMLIGHT_TARGETBODYCOM)
}

/// A camera that is looked through must follow every key of the randomisation that names cameras.
pub(super) fn check_randomised(environment: &Environment, camera: &MjvCamera, name: &str) -> Result<(), SimError> {
    let mode = usize::try_from(camera.fixedcamid).ok().and_then(|id| environment.physics().model().cam_mode().get(id));
    let key = environment
        .randomisation()
        .and_then(|ranges| ranges.camera_key(mode.is_none(), mode.is_some_and(|mode| is_aimed(*mode))));
    let Some(key) = key else { return Ok(()) };
    let reason = match mode {
        None => "it is no camera of the model, which alone are randomised",
        Some(_) => "MuJoCo always aims it at its target body, so that a turn has no effect",
    };
    Err(SimError::CameraNotRandomised { name: name.to_string(), key, reason })
}

/// A free camera at a place, looking at a body.
fn look(physics: &Physics, view: &ExtraView) -> Result<MjvCamera, SimError> {
    let mut camera = MjvCamera::new_free(physics.model());
    match view.pose {
        ViewPose::Towards { from, body } => {
            camera.lookat = physics.body_position(body)?;
            let forward = difference(camera.lookat, from);
            camera.distance = norm(&forward);
            camera.azimuth = forward[1].atan2(forward[0]).to_degrees();
            camera.elevation = (forward[2] / camera.distance).asin().to_degrees();
        }
        ViewPose::Around { lookat, distance, azimuth, elevation } => {
            (camera.lookat, camera.distance, camera.azimuth, camera.elevation) = (lookat, distance, azimuth, elevation);
        }
    }
    Ok(camera)
}
