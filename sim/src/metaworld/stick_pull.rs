//! Stick pull: put a stick through a thermos's handle and pull it (`sawyer_stick_pull_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Caging, Density, Look, Manipulation, Scene, Verdict, distance, flat_distance, hamacher, make, move_to,
    near, plus, scaled_distance, two_objects,
};
use crate::numeric::{norm, quaternion_xyzw};
use crate::physics::{Assets, BodyId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_stick_obj.xml",
    success: "the stick is in the handle and the handle within 12 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6, 0.2],
    hand_space: [[-0.5, 0.35, 0.05], [0.5, 1.0, 0.5]],
    goal_space: [[0.35, 0.45, 0.0199], [0.45, 0.55, 0.0201]],
    layout_space: &[[-0.1, 0.0], [0.55, 0.65], [0.0, 0.001], [0.35, 0.45], [0.45, 0.55], [0.0199, 0.0201]],
};
const TARGET_RADIUS: f64 = 0.05;
const STICK_HEIGHT: f64 = 0.02;

pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| {
        Ok(StickPull {
            stick: physics.body("stick")?,
            stick_end: physics.site("stick_end")?,
            thermos: physics.body("object")?,
            handle: physics.site("insertion")?,
            goal: physics.site("goal")?,
            stick_start: [0.0; 3],
        })
    })
}

struct StickPull {
    stick: BodyId,
    stick_end: SiteId,
    thermos: BodyId,
    handle: SiteId,
    goal: SiteId,
    stick_start: [f64; 3],
}

fn is_inserted(handle: [f64; 3], end: [f64; 3]) -> bool {
    end[0] >= handle[0] && (end[1] - handle[1]).abs() <= 0.04 && (end[2] - handle[2]).abs() <= 0.06
}

impl Manipulation for StickPull {
    fn accepts(&self, layout: &[f64]) -> bool {
        norm(&[layout[0] - layout[3], layout[1] - layout[4]]) >= 0.1
    }

    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        self.stick_start = [layout[0], layout[1], STICK_HEIGHT];
        arm.target = [layout[3], layout[4], STICK_HEIGHT];
        physics.place_free_object(self.stick_start);
        physics.place_thermos([0.0, 0.09]);
        arm.object_start = physics.xpos(self.thermos);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        let stick = (physics.xpos(self.stick), quaternion_xyzw(physics.xmat(self.stick)));
        two_objects(stick, (physics.site_xpos(self.handle), [0.0; 4]))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (stick, handle) = (look.object(), look.second_object());
        let inserted = is_inserted(handle, physics.site_xpos(self.stick_end));
        let [thermos, thermos_start] = [handle, arm.object_start].map(|place| plus(place, [0.05, 0.0, 0.0]));
        let scale = [1.0, 1.0, 2.0];
        let inserting = near(TARGET_RADIUS, scaled_distance(self.stick_start, thermos_start, scale))
            .of(scaled_distance(stick, thermos, scale));
        let pulling = near(TARGET_RADIUS, distance(self.stick_start, arm.target)).of(distance(stick, arm.target));
        let placing = near(TARGET_RADIUS, distance(arm.object_start, arm.target)).of(distance(thermos, arm.target));
        let shape = Caging {
            object: stick,
            object_reach_radius: 0.01,
            object_radius: 0.014,
            pad_success_threshold: 0.05,
            xz_threshold: 0.01,
            desired_effort: 1.0,
            density: Density::High,
        };
        let reach = distance(stick, arm.centre(physics));
        let held = reach < 0.02 && look.gripper() > 0.0 && stick[2] - 0.01 > self.stick_start[2];
        let both = hamacher(if held { 1.0 } else { arm.caging(physics, &look.action, &shape) }, inserting);
        let close = distance(handle, arm.target) <= 0.12;
        let reward = match (held, inserted) {
            (true, true) if close => 10.0,
            (true, true) => 1.0 + both + 5.0 + 2.0 * pulling + 1.0 * placing,
            (true, false) => 1.0 + both + 5.0 * inserting,
            (false, _) => both,
        };
        Verdict { reward, success: close && inserted }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let offset = [-0.015, 0.0, 0.03];
        let [stick, thermos] = [look.object(), look.second_object()].map(|place| plus(place, offset));
        let away = flat_distance(hand, stick) > 0.02;
        let to = if (stick[0] - thermos[0]).abs() <= 0.04 {
            plus(look.goal(), [-0.05, 0.0, 0.0])
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
        move_to(hand, to, 25.0, if away || (hand[2] - stick[2]).abs() > 0.1 { -1.0 } else { 0.7 })
    }
}
