//! Units of observations. SI throughout; `1` for cosines, quaternions and other plain numbers.

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
