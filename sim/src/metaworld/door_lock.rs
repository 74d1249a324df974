//! Door lock and unlock: turn the lock of a door (`sawyer_door_lock_v3.py`, `sawyer_door_unlock_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, Verdict, flat_distance, hamacher, make, move_to, near, one_object, plus,
    scaled_distance,
};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const LOCK_SCENE: Scene = Scene {
    model: "sawyer_door_lock.xml",
    success: "the lock is within 2 cm of the goal, along its way; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    goal_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    layout_space: &[[-0.1, 0.1], [0.8, 0.85], [0.15, 0.15]],
};
const UNLOCK_SCENE: Scene = Scene { goal_space: [[0.0, 0.64, 0.2100], [0.2, 0.7, 0.2111]], ..LOCK_SCENE };
const LOCK_LENGTH: f64 = 0.1;
const SCALE: [f64; 3] = [0.25, 1.0, 0.5];
/// The joint's place when it is locked.
#[expect(clippy::approx_constant, reason = "the original's value")]
const LOCKED_ANGLE: f64 = 1.5708;

/// Turn it down.
pub(crate) fn lock(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &LOCK_SCENE, |physics| DoorLock::new(physics, Way::Lock))
}

/// Turn it aside.
pub(crate) fn unlock(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &UNLOCK_SCENE, |physics| DoorLock::new(physics, Way::Unlock))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Lock,
    Unlock,
}

struct DoorLock {
    way: Way,
    door: BodyId,
    door_link: BodyId,
    lock_link: BodyId,
    lock_end: SiteId,
}

impl DoorLock {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        let end = if way == Way::Lock { "lockStartLock" } else { "lockStartUnlock" };
        Ok(Self {
            way,
            door: physics.body("door")?,
            door_link: physics.body("door_link")?,
            lock_link: physics.body("lock_link")?,
            lock_end: physics.site(end)?,
        })
    }
}

impl Manipulation for DoorLock {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        physics.model_mut().body_pos_mut()[self.door.0] = [layout[0], layout[1], layout[2]];
        let offset = match self.way {
            Way::Lock => {
                physics.whole_steps(5);
                [0.0, -0.04, -0.1]
            }
            Way::Unlock => {
                physics.place_slide(LOCKED_ANGLE);
                [0.1, -0.04, 0.0]
            }
        };
        arm.object_start = physics.xpos(self.lock_link);
        arm.target = plus(arm.object_start, offset);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.lock_end), physics.xquat(self.door_link))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let lock = look.object();
        match self.way {
            Way::Lock => {
                // The original keeps no copy of the pad's first place: its margin is the present distance.
                let reach = scaled_distance(lock, arm.pads(physics)[0], SCALE);
                let to_target = (arm.target[2] - lock[2]).abs();
                let reaching = 2.0 * hamacher(look.gripper().max(0.0), near(0.01, reach).of(reach));
                Verdict { reward: reaching + 8.0 * near(0.005, LOCK_LENGTH).of(to_target), success: to_target <= 0.02 }
            }
            Way::Unlock => {
                let offset = [0.0, 0.055, 0.07];
                let reach = scaled_distance(plus(look.hand(), offset), lock, SCALE);
                // Nor of the lock's first place.
                let first = scaled_distance(plus(arm.start, offset), physics.xpos(self.lock_link), SCALE);
                let to_target = (arm.target[0] - lock[0]).abs();
                let reward = 2.0 * near(0.02, first).of(reach) + 8.0 * near(0.005, LOCK_LENGTH).of(to_target);
                Verdict { reward, success: to_target <= 0.02 }
            }
        }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        if self.way == Way::Lock {
            let lock = plus(look.object(), [-0.02, -0.02, 0.0]);
            let to = if flat_distance(hand, lock) > 0.02 {
                if hand[2] < 0.25 { plus(hand, [0.0, -0.1, 0.1]) } else { plus(lock, [0.0, 0.0, 0.3]) }
            } else if (hand[2] - lock[2]).abs() > 0.02 {
                lock
            } else {
                plus(lock, [-0.1, 0.0, -0.1])
            };
            return move_to(hand, to, 25.0, -1.0);
        }
        let lock = plus(look.object(), [-0.04, -0.02, -0.03]);
        let to = if flat_distance(hand, lock) > 0.02 {
            if hand[2] > 0.15 { plus(hand, [0.0, -0.1, -0.1]) } else { lock }
        } else {
            plus(lock, [0.1, 0.0, 0.01])
        };
        move_to(hand, to, 25.0, 1.0)
    }
}
