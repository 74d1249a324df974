//! Pick and place: take a puck to a place in the air (`sawyer_pick_place_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Grip, Look, Manipulation, Pinch, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_pick_place_v3.xml",
    success: "the puck is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.8, 0.05], [0.1, 0.9, 0.3]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.02, 0.02], [-0.1, 0.1], [0.8, 0.9], [0.05, 0.3]],
};
const TARGET_RADIUS: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(PickPlace { puck: physics.body("obj")?, puck_geom: physics.geom("objGeom")?, goal: physics.site("goal")? })
    })
}

struct PickPlace {
    puck: BodyId,
    puck_geom: GeomId,
    goal: SiteId,
}

impl Manipulation for PickPlace {
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
        one_object(physics.xpos(self.puck), quaternion_xyzw(physics.geom_xmat(self.puck_geom)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let puck = look.object();
        let to_target = distance(puck, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let shape = Pinch { object: puck, object_radius: 0.015, xz_margin: 0.005, grip: Grip::Effort };
        let mut reward = hamacher(arm.pinching(physics, &look.action, &shape), placing);
        let reach = distance(puck, arm.centre(physics));
        if reach < 0.02 && look.gripper() > 0.0 && puck[2] - 0.01 > arm.object_start[2] {
            reward += 1.0 + 5.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let puck = plus(look.object(), [-0.005, 0.0, 0.0]);
        let to = if flat_distance(hand, puck) > 0.02 {
            plus(puck, [0.0, 0.0, 0.1])
        } else if (hand[2] - puck[2]).abs() > 0.05 && puck[2] < 0.04 {
            plus(puck, [0.0, 0.0, 0.03])
        } else if look.gripper() > 0.73 {
            hand
        } else {
            look.goal()
        };
        move_to(hand, to, 10.0, if distance(hand, look.object()) < 0.07 { 1.0 } else { 0.0 })
    }
}
