//! One joint's command as a motion in continuous time: range, rate, acceleration and jerk hold together, whatever is wanted.
//!
//! A command is a sample of a trajectory of constant jerk (or constant acceleration where no jerk is limited). Its invariant
//! ([`is_viable`]): from here the quickest stop stays within every limit. A step is taken only into a state that keeps the
//! invariant; where none towards the target does, the quickest stop itself is followed, and the rest of a stop that stayed within
//! the limits does so too. So there always is a next command, and limits never have to be traded against each other. Since the
//! limits hold in continuous time they hold for every pair of samples, whatever the jitter of the ticks. The approach is that of
//! online trajectory generation with a braking fall-back: R. Haschke, E. Weitnauer, H. Ritter, "On-line planning of time-optimal,
//! jerk-limited trajectories", IROS 2008; and of backup-policy safety filters (K. Wabersich, M. Zeilinger, 2021).

use foresee_firmware_config::JointProfile;

/// Limits are kept to within this share, so that rounding never carries a sample across the ones that were declared.
const MARGIN: f64 = 1e-9;
/// Steps inside one tick: each takes up one acceleration.
const NUM_STEPS: u32 = 2;
/// Halvings when a control is searched.
const NUM_HALVINGS: u32 = 40;
/// A stop that ends as near to the target as this ends there.
const NEAR: f64 = 1e-9;

/// What one joint's command may do. An infinite acceleration or jerk is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct MotionLimits {
    pub(super) minimum: f64,
    pub(super) maximum: f64,
    pub(super) rate: f64,
    pub(super) acceleration: f64,
    pub(super) jerk: f64,
}

impl MotionLimits {
    /// Of a joint. Limits that are not finite or upside down, which no checked profile has, leave the joint at zero.
    pub(super) fn of(joint: &JointProfile) -> Self {
        let is_sound = joint.minimum.is_finite() && joint.maximum.is_finite() && joint.minimum <= joint.maximum;
        let (minimum, maximum) = if is_sound { (joint.minimum, joint.maximum) } else { (0.0, 0.0) };
        let tame = |limit: f64| if limit.is_finite() { limit.max(0.0) } else { 0.0 };
        let optional = |limit: Option<f64>| limit.map_or(f64::INFINITY, |limit| tame(limit) * (1.0 - MARGIN));
        let acceleration = optional(joint.max_acceleration_per_second_squared);
        // Without a limited acceleration there is no jerk to speak of.
        let jerk = if acceleration.is_finite() { optional(joint.max_jerk_per_second_cubed) } else { f64::INFINITY };
        // With a rate alone the step itself is exact.
        let rate = tame(joint.max_rate_per_second) * if acceleration.is_finite() { 1.0 - MARGIN } else { 1.0 };
        Self { minimum, maximum, rate, acceleration, jerk }
    }

    /// The same, out to a value outside the range.
    pub(super) fn reaching(&self, value: f64) -> Self {
        Self { minimum: self.minimum.min(value), maximum: self.maximum.max(value), ..*self }
    }

    fn has_acceleration(&self) -> bool {
        self.acceleration.is_finite()
    }

    fn has_jerk(&self) -> bool {
        self.jerk.is_finite()
    }
}

/// Where a command is and how it moves, in command units and seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Motion {
    pub(super) value: f64,
    pub(super) rate: f64,
    pub(super) acceleration: f64,
}

/// A stretch of constant jerk that begins with this acceleration.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Segment {
    seconds: f64,
    acceleration: f64,
    jerk: f64,
}

impl Motion {
    pub(super) fn at_rest(value: f64) -> Self {
        Self { value, rate: 0.0, acceleration: 0.0 }
    }

    /// As fast as the limits allow, and as far from a stop.
    pub(super) fn fastest(limits: &MotionLimits) -> Self {
        let rate = if limits.has_acceleration() { limits.rate } else { 0.0 };
        Self { value: 0.0, rate, acceleration: if limits.has_jerk() { limits.acceleration } else { 0.0 } }
    }

    fn after(self, segment: Segment, seconds: f64) -> Self {
        let Segment { acceleration, jerk, .. } = segment;
        Self {
            value: self.value + seconds * (self.rate + seconds * (acceleration / 2.0 + seconds * jerk / 6.0)),
            rate: self.rate + seconds * (acceleration + seconds * jerk / 2.0),
            acceleration: acceleration + seconds * jerk,
        }
    }
}

/// The motion after `seconds` (not negative), as near to `target` (finite) as the limits allow; there it comes to rest.
pub(super) fn advance(limits: &MotionLimits, motion: Motion, target: f64, seconds: f64) -> Motion {
    let target = bound(target, limits.minimum, limits.maximum);
    if !limits.has_acceleration() {
        let most = limits.rate * seconds;
        let value = bound(target, motion.value - most, motion.value + most);
        // Rounding must not carry a value across its limit.
        return Motion::at_rest(bound(value, limits.minimum, limits.maximum));
    }
    if seconds <= 0.0 || motion == Motion::at_rest(target) {
        return motion;
    }
    let step = seconds / f64::from(NUM_STEPS);
    (0..NUM_STEPS).fold(motion, |motion, _| advance_step(limits, motion, target, step))
}

/// The motion after `seconds` of the quickest stop.
pub(super) fn brake(limits: &MotionLimits, motion: Motion, seconds: f64) -> Motion {
    let mut motion = motion;
    let mut left = seconds.max(0.0);
    for segment in stop(limits, motion) {
        if left < segment.seconds {
            let motion = motion.after(segment, left);
            return Motion { value: bound(motion.value, limits.minimum, limits.maximum), ..motion };
        }
        left -= segment.seconds;
        motion = follow(motion, &[segment]);
    }
    Motion::at_rest(bound(motion.value, limits.minimum, limits.maximum))
}

/// Seconds that the quickest stop takes.
pub(super) fn stop_seconds(limits: &MotionLimits, motion: Motion) -> f64 {
    stop(limits, motion).iter().map(|segment| segment.seconds).sum()
}

/// Seconds in which the target is certainly reached, at rest: a stop, and the way from there as if each limit in turn were all that slows it.
pub(super) fn reach_seconds(limits: &MotionLimits, motion: Motion, target: f64) -> f64 {
    let way = (bound(target, limits.minimum, limits.maximum) - stop_value(limits, motion)).abs();
    if way == 0.0 {
        return stop_seconds(limits, motion);
    }
    let by_acceleration = 2.0 * (way / limits.acceleration).sqrt();
    let by_jerk = (32.0 * way / limits.jerk).cbrt();
    stop_seconds(limits, motion) + way / limits.rate + by_acceleration + by_jerk
}

/// Whether the quickest stop from here stays within every limit.
pub(super) fn is_viable(limits: &MotionLimits, motion: Motion) -> bool {
    let mut motion = motion;
    for segment in stop(limits, motion) {
        if !stays_within(limits, motion, segment) {
            return false;
        }
        motion = follow(motion, &[segment]);
    }
    is_within(limits, motion)
}

fn advance_step(limits: &MotionLimits, motion: Motion, target: f64, seconds: f64) -> Motion {
    if (stop_value(limits, motion) - target).abs() <= NEAR {
        // One acceleration for the whole step would leave the target again, and the joint would tremble about it for ever.
        return brake(limits, motion, seconds);
    }
    let Some(acceleration) = choose(limits, motion, target, seconds) else { return brake(limits, motion, seconds) };
    let motion = follow(motion, &step(limits, motion, acceleration, seconds));
    Motion { value: bound(motion.value, limits.minimum, limits.maximum), ..motion }
}

/// The acceleration to take up that goes furthest towards the target without having to pass it, if one keeps the invariant.
fn choose(limits: &MotionLimits, motion: Motion, target: f64, seconds: f64) -> Option<f64> {
    let is_upwards = stop_value(limits, motion) <= target;
    let towards = limits.acceleration.copysign(if is_upwards { 1.0 } else { -1.0 });
    let is_good = |acceleration: f64| {
        let mut now = motion;
        for segment in step(limits, motion, acceleration, seconds) {
            if !stays_within(limits, now, segment) {
                return false;
            }
            now = follow(now, &[segment]);
        }
        let stopped = stop_value(limits, now);
        let passes = if is_upwards { stopped > target } else { stopped < target };
        !passes && is_viable(limits, now)
    };
    if is_good(towards) {
        return Some(towards);
    }
    // The furthest away may leave the limits on the other side.
    let anchors = [-1.0, 0.0, -0.5, -0.1].map(|share| share * towards);
    let mut good = anchors.into_iter().find(|acceleration| is_good(*acceleration))?;
    // Both reasons to refuse grow with the acceleration, so the border is one point; what is returned was tested itself.
    let mut bad = towards;
    for _ in 0..NUM_HALVINGS {
        let middle = 0.5 * (good + bad);
        if is_good(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

/// To this acceleration as fast as the jerk allows, and on with it.
fn step(limits: &MotionLimits, motion: Motion, acceleration: f64, seconds: f64) -> [Segment; 2] {
    let held = Segment { seconds, acceleration, jerk: 0.0 };
    if !limits.has_jerk() {
        return [Segment::default(), held];
    }
    let change = acceleration - motion.acceleration;
    let needed = if change == 0.0 { 0.0 } else { change.abs() / limits.jerk };
    let ramp =
        Segment { seconds: needed.min(seconds), acceleration: motion.acceleration, jerk: limits.jerk.copysign(change) };
    [ramp, Segment { seconds: (seconds - needed).max(0.0), ..held }]
}

fn follow(motion: Motion, segments: &[Segment]) -> Motion {
    segments
        .iter()
        .filter(|segment| segment.seconds > 0.0)
        .fold(motion, |motion, segment| motion.after(*segment, segment.seconds))
}

/// Where the quickest stop ends.
fn stop_value(limits: &MotionLimits, motion: Motion) -> f64 {
    follow(motion, &stop(limits, motion)).value
}

/// The quickest way to rest: time-optimal in rate and acceleration, and the same whenever it is asked for on its way.
fn stop(limits: &MotionLimits, motion: Motion) -> [Segment; 3] {
    let mut segments = [Segment::default(); 3];
    let Motion { rate, acceleration, .. } = motion;
    let [first, second, third] = &mut segments;
    if !limits.has_jerk() {
        if rate != 0.0 && limits.has_acceleration() {
            let braking = -limits.acceleration.copysign(rate);
            *first = Segment { seconds: rate / -braking, acceleration: braking, jerk: 0.0 };
        }
        return segments;
    }
    let jerk = limits.jerk;
    // The rate that is left when the acceleration alone is taken away.
    let left = rate + acceleration * acceleration.abs() / (2.0 * jerk);
    if left == 0.0 || jerk == 0.0 {
        if acceleration != 0.0 && jerk > 0.0 {
            *first = Segment { seconds: acceleration.abs() / jerk, acceleration, jerk: -jerk.copysign(acceleration) };
        }
        return segments;
    }
    let sign = 1.0_f64.copysign(left);
    let (rate, acceleration) = (sign * rate, sign * acceleration);
    let peak = (jerk * rate + acceleration * acceleration / 2.0).max(0.0).sqrt().min(limits.acceleration);
    let to_lose = rate + acceleration * acceleration / (2.0 * jerk) - peak * peak / jerk;
    *first = Segment {
        seconds: ((acceleration + peak) / jerk).max(0.0),
        acceleration: sign * acceleration,
        jerk: -sign * jerk,
    };
    if peak > 0.0 {
        *second = Segment { seconds: (to_lose / peak).max(0.0), acceleration: -sign * peak, jerk: 0.0 };
    }
    *third = Segment { seconds: peak / jerk, acceleration: -sign * peak, jerk: sign * jerk };
    segments
}

/// Whether every moment of the segment is within the limits: its end, and wherever value or rate turn round.
fn stays_within(limits: &MotionLimits, motion: Motion, segment: Segment) -> bool {
    let Segment { seconds, acceleration, jerk } = segment;
    if seconds <= 0.0 {
        return true;
    }
    let turns = {
        let discriminant = acceleration * acceleration - 2.0 * jerk * motion.rate;
        let root = discriminant.max(0.0).sqrt();
        let linear = -motion.rate / acceleration;
        if jerk == 0.0 { [linear; 2] } else { [(-acceleration - root) / jerk, (-acceleration + root) / jerk] }
    };
    let times = [seconds, turns[0], turns[1], -acceleration / jerk];
    // A time that is no number (no such turn) lies in no segment.
    let mut times = times.into_iter().filter(|at| *at > 0.0 && *at <= seconds);
    times.all(|at| is_within(limits, motion.after(segment, at)))
}

fn is_within(limits: &MotionLimits, motion: Motion) -> bool {
    let slack = 1e-12 * (1.0 + limits.minimum.abs().max(limits.maximum.abs()));
    motion.value >= limits.minimum - slack
        && motion.value <= limits.maximum + slack
        && motion.rate.abs() <= limits.rate * (1.0 + 0.1 * MARGIN)
        && motion.acceleration.abs() <= limits.acceleration * (1.0 + 0.1 * MARGIN)
}

/// Unlike `clamp` this has no bounds on which it panics.
pub(super) fn bound(value: f64, low: f64, high: f64) -> f64 {
    value.max(low).min(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: f64, acceleration: f64, jerk: f64) -> MotionLimits {
        MotionLimits { minimum: -1.0, maximum: 2.0, rate, acceleration, jerk }
    }

    /// Every order of limits, tight and wide against each other.
    fn grid() -> Vec<MotionLimits> {
        let mut all = Vec::new();
        for rate in [0.1, 3.0, 100.0] {
            all.push(limits(rate, f64::INFINITY, f64::INFINITY));
            for acceleration in [0.5, 20.0, 5000.0] {
                all.push(limits(rate, acceleration, f64::INFINITY));
                all.extend([3.0, 400.0, 1e6].map(|jerk| limits(rate, acceleration, jerk)));
            }
        }
        all
    }

    fn shares() -> impl Iterator<Item = f64> + Clone {
        (-6..=6).map(|step| f64::from(step) / 6.0)
    }

    /// Every state of the grid that is viable.
    fn states(limits: MotionLimits) -> impl Iterator<Item = Motion> {
        let values = (0..=12).map(move |step| -1.0 + f64::from(step) * 0.25);
        let cap = |limit: f64| if limit.is_finite() { limit } else { 0.0 };
        let (rate, acceleration) = (
            if limits.has_acceleration() { limits.rate } else { 0.0 },
            if limits.has_jerk() { cap(limits.acceleration) } else { 0.0 },
        );
        let all = values.flat_map(move |value| {
            shares().flat_map(move |of_rate| {
                shares().map(move |share| Motion { value, rate: of_rate * rate, acceleration: share * acceleration })
            })
        });
        all.filter(move |motion| is_viable(&limits, *motion))
    }

    #[test]
    fn on_the_whole_grid_every_limit_holds_and_the_next_state_is_viable_again() {
        let mut num_steps = 0_u64;
        for limits in grid() {
            for motion in states(limits) {
                for target in [-1.0, -0.3, 0.0, 1.7, 2.0, 1e9] {
                    for seconds in [0.0, 1e-6, 0.002, 0.04] {
                        let next = advance(&limits, motion, target, seconds);
                        check(&limits, motion, next, seconds);
                        num_steps += 1;
                    }
                }
                check(&limits, motion, brake(&limits, motion, 0.013), 0.013);
                let rest = brake(&limits, motion, stop_seconds(&limits, motion) * (1.0 + 1e-9) + 1e-9);
                assert_eq!((rest.rate, rest.acceleration), (0.0, 0.0), "{limits:?} {motion:?}");
            }
        }
        assert!(num_steps > 200_000, "{num_steps}");
    }

    /// In ticks of 20 ms, from some of the states, and with the patience of the watchdog.
    #[test]
    fn a_target_is_reached_in_the_time_that_the_limits_need() {
        for limits in grid() {
            for motion in states(limits).step_by(97) {
                for target in [0.0, -1.0, 2.0] {
                    let seconds = 2.0 * reach_seconds(&limits, motion, target) + 1.0;
                    let num_ticks = (seconds / 0.02) as u32;
                    let reached = (0..num_ticks).fold(motion, |motion, _| advance(&limits, motion, target, 0.02));
                    let is_there = (reached.value - target).abs() < 1e-6 && reached.rate.abs() < 1e-6;
                    assert!(is_there, "{limits:?}\n{motion:?}\n{reached:?} after {seconds} s");
                }
            }
        }
    }

    fn check(limits: &MotionLimits, motion: Motion, next: Motion, seconds: f64) {
        let told = || format!("{limits:?}\n{motion:?}\n{next:?} after {seconds} s");
        // Half of what is kept free of the declared limits is left for rounding.
        let half = 1.0 + 0.5 * MARGIN;
        let rounded = MotionLimits { rate: limits.rate * half, acceleration: limits.acceleration * half, ..*limits };
        assert!(is_viable(&rounded, next), "{}", told());
        assert!(next.value >= limits.minimum && next.value <= limits.maximum, "{}", told());
        let wide = 1.0 + MARGIN;
        let change = (next.value - motion.value).abs();
        assert!(change <= limits.rate * wide * seconds + 1e-15, "{}", told());
        if limits.has_acceleration() {
            let change = (next.rate - motion.rate).abs();
            assert!(change <= limits.acceleration * wide * seconds + 1e-12 * limits.rate, "{}", told());
        }
        if limits.has_jerk() {
            let change = (next.acceleration - motion.acceleration).abs();
            assert!(change <= limits.jerk * wide * seconds + 1e-12 * limits.acceleration, "{}", told());
        }
    }

    #[test]
    fn it_arrives_and_rests_and_not_much_later_than_a_perfect_driver() {
        for limits in grid() {
            for (from, to) in [(-1.0, 2.0), (2.0, -1.0), (0.0, 0.01)] {
                let distance: f64 = f64::abs(to - from);
                // Upper bounds of each phase by itself.
                let accelerating =
                    if limits.has_acceleration() { (distance / limits.acceleration).sqrt() * 2.0 } else { 0.0 };
                let jerking = if limits.has_jerk() { (distance / limits.jerk).cbrt() * 4.0 } else { 0.0 };
                let ramp = if limits.has_jerk() { limits.acceleration / limits.jerk * 2.0 } else { 0.0 };
                let cruise = if limits.has_acceleration() { limits.rate / limits.acceleration * 2.0 } else { 0.0 };
                let perfect = distance / limits.rate
                    + accelerating.min(cruise.max(accelerating))
                    + jerking
                    + ramp.min(4.0 * jerking);
                let (tick, mut elapsed, mut motion) = (0.01, 0.0, Motion::at_rest(from));
                while (motion.value - to).abs() > 1e-3 * distance && elapsed < 3.0 * perfect + 1.0 {
                    motion = advance(&limits, motion, to, tick);
                    elapsed += tick;
                }
                assert!(elapsed < 1.5 * perfect + 0.2, "{limits:?} {from} to {to}: {elapsed} s, perfect {perfect}");
                for _ in 0..300 {
                    motion = advance(&limits, motion, to, tick);
                }
                assert!((motion.value - to).abs() < 1e-3 * distance, "{limits:?}: {motion:?}");
            }
        }
    }
}
