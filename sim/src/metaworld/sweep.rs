//! Sweep: sweep a cube off the table (`sawyer_sweep_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Grip, Look, Manipulation, Pinch, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_sweep_v3.xml",
    success: "the cube is within 5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[0.49, 0.6, 0.0], [0.51, 0.7, 0.02]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.02, 0.02]],
};
const TARGET_RADIUS: f64 = 0.05;
const CUBE_RADIUS: f64 = 0.02;
const CUBE_HEIGHT: f64 = 0.02;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Ok(Sweep { cube: physics.body("obj")?, goal: physics.site("goal")? }))
}

struct Sweep {
    cube: BodyId,
    goal: SiteId,
}

impl Manipulation for Sweep {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], CUBE_HEIGHT];
        arm.target = [0.5, layout[1], 0.01];
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.cube), physics.xquat(self.cube))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let cube = look.object();
        let to_target = distance(cube, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let grip = Grip::Pads { margin: CUBE_RADIUS + 0.01 };
        let shape = Pinch { object: cube, object_radius: CUBE_RADIUS, xz_margin: 0.005, grip };
        let grasping = arm.pinching(physics, &look.action, &shape);
        let reward = 2.0 * grasping + 6.0 * hamacher(grasping, placing);
        Verdict { reward: if to_target < TARGET_RADIUS { 10.0 } else { reward }, success: to_target <= 0.05 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let cube = plus(look.object(), [0.0, 0.0, 0.015]);
        let to = if hand[0] < 0.2 && flat_distance(hand, cube) > 0.04 {
            plus(cube, [0.0, 0.0, 0.3])
        } else if hand[0] < 0.2 && (hand[2] - cube[2]).abs() > 0.04 {
            cube
        } else {
            plus(look.goal(), [0.0, 0.0, 0.1])
        };
        let away = flat_distance(hand, look.object()) > 0.04 || (hand[2] - look.object()[2]).abs() > 0.15;
        move_to(hand, to, 25.0, if !away && look.object()[0] < 0.4 { 0.7 } else { -1.0 })
    }
}
