//! Poses of the gripper beside the views of a board, and the mounted camera's pose from them.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail};
use foresee_firmware_config::IntrinsicsProfile;
use foresee_runtime::{CalibrationView, Checkerboard, HandEye, HandEyeView, board_pose, hand_eye};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use serde::Deserialize;

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

/// Poses of the gripper by image name.
pub(super) fn read_poses(file: &Path) -> anyhow::Result<HashMap<String, Isometry3<f64>>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let shape = "{\"views\": [{\"image\", \"base_from_gripper_metres\": [x, y, z], \"base_from_gripper_quaternion_wxyz\": [w, x, y, z]}]}";
    let poses: PosesFile = serde_json::from_str(&text)
        .with_context(|| format!("{}: not poses; they look like {shape}", file.display()))?;
    let mut by_image = HashMap::new();
    for row in poses.views {
        let [w, x, y, z] = row.base_from_gripper_quaternion_wxyz;
        let quaternion = Quaternion::new(w, x, y, z);
        if !quaternion.norm().is_finite() || (quaternion.norm() - 1.0).abs() > 1e-3 {
            bail!(
                "{}: image {:?}: base_from_gripper_quaternion_wxyz = {:?}: is not of length 1",
                file.display(),
                row.image,
                [w, x, y, z]
            );
        }
        let [x, y, z] = row.base_from_gripper_metres;
        let pose = Isometry3::from_parts(Translation3::new(x, y, z), UnitQuaternion::from_quaternion(quaternion));
        if by_image.insert(row.image.clone(), pose).is_some() {
            bail!("{}: image {:?} is given twice", file.display(), row.image);
        }
    }
    Ok(by_image)
}

/// The camera in the gripper, from every view that has a pose.
pub(super) fn mount(
    views: &[CalibrationView],
    poses: &HashMap<String, Isometry3<f64>>,
    board: &Checkerboard,
    lens: &IntrinsicsProfile,
) -> anyhow::Result<HandEye> {
    let with_pose = views.iter().filter_map(|view| Some((view, *poses.get(&view.name)?)));
    let views = with_pose
        .map(|(view, base_from_gripper)| {
            Ok(HandEyeView { base_from_gripper, camera_from_board: board_pose(view, board, lens)? })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    hand_eye(&views).map_err(Into::into)
}

/// A pose's rotation as `[w, x, y, z]`.
pub(super) fn wxyz(pose: &Isometry3<f64>) -> [f64; 4] {
    let quaternion = pose.rotation;
    [quaternion.w, quaternion.i, quaternion.j, quaternion.k]
}
