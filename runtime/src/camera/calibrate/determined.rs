//! Which of a camera's parameters the views leave undetermined.

use nalgebra::{SMatrix, Vector3};
use opencv::calib3d::{project_points, rodrigues_def};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Point2f, Point3f, Size, Vector};

use super::super::words;

/// fx, fy, cx, cy, then k1, k2, p1, p2, k3.
const NUM_PARAMETERS: usize = 9;
const NAMES: [&str; 4] =
    ["the focal length fx", "the focal length fy", "the principal point cx", "the principal point cy"];
/// A corner is not trusted to be found better than this.
const MIN_NOISE_PIXELS: f64 = 0.1;
/// Allowed standard deviation of a focal length against itself, and of the principal point against the image's width.
const MAX_DEVIATION_SHARE: f64 = 0.02;
/// Allowed standard deviation of what the distortion does, where the board was seen furthest from the middle, against
/// the image's width.
const MAX_DISTORTION_SHARE: f64 = 0.02;
/// Boards that are all parallel to each other determine no focal length.
const MIN_TILT_DEGREES: f64 = 10.0;

type Information = SMatrix<f64, NUM_PARAMETERS, NUM_PARAMETERS>;

/// What the calibration found.
pub(super) struct Solution<'a> {
    pub(super) matrix: &'a Mat,
    pub(super) distortion: &'a Mat,
    pub(super) error_pixels: f64,
    pub(super) size: Size,
}

/// Refuses views that leave a parameter undetermined: by the spread of the boards' tilt, and by the standard deviations
/// of the parameters with the poses of the boards eliminated.
///
/// # Errors
/// One sentence with the parameter and what to photograph.
pub(super) fn check(
    solution: &Solution<'_>,
    object_points: &Vector<Vector<Point3f>>,
    image_points: &Vector<Vector<Point2f>>,
    rotations: &Vector<Mat>,
    translations: &Vector<Mat>,
) -> Result<(), String> {
    let tilt = tilt_degrees(rotations)?;
    let advice = format!(
        "; tilt the board by 20 to 45 degrees, to the left and right and forward and backward (the views are tilted \
         against each other by at most {tilt:.0} degrees), near and far, in every part of the image"
    );
    if tilt < MIN_TILT_DEGREES {
        return Err(format!("the views do not determine the focal lengths fx and fy: all are parallel{advice}"));
    }
    let mut information = Information::zeros();
    let views = object_points.iter().zip(rotations.iter()).zip(translations.iter());
    for ((points, turned), moved) in views {
        information += of_view(solution, &points, &turned, &moved)?;
    }
    let noise = solution.error_pixels.max(MIN_NOISE_PIXELS);
    let at = |row: i32, column: i32| solution.matrix.at_2d::<f64>(row, column).copied().map_err(words);
    let (fx, fy, width) = (at(0, 0)?, at(1, 1)?, f64::from(solution.size.width));
    let Some(covariance) = inverse(&information) else {
        return Err(format!("the views do not determine the parameters of the camera{advice}"));
    };
    for ((name, of), idx) in NAMES.into_iter().zip([fx, fy, width, width]).zip(0..) {
        let deviation = noise * covariance[(idx, idx)].max(0.0).sqrt();
        if deviation > MAX_DEVIATION_SHARE * of.abs() {
            return Err(format!("{name} is known to +- {deviation:.0} pixels only{advice}"));
        }
    }
    let reach = reach(image_points, [fx, fy, at(0, 2)?, at(1, 2)?]);
    let deviation = noise * fx * distortion_variance(&covariance, reach).max(0.0).sqrt();
    if deviation > MAX_DISTORTION_SHARE * width {
        return Err(format!(
            "the distortion k1, k2, p1, p2, k3 is known to +- {deviation:.0} pixels only at the edge of what the board \
             covered; show the board in every corner of the image, so near that it fills half of it"
        ));
    }
    Ok(())
}

/// The largest angle between the normals of two boards.
fn tilt_degrees(rotations: &Vector<Mat>) -> Result<f64, String> {
    let mut normals = Vec::new();
    for axis in rotations {
        let mut turned = Mat::default();
        rodrigues_def(&axis, &mut turned).map_err(words)?;
        let part = |row: i32| turned.at_2d::<f64>(row, 2).copied().map_err(words);
        normals.push(Vector3::new(part(0)?, part(1)?, part(2)?));
    }
    let pairs = normals.iter().enumerate().flat_map(|(idx, a)| normals.iter().skip(idx + 1).map(move |b| a.angle(b)));
    Ok(pairs.fold(0.0, f64::max).to_degrees())
}

/// What one view tells about the camera, its own pose eliminated (the Schur complement of the normal equations).
fn of_view(
    solution: &Solution<'_>,
    points: &Vector<Point3f>,
    turned: &Mat,
    moved: &Mat,
) -> Result<Information, String> {
    let (mut projected, mut jacobian) = (Mat::default(), Mat::default());
    let (matrix, distortion) = (solution.matrix, solution.distortion);
    project_points(points, turned, moved, matrix, distortion, &mut projected, &mut jacobian, 0.0).map_err(words)?;
    let mut pose = SMatrix::<f64, 6, 6>::zeros();
    let mut both = SMatrix::<f64, 6, NUM_PARAMETERS>::zeros();
    let mut camera = Information::zeros();
    for row in 0..jacobian.rows() {
        let row = jacobian.at_row::<f64>(row).map_err(words)?;
        let Some((of_pose, of_camera)) = row.split_at_checked(6) else { continue };
        let of_pose = SMatrix::<f64, 6, 1>::from_iterator(of_pose.iter().copied());
        let of_camera = of_camera.iter().copied().chain(std::iter::repeat(0.0));
        let of_camera = SMatrix::<f64, NUM_PARAMETERS, 1>::from_iterator(of_camera);
        pose += of_pose * of_pose.transpose();
        both += of_pose * of_camera.transpose();
        camera += of_camera * of_camera.transpose();
    }
    let inverse = pose.try_inverse().ok_or_else(|| "a view does not determine the board's pose".to_owned())?;
    Ok(camera - both.transpose() * inverse * both)
}

/// Inverse of a positive definite matrix, its rows and columns brought to one size first.
fn inverse(information: &Information) -> Option<Information> {
    let sizes = information.diagonal().map(|value| value.max(0.0).sqrt().recip());
    if !sizes.iter().all(|size| size.is_finite()) {
        return None;
    }
    let scale = Information::from_diagonal(&sizes);
    let inverse = (scale * information * scale).cholesky()?.inverse();
    Some(scale * inverse * scale)
}

/// How far from the optical axis the board was seen, at depth 1.
fn reach(image_points: &Vector<Vector<Point2f>>, [fx, fy, cx, cy]: [f64; 4]) -> f64 {
    let away = |point: Point2f| ((f64::from(point.x) - cx) / fx).hypot((f64::from(point.y) - cy) / fy);
    image_points.iter().flat_map(|view| view.iter().map(away).collect::<Vec<_>>()).fold(0.0, f64::max)
}

/// Variance of the radial displacement at this distance from the axis, at depth 1 and for noise of one pixel.
fn distortion_variance(covariance: &Information, reach: f64) -> f64 {
    let square = reach * reach;
    let effect = [reach * square, reach * square * square, 0.0, 0.0, reach * square.powi(3)];
    let effect = effect.into_iter().enumerate();
    effect
        .clone()
        .flat_map(|(row, a)| effect.clone().map(move |(column, b)| a * b * covariance[(4 + row, 4 + column)]))
        .sum()
}
