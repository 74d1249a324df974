//! Disassemble: lift a wrench's ring off its peg (`sawyer_disassemble_peg_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, make, move_to,
    near, one_object, plus, quaternion_reward,
};
use crate::numeric::norm;
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_assembly_peg.xml",
    success: "the wrench is above the goal's height; of an episode: in its last state",
    hand_start: [0.0, 0.4_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.6, 0.1699 + 0.005], [0.1, 0.75, 0.1701 + 0.005]],
    layout_space: &[[0.0, 0.1], [0.6, 0.75], [0.025, 0.02501], [-0.1, 0.1], [0.6, 0.75], [0.1699, 0.1701]],
};
const HANDLE_LENGTH: f64 = 0.02;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Disassemble {
            nut: physics.body("RoundNut")?,
            nut_grip: physics.site("RoundNut-8")?,
            nut_centre: physics.site("RoundNut")?,
            peg: physics.body("peg")?,
            peg_top: physics.site("pegTop")?,
        })
    })
}

struct Disassemble {
    nut: BodyId,
    nut_grip: SiteId,
    nut_centre: SiteId,
    peg: BodyId,
    peg_top: SiteId,
}

impl Manipulation for Disassemble {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [0.0, 0.0, 0.15]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.peg.0] = plus(arm.object_start, [0.0, 0.0, 0.03]);
        model.site_pos_mut()[self.peg_top.0] = plus(arm.object_start, [0.0, 0.0, 0.08]);
        physics.forward();
        physics.place_free_object(arm.object_start);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.nut_grip), physics.xquat(self.nut))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (hand, wrench) = (look.hand(), look.object());
        let mut grip = wrench;
        if (wrench[0] - hand[0]).abs() < HANDLE_LENGTH / 2.0 {
            grip[0] = hand[0];
        }
        let shape = Caging {
            object: grip,
            object_reach_radius: 0.01,
            object_radius: 0.015,
            pad_success_threshold: 0.02,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::High,
        };
        let grabbing = arm.caging(physics, &look.action, &shape);
        let centre = physics.site_xpos(self.nut_centre);
        let lifting = near(0.02, 0.2).of(distance(plus(arm.target, [0.0, 0.0, 0.1]), centre));
        let placing = 0.1 * f64::from(centre[2] > 0.02) + 0.9 * lifting;
        let reward = (2.0 * grabbing + 6.0 * placing) * quaternion_reward(look, [0.707, 0.0, 0.0, 0.707], 0.4);
        let success = wrench[2] > arm.target[2];
        Verdict { reward: if success { 10.0 } else { reward }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let wrench = plus(look.object(), [-0.02, 0.0, 0.01]);
        let away = flat_distance(hand, wrench) > 0.02;
        let to = if away {
            plus(wrench, [0.0, 0.0, 0.1])
        } else if (hand[2] - wrench[2]).abs() > 0.03 {
            wrench
        } else {
            plus(hand, [0.0, 0.0, 0.1])
        };
        move_to(hand, to, 10.0, if away || (hand[2] - wrench[2]).abs() > 0.07 { 0.0 } else { 0.8 })
    }
}
