//! What each control of a model sets: a position, a velocity, a force or a share, with its unit, scale and range.

use mujoco_rs::prelude::MjModel;
use mujoco_rs::wrappers::mj_model::{MjtBias, MjtDyn, MjtGain, MjtJoint, MjtObjBase, MjtTrn, MjtWrap};

use crate::physics::Physics;
use crate::task::{ActionSpec, Quantity};

/// The actuator that a control belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    /// Index of the actuator.
    pub(crate) actuator: usize,
    /// Which of the actuator's controls; 0 unless it has several.
    pub(crate) part: usize,
    /// Index of its length, velocity, force and gear among the outputs.
    pub(crate) output: usize,
}

/// Every control in order of `ctrl`. An actuator can have several.
pub(crate) fn controls(model: &MjModel) -> Vec<Control> {
    let counts = model.actuator_ctrlnum().iter().zip(model.actuator_outadr()).zip(model.actuator_outnum()).enumerate();
    let of_actuator = |(actuator, ((num_controls, output), num_outputs)): (usize, ((&i32, &i32), &i32))| {
        let (output, last) = (*output as usize, (*num_outputs - 1).max(0) as usize);
        (0..*num_controls as usize).map(move |part| Control { actuator, part, output: output + part.min(last) })
    };
    counts.flat_map(of_actuator).collect()
}

/// The controls as actions. An actuator without a name is called by its number; of several controls of one actuator the
/// n-th is called `NAME[n]`.
pub(crate) fn action_specs(physics: &Physics) -> Vec<ActionSpec> {
    let model = physics.model();
    let ranges = model.actuator_ctrlrange().iter().zip(model.actuator_ctrllimited());
    let specs = controls(model).into_iter().zip(ranges).map(|(control, (range, limited))| {
        let name = model.id_to_name(MjtObjBase::mjOBJ_ACTUATOR, control.actuator);
        let name = name.map_or_else(|| control.actuator.to_string(), str::to_string);
        let has_several = model.actuator_ctrlnum()[control.actuator] > 1;
        let [minimum, maximum] = if *limited { *range } else { [f64::NEG_INFINITY, f64::INFINITY] };
        let law = law(model, control);
        ActionSpec {
            name: if has_several { format!("{name}[{}]", control.part) } else { name },
            minimum,
            maximum,
            quantity: law.quantity,
            unit: law.unit,
            scale: law.scale,
            offset: law.offset,
            reach: reach(model, control, &law, [minimum, maximum]),
        }
    });
    specs.collect()
}

/// The control that holds a position-controlled actuator where it is, in range; `None` for the other actuators.
pub(crate) fn holding_control(physics: &Physics, control: Control) -> Option<f64> {
    let model = physics.model();
    let law = law(model, control);
    let is_integrated = model.actuator_dyntype()[control.actuator] == MjtDyn::mjDYN_INTEGRATOR;
    (law.quantity == Quantity::Position && !is_integrated).then(|| {
        let held = position_control(physics, control);
        let index = model.actuator_ctrladr()[control.actuator] as usize + control.part;
        let [low, high] = model.actuator_ctrlrange()[index];
        if model.actuator_ctrllimited()[index] { held.clamp(low, high.max(low)) } else { held }
    })
}

/// The activation that holds the actuator where it is: of servos whose set point is filtered or integrated. Its address and value.
pub(crate) fn holding_activation(physics: &Physics, control: Control) -> Option<(usize, f64)> {
    let model = physics.model();
    let actuator = control.actuator;
    let is_one = control.part == 0 && model.actuator_actnum()[actuator] == 1;
    let address = usize::try_from(model.actuator_actadr()[actuator]).ok().filter(|_| is_one)?;
    let is_smoothed = matches!(
        model.actuator_dyntype()[actuator],
        MjtDyn::mjDYN_INTEGRATOR | MjtDyn::mjDYN_FILTER | MjtDyn::mjDYN_FILTEREXACT
    );
    if !is_smoothed || !is_affine_position(model, actuator) {
        return None;
    }
    let held = position_control(physics, control);
    let [low, high] = model.actuator_actrange()[actuator];
    Some((address, if model.actuator_actlimited()[actuator] { held.clamp(low, high.max(low)) } else { held }))
}

/// The set point at which an affine position servo at rest gives no force.
fn position_control(physics: &Physics, control: Control) -> f64 {
    let model = physics.model();
    let (gain, bias) = (model.actuator_gainprm()[control.actuator], model.actuator_biasprm()[control.actuator]);
    let length = physics.data().actuator_length()[control.output];
    -(bias[0] + bias[1] * length) / gain[0]
}

/// What a control of 1 sets, and what a control of 0 sets.
struct Law {
    quantity: Quantity,
    unit: &'static str,
    scale: f64,
    offset: f64,
}

fn is_affine_position(model: &MjModel, actuator: usize) -> bool {
    let (gain, bias) = (model.actuator_gainprm()[actuator][0], model.actuator_biasprm()[actuator]);
    model.actuator_gaintype()[actuator] == MjtGain::mjGAIN_FIXED
        && model.actuator_biastype()[actuator] == MjtBias::mjBIAS_AFFINE
        && gain != 0.0
        && bias[1] != 0.0
}

fn law(model: &MjModel, control: Control) -> Law {
    let actuator = control.actuator;
    let plain = |quantity| Law { quantity, unit: "1", scale: 1.0, offset: 0.0 };
    let is_programmed =
        model.actuator_plugin()[actuator] >= 0 || model.actuator_dyntype()[actuator] == MjtDyn::mjDYN_USER;
    if is_programmed || model.actuator_ctrlnum()[actuator] != 1 {
        return plain(Quantity::Unknown);
    }
    match model.actuator_gaintype()[actuator] {
        MjtGain::mjGAIN_FIXED => {}
        MjtGain::mjGAIN_AFFINE | MjtGain::mjGAIN_MUSCLE => return plain(Quantity::Share),
        _ => return plain(Quantity::Unknown),
    }
    let gear = gear(model, control);
    let (gain, bias) = (model.actuator_gainprm()[actuator][0], model.actuator_biasprm()[actuator]);
    if gain == 0.0 || gear == 0.0 {
        return plain(Quantity::Share);
    }
    let [position, velocity, force] = units(model, control);
    let dynamics = model.actuator_dyntype()[actuator];
    let set = |quantity, unit, scale, offset| Law { quantity, unit, scale, offset };
    match bias {
        _ if matches!(dynamics, MjtDyn::mjDYN_MUSCLE | MjtDyn::mjDYN_DCMOTOR | MjtDyn::mjDYN_PID) => {
            plain(Quantity::Share)
        }
        [_, stiffness, ..] if is_affine_position(model, actuator) && dynamics == MjtDyn::mjDYN_INTEGRATOR => {
            set(Quantity::Velocity, velocity, gain / -stiffness / gear, 0.0)
        }
        [offset, stiffness, ..] if is_affine_position(model, actuator) => {
            set(Quantity::Position, position, gain / -stiffness / gear, offset / -stiffness / gear)
        }
        // The rate of a force or speed: no command kind has it.
        _ if dynamics == MjtDyn::mjDYN_INTEGRATOR => plain(Quantity::Share),
        [_, _, damping, ..] if model.actuator_biastype()[actuator] == MjtBias::mjBIAS_AFFINE && damping != 0.0 => {
            set(Quantity::Velocity, velocity, gain / -damping / gear, bias[0] / -damping / gear)
        }
        _ => set(Quantity::Force, force, gain * gear, 0.0),
    }
}

/// The transmission's gear: how far the actuator's length moves for a unit of what it drives. Of several components the
/// length of their vector; negative where the only one is.
pub(crate) fn gear(model: &MjModel, control: Control) -> f64 {
    let gear = model.actuator_gear()[control.output];
    match model.actuator_trntype()[control.actuator] {
        MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT if !is_scalar_joint(model, control.actuator) => length(&gear),
        MjtTrn::mjTRN_SITE => length(&gear),
        _ => gear[0],
    }
}

fn length(gear: &[f64]) -> f64 {
    match gear.iter().filter(|part| **part != 0.0).collect::<Vec<_>>().as_slice() {
        [only] => **only,
        parts => parts.iter().map(|part| *part * *part).sum::<f64>().sqrt(),
    }
}

/// Whether a joint transmission drives a hinge or slide, whose position is one number.
pub(crate) fn is_scalar_joint(model: &MjModel, actuator: usize) -> bool {
    let joint = usize::try_from(model.actuator_trnid()[actuator][0]).ok();
    let kind = joint.and_then(|joint| model.jnt_type().get(joint));
    kind.is_some_and(|kind| matches!(kind, MjtJoint::mjJNT_HINGE | MjtJoint::mjJNT_SLIDE))
}

const ANGULAR: [&str; 3] = ["rad", "rad/s", "N m"];
const LINEAR: [&str; 3] = ["m", "m/s", "N"];

/// Units of position, velocity and force of what an actuator drives.
fn units(model: &MjModel, control: Control) -> [&'static str; 3] {
    let id = model.actuator_trnid()[control.actuator][0] as usize;
    let gear = model.actuator_gear()[control.output];
    let turns = gear[..3].iter().all(|part| *part == 0.0);
    match model.actuator_trntype()[control.actuator] {
        MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT => match model.jnt_type()[id] {
            MjtJoint::mjJNT_SLIDE => LINEAR,
            MjtJoint::mjJNT_FREE if !turns => LINEAR,
            _ => ANGULAR,
        },
        MjtTrn::mjTRN_TENDON if is_angular_tendon(model, id) => ANGULAR,
        MjtTrn::mjTRN_SITE if turns => ANGULAR,
        MjtTrn::mjTRN_SO3 => ANGULAR,
        _ => LINEAR,
    }
}

/// A fixed tendon over hinges has the unit of an angle; a spatial tendon, or one over slides, of a length.
fn is_angular_tendon(model: &MjModel, tendon: usize) -> bool {
    let (first, number) = (model.tendon_adr()[tendon] as usize, model.tendon_num()[tendon] as usize);
    let wraps = model.wrap_type().iter().zip(model.wrap_objid()).skip(first).take(number);
    let mut joints = wraps.filter(|(kind, _)| **kind == MjtWrap::mjWRAP_JOINT).map(|(_, joint)| *joint as usize);
    joints.next().is_some_and(|joint| model.jnt_type()[joint] == MjtJoint::mjJNT_HINGE)
}

/// What the actuator can set, lowest and highest, in its unit: by its control range, its force range, and of joints by the
/// joint's limits. Infinite where nothing limits it.
fn reach(model: &MjModel, control: Control, law: &Law, controls: [f64; 2]) -> [f64; 2] {
    let actuator = control.actuator;
    let to_set = |control: f64| law.scale * control + law.offset;
    let mut reach = sorted(controls.map(to_set));
    let joint = (matches!(model.actuator_trntype()[actuator], MjtTrn::mjTRN_JOINT | MjtTrn::mjTRN_JOINTINPARENT)
        && is_scalar_joint(model, actuator))
    .then(|| model.actuator_trnid()[actuator][0] as usize);
    match law.quantity {
        Quantity::Force => {
            if model.actuator_forcelimited()[actuator] {
                let gear = gear(model, control);
                // A force range is of the actuator, before the gear.
                reach = meet(reach, sorted(model.actuator_forcerange()[actuator].map(|force| force * gear)));
            }
            if let Some(joint) = joint.filter(|joint| model.jnt_actfrclimited()[*joint]) {
                reach = meet(reach, model.jnt_actfrcrange()[joint]);
            }
        }
        Quantity::Position if controls.iter().any(|end| end.is_infinite()) => {
            if let Some(joint) = joint.filter(|joint| model.jnt_limited()[*joint]) {
                reach = meet(reach, model.jnt_range()[joint]);
            }
        }
        _ => {}
    }
    reach
}

fn sorted([first, second]: [f64; 2]) -> [f64; 2] {
    [first.min(second), first.max(second)]
}

fn meet([low, high]: [f64; 2], [lower, upper]: [f64; 2]) -> [f64; 2] {
    [low.max(lower), high.min(upper)]
}
