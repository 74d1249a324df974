//! A camera's calibration, the table `[intrinsics]`: as written and as checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Checked, finite, within, wrong};
use crate::profile::CameraProfile;

/// How far a rotation's rows may be from orthonormal, as they come rounded out of calibration files.
const ROTATION_TOLERANCE: f64 = 1e-3;

/// A pinhole camera with OpenCV's and ROS's distortion: `plumb_bob`, or `rational_polynomial` where k4, k5 or k6 is not 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IntrinsicsProfile {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Focal length along x, in pixels.
    pub fx_pixels: f64,
    /// Focal length along y, in pixels.
    pub fy_pixels: f64,
    /// Principal point, x, in pixels from the centre of the left column.
    pub cx_pixels: f64,
    /// Principal point, y, in pixels from the centre of the top row.
    pub cy_pixels: f64,
    /// k1, k2, p1, p2, k3, k4, k5, k6.
    pub distortion: [f64; 8],
    /// Root mean square reprojection error of the calibration.
    pub reprojection_error_pixels: Option<f64>,
    /// How frames are straightened before anything else; `None`: they are used as they come.
    pub straightening: Option<StraighteningProfile>,
}

impl IntrinsicsProfile {
    /// The distortion model by its name in ROS 2 `sensor_msgs/msg/CameraInfo`.
    pub fn distortion_model(&self) -> &'static str {
        let [.., k4, k5, k6] = self.distortion;
        if [k4, k5, k6] == [0.0; 3] { "plumb_bob" } else { "rational_polynomial" }
    }
}

/// The camera that straightened frames seem to come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StraighteningProfile {
    /// Rows of the rotation from the camera to the rectified camera: R of `CameraInfo`.
    pub rectification: [[f64; 3]; 3],
    /// fx, fy, cx, cy of the rectified camera, in pixels: of P in `CameraInfo`.
    pub projection_pixels: [f64; 4],
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawIntrinsics {
    /// Width of the images that were calibrated with, in pixels: the camera's.
    pub(crate) width: u32,
    /// Height of the images that were calibrated with, in pixels: the camera's.
    pub(crate) height: u32,
    /// Focal length in pixels along x.
    pub(crate) fx_pixels: f64,
    /// Focal length in pixels along y.
    pub(crate) fy_pixels: f64,
    /// Principal point, x.
    pub(crate) cx_pixels: f64,
    /// Principal point, y.
    pub(crate) cy_pixels: f64,
    /// OpenCV's and ROS's k1, k2, p1, p2, k3 (`plumb_bob`), or these and k4, k5, k6 (`rational_polynomial`).
    pub(crate) distortion: Vec<f64>,
    /// Root mean square reprojection error of the calibration.
    pub(crate) reprojection_error_pixels: Option<f64>,
    /// Straighten frames in the preprocessing; false without it.
    pub(crate) undistort: Option<bool>,
    /// Row-major rotation into the rectified camera, R of CameraInfo; none without it. Only with undistort.
    pub(crate) rectification: Option<[f64; 9]>,
    /// fx, fy, cx, cy of the rectified camera, P[0], P[5], P[2], P[6] of CameraInfo; the camera's own without it. Only with undistort.
    pub(crate) projection_pixels: Option<[f64; 4]>,
}

pub(crate) fn intrinsics(raw: &RawIntrinsics, camera: &CameraProfile) -> Checked<IntrinsicsProfile> {
    let RawIntrinsics { width, height, fx_pixels, fy_pixels, cx_pixels, cy_pixels, .. } = *raw;
    for (key, found, wanted) in [("width", width, camera.width), ("height", height, camera.height)] {
        if found != wanted {
            let rule = format!("camera.{key} is {wanted}; calibrate at the size that the loop gets");
            return Err(wrong(&format!("intrinsics.{key}"), found, &rule));
        }
    }
    for (key, pixels) in [("fx_pixels", fx_pixels), ("fy_pixels", fy_pixels)] {
        within(&format!("intrinsics.{key}"), pixels, 1.0..=1e6)?;
    }
    within("intrinsics.cx_pixels", cx_pixels, 0.0..=f64::from(width))?;
    within("intrinsics.cy_pixels", cy_pixels, 0.0..=f64::from(height))?;
    finite("intrinsics.distortion", &raw.distortion)?;
    finite("intrinsics.reprojection_error_pixels", raw.reprojection_error_pixels.as_slice())?;
    Ok(IntrinsicsProfile {
        width,
        height,
        fx_pixels,
        fy_pixels,
        cx_pixels,
        cy_pixels,
        distortion: distortion(&raw.distortion)?,
        reprojection_error_pixels: raw.reprojection_error_pixels,
        straightening: straightening(raw)?,
    })
}

fn distortion(given: &[f64]) -> Checked<[f64; 8]> {
    if !matches!(given.len(), 5 | 8) {
        let rule = "5 numbers k1, k2, p1, p2, k3 (plumb_bob) or 8, with k4, k5, k6 (rational_polynomial)";
        return Err(wrong("intrinsics.distortion", format!("{given:?}"), rule));
    }
    let mut padded = [0.0; 8];
    padded.iter_mut().zip(given).for_each(|(to, from)| *to = *from);
    Ok(padded)
}

fn straightening(raw: &RawIntrinsics) -> Checked<Option<StraighteningProfile>> {
    let rectification = raw.rectification.map(|rows| ("intrinsics.rectification", rows.to_vec()));
    let projection = raw.projection_pixels.map(|pixels| ("intrinsics.projection_pixels", pixels.to_vec()));
    if !raw.undistort.unwrap_or(false) {
        return match rectification.or(projection) {
            Some((key, numbers)) => {
                Err(wrong(key, format!("{numbers:?}"), "says how frames are straightened: needs undistort = true"))
            }
            None => Ok(None),
        };
    }
    let [fx, fy, cx, cy] =
        raw.projection_pixels.unwrap_or([raw.fx_pixels, raw.fy_pixels, raw.cx_pixels, raw.cy_pixels]);
    finite("intrinsics.projection_pixels", &[fx, fy, cx, cy])?;
    if !(fx >= 1.0 && fy >= 1.0) {
        let rule = "fx, fy, cx, cy: the focal lengths fx and fy are at least 1 pixel";
        return Err(wrong("intrinsics.projection_pixels", format!("{:?}", [fx, fy, cx, cy]), rule));
    }
    let [a, b, c, d, e, f, g, h, i] = raw.rectification.unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
    let rows = [[a, b, c], [d, e, f], [g, h, i]];
    if !is_rotation(&rows) {
        let rule = "nine numbers, the rows of a rotation: orthonormal, of determinant 1 (R of CameraInfo)";
        return Err(wrong("intrinsics.rectification", format!("{rows:?}"), rule));
    }
    Ok(Some(StraighteningProfile { rectification: rows, projection_pixels: [fx, fy, cx, cy] }))
}

fn is_rotation(rows: &[[f64; 3]; 3]) -> bool {
    let dot = |a: &[f64; 3], b: &[f64; 3]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let [first, second, third] = rows;
    let cross = [
        first[1] * second[2] - first[2] * second[1],
        first[2] * second[0] - first[0] * second[2],
        first[0] * second[1] - first[1] * second[0],
    ];
    let is_near = |value: f64, wanted: f64| (value - wanted).abs() <= ROTATION_TOLERANCE;
    rows.iter().all(|row| is_near(dot(row, row), 1.0))
        && [(first, second), (first, third), (second, third)].iter().all(|(a, b)| is_near(dot(a, b), 0.0))
        && is_near(dot(&cross, third), 1.0)
}
