//! Faucet open and close: turn a faucet's handle either way (`sawyer_faucet_open_v3.py`, `sawyer_faucet_close_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, Verdict, distance, flat_distance, gaussian, make, move_to, near,
    one_object, plus,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const OPEN_SCENE: Scene = Scene {
    model: "sawyer_faucet.xml",
    success: "the handle is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.4, 0.2],
    hand_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    goal_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    layout_space: &[[-0.05, 0.05], [0.8, 0.85], [0.0, 0.0]],
};
const CLOSE_SCENE: Scene = Scene { layout_space: &[[-0.1, 0.1], [0.8, 0.85], [0.0, 0.0]], ..OPEN_SCENE };
const HANDLE_LENGTH: f64 = 0.175;
const TARGET_RADIUS: f64 = 0.07;
const REACH_RADIUS: f64 = 0.01;

/// Turn it open.
pub(crate) fn open(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &OPEN_SCENE, |physics| Faucet::new(physics, Way::Open))
}

/// Turn it shut.
pub(crate) fn close(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &CLOSE_SCENE, |physics| Faucet::new(physics, Way::Close))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Open,
    Close,
}

struct Faucet {
    way: Way,
    base: BodyId,
    handle: SiteId,
    goal: SiteId,
}

impl Faucet {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        let (handle, goal) = match way {
            Way::Open => ("handleStartOpen", "goal_open"),
            Way::Close => ("handleStartClose", "goal_close"),
        };
        Ok(Self { way, base: physics.body("faucetBase")?, handle: physics.site(handle)?, goal: physics.site(goal)? })
    }

    /// 1 towards open, -1 towards shut.
    fn sign(&self) -> f64 {
        if self.way == Way::Open { 1.0 } else { -1.0 }
    }
}

impl Manipulation for Faucet {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [self.sign() * HANDLE_LENGTH, 0.0, 0.125]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.base.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(plus(physics.site_xpos(self.handle), [0.0, 0.0, -0.01]), physics.xquat(self.base))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let offset = if self.way == Way::Open { [-0.04, 0.0, 0.03] } else { [0.0; 3] };
        let handle = plus(look.object(), offset);
        let to_target = distance(handle, arm.target);
        let first = distance(arm.object_start, arm.target);
        let placing = near(TARGET_RADIUS, (first - TARGET_RADIUS).abs()).of(to_target);
        let margin = (distance(arm.object_start, arm.start) - REACH_RADIUS).abs();
        let reaching = gaussian(REACH_RADIUS, margin).of(distance(handle, arm.centre(physics)));
        let success = to_target <= TARGET_RADIUS;
        Verdict { reward: if success { 10.0 } else { (2.0 * reaching + 3.0 * placing) * 2.0 }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let faucet = plus(look.object(), [-0.04 * self.sign(), 0.0, 0.03]);
        let to = if flat_distance(hand, faucet) > 0.04 {
            plus(faucet, [0.0, 0.0, 0.1])
        } else if (hand[2] - faucet[2]).abs() > 0.04 {
            faucet
        } else {
            plus(faucet, [0.1 * self.sign(), 0.05, 0.0])
        };
        move_to(hand, to, 25.0, 1.0)
    }
}
