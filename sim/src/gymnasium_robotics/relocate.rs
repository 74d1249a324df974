//! Adroit relocate: pick up a ball and carry it to a place in the air (`adroit_relocate.py`).

use crate::error::SimError;
use crate::gymnasium_robotics::{Outcome, Rules, Scene, make, stiffen_hand};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, TaskParts};

const SCENE: Scene = Scene {
    model: "adroit_hand/adroit_relocate.xml",
    frame_skip: 5,
    num_steps: 200,
    success: "the ball is within 10 cm of the goal; of an episode: in its last state",
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        stiffen_hand(physics)?;
        Ok(Relocate { ball: physics.body("Object")?, palm: physics.site("S_grasp")?, target: physics.site("target")? })
    })
}

struct Relocate {
    ball: BodyId,
    palm: SiteId,
    target: SiteId,
}

impl Rules for Relocate {
    fn randomise(&mut self, physics: &mut Physics, random: &mut RandomState) {
        let model = physics.model_mut();
        let ball = &mut model.body_pos_mut()[self.ball.0];
        ball[0] = random.uniform(-0.15, 0.15);
        ball[1] = random.uniform(-0.15, 0.3);
        model.site_pos_mut()[self.target.0] =
            [random.uniform(-0.2, 0.2), random.uniform(-0.2, 0.2), random.uniform(0.15, 0.35)];
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let positions = physics.qpos();
        let hand = positions[..positions.len() - 6].iter().copied();
        let (ball, palm, target) =
            (physics.xpos(self.ball), physics.site_xpos(self.palm), physics.site_xpos(self.target));
        let offsets = [difference(palm, ball), difference(palm, target), difference(ball, target)];
        observation.collected("observation", hand.chain(offsets.into_iter().flatten()));
    }

    fn evaluate(&mut self, physics: &Physics) -> Outcome {
        let (ball, palm, target) =
            (physics.xpos(self.ball), physics.site_xpos(self.palm), physics.site_xpos(self.target));
        let to_target = norm(&difference(ball, target));
        let mut reward = 0.1 * norm(&difference(palm, ball));
        if ball[2] > 0.04 {
            reward += 1.0;
            reward += -0.5 * norm(&difference(palm, target));
            reward += -0.5 * to_target;
        }
        for (bound, bonus) in [(0.1, 10.0), (0.05, 20.0)] {
            if to_target < bound {
                reward += bonus;
            }
        }
        Outcome { reward, success: to_target < 0.1 }
    }
}
