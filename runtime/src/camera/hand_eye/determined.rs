//! Which part of a mounted camera's pose the views leave undetermined.

use nalgebra::{Isometry3, Matrix3, Matrix6, SymmetricEigen, Unit, Vector3};

use super::{Mounting, Pair, Spread};

/// The pose has to be known at least this well, as a standard deviation.
const MAX_DEVIATION_METRES: f64 = 0.01;
const MAX_DEVIATION_RADIANS: f64 = 0.02;
/// Errors of a view. None is trusted to be better, however well the views agree; poses that disagree by more are refused
/// for that, and say nothing about the directions in which the gripper was turned.
const NOISE_METRES: [f64; 2] = [0.001, 0.005];
const NOISE_RADIANS: [f64; 2] = [0.002, 0.01];

/// Poses that disagree by more have no solution to be far away from, as those in millimetres have: the turns alone count.
const GROSS_METRES: f64 = 0.05;
const GROSS_RADIANS: f64 = 0.1;

/// Refuses views that leave a part of the pose unknown: the least determined direction of the linearised problem.
///
/// # Errors
/// One sentence with the part and what to photograph.
pub(super) fn check(
    pairs: &[Pair],
    parent_from_camera: &Isometry3<f64>,
    spread: Spread,
    mounting: Mounting,
) -> Result<(), String> {
    let SymmetricEigen { eigenvalues, eigenvectors } = information(pairs, parent_from_camera, spread).symmetric_eigen();
    let idx = eigenvalues.imin();
    // In units of the allowed deviation.
    let deviation = 1.0 / eigenvalues[idx].max(f64::MIN_POSITIVE).sqrt();
    if deviation <= 1.0 {
        return Ok(());
    }
    let worst = eigenvectors.column(idx);
    let (about, along) = (Vector3::new(worst[0], worst[1], worst[2]), Vector3::new(worst[3], worst[4], worst[5]));
    let parent = mounting.parent();
    let known = |deviation: f64, unit: &str| match deviation < 1000.0 {
        true => format!("is known to +- {deviation:.0} {unit} only"),
        false => "is not determined at all".to_owned(),
    };
    let part = if along.norm() >= about.norm() {
        let axis = direction(&along);
        format!(
            "its position along {axis} of the {parent} {}",
            known(deviation * along.norm() * MAX_DEVIATION_METRES * 1e3, "mm")
        )
    } else {
        let degrees = (deviation * about.norm() * MAX_DEVIATION_RADIANS).to_degrees();
        format!("its orientation about {} of the {parent} {}", direction(&about), known(degrees, "degrees"))
    };
    let [most, second] = turns(pairs).map(f64::to_degrees);
    Err(format!(
        "these views do not determine where the camera is: {part}. The gripper was turned by {most:.0} degrees about \
         one axis and by {second:.0} degrees about the axes across it; turn it by 20 degrees or more about at least \
         two axes (tilt it forward and sideways, not only around its own axis), keep the whole board in view, and \
         take about 10 views"
    ))
}

/// The information of all views about the six parameters (a turn, then a shift, in the parent's axes), each in units of
/// its allowed deviation. The board's own pose is eliminated.
fn information(pairs: &[Pair], parent_from_camera: &Isometry3<f64>, spread: Spread) -> Matrix6<f64> {
    let is_gross = spread.metres > GROSS_METRES || spread.radians > GROSS_RADIANS;
    let rows: Vec<[Matrix3<f64>; 2]> = pairs
        .iter()
        .map(|pair| {
            let turn = pair.still_from_parent.rotation.to_rotation_matrix().into_inner();
            let place = (parent_from_camera * pair.camera_from_board).translation.vector;
            let lever = if is_gross { Matrix3::zeros() } else { -turn * place.cross_matrix() };
            [turn, lever]
        })
        .collect();
    let number = rows.len() as f64;
    let means = [0, 1].map(|part| rows.iter().map(|row| row[part]).sum::<Matrix3<f64>>() / number);
    let turn_weight = 1.0 / spread.radians.clamp(NOISE_RADIANS[0], NOISE_RADIANS[1]);
    let shift_weight = 1.0 / spread.metres.clamp(NOISE_METRES[0], NOISE_METRES[1]);
    let mut information = Matrix6::zeros();
    for [turn, lever] in rows {
        let [turn, lever] = [turn - means[0], lever - means[1]];
        let mut jacobian = Matrix6::zeros();
        jacobian.fixed_view_mut::<3, 3>(0, 0).copy_from(&(turn * (turn_weight * MAX_DEVIATION_RADIANS)));
        jacobian.fixed_view_mut::<3, 3>(3, 0).copy_from(&(lever * (shift_weight * MAX_DEVIATION_RADIANS)));
        jacobian.fixed_view_mut::<3, 3>(3, 3).copy_from(&(turn * (shift_weight * MAX_DEVIATION_METRES)));
        information += jacobian.transpose() * jacobian;
    }
    information
}

/// How far the gripper was turned about its main axis, and at most about the axes across that one.
fn turns(pairs: &[Pair]) -> [f64; 2] {
    let Some(first) = pairs.first() else { return [0.0; 2] };
    let turns: Vec<Vector3<f64>> = pairs
        .iter()
        .map(|pair| (first.still_from_parent.rotation.inverse() * pair.still_from_parent.rotation).scaled_axis())
        .collect();
    let Some(main) = turns.iter().max_by(|a, b| a.norm().total_cmp(&b.norm())).copied() else { return [0.0; 2] };
    let Some(axis) = Unit::try_new(main, 1e-9) else { return [0.0; 2] };
    let across = turns.iter().map(|turn| (turn - *axis * turn.dot(&axis)).norm()).fold(0.0, f64::max);
    [main.norm(), across]
}

/// A direction in words where it is an axis, else in numbers.
fn direction(vector: &Vector3<f64>) -> String {
    let unit = vector / vector.norm().max(f64::MIN_POSITIVE);
    let axis = ["x", "y", "z"].into_iter().zip(unit.iter()).find(|(_, part)| part.abs() > 0.95);
    axis.map_or_else(|| format!("[{:.2}, {:.2}, {:.2}]", unit.x, unit.y, unit.z), |(name, _)| name.to_owned())
}
