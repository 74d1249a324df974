//! One training step: the batch is dealt to shards, each on its own thread, and their gradients are added up in a fixed order.

use std::thread::Scope;

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::account::{Pass, Timer, Work};
use crate::clips::ClipSource;
use crate::device::{Arithmetic, Compute};
use crate::error::ModelsError;
use crate::loader::{Loader, LoaderJob, SampleViews, Unreadable};
use crate::mask::Mask;
use crate::method::{Draws, LatentDraw, Outcome, run_method};
use crate::optimiser::HostGradients;
use crate::parameters::Parameters;
use crate::random::{Stream, generator, normals, uniforms};
use crate::recipe::{MaskRule, Recipe};
use crate::weights::Weights;

/// What a batch gave, summed over its parts: each weighs as many samples as it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepResult {
    pub(crate) loss: f64,
    /// In the recipe's order.
    pub(crate) terms: Vec<(String, f64)>,
    pub(crate) gradients: HostGradients,
    /// Seconds that the slowest shard waited for samples.
    pub(crate) waited_seconds: f64,
}

/// What the shards train on and how the work is cut up.
#[derive(Clone, Copy)]
pub(crate) struct ShardPlan<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) source: &'a dyn ClipSource,
    pub(crate) unreadable: &'a Unreadable,
    pub(crate) seed: u64,
    /// The step that will be run first; the others must follow in order.
    pub(crate) first_step: u64,
    pub(crate) threads: usize,
    /// Threads that decode, over all shards; each shard has at least one.
    pub(crate) decode_threads: usize,
    /// Samples that go through the network at a time; fewer stay in the cache.
    pub(crate) micro_batch: usize,
    pub(crate) compute: &'a Compute,
}

/// The threads that share a step. Each has a pool of one for the framework's own loops, so that shards do not wait for each other,
/// and a loader of its own.
pub(crate) struct Shards {
    shards: Vec<Shard>,
    devices: Vec<Device>,
    micro_batch: usize,
    arithmetic: Arithmetic,
    seed: u64,
}

struct Shard {
    pool: ThreadPool,
    /// Among the devices.
    device_idx: usize,
    loader: Loader,
    /// Of each batch: the first sample and how many.
    first: usize,
    count: usize,
}

impl Shards {
    /// Starts decoding; `plan.source` has been checked not to be empty.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        plan: ShardPlan<'scope>,
    ) -> Result<Self, ModelsError> {
        let devices = plan.compute.open()?;
        let (batch_size, repeats) = (plan.recipe.optimiser.batch_size, plan.recipe.data.repeated_sampling);
        let threads = plan.threads.clamp(1, batch_size);
        let per_shard = batch_size.div_ceil(threads);
        let mut shards = Vec::with_capacity(threads);
        let firsts = (0..batch_size).step_by(per_shard);
        for ((shard_idx, first), device_idx) in firsts.enumerate().zip((0..devices.len()).cycle()) {
            let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("pretrain-{shard_idx}"));
            let pool = builder.build().map_err(|error| ModelsError::Training(format!("threads: {error}")))?;
            let count = per_shard.min(batch_size - first);
            let job = LoaderJob {
                recipe: plan.recipe,
                source: plan.source,
                unreadable: plan.unreadable,
                seed: plan.seed,
                first_step: plan.first_step,
                first,
                count,
                shard_idx,
                threads: (plan.decode_threads / threads).max(1),
                max_waiting: (2 * plan.micro_batch.max(1)).div_ceil(repeats).min(2 * count),
            };
            let loader = Loader::start(scope, job)?;
            shards.push(Shard { pool, device_idx, loader, first: first * repeats, count: count * repeats });
        }
        let (micro_batch, arithmetic) = (plan.micro_batch.max(1), plan.compute.arithmetic);
        Ok(Self { shards, devices, micro_batch, arithmetic, seed: plan.seed })
    }

    /// Threads that share a step.
    pub(crate) fn num_shards(&self) -> usize {
        self.shards.len()
    }

    /// Losses and gradients of the next batch, which must be that of `step`.
    pub(crate) fn run(
        &mut self,
        (recipe, parameters): (&Recipe, &Parameters),
        step: u64,
    ) -> Result<StepResult, ModelsError> {
        let (micro_batch, seed) = (self.micro_batch, self.seed);
        let upload = |device| Weights::upload(parameters, device).with_arithmetic(self.arithmetic);
        let weights: Vec<Weights> = self.devices.iter().map(upload).collect();
        let work = ShardWork { recipe, weights: &weights, seed, step, micro_batch };
        let results: Vec<Result<StepResult, ModelsError>> = std::thread::scope(|scope| {
            let run = |shard| scope.spawn(|| work.run(shard));
            let handles: Vec<_> = self.shards.iter_mut().map(run).collect();
            let lost = || Err(ModelsError::Training("a shard's thread ended early".to_string()));
            handles.into_iter().map(|handle| handle.join().unwrap_or_else(|_| lost())).collect()
        });
        let mut sum = StepResult::default();
        for result in results {
            sum.add(result?);
        }
        Ok(sum)
    }
}

impl StepResult {
    fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.waited_seconds = self.waited_seconds.max(other.waited_seconds);
        if self.terms.is_empty() {
            *self = Self { loss: self.loss, waited_seconds: self.waited_seconds, ..other };
            return;
        }
        for ((_, sum), (_, term)) in self.terms.iter_mut().zip(other.terms) {
            *sum += term;
        }
        for (name, gradient) in other.gradients {
            add_gradient(&mut self.gradients, &name, gradient);
        }
    }
}

struct ShardWork<'a> {
    recipe: &'a Recipe,
    /// One a device.
    weights: &'a [Weights],
    seed: u64,
    step: u64,
    micro_batch: usize,
}

impl ShardWork<'_> {
    fn run(&self, shard: &mut Shard) -> Result<StepResult, ModelsError> {
        let Shard { pool, device_idx, loader, first, count } = shard;
        let no_device = || ModelsError::Training(format!("there is no device {device_idx}"));
        let weights = self.weights.get(*device_idx).ok_or_else(no_device)?;
        pool.install(|| {
            let weights = weights.fork();
            let mut sum = StepResult::default();
            for start in (0..*count).step_by(self.micro_batch) {
                let num_samples = self.micro_batch.min(*count - start);
                let timer = Timer::start(Work::Samples, Pass::Forward);
                let (views, draws) = self.prepare((loader, weights.device()), *first + start, num_samples)?;
                drop(timer);
                let share = num_samples as f64 / self.recipe.samples_per_step() as f64;
                let timer = Timer::start(Work::Network, Pass::Forward);
                let outcome = run_method(self.recipe, &weights, (&views, &draws))?;
                drop(timer);
                let timer = Timer::start(Work::Network, Pass::Backward);
                let mut gradients = outcome.total.clone().mul_scalar(share).backward();
                drop(timer);
                let _timer = Timer::start(Work::Gradients, Pass::Backward);
                for (name, gradient) in weights.take_gradients(&mut gradients) {
                    add_gradient(&mut sum.gradients, name, to_values(name, gradient)?);
                }
                add_losses(&mut sum, outcome, share)?;
            }
            sum.waited_seconds = loader.take_waited().as_secs_f64();
            Ok(sum)
        })
    }

    /// Views and draws of the next samples; `first` is the place of the first in the batch.
    fn prepare(
        &self,
        (loader, device): (&mut Loader, &Device),
        first: usize,
        num_samples: usize,
    ) -> Result<(Vec<Tensor<4>>, Draws), ModelsError> {
        let mut samples = Vec::with_capacity(num_samples);
        for _ in 0..num_samples {
            samples.push(loader.next()?);
        }
        let source = |sample: usize| generator(self.seed, Stream::Draws, [self.step, (first + sample) as u64]);
        let mut sources: Vec<_> = (0..num_samples).map(source).collect();
        let views = to_views(to_batches(&samples), self.recipe, device);
        Ok((views, draw(self.recipe, &mut sources)))
    }
}

/// Samples side by side: each view's `[N, 3, S, S]`.
pub(crate) fn to_batches(samples: &[SampleViews]) -> Vec<Vec<f32>> {
    let num_views = samples.first().map_or(0, Vec::len);
    let batch = |view_idx: usize| samples.iter().filter_map(|sample| sample.get(view_idx)).flatten().copied().collect();
    (0..num_views).map(batch).collect()
}

/// Batches `[N, 3T, S, S]` as constants on a device.
pub(crate) fn to_views(batches: Vec<Vec<f32>>, recipe: &Recipe, device: &Device) -> Vec<Tensor<4>> {
    let size = recipe.encoder.image_size;
    let device = device.clone().inner();
    let to_view = |values: Vec<f32>| {
        let num_samples = values.len() / recipe.encoder.input_values();
        let shape = [num_samples, 3 * recipe.encoder.frames, size, size];
        Tensor::from_data(TensorData::new(values, shape), &device)
    };
    batches.into_iter().map(to_view).collect()
}

/// The draws of a batch, one generator a sample.
pub(crate) fn draw(recipe: &Recipe, sources: &mut [rand::rngs::StdRng]) -> Draws {
    let encoder = &recipe.encoder;
    let mut draws = Draws::default();
    for encoding in &recipe.encodings {
        let mask = (encoding.mask_ratio > 0.0).then(|| {
            let is_tube = encoding.mask_rule == MaskRule::Tube;
            let num_patches = if is_tube { encoder.patches_per_slice() } else { encoder.num_patches() };
            let values: Vec<f32> = sources.iter_mut().flat_map(|random| uniforms(random, num_patches)).collect();
            let mask = Mask::from_draws(&values, num_patches, (encoding.mask_ratio, encoding.mask_rule));
            if is_tube { mask.tubes(encoder.num_slices()) } else { mask }
        });
        let noise = (encoding.noise > 0.0)
            .then(|| sources.iter_mut().flat_map(|random| normals(random, encoder.input_values())).collect());
        draws.masks.push(mask);
        draws.noises.push(noise);
    }
    if let Some(latent) = &recipe.latent {
        let values = sources.iter_mut().flat_map(|random| uniforms(random, latent.groups)).collect();
        draws.latent = LatentDraw::Uniforms(values);
    }
    if recipe.decoders.values().any(|decoder| decoder.dropout > 0.0) {
        draws.dropout = sources.first_mut().map(|random| random.random());
    }
    draws
}

fn add_losses(sum: &mut StepResult, outcome: Outcome, share: f64) -> Result<(), ModelsError> {
    let read = |value: Tensor<1>| -> Result<f64, ModelsError> {
        let values = crate::method::read_values(value.into_data())?;
        Ok(values.first().map_or(f64::NAN, |value| f64::from(*value)) * share)
    };
    sum.loss += read(outcome.total)?;
    for (term_idx, (name, value)) in outcome.terms.into_iter().enumerate() {
        let value = read(value)?;
        match sum.terms.get_mut(term_idx) {
            Some((_, term)) => *term += value,
            None => sum.terms.push((name, value)),
        }
    }
    Ok(())
}

fn to_values(name: &str, gradient: TensorData) -> Result<Vec<f32>, ModelsError> {
    gradient.try_into_vec::<f32>().map_err(|error| ModelsError::Training(format!("gradient {name}: {error:?}")))
}

fn add_gradient(gradients: &mut HostGradients, name: &str, values: Vec<f32>) {
    match gradients.get_mut(name) {
        Some(sum) => sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
        None => {
            gradients.insert(name.to_string(), values);
        }
    }
}
