//! Coffee pull and push: take a mug away from under a coffee machine, or put it there (`sawyer_coffee_pull_v3.py`,
//! `sawyer_coffee_push_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus, scaled_distance,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const PULL_SCENE: Scene = Scene {
    model: "sawyer_coffee.xml",
    success: "the mug is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.4, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.55, -0.001], [0.1, 0.65, 0.001]],
    layout_space: &[[-0.05, 0.05], [0.7, 0.75], [-0.001, 0.001], [-0.1, 0.1], [0.55, 0.65], [-0.001, 0.001]],
};
const PUSH_SCENE: Scene = Scene {
    goal_space: [[-0.05, 0.7, -0.001], [0.05, 0.75, 0.001]],
    layout_space: &[[-0.1, 0.1], [0.55, 0.65], [-0.001, 0.001], [-0.05, 0.05], [0.7, 0.75], [-0.001, 0.001]],
    ..PULL_SCENE
};

/// Away from under the machine.
pub(crate) fn pull(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &PULL_SCENE, |physics| CoffeeMug::new(physics, Way::Pull))
}

/// Under the machine.
pub(crate) fn push(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &PUSH_SCENE, |physics| CoffeeMug::new(physics, Way::Push))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pull,
    Push,
}

struct CoffeeMug {
    way: Way,
    machine: BodyId,
    mug: BodyId,
    mug_geom: GeomId,
    goal: SiteId,
}

impl CoffeeMug {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        Ok(Self {
            way,
            machine: physics.body("coffee_machine")?,
            mug: physics.body("obj")?,
            mug_geom: physics.geom("mug")?,
            goal: physics.site("mug_goal")?,
        })
    }
}

impl Manipulation for CoffeeMug {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.place_mug(arm.object_start);
        let under = if self.way == Way::Pull { arm.object_start } else { arm.target };
        let model = physics.model_mut();
        model.body_pos_mut()[self.machine.0] = plus(under, [0.0, 0.22, 0.0]);
        model.site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.mug), quaternion_xyzw(physics.geom_xmat(self.mug_geom)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let mug = look.object();
        let scale = [2.0, 2.0, 1.0];
        let to_target = scaled_distance(mug, arm.target, scale);
        let placing = near(0.05, scaled_distance(arm.object_start, arm.target, scale)).of(to_target);
        let shape = Caging {
            object: mug,
            object_reach_radius: 0.04,
            object_radius: 0.02,
            pad_success_threshold: 0.05,
            xz_threshold: 0.05,
            desired_effort: 0.7,
            density: Density::Medium,
        };
        let mut reward = hamacher(arm.caging(physics, &look.action, &shape), placing);
        if distance(mug, arm.centre(physics)) < 0.04 && look.gripper() > 0.0 {
            reward += 1.0 + 5.0 * placing;
        }
        if to_target < 0.05 {
            reward = 10.0;
        }
        Verdict { reward, success: distance(mug, arm.target) <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let goal = look.goal();
        let grip = plus(look.object(), [0.01, 0.0, 0.05]);
        let (mug, lift, goal, effort) = match self.way {
            Way::Pull => (plus(look.object(), [-0.005, 0.0, 0.05]), 0.15, goal, 0.7),
            Way::Push => (grip, 0.2, [goal[0], goal[1], 0.1], 0.5),
        };
        let to = if flat_distance(hand, mug) > 0.06 {
            plus(mug, [0.0, 0.0, lift])
        } else if (hand[2] - mug[2]).abs() > 0.02 {
            mug
        } else {
            goal
        };
        let open = flat_distance(hand, grip) > 0.06 || (hand[2] - grip[2]).abs() > 0.1;
        move_to(hand, to, 10.0, if open { -1.0 } else { effort })
    }
}
