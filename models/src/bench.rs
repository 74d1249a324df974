//! How fast a recipe trains on this machine: whole steps on made-up frames, views and optimiser included.

use std::time::Instant;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;

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

/// Trains a fresh model as long as `goes_on` says, which hears the seconds of each step (none before the first).
///
/// # Errors
/// [`ModelsError`] when a step fails.
pub fn time_steps(options: &BenchOptions, goes_on: &mut dyn FnMut(Option<f64>) -> bool) -> Result<(), ModelsError> {
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
        let mut seconds = None;
        for step in 0.. {
            if !goes_on(seconds) {
                break;
            }
            let started = Instant::now();
            let result = shards.run((recipe, &parameters), step)?;
            optimiser.update(&mut parameters, &result.gradients, (&recipe.optimiser, 1e-6))?;
            seconds = Some(started.elapsed().as_secs_f64());
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
