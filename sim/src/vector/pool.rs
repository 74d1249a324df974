//! The threads behind a vector of environments: slots, a queue of slots with work, and who waits for what.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

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
    failure: Option<SimError>,
}

#[derive(Clone, Copy, Debug)]
enum Request {
    Reset(u64),
    Step,
}

const FIRST: Transition =
    Transition { reward: 0.0, discount: 1.0, terminated: false, truncated: false, success: false, warning: None };

impl Slot {
    pub(super) fn new(environment: Environment) -> Self {
        let action = vec![0.0; environment.spec().actions.len()];
        Self { environment, request: Request::Step, action, transition: FIRST, was_reset: false, failure: None }
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

    fn work(&mut self) {
        let result = match self.request {
            Request::Reset(seed) => self.environment.reset(seed).map(|()| FIRST),
            Request::Step if self.transition.is_last() => self.environment.reset_again().map(|()| FIRST),
            Request::Step => self.environment.step(&self.action),
        };
        self.was_reset = matches!(self.request, Request::Reset(_)) || self.transition.is_last();
        match result {
            Ok(transition) => self.transition = transition,
            Err(error) => self.failure = Some(error),
        }
    }
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
    pub(super) fn start(slots: Vec<Slot>, num_workers: usize) -> Result<Self, SimError> {
        let shared = Arc::new(Shared {
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
            if let Some(other) = self.shared.next_queued() {
                self.shared.work_on(other);
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
            // A worker that panicked has nothing left to give back.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work_until_stopped(&self) {
        while let Some(slot) = self.wait_for_work() {
            self.work_on(slot);
        }
    }

    fn work_on(&self, slot: usize) {
        lock(&self.slots[slot]).work();
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
