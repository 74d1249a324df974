//! How fast environments step and cameras render, beside raw `mj_step` with the same model, actions and resets.
//!
//! Rounds of raw and environment stepping alternate, so that a machine that slows down slows both; ratios are medians. A
//! round begins with a reset that is not counted, to the same states for both, for what a physics step costs depends on them.

mod processor_time;
mod rendering;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::environment::Environment;
use crate::error::SimError;
use crate::physics::{Assets, Textures};
use crate::vector::{VectorEnvironment, VectorOptions};
use processor_time::{process_seconds, thread_seconds};
pub use rendering::{
    MemoryFigure, RenderingFigure, VectorRendering, measure_memory, measure_rendering, measure_vector_rendering,
};

/// Seconds that one round of raw stepping takes.
const ROUND_SECONDS: f64 = 0.25;
const ACTION_ROWS: usize = 64;

/// How environments are stepped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SteppingMode {
    /// One environment on the calling thread.
    Single,
    /// All environments of a vector, batch after batch.
    Lockstep,
    /// Half of a vector's environments a batch, while the other half works on.
    Asynchronous,
}

/// What is to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SteppingOptions {
    /// How.
    pub mode: SteppingMode,
    /// How many environments, on how many threads; one on one for [`SteppingMode::Single`].
    pub size: VectorOptions,
}

/// Physics steps with observation and reward, and how they compare.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SteppingFigure {
    /// Such as `dmc/walker-walk`.
    pub task: String,
    /// How.
    pub mode: SteppingMode,
    /// The calling thread included.
    pub threads: usize,
    /// Environments.
    pub environments: usize,
    /// Physics steps a second of processor time.
    pub steps_per_cpu_second: f64,
    /// Physics steps a second of wall time.
    pub steps_per_wall_second: f64,
    /// Processor time of raw `mj_step` for the same steps, divided by this one's.
    pub ratio_to_raw_cpu: f64,
    /// Wall time of raw `mj_step` on as many threads for the same steps, divided by this one's.
    pub ratio_to_raw_wall: f64,
}

/// Seconds that a round took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Of processor time, all threads.
    pub cpu: f64,
    /// On the clock.
    pub wall: f64,
}

/// Environments beside raw `mj_step`, round by round; others can take turns in between.
pub struct SteppingRace {
    task: String,
    options: SteppingOptions,
    raw: RawSteppers,
    stepper: Stepper,
    num_steps: u32,
    rounds: Vec<(Seconds, Seconds)>,
}

impl std::fmt::Debug for SteppingRace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (task, options) = (&self.task, &self.options);
        formatter.debug_struct("SteppingRace").field("task", task).field("options", options).finish_non_exhaustive()
    }
}

impl SteppingRace {
    /// Builds both sides, and finds out how many steps a round has.
    ///
    /// # Errors
    /// As [`Environment::new`] and [`VectorEnvironment::new`].
    pub fn new(task: &str, native: &Path, options: SteppingOptions) -> Result<Self, SimError> {
        let size = match options.mode {
            SteppingMode::Single => VectorOptions { num_environments: 1, num_threads: 1 },
            _ => options.size,
        };
        let options = SteppingOptions { size, ..options };
        let mut raw = RawSteppers::new(task, native, size)?;
        let mut stepper = Stepper::new(task, native, options)?;
        let num_steps = raw.num_steps_in(ROUND_SECONDS)?;
        stepper.reset(0)?;
        stepper.round(num_steps)?;
        Ok(Self { task: task.to_string(), options, raw, stepper, num_steps, rounds: Vec::new() })
    }

    /// Control steps of each environment in a round.
    pub fn num_steps(&self) -> u32 {
        self.num_steps
    }

    /// Physics steps of all environments in a round.
    pub fn num_physics_steps(&self) -> f64 {
        let size = self.options.size;
        f64::from(self.num_steps) * size.num_environments as f64 * f64::from(self.raw.num_substeps)
    }

    /// One round of each side; gives what the environments' took.
    ///
    /// # Errors
    /// A failed reset of an environment.
    pub fn round(&mut self) -> Result<Seconds, SimError> {
        let seed = self.rounds.len() as u64;
        self.raw.reset(seed)?;
        let raw = self.raw.round(self.num_steps)?;
        self.stepper.reset(seed)?;
        let own = self.stepper.round(self.num_steps)?;
        self.rounds.push((raw, own));
        Ok(own)
    }

    /// What the rounds so far come to.
    pub fn figure(&self) -> SteppingFigure {
        let rounds = &self.rounds;
        let physics_steps = self.num_physics_steps();
        let per_second = |read: fn(&Seconds) -> f64| physics_steps / median(rounds.iter().map(|(_, own)| read(own)));
        let ratio = |read: fn(&Seconds) -> f64| median(rounds.iter().map(|(raw, own)| read(raw) / read(own)));
        SteppingFigure {
            task: self.task.clone(),
            mode: self.options.mode,
            threads: self.options.size.num_threads,
            environments: self.options.size.num_environments,
            steps_per_cpu_second: per_second(|seconds| seconds.cpu),
            steps_per_wall_second: per_second(|seconds| seconds.wall),
            ratio_to_raw_cpu: ratio(|seconds| seconds.cpu),
            ratio_to_raw_wall: ratio(|seconds| seconds.wall),
        }
    }
}

/// Environments whose physics is stepped with `mj_step` alone.
struct RawSteppers {
    environments: Vec<Environment>,
    num_threads: usize,
    num_substeps: u32,
    actions: Vec<Vec<f64>>,
}

impl RawSteppers {
    fn new(task: &str, native: &Path, size: VectorOptions) -> Result<Self, SimError> {
        let assets = Assets { native, textures: Textures::Small };
        let mut environments = Vec::new();
        for seed in 0..size.num_environments {
            let mut environment = Environment::with_assets(task, assets)?;
            environment.reset(seed as u64)?;
            environments.push(environment);
        }
        let spec = environments.first().map(|environment| environment.spec().clone());
        let spec = spec.ok_or(SimError::VectorSize { num_environments: 0, num_threads: size.num_threads })?;
        let num_threads = size.num_threads.clamp(1, size.num_environments);
        let actions = action_rows(spec.actions.len());
        Ok(Self { environments, num_threads, num_substeps: spec.num_substeps, actions })
    }

    /// Environment `i` begins the first episode of `seed + i`, as a vector's does.
    fn reset(&mut self, seed: u64) -> Result<(), SimError> {
        (seed..).zip(&mut self.environments).try_for_each(|(seed, environment)| environment.reset(seed))
    }

    /// Control steps of every environment that take about so many seconds.
    fn num_steps_in(&mut self, seconds: f64) -> Result<u32, SimError> {
        let mut num_steps = 16;
        loop {
            let took = self.round(num_steps)?.wall;
            if took > seconds / 8.0 || num_steps > 1 << 20 {
                return Ok((f64::from(num_steps) * seconds / took).ceil() as u32);
            }
            num_steps *= 2;
        }
    }

    fn round(&mut self, num_steps: u32) -> Result<Seconds, SimError> {
        let share = self.environments.len().div_ceil(self.num_threads);
        let actions = &self.actions;
        let wall = Instant::now();
        let mut cpu = 0.0;
        if self.num_threads == 1 {
            cpu = raw_steps(&mut self.environments, actions, num_steps)?;
        } else {
            let results: Vec<_> = std::thread::scope(|scope| {
                let shares = self.environments.chunks_mut(share);
                let threads: Vec<_> =
                    shares.map(|share| scope.spawn(move || raw_steps(share, actions, num_steps))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(f64::NAN))).collect()
            });
            for result in results {
                cpu += result?;
            }
        }
        Ok(Seconds { cpu, wall: wall.elapsed().as_secs_f64() })
    }
}

/// Steps environments in turn; seconds of processor time on this thread.
fn raw_steps(environments: &mut [Environment], actions: &[Vec<f64>], num_steps: u32) -> Result<f64, SimError> {
    let start = thread_seconds();
    let mut counts = vec![0; environments.len()];
    for (_, action) in (0..num_steps).zip(actions.iter().cycle()) {
        for (environment, count) in environments.iter_mut().zip(&mut counts) {
            let [num_substeps, max_steps] = [environment.spec().num_substeps, environment.spec().max_steps];
            if *count == max_steps {
                environment.reset_again()?;
                *count = 0;
                continue;
            }
            environment.apply(action);
            environment.physics_mut().whole_steps(num_substeps);
            *count += 1;
        }
    }
    Ok(thread_seconds() - start)
}

/// What is compared with raw stepping.
enum Stepper {
    Single { environment: Box<Environment>, actions: Vec<Vec<f64>>, over: bool },
    Vector { vector: Box<VectorEnvironment>, actions: Vec<Vec<f64>>, batch_size: usize },
}

impl Stepper {
    fn new(task: &str, native: &Path, options: SteppingOptions) -> Result<Self, SimError> {
        let number = options.size.num_environments;
        if options.mode == SteppingMode::Single {
            let assets = Assets { native, textures: Textures::Small };
            let environment = Box::new(Environment::with_assets(task, assets)?);
            let actions = action_rows(environment.spec().actions.len());
            return Ok(Self::Single { environment, actions, over: false });
        }
        let vector = Box::new(VectorEnvironment::new(task, native, options.size)?);
        let row_length = vector.spec().actions.len();
        let batch_size = if options.mode == SteppingMode::Lockstep { number } else { (number / 2).max(1) };
        let actions = action_rows(row_length).into_iter().map(|row| row.repeat(batch_size)).collect();
        Ok(Self::Vector { vector, actions, batch_size })
    }

    fn reset(&mut self, seed: u64) -> Result<(), SimError> {
        match self {
            Self::Single { environment, over, .. } => {
                *over = false;
                environment.reset(seed)
            }
            Self::Vector { vector, .. } => vector.reset(seed).map(|_| ()),
        }
    }

    fn round(&mut self, num_steps: u32) -> Result<Seconds, SimError> {
        let (cpu, wall) = (process_seconds(), Instant::now());
        match self {
            Self::Single { environment, actions, over } => {
                for (_, action) in (0..num_steps).zip(actions.iter().cycle()) {
                    if *over {
                        environment.reset_again()?;
                        *over = false;
                    } else {
                        *over = environment.step(action)?.is_last();
                    }
                }
            }
            Self::Vector { vector, actions, batch_size } if *batch_size == vector.num_environments() => {
                for (_, action) in (0..num_steps).zip(actions.iter().cycle()) {
                    vector.step(action)?;
                }
            }
            Self::Vector { vector, actions, batch_size } => {
                asynchronous_round(vector, actions, (num_steps, *batch_size))?
            }
        }
        Ok(Seconds { cpu: process_seconds() - cpu, wall: wall.elapsed().as_secs_f64() })
    }
}

/// Every environment takes the round's number of steps; all but the first and last batches overlap.
fn asynchronous_round(
    vector: &mut VectorEnvironment,
    actions: &[Vec<f64>],
    (num_steps, batch_size): (u32, usize),
) -> Result<(), SimError> {
    let everyone: Vec<usize> = (0..vector.num_environments()).collect();
    let row_length = vector.spec().actions.len();
    let batches: Vec<&[usize]> = everyone.chunks(batch_size).collect();
    for batch in &batches {
        vector.send(batch, &actions[0][..batch.len() * row_length])?;
    }
    for (step, action) in (1..=num_steps).zip(actions.iter().cycle()) {
        for batch in &batches {
            vector.receive(batch.len())?;
            if step < num_steps {
                vector.send(batch, &action[..batch.len() * row_length])?;
            }
        }
    }
    Ok(())
}

/// The same gentle, changing actions for everyone.
fn action_rows(length: usize) -> Vec<Vec<f64>> {
    let value = |row: usize, index: usize| ((row * 5 + index * 3) as f64 * 0.7).sin();
    (0..ACTION_ROWS).map(|row| (0..length).map(|index| value(row, index)).collect()).collect()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
