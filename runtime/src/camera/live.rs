//! A camera on a thread of its own with a mailbox of one frame: the loop waits for the newest frame and for nothing else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use foresee_firmware_config::PixelEncoding;

use super::source::CameraSource;
use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::frame::Frame;

/// How long the thread waits for a driver before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A camera whose latest frame wins. The lock is held only while two frames change places.
#[derive(Debug)]
pub struct LiveCamera {
    mailbox: Arc<Mailbox>,
    /// When the frame that was taken last arrived.
    arrived: Option<Instant>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Mailbox {
    slot: Mutex<Slot>,
    arrived: Condvar,
}

#[derive(Debug)]
struct Slot {
    frame: Frame,
    /// When it arrived; `None` once it was taken.
    new_since: Option<Instant>,
    num_dropped: u64,
    ended: Option<Result<(), RuntimeError>>,
    stop: bool,
}

impl LiveCamera {
    /// Starts the thread over an opened source.
    ///
    /// # Errors
    /// [`RuntimeError::End`] when no thread can be started.
    pub fn start(source: CameraSource) -> Result<Self, RuntimeError> {
        let slot = Slot {
            frame: Frame::black(1, 1, PixelEncoding::Rgb8),
            new_since: None,
            num_dropped: 0,
            ended: None,
            stop: false,
        };
        let mailbox = Arc::new(Mailbox { slot: Mutex::new(slot), arrived: Condvar::new() });
        let filled = Arc::clone(&mailbox);
        let thread = std::thread::Builder::new()
            .name("foresee-camera".to_owned())
            .spawn(move || fill(source, &filled))
            .map_err(|error| RuntimeError::End { name: "camera".to_owned(), problem: format!("no thread: {error}") })?;
        Ok(Self { mailbox, arrived: None, thread: Some(thread) })
    }
}

impl Drop for LiveCamera {
    fn drop(&mut self) {
        lock(&self.mailbox).stop = true;
        // The thread does not panic; if it did, there is nothing left to end.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl FrameSource for LiveCamera {
    /// The frame that arrived last; the ones that it overtook count as dropped.
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let deadline = Instant::now() + timeout;
        let mut slot = lock(&self.mailbox);
        loop {
            if let Some(arrived) = slot.new_since.take() {
                self.arrived = Some(arrived);
                std::mem::swap(&mut slot.frame, &mut observation.frame);
                observation.joints.stamp = observation.frame.stamp;
                return Ok(SourceEvent::Observed);
            }
            match slot.ended.take() {
                Some(Ok(())) => {
                    slot.ended = Some(Ok(()));
                    return Ok(SourceEvent::Finished);
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(SourceEvent::TimedOut);
            }
            slot = self.mailbox.arrived.wait_timeout(slot, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn arrived(&self) -> Option<Instant> {
        self.arrived
    }

    fn num_dropped(&self) -> u64 {
        lock(&self.mailbox).num_dropped
    }
}

/// A thread that panicked while it held the lock left a frame that is still one.
fn lock(mailbox: &Mailbox) -> MutexGuard<'_, Slot> {
    mailbox.slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fill(mut source: CameraSource, mailbox: &Mailbox) {
    let mut observation = Observation::blank(1, 1, 0);
    loop {
        let event = source.next(&mut observation, LOOK);
        let mut slot = lock(mailbox);
        if slot.stop {
            return;
        }
        match event {
            Ok(SourceEvent::Observed) => {
                slot.num_dropped += u64::from(slot.new_since.is_some());
                slot.new_since = Some(Instant::now());
                std::mem::swap(&mut slot.frame, &mut observation.frame);
            }
            Ok(SourceEvent::Finished) => slot.ended = Some(Ok(())),
            Ok(_) => {}
            Err(error) => slot.ended = Some(Err(error)),
        }
        mailbox.arrived.notify_one();
        if slot.ended.is_some() {
            return;
        }
    }
}
