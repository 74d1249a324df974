//! One training step: the batch is dealt to shards, each on its own thread, and their gradients are added up in a fixed order.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::ModelsError;
use crate::frames::FrameStore;
use crate::mask::Mask;
use crate::method::{Draws, LatentDraw, Outcome, run_method};
use crate::optimiser::HostGradients;
use crate::parameters::Parameters;
use crate::random::{Stream, generator, normals, permutation, uniforms};
use crate::recipe::Recipe;
use crate::views::ViewMaker;
use crate::weights::Weights;

/// What a batch gave, summed over its parts: each weighs as many samples as it has.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepResult {
    pub(crate) loss: f64,
    /// In the recipe's order.
    pub(crate) terms: Vec<(String, f64)>,
    pub(crate) gradients: HostGradients,
}

/// The threads that share a step. Each has a pool of one for the framework's own loops, so that shards do not wait for each other.
pub(crate) struct Shards {
    pools: Vec<ThreadPool>,
    makers: Vec<ViewMaker>,
    micro_batch: usize,
    device: Device,
}

/// Which samples a step takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StepPlace {
    pub(crate) seed: u64,
    pub(crate) step: u64,
}

impl Shards {
    /// `micro_batch` samples go through the network at a time; smaller ones stay in the cache.
    pub(crate) fn new(
        recipe: &Recipe,
        threads: usize,
        (micro_batch, device): (usize, &Device),
    ) -> Result<Self, ModelsError> {
        let mut pools = Vec::with_capacity(threads);
        let mut makers = Vec::with_capacity(threads);
        for shard_idx in 0..threads.max(1) {
            let builder = ThreadPoolBuilder::new().num_threads(1).thread_name(move |_| format!("pretrain-{shard_idx}"));
            pools.push(builder.build().map_err(|error| ModelsError::Training(format!("threads: {error}")))?);
            makers.push(ViewMaker::new(recipe)?);
        }
        Ok(Self { pools, makers, micro_batch: micro_batch.max(1), device: device.clone() })
    }

    /// Losses and gradients of one batch.
    pub(crate) fn run(
        &mut self,
        (recipe, parameters): (&Recipe, &Parameters),
        store: &FrameStore,
        place: StepPlace,
    ) -> Result<StepResult, ModelsError> {
        let samples = batch_samples(store.num_frames(), recipe.optimiser.batch_size, place);
        let per_shard = samples.len().div_ceil(self.pools.len());
        let (micro_batch, device) = (self.micro_batch, &self.device);
        let results: Vec<Result<StepResult, ModelsError>> = std::thread::scope(|scope| {
            let shards = self.pools.iter().zip(&mut self.makers).zip(samples.chunks(per_shard)).enumerate();
            let handles: Vec<_> = shards
                .map(|(shard_idx, ((pool, maker), samples))| {
                    let work = ShardWork { recipe, parameters, store, place, device, micro_batch };
                    let first = shard_idx * per_shard;
                    scope.spawn(move || pool.install(|| work.run(maker, samples, first)))
                })
                .collect();
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
        if self.terms.is_empty() {
            *self = Self { loss: self.loss, ..other };
            return;
        }
        for ((_, sum), (_, term)) in self.terms.iter_mut().zip(other.terms) {
            *sum += term;
        }
        for (name, gradient) in other.gradients {
            add_gradient(&mut self.gradients, &name, &gradient);
        }
    }
}

struct ShardWork<'a> {
    recipe: &'a Recipe,
    parameters: &'a Parameters,
    store: &'a FrameStore,
    place: StepPlace,
    device: &'a Device,
    micro_batch: usize,
}

impl ShardWork<'_> {
    fn run(&self, maker: &mut ViewMaker, samples: &[usize], first: usize) -> Result<StepResult, ModelsError> {
        let weights = Weights::upload(self.parameters, self.device);
        let mut sum = StepResult::default();
        for (part_idx, part) in samples.chunks(self.micro_batch).enumerate() {
            let position = first + part_idx * self.micro_batch;
            let (views, draws) = self.prepare(maker, part, position)?;
            let share = part.len() as f64 / self.recipe.optimiser.batch_size as f64;
            let outcome = run_method(self.recipe, &weights, (&views, &draws))?;
            let mut gradients = outcome.total.clone().mul_scalar(share).backward();
            for (name, gradient) in weights.take_gradients(&mut gradients) {
                add_gradient_data(&mut sum.gradients, name, &gradient)?;
            }
            add_losses(&mut sum, outcome, share)?;
        }
        Ok(sum)
    }

    /// Views and draws of some samples; `first` is the place of the first in the batch.
    fn prepare(
        &self,
        maker: &mut ViewMaker,
        samples: &[usize],
        first: usize,
    ) -> Result<(Vec<Tensor<4>>, Draws), ModelsError> {
        let StepPlace { seed, step } = self.place;
        let mut batches = vec![Vec::new(); self.recipe.views.kind.num_views()];
        let mut sources = Vec::with_capacity(samples.len());
        for (offset, &sample) in samples.iter().enumerate() {
            let place = [step, (first + offset) as u64];
            let mut random = generator(seed, Stream::Views, place);
            maker.make(self.store, (sample, &mut random), &mut batches)?;
            sources.push(generator(seed, Stream::Draws, place));
        }
        let views = to_views(batches, self.recipe, self.device);
        Ok((views, draw(self.recipe, &mut sources)))
    }
}

/// Batches `[N, 3, S, S]` as constants on a device.
pub(crate) fn to_views(batches: Vec<Vec<f32>>, recipe: &Recipe, device: &Device) -> Vec<Tensor<4>> {
    let size = recipe.encoder.image_size;
    let device = device.clone().inner();
    let to_view = |values: Vec<f32>| {
        let num_samples = values.len() / (3 * size * size);
        Tensor::from_data(TensorData::new(values, [num_samples, 3, size, size]), &device)
    };
    batches.into_iter().map(to_view).collect()
}

/// The draws of a batch, one generator a sample.
pub(crate) fn draw(recipe: &Recipe, sources: &mut [rand::rngs::StdRng]) -> Draws {
    let num_patches = recipe.encoder.num_patches();
    let image_values = 3 * recipe.encoder.image_size * recipe.encoder.image_size;
    let mut draws = Draws::default();
    for encoding in &recipe.encodings {
        let mask = (encoding.mask_ratio > 0.0).then(|| {
            let values: Vec<f32> = sources.iter_mut().flat_map(|random| uniforms(random, num_patches)).collect();
            Mask::from_draws(&values, num_patches, (encoding.mask_ratio, encoding.mask_rule))
        });
        let noise = (encoding.noise > 0.0)
            .then(|| sources.iter_mut().flat_map(|random| normals(random, image_values)).collect());
        draws.masks.push(mask);
        draws.noises.push(noise);
    }
    if let Some(latent) = &recipe.latent {
        let values = sources.iter_mut().flat_map(|random| uniforms(random, latent.groups)).collect();
        draws.latent = LatentDraw::Uniforms(values);
    }
    draws
}

/// The frames of one step: epochs are permutations that depend on the seed alone; what does not fill a batch is left out, and a
/// store smaller than a batch is gone through more than once.
fn batch_samples(num_frames: usize, batch_size: usize, place: StepPlace) -> Vec<usize> {
    let steps_per_epoch = (num_frames / batch_size).max(1) as u64;
    let [epoch, step_in_epoch] = [place.step / steps_per_epoch, place.step % steps_per_epoch];
    let order = permutation(&mut generator(place.seed, Stream::Order, [epoch, 0]), num_frames);
    let start = step_in_epoch as usize * batch_size;
    order.into_iter().cycle().skip(start).take(batch_size).collect()
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

fn add_gradient_data(gradients: &mut HostGradients, name: &str, data: &TensorData) -> Result<(), ModelsError> {
    let values =
        data.as_slice::<f32>().map_err(|error| ModelsError::Training(format!("gradient {name}: {error:?}")))?;
    add_gradient(gradients, name, values);
    Ok(())
}

fn add_gradient(gradients: &mut HostGradients, name: &str, values: &[f32]) {
    match gradients.get_mut(name) {
        Some(sum) => sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value),
        None => {
            gradients.insert(name.to_string(), values.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_takes_each_frame_once_and_the_next_in_another_order() {
        let batch = |step| batch_samples(12, 4, StepPlace { seed: 7, step });
        let epoch = |epoch: u64| (0..3).flat_map(|step| batch(3 * epoch + step)).collect::<Vec<_>>();
        let sorted = |mut frames: Vec<usize>| {
            frames.sort_unstable();
            frames
        };
        assert_eq!(sorted(epoch(0)), (0..12).collect::<Vec<_>>());
        assert_eq!(sorted(epoch(1)), (0..12).collect::<Vec<_>>());
        assert_ne!(epoch(0), epoch(1));
        assert_eq!(batch_samples(3, 8, StepPlace { seed: 7, step: 5 }).len(), 8);
    }
}
