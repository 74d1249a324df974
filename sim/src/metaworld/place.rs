//! How tasks put their objects: Meta-World addresses them by their place after the arm's nine joints.

use crate::physics::{JointId, Physics};

/// Where an object begins that follows the arm's seven joints and two fingers.
const AFTER_ARM: usize = 9;

impl Physics {
    /// Puts the free object after the arm at rest in a place.
    pub(super) fn place_free_object(&mut self, position: [f64; 3]) {
        self.data_mut().qpos_mut()[AFTER_ARM..AFTER_ARM + 3].copy_from_slice(&position);
        self.data_mut().qvel_mut()[AFTER_ARM..AFTER_ARM + 6].fill(0.0);
        self.forward();
    }

    /// Puts the mug, the one free object before the arm; as in the original, it is the joints after the ninth that stop.
    pub(super) fn place_mug(&mut self, position: [f64; 3]) {
        self.data_mut().qpos_mut()[..3].copy_from_slice(&position);
        self.data_mut().qvel_mut()[AFTER_ARM..AFTER_ARM + 6].fill(0.0);
        self.forward();
    }

    /// Puts the joint after the arm at rest in a position.
    pub(super) fn place_slide(&mut self, position: f64) {
        self.data_mut().qvel_mut()[AFTER_ARM] = 0.0;
        self.open_slide(position);
    }

    /// Puts the joint after the arm in a position and lets it move on.
    pub(super) fn open_slide(&mut self, position: f64) {
        self.data_mut().qpos_mut()[AFTER_ARM] = position;
        self.forward();
    }

    /// Puts a joint at rest in a position.
    pub(super) fn place_joint(&mut self, joint: JointId, position: f64) {
        let dof = self.dof_address(joint);
        self.joint_qpos_mut(joint)[0] = position;
        self.data_mut().qvel_mut()[dof] = 0.0;
        self.forward();
    }

    /// Puts the free object after the arm unturned in a place; it goes on turning as it did.
    pub(super) fn place_upright_object(&mut self, position: [f64; 3]) {
        let place = &mut self.data_mut().qpos_mut()[AFTER_ARM..AFTER_ARM + 7];
        place[..3].copy_from_slice(&position);
        place[3..].copy_from_slice(&[1.0, 0.0, 0.0, 0.0]);
        self.data_mut().qvel_mut()[AFTER_ARM..AFTER_ARM + 3].fill(0.0);
        self.forward();
    }

    /// Puts the two joints after the arm in positions and lets them move on.
    pub(super) fn open_slides(&mut self, positions: [f64; 2]) {
        self.data_mut().qpos_mut()[AFTER_ARM..AFTER_ARM + 2].copy_from_slice(&positions);
        self.forward();
    }

    /// Puts the thermos, on the two joints after the stick, in a place; as in the original, the second of them stops.
    pub(super) fn place_thermos(&mut self, positions: [f64; 2]) {
        let start = AFTER_ARM + 7;
        self.data_mut().qpos_mut()[start..start + 2].copy_from_slice(&positions);
        self.data_mut().qvel_mut()[start] = 0.0;
        self.forward();
    }
}
