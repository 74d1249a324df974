//! Door open: pull a door open by its handle (`sawyer_door_v3.py`).

use std::f64::consts::PI;

use crate::error::SimError;
use crate::metaworld::mesh_frame::MeshFrame;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, flat_distance, floor_height, hamacher, long_tail, make,
    move_to, near, one_object, plus,
};
use crate::numeric::{difference, norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::reward::Tolerance;
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_door_pull.xml",
    success: "the handle is within 8 cm of the goal, sideways; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[-0.3, 0.4, 0.1499], [-0.2, 0.5, 0.1501]],
    layout_space: &[[0.0, 0.1], [0.85, 0.95], [0.15, 0.15]],
};
/// Metres around the handle in which the hand may be low.
const THRESHOLD: f64 = 0.12;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(DoorOpen {
            door: physics.body("door")?,
            hinge: physics.joint("doorjoint")?,
            handle: MeshFrame {
                body: physics.body("door_link")?,
                position: [0.3757216301497299, -0.10713989547547989, 3.594872010784633e-5],
                quaternion: [0.1511710860256814, 0.6907584981379653, -0.15062096865140928, 0.6908786606941284],
            },
            goal: physics.site("goal")?,
        })
    })
}

struct DoorOpen {
    door: BodyId,
    hinge: JointId,
    handle: MeshFrame,
    goal: SiteId,
}

/// How ready the hand is to open.
fn ready(look: &Look) -> f64 {
    let hand = look.hand();
    let door = plus(look.object(), [-0.05, 0.0, 0.0]);
    let floor = floor_height(flat_distance(hand, door), THRESHOLD);
    let above = if hand[2] >= floor { 1.0 } else { near(0.01, floor / 2.0).of(floor - hand[2]) };
    let offset = difference(difference(hand, door), [0.05, 0.03, -0.01]);
    hamacher(above, near(THRESHOLD / 2.0, 0.5).of(norm(&offset)))
}

impl Manipulation for DoorOpen {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [-0.3, -0.45, 0.0]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.door.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
        physics.place_joint(self.hinge, 0.0);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(self.handle.xpos(physics), quaternion_xyzw(self.handle.xmat(physics)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let angle = physics.joint_qpos_values(self.hinge)[0];
        let opening = long_tail(Tolerance::within(0.0, 0.5), PI / 3.0).of(PI / 2.0 + PI / 6.0 - -angle);
        let opened = 0.2 * f64::from(angle < -PI / 90.0) + 0.8 * opening;
        let grabbing = (look.action[3].clamp(-1.0, 1.0) + 1.0) / 2.0;
        let success = (look.object()[0] - arm.target[0]).abs() <= 0.08;
        let reward = 2.0 * hamacher(ready(look), grabbing) + 8.0 * opened;
        Verdict { reward: if success { 10.0 } else { reward }, success }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let [x, y, z] = look.object();
        let door = [x - 0.05, y, z];
        let to = if flat_distance(hand, door) > 0.12 {
            plus(door, [0.06, 0.02, 0.2])
        } else if (hand[2] - door[2]).abs() > 0.04 {
            plus(door, [0.06, 0.02, 0.0])
        } else {
            door
        };
        move_to(hand, to, 25.0, 1.0)
    }

    fn expert_shift(&self) -> [f64; 3] {
        [-0.05, 0.0, 0.0]
    }
}
