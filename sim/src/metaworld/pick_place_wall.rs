//! Pick and place, wall: take a puck over a wall to a place in the air (`sawyer_pick_place_wall_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus, scaled_distance,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_pick_place_wall_v3.xml",
    success: "the puck is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.05, 0.85, 0.05], [0.05, 0.9, 0.3]],
    layout_space: &[[-0.05, 0.05], [0.6, 0.65], [0.015, 0.015], [-0.05, 0.05], [0.85, 0.9], [0.05, 0.3]],
};
const TARGET_RADIUS: f64 = 0.05;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(PickPlaceWall { puck: physics.geom("objGeom")?, goal: physics.site("goal")? }))
}

struct PickPlaceWall {
    puck: GeomId,
    goal: SiteId,
}

impl Manipulation for PickPlaceWall {
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
        one_object(physics.geom_xpos(self.puck), quaternion_xyzw(physics.geom_xmat(self.puck)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let puck = look.object();
        let (above_wall, scale) = ([arm.target[0], 0.77, 0.25], [1.0, 1.0, 3.0]);
        let margin = scaled_distance(arm.object_start, above_wall, scale);
        let lifting = near(TARGET_RADIUS, margin).of(scaled_distance(puck, above_wall, scale));
        let to_target = distance(puck, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let shape = Caging {
            object: puck,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.05,
            xz_threshold: 0.005,
            desired_effort: 1.0,
            density: Density::Sparse,
        };
        let both = hamacher(arm.caging(physics, &look.action, &shape), lifting);
        let reach = distance(puck, arm.centre(physics));
        let held = reach < 0.02 && look.gripper() > 0.0 && puck[2] - 0.015 > arm.object_start[2];
        let reward = match held {
            _ if to_target < TARGET_RADIUS => 10.0,
            true if puck[1] > 0.75 => both + 1.0 + 4.0 + 3.0 * placing,
            true => both + 1.0 + 4.0 * lifting,
            false => both,
        };
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, goal) = (look.hand(), look.goal());
        let puck = plus(look.object(), [-0.005, 0.0, 0.0]);
        let at_wall = (-0.15..=0.35).contains(&hand[0]) && (0.6..=0.8).contains(&hand[1]);
        let to = if flat_distance(hand, puck) > 0.015 {
            plus(puck, [0.0, 0.0, 0.1])
        } else if (hand[2] - puck[2]).abs() > 0.04 && puck[2] < 0.03 {
            plus(puck, [0.0, 0.0, 0.03])
        } else if at_wall && hand[2] < 0.25 {
            plus(hand, [0.0, 0.0, 1.0])
        } else if at_wall && hand[2] < 0.35 {
            [goal[0], goal[1], hand[2]]
        } else if (hand[2] - goal[2]).abs() > 0.01 {
            [hand[0], hand[1], goal[2]]
        } else {
            goal
        };
        let open = flat_distance(hand, look.object()) > 0.015 || (hand[2] - look.object()[2]).abs() > 0.1;
        move_to(hand, to, 10.0, if open { 0.0 } else { 0.9 })
    }
}
