//! A robot whose camera is at this computer: frames come from the camera, joint states over zenoh.

use std::time::{Duration, Instant};

use super::ZenohSource;
use crate::camera::LiveCamera;
use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;

/// Frames of a camera with the latest joint states. A frame before the first joint state is passed over.
pub struct CameraRobot {
    pub(super) camera: LiveCamera,
    pub(super) joints: ZenohSource,
}

impl CameraRobot {
    /// A camera, and the robot that it looks at.
    pub fn new(camera: LiveCamera, joints: ZenohSource) -> Self {
        Self { camera, joints }
    }
}

impl FrameSource for CameraRobot {
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(event) = self.joints.hear()? {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.camera.next(observation, left)?;
            if event != SourceEvent::Observed {
                return Ok(event);
            }
            // What came while the frame was waited for.
            if let Some(event) = self.joints.hear()? {
                return Ok(event);
            }
            self.joints.latest_extra(&mut observation.extra);
            if self.joints.latest_joints(&mut observation.joints) {
                return Ok(SourceEvent::Observed);
            }
        }
    }

    fn arrived(&self) -> Option<Instant> {
        self.camera.arrived()
    }

    fn num_dropped(&self) -> u64 {
        self.camera.num_dropped()
    }

    fn num_unreadable(&self) -> u64 {
        self.joints.num_unreadable()
    }

    fn num_restarts(&self) -> u64 {
        self.joints.num_restarts()
    }
}
