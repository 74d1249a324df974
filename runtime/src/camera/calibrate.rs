//! Intrinsics out of views of a checkerboard: Zhang's method, as OpenCV has it.

mod determined;

use foresee_firmware_config::IntrinsicsProfile;
use opencv::calib3d::{
    CALIB_CB_ACCURACY, CALIB_CB_EXHAUSTIVE, CALIB_CB_NORMALIZE_IMAGE, calibrate_camera_extended_def,
    find_chessboard_corners_sb,
};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Point2f, Point3f, Size, Vector};
use opencv::imgproc::{COLOR_BGR2GRAY, cvt_color_def};

use super::words;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::preprocess::to_rgb;

/// Zhang's method needs three views of a plane; fewer than this leave the distortion undetermined in practice.
const MIN_VIEWS: usize = 5;
const MAX_CORNERS: i32 = 10_000;
/// Views whose corners are this near to each other, on average, are the same view.
const SAME_VIEW_PIXELS: f32 = 0.5;

/// A checkerboard as OpenCV counts it. ChArUco boards are not read: their detector is in a module of OpenCV that this build leaves out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkerboard {
    /// Inner corners in a row.
    pub columns: u32,
    /// Rows of inner corners.
    pub rows: u32,
    /// Side of a square.
    pub square_metres: f64,
}

/// One image in which the whole board was found.
#[derive(Clone, Debug, PartialEq)]
pub struct CalibrationView {
    /// File name or number of the image.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The inner corners row by row, in pixels: (0, 0) is the centre of the top left pixel.
    pub corners: Vec<[f32; 2]>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Focal lengths, principal point, distortion and the error over all views.
    pub intrinsics: IntrinsicsProfile,
    /// Standard deviations of fx, fy, cx, cy, in pixels.
    pub deviations_pixels: [f64; 4],
    /// Root mean square reprojection error of each view, in pixels.
    pub view_errors_pixels: Vec<f64>,
}

impl Checkerboard {
    /// The inner corners in the board's frame, row by row: x along a row, y across, z = 0.
    pub(super) fn points(&self) -> Vector<Point3f> {
        let place = |idx: u32| (f64::from(idx) * self.square_metres) as f32;
        let rows = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (column, row)));
        rows.map(|(column, row)| Point3f::new(place(column), place(row), 0.0)).collect()
    }

    fn size(&self) -> Result<Size, String> {
        let number = |number: u32| i32::try_from(number).ok().filter(|number| (3..MAX_CORNERS).contains(number));
        match (number(self.columns), number(self.rows)) {
            (Some(columns), Some(rows)) => Ok(Size::new(columns, rows)),
            _ => Err(format!("a board of {}x{} inner corners; it needs at least 3x3", self.columns, self.rows)),
        }
    }
}

/// Looks for the whole board in a frame; `None` when it is not there.
///
/// # Errors
/// [`RuntimeError::Frame`] for a board that is none, or a frame that is not what it says.
pub fn find_checkerboard(
    frame: &Frame,
    board: &Checkerboard,
    name: &str,
) -> Result<Option<CalibrationView>, RuntimeError> {
    let fail = |problem: String| RuntimeError::Frame(format!("{name}: {problem}"));
    let size = board.size().map_err(fail)?;
    let rows = i32::try_from(frame.height).map_err(|error| fail(error.to_string()))?;
    let decoded = (!frame.encoding.is_interleaved_rgb()).then(|| to_rgb(frame)).transpose()?;
    let data = &decoded.as_ref().unwrap_or(frame).data;
    let image = Mat::from_slice(data).map_err(words).map_err(fail)?;
    let image = image.reshape(3, rows).map_err(words).map_err(fail)?;
    let mut grey = Mat::default();
    // Which channel is first hardly matters for black and white.
    cvt_color_def(&image, &mut grey, COLOR_BGR2GRAY).map_err(words).map_err(fail)?;
    let mut corners = Vector::<Point2f>::new();
    let flags = CALIB_CB_NORMALIZE_IMAGE | CALIB_CB_EXHAUSTIVE | CALIB_CB_ACCURACY;
    let is_found = find_chessboard_corners_sb(&grey, size, &mut corners, flags).map_err(words).map_err(fail)?;
    let corners = corners.iter().map(|corner| [corner.x, corner.y]).collect();
    Ok(is_found.then(|| CalibrationView { name: name.to_owned(), width: frame.width, height: frame.height, corners }))
}

/// Intrinsics and `plumb_bob` distortion of at least five different views of one size.
///
/// # Errors
/// [`RuntimeError::Frame`] naming the view, or the parameter that the views leave undetermined, and the fix.
pub fn calibrate(views: &[CalibrationView], board: &Checkerboard) -> Result<Calibration, RuntimeError> {
    let fail = |problem: String| RuntimeError::Frame(format!("calibration: {problem}"));
    let num_copies = num_copies(views);
    let num_different = views.len() - num_copies;
    let Some(first) = views.first().filter(|_| num_different >= MIN_VIEWS) else {
        let copies = if num_copies > 0 { format!(" ({num_copies} more are copies of them)") } else { String::new() };
        let problem = format!(
            "the board of {}x{} inner corners was found in {num_different} views{copies}, {MIN_VIEWS} are needed; count \
             inner corners, show the whole board, tilted, near and far, in every part of the image",
            board.columns, board.rows,
        );
        return Err(fail(problem));
    };
    let points = board.points();
    let (mut object_points, mut image_points) = (Vector::<Vector<Point3f>>::new(), Vector::<Vector<Point2f>>::new());
    for view in views {
        if (view.width, view.height) != (first.width, first.height) {
            let problem = format!(
                "{} is {}x{} where {} is {}x{}",
                view.name, view.width, view.height, first.name, first.width, first.height
            );
            return Err(fail(format!("{problem}; all views are of one size")));
        }
        if view.corners.len() != points.len() {
            return Err(fail(format!(
                "{} has {} corners where the board has {}",
                view.name,
                view.corners.len(),
                points.len()
            )));
        }
        object_points.push(points.clone());
        image_points.push(view.corners.iter().map(|[x, y]| Point2f::new(*x, *y)).collect());
    }
    let size = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
    let size = Size::new(size(first.width), size(first.height));
    solve(&object_points, &image_points, size).map_err(fail)
}

/// Views that show the board where an earlier one shows it.
fn num_copies(views: &[CalibrationView]) -> usize {
    let is_same = |a: &CalibrationView, b: &CalibrationView| {
        let distances = a.corners.iter().zip(&b.corners).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
        distances.sum::<f32>() < SAME_VIEW_PIXELS * a.corners.len() as f32
    };
    let is_copy = |(idx, view): &(usize, &CalibrationView)| views.iter().take(*idx).any(|seen| is_same(seen, view));
    views.iter().enumerate().filter(is_copy).count()
}

fn solve(
    object_points: &Vector<Vector<Point3f>>,
    image_points: &Vector<Vector<Point2f>>,
    size: Size,
) -> Result<Calibration, String> {
    let [mut matrix, mut distortion] = std::array::from_fn(|_| Mat::default());
    let (mut rotations, mut translations) = (Vector::<Mat>::new(), Vector::<Mat>::new());
    let [mut deviations, mut pose_deviations, mut view_errors] = std::array::from_fn(|_| Mat::default());
    let error = calibrate_camera_extended_def(
        object_points,
        image_points,
        size,
        &mut matrix,
        &mut distortion,
        &mut rotations,
        &mut translations,
        &mut deviations,
        &mut pose_deviations,
        &mut view_errors,
    )
    .map_err(words)?;
    let at = |row: i32, column: i32| matrix.at_2d::<f64>(row, column).copied().map_err(words);
    let list = |mat: &Mat| mat.data_typed::<f64>().map(<[f64]>::to_vec).map_err(words);
    let mut coefficients = [0.0; 8];
    coefficients.iter_mut().zip(list(&distortion)?.into_iter().take(5)).for_each(|(to, from)| *to = from);
    let deviations_pixels = list(&deviations)?.get(..4).and_then(|first| first.try_into().ok()).unwrap_or_default();
    let intrinsics = IntrinsicsProfile {
        width: size.width.unsigned_abs(),
        height: size.height.unsigned_abs(),
        fx_pixels: at(0, 0)?,
        fy_pixels: at(1, 1)?,
        cx_pixels: at(0, 2)?,
        cy_pixels: at(1, 2)?,
        distortion: coefficients,
        reprojection_error_pixels: Some(error),
        straightening: None,
    };
    let numbers = [intrinsics.fx_pixels, intrinsics.fy_pixels, intrinsics.cx_pixels, intrinsics.cy_pixels, error];
    if !numbers.iter().chain(&coefficients).all(|number| number.is_finite()) {
        return Err("it does not converge; are all views the same? tilt the board".to_owned());
    }
    let solution = determined::Solution { matrix: &matrix, distortion: &distortion, error_pixels: error, size };
    determined::check(&solution, object_points, image_points, &rotations, &translations)?;
    Ok(Calibration { intrinsics, deviations_pixels, view_errors_pixels: list(&view_errors)? })
}

#[cfg(test)]
pub(super) mod tests {
    use foresee_firmware_config::PixelEncoding;
    use nalgebra::{Isometry3, Point3, Translation3, UnitQuaternion, Vector3};

    use super::*;

    pub(in crate::camera) const BOARD: Checkerboard = Checkerboard { columns: 8, rows: 5, square_metres: 0.03 };

    /// What the pictures are drawn with, and what must be found again.
    pub(in crate::camera) const TRUTH: IntrinsicsProfile = IntrinsicsProfile {
        width: 640,
        height: 480,
        fx_pixels: 612.0,
        fy_pixels: 605.0,
        cx_pixels: 331.0,
        cy_pixels: 226.0,
        distortion: [-0.21, 0.09, 0.0012, -0.0018, 0.0, 0.0, 0.0, 0.0],
        reprojection_error_pixels: None,
        straightening: None,
    };

    /// The direction that a pixel looks in, at depth 1: distortion undone by fixed-point iteration.
    fn ray(lens: &IntrinsicsProfile, x: f64, y: f64) -> Vector3<f64> {
        let distorted = [(x - lens.cx_pixels) / lens.fx_pixels, (y - lens.cy_pixels) / lens.fy_pixels];
        let [k1, k2, p1, p2, k3, ..] = lens.distortion;
        let [mut x, mut y] = distorted;
        for _ in 0..12 {
            let square = x * x + y * y;
            let radial = 1.0 + square * (k1 + square * (k2 + square * k3));
            let along = 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x);
            let across = p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y;
            (x, y) = ((distorted[0] - along) / radial, (distorted[1] - across) / radial);
        }
        Vector3::new(x, y, 1.0)
    }

    /// A picture of the board, nine rays a pixel, with a white margin of one square.
    pub(in crate::camera) fn draw(lens: &IntrinsicsProfile, camera_from_board: &Isometry3<f64>) -> Frame {
        let mut frame = Frame::black(lens.width, lens.height, PixelEncoding::Bgr8);
        let board_from_camera = camera_from_board.inverse();
        let eye = board_from_camera * Point3::origin();
        let shade = |x: f64, y: f64| {
            let direction = board_from_camera * ray(lens, x, y);
            let place = eye - direction * (eye.z / direction.z);
            let [column, row] = [place.x, place.y].map(|metres| (metres / BOARD.square_metres).floor() as i64);
            let (columns, rows) = (i64::from(BOARD.columns), i64::from(BOARD.rows));
            match () {
                () if !(-2..=columns).contains(&column) || !(-2..=rows).contains(&row) => 90.0,
                () if !(-1..columns).contains(&column) || !(-1..rows).contains(&row) => 235.0,
                () if (column + row).rem_euclid(2) == 0 => 25.0,
                () => 235.0,
            }
        };
        let pixels = frame.data.as_chunks_mut::<3>().0.iter_mut().enumerate();
        for (idx, pixel) in pixels {
            let (x, y) = ((idx % lens.width as usize) as f64, (idx / lens.width as usize) as f64);
            let offsets = [-1.0, 0.0, 1.0].map(|offset: f64| offset / 3.0);
            let sum: f64 = offsets.iter().flat_map(|dy| offsets.map(|dx| shade(x + dx, y + dy))).sum();
            *pixel = [(sum / 9.0).round() as u8; 3];
        }
        frame
    }

    /// Poses in which the board fills parts of the image, tilted every way.
    pub(in crate::camera) fn poses() -> Vec<Isometry3<f64>> {
        let middle = Vector3::new(0.105, 0.06, 0.0);
        let views = [
            (0.0, 0.0, 0.0, 0.0, 0.0, 0.42),
            (0.5, 0.0, 0.1, -0.09, 0.02, 0.5),
            (-0.5, 0.1, 0.0, 0.08, -0.03, 0.5),
            (0.0, 0.55, -0.2, -0.06, -0.06, 0.45),
            (0.1, -0.55, 0.3, 0.05, 0.05, 0.45),
            (0.4, 0.4, 0.8, 0.0, 0.0, 0.55),
            (-0.4, -0.4, -0.6, 0.1, 0.07, 0.6),
            (0.35, -0.45, 0.2, -0.12, -0.07, 0.6),
            (-0.3, 0.5, 0.1, 0.12, 0.0, 0.55),
            (0.6, 0.2, -0.4, 0.0, -0.08, 0.5),
        ];
        views
            .map(|(tilt, pan, roll, x, y, z)| {
                let rotation = UnitQuaternion::from_euler_angles(tilt, pan, roll);
                Isometry3::from_parts(Translation3::new(x, y, z), rotation) * Translation3::from(-middle)
            })
            .to_vec()
    }

    fn views(lens: &IntrinsicsProfile) -> Vec<CalibrationView> {
        let find = |(idx, pose): (usize, Isometry3<f64>)| {
            find_checkerboard(&draw(lens, &pose), &BOARD, &format!("view {idx}")).unwrap()
        };
        poses().into_iter().enumerate().filter_map(find).collect()
    }

    #[test]
    fn a_known_lens_is_found_again() {
        let views = views(&TRUTH);
        assert!(views.len() >= 9, "the board was found in {} of 10 views", views.len());
        let calibration = calibrate(&views, &BOARD).unwrap();
        let found = calibration.intrinsics;
        let near = |name: &str, found: f64, truth: f64, tolerance: f64| {
            assert!((found - truth).abs() < tolerance, "{name}: {found} where {truth} was drawn; {calibration:?}");
        };
        near("fx", found.fx_pixels, TRUTH.fx_pixels, 1.5);
        near("fy", found.fy_pixels, TRUTH.fy_pixels, 1.5);
        near("cx", found.cx_pixels, TRUTH.cx_pixels, 1.5);
        near("cy", found.cy_pixels, TRUTH.cy_pixels, 1.5);
        near("k1", found.distortion[0], TRUTH.distortion[0], 0.02);
        near("p1", found.distortion[2], TRUTH.distortion[2], 0.001);
        near("p2", found.distortion[3], TRUTH.distortion[3], 0.001);
        near("error", found.reprojection_error_pixels.unwrap(), 0.0, 0.15);
        assert!(calibration.deviations_pixels.iter().all(|deviation| *deviation > 0.0 && *deviation < 1.5));
        assert_eq!(calibration.view_errors_pixels.len(), views.len());
    }

    #[test]
    fn too_few_or_unlike_views_are_named() {
        let (lens, pose) = (TRUTH, poses()[0]);
        let blank = Frame::black(64, 64, PixelEncoding::Bgr8);
        assert_eq!(find_checkerboard(&blank, &BOARD, "black").unwrap(), None);
        let view = find_checkerboard(&draw(&lens, &pose), &BOARD, "one").unwrap().unwrap();
        let few = calibrate(&vec![view; 9], &BOARD).unwrap_err().to_string();
        assert!(few.contains("found in 1 views (8 more are copies of them), 5 are needed"), "{few}");
        let mut unlike: Vec<_> = poses().iter().enumerate().map(|(idx, pose)| exact(&lens, pose, idx)).collect();
        unlike[3].width = 320;
        assert!(calibrate(&unlike, &BOARD).unwrap_err().to_string().contains("320x480"));
        let tiny = Checkerboard { columns: 2, ..BOARD };
        assert!(find_checkerboard(&blank, &tiny, "x").unwrap_err().to_string().contains("2x5 inner corners"));
    }

    /// The corners by projection, with errors of about 0.05 pixels.
    fn exact(lens: &IntrinsicsProfile, camera_from_board: &Isometry3<f64>, view_idx: usize) -> CalibrationView {
        let [k1, k2, p1, p2, ..] = lens.distortion;
        let project = |(idx, point): (usize, Point3f)| {
            let seen = camera_from_board * Point3::new(f64::from(point.x), f64::from(point.y), 0.0);
            let (x, y) = (seen.x / seen.z, seen.y / seen.z);
            let square = x * x + y * y;
            let radial = 1.0 + square * (k1 + square * k2);
            let u = x * radial + 2.0 * p1 * x * y + p2 * (square + 2.0 * x * x);
            let v = y * radial + p1 * (square + 2.0 * y * y) + 2.0 * p2 * x * y;
            let noise = |phase: usize| 0.07 * (((idx * 7 + view_idx * 13 + phase) as f64) * 2.399).sin();
            let pixel =
                [u * lens.fx_pixels + lens.cx_pixels + noise(0), v * lens.fy_pixels + lens.cy_pixels + noise(5)];
            pixel.map(|part| part as f32)
        };
        let corners = BOARD.points().iter().enumerate().map(project).collect();
        CalibrationView { name: view_idx.to_string(), width: lens.width, height: lens.height, corners }
    }

    fn calibrated(turns: impl Fn(f64) -> (f64, f64, f64), num_views: u32) -> Result<Calibration, String> {
        let middle = Translation3::new(-0.105, -0.06, 0.0);
        let views: Vec<_> = (0..num_views)
            .map(|idx| {
                let at = f64::from(idx);
                let (tilt, pan, roll) = turns(at);
                let place =
                    Translation3::new(0.12 * (at * 1.9).sin(), 0.08 * (at * 2.7).cos(), 0.5 + 0.1 * (at * 3.3).sin());
                let rotation = UnitQuaternion::from_euler_angles(tilt, pan, roll);
                exact(&TRUTH, &(Isometry3::from_parts(place, rotation) * middle), idx as usize)
            })
            .collect();
        calibrate(&views, &BOARD).map_err(|error| error.to_string())
    }

    #[test]
    fn views_that_leave_a_parameter_undetermined_are_refused() {
        let good = calibrated(|at| (0.5 * (at * 1.3).sin(), 0.5 * (at * 2.1).cos(), at), 10).unwrap();
        assert!((good.intrinsics.fx_pixels - TRUTH.fx_pixels).abs() < 3.0, "{good:?}");
        let refused = |what: &str, turns: &dyn Fn(f64) -> (f64, f64, f64), num_views: u32| {
            let refusal = calibrated(turns, num_views).unwrap_err();
            assert!(refusal.contains("focal length") && refusal.contains("tilt the board"), "{what}: {refusal}");
        };
        refused("all facing the camera", &|_| (0.0, 0.0, 0.0), 10);
        refused("all facing the camera, rolled", &|at| (0.0, 0.0, at * 0.4), 10);
        refused("all tilted alike", &|_| (0.4, 0.2, 0.0), 10);
        refused("hardly tilted", &|at| (0.03 * (at * 1.3).sin(), 0.03 * (at * 2.1).cos(), at), 10);
    }
}
