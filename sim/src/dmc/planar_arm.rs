//! The planar arm with a two-fingered hand that the manipulator and stacker domains share.

use std::f64::consts::PI;

use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{BodyId, JointId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::ObservationWriter;

const JOINTS: [&str; 8] =
    ["arm_root", "arm_shoulder", "arm_elbow", "arm_wrist", "finger", "fingertip", "thumb", "thumbtip"];
const FINGER: usize = 4;
const THUMB: usize = 6;

pub(super) struct PlanarArm {
    joints: Vec<JointId>,
    pub(super) hand: BodyId,
    pub(super) grasp: SiteId,
}

impl PlanarArm {
    pub(super) fn new(physics: &Physics) -> Result<Self, SimError> {
        let joints = JOINTS.iter().map(|joint| physics.joint(joint)).collect::<Result<_, _>>()?;
        Ok(Self { joints, hand: physics.body("hand")?, grasp: physics.site("grasp")? })
    }

    /// Draws every joint, then closes the hand evenly.
    pub(super) fn randomise(&self, physics: &mut Physics, random: &mut RandomState) {
        for joint in &self.joints {
            let limited = physics.model().jnt_limited()[joint.0];
            let [lower, upper] = if limited { physics.model().jnt_range()[joint.0] } else { [-PI, PI] };
            physics.joint_qpos_mut(*joint)[0] = random.uniform(lower, upper);
        }
        let thumb = physics.joint_qpos_values(self.joints[THUMB])[0];
        physics.joint_qpos_mut(self.joints[FINGER])[0] = thumb;
    }

    /// Sine and cosine of each joint, then the joints' velocities.
    pub(super) fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let angles = self.joints.iter().map(|joint| physics.joint_qpos_values(*joint)[0]);
        observation.shaped("arm_pos", &[JOINTS.len(), 2], angles.flat_map(|angle| [angle.sin(), angle.cos()]));
        observation.collected("arm_vel", joint_velocities(physics, &self.joints));
    }
}

/// Velocities of joints with one degree of freedom.
pub(super) fn joint_velocities(physics: &Physics, joints: &[JointId]) -> impl Iterator<Item = f64> {
    joints.iter().map(|joint| physics.qvel()[physics.dof_address(*joint)])
}

/// Position in the plane (x, z) and orientation about its normal (quaternion w, y).
pub(super) fn planar_pose(physics: &Physics, body: BodyId) -> [f64; 4] {
    let [x, _, z] = physics.xpos(body);
    let [w, _, y, _] = physics.data().xquat()[body.0];
    [x, z, w, y]
}

/// Metres between two sites.
pub(super) fn site_distance(physics: &Physics, first: SiteId, second: SiteId) -> f64 {
    norm(&difference(physics.site_xpos(first), physics.site_xpos(second)))
}
