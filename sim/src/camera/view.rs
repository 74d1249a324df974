//! Where a camera is and how it maps the world onto its pixels: the truth that calibration and labels are measured by.

use mujoco_rs::prelude::MjModel;
use mujoco_rs::wrappers::mj_visualization::MjvCamera;
use nalgebra::{Isometry3, Matrix3, Point3, Rotation3, Translation3, UnitQuaternion, Vector3};

use crate::physics::Physics;

/// A pinhole camera without distortion, as OpenCV has it: x to the right, y down, z forward; pixel (0, 0) is the *centre* of
/// the top left pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraView {
    /// Focal lengths `[x, y]`, pixels.
    pub focal_pixels: [f64; 2],
    /// Where the optical axis meets the image `[x, y]`, pixels.
    pub centre_pixels: [f64; 2],
    /// Pose of the camera in the world, metres.
    pub world_from_camera: Isometry3<f64>,
}

impl CameraView {
    /// Pixel `[x, y]` and depth (metres along the optical axis) of a point in the world; `None` behind the camera. The
    /// pixel may lie outside the image, and other things may stand before the point.
    pub fn project(&self, world_point: [f64; 3]) -> Option<([f64; 2], f64)> {
        let point = self.world_from_camera.inverse_transform_point(&Point3::from(world_point));
        let pixel = |axis: usize| self.focal_pixels[axis] * point[axis] / point.z + self.centre_pixels[axis];
        (point.z > 0.0).then(|| ([pixel(0), pixel(1)], point.z))
    }

    /// The point in the world that a pixel shows at this depth, metres along the optical axis.
    pub fn unproject(&self, pixel: [f64; 2], depth_metres: f64) -> [f64; 3] {
        let ray = |axis: usize| (pixel[axis] - self.centre_pixels[axis]) / self.focal_pixels[axis] * depth_metres;
        (self.world_from_camera * Point3::new(ray(0), ray(1), depth_metres)).into()
    }
}

/// The view of a camera in the present state; `None` where it has no perspective.
pub(super) fn view(physics: &Physics, camera: &MjvCamera, [width, height]: [u32; 2]) -> Option<CameraView> {
    let model = physics.model();
    let (position, forward, up, right) = camera.frame(physics.data());
    let down = Vector3::from(up) * -1.0;
    let axes = Matrix3::from_columns(&[Vector3::from(right), down, Vector3::from(forward)]);
    let rotation = UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(axes));
    let size = [f64::from(width), f64::from(height)];
    let (focal_pixels, from_middle) = lens(model, camera, size)?;
    Some(CameraView {
        focal_pixels,
        centre_pixels: [(size[0] - 1.0) / 2.0 + from_middle[0], (size[1] - 1.0) / 2.0 + from_middle[1]],
        world_from_camera: Isometry3::from_parts(Translation3::from(position), rotation),
    })
}

/// Focal lengths, and the optical axis relative to the middle of the image, both in pixels.
fn lens(model: &MjModel, camera: &MjvCamera, size: [f64; 2]) -> Option<([f64; 2], [f64; 2])> {
    let fixed = usize::try_from(camera.fixedcamid).ok();
    let (is_orthographic, fovy) = fixed.map_or_else(
        || (model.vis().global.orthographic != 0, f64::from(model.vis().global.fovy)),
        |id| (model.cam_projection()[id] as i32 != 0, model.cam_fovy()[id]),
    );
    if is_orthographic {
        return None;
    }
    let with_sensor = fixed.filter(|id| model.cam_sensorsize()[*id].iter().all(|side| *side > 0.0));
    let Some(id) = with_sensor else {
        let focal = size[1] / 2.0 / (fovy.to_radians() / 2.0).tan();
        return Some(([focal; 2], [0.0; 2]));
    };
    // Lengths on the sensor, metres: `[focal x, focal y, principal x, principal y]`; MuJoCo moves the sensor rather than the axis.
    let (lengths, sensor) = (model.cam_intrinsic()[id], model.cam_sensorsize()[id]);
    let per_metre = [0, 1].map(|axis| size[axis] / f64::from(sensor[axis]));
    let in_pixels = |first: usize| [0, 1].map(|axis| f64::from(lengths[first + axis]) * per_metre[axis]);
    Some((in_pixels(0), in_pixels(2).map(|length| -length)))
}
