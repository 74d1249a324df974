//! Box close: put the lid onto a box (`sawyer_box_close_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, floor_height, hamacher, make,
    move_to, near, one_object, plus, quaternion_reward, scaled_distance,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_box.xml",
    success: "the lid is within 8 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.7, 0.133], [0.1, 0.8, 0.133]],
    layout_space: &[[-0.05, 0.05], [0.5, 0.55], [0.02, 0.02], [-0.1, 0.1], [0.7, 0.8], [0.133, 0.133]],
};
const LID_HEIGHT: f64 = 0.02_f32 as f64;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(BoxClose {
            lid: physics.body("top_link")?,
            container: physics.body("boxbody")?,
            goal: physics.site("goal")?,
        })
    })
}

struct BoxClose {
    lid: BodyId,
    container: BodyId,
    goal: SiteId,
}

/// How ready the hand is to lift, and how far the lid is lifted to its place.
fn steps(look: &Look, target: [f64; 3]) -> [f64; 2] {
    let hand = look.hand();
    let lid = plus(look.object(), [0.0, 0.0, 0.02]);
    let floor = floor_height(flat_distance(hand, lid), 0.02);
    let above = if hand[2] >= floor { 1.0 } else { near(0.01, floor / 2.0).of(floor - hand[2]) };
    let ready = hamacher(above, near(0.02, 0.5).of(distance(hand, lid)));
    let placing = near(0.05, 0.25).of(scaled_distance(target, lid, [1.0, 1.0, 3.0]));
    [ready, 0.2 * f64::from(lid[2] > 0.04) + 0.8 * placing]
}

impl Manipulation for BoxClose {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.25
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let height = physics.xpos(self.container)[2];
        arm.object_start = [layout[0], layout[1], LID_HEIGHT];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.model_mut().body_pos_mut()[self.container.0] = [layout[3], layout[4], height];
        physics.whole_steps(5);
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.lid), physics.xquat(self.lid))
    }

    fn evaluate(&mut self, arm: &Arm, _physics: &Physics, look: &Look) -> Verdict {
        let grabbing = (look.action[3].clamp(-1.0, 1.0) + 1.0) / 2.0;
        let [ready, lifted] = steps(look, arm.target);
        let success = distance(look.object(), arm.target) < 0.08;
        let reward = if success { 10.0 } else { 2.0 * hamacher(grabbing, ready) + 8.0 * lifted };
        Verdict { reward: reward * quaternion_reward(look, [0.707, 0.0, 0.0, 0.707], 0.2), success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let lid = plus(look.object(), [0.0, 0.0, 0.02]);
        let goal = [look.goal()[0], look.goal()[1], 0.15];
        let away = flat_distance(hand, lid) > 0.01;
        let to = if away {
            [lid[0], lid[1], 0.2]
        } else if (hand[2] - lid[2]).abs() > 0.05 {
            lid
        } else if (hand[2] - goal[2]).abs() > 0.04 {
            [hand[0], hand[1], goal[2]]
        } else {
            goal
        };
        move_to(hand, to, 25.0, if away || (hand[2] - lid[2]).abs() > 0.13 { 0.5 } else { 1.0 })
    }
}
