//! Pretraining: the loop, what it shows, and the folder that it leaves.
//!
//! A run folder holds `checkpoint.safetensors` (whole or not at all, every few minutes and at the end), `metrics.jsonl` (one line a
//! step), `reconstructions.png` (input, what was seen, prediction) and `run.json` (recipe, data, sizes, seed).

mod components;
mod folder;
mod picture;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use self::folder::RunFolder;
pub use self::picture::save_reconstructions;
use crate::checkpoint::{Checkpoint, RunPlace};
use crate::error::ModelsError;
use crate::frames::FrameStore;
use crate::optimiser::{AdamW, gradient_norm, learning_rate};
use crate::parameters::Parameters;
use crate::recipe::Recipe;
use crate::step::{Shards, StepPlace};

/// Steps in a row that may be skipped before training gives up.
const MAX_SKIPPED_IN_A_ROW: u64 = 20;
/// Steps over which the speed is averaged.
const SPEED_STEPS: f64 = 20.0;

/// How to pretrain.
#[derive(Clone, Debug)]
pub struct PretrainOptions {
    /// The method.
    pub recipe: Recipe,
    /// The folder that the run leaves; made if it is not there.
    pub folder: PathBuf,
    /// Of every draw.
    pub seed: u64,
    /// Shards of a batch, each on a thread of its own.
    pub threads: usize,
    /// Samples of a shard that go through the network at a time.
    pub micro_batch: usize,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Goes on from the folder's checkpoint, if there is one: seed, threads and micro-batch are then its own.
    pub resume: bool,
}

/// One step, for whoever watches, and one line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PretrainProgress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// What is minimised.
    pub loss: f64,
    /// Each term before its weight.
    pub terms: Vec<(String, f64)>,
    /// Of the update.
    pub learning_rate: f64,
    /// Euclidean norm of all gradients.
    pub gradient_norm: f64,
    /// Samples a second, averaged over the last steps of this process.
    pub images_per_second: f64,
    /// Until the last step, at this speed.
    pub seconds_left: f64,
    /// Steps skipped so far because something was not finite.
    pub num_skipped: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainOutcome {
    /// Where the checkpoint is.
    pub checkpoint: PathBuf,
    /// Steps done.
    pub step: u64,
    /// Loss of the last step, if one ran.
    pub loss: Option<f64>,
    /// Steps skipped.
    pub num_skipped: u64,
    /// False when the stop flag ended it.
    pub finished: bool,
}

/// Trains until the recipe's steps are done or `stop` is set, then writes a checkpoint; `observer` sees every step.
///
/// # Errors
/// [`ModelsError`] when the folder cannot be written, the checkpoint to resume does not fit, or the loss is not finite for
/// 20 steps in a row.
pub fn pretrain(
    options: &PretrainOptions,
    store: &FrameStore,
    observer: &mut dyn FnMut(&PretrainProgress),
    stop: &AtomicBool,
) -> Result<PretrainOutcome, ModelsError> {
    let folder = RunFolder::create(&options.folder)?;
    let mut run = Run::start(options, store, &folder)?;
    let mut metrics = folder.metrics(run.checkpoint.place.step)?;
    let mut last_saved = Instant::now();
    let mut loss = None;
    let mut is_saved = false;
    while run.checkpoint.place.step < run.num_steps() && !stop.load(Ordering::Relaxed) {
        let progress = run.step(store)?;
        loss = Some(progress.loss);
        metrics.append(&progress)?;
        observer(&progress);
        is_saved = false;
        if last_saved.elapsed() >= options.checkpoint_every {
            run.save(&folder, store)?;
            last_saved = Instant::now();
            is_saved = true;
        }
    }
    metrics.flush()?;
    if !is_saved {
        run.save(&folder, store)?;
    }
    Ok(PretrainOutcome {
        checkpoint: folder.checkpoint(),
        step: run.checkpoint.place.step,
        loss,
        num_skipped: run.checkpoint.place.num_skipped,
        finished: run.checkpoint.place.step >= run.num_steps(),
    })
}

struct Run {
    checkpoint: Checkpoint,
    shards: Shards,
    skipped_in_a_row: u64,
    seconds_per_step: Option<f64>,
}

impl Run {
    fn start(options: &PretrainOptions, store: &FrameStore, folder: &RunFolder) -> Result<Self, ModelsError> {
        if store.num_frames() == 0 {
            return Err(ModelsError::Training("there is no frame to train on".to_string()));
        }
        let checkpoint = match options.resume && folder.checkpoint().exists() {
            true => resume(options, store, folder)?,
            false => Checkpoint {
                recipe: options.recipe.clone(),
                parameters: Parameters::initialise(&options.recipe, options.seed),
                optimiser: AdamW::default(),
                place: RunPlace {
                    seed: options.seed,
                    threads: options.threads.clamp(1, options.recipe.optimiser.batch_size),
                    micro_batch: options.micro_batch.max(1),
                    num_frames: store.num_frames(),
                    ..RunPlace::default()
                },
            },
        };
        folder.describe(&checkpoint, store)?;
        let device = Device::flex().autodiff();
        let RunPlace { threads, micro_batch, .. } = checkpoint.place;
        let shards = Shards::new(&checkpoint.recipe, threads, (micro_batch, &device))?;
        Ok(Self { checkpoint, shards, skipped_in_a_row: 0, seconds_per_step: None })
    }

    fn num_steps(&self) -> u64 {
        self.checkpoint.recipe.optimiser.steps as u64
    }

    fn step(&mut self, store: &FrameStore) -> Result<PretrainProgress, ModelsError> {
        let started = Instant::now();
        let Checkpoint { recipe, parameters, optimiser, place } = &mut self.checkpoint;
        let here = StepPlace { seed: place.seed, step: place.step };
        let result = self.shards.run((recipe, parameters), store, here)?;
        let norm = gradient_norm(&result.gradients);
        let rate = learning_rate(&recipe.optimiser, place.step);
        if result.loss.is_finite() && norm.is_finite() {
            optimiser.update(parameters, &result.gradients, (&recipe.optimiser, rate))?;
            self.skipped_in_a_row = 0;
        } else {
            place.num_skipped += 1;
            self.skipped_in_a_row += 1;
            if self.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW {
                let steps = self.skipped_in_a_row;
                return Err(ModelsError::Training(format!(
                    "the loss was not finite for {steps} steps in a row; lower optimiser.base_learning_rate"
                )));
            }
        }
        place.step += 1;
        let [step, batch_size] = [place.step, recipe.optimiser.batch_size as u64];
        let seconds = started.elapsed().as_secs_f64();
        let average = self.seconds_per_step.map_or(seconds, |average| average + (seconds - average) / SPEED_STEPS);
        self.seconds_per_step = Some(average);
        let num_skipped = place.num_skipped;
        let steps = self.num_steps();
        Ok(PretrainProgress {
            step,
            steps,
            loss: result.loss,
            terms: result.terms,
            learning_rate: rate,
            gradient_norm: norm,
            images_per_second: batch_size as f64 / average.max(1e-9),
            seconds_left: average * steps.saturating_sub(step) as f64,
            num_skipped,
        })
    }

    fn save(&self, folder: &RunFolder, store: &FrameStore) -> Result<(), ModelsError> {
        self.checkpoint.save(&folder.checkpoint())?;
        save_reconstructions(&self.checkpoint, store, &folder.reconstructions())
    }
}

/// The folder's checkpoint, if it is of this recipe and of as many frames. More or fewer steps than before are allowed.
fn resume(options: &PretrainOptions, store: &FrameStore, folder: &RunFolder) -> Result<Checkpoint, ModelsError> {
    let mut checkpoint = Checkpoint::load(&folder.checkpoint())?;
    let fail = |problem: String| Err(ModelsError::Checkpoint { path: folder.checkpoint(), problem });
    let mut recipe = checkpoint.recipe.clone();
    recipe.optimiser.steps = options.recipe.optimiser.steps;
    if recipe != options.recipe {
        return fail(format!("is of another recipe ({}); resume with that one or take a new folder", recipe.name));
    }
    let [before, now] = [checkpoint.place.num_frames, store.num_frames()];
    if before != now {
        return fail(format!("was trained on {before} frames and there are {now}; give the same data or a new folder"));
    }
    checkpoint.recipe = recipe;
    Ok(checkpoint)
}
