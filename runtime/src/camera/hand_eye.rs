//! Where a camera is mounted: hand-eye calibration (AX = XB) out of poses of the gripper and views of a board that stands still.

use foresee_firmware_config::IntrinsicsProfile;
use nalgebra::{Isometry3, Matrix3, Rotation3, Translation3, UnitQuaternion, Vector3};
use opencv::calib3d::{HandEyeCalibrationMethod, calibrate_hand_eye, rodrigues_def, solve_pnp_def};
use opencv::core::{Mat, MatTraitConst, Point2f, Vector};

use super::calibrate::{CalibrationView, Checkerboard};
use super::words;
use crate::error::RuntimeError;

/// Two motions with axes that are not parallel determine the mount; a third view more than that tells how well.
const MIN_VIEWS: usize = 4;
/// Rotations of less than this about every axis determine nothing.
const MIN_TURN_RADIANS: f64 = 0.1;

/// One view: where the gripper was, and where the board was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandEyeView {
    /// The gripper in the robot's base.
    pub base_from_gripper: Isometry3<f64>,
    /// The board in the camera: x right, y down, z forward.
    pub camera_from_board: Isometry3<f64>,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandEye {
    /// The camera in the gripper.
    pub gripper_from_camera: Isometry3<f64>,
    /// How far the board, which stands still, seems to move: root mean square over the views.
    pub spread_metres: f64,
    /// How far it seems to turn.
    pub spread_radians: f64,
}

/// The board's pose in the camera, of one view.
///
/// # Errors
/// [`RuntimeError::Frame`] when the corners fit no pose.
pub fn board_pose(
    view: &CalibrationView,
    board: &Checkerboard,
    lens: &IntrinsicsProfile,
) -> Result<Isometry3<f64>, RuntimeError> {
    let fail = |problem: String| RuntimeError::Frame(format!("{}: {problem}", view.name));
    pose(view, board, lens).map_err(fail)
}

/// The camera in the gripper, by Park and Martin's method (IEEE Transactions on Robotics and Automation 10(5), 1994).
///
/// # Errors
/// [`RuntimeError::Frame`] when there are too few views, or the gripper was hardly turned between them.
pub fn hand_eye(views: &[HandEyeView]) -> Result<HandEye, RuntimeError> {
    let fail = |problem: String| RuntimeError::Frame(format!("hand-eye calibration: {problem}"));
    if views.len() < MIN_VIEWS {
        return Err(fail(format!(
            "{} views; at least {MIN_VIEWS} are needed, with the gripper turned between them",
            views.len()
        )));
    }
    if !turns_about_two_axes(views) {
        let problem =
            "the gripper was turned about one axis at most; turn it about at least two, by some tenths of a radian";
        return Err(fail(problem.to_owned()));
    }
    solve(views).map_err(fail)
}

/// The turns between views span a plane: the second largest axis of their spread is a turn worth the name.
fn turns_about_two_axes(views: &[HandEyeView]) -> bool {
    let Some(first) = views.first() else { return false };
    let turns = views
        .iter()
        .map(|view| (first.base_from_gripper.rotation.inverse() * view.base_from_gripper.rotation).scaled_axis());
    let spread: Matrix3<f64> = turns.map(|turn| turn * turn.transpose()).sum();
    let mut sizes: Vec<f64> = spread.symmetric_eigenvalues().iter().map(|value| value.max(0.0).sqrt()).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.get(1).is_some_and(|second| *second > MIN_TURN_RADIANS)
}

fn solve(views: &[HandEyeView]) -> Result<HandEye, String> {
    let mut sides: [Vector<Mat>; 4] = std::array::from_fn(|_| Vector::new());
    for view in views {
        let parts = [view.base_from_gripper, view.camera_from_board].map(|pose| (rotation(&pose), translation(&pose)));
        let [(gripper_rotation, gripper_place), (board_rotation, board_place)] = parts;
        for (side, part) in sides.iter_mut().zip([gripper_rotation?, gripper_place?, board_rotation?, board_place?]) {
            side.push(part);
        }
    }
    let [gripper_rotations, gripper_places, board_rotations, board_places] = &sides;
    let (mut turned, mut moved) = (Mat::default(), Mat::default());
    let method = HandEyeCalibrationMethod::CALIB_HAND_EYE_PARK;
    calibrate_hand_eye(
        gripper_rotations,
        gripper_places,
        board_rotations,
        board_places,
        &mut turned,
        &mut moved,
        method,
    )
    .map_err(words)?;
    let gripper_from_camera = isometry(&turned, &moved)?;
    let boards: Vec<Isometry3<f64>> =
        views.iter().map(|view| view.base_from_gripper * gripper_from_camera * view.camera_from_board).collect();
    let number = boards.len() as f64;
    let middle = boards.iter().map(|board| board.translation.vector).sum::<Vector3<f64>>() / number;
    let metres = boards.iter().map(|board| (board.translation.vector - middle).norm_squared()).sum::<f64>() / number;
    // Against the first board, so that the spread is of pairs; of independent errors it is larger by the root of two.
    let turns =
        boards.iter().skip(1).zip(&boards).map(|(board, before)| before.rotation.angle_to(&board.rotation).powi(2));
    let radians = turns.sum::<f64>() / (number - 1.0) / 2.0;
    Ok(HandEye { gripper_from_camera, spread_metres: metres.sqrt(), spread_radians: radians.sqrt() })
}

fn pose(view: &CalibrationView, board: &Checkerboard, lens: &IntrinsicsProfile) -> Result<Isometry3<f64>, String> {
    let matrix = Mat::from_slice_2d(&[
        [lens.fx_pixels, 0.0, lens.cx_pixels],
        [0.0, lens.fy_pixels, lens.cy_pixels],
        [0.0, 0.0, 1.0],
    ])
    .map_err(words)?;
    let distortion = Vector::<f64>::from_slice(&lens.distortion);
    let corners: Vector<Point2f> = view.corners.iter().map(|[x, y]| Point2f::new(*x, *y)).collect();
    let (mut axis, mut moved, mut turned) = (Mat::default(), Mat::default(), Mat::default());
    let is_found =
        solve_pnp_def(&board.points(), &corners, &matrix, &distortion, &mut axis, &mut moved).map_err(words)?;
    if !is_found {
        return Err("the corners fit no pose of the board".to_owned());
    }
    rodrigues_def(&axis, &mut turned).map_err(words)?;
    isometry(&turned, &moved)
}

fn rotation(pose: &Isometry3<f64>) -> Result<Mat, String> {
    let matrix = pose.rotation.to_rotation_matrix();
    let rows: [[f64; 3]; 3] = std::array::from_fn(|row| std::array::from_fn(|column| matrix[(row, column)]));
    Mat::from_slice_2d(&rows).map_err(words)
}

fn translation(pose: &Isometry3<f64>) -> Result<Mat, String> {
    let rows: [[f64; 1]; 3] = std::array::from_fn(|row| [pose.translation.vector[row]]);
    Mat::from_slice_2d(&rows).map_err(words)
}

fn isometry(turned: &Mat, moved: &Mat) -> Result<Isometry3<f64>, String> {
    let at = |mat: &Mat, row: usize, column: usize| mat.at_2d::<f64>(row as i32, column as i32).copied().map_err(words);
    let (mut matrix, mut place) = (Matrix3::zeros(), Vector3::zeros());
    for row in 0..3 {
        place[row] = at(moved, row, 0)?;
        for column in 0..3 {
            matrix[(row, column)] = at(turned, row, column)?;
        }
    }
    if !matrix.iter().chain(place.iter()).all(|number| number.is_finite()) {
        return Err("the views contradict each other: no pose fits".to_owned());
    }
    let rotation =
        UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_eps(&matrix, 1e-12, 100, Rotation3::identity()));
    Ok(Isometry3::from_parts(Translation3::from(place), rotation))
}

#[cfg(test)]
mod tests {
    use super::super::calibrate::find_checkerboard;
    use super::super::calibrate::tests::{BOARD, TRUTH, draw, poses};
    use super::*;

    fn mount() -> Isometry3<f64> {
        let rotation = UnitQuaternion::from_euler_angles(0.3, -0.2, 1.2);
        Isometry3::from_parts(Translation3::new(0.03, -0.05, 0.08), rotation)
    }

    /// The board stands still; where the gripper was follows from where the camera saw it.
    fn gripper(camera_from_board: &Isometry3<f64>) -> Isometry3<f64> {
        let base_from_board = Isometry3::translation(0.5, 0.1, 0.02);
        base_from_board * camera_from_board.inverse() * mount().inverse()
    }

    #[test]
    fn a_mount_is_found_again_in_pictures() {
        let mut views = Vec::new();
        for camera_from_board in poses() {
            let Some(seen) = find_checkerboard(&draw(&TRUTH, &camera_from_board), &BOARD, "view").unwrap() else {
                continue;
            };
            let pose = board_pose(&seen, &BOARD, &TRUTH).unwrap();
            views.push(HandEyeView { base_from_gripper: gripper(&camera_from_board), camera_from_board: pose });
        }
        let found = hand_eye(&views).unwrap();
        let moved = (found.gripper_from_camera.translation.vector - mount().translation.vector).norm();
        let turned = found.gripper_from_camera.rotation.angle_to(&mount().rotation);
        assert!(moved < 0.002 && turned < 0.005, "off by {moved} m and {turned} rad: {found:?}");
        assert!(found.spread_metres < 0.002 && found.spread_radians < 0.005, "{found:?}");
    }

    #[test]
    fn views_that_determine_nothing_are_refused() {
        let seen = Isometry3::translation(0.0, 0.0, 0.5);
        let view = |angle: f64| {
            let rotation = UnitQuaternion::from_axis_angle(&Vector3::z_axis(), angle);
            HandEyeView { base_from_gripper: rotation * Isometry3::translation(0.1, 0.0, 0.0), camera_from_board: seen }
        };
        assert!(hand_eye(&[view(0.0); 3]).unwrap_err().to_string().contains("3 views"));
        let one_axis: Vec<_> = (0..6).map(|idx| view(f64::from(idx) * 0.3)).collect();
        assert!(hand_eye(&one_axis).unwrap_err().to_string().contains("at least two"));
    }
}
