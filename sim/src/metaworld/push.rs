//! Push: push a puck over the table to a place (`sawyer_push_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, make, move_to,
    near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_push_v3.xml",
    success: "the puck is within 5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.8, 0.01], [0.1, 0.9, 0.02]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.02, 0.02], [-0.1, 0.1], [0.8, 0.9], [0.01, 0.02]],
};
const TARGET_RADIUS: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Push { puck: physics.body("obj")?, puck_geom: physics.geom("objGeom")?, goal: physics.site("goal")? })
    })
}

struct Push {
    puck: BodyId,
    puck_geom: GeomId,
    goal: SiteId,
}

impl Manipulation for Push {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let height = physics.xpos(self.puck)[2];
        arm.object_start = [layout[0], layout[1], height];
        arm.target = [layout[3], layout[4], height];
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
        let shape = Caging {
            object: puck,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.05,
            xz_threshold: 0.005,
            desired_effort: 1.0,
            density: Density::High,
        };
        let mut reward = 2.0 * arm.caging(physics, &look.action, &shape);
        if distance(puck, arm.centre(physics)) < 0.02 && look.gripper() > 0.0 {
            reward += 1.0 + reward + 5.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= TARGET_RADIUS }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let puck = plus(look.object(), [-0.005, 0.0, 0.0]);
        let to = if flat_distance(hand, puck) > 0.02 {
            plus(puck, [0.0, 0.0, 0.2])
        } else if (hand[2] - puck[2]).abs() > 0.04 {
            plus(puck, [0.0, 0.0, 0.03])
        } else {
            look.goal()
        };
        let open = flat_distance(hand, look.object()) > 0.02 || (hand[2] - look.object()[2]).abs() > 0.1;
        move_to(hand, to, 10.0, if open { 0.0 } else { 0.6 })
    }
}
