//! Shelf place: put a block onto a shelf (`sawyer_shelf_place_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_shelf_placing.xml",
    success: "the block is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.8, 0.299], [0.1, 0.9, 0.301]],
    layout_space: &[[-0.1, 0.1], [0.5, 0.6], [0.019, 0.021], [-0.1, 0.1], [0.8, 0.9], [0.299, 0.301]],
};
const TARGET_RADIUS: f64 = 0.05;
/// Metres below which the block is under the shelf.
const SHELF_HEIGHT: f64 = 0.24;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(ShelfPlace {
            block: physics.body("obj")?,
            block_geom: physics.geom("objGeom")?,
            shelf: physics.body("shelf")?,
            goal: physics.site("goal")?,
        })
    })
}

struct ShelfPlace {
    block: BodyId,
    block_geom: GeomId,
    shelf: BodyId,
    goal: SiteId,
}

/// What is left of the placing reward below the shelf.
fn clear_of_shelf(block: [f64; 3], target: [f64; 3], placing: f64) -> f64 {
    let below = block[2] > 0.0 && block[2] < SHELF_HEIGHT;
    let beside = target[0] - 0.15 < block[0] && block[0] < target[0] + 0.15;
    let front = target[1] - 3.0 * TARGET_RADIUS;
    if !(below && beside) {
        return placing;
    }
    if block[1] > target[1] {
        return 0.0;
    }
    if front < block[1] && block[1] < target[1] {
        let depth = (block[1] - front) / (3.0 * TARGET_RADIUS);
        let loss = hamacher(depth, (SHELF_HEIGHT - block[2]) / SHELF_HEIGHT);
        return (placing - loss).clamp(0.0, 1.0);
    }
    placing
}

impl Manipulation for ShelfPlace {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], physics.xpos(self.block)[2]];
        let shelf = [layout[3], layout[4], layout[5] - 0.3];
        physics.model_mut().body_pos_mut()[self.shelf.0] = shelf;
        physics.forward();
        arm.target = plus(physics.model().site_pos()[self.goal.0], shelf);
        physics.place_free_object(arm.object_start);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.block), quaternion_xyzw(physics.geom_xmat(self.block_geom)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let block = look.object();
        let to_target = distance(block, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let shape = Caging {
            object: block,
            object_reach_radius: 0.01,
            object_radius: 0.02,
            pad_success_threshold: 0.05,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::Sparse,
        };
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        let reach = distance(block, arm.centre(physics));
        if reach < 0.025 && look.gripper() > 0.0 && block[2] - 0.01 > arm.object_start[2] {
            reward += 1.0 + 5.0 * clear_of_shelf(block, arm.target, placing);
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let block = plus(look.object(), [-0.005, 0.0, 0.015]);
        let shelf_x = look.goal()[0];
        let to = if flat_distance(hand, block) > 0.04 {
            plus(block, [0.0, 0.0, 0.3])
        } else if (hand[2] - block[2]).abs() > 0.04 {
            block
        } else if (hand[0] - shelf_x).abs() > 0.02 {
            [shelf_x, hand[1], 0.3]
        } else if hand[2] < 0.3 {
            plus(hand, [0.0, 0.0, 0.3])
        } else {
            plus(hand, [0.0, 0.05, 0.0])
        };
        let open = flat_distance(hand, look.object()) > 0.04 || (hand[2] - look.object()[2]).abs() > 0.15;
        move_to(hand, to, 25.0, if open { -1.0 } else { 0.7 })
    }
}
