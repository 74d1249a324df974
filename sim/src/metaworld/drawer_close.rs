//! Drawer close: push an open drawer shut (`sawyer_drawer_close_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, gaussian, hamacher, make, move_to, near,
    one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_drawer.xml",
    success: "the handle is within 6.5 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: TABLE,
    layout_space: &[[-0.1, 0.1], [0.9, 0.9], [0.0, 0.0]],
};
const TARGET_RADIUS: f64 = 0.05;
const HANDLE_REACH_RADIUS: f64 = 0.005;
/// Metres by which the drawer is open.
const OPENING: f64 = -0.15;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(DrawerClose {
            drawer: physics.body("drawer")?,
            drawer_link: physics.body("drawer_link")?,
            goal: physics.site("goal")?,
        })
    })
}

struct DrawerClose {
    drawer: BodyId,
    drawer_link: BodyId,
    goal: SiteId,
}

impl DrawerClose {
    fn handle(&self, physics: &Physics) -> [f64; 3] {
        plus(physics.xpos(self.drawer_link), [0.0, -0.16, 0.05])
    }
}

impl Manipulation for DrawerClose {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        let place = [layout[0], layout[1], layout[2]];
        arm.target = plus(place, [0.0, -0.16, 0.09]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.drawer.0] = place;
        model.site_pos_mut()[self.goal.0] = arm.target;
        physics.open_slide(OPENING);
        arm.object_start = self.handle(physics);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(self.handle(physics), [0.0; 4])
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let handle = look.object();
        let to_target = distance(handle, arm.target);
        let first = distance(arm.object_start, arm.target);
        let placing = near(TARGET_RADIUS, (first - TARGET_RADIUS).abs()).of(to_target);
        let margin = (distance(arm.object_start, arm.start) - HANDLE_REACH_RADIUS).abs();
        let reach = gaussian(HANDLE_REACH_RADIUS, margin).of(distance(handle, arm.centre(physics)));
        let reaching = hamacher(reach, look.action[3].clamp(0.0, 1.0));
        let success = to_target <= TARGET_RADIUS + 0.015;
        Verdict { reward: 10.0 * if success { 1.0 } else { hamacher(reaching, placing) }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let drawer = plus(look.object(), [0.0, 0.0, -0.02]);
        let to = if hand[1] > drawer[1] {
            if hand[2] < drawer[2] + 0.23 {
                [hand[0], hand[1], drawer[2] + 0.5]
            } else {
                plus(drawer, [0.0, -0.075, 0.23])
            }
        } else if (hand[2] - drawer[2]).abs() > 0.04 {
            plus(drawer, [0.0, -0.075, 0.0])
        } else {
            drawer
        };
        move_to(hand, to, 25.0, 1.0)
    }
}
