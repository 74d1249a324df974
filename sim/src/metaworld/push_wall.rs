//! Push, wall: push a puck around a wall to a place (`sawyer_push_wall_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, make, move_to,
    near, one_object, plus, scaled_distance,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_push_wall_v3.xml",
    success: "the puck is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.05, 0.85, 0.01], [0.05, 0.9, 0.02]],
    layout_space: &[[-0.05, 0.05], [0.6, 0.65], [0.015, 0.015], [-0.05, 0.05], [0.85, 0.9], [0.01, 0.02]],
};
const TARGET_RADIUS: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(PushWall { puck: physics.geom("objGeom")?, goal: physics.site("goal")? }))
}

struct PushWall {
    puck: GeomId,
    goal: SiteId,
}

impl Manipulation for PushWall {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let height = physics.geom_xpos(self.puck)[2];
        arm.object_start = [layout[0], layout[1], height];
        arm.target = [layout[3], layout[4], height];
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
        physics.place_free_object(arm.object_start);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.geom_xpos(self.puck), quaternion_xyzw(physics.geom_xmat(self.puck)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let puck = look.object();
        let (past_wall, scale) = ([-0.05, 0.77, puck[2]], [3.0, 1.0, 1.0]);
        let margin = scaled_distance(arm.object_start, past_wall, scale);
        let passing = near(TARGET_RADIUS, margin).of(scaled_distance(puck, past_wall, scale));
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
        let grasping = arm.caging(physics, &look.action, &shape);
        let held = distance(puck, arm.centre(physics)) < 0.02 && look.gripper() > 0.0;
        let reward = match held {
            _ if to_target < TARGET_RADIUS => 10.0,
            true if puck[1] > 0.75 => 2.0 * grasping + 1.0 + 4.0 + 3.0 * placing,
            true => 2.0 * grasping + 1.0 + 4.0 * passing,
            false => 2.0 * grasping,
        };
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let puck = plus(look.object(), [-0.005, 0.0, 0.0]);
        let beside = (puck[0] > -0.15 && puck[0] < 0.05) || (puck[0] > 0.15 && puck[0] < 0.35);
        let to = if flat_distance(hand, puck) > 0.02 {
            plus(puck, [0.0, 0.0, 0.2])
        } else if (hand[2] - puck[2]).abs() > 0.04 {
            plus(puck, [0.0, 0.0, 0.03])
        } else if (-0.1..=0.3).contains(&puck[0]) && (0.65..=0.75).contains(&puck[1]) {
            plus(hand, [-1.0, 0.0, 0.0])
        } else if beside && (0.695..=0.755).contains(&puck[1]) {
            plus(hand, [0.0, 1.0, 0.0])
        } else {
            look.goal()
        };
        let open = flat_distance(hand, look.object()) > 0.02 || (hand[2] - look.object()[2]).abs() > 0.1;
        move_to(hand, to, 10.0, if open { 0.0 } else { 0.6 })
    }
}
