//! Bin picking: move a cube from one bin into the other (`sawyer_bin_picking_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, Verdict, flat_distance, hamacher, make, move_to, near,
    one_object, plus,
};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, Physics};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_bin_picking.xml",
    success: "the cube is within 5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: [[-0.5, 0.40, 0.07], [0.5, 1.0, 0.5]],
    goal_space: [[0.1199, 0.699, -0.001], [0.1201, 0.701, 0.001]],
    layout_space: &[[-0.21, -0.03], [0.65, 0.75], [0.02, 0.02], [0.1199, 0.1201], [0.699, 0.701], [-0.001, 0.001]],
};
const TARGET_RADIUS: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(BinPicking { cube: physics.body("obj")?, goal: physics.body("bin_goal")?, first_distance: None })
    })
}

struct BinPicking {
    cube: BodyId,
    goal: BodyId,
    /// From cube to goal after the first step.
    first_distance: Option<f64>,
}

/// Height above which the hand is clear of a bin's rim, at a distance from the bin's middle.
fn floor_at(radius: f64) -> f64 {
    if radius > 0.03 { 0.02 * (radius - 0.03).ln() + 0.2 } else { 0.0 }
}

/// The cube as if it lay more in the middle, so that the fingers do not meet the rim.
fn centred(cube: [f64; 3]) -> [f64; 3] {
    let [x, y, z] = plus(cube, [0.0, 0.0, 0.03]);
    [x, y.clamp(0.675, 0.725), z]
}

impl Manipulation for BinPicking {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], physics.xpos(self.cube)[2]];
        physics.place_free_object(arm.object_start);
        arm.target = physics.xpos(self.goal);
        self.first_distance = None;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.cube), physics.xquat(self.cube))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (hand, cube) = (look.hand(), look.object());
        let distance = norm(&difference(cube, arm.target));
        let margin = *self.first_distance.get_or_insert(distance);
        let placing = near(TARGET_RADIUS, margin).of(distance);
        let floor = floor_at(flat_distance(hand, arm.object_start)).min(floor_at(flat_distance(hand, arm.target)));
        let above = if hand[2] >= floor { 1.0 } else { near(0.01, 0.05).of((floor - hand[2]).max(0.0)) };
        let shape = Caging {
            object: cube,
            object_radius: 0.015,
            pad_success_threshold: 0.05,
            object_reach_radius: 0.01,
            xz_threshold: 0.01,
            desired_effort: 0.7,
            density: Density::High,
        };
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        let close = norm(&difference(cube, hand)) < 0.04;
        if close && cube[2] - 0.02 > arm.object_start[2] && look.gripper() >= 0.43 {
            reward += 1.0 + 5.0 * hamacher(above, placing);
        }
        if distance < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: distance <= 0.05 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let cube = centred(look.object());
        let bin = [0.12, 0.7, 0.02];
        let to = if flat_distance(hand, cube) > 0.02 {
            plus(cube, [0.0, 0.0, 0.15])
        } else if (hand[2] - cube[2]).abs() > 0.01 {
            cube
        } else if flat_distance(hand, bin) > 0.02 {
            if hand[2] < 0.15 { plus(hand, [0.0, 0.0, 0.1]) } else { [bin[0], bin[1], 0.18] }
        } else {
            bin
        };
        let open = flat_distance(hand, cube) > 0.02 || (hand[2] - cube[2]).abs() > 0.02;
        move_to(hand, to, 25.0, if open { -1.0 } else { 0.6 })
    }
}
