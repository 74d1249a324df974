//! Drawer open: pull a drawer open by its handle (`sawyer_drawer_open_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, flat_distance, make, move_to, near, one_object, plus,
};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_drawer.xml",
    success: "the handle is within 3 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: TABLE,
    layout_space: &[[-0.1, 0.1], [0.9, 0.9], [0.0, 0.0]],
};
/// Metres that the drawer opens.
const MAX_OPENING: f64 = 0.2;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(DrawerOpen {
            drawer: physics.body("drawer")?,
            drawer_link: physics.body("drawer_link")?,
            goal: physics.site("goal")?,
        })
    })
}

struct DrawerOpen {
    drawer: BodyId,
    drawer_link: BodyId,
    goal: SiteId,
}

impl Manipulation for DrawerOpen {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [0.0, -0.16 - MAX_OPENING, 0.09]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.drawer.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(plus(physics.xpos(self.drawer_link), [0.0, -0.16, 0.0]), physics.xquat(self.drawer_link))
    }

    fn evaluate(&mut self, arm: &Arm, _physics: &Physics, look: &Look) -> Verdict {
        let (hand, handle) = (look.hand(), look.object());
        let distance = norm(&difference(handle, arm.target));
        let opening = near(0.02, MAX_OPENING).of(distance);
        let scaled = |[x, y, z]: [f64; 3]| norm(&[x * 3.0, y * 3.0, z]);
        let closed_handle = plus(arm.target, [0.0, MAX_OPENING, 0.0]);
        let caging = near(0.01, scaled(difference(closed_handle, arm.start))).of(scaled(difference(handle, hand)));
        Verdict { reward: (caging + opening) * 5.0, success: distance <= 0.03 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let drawer = plus(look.object(), [0.0, 0.0, -0.02]);
        if flat_distance(hand, drawer) > 0.06 {
            move_to(hand, plus(drawer, [0.0, 0.0, 0.3]), 4.0, -1.0)
        } else if (hand[2] - drawer[2]).abs() > 0.04 {
            move_to(hand, drawer, 4.0, -1.0)
        } else {
            move_to(hand, plus(drawer, [0.0, -0.06, 0.0]), 50.0, -1.0)
        }
    }
}
