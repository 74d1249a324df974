//! Basketball: pick up a ball and drop it into a hoop (`sawyer_basketball_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make,
    move_to, near, one_object, plus, scaled_distance,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_basketball.xml",
    success: "the ball is within 8 cm of the hoop's goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.85 + -0.083, 0.2499], [0.1, 0.9 + 1e-7 + -0.083, 0.2501]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.0299, 0.0301], [-0.1, 0.1], [0.85, 0.9 + 1e-7], [0.0, 0.0]],
};
const TARGET_RADIUS: f64 = 0.08;
const BALL_HEIGHT: f64 = 0.03_f32 as f64;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Basketball {
            ball: physics.body("bsktball")?,
            stand: physics.body("basket_goal")?,
            goal: physics.site("goal")?,
        })
    })
}

struct Basketball {
    ball: BodyId,
    stand: BodyId,
    goal: SiteId,
}

impl Manipulation for Basketball {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], BALL_HEIGHT];
        physics.model_mut().body_pos_mut()[self.stand.0] = [layout[3], layout[4], layout[5]];
        physics.place_free_object(arm.object_start);
        arm.target = physics.site_xpos(self.goal);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.ball), physics.xquat(self.ball))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let ball = look.object();
        let target = [arm.target[0], arm.target[1], 0.3];
        let scale = [1.0, 1.0, 2.0];
        let to_target = scaled_distance(ball, target, scale);
        let placing = near(TARGET_RADIUS, scaled_distance(arm.object_start, target, scale)).of(to_target);
        let shape = Caging {
            object: ball,
            object_reach_radius: 0.01,
            object_radius: 0.025,
            pad_success_threshold: 0.06,
            xz_threshold: 0.005,
            desired_effort: 1.0,
            density: Density::High,
        };
        let reach = distance(ball, arm.centre(physics));
        let held = reach < 0.035 && look.gripper() > 0.0 && ball[2] - 0.01 > arm.object_start[2];
        let grasping = if held { 1.0 } else { arm.caging(physics, &look.action, &shape) };
        let mut reward = hamacher(grasping, placing);
        if held {
            reward += 1.0 + 5.0 * placing;
        }
        if to_target < TARGET_RADIUS {
            reward = 10.0;
        }
        Verdict { reward, success: to_target <= TARGET_RADIUS }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let ball = plus(look.object(), [0.0, 0.0, 0.01]);
        let hoop = [look.goal()[0], 0.875, 0.35];
        let to = if flat_distance(hand, ball) > 0.04 {
            plus(ball, [0.0, 0.0, 0.3])
        } else if (hand[2] - ball[2]).abs() > 0.025 {
            ball
        } else if (ball[2] - hoop[2]).abs() > 0.025 {
            [hand[0], hand[1], hoop[2]]
        } else {
            hoop
        };
        let open = flat_distance(hand, look.object()) > 0.04 || (hand[2] - look.object()[2]).abs() > 0.15;
        move_to(hand, to, 25.0, if open { -1.0 } else { 0.6 })
    }
}
