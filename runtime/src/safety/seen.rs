//! What is known of the joints, and for how long.

use std::time::Duration;

use super::Moment;
use crate::joints::JointState;
use crate::time::Stamp;

/// The joints as they were measured last.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    joints: JointState,
    are: Measured,
    /// Of the last joint state that came, known or not.
    stamp: Option<Stamp>,
    /// What is older is not known any more; `None`: it does not age.
    max_age: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    Unknown,
    /// At this time on the clock that limits count by.
    At(Stamp),
    NotFinite,
}

impl Seen {
    /// Nothing, of so many joints.
    pub(super) fn nothing(num_joints: usize, max_age: Option<Duration>) -> Self {
        Self { joints: JointState::zeros(num_joints), are: Measured::Unknown, stamp: None, max_age }
    }

    pub(super) fn forget(&mut self) {
        self.are = Measured::Unknown;
    }

    /// Takes a joint state; one from further ahead than it may be old is none.
    pub(super) fn take(&mut self, joints: &JointState, now: Moment) {
        self.stamp = Some(joints.stamp);
        let is_whole = [joints.positions.len(), joints.velocities.len()] == [self.joints.positions.len(); 2];
        if !is_whole || self.max_age.is_some_and(|max_age| joints.stamp.since(now.stamp) > max_age) {
            return self.forget();
        }
        self.joints.stamp = joints.stamp;
        self.joints.positions.clone_from(&joints.positions);
        self.joints.velocities.clone_from(&joints.velocities);
        let is_finite = joints.positions.iter().chain(&joints.velocities).all(|value| value.is_finite());
        self.are = match is_finite {
            true => Measured::At(now.time.before(now.stamp.since(joints.stamp))),
            false => Measured::NotFinite,
        };
    }

    pub(super) fn is_finite(&self) -> bool {
        self.are != Measured::NotFinite
    }

    pub(super) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// The stamp of the last joint state that came, whatever it is worth.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// The joints as they were measured last, however long ago.
    pub(super) fn latest(&self) -> Option<&JointState> {
        matches!(self.are, Measured::At(_)).then_some(&self.joints)
    }

    /// The joints, if they are known at this time on the clock that limits count by.
    pub(super) fn joints(&self, time: Stamp) -> Option<&JointState> {
        let is_known = match self.are {
            Measured::At(at) => self.max_age.is_none_or(|max_age| time.since(at) <= max_age),
            Measured::Unknown | Measured::NotFinite => false,
        };
        is_known.then_some(&self.joints)
    }
}
