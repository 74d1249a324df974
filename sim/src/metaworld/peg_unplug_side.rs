//! Peg unplug, side: pull a peg out of the side of a box (`sawyer_peg_unplug_side_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, make, move_to,
    near, one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_peg_unplug_side.xml",
    success: "the peg's end is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.25 + 0.194, 0.6, -0.001 + 0.131], [-0.15 + 0.194, 0.8, 0.001 + 0.131]],
    layout_space: &[[-0.25, -0.15], [0.6, 0.8], [-0.001, 0.001]],
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(PegUnplug {
            block: physics.body("box")?,
            plug: physics.body("plug1")?,
            end: physics.site("pegEnd")?,
            goal: physics.site("goal")?,
        })
    })
}

struct PegUnplug {
    block: BodyId,
    plug: BodyId,
    end: SiteId,
    goal: SiteId,
}

impl Manipulation for PegUnplug {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let place = [layout[0], layout[1], layout[2]];
        let plug = plus(place, [0.044, 0.0, 0.131]);
        physics.model_mut().body_pos_mut()[self.block.0] = place;
        physics.place_upright_object(plug);
        arm.object_start = physics.site_xpos(self.end);
        arm.target = plus(plug, [0.15, 0.0, 0.0]);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.end), physics.xquat(self.plug))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let peg = look.object();
        let to_target = distance(peg, arm.target);
        let shape = Caging {
            object: peg,
            object_reach_radius: 0.01,
            object_radius: 0.025,
            pad_success_threshold: 0.05,
            xz_threshold: 0.005,
            desired_effort: 0.8,
            density: Density::High,
        };
        let grasping = arm.caging(physics, &look.action, &shape);
        let placing = near(0.05, distance(arm.object_start, arm.target)).of(to_target);
        let pulled = look.gripper() > 0.5 && peg[0] - arm.object_start[0] > 0.015;
        let mut reward = 2.0 * grasping;
        if pulled && distance(peg, arm.centre(physics)) < 0.035 {
            reward = 1.0 + 2.0 * grasping + 5.0 * placing;
        }
        if to_target <= 0.05 {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let peg = plus(look.object(), [-0.02, 0.0, 0.035]);
        let away = flat_distance(hand, peg) > 0.04;
        let to = if away {
            plus(peg, [0.0, 0.0, 0.2])
        } else if (hand[2] - 0.15).abs() > 0.02 {
            [peg[0], peg[1], 0.15]
        } else {
            plus(hand, [0.01, 0.0, 0.0])
        };
        move_to(hand, to, 25.0, if away || (hand[2] - peg[2]).abs() > 0.15 { -1.0 } else { 0.1 })
    }
}
