//! A profile's joints held against a model's actuators: which control each commands, in which unit and scale.

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile};
use foresee_runtime::JointState;

use crate::environment::Environment;
use crate::error::SimError;
use crate::task::{ActionSpec, Quantity};

/// How far a profile's range may go beyond the actuator's, as a share of the actuator's: profiles are written with rounded numbers.
const ROUNDING: f64 = 0.01;

/// Which control each joint of a profile commands, and how much of it.
#[derive(Clone, Debug)]
pub struct CommandMap {
    names: Vec<String>,
    entries: Vec<Entry>,
    /// Actuators that the profile does not name.
    others: Vec<String>,
    notes: Vec<String>,
}

/// `control = gain * command + bias` of the control at `index`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    index: usize,
    gain: f64,
    bias: f64,
}

impl CommandMap {
    /// Finds the actuator of every joint of the profile.
    ///
    /// # Errors
    /// [`SimError::UnknownJoint`] for a joint that is no actuator; [`SimError::JointDoesNotFit`] with unit and range of both
    /// where the command's kind or range is not the actuator's.
    pub fn new(environment: &Environment, profile: &DeviceProfile) -> Result<Self, SimError> {
        let actions = &environment.spec().actions;
        let task = &environment.spec().name;
        let (mut entries, mut notes) = (Vec::new(), Vec::new());
        for joint in &profile.joints {
            let Some(index) = actions.iter().position(|action| action.name == joint.name) else {
                let known = actions.iter().map(|action| action.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(SimError::UnknownJoint {
                    profile: profile.name.clone(),
                    joint: joint.name.clone(),
                    task: task.clone(),
                    known: if known.is_empty() { "none".to_owned() } else { known },
                });
            };
            let Some(action) = actions.get(index) else { continue };
            if action.quantity == Quantity::Unknown {
                notes.push(format!(
                    "actuator {} is driven by a plugin, whose unit is not known: commands go to it unscaled",
                    action.name
                ));
            }
            let fitted = fit(joint, action)
                .map_err(|misfit| JointMisfit { profile: profile.name.clone(), task: task.clone(), ..*misfit })
                .map_err(Box::new)?;
            entries.push(Entry { index, ..fitted });
        }
        let others = actions.iter().enumerate().filter(|(index, _)| !entries.iter().any(|entry| entry.index == *index));
        let others = others.map(|(_, action)| action.name.clone()).collect();
        let names = profile.joints.iter().map(|joint| joint.name.clone()).collect();
        Ok(Self { names, entries, others, notes })
    }

    /// The profile's joints, in its order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Sentences for the user: which actuators keep the control of the reset because the profile does not name them, and which
    /// have no known unit.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if !self.others.is_empty() {
            notes.push(format!(
                "the profile has no joint for the actuators {}: they keep the control of the reset",
                self.others.join(", ")
            ));
        }
        notes
    }

    /// Writes commands (in the profile's order and units) into an action; values of other actuators stay as they are.
    ///
    /// # Errors
    /// [`SimError::ActionLength`] when there are not as many commands as joints.
    pub fn write_action(&self, task: &str, commands: &[f64], action: &mut [f64]) -> Result<(), SimError> {
        if commands.len() != self.entries.len() {
            let (expected, found) = (self.entries.len(), commands.len());
            return Err(SimError::ActionLength { task: task.to_owned(), expected, found });
        }
        for (entry, command) in self.entries.iter().zip(commands) {
            if let Some(control) = action.get_mut(entry.index) {
                *control = entry.gain * command + entry.bias;
            }
        }
        Ok(())
    }

    /// An action as commands, in the profile's order and units.
    pub fn write_commands(&self, action: &[f64], commands: &mut Vec<f64>) {
        commands.clear();
        commands.extend(self.entries.iter().map(|entry| {
            let control = action.get(entry.index).copied().unwrap_or_default();
            (control - entry.bias) / entry.gain
        }));
    }

    /// Of the states of all actuators those of the profile's joints, in its order.
    pub fn select_joints(&self, all: &JointState, joints: &mut JointState) {
        joints.stamp = all.stamp;
        joints.positions.clear();
        joints.velocities.clear();
        for entry in &self.entries {
            joints.positions.extend(all.positions.get(entry.index));
            joints.velocities.extend(all.velocities.get(entry.index));
        }
    }
}

/// A joint of a profile whose command has another kind or range than its actuator's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}: joint `{joint}` has {given}, but the actuator of {task} {actuator}; {advice}")]
pub struct JointMisfit {
    /// The profile.
    pub profile: String,
    /// Its joint.
    pub joint: String,
    /// The task.
    pub task: String,
    /// Command kind and range in the profile.
    pub given: String,
    /// Unit and range of the actuator.
    pub actuator: String,
    /// What to write.
    pub advice: String,
}

/// The scale of a joint's commands; the misfit lacks the names of profile and task.
fn fit(joint: &JointProfile, action: &ActionSpec) -> Result<Entry, Box<JointMisfit>> {
    let misfit = |advice: String| {
        Box::new(JointMisfit {
            profile: String::new(),
            task: String::new(),
            joint: joint.name.clone(),
            given: format!(
                "command = \"{}\" from {} to {}",
                joint.command.name(),
                short(joint.minimum),
                short(joint.maximum)
            ),
            actuator: describe(action),
            advice,
        })
    };
    let entry = |gain: f64, bias: f64| Entry { index: 0, gain, bias };
    let in_its_unit = || entry(1.0 / action.scale, -action.offset / action.scale);
    let [low, high] = action.reach;
    let full = low.abs().max(high.abs());
    let is_share = joint.command == CommandKind::TorqueNormalised;
    let found = match (joint.command, action.quantity) {
        (CommandKind::PositionRadians, Quantity::Position)
        | (CommandKind::VelocityRadiansPerSecond, Quantity::Velocity)
        | (CommandKind::TorqueNewtonMetres, Quantity::Force) => in_its_unit(),
        (_, Quantity::Unknown) => entry(1.0, 0.0),
        (CommandKind::TorqueNormalised, Quantity::Force | Quantity::Share) if full.is_finite() && full > 0.0 => {
            entry(share_of(full, action), 0.0)
        }
        (CommandKind::TorqueNormalised, Quantity::Force) => {
            let advice = "a share of an unlimited range is nothing; give the actuator a ctrlrange or forcerange, or write command = \"torque_newton_metres\"";
            return Err(misfit(advice.to_owned()));
        }
        _ => return Err(misfit(advice(action))),
    };
    let reach = match (action.quantity, is_share) {
        (Quantity::Unknown, _) => [action.minimum, action.maximum],
        (_, true) => [low / full, high / full],
        _ => action.reach,
    };
    let slack = ROUNDING * if reach.iter().all(|end| end.is_finite()) { reach[1] - reach[0] } else { full.min(1.0) };
    if joint.minimum < reach[0] - slack || joint.maximum > reach[1] + slack {
        return Err(misfit(format!("write {}", range_of(reach))));
    }
    Ok(found)
}

/// The control that a command of 1 sets, where 1 is the actuator's full range; exactly 1 where the two are the same.
fn share_of(full: f64, action: &ActionSpec) -> f64 {
    let gain = if action.quantity == Quantity::Share { full } else { full / action.scale };
    if (gain - 1.0).abs() < 1e-12 { 1.0 } else { gain }
}

/// What to write for an actuator whose kind is another one.
fn advice(action: &ActionSpec) -> String {
    let (kind, reach) = action.command();
    format!("write command = \"{}\" and {}", kind.name(), range_of(reach))
}

impl ActionSpec {
    /// The command kind and range that a profile has for this control: the whole of what it can do. Infinite where the model
    /// limits nothing.
    pub fn command(&self) -> (CommandKind, [f64; 2]) {
        let [low, high] = self.reach;
        let full = low.abs().max(high.abs());
        match self.quantity {
            Quantity::Position => (CommandKind::PositionRadians, self.reach),
            Quantity::Velocity => (CommandKind::VelocityRadiansPerSecond, self.reach),
            Quantity::Force if !full.is_finite() => (CommandKind::TorqueNewtonMetres, self.reach),
            // A share is of a range; a plugin takes its commands unscaled.
            Quantity::Unknown => (CommandKind::TorqueNewtonMetres, [self.minimum, self.maximum]),
            _ if full.is_finite() && full > 0.0 => (CommandKind::TorqueNormalised, [low / full, high / full]),
            _ => (CommandKind::TorqueNormalised, [-1.0, 1.0]),
        }
    }
}

fn describe(action: &ActionSpec) -> String {
    let [low, high] = action.reach.map(short);
    let controls = format!("control {} to {}", short(action.minimum), short(action.maximum));
    let per_control = match action.offset == 0.0 {
        true => format!("a control of 1 is {} {}", short(action.scale), action.unit),
        false => format!("a control of c is {} c + {} {}", short(action.scale), short(action.offset), action.unit),
    };
    let (what, unit) = match action.quantity {
        Quantity::Position => ("a position", action.unit),
        Quantity::Velocity => ("a velocity", action.unit),
        Quantity::Force if action.unit == "N" => ("a force", action.unit),
        Quantity::Force => ("a torque", action.unit),
        Quantity::Share => return format!("takes a share of its range, {low} to {high} ({controls})"),
        Quantity::Unknown => return format!("has no known unit ({controls})"),
    };
    format!("takes {what} in {unit}, {low} to {high} ({controls}; {per_control})")
}

fn range_of([low, high]: [f64; 2]) -> String {
    let end = |name: &str, value: f64| match value.is_finite() {
        true => format!("{name} = {}", toml_number(value)),
        false => format!("a {name} of your robot"),
    };
    format!("{} and {}, or a part of that range", end("minimum", low), end("maximum", high))
}

/// Six significant digits.
fn short(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 { "infinity" } else { "-infinity" }.to_owned();
    }
    let rounded: f64 = format!("{value:.5e}").parse().unwrap_or(value);
    rounded.to_string()
}

/// A number as a profile has it: six significant digits and a point.
pub fn toml_number(value: f64) -> String {
    let text = short(value);
    if text.contains('.') { text } else { format!("{text}.0") }
}
