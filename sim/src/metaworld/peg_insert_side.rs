//! Peg insert, side: put a peg into a hole in the side of a box (`sawyer_peg_insertion_side_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus, prism, scaled_distance,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_peg_insertion_side.xml",
    success: "the peg's head is within 7 cm of the goal, crosswise counted twice; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.35 + 0.03, 0.4, -0.001 + 0.13], [-0.25 + 0.03, 0.7, 0.001 + 0.13]],
    layout_space: &[[0.0, 0.2], [0.5, 0.7], [0.02, 0.02], [-0.35, -0.25], [0.4, 0.7], [-0.001, 0.001]],
};
const TARGET_RADIUS: f64 = 0.07;
/// Where the peg's head has settled, on MuJoCo 3.3.0, before the peg is put to its place: the original measures the margin of its reward
/// from there, whatever the seed. Metres.
const HEAD_START: [f64; 3] = [-0.0999999980983087, 0.6, 0.014784684936330153];
const SCALE: [f64; 3] = [1.0, 2.0, 2.0];

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(PegInsert {
            block: physics.body("box")?,
            grip: physics.site("pegGrasp")?,
            head: physics.site("pegHead")?,
            goal: physics.site("goal")?,
            corners: [
                [
                    physics.site("bottom_right_corner_collision_box_1")?,
                    physics.site("top_left_corner_collision_box_1")?,
                ],
                [
                    physics.site("bottom_right_corner_collision_box_2")?,
                    physics.site("top_left_corner_collision_box_2")?,
                ],
            ],
        })
    })
}

struct PegInsert {
    block: BodyId,
    grip: SiteId,
    head: SiteId,
    goal: SiteId,
    /// Of the two boxes below the hole: bottom right, top left.
    corners: [[SiteId; 2]; 2],
}

impl Manipulation for PegInsert {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        let place = [layout[3], layout[4], layout[5]];
        arm.target = plus(place, [0.03, 0.0, 0.13]);
        physics.place_free_object(arm.object_start);
        let model = physics.model_mut();
        model.body_pos_mut()[self.block.0] = place;
        model.site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.grip), quaternion_xyzw(physics.site_xmat(self.grip)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let peg = look.object();
        let head = physics.site_xpos(self.head);
        let to_target = scaled_distance(head, arm.target, SCALE);
        let placing = near(TARGET_RADIUS, scaled_distance(HEAD_START, arm.target, SCALE)).of(to_target);
        let [first, second] =
            self.corners.map(|[zero, one]| prism(head, physics.site_xpos(zero), physics.site_xpos(one)));
        let placing = hamacher(placing, hamacher(second, first));
        let shape = Caging {
            object: peg,
            object_reach_radius: 0.01,
            object_radius: 0.0075,
            pad_success_threshold: 0.03,
            xz_threshold: 0.005,
            desired_effort: 1.0,
            density: Density::High,
        };
        let reach = distance(peg, arm.centre(physics));
        let held = reach < 0.08 && look.gripper() > 0.0 && peg[2] - 0.01 > arm.object_start[2];
        let grasping = if held { 1.0 } else { arm.caging(physics, &look.action, &shape) };
        let mut reward = hamacher(grasping, placing);
        if held {
            reward += 1.0 + 5.0 * placing;
        }
        let success = to_target <= 0.07;
        Verdict { reward: if success { 10.0 } else { reward }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, peg) = (look.hand(), look.object());
        let hole = [-0.35, look.goal()[1], 0.16];
        let away = flat_distance(hand, peg) > 0.04;
        let to = if away {
            plus(peg, [0.0, 0.0, 0.3])
        } else if (hand[2] - peg[2]).abs() > 0.025 {
            peg
        } else if norm(&[peg[1] - hole[1], peg[2] - hole[2]]) > 0.03 {
            plus(hole, [0.4, 0.0, 0.0])
        } else {
            hole
        };
        move_to(hand, to, 25.0, if away || (hand[2] - peg[2]).abs() > 0.15 { -1.0 } else { 0.6 })
    }
}
