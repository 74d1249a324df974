//! How fast a recipe trains on this machine: whole steps on made-up frames, views and optimiser included.

use std::time::Instant;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;
use serde::{Deserialize, Serialize};

use crate::account::{self, Pass, Work};
use crate::device::Compute;
use crate::error::ModelsError;
use crate::frames::{FrameStore, Shrink};
use crate::loader::Unreadable;
use crate::optimiser::AdamW;
use crate::parameters::Parameters;
use crate::random::{Stream, generator, uniforms};
use crate::recipe::Recipe;
use crate::step::{ShardPlan, Shards};

/// Frames to train on.
const NUM_FRAMES: usize = 64;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The method; its batch size is what a step takes.
    pub recipe: Recipe,
    /// Shards of a batch, each on a thread of its own.
    pub threads: usize,
    /// Samples of a shard that go through the network at a time.
    pub micro_batch: usize,
    /// Where, and in which numbers.
    pub compute: Compute,
}

/// A part of a step's time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepPart {
    /// Which work.
    pub name: String,
    /// Of the step: for what the shards do at the same time, the mean over them.
    pub seconds: f64,
}

/// Trains a fresh model as long as `goes_on` says, which hears the seconds of each step (none before the first).
///
/// # Errors
/// [`ModelsError`] when a step fails.
pub fn time_steps(options: &BenchOptions, goes_on: &mut dyn FnMut(Option<f64>) -> bool) -> Result<(), ModelsError> {
    steps(options, &mut |times: Option<StepTimes>| goes_on(times.map(|times| times.whole)))
}

/// Where the time of one step goes on the CPU device, after one that does not count. The parts add up to the step.
///
/// # Errors
/// [`ModelsError`] when a step fails.
pub fn step_parts(options: &BenchOptions) -> Result<Vec<StepPart>, ModelsError> {
    let mut num_heard = 0;
    let mut last = None;
    let mut goes_on = |times: Option<StepTimes>| {
        num_heard += 1;
        match num_heard {
            2 => account::begin(),
            3 => account::end(),
            _ => {}
        }
        last = times;
        num_heard < 3
    };
    let outcome = steps(options, &mut goes_on);
    account::end();
    outcome?;
    let Some(times) = last else { return Ok(Vec::new()) };
    let seconds = |work, pass| account::seconds(work, pass) / times.num_shards as f64;
    let mut parts = Vec::new();
    let mut add = |name: String, seconds: f64| parts.push(StepPart { name, seconds });
    for (pass, word) in [(Pass::Forward, "forward"), (Pass::Backward, "backward")] {
        let mut rest = seconds(Work::Network, pass);
        for (work, name) in [
            (Work::Linear, "linear layers"),
            (Work::Attention, "attention"),
            (Work::Norm, "norms"),
            (Work::Activation, "activations"),
        ] {
            rest -= seconds(work, pass);
            add(format!("{name}, {word}"), seconds(work, pass));
        }
        add(format!("residuals, gathers and loss, {word}"), rest);
    }
    add("gradients read and added".to_string(), seconds(Work::Gradients, Pass::Backward));
    add("samples waited for, draws".to_string(), seconds(Work::Samples, Pass::Forward));
    add("optimiser".to_string(), times.optimiser);
    let sum: f64 = parts.iter().map(|part| part.seconds).sum();
    parts.push(StepPart { name: "weights copied, shards waited for".to_string(), seconds: times.whole - sum });
    Ok(parts)
}

/// Seconds of a step.
struct StepTimes {
    whole: f64,
    optimiser: f64,
    num_shards: usize,
}

fn steps(options: &BenchOptions, goes_on: &mut dyn FnMut(Option<StepTimes>) -> bool) -> Result<(), ModelsError> {
    let recipe = &options.recipe;
    let store = made_up_frames(recipe.data.stored_size)?;
    let unreadable = Unreadable::default();
    let plan = ShardPlan {
        recipe,
        source: &store,
        unreadable: &unreadable,
        seed: 0,
        first_step: 0,
        threads: options.threads,
        decode_threads: options.threads,
        micro_batch: options.micro_batch,
        compute: &options.compute,
    };
    std::thread::scope(|scope| {
        let mut shards = Shards::start(scope, plan)?;
        let mut parameters = Parameters::initialise(recipe, 0);
        let mut optimiser = AdamW::default();
        let mut times = None;
        for step in 0.. {
            if !goes_on(times.take()) {
                break;
            }
            let started = Instant::now();
            let result = shards.run((recipe, &parameters), step)?;
            let moved = Instant::now();
            optimiser.update(&mut parameters, &result.gradients, (&recipe.optimiser, 1e-6))?;
            let [whole, optimiser] = [started, moved].map(|since| since.elapsed().as_secs_f64());
            times = Some(StepTimes { whole, optimiser, num_shards: shards.num_shards() });
        }
        Ok(())
    })
}

/// One clip of noise.
fn made_up_frames(size: usize) -> Result<FrameStore, ModelsError> {
    let mut store = FrameStore::new(size);
    let mut shrink = Shrink::new(size)?;
    let side = u32::try_from(size).unwrap_or(u32::MAX);
    let mut frame = Frame::black(side, side, PixelEncoding::Rgb8);
    let mut random = generator(0, Stream::Preview, [0, 0]);
    for _ in 0..NUM_FRAMES {
        let draws = uniforms(&mut random, frame.data.len());
        frame.data.iter_mut().zip(draws).for_each(|(byte, draw)| *byte = (draw * 256.0) as u8);
        store.push(&frame, &mut shrink)?;
    }
    Ok(store)
}
