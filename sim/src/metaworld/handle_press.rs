//! Handle press: push a handle down, from the front or from the side (`sawyer_handle_press_v3.py`, `.._side_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make, move_to, near,
    one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_handle_press.xml",
    success: "the handle is within 2 cm of the goal's height; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.55, 0.04], [0.1, 0.70, 0.08]],
    layout_space: &[[-0.1, 0.1], [0.8, 0.9], [-0.001, 0.001]],
};
const SIDE_SCENE: Scene = Scene {
    model: "sawyer_handle_press_sideways.xml",
    goal_space: TABLE,
    layout_space: &[[-0.35, -0.25], [0.65, 0.75], [-0.001, 0.001]],
    ..SCENE
};
const TARGET_RADIUS: f64 = 0.02;
const HANDLE_RADIUS: f64 = 0.02;

/// From the front.
pub(crate) fn front(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| HandlePress::new(physics, Way::Front))
}

/// From the side.
pub(crate) fn side(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SIDE_SCENE, |physics| HandlePress::new(physics, Way::Side))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Front,
    Side,
}

struct HandlePress {
    way: Way,
    block: BodyId,
    handle: SiteId,
    goal: SiteId,
    /// Where the handle was when the episode began.
    handle_start: [f64; 3],
}

impl HandlePress {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        Ok(Self {
            way,
            block: physics.body("box")?,
            handle: physics.site("handleStart")?,
            goal: physics.site("goalPress")?,
            handle_start: [0.0; 3],
        })
    }
}

impl Manipulation for HandlePress {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.model_mut().body_pos_mut()[self.block.0] = arm.object_start;
        physics.place_slide(-0.001);
        arm.target = physics.site_xpos(self.goal);
        self.handle_start = physics.site_xpos(self.handle);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.handle), [0.0; 4])
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, _look: &Look) -> Verdict {
        let handle = physics.site_xpos(self.handle);
        let to_target = (handle[2] - arm.target[2]).abs();
        let first = (self.handle_start[2] - arm.target[2]).abs();
        let placing = near(TARGET_RADIUS, (first - TARGET_RADIUS).abs()).of(to_target);
        let margin = (distance(self.handle_start, arm.start) - HANDLE_RADIUS).abs();
        let reaching = near(HANDLE_RADIUS, margin).of(distance(handle, arm.centre(physics)));
        let success = to_target <= TARGET_RADIUS;
        Verdict { reward: 10.0 * if success { 1.0 } else { hamacher(reaching, placing) }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let (offset, effort) = if self.way == Way::Front { (-0.02, -1.0) } else { (0.0, 1.0) };
        let handle = plus(look.object(), [0.0, offset, 0.0]);
        let height = if flat_distance(hand, handle) > 0.02 { 0.2 } else { -0.5 };
        move_to(hand, plus(handle, [0.0, 0.0, height]), 25.0, effort)
    }
}
