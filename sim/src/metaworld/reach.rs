//! Reach: bring the hand to a place, with or without a wall on the way (`sawyer_reach_v3.py`, `sawyer_reach_wall_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, make, move_to, near, one_object, plus,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_reach_v3.xml",
    success: "the middle between the fingers is within 5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.8, 0.05], [0.1, 0.9, 0.3]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.02, 0.02], [-0.1, 0.1], [0.8, 0.9], [0.05, 0.3]],
};
const WALL_SCENE: Scene = Scene {
    model: "sawyer_reach_wall_v3.xml",
    goal_space: [[-0.05, 0.85, 0.05], [0.05, 0.9, 0.3]],
    layout_space: &[[-0.05, 0.05], [0.6, 0.65], [0.015, 0.015], [-0.05, 0.05], [0.85, 0.9], [0.05, 0.3]],
    ..SCENE
};
const TARGET_RADIUS: f64 = 0.05;

/// Nothing in between.
pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| Reach::new(physics, Way::Free))
}

/// Over a wall.
pub(crate) fn wall(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &WALL_SCENE, |physics| Reach::new(physics, Way::OverWall))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Free,
    OverWall,
}

struct Reach {
    way: Way,
    puck: BodyId,
    puck_geom: GeomId,
    goal: SiteId,
}

impl Reach {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        let (puck, puck_geom) = (physics.body("obj")?, physics.geom("objGeom")?);
        Ok(Self { way, puck, puck_geom, goal: physics.site("goal")? })
    }
}

impl Manipulation for Reach {
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

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, _look: &Look) -> Verdict {
        let to_target = distance(arm.centre(physics), arm.target);
        let reaching = near(TARGET_RADIUS, distance(SCENE.hand_start, arm.target)).of(to_target);
        Verdict { reward: 10.0 * reaching, success: to_target <= TARGET_RADIUS }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let at_wall = (-0.1..=0.3).contains(&hand[0]) && (0.6..=0.8).contains(&hand[1]) && hand[2] < 0.25;
        let climbs = self.way == Way::OverWall && at_wall;
        let to = if climbs { plus(look.goal(), [0.0, 0.0, 1.0]) } else { look.goal() };
        move_to(hand, to, 5.0, 0.0)
    }
}
