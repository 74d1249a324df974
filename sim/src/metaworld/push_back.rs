//! Push back: pull a puck over the table towards the arm (`sawyer_push_back_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Grip, Look, Manipulation, Pinch, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_push_back_v3.xml",
    success: "the puck is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.6, 0.0199], [0.1, 0.7, 0.0201]],
    layout_space: &[[-0.1, 0.1], [0.8, 0.85], [0.02, 0.02], [-0.1, 0.1], [0.6, 0.7], [0.0199, 0.0201]],
};
const TARGET_RADIUS: f64 = 0.05;
const OBJECT_RADIUS: f64 = 0.007;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(PushBack { puck: physics.geom("objGeom")?, goal: physics.site("goal")? }))
}

struct PushBack {
    puck: GeomId,
    goal: SiteId,
}

impl Manipulation for PushBack {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let height = physics.geom_xpos(self.puck)[2];
        arm.object_start = [layout[0], layout[1], height];
        arm.target = [layout[3], layout[4], height];
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.geom_xpos(self.puck), quaternion_xyzw(physics.geom_xmat(self.puck)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let puck = look.object();
        let to_target = distance(puck, arm.target);
        let first = distance(arm.object_start, arm.target);
        let placing = near(TARGET_RADIUS, first).of(to_target);
        let grip = Grip::Pads { margin: OBJECT_RADIUS + 0.003 };
        let shape = Pinch { object: puck, object_radius: OBJECT_RADIUS, xz_margin: 0.01, grip };
        let mut reward = hamacher(arm.pinching(physics, &look.action, &shape), placing);
        let gripped = look.gripper() > 0.0 && look.gripper() < 0.55;
        if distance(puck, arm.centre(physics)) < 0.01 && gripped && first - to_target > 0.01 {
            reward += 1.0 + 5.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, puck) = (look.hand(), look.object());
        let away = flat_distance(hand, puck) > 0.04;
        let to = if away {
            plus(puck, [0.0, 0.0, 0.3])
        } else if (hand[2] - puck[2]).abs() > 0.055 {
            puck
        } else {
            plus(look.goal(), [0.0, 0.0, hand[2]])
        };
        move_to(hand, to, 10.0, if away || (hand[2] - puck[2]).abs() > 0.05 { 0.0 } else { 0.9 })
    }
}
