//! `foresee probe results`: every method at equal compute, on the same rendered videos, several seeds; `models/RESULTS.md`.
//!
//! One unit is one method and seed: train, probe, write `units/<method>-<seed>.json`. A unit that is there is not done again, and a
//! training that was stopped goes on from its checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use foresee_models::{
    Checkpoint, Compute, EncoderWeights, FrameStore, PretrainOptions, ProbeEncoder, Recipe, Shrink, future_psnr,
    pretrain, save_propagation,
};
use foresee_runtime::{Frame, write_atomically};

use super::clips::{Clip, ClipOptions, Labels, render_clips};
use super::methods::{METHODS, Method, Source, small_recipe};
use super::plan::{PROBE_VERSION, Plan, Unit, keep_plan, read_units};
use super::scores::{Gathered, Score};
use super::simulated::{JointClips, joint_positions, propagate, propagated};
use super::table;
use crate::words::{print, say};
use crate::{machine, places, stop, trail};

/// Arguments of `foresee probe results`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Folder of trainings and units; what it holds already is not done again.
    #[arg(long, default_value = "runs/results", value_name = "DIR")]
    work: PathBuf,
    /// The table to write, in Markdown; the picture of the propagated labels goes beside it.
    #[arg(long, default_value = "models/RESULTS.md", value_name = "FILE.md")]
    out: PathBuf,
    /// Seeds: of the first weights, of every draw of the training, and of the videos that are probed on.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Training compute of each method and seed, in TFLOP: forward and backward matrix products, as foresee pretrain --list counts them.
    #[arg(long, default_value_t = 2.0, value_name = "TFLOP")]
    compute: f64,
    /// Episodes of each task that are trained on.
    #[arg(long, default_value_t = 20, value_name = "N")]
    episodes: u64,
    /// Videos of each task and seed that are probed on.
    #[arg(long, default_value_t = 6, value_name = "N")]
    videos: u64,
    /// Write the table of the units that are there; train and probe nothing.
    #[arg(long)]
    table_only: bool,
}

/// Tasks with several moving bodies that are large enough for patches, and whose camera shows every driven joint.
const TASKS: [&str; 4] = ["dmc/finger-spin", "dmc/walker-walk", "metaworld/drawer-open", "table/pick-place"];
/// First seeds of videos, far apart, so that no probe sees what was trained on.
const TRAIN_SEEDS: u64 = 5_000_000;
const VIDEO_SEEDS: u64 = 6_000_000;
const JOINT_SEEDS: u64 = 7_000_000;
/// Patches of a probed frame's side: twice what was trained on, as published protocols probe on larger frames.
const PROPAGATION_GRID: [usize; 2] = [16, 16];
const TRAINED_GRID: [usize; 2] = [8, 8];
/// Steps at the end of a training whose divergence is kept.
const LAST_STEPS: u64 = 50;
/// Samples of a shard that go through the network at a time.
const MICRO_BATCH: usize = 16;

/// Trains, probes, writes the table; Ctrl-C leaves what is done.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let plan = plan(arguments)?;
    for part in ["units", "train"] {
        let folder = arguments.work.join(part);
        std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    keep_plan(&arguments.work, &plan)?;
    let mut run = Run { plan, arguments, stop: &stop, store: None, probes: None };
    if !arguments.table_only {
        run.all_units()?;
    }
    let units = read_units(&arguments.work)?;
    if units.is_empty() {
        bail!("{}: no unit is finished yet; run again without --table-only", arguments.work.display());
    }
    let picture = arguments.out.with_extension("png");
    if !stop.load(Ordering::Relaxed) && !arguments.table_only {
        run.draw(&picture)?;
    }
    let command = trail::command_line().replace(" --table-only", "");
    table::write(&arguments.out, &table::Facts { plan: &run.plan, units: &units, command: &command })?;
    let num_wanted = METHODS.len() * arguments.seeds as usize;
    print(&format!("{}: {} of {num_wanted} units", arguments.out.display(), units.len()));
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn plan(arguments: &Arguments) -> anyhow::Result<Plan> {
    if !(arguments.compute.is_finite() && arguments.compute > 0.0) {
        bail!("--compute {}: give a number of TFLOP above 0", arguments.compute);
    }
    for (name, value) in
        [("--seeds", arguments.seeds), ("--episodes", arguments.episodes), ("--videos", arguments.videos)]
    {
        if value == 0 {
            bail!("{name} 0: give at least 1");
        }
    }
    let mut recipes = BTreeMap::new();
    for method in METHODS.iter().filter(|method| matches!(method.source, Source::Trained { .. })) {
        recipes.insert(method.name.to_owned(), toml::to_string(&method.recipe(arguments.compute)?)?);
    }
    Ok(Plan {
        tasks: TASKS.map(str::to_owned).to_vec(),
        compute_tflop: arguments.compute,
        train_episodes: arguments.episodes,
        train_frames: 100,
        videos: arguments.videos,
        video_frames: 24,
        render_size: 128,
        joint_clips: [32, 16],
        joint_frames: 25,
        future_gap: 12,
        probe_version: PROBE_VERSION,
        recipes,
    })
}

struct Run<'a> {
    plan: Plan,
    arguments: &'a Arguments,
    stop: &'a AtomicBool,
    /// Training frames, rendered when the first training needs them.
    store: Option<FrameStore>,
    /// Clips of the seed that is at hand.
    probes: Option<(u64, ProbeClips)>,
}

/// What a seed is probed on.
struct ProbeClips {
    videos: Vec<Clip>,
    /// Of each joint task: to learn from, to be asked on.
    joints: Vec<[Vec<Clip>; 2]>,
}

impl Run<'_> {
    /// Seed by seed, so that an interrupted run has whole rows.
    fn all_units(&mut self) -> anyhow::Result<()> {
        for seed in 0..self.arguments.seeds {
            for method in METHODS {
                let path = self.arguments.work.join(format!("units/{}-{seed}.json", method.name));
                if path.exists() {
                    continue;
                }
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let Some(unit) = self.unit(method, seed)? else { return Ok(()) };
                write_atomically(&path, &serde_json::to_vec_pretty(&unit)?)?;
                say(&format!("{} seed {seed}: {}", method.name, brief(&unit)));
            }
        }
        Ok(())
    }

    /// Nothing when it was interrupted.
    fn unit(&mut self, method: &Method, seed: u64) -> anyhow::Result<Option<Unit>> {
        let mut unit = Unit {
            method: method.name.to_owned(),
            seed,
            git_revision: machine::GIT_REVISION.to_owned(),
            ..Unit::default()
        };
        if let Source::Trained { .. } = method.source
            && !self.train(method, seed, &mut unit)?
        {
            return Ok(None);
        }
        let encoder = self.encoder(method, seed)?;
        self.render_probes(seed)?;
        let Some((_, clips)) = &self.probes else { bail!("no clip was rendered") };
        let mut gathered = Gathered::default();
        gathered.extend(propagate(&encoder, &clips.videos, PROPAGATION_GRID)?);
        for [train, test] in &clips.joints {
            gathered.extend(joint_positions(&encoder, &JointClips { train, test }, TRAINED_GRID)?);
        }
        unit.scores = gathered.means();
        if method.predicts_future() {
            let checkpoint = Checkpoint::load(&self.checkpoint(method, seed))?;
            unit.future = Some(future_psnr(&checkpoint, &future_pairs(&clips.videos, self.plan.future_gap), seed)?);
        }
        Ok(Some(unit))
    }

    fn checkpoint(&self, method: &Method, seed: u64) -> PathBuf {
        self.arguments.work.join(format!("train/{}-{seed}/checkpoint.safetensors", method.name))
    }

    fn encoder(&self, method: &Method, seed: u64) -> anyhow::Result<ProbeEncoder> {
        Ok(match method.source {
            Source::RawPixels => ProbeEncoder::raw_pixels(method.name, &small_recipe("mae", 1.0)?),
            Source::Random => ProbeEncoder::random(method.name, &small_recipe("mae", 1.0)?, seed),
            Source::Trained { .. } => {
                ProbeEncoder::trained(method.name, &EncoderWeights::load(&self.checkpoint(method, seed))?)
            }
        })
    }

    /// Whether it was finished.
    fn train(&mut self, method: &Method, seed: u64, unit: &mut Unit) -> anyhow::Result<bool> {
        let recipe = method.recipe(self.plan.compute_tflop)?;
        (unit.steps, unit.samples, unit.tflop) = compute_of(&recipe);
        let options = PretrainOptions {
            recipe,
            folder: self.arguments.work.join(format!("train/{}-{seed}", method.name)),
            seed: Some(seed),
            threads: 1,
            decode_threads: 1,
            micro_batch: MICRO_BATCH,
            compute: Compute::default(),
            checkpoint_every: Duration::from_secs(60),
            resume: true,
        };
        self.render_training()?;
        let Some(store) = &self.store else { bail!("no training frame was rendered") };
        let started = Instant::now();
        let mut told = Instant::now();
        let mut last_divergences = Vec::new();
        let mut observe = |progress: &foresee_models::PretrainProgress| {
            if progress.step + LAST_STEPS > progress.steps {
                let divergence = progress.terms.iter().find(|(name, _)| name == "kl");
                last_divergences.extend(divergence.map(|(_, nats)| *nats));
            }
            if told.elapsed() > Duration::from_secs(20) {
                told = Instant::now();
                let numbers = (progress.step, progress.steps, progress.loss, progress.seconds_left);
                say(&format!(
                    "{} seed {seed}: step {}/{}  loss {:.4}  {:.0} s left",
                    method.name, numbers.0, numbers.1, numbers.2, numbers.3
                ));
            }
        };
        let outcome = pretrain(&options, store, &mut observe, self.stop)?;
        unit.train_seconds = started.elapsed().as_secs_f64();
        unit.loss = outcome.loss;
        unit.kl_nats = Some(Score::of(&last_divergences).mean).filter(|_| !last_divergences.is_empty());
        Ok(outcome.finished)
    }

    fn render_training(&mut self) -> anyhow::Result<()> {
        if self.store.is_some() {
            return Ok(());
        }
        let size = small_recipe("mae", 1.0)?.data.stored_size;
        let mut store = FrameStore::new(size);
        let mut shrink = Shrink::new(size)?;
        for (task_idx, task) in (0..).zip(&self.plan.tasks) {
            let first = TRAIN_SEEDS + 10_000 * task_idx;
            let options = self.clips(task, (first..first + self.plan.train_episodes, self.plan.train_frames));
            render_clips(&options, &mut |clip| {
                store.start_clip();
                for frame in &clip.video.frames {
                    store.push(frame, &mut shrink)?;
                }
                Ok(!self.stop.load(Ordering::Relaxed))
            })?;
        }
        say(&format!("training frames: {} in {} clips", store.num_frames(), store.clips().len()));
        self.store = Some(store);
        Ok(())
    }

    fn render_probes(&mut self, seed: u64) -> anyhow::Result<()> {
        if self.probes.as_ref().is_some_and(|(of_seed, _)| *of_seed == seed) {
            return Ok(());
        }
        let plan = &self.plan;
        let mut clips = ProbeClips { videos: Vec::new(), joints: Vec::new() };
        for (task_idx, task) in (0..).zip(&plan.tasks) {
            let first = VIDEO_SEEDS + 100_000 * seed + 10_000 * task_idx;
            let mut options = self.clips(task, (first..first + plan.videos, plan.video_frames));
            options.labels = Labels::OBJECTS;
            clips.videos.extend(all_clips(&options)?);
            let first = JOINT_SEEDS + 100_000 * seed + 10_000 * task_idx;
            let [num_train, num_test] = plan.joint_clips;
            let of = |seeds| all_clips(&self.clips(task, (seeds, plan.joint_frames)));
            let asked = first + num_train;
            clips.joints.push([of(first..asked)?, of(asked..asked + num_test)?]);
        }
        self.probes = Some((seed, clips));
        Ok(())
    }

    fn clips<'b>(&self, task: &'b str, (seeds, num_frames): (std::ops::Range<u64>, usize)) -> ClipOptions<'b> {
        ClipOptions {
            task,
            native: places::native(),
            size: self.plan.render_size,
            num_frames,
            seeds,
            labels: Labels::None,
        }
    }

    /// One video of each of two tasks with every method's labels: `<out>.png` and `propagation-<n>.png` in the work folder.
    fn draw(&mut self, picture: &Path) -> anyhow::Result<()> {
        let seed = 0;
        let methods: Vec<&Method> = METHODS
            .iter()
            .filter(|method| !matches!(method.source, Source::Trained { .. }) || self.checkpoint(method, seed).exists())
            .collect();
        self.render_probes(seed)?;
        let Some((_, clips)) = &self.probes else { bail!("no clip was rendered") };
        let firsts = clips.videos.iter().step_by(self.plan.videos as usize);
        for (task_idx, Clip { video, .. }) in firsts.enumerate() {
            let mut rows = Vec::new();
            for method in &methods {
                rows.push(propagated(&self.encoder(method, seed)?, video, PROPAGATION_GRID)?);
            }
            save_propagation(video, &rows, &self.arguments.work.join(format!("propagation-{task_idx}.png")))?;
            // The Sawyer arm: large parts of one colour.
            if task_idx == 2 {
                save_propagation(video, &rows, picture)?;
            }
        }
        Ok(())
    }
}

fn all_clips(options: &ClipOptions<'_>) -> anyhow::Result<Vec<Clip>> {
    let mut clips = Vec::new();
    render_clips(options, &mut |clip| {
        clips.push(clip);
        Ok(true)
    })?;
    Ok(clips)
}

/// Steps, samples and TFLOP of a training.
fn compute_of(recipe: &Recipe) -> (u64, u64, f64) {
    let samples = (recipe.optimiser.steps * recipe.samples_per_step()) as u64;
    let gflops = foresee_models::recipe_cost(recipe).step_gflops;
    (recipe.optimiser.steps as u64, samples, samples as f64 * gflops / 1000.0)
}

/// Four pairs of each video, evenly spread.
fn future_pairs(videos: &[Clip], gap: usize) -> Vec<[Frame; 2]> {
    let mut pairs = Vec::new();
    for Clip { video, .. } in videos {
        let starts = video.frames.len().saturating_sub(gap);
        for start in (0..4).map(|part| part * starts / 4) {
            if let (Some(now), Some(later)) = (video.frames.get(start), video.frames.get(start + gap)) {
                pairs.push([now.clone(), later.clone()]);
            }
        }
    }
    pairs
}

fn brief(unit: &Unit) -> String {
    let scores = unit.scores.iter().map(|(name, value)| format!("{name} {value:.1}"));
    let trained = format!("{} steps in {:.0} s", unit.steps, unit.train_seconds);
    std::iter::once(trained).chain(scores).collect::<Vec<_>>().join(", ")
}
