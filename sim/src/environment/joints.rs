//! What the actuators move, for the joint states of the simulated robot.

use mujoco_rs::prelude::{MjData, MjModel};
use mujoco_rs::wrappers::mj_model::MjtTrn;

use crate::physics::Physics;

/// What an actuator moves: a joint, or else its own length (a tendon's, for instance).
#[derive(Clone, Copy, Debug)]
pub(super) enum DrivenJoint {
    Joint { qpos_address: usize, dof_address: usize },
    Tendon(usize),
    Length(usize),
}

impl DrivenJoint {
    /// Position and velocity.
    pub(super) fn read(self, data: &MjData<Box<MjModel>>) -> (f64, f64) {
        match self {
            Self::Joint { qpos_address, dof_address } => (data.qpos()[qpos_address], data.qvel()[dof_address]),
            Self::Tendon(index) => (data.ten_length()[index], data.ten_velocity()[index]),
            Self::Length(index) => (data.actuator_length()[index], data.actuator_velocity()[index]),
        }
    }
}

/// What each actuator moves, in order.
pub(super) fn driven_joints(physics: &Physics) -> Vec<DrivenJoint> {
    let model = physics.model();
    let driven = model.actuator_trntype().iter().zip(model.actuator_trnid()).enumerate();
    let to_joint = |(index, (kind, [id, _])): (usize, (&MjtTrn, &[i32; 2]))| match kind {
        MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT => DrivenJoint::Joint {
            qpos_address: model.jnt_qposadr()[*id as usize] as usize,
            dof_address: model.jnt_dofadr()[*id as usize] as usize,
        },
        MjtTrn::mjTRN_TENDON => DrivenJoint::Tendon(*id as usize),
        _ => DrivenJoint::Length(index),
    };
    driven.map(to_joint).collect()
}
