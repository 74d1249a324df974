//! Adroit hammer: pick up a hammer and drive a nail in (`adroit_hammer.py`).

use crate::error::SimError;
use crate::gymnasium_robotics::{Outcome, Rules, Scene, make, stiffen_hand};
use crate::numeric::{arctan2, difference, norm};
use crate::physics::{Assets, BodyId, Physics, SensorId, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, TaskParts};

const SCENE: Scene = Scene {
    model: "adroit_hand/adroit_hammer.xml",
    frame_skip: 5,
    num_steps: 200,
    success: "the nail is within 1 cm of its goal; of an episode: in its last state",
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        stiffen_hand(physics)?;
        Ok(Hammer {
            nail: physics.site("S_target")?,
            palm: physics.site("S_grasp")?,
            hammer: physics.body("Object")?,
            head: physics.site("tool")?,
            goal: physics.site("nail_goal")?,
            board: physics.body("nail_board")?,
            impact: physics.sensor("S_nail")?,
        })
    })
}

struct Hammer {
    nail: SiteId,
    palm: SiteId,
    hammer: BodyId,
    head: SiteId,
    goal: SiteId,
    board: BodyId,
    impact: SensorId,
}

/// Euler angles of a quaternion (`gymnasium_robotics/utils/rotations.py`).
fn euler([w, x, y, z]: [f64; 4]) -> [f64; 3] {
    let scale = 2.0 / (w * w + x * x + y * y + z * z);
    let [sx, sy, sz] = [x * scale, y * scale, z * scale];
    let (m00, m01, m02) = (1.0 - (y * sy + z * sz), x * sy - w * sz, x * sz + w * sy);
    let (m10, m11, m12) = (x * sy + w * sz, 1.0 - (x * sx + z * sz), y * sz - w * sx);
    let m22 = 1.0 - (x * sx + y * sy);
    let level = (m22 * m22 + m12 * m12).sqrt();
    let pitch = -arctan2(-m02, level);
    if level > 4.0 * f64::EPSILON {
        [-arctan2(m12, m22), pitch, -arctan2(m01, m00)]
    } else {
        [0.0, pitch, -arctan2(-m10, m11)]
    }
}

impl Rules for Hammer {
    fn randomise(&mut self, physics: &mut Physics, random: &mut RandomState) {
        physics.model_mut().body_pos_mut()[self.board.0][2] = random.uniform(0.1, 0.25);
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let (positions, velocities) = (physics.qpos(), physics.qvel());
        let hand = positions[..positions.len() - 6].iter().copied();
        let object = velocities[velocities.len() - 6..].iter().map(|velocity| velocity.clamp(-1.0, 1.0));
        let places = [
            physics.site_xpos(self.palm),
            physics.xpos(self.hammer),
            euler(physics.xquat(self.hammer)),
            physics.site_xpos(self.nail),
        ];
        // The original takes the sensor's number for its place among the values.
        let impact = physics.data().sensordata()[self.impact.0].clamp(-1.0, 1.0);
        observation.collected("observation", hand.chain(object).chain(places.into_iter().flatten()).chain([impact]));
    }

    fn evaluate(&mut self, physics: &Physics) -> Outcome {
        let [palm, head, nail, goal] = [self.palm, self.head, self.nail, self.goal].map(|site| physics.site_xpos(site));
        let hammer = physics.xpos(self.hammer);
        let to_goal = norm(&difference(nail, goal));
        let mut reward = 0.1 * norm(&difference(palm, hammer));
        reward -= norm(&difference(head, nail));
        reward -= 10.0 * to_goal;
        reward -= 0.01 * norm(physics.qvel());
        if hammer[2] > 0.04 && head[2] > 0.04 {
            reward += 2.0;
        }
        for (bound, bonus) in [(0.02, 25.0), (0.01, 75.0)] {
            if to_goal < bound {
                reward += bonus;
            }
        }
        Outcome { reward, success: to_goal < 0.01 }
    }
}
