//! Poses of the gripper beside the views of a board, and the mounted camera's pose from them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use foresee_firmware_config::IntrinsicsProfile;
use foresee_runtime::{CalibrationView, Checkerboard, HandEye, HandEyeView, Mounting, board_pose, hand_eye};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use serde::Deserialize;

use crate::words::say;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PosesFile {
    views: Vec<PoseRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoseRow {
    image: String,
    base_from_gripper_metres: [f64; 3],
    base_from_gripper_quaternion_wxyz: [f64; 4],
}

/// Poses of the gripper, as the file has them.
pub(super) struct Poses {
    file: PathBuf,
    rows: Vec<(String, Isometry3<f64>)>,
}

/// Poses of the gripper, in the order of the file.
///
/// # Errors
/// Names file, image and key.
pub(super) fn read_poses(file: &Path) -> anyhow::Result<Poses> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let shape = "{\"views\": [{\"image\", \"base_from_gripper_metres\": [x, y, z], \"base_from_gripper_quaternion_wxyz\": [w, x, y, z]}]}";
    let poses: PosesFile = serde_json::from_str(&text)
        .with_context(|| format!("{}: not poses; they look like {shape}", file.display()))?;
    let mut rows: Vec<(String, Isometry3<f64>)> = Vec::new();
    for row in poses.views {
        let place = format!("{}: image {:?}", file.display(), row.image);
        let [w, x, y, z] = row.base_from_gripper_quaternion_wxyz;
        let quaternion = Quaternion::new(w, x, y, z);
        if !quaternion.norm().is_finite() || (quaternion.norm() - 1.0).abs() > 1e-3 {
            bail!(
                "{place}: base_from_gripper_quaternion_wxyz = {:?}: is of length {:.4}, not 1; angles or a rotation \
                 vector are not a quaternion, and rounded numbers have to be divided by their length",
                [w, x, y, z],
                quaternion.norm()
            );
        }
        let [x, y, z] = row.base_from_gripper_metres;
        if ![x, y, z].iter().all(|metres| metres.is_finite()) {
            bail!("{place}: base_from_gripper_metres = {:?}: is not finite", [x, y, z]);
        }
        let pose = Isometry3::from_parts(Translation3::new(x, y, z), UnitQuaternion::from_quaternion(quaternion));
        if rows.iter().any(|(image, _)| *image == row.image) {
            bail!("{place}: is given twice");
        }
        rows.push((row.image, pose));
    }
    Ok(Poses { file: file.to_owned(), rows })
}

impl Poses {
    /// The camera's pose from every view that has one, and the rows that it was found from.
    ///
    /// # Errors
    /// Names the file and what the views leave undetermined.
    pub(super) fn mount(
        &self,
        views: &[CalibrationView],
        board: &Checkerboard,
        lens: &IntrinsicsProfile,
        mounting: Mounting,
    ) -> anyhow::Result<(HandEye, Vec<HandEyeView>)> {
        let file = self.file.display();
        let mut rows = Vec::new();
        for (name, base_from_gripper) in &self.rows {
            let view = views.iter().find(|view| view.name == *name);
            let camera_from_board = view.map(|view| board_pose(view, board, lens)).transpose()?;
            rows.push(HandEyeView { name: name.clone(), base_from_gripper: *base_from_gripper, camera_from_board });
        }
        self.report_unmatched(views)?;
        let found = hand_eye(&rows, mounting).with_context(|| file.to_string())?;
        Ok((found, rows))
    }

    /// Names what has no partner on the other side.
    fn report_unmatched(&self, views: &[CalibrationView]) -> anyhow::Result<()> {
        let file = self.file.display();
        let without_view = self.rows.iter().map(|(name, _)| name.as_str());
        let without_view: Vec<&str> =
            without_view.filter(|name| !views.iter().any(|view| view.name == *name)).collect();
        let without_pose = views.iter().map(|view| view.name.as_str());
        let without_pose: Vec<&str> =
            without_pose.filter(|view| !self.rows.iter().any(|(name, _)| name == view)).collect();
        if without_view.len() == self.rows.len() {
            bail!(
                "{file}: none of its {} images is among the {} views with a board; it names {}, the views are {}",
                self.rows.len(),
                views.len(),
                some(&without_view),
                some(&without_pose)
            );
        }
        if !without_view.is_empty() {
            say(&format!("{file}: no board was found in, or there is no image {}", some(&without_view)));
        }
        if !without_pose.is_empty() {
            say(&format!("{file}: has no pose for {}; used for [intrinsics] alone", some(&without_pose)));
        }
        Ok(())
    }
}

/// The first names of a list.
fn some(names: &[&str]) -> String {
    const NUM_NAMED: usize = 5;
    let more = names.len().saturating_sub(NUM_NAMED);
    let named = names.iter().take(NUM_NAMED).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// A pose's rotation as `[w, x, y, z]`.
pub(super) fn wxyz(pose: &Isometry3<f64>) -> [f64; 4] {
    let quaternion = pose.rotation;
    [quaternion.w, quaternion.i, quaternion.j, quaternion.k]
}
