//! The Sawyer arm that every task shares: where its hand is, and how well it cages an object.

use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{BodyId, GeomId, Physics, SiteId};
use crate::reward::{Sigmoid, Tolerance};

/// Three offsets of the hand and the effort of closing the gripper, each in [-1, 1].
pub(super) type Action = [f64; 4];

/// Which value of an action closes the gripper.
pub(super) const EFFORT_INDEX: usize = 3;

/// What a reward and an expert look at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// Hand, gripper, two objects; the same of the step before; goal.
    pub(super) observation: [f64; 39],
    pub(super) action: Action,
}

impl Look {
    /// Where the hand is.
    pub(super) fn hand(&self) -> [f64; 3] {
        self.three(0)
    }

    /// How far the gripper is open: 0 to 1.
    pub(super) fn gripper(&self) -> f64 {
        self.observation[3]
    }

    /// Where the first object is.
    pub(super) fn object(&self) -> [f64; 3] {
        self.three(4)
    }

    /// How the first object is turned, as the task observes it.
    pub(super) fn object_quaternion(&self) -> [f64; 4] {
        std::array::from_fn(|index| self.observation[7 + index])
    }

    /// Where the second object is.
    pub(super) fn second_object(&self) -> [f64; 3] {
        self.three(11)
    }

    /// Where the goal is.
    pub(super) fn goal(&self) -> [f64; 3] {
        self.three(36)
    }

    fn three(&self, start: usize) -> [f64; 3] {
        std::array::from_fn(|axis| self.observation[start + axis])
    }
}

/// What a task says of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// 0 to 10.
    pub(super) reward: f64,
    pub(super) success: bool,
}

/// The arm's parts, and what an episode began with.
#[derive(Debug)]
pub(super) struct Arm {
    hand: BodyId,
    claws: [BodyId; 2],
    /// Left, right.
    pads: [BodyId; 2],
    pad_geoms: [GeomId; 2],
    finger_ends: [SiteId; 2],
    /// Where the goal is.
    pub(super) target: [f64; 3],
    /// Where the object was when the episode began.
    pub(super) object_start: [f64; 3],
    /// Where the middle between the fingers was when the episode began.
    pub(super) start: [f64; 3],
}

/// How tightly [`Arm::caging`] is shaped around an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caging {
    pub(super) object: [f64; 3],
    pub(super) object_radius: f64,
    pub(super) pad_success_threshold: f64,
    pub(super) object_reach_radius: f64,
    pub(super) xz_threshold: f64,
    pub(super) desired_effort: f64,
    pub(super) density: Density,
}

/// What is mixed into the caging reward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Density {
    /// Caging and gripping together alone.
    Sparse,
    /// Also reaching.
    Medium,
    /// Also caging by itself.
    High,
}

impl Arm {
    pub(super) fn new(physics: &Physics) -> Result<Self, SimError> {
        Ok(Self {
            hand: physics.body("hand")?,
            claws: [physics.body("rightclaw")?, physics.body("leftclaw")?],
            pads: [physics.body("leftpad")?, physics.body("rightpad")?],
            pad_geoms: [physics.geom("leftpad_geom")?, physics.geom("rightpad_geom")?],
            finger_ends: [physics.site("rightEndEffector")?, physics.site("leftEndEffector")?],
            target: [0.0; 3],
            object_start: [0.0; 3],
            start: [0.0; 3],
        })
    }

    pub(super) fn hand(&self) -> BodyId {
        self.hand
    }

    pub(super) fn hand_position(&self, physics: &Physics) -> [f64; 3] {
        physics.xpos(self.hand)
    }

    /// Distance of the claws in units of their largest, 0.1 m.
    pub(super) fn opening(&self, physics: &Physics) -> f64 {
        let [right, left] = self.claws.map(|claw| physics.xpos(claw));
        (norm(&difference(right, left)) / 0.1).clamp(0.0, 1.0)
    }

    /// The middle between the fingers' ends.
    pub(super) fn centre(&self, physics: &Physics) -> [f64; 3] {
        let [right, left] = self.finger_ends.map(|site| physics.site_xpos(site));
        std::array::from_fn(|axis| (right[axis] + left[axis]) / 2.0)
    }

    /// Positions of the left and the right pad.
    pub(super) fn pads(&self, physics: &Physics) -> [[f64; 3]; 2] {
        self.pads.map(|pad| physics.xpos(pad))
    }

    /// Whether both pads press on a geom.
    pub(super) fn touches(&self, physics: &Physics, object: GeomId) -> bool {
        let pressed = |pad: GeomId| {
            let both = |geoms: [i32; 2]| geoms.contains(&(pad.0 as i32)) && geoms.contains(&(object.0 as i32));
            let contacts = physics.data().contact().iter().filter(|contact| both(contact.geom));
            contacts.map(|contact| physics.constraint_force(contact.efc_address)).sum::<f64>() > 0.0
        };
        self.pad_geoms.into_iter().all(pressed)
    }

    /// How well the gripper is around the object and closes on it (`_gripper_caging_reward`).
    pub(super) fn caging(&self, physics: &Physics, action: &Action, shape: &Caging) -> f64 {
        let sideways = self.pads(physics).map(|pad| {
            let threshold = shape.pad_success_threshold;
            let margin = ((pad[1] - self.object_start[1]).abs() - threshold).abs();
            let bounds = Tolerance::within(shape.object_radius, threshold);
            long_tail(bounds, margin).of((pad[1] - shape.object[1]).abs())
        });
        let caging_y = hamacher(sideways[0], sideways[1]);
        let centre = self.centre(physics);
        let flat = |left: [f64; 3], right: [f64; 3]| norm(&[left[0] - right[0], left[2] - right[2]]);
        let margin = flat(self.object_start, self.start) - shape.xz_threshold;
        let caging_xz = near(shape.xz_threshold, margin).of(flat(centre, shape.object));
        let caging = hamacher(caging_y, caging_xz);
        let closed = action[EFFORT_INDEX].max(0.0).min(shape.desired_effort) / shape.desired_effort;
        let both = hamacher(caging, if caging > 0.97 { closed } else { 0.0 });
        match shape.density {
            Density::Sparse => both,
            Density::High => (both + caging) / 2.0,
            Density::Medium => {
                let from_start = norm(&difference(self.object_start, self.start));
                let reach = near(shape.object_reach_radius, (from_start - shape.object_reach_radius).abs());
                (both + reach.of(norm(&difference(shape.object, centre)))) / 2.0
            }
        }
    }
}

/// 1 within `radius`, with a long tail over `margin`.
pub(super) fn near(radius: f64, margin: f64) -> Tolerance {
    long_tail(Tolerance::within(0.0, radius), margin)
}

/// Bounds with a long tail over `margin`.
pub(super) fn long_tail(bounds: Tolerance, margin: f64) -> Tolerance {
    bounds.margin(margin).sigmoid(Sigmoid::LongTail, 0.1)
}

/// The Hamacher product of two values in [0, 1].
pub(super) fn hamacher(left: f64, right: f64) -> f64 {
    let denominator = left + right - left * right;
    if denominator > 0.0 { left * right / denominator } else { 0.0 }
}

/// An expert's offsets towards a place, with its effort; rounded to single precision as the original's are.
pub(super) fn move_to(from: [f64; 3], to: [f64; 3], gain: f64, effort: f64) -> Action {
    let offset = |axis: usize| f64::from((gain * (to[axis] - from[axis])) as f32);
    [offset(0), offset(1), offset(2), f64::from(effort as f32)]
}

/// `left + right`.
pub(super) fn plus(left: [f64; 3], right: [f64; 3]) -> [f64; 3] {
    std::array::from_fn(|axis| left[axis] + right[axis])
}

/// Distance in the plane of the table.
pub(super) fn flat_distance(left: [f64; 3], right: [f64; 3]) -> f64 {
    norm(&[left[0] - right[0], left[1] - right[1]])
}
