//! Handle pull: pull a handle up, from the front or from the side (`sawyer_handle_pull_v3.py`, `.._side_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_handle_press.xml",
    success: "the handle is within 5 cm of the goal's height; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.55, 0.04], [0.1, 0.70, 0.18]],
    layout_space: &[[-0.1, 0.1], [0.8, 0.9], [-0.001, 0.001]],
};
const SIDE_SCENE: Scene = Scene {
    model: "sawyer_handle_press_sideways.xml",
    success: "the handle is within 8 cm of the goal; of an episode: in its last state",
    goal_space: TABLE,
    layout_space: &[[-0.35, -0.25], [0.65, 0.75], [0.0, 0.0]],
    ..SCENE
};
const TARGET_RADIUS: f64 = 0.05;

/// From the front.
pub(crate) fn front(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| HandlePull::new(physics, Way::Front))
}

/// From the side.
pub(crate) fn side(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SIDE_SCENE, |physics| HandlePull::new(physics, Way::Side))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Front,
    Side,
}

struct HandlePull {
    way: Way,
    block: BodyId,
    handle: SiteId,
    goal: SiteId,
}

impl HandlePull {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        let handle = if way == Way::Front { "handleRight" } else { "handleCenter" };
        Ok(Self { way, block: physics.body("box")?, handle: physics.site(handle)?, goal: physics.site("goalPull")? })
    }

    fn expert_from_the_front(look: &Look) -> Action {
        let hand = look.hand();
        let handle = plus(look.object(), [0.0, -0.04, 0.0]);
        let to = if flat_distance(hand, handle) > 0.02 {
            handle
        } else if (hand[2] - handle[2]).abs() > 0.02 {
            // The original's height for all three axes.
            [handle[2]; 3]
        } else {
            plus(handle, [0.0, 0.0, 0.1])
        };
        move_to(hand, to, 25.0, 1.0)
    }
}

impl Manipulation for HandlePull {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        physics.model_mut().body_pos_mut()[self.block.0] = arm.object_start;
        physics.place_slide(-0.1);
        arm.target = physics.site_xpos(self.goal);
        if self.way == Way::Side {
            arm.object_start = physics.site_xpos(self.handle);
        }
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.handle), [0.0; 4])
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let handle = look.object();
        let (to_target, first, radius, pads) = match self.way {
            Way::Front => ((arm.target[2] - handle[2]).abs(), (arm.target[2] - arm.object_start[2]).abs(), 0.022, 0.05),
            Way::Side => (distance(handle, arm.target), distance(arm.object_start, arm.target), 0.032, 0.06),
        };
        let placing = near(TARGET_RADIUS, first).of(to_target);
        let shape = Caging {
            object: handle,
            object_reach_radius: 0.01,
            object_radius: radius,
            pad_success_threshold: pads,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::High,
        };
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        // From the front, the original compares the handle's depth with a height.
        let lifted = if self.way == Way::Front { handle[1] } else { handle[2] } - 0.01 > arm.object_start[2];
        if distance(handle, arm.centre(physics)) < 0.035 && look.gripper() > 0.0 && lifted {
            reward += 1.0 + 5.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= if self.way == Way::Front { TARGET_RADIUS } else { 0.08 } }
    }

    fn expert(&self, look: &Look) -> Action {
        if self.way == Way::Front {
            return Self::expert_from_the_front(look);
        }
        let (hand, handle) = (look.hand(), look.object());
        let away = flat_distance(hand, handle) > 0.04;
        let to = if away {
            plus(handle, [0.0, 0.0, 0.1])
        } else if (hand[2] - handle[2]).abs() > 0.03 {
            handle
        } else {
            plus(handle, [0.0, 0.0, 1.0])
        };
        move_to(hand, to, 25.0, if away || (hand[2] - handle[2]).abs() > 0.04 { 0.0 } else { 0.6 })
    }
}
