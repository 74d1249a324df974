//! How fast a recipe trains on this machine: whole steps on made-up frames, views and optimiser included.

use std::time::Instant;

use burn::tensor::Device;
use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;
use serde::Serialize;

use crate::cost::recipe_cost;
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
/// Steps before the clock starts.
const NUM_WARM_UP: u64 = 2;

/// What to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The method; its batch size is what a step takes.
    pub recipe: Recipe,
    /// Shards of a batch, each on a thread of its own.
    pub threads: usize,
    /// Samples of a shard that go through the network at a time.
    pub micro_batch: usize,
    /// Steps that count.
    pub steps: u64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchReport {
    /// The recipe's name.
    pub recipe: String,
    /// Samples in a step.
    pub batch_size: usize,
    /// Shards.
    pub threads: usize,
    /// Samples that go through the network at a time.
    pub micro_batch: usize,
    /// Steps that counted.
    pub steps: u64,
    /// Median time of a step.
    pub median_seconds: f64,
    /// Shortest time of a step.
    pub shortest_seconds: f64,
    /// At the median.
    pub samples_per_second: f64,
    /// Billions of floating-point operations of the matrix products a second, at the median.
    pub gflops_per_second: f64,
}

/// Trains a fresh model for a few steps and times each.
///
/// # Errors
/// [`ModelsError`] when a step fails.
pub fn bench_pretrain(options: &BenchOptions) -> Result<BenchReport, ModelsError> {
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
    };
    let mut seconds = std::thread::scope(|scope| -> Result<Vec<f64>, ModelsError> {
        let mut shards = Shards::start(scope, plan, &Device::flex().autodiff())?;
        let mut parameters = Parameters::initialise(recipe, 0);
        let mut optimiser = AdamW::default();
        let mut seconds = Vec::new();
        for step in 0..NUM_WARM_UP + options.steps.max(1) {
            let started = Instant::now();
            let result = shards.run((recipe, &parameters), step)?;
            optimiser.update(&mut parameters, &result.gradients, (&recipe.optimiser, 1e-6))?;
            if step >= NUM_WARM_UP {
                seconds.push(started.elapsed().as_secs_f64());
            }
        }
        Ok(seconds)
    })?;
    seconds.sort_by(f64::total_cmp);
    let median_seconds = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    let samples_per_second = recipe.samples_per_step() as f64 / median_seconds;
    Ok(BenchReport {
        recipe: recipe.name.clone(),
        batch_size: recipe.samples_per_step(),
        threads: options.threads,
        micro_batch: options.micro_batch,
        steps: options.steps.max(1),
        median_seconds,
        shortest_seconds: seconds.first().copied().unwrap_or(f64::NAN),
        samples_per_second,
        gflops_per_second: recipe_cost(recipe).step_gflops * samples_per_second,
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
