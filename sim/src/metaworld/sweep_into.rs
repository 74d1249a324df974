//! Sweep into: sweep a cube into a hole in the table (`sawyer_sweep_into_goal_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Grip, Look, Manipulation, Pinch, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_table_with_hole.xml",
    success: "the cube is within 5 cm of the hole, in the plane; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.001, 0.8399, 0.0199], [0.001, 0.8401, 0.0201]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.02, 0.02], [-0.001, 0.001], [0.8399, 0.8401], [0.0199, 0.0201]],
};
const TARGET_RADIUS: f64 = 0.05;
const CUBE_RADIUS: f64 = 0.02;
const HOLE: [f64; 3] = [0.0, 0.84, 0.02];

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(SweepInto { cube: physics.body("obj")?, cube_geom: physics.geom("objGeom")?, goal: physics.site("goal")? })
    })
}

struct SweepInto {
    cube: BodyId,
    cube_geom: GeomId,
    goal: SiteId,
}

impl Manipulation for SweepInto {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - HOLE[0], layout[1] - HOLE[1]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], physics.xpos(self.cube)[2]];
        arm.target = HOLE;
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.cube), quaternion_xyzw(physics.geom_xmat(self.cube_geom)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let cube = look.object();
        let target = [arm.target[0], arm.target[1], cube[2]];
        let to_target = distance(cube, target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, target)).of(to_target);
        let grip = Grip::Pads { margin: CUBE_RADIUS + 0.005 };
        let shape = Pinch { object: cube, object_radius: CUBE_RADIUS, xz_margin: 0.01, grip };
        let grasping = arm.pinching(physics, &look.action, &shape);
        let reward = 2.0 * grasping + 6.0 * hamacher(grasping, placing);
        Verdict { reward: if to_target < TARGET_RADIUS { 10.0 } else { reward }, success: to_target <= 0.05 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let cube = plus(look.object(), [-0.005, 0.0, 0.01]);
        let to = if flat_distance(hand, cube) > 0.04 {
            plus(cube, [0.0, 0.0, 0.3])
        } else if (hand[2] - cube[2]).abs() > 0.04 {
            cube
        } else {
            look.goal()
        };
        let open = flat_distance(hand, look.object()) > 0.04 || (hand[2] - look.object()[2]).abs() > 0.15;
        move_to(hand, to, 25.0, if open { -1.0 } else { 0.7 })
    }
}
