//! Lever pull: lift a lever by a quarter turn (`sawyer_lever_pull_v3.py`).

use std::f64::consts::PI;

use crate::error::SimError;
use crate::metaworld::mesh_frame::MeshFrame;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, Verdict, distance, flat_distance, hamacher, make, move_to, near,
    one_object, plus, scaled_distance,
};
use crate::numeric::quaternion_xyzw;
use crate::physics::{Assets, BodyId, JointId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_lever_pull.xml",
    success: "the lever is within 7.5 degrees of upright; of an episode: in its last state",
    hand_start: [0.0, 0.4_f32 as f64, 0.2_f32 as f64],
    hand_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    goal_space: [[-0.5, 0.40, -0.15], [0.5, 1.0, 0.5]],
    layout_space: &[[-0.1, 0.1], [0.7, 0.8], [0.0, 0.0]],
};
const LEVER_RADIUS: f64 = 0.2;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(LeverPull {
            base: physics.body("lever")?,
            lever: physics.site("leverStart")?,
            lever_mesh: MeshFrame {
                body: physics.body("lever_link1")?,
                position: [7.279106204603776e-9, -0.19999999975288466, 8.554910867165248e-9],
                quaternion: [0.662500038723091, 0.662500038723091, -0.24717139537556432, 0.24717139537556432],
            },
            axis: physics.joint("LeverAxis")?,
            goal: physics.site("goal")?,
            lever_start: [0.0; 3],
        })
    })
}

struct LeverPull {
    base: BodyId,
    lever: SiteId,
    lever_mesh: MeshFrame,
    axis: JointId,
    goal: SiteId,
    /// Where the lever's end was when the episode began.
    lever_start: [f64; 3],
}

impl Manipulation for LeverPull {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        self.lever_start = plus(arm.object_start, [0.12, -LEVER_RADIUS, 0.25]);
        arm.target = plus(arm.object_start, [0.12, 0.0, 0.25 + LEVER_RADIUS]);
        let model = physics.model_mut();
        model.body_pos_mut()[self.base.0] = arm.object_start;
        model.site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.site_xpos(self.lever), quaternion_xyzw(self.lever_mesh.xmat(physics)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let lever = look.object();
        let (scale, offset) = ([4.0, 1.0, 4.0], [0.0, 0.055, 0.07]);
        let margin = scaled_distance(plus(arm.start, offset), self.lever_start, scale);
        let ready = near(0.02, margin).of(scaled_distance(plus(look.hand(), offset), lever, scale));
        let placing = near(0.04, distance(self.lever_start, arm.target)).of(distance(lever, arm.target));
        let error = (-physics.joint_qpos_values(self.axis)[0] - PI / 2.0).abs();
        Verdict { reward: 10.0 * hamacher(ready, placing), success: error <= PI / 24.0 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let lever = plus(look.object(), [0.0, -0.055, 0.0]);
        let to = if flat_distance(hand, lever) > 0.02 {
            plus(lever, [0.0, 0.0, -0.1])
        } else if (hand[2] - lever[2]).abs() > 0.02 {
            lever
        } else {
            plus(lever, [0.0, 0.08, 0.02])
        };
        move_to(hand, to, 25.0, 1.0)
    }
}
