//! Units of observations and actions. SI throughout; `1` for cosines, quaternions and other plain numbers.

use mujoco_rs::wrappers::mj_model::{MjtBias, MjtDyn, MjtGain, MjtJoint, MjtObjBase, MjtTrn};

use crate::environment::names;
use crate::physics::Physics;
use crate::task::ActionSpec;

/// The unit of an observation's part; several in the order of its values where it mixes them. Velocities are per second.
pub(crate) fn of_observation(task: &str, part: &str) -> Option<&'static str> {
    let (suite, rest) = task.split_once('/')?;
    let domain = rest.split_once('-').map_or(rest, |(domain, _)| domain);
    let unit = match suite {
        "dmc" => of_dmc(domain, part)?,
        "metaworld" => "m and 1",
        "adroit" => "rad and m",
        "kitchen" => "rad and m, rad/s and m/s",
        "table" => of_table(part)?,
        _ => return None,
    };
    Some(unit)
}

fn of_table(part: &str) -> Option<&'static str> {
    Some(match part {
        "joint_positions" => "rad",
        "joint_velocities" => "rad/s",
        "gripper_opening" => "m",
        name if name.ends_with("_position") => "m",
        name if name.ends_with("_orientation") => "1",
        _ => return None,
    })
}

fn of_dmc(domain: &str, part: &str) -> Option<&'static str> {
    Some(match (domain, part) {
        ("reacher", "position") | (_, "joint_angles" | "joints") => "rad",
        ("ball_in_cup" | "lqr" | "point_mass", "position") => "m",
        ("cartpole", "position") => "m, 1",
        ("finger", "position") => "rad, m",
        ("humanoid", "position") => "m, 1, rad",
        ("cheetah" | "hopper", "position") => "m, rad",
        ("acrobot" | "finger" | "pendulum" | "reacher", "velocity") | (_, "joint_velocites" | "arm_vel") => "rad/s",
        ("ball_in_cup" | "lqr" | "point_mass", "velocity") => "m/s",
        (_, "velocity" | "body_velocities" | "object_vel" | "box_vel") => "m/s and rad/s",
        (_, "orientation" | "orientations" | "z_projection" | "torso_vertical" | "torso_upright" | "upright") => "1",
        (_, "arm_pos" | "actuator_state") => "1",
        (_, "com_velocity" | "torso_com_velocity" | "torso_velocity") => "m/s",
        ("stacker", "target_pos") => "m",
        (_, "hand_pos" | "object_pos" | "box_pos" | "target_pos") => "m, 1",
        (_, "to_target" | "target" | "target_position" | "dist_to_target" | "origin" | "extremities") => "m",
        (_, "height" | "head_height" | "torso_pelvis_height") => "m",
        ("dog", "ball_state") => "m, m/s",
        ("quadruped", "ball_state") => "m, m/s, rad/s",
        ("quadruped", "egocentric_state") => "rad, rad/s, 1",
        ("quadruped", "imu") => "m/s^2 and rad/s",
        ("quadruped", "force_torque") => "arsinh(N) and arsinh(N m)",
        ("quadruped", "rangefinder") => "tanh(m)",
        ("dog", "inertial_sensors") => "m/s^2, m/s and rad/s",
        ("dog", "foot_forces" | "touch_sensors") => "N",
        (_, "touch") => "ln(1 + N)",
        _ => return None,
    })
}

/// The actuators as actions.
pub(crate) fn action_specs(physics: &Physics) -> Vec<ActionSpec> {
    let model = physics.model();
    let ranges = model.actuator_ctrlrange();
    let specs = names(physics, MjtObjBase::mjOBJ_ACTUATOR, ranges.len()).into_iter().zip(ranges);
    let unlimited = [f64::NEG_INFINITY, f64::INFINITY];
    let with_limits = specs.zip(model.actuator_ctrllimited()).enumerate().map(|(index, ((name, range), limited))| {
        let [minimum, maximum] = if *limited { *range } else { unlimited };
        let (unit, scale) = of_control(physics, index);
        ActionSpec { name, minimum, maximum, unit, scale }
    });
    with_limits.collect()
}

/// What a control of 1 sets: a position or velocity to hold, or a force.
fn of_control(physics: &Physics, index: usize) -> (&'static str, f64) {
    let model = physics.model();
    let [position, velocity, force] = match (model.actuator_trntype()[index], model.actuator_trnid()[index][0]) {
        (MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT, joint)
            if model.jnt_type()[joint as usize] != MjtJoint::mjJNT_SLIDE =>
        {
            ["rad", "rad/s", "N m"]
        }
        _ => ["m", "m/s", "N"],
    };
    let (gain, bias) = (model.actuator_gainprm()[index][0], model.actuator_biasprm()[index]);
    let gear = model.actuator_gear()[index][0];
    if model.actuator_gaintype()[index] != MjtGain::mjGAIN_FIXED {
        return ("1", 1.0);
    }
    let is_affine = model.actuator_biastype()[index] == MjtBias::mjBIAS_AFFINE;
    match bias {
        [_, stiffness, ..]
            if is_affine && stiffness != 0.0 && model.actuator_dyntype()[index] == MjtDyn::mjDYN_INTEGRATOR =>
        {
            (velocity, gain / -stiffness / gear)
        }
        [_, stiffness, ..] if is_affine && stiffness != 0.0 => (position, gain / -stiffness / gear),
        [_, _, damping, ..] if is_affine && damping != 0.0 => (velocity, gain / -damping / gear),
        _ => (force, gain * gear),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    #[test]
    fn servos_are_set_in_radians_and_metres() {
        let physics = table::load("table", "", "").unwrap();
        let actions = action_specs(&physics);
        let of =
            |name: &str| actions.iter().find(|action| action.name == name).map(|action| (action.unit, action.scale));
        assert_eq!(of("base_yaw"), Some(("rad", 1.0)));
        assert_eq!(of("gripper"), Some(("m", 1.0)));
    }
}
