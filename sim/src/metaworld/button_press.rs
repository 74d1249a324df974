//! Button press: push a button into the wall of its box (`sawyer_button_press_v3.py`, `sawyer_button_press_wall_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, hamacher, make, move_to, near, one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_button_press.xml",
    success: "the button is within 2 cm of its hole; of an episode: in its last state",
    hand_start: [0.0, 0.4_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: TABLE,
    layout_space: &[[-0.1, 0.1], [0.85, 0.9], [0.115, 0.115]],
};
const WALL_SCENE: Scene = Scene {
    model: "sawyer_button_press_wall.xml",
    success: "the button is within 3 cm of its hole; of an episode: in its last state",
    layout_space: &[[-0.05, 0.05], [0.85, 0.9], [0.1149, 0.1151]],
    ..SCENE
};

/// Nothing in between.
pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| ButtonPress::new(physics, Way::Free))
}

/// Past a wall.
pub(crate) fn wall(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &WALL_SCENE, |physics| ButtonPress::new(physics, Way::PastWall))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Free,
    PastWall,
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

    fn expert_past_wall(look: &Look) -> Action {
        let hand = look.hand();
        let button = plus(look.object(), [0.0, 0.0, 0.04]);
        if (hand[0] - button[0]).abs() > 0.02 {
            move_to(hand, [button[0], hand[1], 0.3], 15.0, 1.0)
        } else if button[1] - hand[1] > 0.09 {
            move_to(hand, [button[0], button[1], 0.3], 15.0, 1.0)
        } else if (hand[2] - button[2]).abs() > 0.02 {
            move_to(hand, plus(button, [0.0, -0.05, 0.0]), 15.0, 1.0)
        } else {
            move_to(hand, plus(button, [0.0, -0.02, 0.0]), 15.0, -1.0)
        }
    }
}

impl Manipulation for ButtonPress {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.model_mut().body_pos_mut()[self.block.0] = arm.object_start;
        physics.place_slide(0.0);
        arm.target = physics.site_xpos(self.hole);
        self.first_distance = (arm.target[1] - physics.site_xpos(self.button_start)[1]).abs();
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(plus(physics.xpos(self.button), [0.0, -0.193, 0.0]), physics.xquat(self.button))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let button = look.object();
        let reach = distance(button, arm.centre(physics));
        let first_reach = distance(button, arm.start);
        let to_target = (arm.target[1] - button[1]).abs();
        let pressed = near(0.005, self.first_distance).of(to_target);
        match self.way {
            Way::Free => {
                let mut reward = 2.0 * hamacher(look.gripper().max(0.0), near(0.05, first_reach).of(reach));
                if reach <= 0.05 {
                    reward += 8.0 * pressed;
                }
                Verdict { reward, success: to_target <= 0.02 }
            }
            Way::PastWall => {
                let reward = if reach > 0.07 {
                    2.0 * hamacher((1.0 - look.gripper()) / 2.0, near(0.01, first_reach).of(reach))
                } else {
                    2.0 + 2.0 * (1.0 + look.gripper()) + 4.0 * (pressed * pressed)
                };
                Verdict { reward, success: to_target <= 0.03 }
            }
        }
    }

    fn expert(&self, look: &Look) -> Action {
        if self.way == Way::PastWall {
            return Self::expert_past_wall(look);
        }
        let hand = look.hand();
        let button = plus(look.object(), [0.0, 0.0, -0.07]);
        // numpy's isclose allows a hundred-thousandth of the second value besides.
        let close = |axis: usize| (hand[axis] - button[axis]).abs() <= 0.02 + 1e-5 * button[axis].abs();
        let y = if close(0) && close(2) { button[1] + 0.02 } else { hand[1] - 0.1 };
        move_to(hand, [button[0], y, button[2]], 25.0, 0.0)
    }
}
