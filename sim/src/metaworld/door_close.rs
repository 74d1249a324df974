//! Door close: push an open door shut (`sawyer_door_close_v3.py`).

use crate::error::SimError;
use crate::metaworld::mesh_frame::MeshFrame;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, gaussian, make, move_to, one_object, plus,
};
use crate::numeric::quaternion_xyzw;
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_door_pull.xml",
    success: "the handle is within 8 cm of the goal; of an episode: in its last state",
    hand_start: [-0.5, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[0.2, 0.65, 0.1499], [0.3, 0.75, 0.1501]],
    layout_space: &[[0.0, 0.1], [0.85, 0.95], [0.15, 0.15]],
};
const TARGET_RADIUS: f64 = 0.05;
/// Radians by which the door is open.
#[expect(clippy::approx_constant, reason = "the original's value")]
const OPEN_ANGLE: f64 = -1.5708;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(DoorClose {
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

struct DoorClose {
    door: BodyId,
    hinge: JointId,
    handle: MeshFrame,
    goal: SiteId,
}

impl Manipulation for DoorClose {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = plus(arm.object_start, [0.2, -0.2, 0.0]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.door.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
        physics.place_joint(self.hinge, OPEN_ANGLE);
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(self.handle.xpos(physics), quaternion_xyzw(self.handle.xmat(physics)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let handle = look.object();
        let to_target = distance(handle, arm.target);
        let placing = gaussian(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(to_target);
        let margin = distance(SCENE.hand_start, handle) + 0.1;
        let hand = gaussian(0.25 * TARGET_RADIUS, margin).of(distance(arm.centre(physics), arm.target));
        let reward = if to_target < TARGET_RADIUS { 10.0 } else { 3.0 * hand + 6.0 * placing };
        Verdict { reward, success: to_target <= 0.08 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let door = plus(look.object(), [0.05, 0.12, 0.1]);
        let to = if hand[0] > door[0] {
            if hand[2] < door[2] + 0.2 {
                [hand[0], hand[1], door[2] + 0.25]
            } else {
                [door[0] - 0.02, door[1], hand[2]]
            }
        } else if (hand[2] - door[2]).abs() > 0.04 {
            plus(door, [-0.02, 0.0, 0.0])
        } else {
            look.goal()
        };
        move_to(hand, to, 25.0, 1.0)
    }

    fn expert_shift(&self) -> [f64; 3] {
        [0.05, 0.12, 0.1]
    }
}
