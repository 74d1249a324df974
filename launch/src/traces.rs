//! Joints and commands over time: what a robot's run shows, where no simulator tells of episodes.

use foresee_firmware_config::{CommandKind, DeviceProfile};
use foresee_runtime::{Observation, SafeCommand, Stamp};

/// Samples kept of a run; when there are more, every second one is let go, again and again.
const MAX_SAMPLES: usize = 1000;
/// Joints that the line on a terminal has room for.
const NUM_SHOWN: usize = 7;

/// Positions and commands of every joint, thinned out to a bounded number. Nothing is allocated after it is made.
#[derive(Default)]
pub(crate) struct Traces {
    joints: Vec<(String, CommandKind)>,
    first: Option<Stamp>,
    /// Every which tick is kept, and how many have passed since the last one kept.
    stride: usize,
    num_passed: usize,
    seconds: Vec<f64>,
    /// Positions, then commands, joint by joint of each sample; not a number where there was none.
    values: Vec<f64>,
}

/// Curves of one chart.
pub(crate) struct Chart {
    /// Quantity and unit.
    pub(crate) label: &'static str,
    /// Name and points (seconds, value) of each joint.
    pub(crate) curves: Vec<(String, Vec<(f64, f64)>)>,
}

impl Traces {
    /// For a profile's joints.
    pub(crate) fn of(profile: &DeviceProfile) -> Self {
        let joints: Vec<_> = profile.joints.iter().map(|joint| (joint.name.clone(), joint.command)).collect();
        let num_values = (MAX_SAMPLES + 1) * 2 * joints.len();
        Self {
            joints,
            first: None,
            stride: 1,
            num_passed: 0,
            seconds: Vec::with_capacity(MAX_SAMPLES + 1),
            values: Vec::with_capacity(num_values),
        }
    }

    /// Takes what one tick saw and sent.
    pub(crate) fn take(&mut self, observation: &Observation, command: &SafeCommand) {
        self.add(observation.frame.stamp, &observation.joints.positions, command.values());
    }

    fn add(&mut self, stamp: Stamp, positions: &[f64], command: &[f64]) {
        self.num_passed += 1;
        if self.num_passed < self.stride {
            return;
        }
        self.num_passed = 0;
        let first = *self.first.get_or_insert(stamp);
        self.seconds.push(stamp.since(first).as_secs_f64());
        for values in [positions, command] {
            let known = values.iter().copied().chain(std::iter::repeat(f64::NAN));
            self.values.extend(known.take(self.joints.len()));
        }
        if self.seconds.len() > MAX_SAMPLES {
            let width = 2 * self.joints.len();
            let mut sample_idx = 0..;
            self.seconds.retain(|_| sample_idx.next().is_some_and(|idx: usize| idx.is_multiple_of(2)));
            let mut value_idx = 0..;
            let sample = |idx: usize| idx.checked_div(width).unwrap_or_default();
            self.values.retain(|_| value_idx.next().is_some_and(|idx| sample(idx).is_multiple_of(2)));
            self.stride *= 2;
        }
    }

    /// The latest positions and commands, for a line on a terminal.
    pub(crate) fn text(&self) -> String {
        let latest = self.values.get(self.values.len().saturating_sub(2 * self.joints.len())..).unwrap_or_default();
        let (positions, commands) = latest.split_at_checked(self.joints.len()).unwrap_or_default();
        let list = |values: &[f64]| {
            let shown: Vec<String> = values.iter().take(NUM_SHOWN).map(|value| format!("{value:+.2}")).collect();
            let more = if values.len() > NUM_SHOWN { " .." } else { "" };
            format!("[{}{more}]", shown.join(" "))
        };
        let seconds = self.seconds.last().copied().unwrap_or_default();
        format!("{seconds:>7.1} s  joints {}  commands {}", list(positions), list(commands))
    }

    /// How long the run was, by the frames' stamps.
    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.last().copied().unwrap_or_default()
    }

    /// One chart of the positions, and one of each kind of command.
    pub(crate) fn charts(&self) -> Vec<Chart> {
        let curve = |(idx, (name, _)): (usize, &(String, CommandKind)), offset: usize| {
            let samples = self.values.chunks(2 * self.joints.len().max(1));
            let points = self.seconds.iter().zip(samples);
            let points = points.filter_map(|(seconds, values)| Some((*seconds, *values.get(offset + idx)?)));
            (name.clone(), points.filter(|(_, value)| value.is_finite()).collect::<Vec<_>>())
        };
        let joints = || self.joints.iter().enumerate();
        let mut charts =
            vec![Chart { label: "position (rad or m)", curves: joints().map(|joint| curve(joint, 0)).collect() }];
        let kinds = [
            (CommandKind::PositionRadians, "position command (rad)"),
            (CommandKind::VelocityRadiansPerSecond, "velocity command (rad/s)"),
            (CommandKind::TorqueNewtonMetres, "torque command (N m)"),
            (CommandKind::TorqueNormalised, "torque command (share of full)"),
        ];
        for (kind, label) in kinds {
            let of_kind = joints().filter(|(_, (_, of))| *of == kind);
            let curves: Vec<_> = of_kind.map(|joint| curve(joint, self.joints.len())).collect();
            if !curves.is_empty() {
                charts.push(Chart { label, curves });
            }
        }
        charts.retain(|chart| chart.curves.iter().any(|(_, points)| !points.is_empty()));
        charts
    }
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::load;

    use super::*;

    #[test]
    fn a_long_run_is_thinned_out_without_allocating() {
        let profile = load("desktop-sim").unwrap();
        let mut traces = Traces::of(&profile);
        assert_eq!(traces.joints.len(), 2);
        let capacity = (traces.seconds.capacity(), traces.values.capacity());
        for tick in 0..10_000_u64 {
            let at = tick as f64 * 0.02;
            let command = [at.sin(), at.cos()];
            traces.add(Stamp { nanos: tick * 20_000_000 }, &[at, -at], if tick < 500 { &[] } else { &command });
        }
        assert_eq!((traces.seconds.capacity(), traces.values.capacity()), capacity);
        assert!((500..=MAX_SAMPLES).contains(&traces.seconds.len()), "{}", traces.seconds.len());
        assert!((traces.seconds() - 199.98).abs() < 0.5, "{}", traces.seconds());
        let charts = traces.charts();
        let [positions, commands] = charts.as_slice() else { panic!("{} charts", charts.len()) };
        assert!(positions.curves.iter().all(|(_, points)| points.len() == traces.seconds.len()));
        for (seconds, value) in &positions.curves[1].1 {
            assert!((seconds + value).abs() < 1e-9, "{seconds} {value}");
        }
        let (_, points) = &commands.curves[0];
        assert!(points[0].0 >= 10.0 && points.iter().all(|(seconds, value)| (seconds.sin() - value).abs() < 1e-9));
        assert!(traces.text().contains("joints [+") && traces.text().contains("commands ["), "{}", traces.text());
    }

    #[test]
    fn a_robot_without_joints_has_no_charts() {
        let mut traces = Traces::default();
        traces.add(Stamp::default(), &[], &[]);
        assert!(traces.charts().is_empty());
    }
}
