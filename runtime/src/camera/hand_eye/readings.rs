//! Poses that disagree: other ways to read them, and the one that makes them agree.

use nalgebra::{Isometry3, Quaternion, UnitQuaternion};

use super::{Fit, HandEye, HandEyeView, MIN_VIEWS, Mounting, Pair, fit, is_same_view, num_different, pair};

/// Poses that agree better than this are not asked about.
const GOOD_METRES: f64 = 0.002;
const GOOD_RADIANS: f64 = 0.01;
/// Another reading has to be this much better.
const MIN_GAIN: f64 = 4.0;
/// With more views, single ones are not exchanged or left out.
const MAX_VIEWS_SEARCHED: usize = 40;
/// How far a scale is from one when it is named.
const MIN_SCALE_ERROR: f64 = 0.01;
/// A scale is this near to a unit's when it is taken for it.
const UNIT_SHARE: f64 = 0.03;

/// How far the board seems to move, or may: root mean square over the views.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Of its origin.
    pub metres: f64,
    /// Of its orientation.
    pub radians: f64,
}

/// The order of a quaternion's numbers in the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    ScalarFirst,
    ScalarLast,
}

/// The direction of a pose.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    AsWritten,
    Inverse,
    RotationInverse,
}

/// One way to read the poses.
#[derive(Clone, Copy)]
struct Reading {
    order: Order,
    direction: Direction,
    /// A view's pose is the one of the row this many further on.
    shift: isize,
    has_free_scale: bool,
}

/// Why these poses are refused: by how much the board seems to move, and the reading that fits or what to check.
/// `None` when the poses agree within `limits` and no other reading is much better. `square_metres` is the side of the
/// board's squares.
pub fn disagreement(views: &[HandEyeView], found: &HandEye, limits: &Spread, square_metres: f64) -> Option<String> {
    let (metres, radians) = (found.spread_metres, found.spread_radians);
    let (max_metres, max_radians) = (limits.metres, limits.radians);
    if metres <= GOOD_METRES.min(max_metres) && radians <= GOOD_RADIANS.min(max_radians) {
        return None;
    }
    let is_within = metres <= max_metres && radians <= max_radians;
    let wanted = Spread { metres: (metres / MIN_GAIN).min(max_metres), radians: max_radians };
    let search = Search { views, mounting: found.mounting, wanted, tries_single_views: !is_within };
    let better = search.explanation(square_metres);
    if is_within && better.is_none() {
        return None;
    }
    let better = better.unwrap_or_else(|| unexplained(views, found.mounting));
    Some(format!(
        "the board is fixed to the {}, but by these poses it moves by {:.1} mm and {:.1} degrees (root mean square; at \
         most {:.1} mm and {:.1} degrees are accepted); {better}",
        found.mounting.board_parent(),
        metres * 1e3,
        radians.to_degrees(),
        max_metres * 1e3,
        max_radians.to_degrees()
    ))
}

impl Spread {
    fn admit(&self, fit: &Fit) -> bool {
        fit.spread_metres <= self.metres && fit.spread_radians <= self.radians
    }
}

/// What is searched for a reading that fits.
struct Search<'a> {
    views: &'a [HandEyeView],
    mounting: Mounting,
    wanted: Spread,
    tries_single_views: bool,
}

impl Search<'_> {
    fn explanation(&self, square_metres: f64) -> Option<String> {
        // One change explains more than two.
        for num_changes in 1..=3 {
            let readings = readings().filter(|reading| reading.num_changes() == num_changes);
            let fits = readings.filter_map(|reading| {
                let fit = fit(&reading.pairs(self.views, self.mounting)?, reading.has_free_scale).ok()?;
                let is_change = !reading.has_free_scale || (fit.scale - 1.0).abs() >= MIN_SCALE_ERROR;
                (is_change && self.wanted.admit(&fit)).then_some((reading, fit))
            });
            if let Some((reading, fit)) = fits.min_by(|a, b| a.1.spread_metres.total_cmp(&b.1.spread_metres)) {
                return Some(reading.words(&fit, self.mounting, square_metres));
            }
            if num_changes == 1
                && self.tries_single_views
                && let Some(single) = self.single_views()
            {
                return Some(single);
            }
        }
        None
    }

    /// Two views exchanged, or one that does not belong to the others.
    fn single_views(&self) -> Option<String> {
        let seen: Vec<&HandEyeView> = self.views.iter().filter(|view| view.camera_from_board.is_some()).collect();
        let pairs: Vec<Pair> = seen.iter().filter_map(|view| pair(view, self.mounting)).collect();
        if pairs.len() > MAX_VIEWS_SEARCHED {
            return None;
        }
        let mut best: Option<(f64, String)> = None;
        let mut offer = |pairs: &[Pair], words: &dyn Fn(f64) -> String| {
            let Some(fit) = fit(pairs, false).ok().filter(|fit| self.wanted.admit(fit)) else { return };
            if best.as_ref().is_none_or(|(metres, _)| fit.spread_metres < *metres) {
                best = Some((fit.spread_metres, words(fit.spread_metres * 1e3)));
            }
        };
        for (idx, first) in seen.iter().enumerate() {
            for (other_idx, second) in seen.iter().enumerate().skip(idx + 1) {
                offer(&exchanged(&pairs, idx, other_idx), &|millimetres| {
                    format!(
                        "the poses agree to {millimetres:.1} mm when those of {} and {} are exchanged",
                        first.name, second.name
                    )
                });
            }
        }
        for (idx, view) in seen.iter().enumerate().filter(|_| pairs.len() > MIN_VIEWS) {
            let mut fewer = pairs.clone();
            fewer.remove(idx);
            offer(&fewer, &|millimetres| {
                format!(
                    "the other poses agree to {millimetres:.1} mm without {}: its pose is not of the moment at which \
                     the image was taken, or the image is a copy of another one; leave it out",
                    view.name
                )
            });
        }
        best.map(|(_, words)| words)
    }
}

/// The pairs with the poses of two views exchanged.
fn exchanged(pairs: &[Pair], idx: usize, other_idx: usize) -> Vec<Pair> {
    let mut exchanged = pairs.to_vec();
    if let (Some(first), Some(second)) = (pairs.get(idx), pairs.get(other_idx)) {
        exchanged.iter_mut().skip(idx).take(1).for_each(|pair| pair.still_from_parent = second.still_from_parent);
        exchanged.iter_mut().skip(other_idx).take(1).for_each(|pair| pair.still_from_parent = first.still_from_parent);
    }
    exchanged
}

fn unexplained(views: &[HandEyeView], mounting: Mounting) -> String {
    let copies = views.iter().enumerate().find_map(|(idx, view)| {
        let seen = view.camera_from_board?;
        let is_copy = |other: &&HandEyeView| {
            other.camera_from_board.is_some_and(|other| is_same_view(&seen, &other))
                && !is_same_view(&view.base_from_gripper, &other.base_from_gripper)
        };
        let copy = views.iter().skip(idx + 1).find(is_copy)?;
        Some(format!("{} and {} show the same view and have different poses; ", view.name, copy.name))
    });
    let [camera, board] = [mounting.parent(), mounting.board_parent()];
    format!(
        "{}no other reading agrees either (quaternion x y z w, inverse poses, another unit or size of the squares, \
         poses shifted by one or two views, two views exchanged, one view left out). Check that the camera is fixed to \
         the {camera} and the board to the {board}, that each pose was read while the robot stood still for its image, \
         that the poses are base_from_gripper, all of one frame of the robot, from a quaternion made of radians, and \
         that the board was not moved",
        copies.unwrap_or_default()
    )
}

fn readings() -> impl Iterator<Item = Reading> {
    let orders = [Order::ScalarFirst, Order::ScalarLast];
    let directions = [Direction::AsWritten, Direction::Inverse, Direction::RotationInverse];
    orders.into_iter().flat_map(move |order| {
        directions.into_iter().flat_map(move |direction| {
            [0, 1, -1, 2, -2].into_iter().flat_map(move |shift| {
                [false, true].map(|has_free_scale| Reading { order, direction, shift, has_free_scale })
            })
        })
    })
}

impl Reading {
    fn num_changes(&self) -> usize {
        usize::from(self.order != Order::ScalarFirst)
            + usize::from(self.direction != Direction::AsWritten)
            + usize::from(self.shift != 0)
            + usize::from(self.has_free_scale)
    }

    /// The pairs of this reading; `None` when they are too few.
    fn pairs(&self, views: &[HandEyeView], mounting: Mounting) -> Option<Vec<Pair>> {
        let read = |(idx, view): (usize, &HandEyeView)| {
            let row = views.get(idx.checked_add_signed(self.shift)?)?;
            let base_from_gripper = self.pose(&row.base_from_gripper);
            pair(&HandEyeView { base_from_gripper, ..view.clone() }, mounting)
        };
        let pairs: Vec<Pair> = views.iter().enumerate().filter_map(read).collect();
        (num_different(&pairs) >= MIN_VIEWS).then_some(pairs)
    }

    fn pose(&self, written: &Isometry3<f64>) -> Isometry3<f64> {
        let mut pose = *written;
        if self.order == Order::ScalarLast {
            let q = written.rotation.quaternion();
            pose.rotation = UnitQuaternion::from_quaternion(Quaternion::new(q.k, q.w, q.i, q.j));
        }
        match self.direction {
            Direction::AsWritten => pose,
            Direction::Inverse => pose.inverse(),
            Direction::RotationInverse => Isometry3::from_parts(pose.translation, pose.rotation.inverse()),
        }
    }

    fn words(&self, fit: &Fit, mounting: Mounting, square_metres: f64) -> String {
        let mut how = Vec::new();
        if self.order == Order::ScalarLast {
            how.push("the quaternions are read as x y z w: write w first, as w x y z".to_owned());
        }
        match (self.direction, mounting) {
            (Direction::AsWritten, _) => {}
            (Direction::Inverse, Mounting::Gripper) => how.push(
                "the poses are inverted: write base_from_gripper, not gripper_from_base; if the camera is fixed and \
                 the board is on the gripper, give --fixed-camera"
                    .to_owned(),
            ),
            (Direction::Inverse, Mounting::Base) => how.push(
                "the poses are inverted: write base_from_gripper, not gripper_from_base; if the camera is on the \
                 gripper and the board stands still, leave out --fixed-camera"
                    .to_owned(),
            ),
            (Direction::RotationInverse, _) => how.push(
                "the rotations alone are inverted: write the rotation of the gripper in the base (a rotation matrix \
                 was transposed, or a quaternion conjugated)"
                    .to_owned(),
            ),
        }
        if self.has_free_scale {
            how.push(scale_words(fit.scale, square_metres));
        }
        if self.shift != 0 {
            let place = if self.shift > 0 { "after" } else { "before" };
            let number = self.shift.unsigned_abs();
            let rows = if number == 1 { "row" } else { "rows" };
            how.push(format!(
                "each image takes the pose {number} {rows} {place} its own: images and poses are shifted against each \
                 other"
            ));
        }
        let agree = fit.spread_metres * 1e3;
        format!("the poses agree to {agree:.1} mm when {}", how.join(", and "))
    }
}

fn scale_words(scale: f64, square_metres: f64) -> String {
    let units = [("millimetres", 1000.0), ("centimetres", 100.0), ("inches", 1.0 / 0.0254), ("feet", 1.0 / 0.3048)];
    let unit = units.into_iter().find(|(_, of_metre)| (scale / of_metre - 1.0).abs() < UNIT_SHARE);
    if let Some((unit, _)) = unit {
        return format!("base_from_gripper_metres is in {unit}: write metres");
    }
    format!(
        "the squares have a side of {:.2} mm, not {:.2} mm: measure the print and give --square-metres {:.5} (or the \
         positions are too large by a factor of {scale:.3})",
        square_metres * scale * 1e3,
        square_metres * 1e3,
        square_metres * scale
    )
}
