//! The keys of a joint beyond range and rate: further limits, where it may be, and where it sits.

use std::f64::consts::TAU;

use crate::check::{Checked, wrong};
use crate::profile::{CommandKind, JointProfile};

/// Where a revolute joint sits, as in URDF: a frame in the frame of the joint before it (the first: of the base), and the axis in that frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JointLink {
    /// Unit vector.
    pub axis: [f64; 3],
    /// Origin, metres.
    pub origin_metres: [f64; 3],
    /// Fixed roll, pitch, yaw of the origin, radians.
    pub origin_radians: [f64; 3],
}

/// Where a joint that takes velocities or torques may be, by its measured position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PositionLimits {
    /// Smallest position.
    pub minimum_radians: f64,
    /// Largest position.
    pub maximum_radians: f64,
    /// The deceleration that the joint certainly manages.
    pub braking_radians_per_second_squared: f64,
}

/// The keys of a joint that may be left out.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawDynamics {
    pub(crate) max_acceleration_per_second_squared: Option<f64>,
    pub(crate) max_jerk_per_second_cubed: Option<f64>,
    pub(crate) home: Option<f64>,
    pub(crate) continuous: Option<bool>,
    pub(crate) damping_per_radian_per_second: Option<f64>,
    pub(crate) minimum_position_radians: Option<f64>,
    pub(crate) maximum_position_radians: Option<f64>,
    pub(crate) braking_radians_per_second_squared: Option<f64>,
    pub(crate) axis: Option<[f64; 3]>,
    pub(crate) origin_metres: Option<[f64; 3]>,
    pub(crate) origin_radians: Option<[f64; 3]>,
}

/// Fills in what a joint says beyond range and rate.
pub(crate) fn dynamics(joint: JointProfile, raw: &RawDynamics, key: &dyn Fn(&str) -> String) -> Checked<JointProfile> {
    let positive = |field: &str, value: Option<f64>| match value {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(wrong(&key(field), value, "must be finite and > 0; leave the key out for no limit"))
        }
        value => Ok(value),
    };
    let acceleration = positive("max_acceleration_per_second_squared", raw.max_acceleration_per_second_squared)?;
    let jerk = positive("max_jerk_per_second_cubed", raw.max_jerk_per_second_cubed)?;
    if let (Some(jerk), None) = (jerk, acceleration) {
        let rule = "needs max_acceleration_per_second_squared as well";
        return Err(wrong(&key("max_jerk_per_second_cubed"), jerk, rule));
    }
    if let Some(home) = raw.home.filter(|home| !(joint.minimum..=joint.maximum).contains(home)) {
        let rule = format!("must lie in the joint's range, {} to {}", joint.minimum, joint.maximum);
        return Err(wrong(&key("home"), home, &rule));
    }
    let continuous = continuous(&joint, raw, key)?;
    let damping = positive("damping_per_radian_per_second", raw.damping_per_radian_per_second)?.unwrap_or(0.0);
    let position = position(&joint, raw, key)?;
    let link = link(raw, key)?;
    Ok(JointProfile {
        max_acceleration_per_second_squared: acceleration,
        max_jerk_per_second_cubed: jerk,
        home: raw.home,
        continuous,
        damping_per_radian_per_second: damping,
        position,
        link,
        ..joint
    })
}

/// A range may miss a turn by this, radians: 3.14 for pi.
const TURN_SLACK: f64 = 0.01;

fn continuous(joint: &JointProfile, raw: &RawDynamics, key: &dyn Fn(&str) -> String) -> Checked<bool> {
    let Some(true) = raw.continuous else { return Ok(false) };
    if joint.command != CommandKind::PositionRadians {
        let rule =
            "is for position_radians; a velocity or torque turns without end if it has no minimum_position_radians";
        return Err(wrong(&key("continuous"), true, rule));
    }
    if joint.maximum - joint.minimum < TAU - TURN_SLACK {
        let rule = format!(
            "a joint that turns without end has a range of at least one turn, such as -3.1416 to 3.1416; {} to {} are less: leave `continuous` out if they are limits",
            joint.minimum, joint.maximum
        );
        return Err(wrong(&key("continuous"), true, &rule));
    }
    Ok(true)
}

fn position(joint: &JointProfile, raw: &RawDynamics, key: &dyn Fn(&str) -> String) -> Checked<Option<PositionLimits>> {
    let given = [raw.minimum_position_radians, raw.maximum_position_radians, raw.braking_radians_per_second_squared];
    let [Some(minimum), Some(maximum), Some(braking)] = given else {
        return match given.iter().flatten().next() {
            None => Ok(None),
            Some(value) => {
                let rule = "give minimum_position_radians, maximum_position_radians and braking_radians_per_second_squared, or none of them";
                Err(wrong(&key("minimum_position_radians"), value, rule))
            }
        };
    };
    if joint.command == CommandKind::PositionRadians {
        let rule = "is for velocities and torques; a commanded position has its limits in minimum and maximum";
        return Err(wrong(&key("minimum_position_radians"), minimum, rule));
    }
    if !(minimum.is_finite() && maximum.is_finite() && minimum < maximum) {
        let range = format!("{minimum} with maximum_position_radians = {maximum}");
        let rule = "both must be finite and minimum < maximum";
        return Err(wrong(&key("minimum_position_radians"), range, rule));
    }
    let is_velocity = joint.command == CommandKind::VelocityRadiansPerSecond;
    if !(braking.is_finite() && braking > 0.0) || (is_velocity && braking > joint.max_rate_per_second) {
        let rule = "must be finite and > 0, and for a velocity at most max_rate_per_second: the command cannot brake faster than that";
        return Err(wrong(&key("braking_radians_per_second_squared"), braking, rule));
    }
    if let (true, Some(acceleration)) = (is_velocity, raw.max_acceleration_per_second_squared) {
        let rule = "with minimum_position_radians a velocity has max_rate_per_second alone, which is its acceleration";
        return Err(wrong(&key("max_acceleration_per_second_squared"), acceleration, rule));
    }
    Ok(Some(PositionLimits {
        minimum_radians: minimum,
        maximum_radians: maximum,
        braking_radians_per_second_squared: braking,
    }))
}

fn link(raw: &RawDynamics, key: &dyn Fn(&str) -> String) -> Checked<Option<JointLink>> {
    let Some(axis) = raw.axis else {
        return match (raw.origin_metres, raw.origin_radians) {
            (None, None) => Ok(None),
            _ => Err(wrong(&key("axis"), "missing", "origin_metres and origin_radians need an axis = [x, y, z]")),
        };
    };
    let length = axis.iter().map(|part| part * part).sum::<f64>().sqrt();
    if !(length - 1.0).abs().le(&1e-3) {
        return Err(wrong(&key("axis"), format!("{axis:?}"), "must be a unit vector, such as [0.0, 0.0, 1.0]"));
    }
    let origin_metres = raw.origin_metres.unwrap_or_default();
    let origin_radians = raw.origin_radians.unwrap_or_default();
    for (field, parts) in [("origin_metres", origin_metres), ("origin_radians", origin_radians)] {
        if !parts.iter().all(|part| part.is_finite()) {
            return Err(wrong(&key(field), format!("{parts:?}"), "must be finite"));
        }
    }
    Ok(Some(JointLink { axis: axis.map(|part| part / length), origin_metres, origin_radians }))
}
