//! Plate slide: slide a plate into a cabinet or out of it, forwards or sideways (`sawyer_plate_slide_v3.py`,
//! `.._back_v3.py`, `.._side_v3.py`, `.._back_side_v3.py`).

use crate::error::SimError;
use crate::metaworld::{
    Action, Arm, Look, Manipulation, Scene, TABLE, Verdict, distance, flat_distance, hamacher, make, move_to, near,
    one_object, plus,
};
use crate::numeric::quaternion_xyzw;
use crate::physics::{Assets, BodyId, GeomId, Physics, SiteId};
use crate::task::TaskParts;

const SCENE: Scene = Scene {
    model: "sawyer_plate_slide.xml",
    success: "the plate is within 7 cm of the goal; of an episode: in its last state",
    hand_start: [0.0, 0.6_f32 as f64, 0.2_f32 as f64],
    hand_space: TABLE,
    goal_space: [[-0.1, 0.85, 0.0], [0.1, 0.9, 0.0]],
    layout_space: &[[0.0, 0.0], [0.6, 0.6], [0.0, 0.0], [-0.1, 0.1], [0.85, 0.9], [0.0, 0.0]],
};
const BACK_SCENE: Scene = Scene {
    goal_space: [[-0.1, 0.6, 0.015], [0.1, 0.6, 0.015]],
    layout_space: &[[0.0, 0.0], [0.85, 0.85], [0.0, 0.0], [-0.1, 0.1], [0.6, 0.6], [0.015, 0.015]],
    ..SCENE
};
const SIDE_SCENE: Scene = Scene {
    model: "sawyer_plate_slide_sideway.xml",
    goal_space: [[-0.3, 0.54, 0.0], [-0.25, 0.66, 0.0]],
    layout_space: &[[0.0, 0.0], [0.6, 0.6], [0.0, 0.0], [-0.3, -0.25], [0.54, 0.66], [0.0, 0.0]],
    ..SCENE
};
const BACK_SIDE_SCENE: Scene = Scene {
    model: "sawyer_plate_slide_sideway.xml",
    goal_space: [[-0.05, 0.6, 0.015], [0.15, 0.6, 0.015]],
    layout_space: &[[-0.25, -0.25], [0.6, 0.6], [0.0, 0.0], [-0.05, 0.15], [0.6, 0.6], [0.015, 0.015]],
    ..SCENE
};
const TARGET_RADIUS: f64 = 0.05;

/// Forwards, in.
pub(crate) fn task(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SCENE, |physics| PlateSlide::new(physics, Way::In))
}

/// Backwards, out.
pub(crate) fn back(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &BACK_SCENE, |physics| PlateSlide::new(physics, Way::Out))
}

/// Sideways, in.
pub(crate) fn side(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &SIDE_SCENE, |physics| PlateSlide::new(physics, Way::SideIn))
}

/// Sideways, out.
pub(crate) fn back_side(assets: Assets<'_>) -> Result<TaskParts, SimError> {
    make(assets, &BACK_SIDE_SCENE, |physics| PlateSlide::new(physics, Way::SideOut))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    SideIn,
    SideOut,
}

struct PlateSlide {
    way: Way,
    plate: GeomId,
    cabinet: BodyId,
    goal: SiteId,
}

impl PlateSlide {
    fn new(physics: &Physics, way: Way) -> Result<Self, SimError> {
        Ok(Self { way, plate: physics.geom("puck")?, cabinet: physics.body("puck_goal")?, goal: physics.site("goal")? })
    }

    /// How the expert goes on once its hand is at the plate, and with how much effort all along.
    fn push(&self, look: &Look, plate: [f64; 3]) -> [f64; 3] {
        let hand = look.hand();
        match self.way {
            Way::In => [look.goal()[0], 0.9, plate[2]],
            Way::Out if hand[1] > 0.7 => plus(hand, [0.0, -0.1, 0.0]),
            Way::Out if hand[1] > 0.6 => [0.15, 0.55, hand[2]],
            Way::Out => [hand[0] - 0.1, 0.55, hand[2]],
            Way::SideIn if hand[0] > -0.2 => [hand[0] - 0.1, 0.6, hand[2]],
            Way::SideIn => plus(plate, [-0.1, 0.0, 0.0]),
            Way::SideOut => [hand[0] + 0.1, 0.6, hand[2]],
        }
    }
}

impl Manipulation for PlateSlide {
    fn lay_out(&mut self, arm: &mut Arm, physics: &mut Physics, layout: &[f64]) {
        arm.object_start = [layout[0], layout[1], layout[2]];
        arm.target = [layout[3], layout[4], layout[5]];
        let (cabinet, slides) = match self.way {
            Way::In => (Some(arm.target), [0.0, 0.0]),
            Way::Out => (None, [0.0, 0.15]),
            Way::SideIn => (None, [0.0, 0.0]),
            Way::SideOut => (Some(arm.object_start), [-0.15, 0.0]),
        };
        if let Some(place) = cabinet {
            physics.model_mut().body_pos_mut()[self.cabinet.0] = place;
        }
        physics.open_slides(slides);
        physics.model_mut().site_pos_mut()[self.goal.0] = arm.target;
    }

    fn objects(&self, physics: &Physics) -> [f64; 14] {
        one_object(physics.geom_xpos(self.plate), quaternion_xyzw(physics.geom_xmat(self.plate)))
    }

    fn evaluate(&mut self, arm: &Arm, physics: &Physics, look: &Look) -> Verdict {
        let (plate, centre) = (look.object(), arm.centre(physics));
        let to_target = distance(plate, arm.target);
        let reach = distance(centre, plate);
        let [way, start] = [distance(arm.object_start, arm.target), distance(arm.start, arm.object_start)];
        let reward = if to_target < TARGET_RADIUS {
            10.0
        } else if self.way == Way::In {
            8.0 * hamacher(near(TARGET_RADIUS, start).of(reach), near(TARGET_RADIUS, way).of(to_target))
        } else if centre[2] <= 0.03 && reach < 0.07 {
            2.0 + 7.0 * near(TARGET_RADIUS, way - TARGET_RADIUS).of(to_target)
        } else {
            1.5 * near(TARGET_RADIUS, start - TARGET_RADIUS).of(reach)
        };
        Verdict { reward, success: to_target <= 0.07 }
    }

    fn expert(&self, look: &Look) -> Action {
        let hand = look.hand();
        let (offset, aligned, lift, gain, effort) = match self.way {
            Way::In => ([0.0, -0.055, 0.03], 0.03, 0.1, 10.0, -1.0),
            Way::Out => ([0.0, -0.065, 0.025], 0.01, 0.1, 10.0, -1.0),
            Way::SideIn => ([0.07, 0.0, -0.005], 0.04, 0.1, 25.0, 1.0),
            Way::SideOut => ([0.023, 0.0, 0.025], 0.01, 0.07, 10.0, 1.0),
        };
        let plate = plus(look.object(), offset);
        let to = if flat_distance(hand, plate) > aligned {
            plus(plate, [0.0, 0.0, lift])
        } else if (hand[2] - plate[2]).abs() > 0.04 {
            plate
        } else {
            self.push(look, plate)
        };
        move_to(hand, to, gain, effort)
    }
}
