//! What a log holds beside its pixels: joint states and commands, matched to its frames by the nearest time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use foresee_runtime::{CommandTopic, LogEntry, LogReader, LogTopics, Stamp};

use crate::error::PoliciesError;
use crate::samples::JointRange;

/// Time of frames that turns back by more than this begins a new part: a clock was set, or a simulation began again.
const TIME_RESET: Duration = Duration::from_millis(500);

/// Stamps that are this far from every image are not late: they are of another clock.
const OTHER_CLOCK: Duration = Duration::from_secs(60);

/// One log, without its pixels.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) path: PathBuf,
    /// In the order of the log.
    pub(super) frames: Vec<TrackFrame>,
    pub(super) matching: Matching,
    /// Why the log ends early, and which topics are passed over.
    pub(super) notes: Vec<String>,
}

/// A frame, and what belongs to it.
#[derive(Debug)]
pub(super) struct TrackFrame {
    /// Counts episodes, and other breaks in time.
    pub(super) part: usize,
    /// `None`: a part is missing, and the frame is passed over.
    pub(super) label: Option<Label>,
}

/// Joint state and command of a frame, each `[J]` in the profile's order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Label {
    pub(super) positions: Vec<f64>,
    pub(super) velocities: Vec<f64>,
    pub(super) action: Vec<f64>,
}

/// How the frames of a log were matched.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matching {
    pub(super) num_used: usize,
    pub(super) num_without_state: usize,
    pub(super) num_without_command: usize,
    /// Largest difference between a frame's time and that of its joint state, of the frames used.
    pub(super) max_state_offset: Duration,
    /// Likewise of its command.
    pub(super) max_command_offset: Duration,
    /// Smallest offset of a joint state that was too far away.
    pub(super) nearest_state: Option<Duration>,
    /// Likewise of a command.
    pub(super) nearest_command: Option<Duration>,
    /// Messages that lack a joint of the profile, and the joints that one of them has.
    pub(super) num_other_joints: usize,
    pub(super) other_joints: Vec<String>,
    pub(super) has_expert: bool,
}

/// A message at its time.
struct Timed {
    stamp: Stamp,
    values: Vec<f64>,
}

/// A stretch of a log in which time goes on.
#[derive(Default)]
struct Part {
    frames: Vec<Stamp>,
    /// Positions, then velocities.
    states: Vec<Timed>,
    executed: Vec<Timed>,
    expert: Vec<Timed>,
}

/// Where a new part of a log begins.
#[derive(Debug, Default)]
pub(super) struct Parts {
    latest: Stamp,
}

impl Parts {
    /// Whether the entry begins a new part.
    pub(super) fn begins_at(&mut self, entry: &LogEntry) -> bool {
        let stamp = match entry {
            LogEntry::Episode { .. } => {
                self.latest = Stamp::default();
                return true;
            }
            LogEntry::Frame(frame) => frame.stamp,
            // Their clock may be another one.
            LogEntry::ExtraFrame { .. } | LogEntry::Joints { .. } | LogEntry::Command { .. } => return false,
        };
        let is_reset = stamp.nanos.saturating_add(TIME_RESET.as_nanos() as u64) < self.latest.nanos;
        self.latest = if is_reset { stamp } else { Stamp { nanos: self.latest.nanos.max(stamp.nanos) } };
        is_reset
    }
}

impl Track {
    /// Reads a log and matches its frames, each with what lies at most `tolerance` away.
    ///
    /// # Errors
    /// What the log says; [`PoliciesError::Recordings`] when every message is of other joints than the profile's.
    pub(super) fn read(
        path: &Path,
        topics: &LogTopics,
        joints: &[JointRange],
        tolerance: Duration,
    ) -> Result<Self, PoliciesError> {
        let mut reader = LogReader::open_with(path, topics)?;
        let (mut parts, mut breaks, mut matching) = (vec![Part::default()], Parts::default(), Matching::default());
        let mut num_states_and_commands = 0;
        for entry in reader.by_ref() {
            let entry = entry?;
            if breaks.begins_at(&entry) {
                parts.push(Part::default());
            }
            let Some(part) = parts.last_mut() else { continue };
            let mut in_order = |names: &[String], values: &[f64]| {
                let found = in_order(names, values, joints);
                num_states_and_commands += 1;
                if found.is_none() {
                    matching.num_other_joints += 1;
                    matching.other_joints = names.to_vec();
                }
                found
            };
            match entry {
                LogEntry::Frame(frame) => part.frames.push(frame.stamp),
                LogEntry::Joints { names, state } => {
                    if let Some(mut values) = in_order(&names, &state.positions) {
                        values.extend(self::in_order(&names, &state.velocities, joints).unwrap_or_default());
                        part.states.push(Timed { stamp: state.stamp, values });
                    }
                }
                LogEntry::Command { topic, names, stamp, values } => {
                    if let Some(values) = in_order(&names, &values) {
                        let commands = match topic {
                            CommandTopic::JointCommand => &mut part.executed,
                            CommandTopic::ExpertCommand => &mut part.expert,
                        };
                        commands.push(Timed { stamp, values });
                    }
                }
                LogEntry::ExtraFrame { .. } | LogEntry::Episode { .. } => {}
            }
        }
        if num_states_and_commands > 0 && matching.num_other_joints == num_states_and_commands {
            return Err(other_joints(path, &matching.other_joints, joints));
        }
        matching.has_expert = parts.iter().any(|part| !part.expert.is_empty());
        let mut notes = reader.passed_over();
        notes.extend(reader.truncation().map(|why| format!("ends early ({why}); what came before is used")));
        let mut track = Self { path: path.to_path_buf(), frames: Vec::new(), matching, notes };
        for (part_idx, part) in parts.into_iter().enumerate() {
            track.take(part_idx, part, tolerance);
        }
        Ok(track)
    }

    /// Matches the frames of a part.
    fn take(&mut self, part_idx: usize, mut part: Part, tolerance: Duration) {
        for values in [&mut part.states, &mut part.executed, &mut part.expert] {
            values.sort_by_key(|timed| timed.stamp.nanos);
        }
        for stamp in std::mem::take(&mut part.frames) {
            let label = self.label(stamp, &part, tolerance).map(|(state, action)| {
                let (positions, velocities) = state.split_at(state.len() / 2);
                Label { positions: positions.to_vec(), velocities: velocities.to_vec(), action: action.to_vec() }
            });
            self.frames.push(TrackFrame { part: part_idx, label });
        }
    }

    /// The state (positions, then velocities) and the command of a frame.
    fn label<'a>(&mut self, stamp: Stamp, part: &'a Part, tolerance: Duration) -> Option<(&'a [f64], &'a [f64])> {
        let matching = &mut self.matching;
        let commands = if matching.has_expert { &part.expert } else { &part.executed };
        let (state, command) = (nearest(&part.states, stamp), nearest(commands, stamp));
        let Some((state, state_offset)) = state.filter(|(_, offset)| *offset <= tolerance) else {
            matching.num_without_state += 1;
            matching.nearest_state = smaller(matching.nearest_state, state.map(|(_, offset)| offset));
            return None;
        };
        let Some((command, command_offset)) = command.filter(|(_, offset)| *offset <= tolerance) else {
            matching.num_without_command += 1;
            matching.nearest_command = smaller(matching.nearest_command, command.map(|(_, offset)| offset));
            return None;
        };
        matching.num_used += 1;
        matching.max_state_offset = matching.max_state_offset.max(state_offset);
        matching.max_command_offset = matching.max_command_offset.max(command_offset);
        Some((&state.values, &command.values))
    }
}

impl Matching {
    /// Why frames are passed over, one line a reason.
    pub(super) fn reasons(&self, tolerance: Duration) -> Vec<String> {
        let limit = millis(tolerance);
        let missing = |count: usize, what: &str, nearest: Option<Duration>| {
            let why = nearest.map_or_else(
                || {
                    format!(
                        "the log has none of its episode{}",
                        if self.num_other_joints > 0 { " with the profile's joints" } else { "" }
                    )
                },
                |offset| match offset > OTHER_CLOCK {
                    true => format!(
                        "their stamps are {:.0} s from the images': another clock, or none; stamp both with one clock",
                        offset.as_secs_f64()
                    ),
                    false => format!(
                        "the nearest is {:.1} ms away or more, allowed are {limit:.1} ms; see --match-millis",
                        millis(offset)
                    ),
                },
            );
            (count > 0).then(|| format!("{count} frames without {what}: {why}"))
        };
        let label = if self.has_expert { "expert_command" } else { "joint_command" };
        let other = (self.num_other_joints > 0).then(|| {
            format!(
                "{} messages lack joints of the profile: they have {}",
                self.num_other_joints,
                self.other_joints.join(", ")
            )
        });
        [
            missing(self.num_without_state, "joint_states", self.nearest_state),
            missing(self.num_without_command, label, self.nearest_command),
            other,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Milliseconds for people.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn smaller(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.into_iter().chain(b).min()
}

/// The entry nearest in time, and how far away it is; of two as near, the earlier one.
fn nearest(sorted: &[Timed], stamp: Stamp) -> Option<(&Timed, Duration)> {
    let at = sorted.partition_point(|timed| timed.stamp.nanos < stamp.nanos);
    let neighbours = [at.checked_sub(1).and_then(|before| sorted.get(before)), sorted.get(at)];
    let offset = |timed: &Timed| Duration::from_nanos(timed.stamp.nanos.abs_diff(stamp.nanos));
    neighbours.into_iter().flatten().map(|timed| (timed, offset(timed))).min_by_key(|(_, offset)| *offset)
}

/// One value a joint of the profile, by name.
fn in_order(names: &[String], values: &[f64], joints: &[JointRange]) -> Option<Vec<f64>> {
    let value_of =
        |joint: &JointRange| names.iter().zip(values).find(|(name, _)| **name == joint.name).map(|(_, value)| *value);
    joints.iter().map(value_of).collect()
}

fn other_joints(path: &Path, names: &[String], joints: &[JointRange]) -> PoliciesError {
    let wanted: Vec<&str> = joints.iter().map(|joint| joint.name.as_str()).collect();
    let problem =
        format!("joints {names:?} where the profile has {wanted:?}; give recordings of that robot, or its profile");
    PoliciesError::Recordings { folder: path.to_path_buf(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_message_is_taken_and_the_offset_is_known() {
        let timed = |nanos: u64| Timed { stamp: Stamp { nanos }, values: vec![nanos as f64] };
        let sorted: Vec<Timed> = [10, 20, 30].map(timed).into();
        let at =
            |nanos| nearest(&sorted, Stamp { nanos }).map(|(timed, offset)| (timed.stamp.nanos, offset.as_nanos()));
        assert_eq!(
            [at(0), at(20), at(24), at(25), at(26), at(99)].map(Option::unwrap),
            [(10, 10), (20, 0), (20, 4), (20, 5), (30, 4), (30, 69)]
        );
        assert_eq!(nearest(&[], Stamp { nanos: 1 }).map(|(_, offset)| offset), None);
    }
}
