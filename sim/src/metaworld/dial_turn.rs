//! Dial turn: turn a dial by half a turn (`sawyer_dial_turn_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, gaussian, hamacher, make, move_to,
    near, one_object, plus,
};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_dial.xml",
    success: "the dial's grip is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.73, 0.0299], [0.1, 0.83, 0.0301]],
    layout_space: &[[-0.1, 0.1], [0.7, 0.8], [0.0, 0.0]],
};
const TARGET_RADIUS: f64 = 0.07;
const DIAL_RADIUS: f64 = 0.05;
/// From the dial's grip to where it is pushed.
const PUSH_OFFSET: [f64; 3] = [0.05, 0.02, 0.09];

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(DialTurn {
            dial: physics.body("dial")?,
            knob: physics.joint("knob_Joint_1")?,
            goal: physics.site("goal")?,
            first_push: [0.0; 3],
        })
    })
}

struct DialTurn {
    dial: BodyId,
    knob: JointId,
    goal: SiteId,
    /// Where the dial was to be pushed when the episode began.
    first_push: [f64; 3],
}

impl DialTurn {
    fn grip(&self, physics: &Physics) -> [f64; 3] {
        let angle = physics.joint_qpos_values(self.knob)[0];
        plus(physics.xpos(self.dial), [angle.sin() * DIAL_RADIUS, -angle.cos() * DIAL_RADIUS, 0.0])
    }
}

impl Manipulation for DialTurn {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [0.0, 0.03, 0.03]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.dial.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
        physics.forward();
        self.first_push = plus(self.grip(physics), PUSH_OFFSET);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(self.grip(physics), physics.xquat(self.dial))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let grip = self.grip(physics);
        let push = plus(grip, PUSH_OFFSET);
        let to_target = distance(grip, arm.target);
        let first = distance(self.first_push, arm.target);
        let placing = near(TARGET_RADIUS, (first - TARGET_RADIUS).abs()).of(to_target);
        let margin = (distance(self.first_push, arm.start) - 0.005).abs();
        let reach = gaussian(0.005, margin).of(distance(push, arm.centre(physics)));
        let reaching = hamacher(reach, look.action[3].clamp(0.0, 1.0));
        Verdict { reward: 10.0 * hamacher(reaching, placing), success: to_target <= TARGET_RADIUS }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let push = plus(look.object(), PUSH_OFFSET);
        let to = if flat_distance(hand, push) > 0.02 {
            [push[0], push[1], 0.2]
        } else if (hand[2] - push[2]).abs() > 0.02 {
            push
        } else {
            plus(push, [-0.05, 0.005, 0.0])
        };
        move_to(hand, to, 10.0, 1.0)
    }

    fn recall(&mut self, first: &Look) {
        self.first_push = plus(first.object(), PUSH_OFFSET);
    }
}
