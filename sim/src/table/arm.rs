//! The arm's kinematics, read from the model: where the hand is for given joints, and which joints bring it somewhere.

use nalgebra::{Isometry3, Matrix6, Point3, Quaternion, SVector, Translation3, Unit, UnitQuaternion, Vector3, Vector6};

use crate::error::SimError;
use crate::physics::{JointId, Physics, SiteId};

/// From the base to the hand; the gripper comes after them.
pub(super) const JOINTS: [&str; 6] =
    ["base_yaw", "shoulder_pitch", "elbow_pitch", "forearm_roll", "wrist_pitch", "wrist_roll"];

/// A joint within its parent: first the link's place, then a turn about the axis.
#[derive(Clone, Copy, Debug)]
struct Link {
    parent_from_link: Isometry3<f64>,
    axis: Unit<Vector3<f64>>,
    range: [f64; 2],
}

/// Six turning joints in a row.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    links: Vec<Link>,
    joints: Vec<JointId>,
    gripper: JointId,
    tool: SiteId,
    /// Where the tool is in the hand: the middle between the finger tips.
    pub(super) hand_from_tool: Isometry3<f64>,
}

impl Arm {
    /// Reads the chain out of the scene.
    pub(super) fn new(physics: &Physics) -> Result<Self, SimError> {
        let model = physics.model();
        let joints = JOINTS.iter().map(|name| physics.joint(name)).collect::<Result<Vec<_>, _>>()?;
        let link = |joint: &JointId| {
            let body = model.jnt_bodyid()[joint.0] as usize;
            Link {
                parent_from_link: pose(model.body_pos()[body], model.body_quat()[body]),
                axis: Unit::new_normalize(Vector3::from(model.jnt_axis()[joint.0])),
                range: model.jnt_range()[joint.0],
            }
        };
        let links = joints.iter().map(link).collect();
        let tool = physics.site("tool")?;
        let hand_from_tool = pose(model.site_pos()[tool.0], model.site_quat()[tool.0]);
        Ok(Self { links, joints, gripper: physics.joint("gripper")?, tool, hand_from_tool })
    }

    /// Present angles of the six joints, radians.
    pub(super) fn angles(&self, physics: &Physics) -> Vector6<f64> {
        Vector6::from_fn(|row, _| physics.joint_qpos_values(self.joints[row])[0])
    }

    /// Present speeds of the six joints, radians a second.
    pub(super) fn speeds(&self, physics: &Physics) -> Vector6<f64> {
        Vector6::from_fn(|row, _| physics.qvel()[physics.dof_address(self.joints[row])])
    }

    /// How far each finger is from the middle, metres.
    pub(super) fn opening(&self, physics: &Physics) -> f64 {
        physics.joint_qpos_values(self.gripper)[0]
    }

    /// How fast each finger leaves the middle, metres a second.
    pub(super) fn opening_speed(&self, physics: &Physics) -> f64 {
        physics.qvel()[physics.dof_address(self.gripper)]
    }

    /// The middle between the finger tips, in the world.
    pub(super) fn tool_position(&self, physics: &Physics) -> [f64; 3] {
        physics.site_xpos(self.tool)
    }

    /// Puts the arm at rest at these angles with the gripper this far open, and lets the servos hold it there.
    pub(super) fn put(&self, physics: &mut Physics, angles: &Vector6<f64>, opening: f64) -> Result<(), SimError> {
        for (joint, angle) in self.joints.iter().zip(angles.iter()) {
            physics.joint_qpos_mut(*joint)[0] = *angle;
        }
        for name in ["gripper", "gripper_mirror"] {
            let joint = physics.joint(name)?;
            physics.joint_qpos_mut(joint)[0] = opening;
        }
        let control: Vec<f64> = angles.iter().copied().chain([opening]).collect();
        physics.set_control(&control);
        Ok(())
    }

    /// Pose of the hand in the world for these joint angles.
    pub(super) fn world_from_hand(&self, angles: &Vector6<f64>) -> Isometry3<f64> {
        self.frames(angles).last().copied().unwrap_or_default()
    }

    /// Joint angles near `start` that bring the hand into a pose, within a tenth of a millimetre and a milliradian; `None` where
    /// the arm cannot reach. Damped least squares (Wampler 1986; Nakamura and Hanafusa 1986) within the joints' limits.
    pub(super) fn reach(&self, world_from_hand: &Isometry3<f64>, start: &Vector6<f64>) -> Option<Vector6<f64>> {
        const MAX_ITERATIONS: usize = 200;
        const DAMPING: f64 = 1e-3;
        const LONGEST_STEP_RADIANS: f64 = 0.3;
        let mut angles = *start;
        for _ in 0..MAX_ITERATIONS {
            let frames = self.frames(&angles);
            let hand = frames.last().copied().unwrap_or_default();
            let shift = world_from_hand.translation.vector - hand.translation.vector;
            let turn = (world_from_hand.rotation * hand.rotation.inverse()).scaled_axis();
            if shift.norm() < 1e-4 && turn.norm() < 1e-3 {
                return Some(angles);
            }
            let jacobian = self.jacobian(&frames);
            let error = Vector6::new(shift.x, shift.y, shift.z, turn.x, turn.y, turn.z);
            let damped = jacobian * jacobian.transpose() + Matrix6::identity() * DAMPING * DAMPING;
            let step = jacobian.transpose() * damped.cholesky()?.solve(&error);
            let step = step * (LONGEST_STEP_RADIANS / step.amax().max(LONGEST_STEP_RADIANS));
            for ((angle, change), link) in angles.iter_mut().zip(step.iter()).zip(&self.links) {
                *angle = (*angle + change).clamp(link.range[0], link.range[1]);
            }
        }
        None
    }

    /// Every link's pose in the world after its joint's turn.
    fn frames(&self, angles: &SVector<f64, 6>) -> [Isometry3<f64>; 6] {
        let mut frames = [Isometry3::identity(); 6];
        let mut world_from_parent = Isometry3::identity();
        for ((frame, link), angle) in frames.iter_mut().zip(&self.links).zip(angles.iter()) {
            let turn = UnitQuaternion::from_axis_angle(&link.axis, *angle);
            world_from_parent = world_from_parent * link.parent_from_link * turn;
            *frame = world_from_parent;
        }
        frames
    }

    /// What a radian of each joint does to the hand: metres, then radians, in the world's axes.
    fn jacobian(&self, frames: &[Isometry3<f64>; 6]) -> Matrix6<f64> {
        let hand = frames[5].translation.vector;
        let columns = [0, 1, 2, 3, 4, 5].map(|index| {
            let axis = frames[index] * self.links[index].axis.into_inner();
            let moved = axis.cross(&(hand - frames[index].translation.vector));
            Vector6::new(moved.x, moved.y, moved.z, axis.x, axis.y, axis.z)
        });
        Matrix6::from_columns(&columns)
    }
}

/// A pose from MuJoCo's position and quaternion, w first.
pub(super) fn pose(position: [f64; 3], [w, x, y, z]: [f64; 4]) -> Isometry3<f64> {
    let rotation = UnitQuaternion::from_quaternion(Quaternion::new(w, x, y, z));
    Isometry3::from_parts(Translation3::from(Point3::from(position)), rotation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hand_is_where_mujoco_has_it_and_reaching_comes_back() {
        let mut physics = crate::table::load("table", "", "").unwrap();
        let arm = Arm::new(&physics).unwrap();
        let start = Vector6::new(0.0, 0.6, 1.5, 0.0, 1.0, 0.0);
        for turn in [-0.4, -0.1, 0.2, 0.5] {
            let angles = start + Vector6::new(turn, 0.5 * turn, -turn, turn, 0.3 * turn, 2.0 * turn);
            arm.put(&mut physics, &angles, 0.02).unwrap();
            physics.forward();
            let hand = arm.world_from_hand(&angles);
            let tool: [f64; 3] = (hand * arm.hand_from_tool * Point3::origin()).into();
            let off = crate::numeric::difference(tool, arm.tool_position(&physics));
            assert!(crate::numeric::norm(&off) < 1e-12, "{off:?}");

            let reached = arm.world_from_hand(&arm.reach(&hand, &start).unwrap());
            assert!((reached.translation.vector - hand.translation.vector).norm() < 1e-4);
            assert!(reached.rotation.angle_to(&hand.rotation) < 1e-3);
        }
        let too_far = Isometry3::translation(2.0, 0.0, 0.0);
        assert!(arm.reach(&too_far, &start).is_none());
    }
}
