//! Assembly: pick up a wrench and put its ring onto a peg (`sawyer_assembly_peg_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, flat_distance, make, move_to, near,
    one_object, plus, quaternion_reward,
};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_assembly_peg.xml",
    success: "the wrench's ring is around the peg; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.75, 0.1], [0.1, 0.85, 0.1]],
    layout_space: &[[0.0, 0.0], [0.6, 0.6], [0.02, 0.02], [-0.1, 0.1], [0.75, 0.85], [0.1, 0.1]],
};
const HANDLE_LENGTH: f64 = 0.02;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(Assembly {
            nut: physics.body("RoundNut")?,
            nut_grip: physics.site("RoundNut-8")?,
            nut_centre: physics.site("RoundNut")?,
            peg: physics.body("peg")?,
            peg_top: physics.site("pegTop")?,
        })
    })
}

struct Assembly {
    nut: BodyId,
    nut_grip: SiteId,
    nut_centre: SiteId,
    peg: BodyId,
    peg_top: SiteId,
}

fn place_reward(centre: [f64; 3], target: [f64; 3]) -> (f64, bool) {
    let mut error = difference(target, centre);
    let radius = norm(&error[..2]);
    let success = radius < 0.02 && error[2] > 0.0;
    let threshold = if success { 0.02 } else { 0.01 };
    let height = if radius > threshold { 0.02 * (radius - threshold).ln() + 0.2 } else { 0.0 };
    error[2] = height - centre[2];
    let lifted = centre[2] > 0.02 || radius < threshold;
    let scaled = norm(&[error[0], error[1], error[2] * 3.0]);
    (0.1 * f64::from(lifted) + 0.9 * near(0.02, 0.4).of(scaled), success)
}

impl Manipulation for Assembly {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = [layout[3], layout[4], layout[5]];
        physics.place_free_object(arm.object_start);
        let model = physics.model_mut();
        model.body_pos_mut()[self.peg.0] = difference(arm.target, [0.0, 0.0, 0.05]);
        model.site_pos_mut()[self.peg_top.0] = arm.target;
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
            density: Density::Medium,
        };
        let grabbing = arm.caging(physics, &look.action, &shape);
        let (placing, success) = place_reward(physics.site_xpos(self.nut_centre), arm.target);
        let reward = (2.0 * grabbing + 6.0 * placing) * quaternion_reward(look, [0.707, 0.0, 0.0, 0.707], 0.4);
        Verdict { reward: if success { 10.0 } else { reward }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let wrench = plus(look.object(), [-0.02, 0.0, 0.0]);
        let peg = plus(look.goal(), [0.12, 0.0, 0.14]);
        let away = |place| flat_distance(hand, place);
        let to = if away(wrench) > 0.02 {
            plus(wrench, [0.0, 0.0, 0.1])
        } else if away(peg) <= 0.02 {
            plus(peg, [0.0, 0.0, -0.2])
        } else if (hand[2] - wrench[2]).abs() > 0.05 {
            plus(wrench, [0.0, 0.0, 0.03])
        } else if (hand[2] - peg[2]).abs() > 0.04 {
            [hand[0], hand[1], peg[2]]
        } else {
            peg
        };
        let open = away(wrench) > 0.02 || (hand[2] - wrench[2]).abs() > 0.12;
        move_to(hand, to, 10.0, if open { 0.0 } else { 0.6 })
    }
}
