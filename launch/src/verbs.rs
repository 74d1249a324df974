//! The verbs: one file a verb, one line in the list.

mod bench;
#[cfg(feature = "camera")]
mod camera;
mod card;
mod config;
mod doctor;
mod engine;
#[cfg(feature = "sim")]
mod eval;
#[cfg(feature = "train")]
mod export;
mod faults;
#[cfg(feature = "pretrain")]
mod import;
#[cfg(feature = "pretrain")]
mod pretrain;
#[cfg(feature = "train")]
mod probe;
#[cfg(feature = "sim")]
mod record;
mod replay;
mod run;
#[cfg(feature = "sim")]
mod sim;
mod stop;
#[cfg(feature = "train")]
mod train;
#[cfg(feature = "sim")]
mod verify;

use std::process::ExitCode;

use clap::Subcommand;

/// What `foresee` can do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Admit encoders from elsewhere, sign models, show a model's card.
    Card(card::Arguments),
    /// Say what this machine has and lacks, and how to mend each lack.
    Doctor(doctor::Arguments),
    /// Check, show, compare and render device profiles.
    Config(config::Arguments),
    /// List, try and calibrate cameras.
    #[cfg(feature = "camera")]
    Camera(camera::Arguments),
    /// Build TensorRT's engines ahead of time.
    Engine(engine::Arguments),
    /// Be a simulated robot: publish camera and joints over zenoh, obey joint commands.
    #[cfg(feature = "sim")]
    Sim(sim::Arguments),
    /// Run the control loop: camera -> encoder -> policy -> safety filter -> actuators.
    Run(run::Arguments),
    /// Record episodes of a task: demonstrations for cloning, frames for pretraining.
    #[cfg(feature = "sim")]
    Record(record::Arguments),
    /// Pretrain an encoder on recorded frames, by a recipe.
    #[cfg(feature = "pretrain")]
    Pretrain(pretrain::Arguments),
    /// Probe frozen features: label propagation, k-NN, linear maps, beside raw pixels and a random encoder.
    #[cfg(feature = "train")]
    Probe(probe::Arguments),
    /// Train a policy on frozen features.
    #[cfg(feature = "train")]
    Train(train::Arguments),
    /// Write a trained model as ONNX with its card.
    #[cfg(feature = "train")]
    Export(export::Arguments),
    /// Measure a camera policy beside the expert and random actions.
    #[cfg(feature = "sim")]
    Eval(eval::Arguments),
    /// Play a log through the loop again and compare its commands to the last bit.
    Replay(replay::Arguments),
    /// Compare this build with what others recorded with the originals.
    #[cfg(feature = "sim")]
    Verify(verify::Arguments),
    /// Read an official checkpoint (.pth, .safetensors) as plain data.
    #[cfg(feature = "pretrain")]
    Import(import::Arguments),
    /// Stop a running loop from elsewhere, or clear its latched fault.
    Stop(stop::Arguments),
    /// Provoke faults in a loop of this machine and watch what the joints are told.
    Faults(faults::Arguments),
    /// Measure speed as a ratio, side by side in one run.
    Bench(bench::Arguments),
}

impl Verb {
    /// Does it. An error is one line and exit code 2.
    pub(crate) fn act(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Card(arguments) => card::act(&arguments),
            Self::Doctor(arguments) => doctor::act(&arguments),
            Self::Config(arguments) => config::act(&arguments),
            #[cfg(feature = "camera")]
            Self::Camera(arguments) => camera::act(&arguments),
            #[cfg(feature = "sim")]
            Self::Sim(arguments) => sim::act(&arguments),
            Self::Run(arguments) => run::act(&arguments),
            #[cfg(feature = "sim")]
            Self::Record(arguments) => record::act(&arguments),
            #[cfg(feature = "pretrain")]
            Self::Pretrain(arguments) => pretrain::act(&arguments),
            #[cfg(feature = "train")]
            Self::Probe(arguments) => probe::act(&arguments),
            #[cfg(feature = "train")]
            Self::Train(arguments) => train::act(&arguments),
            #[cfg(feature = "train")]
            Self::Export(arguments) => export::act(&arguments),
            #[cfg(feature = "sim")]
            Self::Eval(arguments) => eval::act(&arguments),
            Self::Replay(arguments) => replay::act(&arguments),
            #[cfg(feature = "sim")]
            Self::Verify(arguments) => verify::act(&arguments),
            #[cfg(feature = "pretrain")]
            Self::Import(arguments) => import::act(&arguments),
            Self::Stop(arguments) => stop::act(&arguments),
            Self::Engine(arguments) => engine::act(&arguments),
            Self::Faults(arguments) => faults::act(&arguments),
            Self::Bench(arguments) => bench::act(&arguments),
        }
    }
}
