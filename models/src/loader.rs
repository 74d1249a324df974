//! Samples ahead of their use: named threads decode, crop and flip into bounded queues. Which sample comes when depends on the seed
//! alone: thread w of W makes every W-th sample and the queues are emptied in turn.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;
use rand::Rng;
use rand::rngs::StdRng;

use crate::clips::{ClipReader, ClipSource, Reading, SamplePlace};
use crate::error::ModelsError;
use crate::random::{Stream, generator, permutation};
use crate::recipe::Recipe;
use crate::views::ViewMaker;

/// Clips tried for one sample before training gives up.
const MAX_CLIPS_TRIED: usize = 32;
/// Times that a clip may turn out shorter than it said a moment ago.
const MAX_SHORTER: usize = 3;

/// The images of one sample: each view's `[3, H, S]`.
pub(crate) type SampleViews = Vec<Vec<f32>>;

/// Clips that could not be read as they should, by name, with the reason; shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(Mutex<BTreeMap<String, Problem>>);

/// What is wrong with a clip.
#[derive(Debug)]
pub(crate) enum Problem {
    /// Nothing of it is used.
    Skipped(String),
    /// A part of it is used.
    Shorter(String),
}

impl Unreadable {
    /// What an earlier part of a run noted, from its lines.
    pub(crate) fn from_lines(lines: impl IntoIterator<Item = String>) -> Self {
        let noted = Self::default();
        for line in lines {
            if let Some((name, why)) = line.split_once(": skipped: ") {
                noted.note(name.to_string(), Problem::Skipped(why.to_string()));
            } else if let Some((name, why)) = line.split_once(": ") {
                noted.note(name.to_string(), Problem::Shorter(why.to_string()));
            }
        }
        noted
    }

    pub(crate) fn note(&self, name: String, problem: Problem) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_insert(problem);
    }

    /// Clips of which nothing is used.
    pub(crate) fn num_skipped(&self) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().filter(|problem| matches!(problem, Problem::Skipped(_))).count() as u64
    }

    /// One line a clip, in name order.
    pub(crate) fn lines(&self) -> Vec<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let line = |(name, problem): (&String, &Problem)| match problem {
            Problem::Skipped(why) => format!("{name}: skipped: {why}"),
            Problem::Shorter(why) => format!("{name}: {why}"),
        };
        known.iter().map(line).collect()
    }
}

/// Which samples a loader makes: the same share of every step's batch, step after step.
#[derive(Clone, Copy)]
pub(crate) struct LoaderJob<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) source: &'a dyn ClipSource,
    pub(crate) unreadable: &'a Unreadable,
    pub(crate) seed: u64,
    pub(crate) first_step: u64,
    /// First place in the batch.
    pub(crate) first: usize,
    /// Places of each batch; each gives as many samples as the recipe repeats a clip.
    pub(crate) count: usize,
    /// For the threads' names.
    pub(crate) shard_idx: usize,
    pub(crate) threads: usize,
    /// Places that may wait in all queues together.
    pub(crate) max_waiting: usize,
}

/// Hands out samples in order.
pub(crate) struct Loader {
    queues: Vec<Receiver<Result<Vec<SampleViews>, ModelsError>>>,
    next_queue: usize,
    ready: VecDeque<SampleViews>,
    waited: Duration,
}

impl Loader {
    /// Starts the threads; they end when the loader is dropped.
    pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, job: LoaderJob<'scope>) -> Result<Self, ModelsError> {
        let threads = job.threads.max(1);
        let mut queues = Vec::with_capacity(threads);
        for thread_idx in 0..threads {
            let (sender, queue) = sync_channel(job.max_waiting.div_ceil(threads).max(1));
            let builder = Builder::new().name(format!("decode-{}-{thread_idx}", job.shard_idx));
            let spawned = builder.spawn_scoped(scope, move || fill(job, (thread_idx, threads), &sender));
            spawned.map_err(|error| ModelsError::Training(format!("threads: {error}")))?;
            queues.push(queue);
        }
        Ok(Self { queues, next_queue: 0, ready: VecDeque::new(), waited: Duration::ZERO })
    }

    /// Time spent in waiting for samples since the last call.
    pub(crate) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// The next sample; waits for it.
    pub(crate) fn next(&mut self) -> Result<SampleViews, ModelsError> {
        loop {
            if let Some(sample) = self.ready.pop_front() {
                return Ok(sample);
            }
            let lost = || ModelsError::Training("a decoding thread ended early".to_string());
            let queue = self.queues.get(self.next_queue).ok_or_else(lost)?;
            let started = Instant::now();
            let samples = queue.recv();
            self.waited += started.elapsed();
            self.ready.extend(samples.map_err(|_| lost())??);
            self.next_queue = (self.next_queue + 1) % self.queues.len();
        }
    }
}

/// One thread's work: until nobody listens any more.
fn fill(
    job: LoaderJob<'_>,
    (thread_idx, threads): (usize, usize),
    sender: &SyncSender<Result<Vec<SampleViews>, ModelsError>>,
) {
    let mut sampler = match Sampler::new(job.recipe, job.source, job.unreadable) {
        Ok(sampler) => sampler,
        // Whoever has hung up wants no reason either.
        Err(error) => return drop(sender.send(Err(error))),
    };
    let mut epoch = Epoch::new(job.source.num_samples(), job.recipe.optimiser.batch_size, job.seed);
    for number in (thread_idx..).step_by(threads) {
        let step = job.first_step + (number / job.count) as u64;
        let place = job.first + number % job.count;
        let samples = sampler.samples(epoch.sample(step, place), (job.seed, step, place));
        let has_failed = samples.is_err();
        if sender.send(samples).is_err() || has_failed {
            return;
        }
    }
}

/// The order of samples: each epoch is a permutation that depends on the seed alone. What does not fill a batch is left out, and a
/// source smaller than a batch is gone through more than once.
pub(crate) struct Epoch {
    num_samples: usize,
    batch_size: usize,
    seed: u64,
    /// The epoch that `order` is of.
    number: Option<u64>,
    order: Vec<usize>,
}

impl Epoch {
    pub(crate) fn new(num_samples: usize, batch_size: usize, seed: u64) -> Self {
        Self { num_samples, batch_size, seed, number: None, order: Vec::new() }
    }

    /// The sample at a place of a step's batch.
    pub(crate) fn sample(&mut self, step: u64, place: usize) -> usize {
        let steps_per_epoch = (self.num_samples / self.batch_size).max(1) as u64;
        let [number, step_in_epoch] = [step / steps_per_epoch, step % steps_per_epoch];
        if self.number != Some(number) {
            self.order = permutation(&mut generator(self.seed, Stream::Order, [number, 0]), self.num_samples);
            self.number = Some(number);
        }
        let place = step_in_epoch as usize * self.batch_size + place;
        self.order.get(place % self.num_samples.max(1)).copied().unwrap_or(0)
    }
}

/// Makes samples out of clips; keeps its reader and its buffers.
pub(crate) struct Sampler<'a> {
    source: &'a dyn ClipSource,
    reader: Box<dyn ClipReader + 'a>,
    maker: ViewMaker,
    unreadable: &'a Unreadable,
    repeats: usize,
    /// Frames of the clip that are wanted, with those that use them.
    frames: BTreeMap<usize, Frame>,
    spare: Vec<Frame>,
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(
        recipe: &Recipe,
        source: &'a dyn ClipSource,
        unreadable: &'a Unreadable,
    ) -> Result<Self, ModelsError> {
        Ok(Self {
            source,
            reader: source.reader()?,
            maker: ViewMaker::new(recipe)?,
            unreadable,
            repeats: recipe.data.repeated_sampling,
            frames: BTreeMap::new(),
            spare: Vec::new(),
        })
    }

    /// As many independent samples of one clip as the recipe repeats. A clip that cannot be read is noted and another one drawn.
    pub(crate) fn samples(
        &mut self,
        sample_idx: usize,
        (seed, step, place): (u64, u64, usize),
    ) -> Result<Vec<SampleViews>, ModelsError> {
        let first = place * self.repeats;
        let at = |repeat: usize| [step, (first + repeat) as u64];
        let mut randoms: Vec<StdRng> =
            (0..self.repeats).map(|repeat| generator(seed, Stream::Views, at(repeat))).collect();
        let mut here = self.source.sample(sample_idx);
        let mut others = generator(seed, Stream::OtherClips, at(0));
        let mut problem = String::new();
        for _ in 0..MAX_CLIPS_TRIED {
            match self.clip_samples(here, &mut randoms) {
                Ok(samples) => return Ok(samples),
                Err(error) => {
                    let name = self.source.clip_name(here.clip_idx);
                    problem = one_line(&error.to_string());
                    let short = problem.strip_prefix(&format!("{name}: ")).unwrap_or(&problem).to_string();
                    self.unreadable.note(name, Problem::Skipped(short));
                }
            }
            here = self.source.sample(others.random_range(0..self.source.num_samples().max(1)));
        }
        Err(ModelsError::Training(format!("{MAX_CLIPS_TRIED} clips in a row cannot be read; the last one: {problem}")))
    }

    /// One sample for pictures: the whole frame, without crop or flip, where a view is of one frame.
    pub(crate) fn preview(&mut self, place: SamplePlace, random: &mut StdRng) -> Result<SampleViews, ModelsError> {
        let mut claimed = self.reader.open(place.clip_idx)?;
        let wanted = self.frames_for(place, &mut claimed, std::slice::from_mut(random))?;
        let frames = wanted.first().map_or(&[][..], Vec::as_slice);
        self.maker.preview((&self.frames, frames), random)
    }

    fn clip_samples(&mut self, place: SamplePlace, randoms: &mut [StdRng]) -> Result<Vec<SampleViews>, ModelsError> {
        let mut claimed = self.reader.open(place.clip_idx)?;
        let wanted = self.frames_for(place, &mut claimed, randoms)?;
        let samples = wanted.iter().zip(randoms);
        samples.map(|(wanted, random)| self.maker.make((&self.frames, wanted), random)).collect()
    }

    /// Draws which frames each sample needs and reads each once; draws again when the clip turns out shorter than it said.
    fn frames_for(
        &mut self,
        place: SamplePlace,
        claimed: &mut usize,
        randoms: &mut [StdRng],
    ) -> Result<Vec<Vec<usize>>, ModelsError> {
        for _ in 0..MAX_SHORTER {
            if *claimed == 0 {
                return Err(self.fail(place, "has no frame that can be read"));
            }
            let draw = |random: &mut StdRng| self.maker.draw_frames(*claimed, (place.frame_idx, random));
            let wanted: Vec<Vec<usize>> = randoms.iter_mut().map(draw).collect();
            let Some(num_frames) = self.read_frames(&wanted)? else { return Ok(wanted) };
            let problem = format!("breaks off after {num_frames} of {claimed} frames; what came before is used");
            self.unreadable.note(self.source.clip_name(place.clip_idx), Problem::Shorter(problem));
            *claimed = num_frames;
            self.reader.open(place.clip_idx)?;
        }
        Err(self.fail(place, "ends at another frame each time"))
    }

    fn fail(&self, place: SamplePlace, problem: &str) -> ModelsError {
        ModelsError::Data { path: self.source.clip_name(place.clip_idx).into(), problem: problem.to_string() }
    }

    /// Reads the wanted frames in order; the true length if the clip ends before the last.
    fn read_frames(&mut self, wanted: &[Vec<usize>]) -> Result<Option<usize>, ModelsError> {
        self.spare.extend(std::mem::take(&mut self.frames).into_values());
        let mut order: Vec<usize> = wanted.iter().flatten().copied().collect();
        order.sort_unstable();
        order.dedup();
        for frame_idx in order {
            let mut frame = self.spare.pop().unwrap_or_else(|| Frame::black(0, 0, PixelEncoding::Rgb8));
            let reading = self.reader.read(frame_idx, &mut frame)?;
            self.frames.insert(frame_idx, frame);
            if let Reading::Ended { num_frames } = reading {
                return Ok(Some(num_frames));
            }
        }
        Ok(None)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clips of grey frames that tell clip and frame by their brightness; some are broken, one is shorter than it says.
    struct Greys {
        broken: Vec<usize>,
    }

    impl ClipSource for Greys {
        fn description(&self) -> String {
            "greys".to_string()
        }

        fn num_clips(&self) -> usize {
            12
        }

        fn clip_name(&self, clip_idx: usize) -> String {
            format!("grey {clip_idx}")
        }

        fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
            Ok(Box::new(GreyReader { greys: self, clip_idx: 0 }))
        }
    }

    struct GreyReader<'a> {
        greys: &'a Greys,
        clip_idx: usize,
    }

    impl ClipReader for GreyReader<'_> {
        fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
            self.clip_idx = clip_idx;
            // Threads that differ in speed must not differ in order.
            std::thread::sleep(std::time::Duration::from_micros(300 * (clip_idx as u64 % 3)));
            match self.greys.broken.contains(&clip_idx) {
                true => Err(ModelsError::Data {
                    path: self.greys.clip_name(clip_idx).into(),
                    problem: "is broken\nindeed".to_string(),
                }),
                false => Ok(60),
            }
        }

        fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
            if self.clip_idx == 5 && frame_idx >= 7 {
                return Ok(Reading::Ended { num_frames: 7 });
            }
            *frame = Frame::black(16, 12, PixelEncoding::Rgb8);
            frame.data.fill((4 * self.clip_idx + frame_idx) as u8);
            Ok(Reading::Frame)
        }
    }

    /// What the steps of two shards see, and what was noted.
    fn samples(broken: &[usize], threads: usize) -> (Vec<SampleViews>, Vec<String>) {
        let mut recipe = Recipe::load("rsp-64").expect("the recipe");
        recipe.encoder.image_size = 8;
        recipe.optimiser.batch_size = 5;
        recipe.data.repeated_sampling = 2;
        let (source, unreadable) = (Greys { broken: broken.to_vec() }, Unreadable::default());
        let samples = std::thread::scope(|scope| {
            let job = |shard_idx: usize, [first, count]: [usize; 2]| LoaderJob {
                recipe: &recipe,
                source: &source,
                unreadable: &unreadable,
                seed: 4,
                first_step: 1,
                first,
                count,
                shard_idx,
                threads,
                max_waiting: 3,
            };
            let jobs = [job(0, [0, 3]), job(1, [3, 2])];
            let mut loaders = jobs.map(|job| (job.count * 2, Loader::start(scope, job).expect("starts")));
            let mut samples = Vec::new();
            for _ in 0..4 {
                for (count, loader) in &mut loaders {
                    samples.extend((0..*count).map(|_| loader.next().expect("a sample")));
                }
            }
            samples
        });
        (samples, unreadable.lines())
    }

    #[test]
    fn the_order_is_the_seeds_and_not_the_threads() {
        let (one, problems) = samples(&[], 1);
        assert_eq!((one.len(), problems.len()), (40, 1), "{problems:?}");
        for threads in [2, 4] {
            assert!(samples(&[], threads).0 == one, "{threads} threads gave other samples");
        }
    }

    #[test]
    fn a_broken_clip_is_skipped_and_listed_and_another_stands_in() {
        let (one, problems) = samples(&[2, 3], 1);
        assert_eq!(one.len(), 40);
        let wanted = ["grey 2: skipped: is broken", "grey 3: skipped: is broken", "grey 5: breaks off"];
        assert!(
            problems.len() == 3 && problems.iter().zip(wanted).all(|(line, wanted)| line.starts_with(wanted)),
            "{problems:?}"
        );
        for threads in [2, 4] {
            assert!(samples(&[2, 3], threads).0 == one, "{threads} threads gave other samples");
        }
    }

    #[test]
    fn a_source_that_gives_nothing_is_an_error_and_no_hang() {
        let all: Vec<usize> = (0..12).collect();
        let (source, unreadable) = (Greys { broken: all }, Unreadable::default());
        let recipe = Recipe::load("rsp-64").expect("the recipe");
        let mut sampler = Sampler::new(&recipe, &source, &unreadable).expect("a reader");
        let error = sampler.samples(0, (0, 0, 0)).expect_err("nothing is readable").to_string();
        assert!(error.contains("32 clips in a row") && error.contains("is broken indeed"), "{error}");
    }

    #[test]
    fn an_epoch_takes_each_sample_once_and_the_next_in_another_order() {
        let mut order = Epoch::new(12, 4, 7);
        let mut epoch = |epoch: u64| -> Vec<usize> {
            (0..12).map(|place| order.sample(3 * epoch + place / 4, place as usize % 4)).collect()
        };
        let [first, second] = [epoch(0), epoch(1)];
        let sorted = |mut samples: Vec<usize>| {
            samples.sort_unstable();
            samples
        };
        assert_eq!(sorted(first.clone()), (0..12).collect::<Vec<_>>());
        assert_eq!(sorted(second.clone()), (0..12).collect::<Vec<_>>());
        assert_ne!(first, second);
        assert!(Epoch::new(3, 8, 7).sample(5, 7) < 3);
    }
}
