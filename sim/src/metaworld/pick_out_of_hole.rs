//! Pick out of hole: lift a puck out of a hole to a place in the air (`sawyer_pick_out_of_hole_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, Verdict, distance, flat_distance, hamacher, make, move_to,
    near, one_object, plus,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_pick_out_of_hole.xml",
    success: "the puck is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: [[-0.5, 0.40, -0.05], [0.5, 1.0, 0.5]],
    goal_space: [[-0.1, 0.5, 0.15], [0.1, 0.6, 0.3]],
    layout_space: &[[0.0, 0.0], [0.75, 0.75], [0.02, 0.02], [-0.1, 0.1], [0.5, 0.6], [0.15, 0.3]],
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(PickOutOfHole { puck: physics.body("obj")?, goal: physics.site("goal")? }))
}

struct PickOutOfHole {
    puck: BodyId,
    goal: SiteId,
}

impl Manipulation for PickOutOfHole {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.puck), physics.xquat(self.puck))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (puck, centre) = (look.object(), arm.centre(physics));
        let to_target = distance(puck, arm.target);
        let radius = flat_distance(centre, arm.object_start);
        let floor = if radius > 0.03 { 0.015 * (radius - 0.03).ln() + 0.15 } else { 0.0 };
        let above = if centre[2] >= floor { 1.0 } else { near(0.01, 0.02).of((floor - centre[2]).max(0.0)) };
        let shape = Caging {
            object: puck,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.02,
            xz_threshold: 0.03,
            desired_effort: 0.1,
            density: Density::High,
        };
        let placing = near(0.02, distance(arm.object_start, arm.target)).of(to_target);
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        let close = distance(puck, centre) < 0.04;
        if close && puck[2] - 0.02 > arm.object_start[2] && look.gripper() >= 0.33 {
            reward += 1.0 + 5.0 * hamacher(placing, above);
        }
        if to_target < 0.05 {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, goal) = (look.hand(), look.goal());
        let puck = plus(look.object(), [0.0, 0.0, 0.02]);
        let away = flat_distance(hand, puck) > 0.02;
        let to = if away {
            plus(puck, [0.0, 0.0, 0.15])
        } else if (hand[2] - puck[2]).abs() > 0.01 {
            puck
        } else if (hand[2] - goal[2]).abs() > 0.04 {
            [hand[0], hand[1], goal[2]]
        } else {
            goal
        };
        move_to(hand, to, 25.0, if away || (hand[2] - puck[2]).abs() > 0.15 { 0.0 } else { 0.1 })
    }
}
