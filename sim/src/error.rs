//! What can go wrong in simulation: what it is, which thing, and what to do.

use std::path::PathBuf;

use crate::fit::JointMisfit;
use crate::physics::PhysicsWarning;

/// Every failure of this crate. The text is one line that names the thing, the value and the fix.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// No task of this name.
    #[error("task {name:?} does not exist; {hint}")]
    UnknownTask {
        /// What was asked for.
        name: String,
        /// The nearest names, or how to list them.
        hint: String,
    },
    /// A file of a task's assets is not there or cannot be read.
    #[error("{}: {source}; run ./launch/setup, which unpacks the simulator's assets", path.display())]
    Asset {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// MuJoCo does not accept a model.
    #[error("model of {name}: {problem}")]
    Model {
        /// Task or file.
        name: String,
        /// What MuJoCo's compiler says.
        problem: String,
    },
    /// Another libmujoco than the one this crate is made for.
    #[error("libmujoco is version {found}, but {expected} is needed; run ./launch/setup, which installs it")]
    Version {
        /// What is linked.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// A model has no element of this name.
    #[error("the model has no {kind} named {name:?}")]
    UnknownName {
        /// Such as `geom`.
        kind: &'static str,
        /// What was asked for.
        name: String,
    },
    /// A profile of another robot.
    #[error(
        "profile {profile}: joint `{joint}` is no actuator of {task}, which has {known}; give a --profile of this robot (`foresee config new` writes one)"
    )]
    UnknownJoint {
        /// The profile.
        profile: String,
        /// Its joint.
        joint: String,
        /// The task.
        task: String,
        /// The task's actuators.
        known: String,
    },
    /// A joint whose command has another kind or range than the actuator's.
    #[error(transparent)]
    JointDoesNotFit(#[from] Box<JointMisfit>),
    /// A seed that numpy's `RandomState` does not take.
    #[error("seed {seed} is out of range; take one from 0 to 4294967295")]
    Seed {
        /// What was given.
        seed: u64,
    },
    /// An action with the wrong number of values.
    #[error("action for {task} has {found} values, but the task has {expected} actuators")]
    ActionLength {
        /// The task.
        task: String,
        /// Actuators.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An action with NaN or infinity.
    #[error("action for {task} has {value} at index {index}; every value must be finite")]
    ActionNotFinite {
        /// The task.
        task: String,
        /// Which value.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A step without an episode.
    #[error("{task} has no running episode; call reset first")]
    NoEpisode {
        /// The task.
        task: String,
    },
    /// A reset that cannot give a valid state.
    #[error("reset of {task}: {problem}")]
    Reset {
        /// The task.
        task: String,
        /// What went wrong.
        problem: String,
    },
    /// The simulation left what MuJoCo can integrate during a reset.
    #[error("the simulation diverged during the reset: {warning}")]
    Diverged {
        /// What MuJoCo warned of.
        warning: PhysicsWarning,
    },
    /// No such camera in a model.
    #[error("{task} has no camera {name:?}; it has {known}")]
    UnknownCamera {
        /// The task.
        task: String,
        /// What was asked for.
        name: String,
        /// The cameras there are.
        known: String,
    },
    /// A camera that a key of the randomisation cannot change.
    #[error(
        "camera {name:?} does not follow {key} of the randomisation: {reason}; leave the key out, or take another camera"
    )]
    CameraNotRandomised {
        /// The camera.
        name: String,
        /// Section and key.
        key: String,
        /// Why.
        reason: &'static str,
    },
    /// Headless rendering does not work here.
    #[error("headless rendering: {problem}; install libegl1, libegl-mesa0 and libgl1-mesa-dri, or run without images")]
    Rendering {
        /// What EGL or MuJoCo says.
        problem: String,
    },
    /// A camera without perspective where intrinsics are wanted.
    #[error("camera {name:?} is orthographic: it has no focal length; take one with perspective")]
    Orthographic {
        /// The camera.
        name: String,
    },
    /// An image size that cannot be rendered.
    #[error("image size {width} x {height} is out of range; take 1 to {maximum} pixels a side")]
    ImageSize {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// Pixels.
        maximum: u32,
    },
    /// A buffer of the wrong size.
    #[error("the {what} buffer has {found} values, but {expected} are needed")]
    BufferSize {
        /// Which one.
        what: &'static str,
        /// Values needed.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An option that cannot be.
    #[error("{name} is {value}; take {allowed}")]
    Option {
        /// Such as `action_repeat`.
        name: &'static str,
        /// What was asked for.
        value: String,
        /// What can be.
        allowed: &'static str,
    },
    /// A file of ranges that cannot be drawn from.
    #[error("{}: {problem}", path.display())]
    Randomisation {
        /// The file.
        path: PathBuf,
        /// Key, value, and what can be.
        problem: String,
    },
    /// No observation of this name.
    #[error("nothing is observed as {name:?}; there are {known}")]
    UnknownObservation {
        /// What was asked for.
        name: String,
        /// What is observed.
        known: String,
    },
    /// An encoder that does not take an image.
    #[error("encoder {model}: {problem}")]
    Encoder {
        /// Name on its card.
        model: String,
        /// What it says.
        problem: String,
    },
    /// A vector of nothing, or without threads.
    #[error("{num_environments} environments on {num_threads} threads; take at least one of each")]
    VectorSize {
        /// What was asked for.
        num_environments: usize,
        /// What was asked for.
        num_threads: usize,
    },
    /// A thread cannot be started.
    #[error("a simulator thread cannot be started: {source}")]
    Thread {
        /// The system's reason.
        source: std::io::Error,
    },
    /// A task that panicked on a vector's thread.
    #[error("environment {environment} panicked: {problem}; its state is lost until it is reset")]
    Panicked {
        /// Which one.
        environment: usize,
        /// What the panic said.
        problem: String,
    },
    /// An environment that is still at work.
    #[error("environment {environment} still works on an action; receive its result first")]
    InFlight {
        /// Which one.
        environment: usize,
    },
    /// More results wanted than were asked for.
    #[error("{wanted} results are wanted, but only {found} actions are in flight; send more first")]
    NotInFlight {
        /// Results wanted.
        wanted: usize,
        /// Actions in flight.
        found: usize,
    },
    /// An index beyond the vector.
    #[error("environment {index} does not exist; there are {number}, counted from 0")]
    NoSuchEnvironment {
        /// What was asked for.
        index: usize,
        /// How many there are.
        number: usize,
    },
    /// A file of reference episodes that is not one.
    #[error("{}: {problem}", path.display())]
    Reference {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}
