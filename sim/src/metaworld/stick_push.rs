//! Stick push: push a thermos with a stick (`sawyer_stick_push_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, make, move_to,
    near, plus, two_objects,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_stick_obj.xml",
    success: "the stick is held and the thermos within 12 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: TABLE,
    goal_space: [[0.399, 0.55, 0.1319], [0.401, 0.6, 0.1321]],
    layout_space: &[[-0.08, -0.03], [0.58, 0.62], [0.0, 0.001], [0.399, 0.401], [0.55, 0.6], [0.1319, 0.1321]],
};
const TARGET_RADIUS: f64 = 0.12;
const STICK_HEIGHT: f64 = 0.02;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(StickPush {
            stick: physics.body("stick")?,
            stick_geom: physics.geom("objGeom")?,
            thermos: physics.body("object")?,
            handle: physics.site("insertion")?,
            goal: physics.site("goal")?,
            stick_start: [0.0; 3],
        })
    })
}

struct StickPush {
    stick: BodyId,
    stick_geom: GeomId,
    thermos: BodyId,
    handle: SiteId,
    goal: SiteId,
    stick_start: [f64; 3],
}

impl Manipulation for StickPush {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        self.stick_start = [layout[0], layout[1], STICK_HEIGHT];
        arm.target = [layout[3], layout[4], physics.site_xpos(self.handle)[2]];
        physics.place_free_object(self.stick_start);
        physics.place_thermos([0.0, 0.0]);
        arm.object_start = physics.xpos(self.thermos);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        let stick = (physics.xpos(self.stick), quaternion_xyzw(physics.xmat(self.stick)));
        two_objects(stick, (plus(physics.site_xpos(self.handle), [0.0, 0.09, 0.0]), [0.0; 4]))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (stick, thermos) = (plus(look.object(), [0.015, 0.0, 0.0]), look.second_object());
        let pushing = near(TARGET_RADIUS, distance(self.stick_start, arm.target) - TARGET_RADIUS);
        let to_target = distance(thermos, arm.target);
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target) - TARGET_RADIUS);
        let shape = Caging {
            object: stick,
            object_reach_radius: 0.01,
            object_radius: 0.04,
            pad_success_threshold: 0.05,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::High,
        };
        let reach = distance(stick, arm.centre(physics));
        let lifted = look.gripper() > 0.0 && look.object()[2] - 0.01 > self.stick_start[2];
        let reward = if reach < 0.02 && lifted {
            let moving = 2.0 + 5.0 * pushing.of(distance(stick, arm.target)) + 3.0 * placing.of(to_target);
            if to_target <= TARGET_RADIUS { 10.0 } else { moving }
        } else {
            arm.caging_from(physics, &look.action, (&shape, self.stick_start))
        };
        let held = lifted && arm.touches(physics, self.stick_geom);
        Verdict { reward, success: held && to_target <= 0.12 }
    }

    fn expert(&self, look: &Look) -> Action {
        let (hand, thermos) = (look.hand(), look.second_object());
        let stick = plus(look.object(), [0.015, 0.0, 0.03]);
        let away = flat_distance(hand, stick) > 0.02;
        let to = if (stick[0] - thermos[0]).abs() <= 0.04 {
            plus(look.goal(), [0.0, 0.0, 0.132])
        } else if away {
            plus(stick, [0.0, 0.0, 0.1])
        } else if (hand[2] - stick[2]).abs() > 0.02 {
            stick
        } else if (stick[1] - thermos[1]).abs() > 0.02 {
            [stick[0], thermos[1], stick[2]]
        } else if (stick[2] - thermos[2]).abs() > 0.02 {
            [stick[0], thermos[1], thermos[2]]
        } else {
            thermos
        };
        move_to(hand, to, 10.0, if away || (hand[2] - stick[2]).abs() > 0.1 { -1.0 } else { 0.7 })
    }

    fn reads_forces(&self) -> bool {
        true
    }
}
