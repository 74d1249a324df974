//! Where a camera is mounted: hand-eye calibration (AX = XB) out of poses of the gripper and views of a board.

mod determined;
mod readings;

use foresee_firmware_config::IntrinsicsProfile;
use nalgebra::{Isometry3, Matrix3, Matrix4, Rotation3, Translation3, UnitQuaternion, Vector3, Vector4};
use opencv::calib3d::{HandEyeCalibrationMethod, calibrate_hand_eye, rodrigues_def, solve_pnp_def};
use opencv::core::{Mat, MatTraitConst, Point2f, Vector};

use super::calibrate::{CalibrationView, Checkerboard};
use super::words;
use crate::error::RuntimeError;

pub use readings::{Spread, disagreement};

/// Two motions with axes that are not parallel determine the mount; a third view more than that tells how well.
const MIN_VIEWS: usize = 4;
/// Views in which the board is this near to where another one shows it are the same view.
const SAME_METRES: f64 = 0.001;
const SAME_RADIANS: f64 = 0.003;

/// What the camera is fixed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mounting {
    /// The gripper; the board stands still on the robot's base.
    Gripper,
    /// The robot's base; the board is fixed to the gripper.
    Base,
}

/// One row of the poses: where the gripper was, and where the board was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct HandEyeView {
    /// The image's name.
    pub name: String,
    /// The gripper in the robot's base.
    pub base_from_gripper: Isometry3<f64>,
    /// The board in the camera: x right, y down, z forward; `None` where it was not found.
    pub camera_from_board: Option<Isometry3<f64>>,
}

/// The camera's pose in what it is fixed to, and how well the views agree on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HandEye {
    /// What the camera is fixed to.
    pub mounting: Mounting,
    /// The camera in the gripper or in the base.
    pub parent_from_camera: Isometry3<f64>,
    /// How far the board seems to move against what it is fixed to: root mean square over the views.
    pub spread_metres: f64,
    /// How far it seems to turn.
    pub spread_radians: f64,
}

impl Mounting {
    /// The name of the parent frame where a profile has none: `gripper` or `base`.
    pub fn parent(self) -> &'static str {
        match self {
            Self::Gripper => "gripper",
            Self::Base => "base",
        }
    }

    /// What the board is fixed to: the other end.
    pub fn board_parent(self) -> &'static str {
        match self {
            Self::Gripper => "base",
            Self::Base => "gripper",
        }
    }
}

/// A pair of the equation: what the camera is fixed to in what the board is fixed to, and the board in the camera.
#[derive(Clone, Copy, Debug)]
struct Pair {
    still_from_parent: Isometry3<f64>,
    camera_from_board: Isometry3<f64>,
}

/// A solution, with lengths in the unit of the poses: a metre of the board is `scale` of it.
#[derive(Clone, Copy, Debug)]
struct Fit {
    parent_from_camera: Isometry3<f64>,
    scale: f64,
    /// In metres of the board.
    spread_metres: f64,
    spread_radians: f64,
}

impl Fit {
    fn spread(&self) -> Spread {
        Spread { metres: self.spread_metres, radians: self.spread_radians }
    }
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

/// The camera's pose by Park and Martin's method (IEEE Transactions on Robotics and Automation 10(5), 1994). Whether
/// the poses agree is [`disagreement`]'s question.
///
/// # Errors
/// [`RuntimeError::Frame`] when there are too few different views, or they leave a part of the pose undetermined.
pub fn hand_eye(views: &[HandEyeView], mounting: Mounting) -> Result<HandEye, RuntimeError> {
    let fail = |problem: String| RuntimeError::Frame(format!("hand-eye calibration: {problem}"));
    let pairs: Vec<Pair> = views.iter().filter_map(|view| pair(view, mounting)).collect();
    let num_different = num_different(&pairs);
    if num_different < MIN_VIEWS {
        return Err(fail(format!(
            "{num_different} different views with a pose; at least {MIN_VIEWS} are needed, with the gripper turned \
             between them about at least two axes"
        )));
    }
    let found = fit(&pairs, false);
    // Without any turn there is no solution; the check then names what is missing all the same.
    let checked = found.as_ref().map_or(Isometry3::identity(), |found| found.parent_from_camera);
    let spread = found.as_ref().map_or(Spread { metres: 0.0, radians: 0.0 }, Fit::spread);
    determined::check(&pairs, &checked, spread, mounting).map_err(fail)?;
    let found = found.map_err(fail)?;
    Ok(HandEye {
        mounting,
        parent_from_camera: found.parent_from_camera,
        spread_metres: found.spread_metres,
        spread_radians: found.spread_radians,
    })
}

fn pair(view: &HandEyeView, mounting: Mounting) -> Option<Pair> {
    let still_from_parent = match mounting {
        Mounting::Gripper => view.base_from_gripper,
        Mounting::Base => view.base_from_gripper.inverse(),
    };
    Some(Pair { still_from_parent, camera_from_board: view.camera_from_board? })
}

fn is_same_view(a: &Isometry3<f64>, b: &Isometry3<f64>) -> bool {
    (a.translation.vector - b.translation.vector).norm() < SAME_METRES
        && a.rotation.angle_to(&b.rotation) < SAME_RADIANS
}

fn num_different(pairs: &[Pair]) -> usize {
    let mut different: Vec<&Pair> = Vec::new();
    for pair in pairs {
        if !different.iter().any(|seen| is_same_view(&seen.camera_from_board, &pair.camera_from_board)) {
            different.push(pair);
        }
    }
    different.len()
}

/// The pose that fits best; with `free_scale` the poses may have another unit of length than the board.
fn fit(pairs: &[Pair], free_scale: bool) -> Result<Fit, String> {
    let mut parent_from_camera = park(pairs)?;
    let mut scale = 1.0;
    if free_scale {
        let (moved, found) = scaled_translation(pairs, &parent_from_camera.rotation)
            .ok_or_else(|| "the views leave the scale undetermined".to_owned())?;
        parent_from_camera.translation = Translation3::from(moved);
        scale = found;
    }
    let boards: Vec<Isometry3<f64>> = pairs
        .iter()
        .map(|pair| {
            let mut seen = pair.camera_from_board;
            seen.translation.vector *= scale;
            pair.still_from_parent * parent_from_camera * seen
        })
        .collect();
    let number = boards.len() as f64;
    let middle = boards.iter().map(|board| board.translation.vector).sum::<Vector3<f64>>() / number;
    let metres = boards.iter().map(|board| (board.translation.vector - middle).norm_squared()).sum::<f64>() / number;
    // Between neighbours, so that the spread is of pairs; of independent errors it is larger by the root of two.
    let turns =
        boards.iter().skip(1).zip(&boards).map(|(board, before)| before.rotation.angle_to(&board.rotation).powi(2));
    let radians = turns.sum::<f64>() / (number - 1.0) / 2.0;
    Ok(Fit { parent_from_camera, scale, spread_metres: metres.sqrt() / scale, spread_radians: radians.sqrt() })
}

/// Position and scale by least squares over all pairs of views: `(R_A - 1) t - s R_X t_B = -t_A`.
fn scaled_translation(pairs: &[Pair], rotation: &UnitQuaternion<f64>) -> Option<(Vector3<f64>, f64)> {
    let (mut normal, mut side) = (Matrix4::<f64>::zeros(), Vector4::<f64>::zeros());
    // Poses in millimetres and in metres are equally well conditioned by this.
    let size =
        pairs.iter().map(|pair| pair.still_from_parent.translation.vector.norm()).fold(f64::MIN_POSITIVE, f64::max);
    for (idx, first) in pairs.iter().enumerate() {
        for second in pairs.iter().skip(idx + 1) {
            let a = second.still_from_parent.inverse() * first.still_from_parent;
            let b = second.camera_from_board * first.camera_from_board.inverse();
            let turn = a.rotation.to_rotation_matrix().into_inner() - Matrix3::identity();
            let along = rotation * b.translation.vector;
            for row in 0..3 {
                let line = Vector4::new(turn[(row, 0)], turn[(row, 1)], turn[(row, 2)], -along[row]);
                normal += line * line.transpose();
                side -= line * (a.translation.vector[row] / size);
            }
        }
    }
    let found = normal.try_inverse()? * side * size;
    let scale = found.w;
    (scale.is_finite() && scale > 0.0).then(|| (found.xyz(), scale))
}

fn park(pairs: &[Pair]) -> Result<Isometry3<f64>, String> {
    let mut sides: [Vector<Mat>; 4] = std::array::from_fn(|_| Vector::new());
    for pair in pairs {
        let [parent, board] = [pair.still_from_parent, pair.camera_from_board];
        let parts = [rotation(&parent)?, translation(&parent)?, rotation(&board)?, translation(&board)?];
        for (side, part) in sides.iter_mut().zip(parts) {
            side.push(part);
        }
    }
    let [parent_rotations, parent_places, board_rotations, board_places] = &sides;
    let (mut turned, mut moved) = (Mat::default(), Mat::default());
    calibrate_hand_eye(
        parent_rotations,
        parent_places,
        board_rotations,
        board_places,
        &mut turned,
        &mut moved,
        HandEyeCalibrationMethod::CALIB_HAND_EYE_PARK,
    )
    .map_err(words)?;
    isometry(&turned, &moved)
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

    const LIMITS: Spread = Spread { metres: 0.01, radians: 0.035 };
    const SQUARE_METRES: f64 = 0.03;

    fn mount() -> Isometry3<f64> {
        let rotation = UnitQuaternion::from_euler_angles(0.3, -0.2, 1.2);
        Isometry3::from_parts(Translation3::new(0.03, -0.05, 0.08), rotation)
    }

    /// The board stands still; where the gripper was follows from where the camera saw it.
    fn gripper(camera_from_board: &Isometry3<f64>, mounting: Mounting) -> Isometry3<f64> {
        let still_from_board = Isometry3::translation(0.5, 0.1, 0.02);
        let still_from_parent = still_from_board * camera_from_board.inverse() * mount().inverse();
        match mounting {
            Mounting::Gripper => still_from_parent,
            Mounting::Base => still_from_parent.inverse(),
        }
    }

    /// Views with errors of about 0.3 mm and 0.5 mrad.
    fn views(mounting: Mounting) -> Vec<HandEyeView> {
        let view = |(idx, seen): (usize, Isometry3<f64>)| {
            let wave = |phase: f64| (idx as f64 * 2.4 + phase).sin();
            let error = Vector3::new(wave(0.0), wave(1.0), wave(2.0));
            let error = Isometry3::new(error * 3e-4, Vector3::new(wave(3.0), wave(4.0), wave(5.0)) * 5e-4);
            HandEyeView {
                name: format!("{idx}.png"),
                base_from_gripper: gripper(&seen, mounting),
                camera_from_board: Some(seen * error),
            }
        };
        poses().into_iter().enumerate().map(view).collect()
    }

    /// The refusal of views whose poses were changed.
    fn refusal(mounting: Mounting, change: impl Fn(&mut Vec<HandEyeView>)) -> Option<String> {
        let mut views = views(mounting);
        change(&mut views);
        let found = hand_eye(&views, mounting).unwrap();
        disagreement(&views, &found, &LIMITS, SQUARE_METRES)
    }

    fn each(change: impl Fn(&mut Isometry3<f64>)) -> impl Fn(&mut Vec<HandEyeView>) {
        move |views| views.iter_mut().for_each(|view| change(&mut view.base_from_gripper))
    }

    fn scalar_last(pose: &mut Isometry3<f64>) {
        let q = pose.rotation.into_inner();
        pose.rotation = UnitQuaternion::from_quaternion(nalgebra::Quaternion::new(q.i, q.j, q.k, q.w));
    }

    fn shift(views: &mut [HandEyeView], by: usize) {
        let mut poses: Vec<_> = views.iter().map(|view| view.base_from_gripper).collect();
        poses.rotate_left(by);
        views.iter_mut().zip(poses).for_each(|(view, pose)| view.base_from_gripper = pose);
    }

    #[test]
    fn a_mount_is_found_again_in_pictures() {
        let mut views = Vec::new();
        for camera_from_board in poses() {
            let Some(seen) = find_checkerboard(&draw(&TRUTH, &camera_from_board), &BOARD, "view").unwrap() else {
                continue;
            };
            let pose = board_pose(&seen, &BOARD, &TRUTH).unwrap();
            let base_from_gripper = gripper(&camera_from_board, Mounting::Gripper);
            views.push(HandEyeView { name: seen.name, base_from_gripper, camera_from_board: Some(pose) });
        }
        let found = hand_eye(&views, Mounting::Gripper).unwrap();
        let moved = (found.parent_from_camera.translation.vector - mount().translation.vector).norm();
        let turned = found.parent_from_camera.rotation.angle_to(&mount().rotation);
        assert!(moved < 0.002 && turned < 0.005, "off by {moved} m and {turned} rad: {found:?}");
        assert!(found.spread_metres < 0.002 && found.spread_radians < 0.005, "{found:?}");
        assert_eq!(disagreement(&views, &found, &LIMITS, SQUARE_METRES), None);
    }

    #[test]
    fn both_kinds_of_mounting_are_found() {
        for mounting in [Mounting::Gripper, Mounting::Base] {
            let found = hand_eye(&views(mounting), mounting).unwrap();
            let moved = (found.parent_from_camera.translation.vector - mount().translation.vector).norm();
            assert!(moved < 0.001 && found.spread_metres < 0.001, "{found:?}");
            assert_eq!(refusal(mounting, |_| {}), None);
        }
    }

    #[test]
    fn poses_that_are_read_wrongly_are_refused_with_the_reading_that_fits() {
        for mounting in [Mounting::Gripper, Mounting::Base] {
            let refused = |what: &str, change: &dyn Fn(&mut Vec<HandEyeView>), expected: &[&str]| {
                let refusal = refusal(mounting, change).unwrap_or_default();
                for expected in expected.iter().chain(&["it moves by", "agree to 0."]) {
                    assert!(refusal.contains(expected), "{what}, {mounting:?}: no {expected:?} in {refusal:?}");
                }
            };
            refused("x y z w", &each(scalar_last), &["read as x y z w"]);
            refused("inverse", &each(|pose| *pose = pose.inverse()), &["poses are inverted", "--fixed-camera"]);
            refused("conjugate", &each(|pose| pose.rotation = pose.rotation.inverse()), &["rotations alone"]);
            refused("mm", &each(|pose| pose.translation.vector *= 1e3), &["in millimetres"]);
            refused("cm", &each(|pose| pose.translation.vector *= 1e2), &["in centimetres"]);
            refused("inches", &each(|pose| pose.translation.vector /= 0.0254), &["in inches"]);
            refused("squares", &each(|pose| pose.translation.vector *= 1.2), &["36.0", "30.00 mm", "--square-metres"]);
            refused("shifted", &|views| shift(views, 1), &["1 row before"]);
            refused("shifted by two", &|views| shift(views, 2), &["2 rows before"]);
            refused(
                "exchanged",
                &|views| {
                    let pose = views[2].base_from_gripper;
                    views[2].base_from_gripper = std::mem::replace(&mut views[7].base_from_gripper, pose);
                },
                &["2.png and 7.png are exchanged"],
            );
            refused("one wrong", &|views| views[4].base_from_gripper = Isometry3::identity(), &["without 4.png"]);
            refused(
                "mm and x y z w",
                &each(|pose| {
                    scalar_last(pose);
                    pose.translation.vector *= 1e3;
                }),
                &["x y z w", "millimetres"],
            );
        }
    }

    #[test]
    fn poses_that_no_reading_explains_say_what_to_check() {
        let refusal = refusal(
            Mounting::Gripper,
            each(|pose| {
                // Half angles in degrees where radians were wanted.
                pose.rotation = UnitQuaternion::from_scaled_axis(pose.rotation.scaled_axis() * 57.3);
            }),
        );
        let refusal = refusal.unwrap();
        assert!(refusal.contains("no other reading agrees") && refusal.contains("radians"), "{refusal}");
    }

    #[test]
    fn a_constant_offset_of_the_pose_is_the_mounts_and_no_fault() {
        let tool = Isometry3::translation(0.0, 0.02, 0.1);
        assert_eq!(refusal(Mounting::Gripper, each(move |pose| *pose *= tool)), None);
        assert_eq!(refusal(Mounting::Gripper, each(move |pose| *pose = tool * *pose)), None);
    }

    #[test]
    fn views_that_determine_nothing_are_refused() {
        let view = |turn: Vector3<f64>, shift: Vector3<f64>| {
            let base_from_gripper = Isometry3::new(shift, turn);
            let seen = mount().inverse() * base_from_gripper.inverse() * Isometry3::translation(0.5, 0.1, 0.02);
            HandEyeView { name: "x".to_owned(), base_from_gripper, camera_from_board: Some(seen) }
        };
        let refused = |views: &[HandEyeView]| hand_eye(views, Mounting::Gripper).unwrap_err().to_string();
        let numbers = || (0..8).map(f64::from);
        let place = |idx: f64| Vector3::new(0.3 + 0.05 * idx, 0.1 * (idx * 2.0).sin(), 0.3 + 0.05 * (idx * 3.0).cos());
        assert!(refused(&[(); 8].map(|()| view(Vector3::zeros(), place(0.0)))).contains("1 different views"));
        let still: Vec<_> = numbers().map(|idx| view(Vector3::zeros(), place(idx))).collect();
        assert!(refused(&still).contains("turned by 0 degrees"), "{}", refused(&still));
        let one_axis: Vec<_> = numbers().map(|idx| view(Vector3::z() * idx * 0.2, place(idx))).collect();
        let refusal = refused(&one_axis);
        assert!(
            refusal.contains("position along z of the gripper") && refusal.contains("at least two axes"),
            "{refusal}"
        );
        let hardly = |idx: f64| Vector3::new(0.01 * (idx * 1.7).sin(), 0.0, idx * 0.2);
        let hardly: Vec<_> = numbers().map(|idx| view(hardly(idx), place(idx))).collect();
        assert!(refused(&hardly).contains("position along"), "{}", refused(&hardly));
        let enough = |idx: f64| Vector3::new(0.3 * (idx * 1.7).sin(), 0.2 * (idx * 2.9).cos(), idx * 0.2);
        let enough: Vec<_> = numbers().map(|idx| view(enough(idx), place(idx))).collect();
        assert!(hand_eye(&enough, Mounting::Gripper).is_ok());
    }
}
