//! What the actuators move, for the joint states of the simulated robot.

use mujoco_rs::prelude::{MjData, MjModel};
use mujoco_rs::wrappers::mj_model::MjtTrn;

use crate::actuators::{Control, controls, gear, is_scalar_joint};
use crate::physics::Physics;

/// What a control moves: a hinge or slide, or else the length of its transmission.
#[derive(Clone, Copy, Debug)]
pub(super) enum DrivenJoint {
    Joint {
        qpos_address: usize,
        dof_address: usize,
    },
    Tendon(usize),
    /// An actuator's length over its gear: of a ball or free joint the angle or path along the gear's axis.
    Length {
        output: usize,
        gear: f64,
    },
}

impl DrivenJoint {
    /// Position and velocity.
    pub(super) fn read(self, data: &MjData<Box<MjModel>>) -> (f64, f64) {
        match self {
            Self::Joint { qpos_address, dof_address } => (data.qpos()[qpos_address], data.qvel()[dof_address]),
            Self::Tendon(index) => (data.ten_length()[index], data.ten_velocity()[index]),
            Self::Length { output, gear } => {
                (data.actuator_length()[output] / gear, data.actuator_velocity()[output] / gear)
            }
        }
    }
}

/// What each control moves, in order.
pub(super) fn driven_joints(physics: &Physics) -> Vec<DrivenJoint> {
    let model = physics.model();
    controls(model).into_iter().map(|control| driven_joint(model, control)).collect()
}

fn driven_joint(model: &MjModel, control: Control) -> DrivenJoint {
    let [id, _] = model.actuator_trnid()[control.actuator];
    match model.actuator_trntype()[control.actuator] {
        MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT if is_scalar_joint(model, control.actuator) => {
            DrivenJoint::Joint {
                qpos_address: model.jnt_qposadr()[id as usize] as usize,
                dof_address: model.jnt_dofadr()[id as usize] as usize,
            }
        }
        MjtTrn::mjTRN_TENDON => DrivenJoint::Tendon(id as usize),
        _ => {
            let gear = gear(model, control);
            DrivenJoint::Length { output: control.output, gear: if gear == 0.0 { 1.0 } else { gear } }
        }
    }
}
