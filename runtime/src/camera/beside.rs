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
        self.first.num_dropped() + self.cameras.iter().map(|beside| beside.camera.num_dropped()).sum::<u64>()
    }

    fn num_unreadable(&self) -> u64 {
        self.first.num_unreadable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::source::tests::{options, write_video};
    use crate::camera::{CameraDevice, CameraSource};
    use crate::frame::Frame;
    use foresee_firmware_config::PixelEncoding;

    /// Has a frame whenever it is asked.
    struct Always;

    impl FrameSource for Always {
        fn next(&mut self, _: &mut Observation, _: Duration) -> Result<SourceEvent, RuntimeError> {
            Ok(SourceEvent::Observed)
        }

        fn num_dropped(&self) -> u64 {
            5
        }
    }

    #[test]
    fn a_camera_beside_fills_its_place_with_its_latest_frame_and_keeps_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("beside.avi");
        write_video(&path, 128);
        let source = CameraSource::open(&CameraDevice::File(path), options()).unwrap();
        let mut both = CamerasBeside::new(Box::new(Always), vec![(1, LiveCamera::start(source).unwrap())]);
        let mut observation = Observation::blank(1, 1, 2);
        observation.extra = vec![Frame::black(1, 1, PixelEncoding::Rgb8); 2];
        // The video's third frame is its last.
        for _ in 0..10_000 {
            assert_eq!(both.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Observed);
            if observation.extra[1].sequence == 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for _ in 0..2 {
            let [untouched, beside] = [&observation.extra[0], &observation.extra[1]];
            assert_eq!((untouched.width, beside.width, beside.sequence), (1, 128, 2));
            assert!(beside.data[2].abs_diff(200) < 8, "{:?}", &beside.data[..3]);
            both.next(&mut observation, Duration::ZERO).unwrap();
        }
        assert!((5..=7).contains(&both.num_dropped()), "{}", both.num_dropped());
    }
}
