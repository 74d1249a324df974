//! What is known of the joints.

use crate::joints::JointState;

/// The joints as they were measured last.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    joints: JointState,
    are: Measured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    Unknown,
    Known,
    NotFinite,
}

impl Seen {
    /// Nothing, of so many joints.
    pub(super) fn nothing(num_joints: usize) -> Self {
        Self { joints: JointState::zeros(num_joints), are: Measured::Unknown }
    }

    pub(super) fn forget(&mut self) {
        self.are = Measured::Unknown;
    }

    pub(super) fn take(&mut self, joints: &JointState) {
        if [joints.positions.len(), joints.velocities.len()] != [self.joints.positions.len(); 2] {
            return self.forget();
        }
        self.joints.stamp = joints.stamp;
        self.joints.positions.clone_from(&joints.positions);
        self.joints.velocities.clone_from(&joints.velocities);
        let is_finite = joints.positions.iter().chain(&joints.velocities).all(|value| value.is_finite());
        self.are = if is_finite { Measured::Known } else { Measured::NotFinite };
    }

    pub(super) fn is_finite(&self) -> bool {
        self.are != Measured::NotFinite
    }

    /// The joints, if they are known.
    pub(super) fn joints(&self) -> Option<&JointState> {
        (self.are == Measured::Known).then_some(&self.joints)
    }
}
