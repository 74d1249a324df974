//! Pretraining: the loop, what it shows, and the folder that it leaves.
//!
//! A run folder holds `checkpoint.safetensors` (whole or not at all, every few minutes and at the end), `metrics.jsonl` (one line a
//! step), `reconstructions.png` (input, what was seen, prediction) and `run.json` (recipe, data, sizes, seed).

mod components;
mod folder;
mod picture;
mod progress;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::folder::RunFolder;
pub use self::folder::{check_folder, run_checkpoint};
use self::picture::Preview;
pub use self::progress::PretrainProgress;
use crate::checkpoint::{Checkpoint, RunPlace};
use crate::clips::ClipSource;
use crate::device::Compute;
use crate::error::ModelsError;
use crate::loader::Unreadable;
use crate::optimiser::{AdamW, gradient_norm, learning_rate};
use crate::parameters::Parameters;
use crate::recipe::{Recipe, ViewsKind};
use crate::step::{ShardPlan, Shards};

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
    /// Of every draw; without one, the checkpoint's, or 0. A run does not go on with another seed than it began with.
    pub seed: Option<u64>,
    /// Shards of a batch, each on a thread of its own.
    pub threads: usize,
    /// Threads that read, decode and crop ahead; each shard has at least one. They change nothing but the speed.
    pub decode_threads: usize,
    /// Samples of a shard that go through the network at a time.
    pub micro_batch: usize,
    /// Where, and in which numbers. Not the checkpoint's: a run may go on elsewhere, bit for bit on the CPU device alone.
    pub compute: Compute,
    /// Time between checkpoints.
    pub checkpoint_every: Duration,
    /// Goes on from the folder's checkpoint, if there is one: threads and micro-batch are then its own. Without this a folder that holds
    /// a checkpoint is refused.
    pub resume: bool,
}

/// `run.json`: what the run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The method, as it was run.
    pub recipe: Recipe,
    /// The data, in one line.
    pub data: String,
    /// Clips in all.
    pub num_clips: usize,
    /// Samples of one epoch.
    pub num_samples: usize,
    /// What could not be read so far and was passed over, one line each.
    pub data_problems: Vec<String>,
    /// Of every draw.
    pub seed: u64,
    /// Shards of a batch.
    pub threads: usize,
    /// Samples of a shard that go through the network at a time.
    pub micro_batch: usize,
    /// Where the shards ran, by name.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Of the matrix products: `f32` or `bf16`.
    #[serde(default)]
    pub arithmetic: String,
    /// Trained values.
    pub num_trainable: usize,
    /// What each row of `reconstructions.png` shows, from the top.
    pub picture_rows: Vec<String>,
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
    /// Data that could not be read and were passed over, one line each.
    pub data_problems: Vec<String>,
    /// False when the stop flag ended it.
    pub finished: bool,
}

/// Trains until the recipe's steps are done or `stop` is set, then writes a checkpoint; `observer` sees every step.
///
/// # Errors
/// [`ModelsError`] when the folder cannot be written or holds a checkpoint that is not to be resumed, the checkpoint to resume does not
/// fit, no clip can be read, or the loss is not finite for 20 steps in a row. A run that fails before its first step leaves no
/// folder that it made.
pub fn pretrain(
    options: &PretrainOptions,
    source: &dyn ClipSource,
    observer: &mut dyn FnMut(&PretrainProgress),
    stop: &AtomicBool,
) -> Result<PretrainOutcome, ModelsError> {
    check_source(&options.recipe, source)?;
    check_folder(&options.folder, options.resume)?;
    let folder = RunFolder::create(&options.folder)?;
    let mut has_stepped = false;
    let mut watch = |progress: &PretrainProgress| {
        has_stepped = true;
        observer(progress);
    };
    let outcome = run_in(&folder, (options, source), (&mut watch, stop));
    if outcome.is_err() && !has_stepped {
        folder.take_back();
    }
    outcome
}

fn run_in(
    folder: &RunFolder,
    (options, source): (&PretrainOptions, &dyn ClipSource),
    (observer, stop): (&mut dyn FnMut(&PretrainProgress), &AtomicBool),
) -> Result<PretrainOutcome, ModelsError> {
    let checkpoint = first_checkpoint(options, source, folder)?;
    let recipe = checkpoint.recipe.clone();
    let earlier = folder.described().filter(|_| checkpoint.place.step > 0);
    let (problems, picture_rows) = earlier.map(|facts| (facts.data_problems, facts.picture_rows)).unwrap_or_default();
    // What the source says itself, it says again.
    let of_source = source.problems();
    let unreadable = Unreadable::from_lines(problems.into_iter().filter(|line| !of_source.contains(line)));
    let plan = ShardPlan {
        recipe: &recipe,
        source,
        unreadable: &unreadable,
        seed: checkpoint.place.seed,
        first_step: checkpoint.place.step,
        threads: checkpoint.place.threads,
        decode_threads: options.decode_threads,
        micro_batch: checkpoint.place.micro_batch,
        compute: &options.compute,
    };
    std::thread::scope(|scope| {
        let preview = Preview::new(&checkpoint, source, &unreadable)?;
        let shards = Shards::start(scope, plan)?;
        let run = Run {
            checkpoint,
            shards,
            preview,
            picture_rows,
            folder,
            plan,
            skipped_in_a_row: 0,
            seconds_per_step: None,
        };
        run.until_done((options.checkpoint_every, stop), observer)
    })
}

struct Run<'a> {
    checkpoint: Checkpoint,
    shards: Shards,
    preview: Preview,
    picture_rows: Vec<String>,
    folder: &'a RunFolder,
    plan: ShardPlan<'a>,
    skipped_in_a_row: u64,
    seconds_per_step: Option<f64>,
}

impl Run<'_> {
    fn until_done(
        mut self,
        (checkpoint_every, stop): (Duration, &AtomicBool),
        observer: &mut dyn FnMut(&PretrainProgress),
    ) -> Result<PretrainOutcome, ModelsError> {
        self.describe()?;
        let mut metrics = self.folder.metrics(self.checkpoint.place.step)?;
        let mut last_saved = Instant::now();
        let mut loss = None;
        let mut is_saved = self.checkpoint.place.step == 0;
        while self.checkpoint.place.step < self.num_steps() && !stop.load(Ordering::Relaxed) {
            let progress = match self.step() {
                Ok(progress) => progress,
                Err(error) => {
                    // What was learnt so far is whole.
                    metrics.flush()?;
                    if !is_saved {
                        self.save()?;
                    }
                    return Err(error);
                }
            };
            loss = Some(progress.loss);
            metrics.append(&progress)?;
            observer(&progress);
            is_saved = false;
            if last_saved.elapsed() >= checkpoint_every {
                metrics.flush()?;
                self.save()?;
                last_saved = Instant::now();
                is_saved = true;
            }
        }
        metrics.flush()?;
        if !is_saved {
            self.save()?;
        }
        Ok(PretrainOutcome {
            checkpoint: self.folder.checkpoint(),
            step: self.checkpoint.place.step,
            loss,
            num_skipped: self.checkpoint.place.num_skipped,
            data_problems: self.data_problems(),
            finished: self.checkpoint.place.step >= self.num_steps(),
        })
    }

    fn num_steps(&self) -> u64 {
        self.checkpoint.recipe.optimiser.steps as u64
    }

    fn step(&mut self) -> Result<PretrainProgress, ModelsError> {
        let started = Instant::now();
        let Checkpoint { recipe, parameters, optimiser, place } = &mut self.checkpoint;
        let result = self.shards.run((recipe, parameters), place.step)?;
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
        let [step, samples_per_step] = [place.step, recipe.samples_per_step() as u64];
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
            waited_seconds: result.waited_seconds,
            images_per_second: samples_per_step as f64 / average.max(1e-9),
            seconds_left: average * steps.saturating_sub(step) as f64,
            num_skipped,
            num_clips_skipped: self.plan.unreadable.num_skipped(),
        })
    }

    fn save(&mut self) -> Result<(), ModelsError> {
        self.checkpoint.save(&self.folder.checkpoint())?;
        let pictures = self.preview.draw(&self.checkpoint)?;
        pictures.save(&self.folder.reconstructions())?;
        self.picture_rows = pictures.rows;
        self.describe()
    }

    fn describe(&self) -> Result<(), ModelsError> {
        let facts = RunFacts {
            recipe: self.checkpoint.recipe.clone(),
            data: self.plan.source.description(),
            num_clips: self.plan.source.num_clips(),
            num_samples: self.plan.source.num_samples(),
            data_problems: self.data_problems(),
            seed: self.checkpoint.place.seed,
            threads: self.checkpoint.place.threads,
            micro_batch: self.checkpoint.place.micro_batch,
            devices: self.plan.compute.devices.iter().map(ToString::to_string).collect(),
            arithmetic: self.plan.compute.arithmetic.to_string(),
            num_trainable: self.checkpoint.parameters.num_trainable(),
            picture_rows: self.picture_rows.clone(),
        };
        self.folder.describe(&facts)
    }

    fn data_problems(&self) -> Vec<String> {
        let mut problems = self.plan.source.problems();
        problems.extend(self.plan.unreadable.lines());
        problems
    }
}

/// Whether the recipe can learn from the source at all.
fn check_source(recipe: &Recipe, source: &dyn ClipSource) -> Result<(), ModelsError> {
    if source.num_samples() == 0 {
        return Err(ModelsError::Training("there is no frame to train on".to_string()));
    }
    let needs_motion = match recipe.views.kind {
        ViewsKind::Single | ViewsKind::NestedCrops => false,
        ViewsKind::FramePair | ViewsKind::FramePairOwnCrops | ViewsKind::Clip => true,
    };
    if needs_motion && source.is_still() {
        let name = &recipe.name;
        let problem =
            format!("{name} learns from what moves, and the data are stills; give clips, or take mae or crop-mae");
        return Err(ModelsError::Training(problem));
    }
    Ok(())
}

fn first_checkpoint(
    options: &PretrainOptions,
    source: &dyn ClipSource,
    folder: &RunFolder,
) -> Result<Checkpoint, ModelsError> {
    if options.resume && folder.checkpoint().exists() {
        return resume(options, source, folder);
    }
    let seed = options.seed.unwrap_or(0);
    Ok(Checkpoint {
        recipe: options.recipe.clone(),
        parameters: Parameters::initialise(&options.recipe, seed),
        optimiser: AdamW::default(),
        place: RunPlace {
            seed,
            threads: options.threads.clamp(1, options.recipe.optimiser.batch_size),
            micro_batch: options.micro_batch.max(1),
            num_samples: source.num_samples(),
            ..RunPlace::default()
        },
    })
}

/// The folder's checkpoint, if it is of this recipe, of this seed and of as many samples. More or fewer steps than before are allowed.
fn resume(options: &PretrainOptions, source: &dyn ClipSource, folder: &RunFolder) -> Result<Checkpoint, ModelsError> {
    let mut checkpoint = Checkpoint::load(&folder.checkpoint())?;
    let fail = |problem: String| Err(ModelsError::Checkpoint { path: folder.checkpoint(), problem });
    let mut recipe = checkpoint.recipe.clone();
    recipe.optimiser.steps = options.recipe.optimiser.steps;
    if recipe != options.recipe {
        let problem = match recipe.name == options.recipe.name {
            true => format!(
                "is of another recipe of the name {}, from before it changed; give that one as a file",
                recipe.name
            ),
            false => format!("is of another recipe ({}); resume with that one", recipe.name),
        };
        return fail(format!("{problem} or take a new folder"));
    }
    let seed = checkpoint.place.seed;
    if let Some(other) = options.seed.filter(|other| *other != seed) {
        return fail(format!(
            "was begun with seed {seed}, and --seed {other} is given; leave --seed out or take a new folder"
        ));
    }
    let [before, now] = [checkpoint.place.num_samples, source.num_samples()];
    if before != now {
        return fail(format!(
            "was trained on {before} samples an epoch and there are {now}; give the same data or a new folder"
        ));
    }
    checkpoint.recipe = recipe;
    Ok(checkpoint)
}
