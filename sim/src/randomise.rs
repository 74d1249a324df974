//! Random initial poses (`dm_control/suite/utils/randomizers.py`): the same draws in the same order.

use std::f64::consts::PI;

use mujoco_rs::wrappers::mj_model::MjtJoint;

use crate::numeric::normalise;
use crate::physics::{JointId, Physics};
use crate::random::RandomState;

/// Draws every limited joint within its limits and every unlimited rotation over the whole circle or sphere. Free joints
/// keep their place and draw their quaternion from the positive orthant, as the original does.
pub(crate) fn randomise_limited_and_rotational_joints(physics: &mut Physics, random: &mut RandomState) {
    for index in 0..physics.model().jnt_type().len() {
        let joint = JointId(index);
        let [minimum, maximum] = physics.model().jnt_range()[index];
        let limited = physics.model().jnt_limited()[index];
        let kind = physics.model().jnt_type()[index];
        let position = physics.joint_qpos_mut(joint);
        match (kind, limited) {
            (MjtJoint::mjJNT_HINGE | MjtJoint::mjJNT_SLIDE, true) => position[0] = random.uniform(minimum, maximum),
            (MjtJoint::mjJNT_BALL, true) => position.copy_from_slice(&limited_quaternion(random, maximum)),
            (MjtJoint::mjJNT_HINGE, false) => position[0] = random.uniform(-PI, PI),
            (MjtJoint::mjJNT_BALL, false) => {
                random.fill_normal(position);
                normalise(position);
            }
            (MjtJoint::mjJNT_FREE, false) => {
                position[3..].iter_mut().for_each(|value| *value = random.sample());
                normalise(&mut position[3..]);
            }
            (MjtJoint::mjJNT_SLIDE, false) | (MjtJoint::mjJNT_FREE, true) => {}
        }
    }
}

/// A rotation by less than `limit` radians about a uniform axis.
fn limited_quaternion(random: &mut RandomState, limit: f64) -> [f64; 4] {
    let mut axis = [0.0; 3];
    random.fill_normal(&mut axis);
    normalise(&mut axis);
    let angle = random.sample() * limit;
    let (sine, cosine) = ((angle * 0.5).sin(), (angle * 0.5).cos());
    [cosine, axis[0] * sine, axis[1] * sine, axis[2] * sine]
}
