//! Adroit door: unlatch a door and swing it open (`adroit_door.py`).

use crate::error::SimError;
use crate::gymnasium_robotics::{Outcome, Rules, Scene, make, stiffen_hand};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, TaskParts};

const SCENE: Scene = Scene {
    model: "adroit_hand/adroit_door.xml",
    frame_skip: 5,
    num_steps: 200,
    success: "the door is open by 1.35 rad or more; of an episode: in its last state",
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        stiffen_hand(physics)?;
        Ok(Door {
            hinge: physics.joint("door_hinge")?,
            palm: physics.site("S_grasp")?,
            handle: physics.site("S_handle")?,
            frame: physics.body("frame")?,
        })
    })
}

struct Door {
    hinge: JointId,
    palm: SiteId,
    handle: SiteId,
    frame: BodyId,
}

impl Door {
    fn angle(&self, physics: &Physics) -> f64 {
        physics.qpos()[physics.dof_address(self.hinge)]
    }
}

impl Rules for Door {
    fn randomise(&mut self, physics: &mut Physics, random: &mut RandomState) {
        physics.model_mut().body_pos_mut()[self.frame.0] =
            [random.uniform(-0.3, -0.2), random.uniform(0.25, 0.35), random.uniform(0.252, 0.35)];
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let (positions, angle) = (physics.qpos(), self.angle(physics));
        let [palm, handle] = [self.palm, self.handle].map(|site| physics.site_xpos(site));
        let hand = positions[1..positions.len() - 2].iter().copied();
        let latch = positions.last().copied();
        let places = [palm, handle, difference(palm, handle)].into_iter().flatten();
        let open = if angle > 1.0 { 1.0 } else { -1.0 };
        observation.collected("observation", hand.chain(latch).chain([angle]).chain(places).chain([open]));
    }

    fn evaluate(&mut self, physics: &Physics) -> Outcome {
        let angle = self.angle(physics);
        let mut reward = 0.1 * norm(&difference(physics.site_xpos(self.palm), physics.site_xpos(self.handle)));
        reward += -0.1 * (angle - 1.57) * (angle - 1.57);
        reward += -1e-5 * physics.qvel().iter().map(|velocity| velocity * velocity).sum::<f64>();
        for (bound, bonus) in [(0.2, 2.0), (1.0, 8.0), (1.35, 10.0)] {
            if angle > bound {
                reward += bonus;
            }
        }
        Outcome { reward, success: angle >= 1.35 }
    }
}
