//! The threads behind a vector of environments: slots, a queue of slots with work, and who waits for what.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::camera::{Camera, CameraOptions};
use crate::environment::{Environment, Transition};
use crate::error::SimError;

/// How often a thread looks for work before it sleeps (about 0.1 ms); waking one takes as long as a cheap environment's step.
const NUM_SPINS: u32 = 2_000;

/// One environment with what is asked of it and what came of that.
#[derive(Debug)]
pub(super) struct Slot {
    environment: Environment,
    request: Request,
    action: Vec<f64>,
    transition: Transition,
    was_reset: bool,
    /// What the camera shows; empty without one.
    pixels: Vec<u8>,
    failure: Option<SimError>,
    /// A panic left it half-made: only a reset can use it again.
    is_broken: bool,
}

/// A thread's own camera, opened when it first renders: a GL context belongs to one thread.
#[derive(Debug)]
struct Eye<'a> {
    options: Option<&'a CameraOptions>,
    camera: Option<Camera>,
}

impl Eye<'_> {
    fn see(&mut self, environment: &mut Environment, pixels: &mut [u8]) -> Result<(), SimError> {
        let Some(options) = self.options else { return Ok(()) };
        let camera = match self.camera.take() {
            Some(camera) => camera,
            None => Camera::new(environment, options)?,
        };
        self.camera.insert(camera).render(environment, pixels)
    }
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Reset(u64),
    Step,
}

const FIRST: Transition =
    Transition { reward: 0.0, discount: 1.0, terminated: false, truncated: false, success: false, warning: None };

impl Slot {
    /// `num_bytes`: of an image; 0 without a camera.
    pub(super) fn new(environment: Environment, num_bytes: usize) -> Self {
        Self {
            action: vec![0.0; environment.spec().actions.len()],
            pixels: vec![0; num_bytes],
            environment,
            request: Request::Step,
            transition: FIRST,
            was_reset: false,
            failure: None,
            is_broken: false,
        }
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    pub(super) fn transition(&self) -> &Transition {
        &self.transition
    }

    pub(super) fn was_reset(&self) -> bool {
        self.was_reset
    }

    pub(super) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Does what is asked; a panic becomes a failure, so that whoever waits is told.
    fn work(&mut self, index: usize, eye: &mut Eye<'_>) {
        let is_reset = matches!(self.request, Request::Reset(_));
        if self.is_broken && !is_reset {
            let problem = "an earlier step panicked; reset first".to_string();
            self.failure = Some(SimError::Panicked { environment: index, problem });
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| self.step_or_reset(eye))) {
            Ok(result) => {
                self.is_broken = false;
                self.failure = result.err();
            }
            Err(panic) => {
                self.is_broken = true;
                self.failure = Some(SimError::Panicked { environment: index, problem: text_of(panic.as_ref()) });
            }
        }
    }

    fn step_or_reset(&mut self, eye: &mut Eye<'_>) -> Result<(), SimError> {
        let was_reset = matches!(self.request, Request::Reset(_)) || self.transition.is_last();
        let transition = match self.request {
            Request::Reset(seed) => self.environment.reset(seed).map(|()| FIRST),
            Request::Step if self.transition.is_last() => self.environment.reset_again().map(|()| FIRST),
            Request::Step => self.environment.step(&self.action),
        }?;
        (self.was_reset, self.transition) = (was_reset, transition);
        eye.see(&mut self.environment, &mut self.pixels)
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text").to_string()
}

/// Slots and the threads that work on them.
#[derive(Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    slots: Vec<Mutex<Slot>>,
    /// What workers render after every step; the waiting thread then renders nothing and works on nothing.
    camera: Option<CameraOptions>,
    /// Whether a slot's last request is done.
    done: Vec<AtomicBool>,
    queue: Mutex<Queue>,
    /// Length of the queue, to look at without its lock.
    num_queued: AtomicUsize,
    work_ready: Condvar,
    is_awaited: AtomicBool,
    waiting: Mutex<()>,
    slot_done: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    slots: VecDeque<usize>,
    num_sleeping: usize,
    must_stop: bool,
}

impl Pool {
    /// Threads that work on the slots: with a camera as many, without one fewer than `num_threads`, for the waiting thread
    /// works as well.
    pub(super) fn start(slots: Vec<Slot>, num_threads: usize, camera: Option<CameraOptions>) -> Result<Self, SimError> {
        let num_workers = if camera.is_some() { num_threads } else { num_threads - 1 };
        let shared = Arc::new(Shared {
            camera,
            done: slots.iter().map(|_| AtomicBool::new(true)).collect(),
            queue: Mutex::new(Queue { slots: VecDeque::with_capacity(slots.len()), ..Queue::default() }),
            slots: slots.into_iter().map(Mutex::new).collect(),
            num_queued: AtomicUsize::new(0),
            work_ready: Condvar::new(),
            is_awaited: AtomicBool::new(false),
            waiting: Mutex::new(()),
            slot_done: Condvar::new(),
        });
        let mut pool = Self { shared, threads: Vec::with_capacity(num_workers) };
        for index in 0..num_workers {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("sim-{index}"));
            let thread = builder.spawn(move || shared.work_until_stopped());
            pool.threads.push(thread.map_err(|source| SimError::Thread { source })?);
        }
        Ok(pool)
    }

    /// The slot must be done.
    pub(super) fn request_reset(&self, slot: usize, seed: u64) {
        lock(&self.shared.slots[slot]).request = Request::Reset(seed);
    }

    /// The slot must be done, the action of the right length.
    pub(super) fn request_step(&self, slot: usize, action: &[f64]) {
        let mut slot = lock(&self.shared.slots[slot]);
        slot.request = Request::Step;
        slot.action.copy_from_slice(action);
    }

    /// Lets the threads work on slots whose requests are set.
    pub(super) fn enqueue(&self, slots: &[usize]) {
        slots.iter().for_each(|slot| self.shared.done[*slot].store(false, Ordering::Relaxed));
        let mut queue = lock(&self.shared.queue);
        queue.slots.extend(slots);
        self.shared.num_queued.store(queue.slots.len(), Ordering::Release);
        if queue.num_sleeping > 0 {
            self.shared.work_ready.notify_all();
        }
    }

    /// Returns when the slot's request is done; works on queued slots meanwhile.
    pub(super) fn wait_for(&self, slot: usize) {
        let done = &self.shared.done[slot];
        let mut num_spins = 0;
        while !done.load(Ordering::Acquire) {
            let other = if self.shared.camera.is_none() { self.shared.next_queued() } else { None };
            if let Some(other) = other {
                self.shared.work_on(other, &mut Eye { options: None, camera: None });
            } else if num_spins < NUM_SPINS {
                num_spins += 1;
                std::hint::spin_loop();
            } else {
                return self.shared.sleep_until_done(done);
            }
        }
    }

    /// Reads a slot that is done.
    pub(super) fn take(&self, slot: usize, read: impl FnOnce(&Slot)) -> Result<(), SimError> {
        let mut slot = lock(&self.shared.slots[slot]);
        if let Some(failure) = slot.failure.take() {
            return Err(failure);
        }
        read(&slot);
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.queue).must_stop = true;
        self.shared.work_ready.notify_all();
        for thread in self.threads.drain(..) {
            // A worker catches panics of its work; one of its own has nothing left to give back.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work_until_stopped(&self) {
        let mut eye = Eye { options: self.camera.as_ref(), camera: None };
        while let Some(slot) = self.wait_for_work() {
            self.work_on(slot, &mut eye);
        }
    }

    fn work_on(&self, slot: usize, eye: &mut Eye<'_>) {
        lock(&self.slots[slot]).work(slot, eye);
        // Sequentially consistent with `sleep_until_done`: either the sleeper sees this, or this sees the sleeper.
        self.done[slot].store(true, Ordering::SeqCst);
        if self.is_awaited.load(Ordering::SeqCst) {
            drop(lock(&self.waiting));
            self.slot_done.notify_all();
        }
    }

    fn next_queued(&self) -> Option<usize> {
        if self.num_queued.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.pop(&mut lock(&self.queue))
    }

    fn pop(&self, queue: &mut Queue) -> Option<usize> {
        let slot = queue.slots.pop_front();
        self.num_queued.store(queue.slots.len(), Ordering::Release);
        slot
    }

    /// The next slot with work; `None`: the pool ends.
    fn wait_for_work(&self) -> Option<usize> {
        for _ in 0..NUM_SPINS {
            if self.num_queued.load(Ordering::Acquire) > 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let mut queue = lock(&self.queue);
        loop {
            if queue.must_stop {
                return None;
            }
            if let Some(slot) = self.pop(&mut queue) {
                return Some(slot);
            }
            queue.num_sleeping += 1;
            queue = self.work_ready.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.num_sleeping -= 1;
        }
    }

    fn sleep_until_done(&self, done: &AtomicBool) {
        let mut waiting = lock(&self.waiting);
        self.is_awaited.store(true, Ordering::SeqCst);
        while !done.load(Ordering::SeqCst) {
            waiting = self.slot_done.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        self.is_awaited.store(false, Ordering::SeqCst);
    }
}

/// A lock whose holder panicked is taken all the same: slots hold no half-made invariants.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
