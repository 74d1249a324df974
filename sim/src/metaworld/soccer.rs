//! Soccer: push a ball into a goal (`sawyer_soccer_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Grip, Look, Manipulation, Pinch, Scene, TABLE, Verdict, distance, flat_distance, make, move_to, near,
    one_object, plus, scaled_distance,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_soccer.xml",
    success: "the ball is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.8, 0.0], [0.1, 0.9, 0.0]],
    layout_space: &[[-0.1, 0.1], [0.6, 0.7], [0.03, 0.03], [-0.1, 0.1], [0.8, 0.9], [0.0, 0.0]],
};
const TARGET_RADIUS: f64 = 0.07;
const BALL_RADIUS: f64 = 0.013;
const BALL_HEIGHT: f64 = 0.03;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Soccer {
            ball: physics.body("soccer_ball")?,
            goal_frame: physics.body("goal_whole")?,
            goal: physics.site("goal")?,
        })
    })
}

struct Soccer {
    ball: BodyId,
    goal_frame: BodyId,
    goal: SiteId,
}

impl Manipulation for Soccer {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.15
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], BALL_HEIGHT];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.model_mut().body_pos_mut()[self.goal_frame.0] = arm.target;
        physics.place_free_object(arm.object_start);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.xpos(self.ball), quaternion_xyzw(physics.xmat(self.ball)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let ball = look.object();
        let scale = [3.0, 1.0, 1.0];
        let to_target = scaled_distance(ball, arm.target, scale);
        let mut placing = near(TARGET_RADIUS, scaled_distance(ball, arm.object_start, scale)).of(to_target);
        let line = arm.target[1] - 0.1;
        if ball[1] > line && (ball[0] - arm.target[0]).abs() > 0.1 {
            placing = (placing - 2.0 * ((ball[1] - line) / (1.0 - line))).clamp(0.0, 1.0);
        }
        let grip = Grip::Pads { margin: BALL_RADIUS + 0.01 };
        let shape = Pinch { object: ball, object_radius: BALL_RADIUS, xz_margin: 0.005, grip };
        let reward = 3.0 * arm.pinching(physics, &look.action, &shape) + 6.5 * placing;
        Verdict {
            reward: if to_target < TARGET_RADIUS { 10.0 } else { reward },
            success: distance(ball, arm.target) <= 0.07,
        }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let ball = plus(look.object(), [0.0, 0.0, 0.03]);
        let aside = ball[0] - look.goal()[0];
        let offset = if aside < -0.05 {
            [-0.03, 0.0]
        } else if aside > 0.05 {
            [0.03, 0.0]
        } else {
            [0.0, -0.03]
        };
        let height = if flat_distance(hand, ball) < 0.02 { 0.1 } else { 0.03 };
        let push = [ball[0] + offset[0], ball[1] + offset[1], height];
        move_to(hand, if distance(hand, push) > 0.01 { push } else { ball }, 25.0, 1.0)
    }
}
