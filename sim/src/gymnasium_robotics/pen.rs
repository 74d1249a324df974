//! Adroit pen: turn a pen in the hand into an orientation (`adroit_pen.py`).

use crate::error::SimError;
use crate::gymnasium_robotics::{Outcome, Rules, Scene, make, stiffen_hand};
use crate::numeric::{difference, norm};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::random::RandomState;
use crate::task::{ObservationWriter, TaskParts};

const SCENE: Scene = Scene {
    model: "adroit_hand/adroit_pen.xml",
    frame_skip: 5,
    num_steps: 200,
    success: "the pen is within 7.5 cm and 18 degrees of its goal; of an episode: in its last state",
};

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        stiffen_hand(physics)?;
        Ok(Pen {
            pen: physics.body("Object")?,
            goal: physics.body("target")?,
            place: physics.site("eps_ball")?,
            pen_ends: [physics.site("object_top")?, physics.site("object_bottom")?],
            goal_ends: [physics.site("target_top")?, physics.site("target_bottom")?],
            lengths: [1.0; 2],
        })
    })
}

struct Pen {
    pen: BodyId,
    goal: BodyId,
    place: SiteId,
    /// Top and bottom.
    pen_ends: [SiteId; 2],
    goal_ends: [SiteId; 2],
    /// Metres of pen and goal when the episode began.
    lengths: [f64; 2],
}

fn along(physics: &Physics, [top, bottom]: [SiteId; 2]) -> [f64; 3] {
    difference(physics.site_xpos(top), physics.site_xpos(bottom))
}

impl Pen {
    /// Directions of pen and goal.
    fn directions(&self, physics: &Physics) -> [[f64; 3]; 2] {
        let [pen, goal] = [self.pen_ends, self.goal_ends].map(|ends| along(physics, ends));
        [pen.map(|value| value / self.lengths[0]), goal.map(|value| value / self.lengths[1])]
    }
}

/// The quaternion of Euler angles about x and y (`gymnasium_robotics/utils/rotations.py`).
fn quaternion(x: f64, y: f64) -> [f64; 4] {
    let (sy, cy) = ((-y / 2.0).sin(), (-y / 2.0).cos());
    let (sx, cx) = ((x / 2.0).sin(), (x / 2.0).cos());
    [cy * cx, cy * sx, -(sy * cx), -(sy * sx)]
}

impl Rules for Pen {
    fn randomise(&mut self, physics: &mut Physics, random: &mut RandomState) {
        let [x, y] = [random.uniform(-1.0, 1.0), random.uniform(-1.0, 1.0)];
        physics.model_mut().body_quat_mut()[self.goal.0] = quaternion(x, y);
    }

    fn begin(&mut self, physics: &mut Physics) {
        self.lengths = [self.pen_ends, self.goal_ends].map(|ends| norm(&along(physics, ends)));
    }

    fn observe(&self, physics: &Physics, observation: &mut ObservationWriter<'_>) {
        let (positions, velocities) = (physics.qpos(), physics.qvel());
        let hand = positions[..positions.len() - 6].iter().copied();
        let place = physics.xpos(self.pen);
        let moving = velocities[velocities.len() - 6..].iter().copied();
        let [pen, goal] = self.directions(physics);
        let offset = difference(place, physics.site_xpos(self.place));
        let rest = [pen, goal, offset, difference(pen, goal)].into_iter().flatten();
        observation.collected("observation", hand.chain(place).chain(moving).chain(rest));
    }

    fn evaluate(&mut self, physics: &Physics) -> Outcome {
        let place = physics.xpos(self.pen);
        let distance = norm(&difference(place, physics.site_xpos(self.place)));
        let [pen, goal] = self.directions(physics);
        let similarity = pen[2].mul_add(goal[2], pen[1].mul_add(goal[1], pen[0] * goal[0]));
        let mut reward = -distance + similarity;
        for (bound, bonus) in [(0.9, 10.0), (0.95, 50.0)] {
            if distance < 0.075 && similarity > bound {
                reward += bonus;
            }
        }
        if place[2] < 0.075 {
            reward -= 5.0;
        }
        Outcome { reward, success: distance < 0.075 && similarity > 0.95 }
    }
}
