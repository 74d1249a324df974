//! What is wrong with demonstrations, found before a frame is encoded: values that are not finite or out of range, frames without a label.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile};
use serde::Serialize;

use super::track::{Label, Track, millis};
use crate::error::PoliciesError;

/// The largest share of a joint's values in a log that may lie out of range, without leave.
pub(super) const MAX_SHARE_OUT_OF_RANGE: f64 = 0.05;
/// Rounding does not carry a value out of its range.
const ROUNDING: f64 = 1e-6;
/// A measured position may overshoot the range by this share of it.
const MEASURED_SLACK: f64 = 0.05;
/// A joint without position limits that lies beyond this, in radians, may be measured in degrees: two turns.
const MAX_UNLIMITED_RADIANS: f64 = 4.0 * std::f64::consts::PI;

/// What demonstrations hold, and what is reported of them before training.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataReport {
    /// Logs read.
    pub num_logs: usize,
    /// Frames in them.
    pub num_frames: usize,
    /// Frames with a joint state and a command, which are trained on.
    pub num_used: usize,
    /// Largest time between a used frame and its joint state, milliseconds.
    pub max_state_offset_millis: f64,
    /// Largest time between a used frame and its command, milliseconds.
    pub max_command_offset_millis: f64,
    /// Logs of which frames are passed over, or that end early, one line each.
    pub logs: Vec<String>,
    /// Values out of range, for each log and joint.
    pub out_of_range: Vec<OutOfRange>,
    /// Columns that never change.
    pub constant: Vec<String>,
    /// Files that are not data.
    pub skipped_files: Vec<PathBuf>,
}

/// Values of a joint that lie out of its range, in one log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutOfRange {
    /// The log.
    pub log: PathBuf,
    /// The joint.
    pub joint: String,
    /// `commands` or `positions`.
    pub quantity: &'static str,
    /// Values out of range.
    pub count: usize,
    /// Values in all.
    pub num_values: usize,
    /// Smallest and largest that is allowed.
    pub range: [f64; 2],
    /// The value farthest out.
    pub farthest: f64,
    /// The unit of the profile.
    pub unit: &'static str,
}

impl OutOfRange {
    /// Out of all, 0 to 1.
    pub fn share(&self) -> f64 {
        self.count as f64 / self.num_values.max(1) as f64
    }
}

impl std::fmt::Display for OutOfRange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { log, joint, quantity, count, num_values, range: [minimum, maximum], farthest, unit } = self;
        let percent = 100.0 * self.share();
        write!(
            formatter,
            "{}: {count} of {num_values} {quantity} of joint `{joint}` ({percent:.1} %) lie outside {minimum:.4} to {maximum:.4} {unit}, the farthest is {farthest:.4}",
            log.display()
        )
    }
}

impl DataReport {
    /// For people, one line each; empty when there is nothing to report but the numbers.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.num_used < self.num_frames {
            lines.push(format!("{} of {} frames are used", self.num_used, self.num_frames));
        }
        lines.extend(self.logs.iter().cloned());
        let offsets = [("joint states", self.max_state_offset_millis), ("commands", self.max_command_offset_millis)];
        for (what, offset) in offsets.into_iter().filter(|(_, offset)| *offset > 0.0) {
            lines.push(format!("{what} are matched to frames by the nearest time, at most {offset:.2} ms away"));
        }
        lines.extend(self.out_of_range.iter().map(ToString::to_string));
        lines.extend(self.constant.iter().cloned());
        lines.extend(self.skipped_files.iter().map(|path| format!("{}: skipped, not data", path.display())));
        lines
    }
}

/// Inspects every label that will be trained on.
///
/// # Errors
/// [`PoliciesError::NotFinite`] with the log, the frame and the joint.
pub(super) fn inspect(
    tracks: &[Track],
    profile: &DeviceProfile,
    tolerance: Duration,
) -> Result<DataReport, PoliciesError> {
    let mut report = DataReport { num_logs: tracks.len(), ..DataReport::default() };
    let mut columns = Columns::new(&profile.joints);
    for track in tracks {
        let matching = &track.matching;
        report.num_frames += track.frames.len();
        report.num_used += matching.num_used;
        report.max_state_offset_millis = report.max_state_offset_millis.max(millis(matching.max_state_offset));
        report.max_command_offset_millis = report.max_command_offset_millis.max(millis(matching.max_command_offset));
        let mut lines = matching.reasons(tolerance);
        lines.extend(track.notes.iter().cloned());
        if !lines.is_empty() {
            let (used, all) = (matching.num_used, track.frames.len());
            report.logs.push(format!(
                "{}: {used} of {all} frames are used; {}",
                track.path.display(),
                lines.join("; ")
            ));
        }
        let mut ranges = Ranges::new(&profile.joints);
        for (frame_idx, frame) in track.frames.iter().enumerate() {
            let Some(label) = &frame.label else { continue };
            check_finite(&track.path, frame_idx, label, &profile.joints)?;
            ranges.add(label);
            columns.add(label);
        }
        report.out_of_range.extend(ranges.into_report(&track.path, &profile.joints));
    }
    report.constant = columns.constant();
    Ok(report)
}

/// Refuses logs of which too much lies out of range.
///
/// # Errors
/// [`PoliciesError::OutOfRange`].
pub(super) fn check_shares(report: &DataReport) -> Result<(), PoliciesError> {
    let mut beyond: Vec<&OutOfRange> = report.out_of_range.iter().collect();
    beyond.retain(|out| out.share() > MAX_SHARE_OUT_OF_RANGE);
    beyond.sort_by(|a, b| b.share().total_cmp(&a.share()));
    let Some(worst) = beyond.first() else { return Ok(()) };
    let more = match beyond.len() - 1 {
        0 => String::new(),
        others => format!(" (and {others} more, each of a log and joint)"),
    };
    // Degrees are 57.3 times as large as radians.
    let is_angle = worst.unit.starts_with("rad");
    let hint = if is_angle {
        "are they in degrees, or is the range wrong"
    } else {
        "are they in another unit, or is the range wrong"
    };
    Err(PoliciesError::OutOfRange { what: worst.to_string(), more, max_percent: 100.0 * MAX_SHARE_OUT_OF_RANGE, hint })
}

fn check_finite(path: &Path, frame_idx: usize, label: &Label, joints: &[JointProfile]) -> Result<(), PoliciesError> {
    let quantities = [("command", &label.action), ("position", &label.positions), ("velocity", &label.velocities)];
    for (quantity, values) in quantities {
        for (value, joint) in values.iter().zip(joints) {
            // They are trained on as f32.
            if !(*value as f32).is_finite() {
                let (path, joint, value) = (path.to_path_buf(), joint.name.clone(), *value);
                return Err(PoliciesError::NotFinite { path, frame_idx, quantity, joint, value });
            }
        }
    }
    Ok(())
}

/// Counts of one quantity of one joint.
struct Range {
    allowed: [f64; 2],
    count: usize,
    num_values: usize,
    farthest: f64,
}

impl Range {
    fn add(&mut self, value: f64) {
        let [minimum, maximum] = self.allowed;
        let distance = |value: f64| (minimum - value).max(value - maximum);
        self.num_values += 1;
        if distance(value) > ROUNDING * (maximum - minimum) {
            self.count += 1;
            if self.count == 1 || distance(value) > distance(self.farthest) {
                self.farthest = value;
            }
        }
    }
}

/// Commands and positions of each joint, in one log.
struct Ranges {
    commands: Vec<Range>,
    positions: Vec<Range>,
}

impl Ranges {
    fn new(joints: &[JointProfile]) -> Self {
        let range = |allowed| Range { allowed, count: 0, num_values: 0, farthest: 0.0 };
        Self {
            commands: joints.iter().map(|joint| range([joint.minimum, joint.maximum])).collect(),
            positions: joints.iter().map(|joint| range(measured_range(joint))).collect(),
        }
    }

    fn add(&mut self, label: &Label) {
        self.commands.iter_mut().zip(&label.action).for_each(|(range, value)| range.add(*value));
        self.positions.iter_mut().zip(&label.positions).for_each(|(range, value)| range.add(*value));
    }

    fn into_report(self, path: &Path, joints: &[JointProfile]) -> Vec<OutOfRange> {
        let out = |quantity: &'static str, range: Range, joint: &JointProfile| OutOfRange {
            log: path.to_path_buf(),
            joint: joint.name.clone(),
            quantity,
            count: range.count,
            num_values: range.num_values,
            range: range.allowed,
            farthest: range.farthest,
            unit: if quantity == "commands" { unit(joint.command) } else { "rad" },
        };
        let commands = self.commands.into_iter().zip(joints).map(|(range, joint)| out("commands", range, joint));
        let positions = self.positions.into_iter().zip(joints).map(|(range, joint)| out("positions", range, joint));
        commands.chain(positions).filter(|out| out.count > 0).collect()
    }
}

/// Where a joint may be measured: its range with some overshoot, or two turns where it has none.
fn measured_range(joint: &JointProfile) -> [f64; 2] {
    let limits = match (joint.command, joint.position) {
        (CommandKind::PositionRadians, _) => Some([joint.minimum, joint.maximum]),
        (_, Some(limits)) => Some([limits.minimum_radians, limits.maximum_radians]),
        (_, None) => None,
    };
    limits.map_or([-MAX_UNLIMITED_RADIANS, MAX_UNLIMITED_RADIANS], |[minimum, maximum]| {
        let slack = MEASURED_SLACK * (maximum - minimum);
        [minimum - slack, maximum + slack]
    })
}

fn unit(command: CommandKind) -> &'static str {
    match command {
        CommandKind::TorqueNormalised => "of the full torque",
        CommandKind::TorqueNewtonMetres => "N m",
        CommandKind::VelocityRadiansPerSecond => "rad/s",
        CommandKind::PositionRadians => "rad",
    }
}

/// Smallest and largest of each column, over all logs.
struct Columns {
    names: Vec<String>,
    extremes: Vec<[f64; 2]>,
    num_values: usize,
}

impl Columns {
    fn new(joints: &[JointProfile]) -> Self {
        let named =
            |quantity: &str| joints.iter().map(|joint| format!("{quantity} of joint `{}`", joint.name)).collect();
        let names: Vec<String> = [named("command"), named("position"), named("velocity")]
            .into_iter()
            .flat_map(|names: Vec<String>| names)
            .collect();
        Self { extremes: vec![[f64::INFINITY, f64::NEG_INFINITY]; names.len()], names, num_values: 0 }
    }

    fn add(&mut self, label: &Label) {
        self.num_values += 1;
        let values = label.action.iter().chain(&label.positions).chain(&label.velocities);
        for ([lowest, highest], value) in self.extremes.iter_mut().zip(values) {
            (*lowest, *highest) = (lowest.min(*value), highest.max(*value));
        }
    }

    /// Two values may be equal by chance.
    fn constant(&self) -> Vec<String> {
        let columns = self.names.iter().zip(&self.extremes);
        let constant = columns.filter(|(_, [lowest, highest])| self.num_values > 2 && lowest == highest);
        constant
            .map(|(name, [value, _])| {
                format!("the {name} is {value} in all {} frames: nothing is learnt from it", self.num_values)
            })
            .collect()
    }
}
