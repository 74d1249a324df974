//! What the robot says of its joints.

use crate::time::Stamp;

/// Joint positions and velocities in the profile's joint order. SI: radians or metres, and those per second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointState {
    /// When it was measured.
    pub stamp: Stamp,
    /// Radians or metres, one a joint.
    pub positions: Vec<f64>,
    /// Radians or metres per second, one a joint.
    pub velocities: Vec<f64>,
}

impl JointState {
    /// All zero, for `num_joints` joints.
    pub fn zeros(num_joints: usize) -> Self {
        Self { stamp: Stamp::default(), positions: vec![0.0; num_joints], velocities: vec![0.0; num_joints] }
    }
}
