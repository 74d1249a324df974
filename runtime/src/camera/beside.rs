//! Cameras of this computer beside the first one, whatever that comes from: their latest frames, without waiting.

use std::time::Duration;

use super::live::LiveCamera;
use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;

/// A source of observations, with live cameras for some of [`Observation::extra`].
pub struct CamerasBeside {
    first: Box<dyn FrameSource>,
    cameras: Vec<Beside>,
}

struct Beside {
    /// In the profile's order of extra cameras.
    place: usize,
    camera: LiveCamera,
    /// Holds the latest frame.
    seen: Observation,
}

impl CamerasBeside {
    /// `cameras`: the place of each among the profile's extra cameras, and the camera.
    pub fn new(first: Box<dyn FrameSource>, cameras: Vec<(usize, LiveCamera)>) -> Self {
        let beside = |(place, camera)| Beside { place, camera, seen: Observation::blank(0, 0, 0) };
        Self { first, cameras: cameras.into_iter().map(beside).collect() }
    }
}

impl FrameSource for CamerasBeside {
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let event = self.first.next(observation, timeout)?;
        if event == SourceEvent::Observed {
            for Beside { place, camera, seen } in &mut self.cameras {
                // Without a new frame the last one stands; its age is looked at by the loop.
                camera.next(seen, Duration::ZERO)?;
                observation.extra.iter_mut().skip(*place).take(1).for_each(|frame| frame.copy_from(&seen.frame));
            }
        }
        Ok(event)
    }

    fn arrived(&self) -> Option<std::time::Instant> {
        self.first.arrived()
    }

    fn num_dropped(&self) -> u64 {
        self.first.num_dropped()
    }
}
