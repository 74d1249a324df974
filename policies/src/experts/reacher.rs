//! dm_control's reacher: inverse kinematics of a planar two-link arm, and a saturated PD law on the joint angles.

use std::f64::consts::{PI, TAU};

use foresee_sim::Environment;
use nalgebra::{Rotation2, Vector2};

use crate::actor::StateActor;
use crate::error::PoliciesError;

/// Torque (fraction of the motor's full 0.05 N m) a radian of error. With the 1.5e-3 kg m^2 of the stretched arm the shoulder answers
/// at 11.5 rad/s; the wrist carries less and needs less.
const STIFFNESS: Vector2<f64> = Vector2::new(4.0, 2.0);
/// Torque a radian per second. Together with the joints' own 0.01 N m s a damping ratio of 0.7 on the stretched arm.
const DAMPING: Vector2<f64> = Vector2::new(0.3, 0.15);
/// How far ahead the arm coasts on its present velocity: inertia over damping, in seconds. Which way round is shorter is judged
/// from there, so that a motion once begun is kept.
const COAST_SECONDS: f64 = 0.1;
/// Kept clear of the wrist's limit.
const LIMIT_MARGIN_RADIANS: f64 = PI / 180.0;

/// The expert for `dmc/reacher-*`. It goes to the middle of the target.
pub(super) fn expert(environment: &Environment) -> Result<Box<dyn StateActor>, PoliciesError> {
    let physics = environment.physics();
    let shoulder = planar(physics.body_position("arm")?);
    let wrist = planar(physics.body_position("hand")?);
    let finger = planar(physics.body_position("finger")?);
    let largest_bend = physics.joint_range("wrist")?.map_or(PI, |[lower, upper]| upper.min(-lower));
    let arm = Arm {
        upper_metres: (wrist - shoulder).norm(),
        lower_metres: (finger - wrist).norm(),
        largest_bend_radians: largest_bend - LIMIT_MARGIN_RADIANS,
    };
    Ok(Box::new(ReacherExpert { shoulder, arm }))
}

struct ReacherExpert {
    shoulder: Vector2<f64>,
    arm: Arm,
}

impl StateActor for ReacherExpert {
    fn reset(&mut self, _seed: u64) {}

    fn act(&mut self, environment: &Environment, action: &mut [f64]) -> Result<(), PoliciesError> {
        let physics = environment.physics();
        let target = planar(physics.geom_position("target")?) - self.shoulder;
        let angle = |name| Ok::<_, PoliciesError>(physics.joint_qpos(name)?.first().copied().unwrap_or_default());
        let angles = Vector2::new(angle("shoulder")?, angle("wrist")?);
        let velocities = Vector2::new(physics.joint_qvel("shoulder")?, physics.joint_qvel("wrist")?);
        let torques = torques(&self.arm, &target, &angles, &velocities);
        for (value, torque) in action.iter_mut().zip(torques.iter()) {
            *value = *torque;
        }
        Ok(())
    }
}

/// A planar two-link arm.
#[derive(Clone, Copy, Debug)]
struct Arm {
    upper_metres: f64,
    lower_metres: f64,
    /// Of the wrist, to either side.
    largest_bend_radians: f64,
}

impl Arm {
    /// Where the finger is, seen from the shoulder.
    #[cfg(test)]
    fn finger(&self, angles: &Vector2<f64>) -> Vector2<f64> {
        let upper = Rotation2::new(angles.x) * Vector2::new(self.upper_metres, 0.0);
        upper + Rotation2::new(angles.x + angles.y) * Vector2::new(self.lower_metres, 0.0)
    }

    /// Shoulder and wrist angles in radians that bring the finger to `target` (seen from the shoulder), or as near as the
    /// reach and the wrist's limit allow. `bend` is the sign of the wrist's angle.
    fn angles_at(&self, target: &Vector2<f64>, bend: f64) -> Vector2<f64> {
        let Self { upper_metres: upper, lower_metres: lower, largest_bend_radians } = *self;
        let cosine = (target.norm_squared() - upper * upper - lower * lower) / (2.0 * upper * lower);
        let wrist = bend.signum() * cosine.clamp(-1.0, 1.0).acos().min(largest_bend_radians);
        let finger_at_zero = Vector2::new(upper, 0.0) + Rotation2::new(wrist) * Vector2::new(lower, 0.0);
        let shoulder = target.y.atan2(target.x) - finger_at_zero.y.atan2(finger_at_zero.x);
        Vector2::new(shoulder, wrist)
    }
}

/// Both torques as fractions of full, -1 to 1: PD on the error to the solution on the side to which the wrist is bent (a pure
/// function of the state, whose one seam, the straight arm, the motion itself leaves behind).
fn torques(arm: &Arm, target: &Vector2<f64>, angles: &Vector2<f64>, velocities: &Vector2<f64>) -> Vector2<f64> {
    let coast = velocities * COAST_SECONDS;
    let bend = if angles.y + coast.y < 0.0 { -1.0 } else { 1.0 };
    let mut error = arm.angles_at(target, bend) - angles;
    // The shoulder turns without end: the shorter way round, as judged from where it coasts to.
    error.x = nearest_turn(error.x - coast.x) + coast.x;
    let wanted = STIFFNESS.component_mul(&error) - DAMPING.component_mul(velocities);
    wanted.map(|torque| torque.clamp(-1.0, 1.0))
}

/// The same angle within -pi to pi.
fn nearest_turn(angle_radians: f64) -> f64 {
    (angle_radians + PI).rem_euclid(TAU) - PI
}

fn planar(position: [f64; 3]) -> Vector2<f64> {
    let [x, y, _] = position;
    Vector2::new(x, y)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARM: Arm = Arm { upper_metres: 0.12, lower_metres: 0.12, largest_bend_radians: 159.0 * PI / 180.0 };

    #[test]
    fn inverse_kinematics_reaches_every_reachable_target_on_both_sides() {
        for radius in [0.05, 0.1, 0.15, 0.2, 0.239] {
            for turn in 0..12 {
                let target = Rotation2::new(f64::from(turn) * TAU / 12.0) * Vector2::new(radius, 0.0);
                for bend in [-1.0, 1.0] {
                    let angles = ARM.angles_at(&target, bend);
                    assert!((ARM.finger(&angles) - target).norm() < 1e-12, "{target} {bend}");
                    assert!(angles.y * bend > 0.0 && angles.y.abs() <= ARM.largest_bend_radians);
                }
            }
        }
    }

    #[test]
    fn a_target_out_of_reach_gives_the_nearest_pose_and_finite_torques() {
        let stretched = ARM.angles_at(&Vector2::new(0.0, 0.5), 1.0);
        assert!((ARM.finger(&stretched) - Vector2::new(0.0, 0.24)).norm() < 1e-9);
        let folded = ARM.angles_at(&Vector2::zeros(), -1.0);
        assert!((folded.y + ARM.largest_bend_radians).abs() < 1e-12);
        let torques = torques(&ARM, &Vector2::zeros(), &Vector2::new(40.0, 0.0), &Vector2::new(9.0, -9.0));
        assert!(torques.iter().all(|torque| torque.abs() <= 1.0));
    }

    #[test]
    fn the_shoulder_takes_the_shorter_way_round() {
        let target = Rotation2::new(3.0) * Vector2::new(0.2, 0.0);
        let torque = |angle| torques(&ARM, &target, &Vector2::new(angle, 0.5), &Vector2::zeros()).x;
        assert!(torque(-3.0) < 0.0 && torque(2.0) > 0.0 && torque(2.0 + 3.0 * TAU) > 0.0);
    }
}
