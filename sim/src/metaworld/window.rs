//! Window open and close: slide a window either way (`sawyer_window_open_v3.py`, `sawyer_window_close_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, gaussian, hamacher, make, move_to,
    near, one_object, plus,
};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::task::TaskParts;

const OPEN_SCENE: Scene = Scene {
    model: "sawyer_window_horizontal.xml",
    success: "the handle is within 5 cm of the goal, along its way; of an episode: in its last state",
    hand_start: [0.0, 0.4_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: TABLE,
    layout_space: &[[-0.1, 0.1], [0.7, 0.9], [0.16, 0.16]],
};
const CLOSE_SCENE: Scene = Scene { layout_space: &[[0.0, 0.0], [0.75, 0.9], [0.2, 0.2]], ..OPEN_SCENE };
const TARGET_RADIUS: f64 = 0.05;
const HANDLE_RADIUS: f64 = 0.02;
/// Metres that the window slides.
const WAY: [f64; 3] = [0.2, 0.0, 0.0];

/// Slide it open.
pub(crate) fn open(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &OPEN_SCENE, |physics| Window::new(physics, Way::Open))
}

/// Slide it shut.
pub(crate) fn close(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &CLOSE_SCENE, |physics| Window::new(physics, Way::Close))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Close,
}

struct Window {
    way: Way,
    window: BodyId,
    slide: JointId,
    handle: SiteId,
    goal: SiteId,
    /// Where the handle was when the episode began.
    handle_start: [f64; 3],
}

impl Window {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        let handle = if way == Way::Open { "handleOpenStart" } else { "handleCloseStart" };
        Ok(Self {
            way,
            window: physics.body("window")?,
            slide: physics.joint("window_slide")?,
            handle: physics.site(handle)?,
            goal: physics.site("goal")?,
            handle_start: [0.0; 3],
        })
    }

    /// From the handle's place with the window shut.
    fn remember(&mut self, shut: [f64; 3]) {
        self.handle_start = if self.way == Way::Open { shut } else { plus(shut, WAY) };
    }
}

impl Manipulation for Window {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        let opening = if self.way == Way::Open { 0.0 } else { WAY[0] };
        arm.target = if self.way == Way::Open { plus(arm.object_start, WAY) } else { arm.object_start };
        let model = physics.model_mut();
        model.body_pos_mut()[self.window.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
        physics.forward();
        self.remember(physics.site_xpos(self.handle));
        physics.joint_qpos_mut(self.slide)[0] = opening;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.handle), [0.0; 4])
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, _look: &Look) -> Verdict {
        let handle = physics.site_xpos(self.handle);
        let to_target = (handle[0] - arm.target[0]).abs();
        let first = if self.way == Way::Open { arm.object_start[0] } else { self.handle_start[0] };
        let placing = near(TARGET_RADIUS, ((first - arm.target[0]).abs() - TARGET_RADIUS).abs()).of(to_target);
        let margin = (distance(self.handle_start, arm.start) - HANDLE_RADIUS).abs();
        let reach = if self.way == Way::Open { near(HANDLE_RADIUS, margin) } else { gaussian(HANDLE_RADIUS, margin) };
        let reaching = reach.of(distance(handle, arm.centre(physics)));
        Verdict { reward: 10.0 * hamacher(reaching, placing), success: to_target <= TARGET_RADIUS }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let (sign, lift) = if self.way == Way::Open { (1.0, 0.3) } else { (-1.0, 0.25) };
        let handle = plus(look.object(), [-0.03 * sign, -0.03, -0.08]);
        let to = if flat_distance(hand, handle) > 0.04 {
            plus(handle, [0.0, 0.0, lift])
        } else if (hand[2] - handle[2]).abs() > 0.02 {
            handle
        } else {
            plus(handle, [0.1 * sign, 0.0, 0.0])
        };
        move_to(hand, to, 25.0, 1.0)
    }

    fn recall(&mut self, first: &Look) {
        self.remember(first.object());
    }
}
