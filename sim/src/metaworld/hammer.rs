//! Hammer: pick up a hammer and drive a nail in (`sawyer_hammer_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, flat_distance, make, move_to, near, plus,
    quaternion_reward, two_objects,
};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_hammer.xml",
    success: "the nail is driven in by more than 9 cm; of an episode: in its last state",
    hand_start: [0.0, 0.4, 0.2],
    hand_space: TABLE,
    goal_space: [[0.2399, 0.7399, 0.109], [0.2401, 0.7401, 0.111]],
    layout_space: &[[-0.1, 0.1], [0.4, 0.5], [0.0, 0.0]],
};
const HANDLE_LENGTH: f64 = 0.14;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Hammer {
            hammer: physics.body("hammer")?,
            nail: physics.body("nail_link")?,
            nail_slide: physics.joint("NailSlideJoint")?,
            block: physics.body("box")?,
            goal: physics.site("goal")?,
        })
    })
}

struct Hammer {
    hammer: BodyId,
    nail: BodyId,
    nail_slide: JointId,
    block: BodyId,
    goal: SiteId,
}

impl Manipulation for Hammer {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        physics.model_mut().body_pos_mut()[self.block.0] = [0.24, 0.85, 0.0];
        arm.target = physics.site_xpos(self.goal);
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.place_free_object(arm.object_start);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        two_objects(
            (physics.xpos(self.hammer), physics.xquat(self.hammer)),
            (physics.xpos(self.nail), physics.xquat(self.nail)),
        )
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (hand, hammer) = (look.hand(), look.object());
        let mut grip = hammer;
        if (hammer[0] - hand[0]).abs() < HANDLE_LENGTH / 2.0 {
            grip[0] = hand[0];
        }
        let shape = Caging {
            object: grip,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.02,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::High,
        };
        let grabbing = arm.caging(physics, &look.action, &shape);
        let head = plus(hammer, [0.16, 0.06, 0.0]);
        let hitting = near(0.02, 0.2).of(norm(&difference(arm.target, head)));
        let placing = 0.1 * f64::from(head[2] > 0.02) + 0.9 * hitting;
        let reward = (2.0 * grabbing + 6.0 * placing) * quaternion_reward(look, [1.0, 0.0, 0.0, 0.0], 0.4);
        let success = physics.joint_qpos_values(self.nail_slide)[0] > 0.09;
        Verdict { reward: if success && reward > 5.0 { 10.0 } else { reward }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let grip = plus(look.object(), [-0.04, 0.0, -0.01]);
        let goal = plus([0.24, 0.71, 0.11], [-0.19, 0.0, 0.05]);
        let away = flat_distance(hand, grip);
        let to = if away > 0.04 {
            plus(grip, [0.0, 0.0, 0.1])
        } else if (hand[2] - grip[2]).abs() > 0.05 && grip[2] < 0.03 {
            plus(grip, [0.0, 0.0, 0.03])
        } else if norm(&[hand[0] - goal[0], hand[2] - goal[2]]) > 0.02 {
            [goal[0], hand[1], goal[2]]
        } else {
            goal
        };
        let open = away > 0.04 || (hand[2] - grip[2]).abs() > 0.1;
        move_to(hand, to, 10.0, if open { 0.0 } else { 0.8 })
    }
}
