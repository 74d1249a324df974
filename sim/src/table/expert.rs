//! The scripted expert of pick-and-place: straight paths of the tool, and inverse kinematics from step to step. It keeps no
//! memory; what it does follows from the state alone.

use std::f64::consts::{FRAC_PI_2, PI};

use nalgebra::{Isometry3, Translation3, UnitQuaternion, Vector3, Vector6};

use super::pick_place::{CUBE_METRES, HOME, PickPlace};
use crate::numeric::{difference, norm};
use crate::physics::Physics;

/// Fingers from the middle, metres.
const OPEN: f64 = 0.04;
const CLOSED: f64 = 0.0;
/// Height of the tool while it moves over the table, metres.
const TRAVEL_METRES: f64 = 0.11;
/// The tool goes down where it is nearer than this to what it goes down to, metres along the table.
const ABOVE_METRES: f64 = 0.006;
/// The cube is let go where it is nearer than this to the disc.
const THERE_METRES: f64 = 0.009;
/// The fingers have found the cube or the middle when they are slower than this, metres a second.
const STILL: f64 = 2e-3;
/// How far the commanded tool moves and turns in a step.
const STEP_METRES: f64 = 0.016;
const STEP_RADIANS: f64 = 0.12;

/// What the tool should do next.
struct Goal {
    position: [f64; 3],
    fingers: f64,
}

/// Seven commands: joint angles and the fingers.
pub(super) fn act(task: &PickPlace, physics: &Physics) -> Option<Vec<f64>> {
    let commanded = Vector6::from_iterator(physics.control().iter().copied().take(6));
    let (goal, turn) = next(task, physics);
    let hand_from_tool = task.arm.hand_from_tool;
    let world_from_tool = task.arm.world_from_hand(&commanded) * hand_from_tool;
    let target = Isometry3::from_parts(Translation3::from(goal.position), turn);
    let world_from_hand = towards(&world_from_tool, &target) * hand_from_tool.inverse();
    // Near the edge of its reach the arm stays where it is commanded to be.
    let angles = task.arm.reach(&world_from_hand, &commanded).unwrap_or(commanded);
    Some(angles.iter().copied().chain([goal.fingers]).collect())
}

fn next(task: &PickPlace, physics: &Physics) -> (Goal, UnitQuaternion<f64>) {
    let (cube, target, tool) = (physics.xpos(task.cube), physics.xpos(task.target), task.arm.tool_position(physics));
    let opening = task.arm.opening(physics);
    let turn = grasp_turn(task, physics);
    let along = |to: [f64; 3]| norm(&difference(to, tool)[..2]);
    let go = |[x, y, _]: [f64; 3], height: f64, fingers: f64| (Goal { position: [x, y, height], fingers }, turn);

    if task.cube_to_target(physics) < THERE_METRES && task.is_down(physics) {
        // It is there: let go, then away from it and home.
        let is_free = opening > CUBE_METRES + 0.01;
        return if !is_free {
            go(tool, tool[2], OPEN)
        } else if tool[2] < TRAVEL_METRES - 0.01 && along(cube) < 0.03 {
            go(tool, TRAVEL_METRES, OPEN)
        } else {
            let home = task.arm.world_from_hand(&HOME) * task.arm.hand_from_tool;
            (Goal { position: home.translation.vector.into(), fingers: OPEN }, home.rotation)
        };
    }
    let is_at_cube = norm(&difference(cube, tool)) < 0.015;
    if !is_at_cube {
        let height = if along(cube) < ABOVE_METRES { cube[2] } else { TRAVEL_METRES };
        return go(cube, height, OPEN);
    }
    let is_held = physics.control()[6] < CUBE_METRES / 2.0 && task.arm.opening_speed(physics).abs() < STILL;
    if !is_held {
        return go(tool, tool[2], CLOSED);
    }
    // The tool goes where the cube should be, less what the cube slipped.
    let slip = difference(cube, tool);
    let place = difference(target, slip);
    if task.cube_to_target(physics) < THERE_METRES {
        go(place, CUBE_METRES - slip[2] - 1e-3, CLOSED)
    } else if tool[2] < TRAVEL_METRES - 0.03 {
        go(tool, TRAVEL_METRES, CLOSED)
    } else {
        go(place, TRAVEL_METRES, CLOSED)
    }
}

/// Fingers down, closing across two faces of the cube; of the four ways the one with the least turn of the wrist.
fn grasp_turn(task: &PickPlace, physics: &Physics) -> UnitQuaternion<f64> {
    let frame = physics.xmat(task.cube);
    let [x, y, _] = physics.xpos(task.cube);
    // The first horizontal axis of the cube, whichever face it lies on.
    let axis = (0..3).find(|axis| frame[6 + axis].abs() < 0.5).unwrap_or_default();
    let yaw = frame[3 + axis].atan2(frame[axis]);
    let radial = y.atan2(x);
    let quarter_turns = ((radial - yaw) / FRAC_PI_2).round();
    let down = UnitQuaternion::from_axis_angle(&Vector3::y_axis(), PI);
    UnitQuaternion::from_axis_angle(&Vector3::z_axis(), yaw + quarter_turns * FRAC_PI_2) * down
}

/// A step from one pose towards another.
fn towards(from: &Isometry3<f64>, to: &Isometry3<f64>) -> Isometry3<f64> {
    let shift = to.translation.vector - from.translation.vector;
    let turn = (to.rotation * from.rotation.inverse()).scaled_axis();
    let shift = shift * (STEP_METRES / shift.norm().max(STEP_METRES));
    let turn = turn * (STEP_RADIANS / turn.norm().max(STEP_RADIANS));
    Isometry3::from_parts(
        Translation3::from(from.translation.vector + shift),
        UnitQuaternion::from_scaled_axis(turn) * from.rotation,
    )
}
