//! Hand insert: take a block into a hole in the table (`sawyer_hand_insert_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, Verdict, distance, flat_distance, hamacher, make, move_to,
    near, one_object, plus,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_table_with_hole.xml",
    success: "the block is within 5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    goal_space: [[-0.04, 0.8, -0.0201], [0.04, 0.88, -0.0199]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.05, 0.05], [-0.04, 0.04], [0.8, 0.88], [-0.0201, -0.0199]],
};
const TARGET_RADIUS: f64 = 0.05;
const BLOCK_HEIGHT: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(HandInsert { block: physics.body("obj")?, goal: physics.site("goal")? }))
}

struct HandInsert {
    block: BodyId,
    goal: SiteId,
}

impl Manipulation for HandInsert {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], BLOCK_HEIGHT];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.block), physics.xquat(self.block))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let block = look.object();
        let to_target = distance(block, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let shape = Caging {
            object: block,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.05,
            xz_threshold: 0.005,
            desired_effort: 1.0,
            density: Density::High,
        };
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        if distance(block, arm.centre(physics)) < 0.02 && look.gripper() > 0.0 {
            reward += 1.0 + 7.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.05 }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, block, goal) = (look.hand(), look.object(), look.goal());
        let away = flat_distance(hand, block) > 0.02;
        let to = if away {
            plus(block, [0.0, 0.0, 0.1])
        } else if (hand[2] - block[2]).abs() > 0.05 {
            plus(block, [0.0, 0.0, 0.03])
        } else if flat_distance(hand, goal) > 0.04 {
            [goal[0], goal[1], hand[2]]
        } else {
            goal
        };
        move_to(hand, to, 10.0, if away || (hand[2] - block[2]).abs() > 0.1 { 0.0 } else { 0.65 })
    }
}
