//! The Sawyer arm that every task shares: where its hand is, and how well it cages an object.

use crate::error::SimError;
use crate::numeric::{difference, norm};
use crate::physics::{BodyId, GeomId, Physics, SiteId};
use crate::reward::{Sigmoid, Tolerance};

/// Three offsets of the hand and the effort of closing the gripper, each in [-1, 1].
pub(super) type Action = [f64; 4];

/// Metres within which the pads count as around an object.
const PAD_MARGIN: f64 = 0.05;

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
    /// Where the fingers' velocities are: right, left.
    finger_dofs: [usize; 2],
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

/// How tightly [`Arm::pinching`] is shaped around an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pinch {
    pub(super) object: [f64; 3],
    pub(super) object_radius: f64,
    pub(super) xz_margin: f64,
    pub(super) grip: Grip,
}

/// What counts as gripping.
#[derive(Clone, Copy, Debug)]
pub(super) enum Grip {
    /// The effort of closing the gripper.
    Effort,
    /// Pads within this distance of the object's middle.
    Pads { margin: f64 },
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
            finger_dofs: [
                physics.dof_address(physics.joint("r_close")?),
                physics.dof_address(physics.joint("l_close")?),
            ],
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

    /// How fast [`Self::opening`] grows, per second.
    pub(super) fn opening_speed(&self, physics: &Physics) -> f64 {
        let [right, left] = self.finger_dofs.map(|dof| physics.qvel()[dof]);
        (left - right) / 0.1
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
        self.caging_from(physics, action, (shape, self.object_start))
    }

    /// As [`Self::caging`], of an object that began elsewhere than the task's main one.
    pub(super) fn caging_from(&self, physics: &Physics, action: &Action, object: (&Caging, [f64; 3])) -> f64 {
        let (shape, object_start) = object;
        let sideways = self.pads(physics).map(|pad| {
            let threshold = shape.pad_success_threshold;
            let margin = ((pad[1] - object_start[1]).abs() - threshold).abs();
            let bounds = Tolerance::within(shape.object_radius, threshold);
            long_tail(bounds, margin).of((pad[1] - shape.object[1]).abs())
        });
        let caging_y = hamacher(sideways[0], sideways[1]);
        let centre = self.centre(physics);
        let flat = |left: [f64; 3], right: [f64; 3]| norm(&[left[0] - right[0], left[2] - right[2]]);
        let margin = flat(object_start, self.start) - shape.xz_threshold;
        let caging_xz = near(shape.xz_threshold, margin).of(flat(centre, shape.object));
        let caging = hamacher(caging_y, caging_xz);
        let closed = action[EFFORT_INDEX].max(0.0).min(shape.desired_effort) / shape.desired_effort;
        let both = hamacher(caging, if caging > 0.97 { closed } else { 0.0 });
        match shape.density {
            Density::Sparse => both,
            Density::High => (both + caging) / 2.0,
            Density::Medium => {
                let from_start = norm(&difference(object_start, self.start));
                let reach = near(shape.object_reach_radius, (from_start - shape.object_reach_radius).abs());
                (both + reach.of(norm(&difference(shape.object, centre)))) / 2.0
            }
        }
    }

    /// How well the pads are around the object, left and right told apart, and grip it.
    pub(super) fn pinching(&self, physics: &Physics, action: &Action, shape: &Pinch) -> f64 {
        let [left, right] = self.pads(physics).map(|pad| pad[1]);
        // The original keeps no copy of the pads' first places: its margins come from the present ones.
        let sides = [shape.object[1] - right, left - shape.object[1]].map(|offset| {
            let margin = (offset.abs() - PAD_MARGIN).abs();
            move |upper: f64| long_tail(Tolerance::within(shape.object_radius, upper), margin).of(offset)
        });
        let around = hamacher(sides[0](PAD_MARGIN), sides[1](PAD_MARGIN));
        let flat = |left: [f64; 3], right: [f64; 3]| norm(&[left[0] - right[0], left[2] - right[2]]);
        let margin = flat(self.object_start, self.start) - shape.xz_margin;
        let caging = hamacher(around, near(shape.xz_margin, margin).of(flat(self.centre(physics), shape.object)));
        match shape.grip {
            Grip::Effort => {
                let closed = action[EFFORT_INDEX].clamp(0.0, 1.0);
                (hamacher(caging, if caging > 0.97 { closed } else { 0.0 }) + caging) / 2.0
            }
            Grip::Pads { margin } => {
                let gripping = hamacher(sides[0](margin), sides[1](margin));
                (caging + if caging > 0.95 { gripping } else { 0.0 }) / 2.0
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

/// Distance in space.
pub(super) fn distance(left: [f64; 3], right: [f64; 3]) -> f64 {
    norm(&difference(left, right))
}

/// Distance with each axis stretched.
pub(super) fn scaled_distance(left: [f64; 3], right: [f64; 3], scale: [f64; 3]) -> f64 {
    let [x, y, z] = difference(left, right);
    norm(&[x * scale[0], y * scale[1], z * scale[2]])
}

/// 1 within `radius`, falling off like a bell over `margin`.
pub(super) fn gaussian(radius: f64, margin: f64) -> Tolerance {
    Tolerance::within(0.0, radius).margin(margin)
}

/// Height that the hand should keep at a distance from an object: a funnel that opens beyond `threshold`.
pub(super) fn floor_height(radius: f64, threshold: f64) -> f64 {
    if radius > threshold { 0.04 * (radius - threshold).ln() + 0.4 } else { 0.0 }
}

/// 1 for the ideal rotation of the first object, 0 from `width` off.
pub(super) fn quaternion_reward(look: &Look, ideal: [f64; 4], width: f64) -> f64 {
    let found = look.object_quaternion();
    let error = norm(&std::array::from_fn::<_, 4, _>(|index| found[index] - ideal[index]));
    (1.0 - error / width).max(0.0)
}

/// How far a point inside a box is from the corner `zero` to the corner `one`: 0 to 1, and 1 outside of the box.
pub(super) fn prism(point: [f64; 3], zero: [f64; 3], one: [f64; 3]) -> f64 {
    let inside = |axis: usize| {
        let (low, high) = (zero[axis].min(one[axis]), zero[axis].max(one[axis]));
        (low..=high).contains(&point[axis])
    };
    if !(inside(0) && inside(1) && inside(2)) {
        return 1.0;
    }
    let part = |axis: usize| (point[axis] - zero[axis]) / (one[axis] - zero[axis]);
    part(0) * part(1) * part(2)
}
