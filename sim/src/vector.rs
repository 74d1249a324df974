//! Many environments of one task over threads, stepped in lockstep or asynchronously, with batches in one buffer.
//!
//! Each environment has its own random stream, and a batch holds environments in the order in which their actions were
//! sent, so results do not depend on the number of threads or on their timing. The calling thread works too: `num_threads`
//! counts it, and while it waits for a batch it steps environments itself.
//!
//! Automatic reset is Gymnasium's next-step mode: the step after an episode's last one ignores its action, resets to the
//! next episode of the environment's stream, and gives reward 0 with `was_reset`.

mod pool;

use std::collections::VecDeque;
use std::path::Path;

use crate::camera::{Camera, CameraOptions};
use crate::environment::{Autoreset, Environment};
use crate::error::SimError;
use crate::physics::{Assets, Textures};
use crate::task::TaskSpec;
use pool::{Pool, Slot};

/// How many environments run where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorOptions {
    /// At least 1.
    pub num_environments: usize,
    /// The calling thread included; at least 1.
    pub num_threads: usize,
}

/// What a number of environments gave, row by row. The slices stay until the next call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Batch<'a> {
    /// Which environment each row is of.
    pub environments: &'a [usize],
    /// `[rows, num_observations]`.
    pub observations: &'a [f64],
    /// `[rows, height, width, 3]`, what the camera shows; empty without one.
    pub pixels: &'a [u8],
    /// One a row.
    pub rewards: &'a [f64],
    /// One a row.
    pub discounts: &'a [f64],
    /// One a row.
    pub terminated: &'a [bool],
    /// One a row.
    pub truncated: &'a [bool],
    /// One a row.
    pub successes: &'a [bool],
    /// One a row: the action was ignored and a new episode begun.
    pub was_reset: &'a [bool],
}

/// The buffer that every batch is written into.
#[derive(Debug)]
struct BatchBuffer {
    environments: Vec<usize>,
    observations: Vec<f64>,
    pixels: Vec<u8>,
    rewards: Vec<f64>,
    discounts: Vec<f64>,
    terminated: Vec<bool>,
    truncated: Vec<bool>,
    successes: Vec<bool>,
    was_reset: Vec<bool>,
}

/// Environments of one task. Dropping it ends its threads.
#[derive(Debug)]
pub struct VectorEnvironment {
    spec: TaskSpec,
    pool: Pool,
    everyone: Vec<usize>,
    /// Environments whose actions were sent and whose results were not received, in that order.
    in_flight: VecDeque<usize>,
    buffer: BatchBuffer,
}

impl VectorEnvironment {
    /// Episodes follow one another by themselves.
    pub const AUTORESET: Autoreset = Autoreset::NextStep;

    /// Builds the environments and starts the threads. Reset it first.
    ///
    /// # Errors
    /// As [`Environment::new`]; [`SimError::VectorSize`] when a number is zero; [`SimError::Thread`].
    pub fn new(task: &str, native: &Path, options: VectorOptions) -> Result<Self, SimError> {
        let assets = Assets { native, textures: Textures::Small };
        Self::from_environments(environments(task, assets, options)?, options.num_threads)
    }

    /// As [`Self::new`], with an image of every state. Each thread renders with a GL context of its own, and the calling
    /// thread only waits.
    ///
    /// # Errors
    /// As [`Self::new`] and [`Camera::new`]; [`SimError::Option`] for a task with a height field, which GL holds by itself.
    pub fn with_camera(
        task: &str,
        native: &Path,
        options: VectorOptions,
        camera: CameraOptions,
    ) -> Result<Self, SimError> {
        let assets = Assets { native, textures: Textures::Full };
        let environments = environments(task, assets, options)?;
        if !environments[0].physics().model().hfield_nrow().is_empty() {
            let (name, allowed) = ("task", "one without a height field for a vector with images");
            return Err(SimError::Option { name, value: task.to_string(), allowed });
        }
        // Opened once for its own sake: what is wrong is told here, and not by a thread's first step.
        Camera::new(&environments[0], &camera)?;
        Self::start(environments, options.num_threads, Some(camera))
    }

    /// Takes environments of one task that were made elsewhere.
    ///
    /// # Errors
    /// [`SimError::VectorSize`] when a number is zero, [`SimError::Thread`].
    pub fn from_environments(environments: Vec<Environment>, num_threads: usize) -> Result<Self, SimError> {
        Self::start(environments, num_threads, None)
    }

    fn start(
        environments: Vec<Environment>,
        num_threads: usize,
        camera: Option<CameraOptions>,
    ) -> Result<Self, SimError> {
        let num_environments = environments.len();
        let Some(spec) = environments.first().map(|first| first.spec().clone()).filter(|_| num_threads > 0) else {
            return Err(SimError::VectorSize { num_environments, num_threads });
        };
        let num_bytes = camera.as_ref().map_or(0, |camera| camera.width as usize * camera.height as usize * 3);
        let slots = environments.into_iter().map(|environment| Slot::new(environment, num_bytes)).collect();
        let pool = Pool::start(slots, num_threads, camera)?;
        let everyone = (0..num_environments).collect();
        let buffer = BatchBuffer::with_room(num_environments, (spec.num_observations(), num_bytes));
        Ok(Self { spec, pool, everyone, in_flight: VecDeque::with_capacity(num_environments), buffer })
    }

    /// What there is to know of the task.
    pub fn spec(&self) -> &TaskSpec {
        &self.spec
    }

    /// How many environments there are.
    pub fn num_environments(&self) -> usize {
        self.everyone.len()
    }

    /// Starts every environment anew; environment `i` takes the stream of `seed + i`. What is in flight is forgotten.
    ///
    /// # Errors
    /// As [`Environment::reset`], of the first environment that fails.
    pub fn reset(&mut self, seed: u64) -> Result<Batch<'_>, SimError> {
        self.forget_in_flight();
        for environment in 0..self.everyone.len() {
            self.pool.request_reset(environment, seed.saturating_add(environment as u64));
        }
        self.enqueue_everyone();
        self.receive(self.everyone.len())
    }

    /// Steps every environment: `actions` is `[num_environments, num_actions]`.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::ActionNotFinite`] before anything moves; [`SimError::InFlight`] when actions
    /// were sent and not received; a failed reset of an environment.
    pub fn step(&mut self, actions: &[f64]) -> Result<Batch<'_>, SimError> {
        if !self.in_flight.is_empty() {
            return Err(SimError::InFlight { environment: self.in_flight[0] });
        }
        self.check_actions(self.everyone.len(), actions)?;
        self.request_steps(&self.everyone, actions);
        self.enqueue_everyone();
        self.receive(self.everyone.len())
    }

    /// Hands actions `[environments.len(), num_actions]` to some environments and returns at once.
    ///
    /// # Errors
    /// [`SimError::BufferSize`], [`SimError::ActionNotFinite`], [`SimError::InFlight`] for an environment that is still
    /// at work, [`SimError::NoSuchEnvironment`]; nothing moves then.
    pub fn send(&mut self, environments: &[usize], actions: &[f64]) -> Result<(), SimError> {
        self.check_actions(environments.len(), actions)?;
        for (position, environment) in environments.iter().enumerate() {
            if *environment >= self.everyone.len() {
                return Err(SimError::NoSuchEnvironment { index: *environment, number: self.everyone.len() });
            }
            if self.in_flight.contains(environment) || environments[..position].contains(environment) {
                return Err(SimError::InFlight { environment: *environment });
            }
        }
        self.request_steps(environments, actions);
        self.in_flight.extend(environments);
        self.pool.enqueue(environments);
        Ok(())
    }

    /// Waits for the `num_rows` environments whose actions were sent first. Environments sent later go on working.
    ///
    /// # Errors
    /// [`SimError::NotInFlight`] when fewer are at work; a failed reset of an environment; [`SimError::Panicked`].
    pub fn receive(&mut self, num_rows: usize) -> Result<Batch<'_>, SimError> {
        if num_rows > self.in_flight.len() {
            return Err(SimError::NotInFlight { wanted: num_rows, found: self.in_flight.len() });
        }
        self.buffer.clear();
        let mut failure = None;
        for environment in self.in_flight.drain(..num_rows) {
            self.pool.wait_for(environment);
            let buffer = &mut self.buffer;
            if let Err(error) = self.pool.take(environment, |slot| buffer.push(environment, slot)) {
                failure = failure.or(Some(error));
            }
        }
        failure.map_or_else(|| Ok(self.buffer.batch()), Err)
    }

    /// A row of actions an environment; of a task without actuators every row is empty.
    fn request_steps(&self, environments: &[usize], actions: &[f64]) {
        let num_actions = self.spec.actions.len();
        for (row, environment) in environments.iter().enumerate() {
            self.pool.request_step(*environment, &actions[row * num_actions..(row + 1) * num_actions]);
        }
    }

    fn enqueue_everyone(&mut self) {
        self.in_flight.extend(&self.everyone);
        self.pool.enqueue(&self.everyone);
    }

    fn forget_in_flight(&mut self) {
        for environment in self.in_flight.drain(..) {
            self.pool.wait_for(environment);
        }
    }

    fn check_actions(&self, num_rows: usize, actions: &[f64]) -> Result<(), SimError> {
        let expected = num_rows * self.spec.actions.len();
        if actions.len() != expected {
            return Err(SimError::BufferSize { what: "action", expected, found: actions.len() });
        }
        match actions.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            Some((index, &value)) => Err(SimError::ActionNotFinite { task: self.spec.name.clone(), index, value }),
            None => Ok(()),
        }
    }
}

fn environments(task: &str, assets: Assets<'_>, options: VectorOptions) -> Result<Vec<Environment>, SimError> {
    let VectorOptions { num_environments, num_threads } = options;
    if num_environments == 0 || num_threads == 0 {
        return Err(SimError::VectorSize { num_environments, num_threads });
    }
    (0..num_environments).map(|_| Environment::with_assets(task, assets)).collect()
}

impl BatchBuffer {
    /// Room for every environment, so that batches allocate nothing.
    fn with_room(num_rows: usize, (num_observations, num_bytes): (usize, usize)) -> Self {
        Self {
            environments: Vec::with_capacity(num_rows),
            observations: Vec::with_capacity(num_rows * num_observations),
            pixels: Vec::with_capacity(num_rows * num_bytes),
            rewards: Vec::with_capacity(num_rows),
            discounts: Vec::with_capacity(num_rows),
            terminated: Vec::with_capacity(num_rows),
            truncated: Vec::with_capacity(num_rows),
            successes: Vec::with_capacity(num_rows),
            was_reset: Vec::with_capacity(num_rows),
        }
    }

    fn clear(&mut self) {
        self.environments.clear();
        self.observations.clear();
        self.pixels.clear();
        self.rewards.clear();
        self.discounts.clear();
        self.terminated.clear();
        self.truncated.clear();
        self.successes.clear();
        self.was_reset.clear();
    }

    fn push(&mut self, environment: usize, slot: &Slot) {
        self.environments.push(environment);
        self.observations.extend_from_slice(slot.environment().observation());
        self.pixels.extend_from_slice(slot.pixels());
        self.rewards.push(slot.transition().reward);
        self.discounts.push(slot.transition().discount);
        self.terminated.push(slot.transition().terminated);
        self.truncated.push(slot.transition().truncated);
        self.successes.push(slot.transition().success);
        self.was_reset.push(slot.was_reset());
    }

    fn batch(&self) -> Batch<'_> {
        Batch {
            environments: &self.environments,
            observations: &self.observations,
            pixels: &self.pixels,
            rewards: &self.rewards,
            discounts: &self.discounts,
            terminated: &self.terminated,
            truncated: &self.truncated,
            successes: &self.successes,
            was_reset: &self.was_reset,
        }
    }
}
