//! Coffee button: push the button of a coffee machine (`sawyer_coffee_button_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, hamacher, make, move_to, near, one_object, plus,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_coffee.xml",
    success: "the button is within 2 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.4, 0.2],
    hand_space: TABLE,
    goal_space: [
        [-0.1 + -0.001, 0.8 + (-0.22 + MAX_DISTANCE), -0.001 + 0.299],
        [0.1 + 0.001, 0.9 + (-0.22 + MAX_DISTANCE), 0.001 + 0.301],
    ],
    layout_space: &[[-0.1, 0.1], [0.8, 0.9], [-0.001, 0.001]],
};
/// Metres that the button moves.
const MAX_DISTANCE: f64 = 0.03;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(CoffeeButton { machine: physics.body("coffee_machine")?, button: physics.site("buttonStart")? })
    })
}

struct CoffeeButton {
    machine: BodyId,
    button: SiteId,
}

impl Manipulation for CoffeeButton {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.model_mut().body_pos_mut()[self.machine.0] = arm.object_start;
        physics.place_mug(plus(arm.object_start, [0.0, -0.22, 0.0]));
        arm.target = plus(plus(arm.object_start, [0.0, -0.22, 0.3]), [0.0, MAX_DISTANCE, 0.0]);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.button), [1.0, 0.0, 0.0, 0.0])
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let button = look.object();
        let reach = distance(button, arm.centre(physics));
        let reaching = near(0.05, distance(button, arm.start)).of(reach);
        let to_target = (arm.target[1] - button[1]).abs();
        let mut reward = 2.0 * hamacher(look.gripper().max(0.0), reaching);
        if reach <= 0.05 {
            reward += 8.0 * near(0.005, MAX_DISTANCE).of(to_target);
        }
        Verdict { reward, success: to_target <= 0.02 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let button = plus(look.object(), [0.0, 0.0, -0.07]);
        let away = norm(&[hand[0] - button[0], hand[2] - button[2]]) > 0.02;
        let to = if away { [button[0], hand[1], button[2]] } else { plus(button, [0.0, 0.2, 0.0]) };
        move_to(hand, to, 10.0, -1.0)
    }
}
