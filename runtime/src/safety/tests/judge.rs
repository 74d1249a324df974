//! A judge of commands who knows nothing of how they were made.

use foresee_firmware_config::JointProfile;

use crate::safety::{SafeCommand, is_position};

/// Range, rate, acceleration and jerk of commands, from nothing but the commands: divided differences of the samples.
pub(super) struct Judge {
    joints: Vec<JointProfile>,
    samples: Vec<Vec<(f64, f64)>>,
    /// The last value of each joint: what is outside the range only comes back in.
    last: Vec<Option<f64>>,
}

impl Judge {
    pub(super) fn new(joints: &[JointProfile]) -> Self {
        Self { joints: joints.to_vec(), samples: vec![Vec::new(); joints.len()], last: vec![None; joints.len()] }
    }

    pub(super) fn forget(&mut self) {
        self.samples.iter_mut().for_each(Vec::clear);
        self.last.fill(None);
    }

    /// Where the joints were measured before the first command: a position goes on from there, inside its range or not.
    pub(super) fn begin(&mut self, measured: &[f64]) {
        let joints = self.joints.iter().zip(self.samples.iter_mut().zip(&mut self.last));
        for ((joint, (samples, last)), position) in joints.zip(measured) {
            if is_position(joint.command) {
                samples.push((0.0, *position));
                *last = Some(*position);
            }
        }
    }

    /// `seconds`: granted since the command before.
    pub(super) fn look(&mut self, command: &SafeCommand, seconds: f64) -> Result<(), String> {
        let joints = self.joints.iter().zip(self.samples.iter_mut().zip(&mut self.last));
        for ((joint, (samples, before)), value) in joints.zip(command.values()) {
            let before = before.replace(*value).unwrap_or(joint.minimum);
            let (low, high) = (joint.minimum.min(before), joint.maximum.max(before));
            if !(value.is_finite() && joint.continuous || (low..=high).contains(value)) {
                return Err(format!("{value} leaves {low} to {high}"));
            }
            let last = samples.last().copied();
            if seconds < 1e-4 && last.is_some() {
                if last.is_some_and(|(_, last)| (last - value).abs() > joint.max_rate_per_second * seconds + 1e-12) {
                    return Err(format!("{last:?} to {value} in {seconds} s"));
                }
                // Differences over next to no time say nothing; the run of samples begins anew.
                samples.clear();
                continue;
            }
            let at = last.map_or(0.0, |(at, _)| at) + seconds;
            samples.push((at, *value));
            if samples.len() > 4 {
                samples.remove(0);
            }
            // Near zero, where times are exact: an hour in, their rounding alone would be a jerk.
            let begin = samples.first().map_or(0.0, |(at, _)| *at);
            samples.iter_mut().for_each(|(at, _)| *at -= begin);
            Self::differences(joint, samples)?;
        }
        Ok(())
    }

    fn differences(joint: &JointProfile, samples: &[(f64, f64)]) -> Result<(), String> {
        let largest = joint.minimum.abs().max(joint.maximum.abs()).max(1.0);
        let shortest = samples.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(f64::INFINITY, f64::min);
        let mut column: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
        let orders = [
            Some(joint.max_rate_per_second),
            joint.max_acceleration_per_second_squared,
            joint.max_jerk_per_second_cubed,
        ];
        let mut factorial = 1.0;
        for (order, limit) in (1_usize..).zip(orders) {
            if column.len() < 2 {
                break;
            }
            factorial *= order as f64;
            column = (0..column.len() - 1)
                .map(|idx| (column[idx + 1] - column[idx]) / (samples[idx + order].0 - samples[idx].0))
                .collect();
            // What rounding of the samples can make of it.
            let rounding = 64.0 * f64::EPSILON * largest / shortest.powi(order as i32);
            let Some(limit) = limit else { continue };
            for difference in &column {
                if (difference * factorial).abs() > limit + rounding {
                    return Err(format!("order {order}: {} above {limit}: {samples:?}", difference * factorial));
                }
            }
        }
        Ok(())
    }
}
