//! All joints together: each one's motion, joint limits by the measured state, the workspace, and the safe actions.
//!
//! A position begins where the joint is measured, inside its range or not, and an arm where it stands, inside its box or not. From
//! outside there is only one way: range and box reach out to where the joint and the arm are, and shrink as these move back in.

use std::f64::consts::{PI, TAU};

use foresee_firmware_config::{CommandKind, JointProfile, PositionLimits, SafeAction, WorkspaceProfile};

use super::motion::{Motion, MotionLimits, advance, bound, brake, is_viable, reach_seconds, stop_seconds};
use super::workspace::{Room, Workspace};
use super::{Hold, Verdict, is_position};
use crate::joints::JointState;

/// Parts of the way to the target that are tried when the whole would leave the workspace.
const SHARES: [f64; 6] = [1.0, 0.5, 0.25, 0.12, 0.06, 0.03];
/// Poses that are looked at on a stop.
const NUM_POSES: u32 = 16;
/// No command unit of any joint is felt below this.
const NOTHING: f64 = 1e-6;

/// The motions of all joints.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    joints: Vec<Joint>,
    workspace: Option<Workspace>,
    are_positions: bool,
    /// Whether the arm may be outside its box or within the margin of its side: it began or came to rest there.
    is_entering: bool,
    /// Whether the arm is outside its box, and nothing that is wanted leads back in.
    is_stuck: bool,
}

#[derive(Clone, Debug)]
struct Joint {
    name: String,
    kind: CommandKind,
    /// What the profile allows.
    declared: MotionLimits,
    /// The same, out to where a position is that began outside its range.
    limits: MotionLimits,
    /// What may be asked for.
    minimum: f64,
    maximum: f64,
    is_continuous: bool,
    home: f64,
    damping: f64,
    position: Option<PositionLimits>,
    motion: Motion,
    /// Where the joint goes if the pose is allowed.
    next: Motion,
    target: f64,
}

impl Governor {
    pub(super) fn new(joints: &[JointProfile], workspace: Option<&WorkspaceProfile>) -> Self {
        let are_positions = joints.iter().all(|joint| is_position(joint.command));
        let workspace = workspace.and_then(|workspace| Workspace::new(workspace, joints));
        let joints = joints.iter().map(Joint::of).collect();
        Self { joints, workspace, are_positions, is_entering: true, is_stuck: false }
    }

    pub(super) fn num_joints(&self) -> usize {
        self.joints.len()
    }

    /// Whether every joint takes positions.
    pub(super) fn are_positions(&self) -> bool {
        self.are_positions
    }

    pub(super) fn has_positions(&self) -> bool {
        self.joints.iter().any(|joint| is_position(joint.kind))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.joints.iter().map(|joint| joint.motion.value)
    }

    pub(super) fn needs_joints(&self) -> bool {
        self.workspace.is_some() || self.joints.iter().any(|joint| joint.position.is_some())
    }

    /// Every joint rests at its home.
    pub(super) fn rest(&mut self) {
        self.joints.iter_mut().for_each(|joint| joint.begin(joint.home));
        (self.is_entering, self.is_stuck) = (true, false);
    }

    /// A position begins where the joint is measured, unless its command is `near` radians from there or less; gives whether that is
    /// known.
    pub(super) fn begin(&mut self, joints: Option<&JointState>, near: f64) -> bool {
        let Some(joints) = joints else { return !self.has_positions() };
        for (joint, position) in self.joints.iter_mut().zip(&joints.positions) {
            if is_position(joint.kind) && (position - joint.motion.value).abs() > near {
                joint.begin(*position);
            }
        }
        self.is_entering = true;
        true
    }

    /// Moves every joint towards `values` (finite, one a joint) for `elapsed` of about `period` seconds.
    pub(super) fn follow(
        &mut self,
        values: &[f64],
        joints: Option<&JointState>,
        (elapsed, period): (f64, f64),
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for (joint_idx, (joint, wanted)) in self.joints.iter_mut().zip(values).enumerate() {
            let in_range = joint.asked(*wanted);
            verdict.num_clamped += u32::from(in_range != *wanted && !joint.may_be_asked(*wanted));
            joint.target = joint.towards(in_range, measured(joints, joint_idx), period);
            verdict.num_position_limited += u32::from(joint.target != in_range);
        }
        verdict.num_position_limited += self.go(elapsed);
        let slowed = self.joints.iter().filter(|joint| (joint.motion.value - joint.target).abs() > NOTHING);
        verdict.num_rate_limited = u32::try_from(slowed.count()).unwrap_or(u32::MAX);
        verdict.held = self.is_stuck.then_some(Hold::OutsideWorkspace);
        verdict
    }

    pub(super) fn act_safely(&mut self, action: SafeAction, joints: Option<&JointState>, elapsed: f64) {
        if self.are_positions && action == SafeAction::ReturnHome {
            self.joints.iter_mut().for_each(|joint| joint.target = joint.nearest(joint.home));
            self.go(elapsed);
            return;
        }
        for (joint_idx, joint) in self.joints.iter_mut().enumerate() {
            joint.take(joint.safe(action, measured(joints, joint_idx), elapsed));
        }
    }

    /// The joints whose command the safe action has not brought to rest yet.
    pub(super) fn moving(&self, action: SafeAction) -> impl Iterator<Item = &str> {
        let is_moving = move |joint: &&Joint| {
            let is_far = self.end(joint, action).is_some_and(|end| (joint.motion.value - end).abs() > NOTHING);
            is_far || joint.motion.rate.abs() > NOTHING
        };
        self.joints.iter().filter(is_moving).map(|joint| joint.name.as_str())
    }

    /// In words, every position that is commanded outside its range, and every other joint that is measured outside its position limits.
    pub(super) fn outside(&self, joints: Option<&JointState>) -> impl Iterator<Item = String> {
        self.joints.iter().enumerate().filter_map(move |(joint_idx, joint)| {
            let limits = joint.position.map_or((joint.declared.minimum, joint.declared.maximum), |limits| {
                (limits.minimum_radians, limits.maximum_radians)
            });
            let at = match joint.position {
                _ if is_position(joint.kind) => joint.motion.value,
                Some(_) => measured(joints, joint_idx)?.0,
                None => return None,
            };
            let is_outside = at < limits.0 || at > limits.1;
            is_outside.then(|| format!("joint `{}` at {at:.4} rad, range {} to {}", joint.name, limits.0, limits.1))
        })
    }

    /// Seconds in which the safe action certainly ends, from wherever the limits allow, if nothing is in its way.
    pub(super) fn stop_seconds(&self, action: SafeAction) -> f64 {
        let seconds = self.joints.iter().map(|joint| {
            let Joint { limits, .. } = joint;
            let way = self.end(joint, action).map_or(0.0, |end| {
                let from = |value| reach_seconds(limits, Motion::at_rest(value), end);
                // No angle is further than half a turn.
                if joint.is_continuous { from(end + PI) } else { from(limits.minimum).max(from(limits.maximum)) }
            });
            stop_seconds(limits, Motion::fastest(limits)) + way
        });
        seconds.fold(0.0, f64::max)
    }

    /// Where the safe action brings a joint's command; `None`: wherever it stops.
    fn end(&self, joint: &Joint, action: SafeAction) -> Option<f64> {
        match (joint.kind, action) {
            (CommandKind::PositionRadians, SafeAction::ReturnHome) if self.are_positions => {
                Some(joint.nearest(joint.home))
            }
            (CommandKind::PositionRadians, _) => None,
            (CommandKind::TorqueNormalised | CommandKind::TorqueNewtonMetres, SafeAction::Hold) => None,
            _ => Some(joint.quiet()),
        }
    }

    /// Whether the links could be stopped inside the box from here; commanded positions answer for themselves.
    pub(super) fn can_stop_inside(&self, joints: &JointState) -> bool {
        let Some(workspace) = self.workspace.as_ref().filter(|_| !self.are_positions) else { return true };
        let states = joints.positions.iter().zip(&joints.velocities).zip(&self.joints);
        let stopped = states.clone().map(|((position, velocity), joint)| position + joint.travel(*velocity));
        workspace.contains(joints.positions.iter().copied(), 0.0, None) && workspace.contains(stopped, 0.0, None)
    }

    /// Every joint towards its target, or the largest part of it that keeps the workspace; gives the joints held back.
    fn go(&mut self, elapsed: f64) -> u32 {
        let num_joints = u32::try_from(self.joints.len()).unwrap_or(u32::MAX);
        self.is_stuck = false;
        if let Some(share) = self.largest_share(elapsed, None) {
            self.is_entering = false;
            return if share < 1.0 { num_joints } else { 0 };
        }
        // An arm that came to rest nearer to a side than a step's margin would never leave it.
        self.is_entering |= self.joints.iter().all(|joint| joint.motion == Motion::at_rest(joint.motion.value));
        if let Some(workspace) = self.workspace.as_ref().filter(|_| self.is_entering) {
            let room = workspace.reached(self.joints.iter().map(|joint| joint.motion.value));
            if self.largest_share(elapsed, Some(&room)).is_some() {
                return num_joints;
            }
            self.is_stuck = room.is_outside;
        }
        // The whole stop was looked at before the last step was taken.
        self.joints.iter_mut().for_each(|joint| joint.take(brake(&joint.limits, joint.motion, elapsed)));
        num_joints
    }

    /// Takes the largest part of the way to the targets that keeps the workspace, or a room beyond it; gives that part, if there is one.
    fn largest_share(&mut self, elapsed: f64, room: Option<&Room>) -> Option<f64> {
        for share in SHARES {
            for joint in &mut self.joints {
                let target = joint.motion.value + share * (joint.target - joint.motion.value);
                joint.next = advance(&joint.limits, joint.motion, target, elapsed);
            }
            if self.keeps_workspace(elapsed, room) {
                self.joints.iter_mut().for_each(|joint| joint.take(joint.next));
                return Some(share);
            }
        }
        None
    }

    /// Whether the step and the whole stop after it stay in the box: poses close enough that nothing leaves it between them.
    fn keeps_workspace(&self, elapsed: f64, room: Option<&Room>) -> bool {
        let Some(workspace) = self.workspace.as_ref().filter(|_| self.are_positions) else { return true };
        // Between two poses no joint turns by more than it does at its greatest rate, and half of it from the nearer one.
        let step = self.joints.iter().map(|joint| joint.limits.rate.min(joint.peak_rate(elapsed)) * elapsed / 2.0);
        let margin = workspace.travel(step);
        if !workspace.contains(self.joints.iter().map(|joint| joint.next.value), margin, room) {
            return false;
        }
        let seconds = self.joints.iter().map(|joint| stop_seconds(&joint.limits, joint.next)).fold(0.0, f64::max);
        if seconds == 0.0 {
            return true;
        }
        let between = seconds / f64::from(NUM_POSES);
        let turned = self.joints.iter().map(|joint| joint.peak_rate(0.0) * between / 2.0);
        let margin = workspace.travel(turned);
        (1..=NUM_POSES).all(|pose| {
            let at = between * f64::from(pose);
            workspace.contains(self.joints.iter().map(|joint| brake(&joint.limits, joint.next, at).value), margin, room)
        })
    }
}

impl Joint {
    fn of(joint: &JointProfile) -> Self {
        let declared = MotionLimits::of(joint);
        let is_continuous = joint.continuous && is_position(joint.command);
        let limits = match is_continuous {
            true => MotionLimits { minimum: f64::NEG_INFINITY, maximum: f64::INFINITY, ..declared },
            false => declared,
        };
        let home = joint.home.filter(|home| home.is_finite()).unwrap_or(0.0);
        let home = bound(home, declared.minimum, declared.maximum);
        let motion = Motion::at_rest(home);
        Self {
            name: joint.name.clone(),
            kind: joint.command,
            declared: limits,
            limits,
            minimum: declared.minimum,
            maximum: declared.maximum,
            is_continuous,
            home,
            damping: joint.damping_per_radian_per_second,
            position: joint.position,
            motion,
            next: motion,
            target: home,
        }
    }

    fn begin(&mut self, value: f64) {
        self.motion = Motion::at_rest(value);
        self.limits = self.declared.reaching(value);
    }

    /// Takes up a motion; what was passed on the way back into the range is out of reach from then on.
    fn take(&mut self, motion: Motion) {
        self.motion = motion;
        if self.limits != self.declared {
            let limits = self.declared.reaching(motion.value);
            self.limits = if is_viable(&limits, motion) { limits } else { self.limits };
        }
    }

    /// What is asked for: in the range, or the same angle nearest to where a continuous joint is.
    fn asked(&self, wanted: f64) -> f64 {
        if self.is_continuous { self.nearest(wanted) } else { bound(wanted, self.minimum, self.maximum) }
    }

    fn may_be_asked(&self, wanted: f64) -> bool {
        (self.minimum..=self.maximum).contains(&wanted)
    }

    /// The same angle with the turns of a continuous joint: the shortest way there.
    fn nearest(&self, angle: f64) -> f64 {
        if self.is_continuous { angle + TAU * ((self.motion.value - angle) / TAU).round() } else { angle }
    }

    /// Within reach of a joint limit, what may still be wanted.
    fn towards(&self, wanted: f64, measured: Option<(f64, f64)>, period: f64) -> f64 {
        let (Some(limits), Some((position, velocity))) = (self.position, measured) else { return wanted };
        let braking = limits.braking_radians_per_second_squared;
        let (below, above) = (position - limits.minimum_radians, limits.maximum_radians - position);
        match self.kind {
            CommandKind::PositionRadians => wanted,
            CommandKind::VelocityRadiansPerSecond => {
                bound(wanted, -fastest(below, braking, period), fastest(above, braking, period))
            }
            CommandKind::TorqueNormalised | CommandKind::TorqueNewtonMetres => {
                let needed = velocity * velocity / (2.0 * braking) + velocity.abs() * 2.0 * period;
                let is_near_top = above <= if velocity > 0.0 { needed } else { 0.0 };
                let is_near_bottom = below <= if velocity < 0.0 { needed } else { 0.0 };
                let low = if is_near_bottom { self.quiet() } else { f64::NEG_INFINITY };
                let high = if is_near_top { self.quiet() } else { f64::INFINITY };
                bound(wanted, low, high)
            }
        }
    }

    fn safe(&self, action: SafeAction, measured: Option<(f64, f64)>, elapsed: f64) -> Motion {
        let quiet = self.quiet();
        match (self.kind, action) {
            (CommandKind::PositionRadians, _) => brake(&self.limits, self.motion, elapsed),
            (CommandKind::VelocityRadiansPerSecond, _) => advance(&self.limits, self.motion, quiet, elapsed),
            (_, SafeAction::Hold) => brake(&self.limits, self.motion, elapsed),
            (_, SafeAction::Damp) => {
                let against = measured.map_or(quiet, |(_, velocity)| -self.damping * velocity);
                advance(&self.limits, self.motion, against, elapsed)
            }
            (_, SafeAction::Stop | SafeAction::ReturnHome) => advance(&self.limits, self.motion, quiet, elapsed),
        }
    }

    /// The value nearest to zero in the joint's range: no speed, no torque.
    fn quiet(&self) -> f64 {
        bound(0.0, self.minimum, self.maximum)
    }

    /// Radians to a stop from this measured velocity, where the profile says how it brakes.
    fn travel(&self, velocity: f64) -> f64 {
        let braking = self.position.map(|limits| limits.braking_radians_per_second_squared);
        braking.map_or(0.0, |braking| velocity * velocity.abs() / (2.0 * braking))
    }

    /// No faster than this within a step of `elapsed` seconds that ends in `next`, and on the stop after it.
    fn peak_rate(&self, elapsed: f64) -> f64 {
        let limits = &self.limits;
        if !limits.acceleration.is_finite() {
            let turned = (self.next.value - self.motion.value).abs();
            return if elapsed > 0.0 { turned / elapsed } else { 0.0 };
        }
        let during = limits.acceleration * elapsed;
        let rising = if limits.jerk.is_finite() && limits.jerk > 0.0 {
            self.next.acceleration * self.next.acceleration / (2.0 * limits.jerk)
        } else {
            0.0
        };
        limits.rate.min(self.motion.rate.abs().max(self.next.rate.abs()) + during + rising)
    }
}

fn measured(joints: Option<&JointState>, joint_idx: usize) -> Option<(f64, f64)> {
    let joints = joints?;
    Some((*joints.positions.get(joint_idx)?, *joints.velocities.get(joint_idx)?))
}

/// The speed from which `distance` suffices to brake, when the joint follows two periods late. Close to the limit the speed is the
/// distance over the delay, and d[k+1] = d[k] - period / delay * d[k-2] does not overshoot while period / delay <= 4/27.
fn fastest(distance: f64, braking: f64, period: f64) -> f64 {
    let delay = 7.0 * period;
    let distance = distance.max(0.0);
    braking * ((delay * delay + 2.0 * distance / braking).sqrt() - delay)
}
