//! Button press, top down: push a button into its box from above (`sawyer_button_press_topdown_v3.py` and `.._wall_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make, move_to, near,
    one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_button_press_topdown.xml",
    success: "the button is within 2.4 cm of its hole; of an episode: in its last state",
    hand_start: [0.0, 0.4_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: TABLE,
    layout_space: &[[-0.1, 0.1], [0.8, 0.9], [0.115, 0.115]],
};
const WALL_SCENE: Scene = Scene { model: "sawyer_button_press_topdown_wall.xml", ..SCENE };

/// Nothing in between.
pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| ButtonPress::new(physics, Way::Free))
}

/// Behind a wall.
pub(crate) fn wall(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &WALL_SCENE, |physics| ButtonPress::new(physics, Way::BehindWall))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Free,
    BehindWall,
}

struct ButtonPress {
    way: Way,
    block: BodyId,
    button: BodyId,
    hole: SiteId,
    button_start: SiteId,
    /// From button to hole.
    first_distance: f64,
}

impl ButtonPress {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        Ok(Self {
            way,
            block: physics.body("box")?,
            button: physics.body("button")?,
            hole: physics.site("hole")?,
            button_start: physics.site("buttonStart")?,
            first_distance: 0.0,
        })
    }
}

impl Manipulation for ButtonPress {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.model_mut().body_pos_mut()[self.block.0] = arm.object_start;
        physics.forward();
        arm.target = physics.site_xpos(self.hole);
        self.first_distance = (arm.target[2] - physics.site_xpos(self.button_start)[2]).abs();
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(plus(physics.xpos(self.button), [0.0, 0.0, 0.193]), physics.xquat(self.button))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let button = look.object();
        let reach = distance(button, arm.centre(physics));
        let reaching = near(0.01, distance(button, arm.start)).of(reach);
        let to_target = (arm.target[2] - button[2]).abs();
        let closed = match self.way {
            Way::Free => 1.0 - look.gripper(),
            Way::BehindWall => look.gripper().max(0.0),
        };
        let mut reward = 5.0 * hamacher(closed, reaching);
        if reach <= 0.03 {
            reward += 5.0 * near(0.005, self.first_distance).of(to_target);
        }
        Verdict { reward, success: to_target <= 0.024 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let (offset, effort) = match self.way {
            Way::Free => (0.0, 1.0),
            Way::BehindWall => (-0.06, -1.0),
        };
        let button = plus(look.object(), [0.0, offset, 0.0]);
        let above = flat_distance(hand, button) > 0.04;
        move_to(hand, if above { plus(button, [0.0, 0.0, 0.1]) } else { button }, 25.0, effort)
    }
}
