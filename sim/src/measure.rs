//! How fast environments step and cameras render, beside raw `mj_step` with the same model, actions and resets.
//!
//! Rounds of raw and environment stepping alternate, so that a machine that slows down slows both; ratios are medians.

mod processor_time;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::camera::{Camera, CameraOptions};
use crate::environment::Environment;
use crate::error::SimError;
use crate::physics::{Assets, Textures};
use crate::vector::{VectorEnvironment, VectorOptions};
use processor_time::{process_seconds, thread_seconds};

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
    /// Rounds of a quarter of a second each, for raw and environment alike.
    pub num_rounds: u32,
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

/// Images a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RenderingFigure {
    /// Such as `dmc/reacher-easy`.
    pub task: String,
    /// `fast` or `reference`.
    pub quality: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Median processor milliseconds an image, software rasteriser's threads included.
    pub cpu_millis: f64,
    /// Median wall milliseconds an image.
    pub wall_millis: f64,
}

/// Seconds that a round took.
#[derive(Clone, Copy, Debug, Default)]
struct Seconds {
    cpu: f64,
    wall: f64,
}

/// Measures stepping beside raw `mj_step`.
///
/// # Errors
/// As [`Environment::new`] and [`VectorEnvironment::new`].
pub fn measure_stepping(task: &str, native: &Path, options: SteppingOptions) -> Result<SteppingFigure, SimError> {
    let size = match options.mode {
        SteppingMode::Single => VectorOptions { num_environments: 1, num_threads: 1 },
        _ => options.size,
    };
    let mut raw = RawSteppers::new(task, native, size)?;
    let mut stepper = Stepper::new(task, native, SteppingOptions { size, ..options })?;
    let num_steps = raw.num_steps_in(ROUND_SECONDS)?;
    stepper.round(num_steps)?;
    let mut pairs = Vec::new();
    for _ in 0..options.num_rounds.max(1) {
        pairs.push((raw.round(num_steps)?, stepper.round(num_steps)?));
    }
    let physics_steps = f64::from(num_steps) * size.num_environments as f64 * f64::from(raw.num_substeps);
    let per_second = |read: fn(&Seconds) -> f64| physics_steps / median(pairs.iter().map(|(_, own)| read(own)));
    let ratio = |read: fn(&Seconds) -> f64| median(pairs.iter().map(|(raw, own)| read(raw) / read(own)));
    Ok(SteppingFigure {
        task: task.to_string(),
        mode: options.mode,
        threads: size.num_threads,
        environments: size.num_environments,
        steps_per_cpu_second: per_second(|seconds| seconds.cpu),
        steps_per_wall_second: per_second(|seconds| seconds.wall),
        ratio_to_raw_cpu: ratio(|seconds| seconds.cpu),
        ratio_to_raw_wall: ratio(|seconds| seconds.wall),
    })
}

/// Measures rendering of a moving scene with the task's first camera or the one named.
///
/// # Errors
/// As [`Environment::new`] and [`Camera::new`].
pub fn measure_rendering(
    task: &str,
    native: &Path,
    options: &CameraOptions,
    num_images: u32,
) -> Result<RenderingFigure, SimError> {
    let mut environment = Environment::new(task, native)?;
    environment.reset(0)?;
    let mut camera = Camera::new(&environment, options)?;
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(&mut environment, &mut rgb)?;
    let action = vec![0.0; environment.spec().actions.len()];
    let mut images = Vec::new();
    for _ in 0..num_images.max(1) {
        if environment.step(&action)?.is_last() {
            environment.reset_again()?;
        }
        let (cpu, wall) = (process_seconds(), Instant::now());
        camera.render(&mut environment, &mut rgb)?;
        images.push(Seconds { cpu: process_seconds() - cpu, wall: wall.elapsed().as_secs_f64() });
    }
    Ok(RenderingFigure {
        task: task.to_string(),
        quality: format!("{:?}", options.quality).to_lowercase(),
        width: options.width,
        height: options.height,
        cpu_millis: median(images.iter().map(|image| image.cpu * 1e3)),
        wall_millis: median(images.iter().map(|image| image.wall * 1e3)),
    })
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
            let mut environment = Box::new(Environment::new(task, native)?);
            environment.reset(0)?;
            let actions = action_rows(environment.spec().actions.len());
            return Ok(Self::Single { environment, actions, over: false });
        }
        let mut vector = Box::new(VectorEnvironment::new(task, native, options.size)?);
        vector.reset(0)?;
        let row_length = vector.spec().actions.len();
        let batch_size = if options.mode == SteppingMode::Lockstep { number } else { (number / 2).max(1) };
        let actions = action_rows(row_length).into_iter().map(|row| row.repeat(batch_size)).collect();
        Ok(Self::Vector { vector, actions, batch_size })
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
