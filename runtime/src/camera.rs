//! Cameras and video files through OpenCV.

use std::path::PathBuf;
use std::time::Duration;

use foresee_firmware_config::{CameraProfile, DeviceProfile, PixelEncoding};
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual, Vector};
use opencv::videoio::{
    CAP_ANY, CAP_PROP_BUFFERSIZE, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_WIDTH, CAP_PROP_POS_MSEC, VideoCapture,
    VideoCaptureTrait, VideoCaptureTraitConst,
};

use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::time::{Clock, Stamp};

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraDevice {
    /// The camera of this number, as in `/dev/video0`.
    Index(u32),
    /// A video file, or an address that OpenCV understands.
    File(PathBuf),
}

/// A camera or video file as a source. Images come in the profile's size and channel order. A camera knows no joints: their
/// states stay zero under the frame's stamp. A frame is stamped by the clock when it was grabbed, in a file by its place there.
pub struct CameraSource {
    name: String,
    capture: VideoCapture,
    camera: CameraProfile,
    clock: Clock,
    is_file: bool,
    image: Mat,
    sequence: u64,
}

impl CameraSource {
    /// Opens the device and asks it for the profile's size.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] when there is no such device or file, it is held by another process, or cannot be decoded.
    pub fn open(device: &CameraDevice, profile: &DeviceProfile, clock: Clock) -> Result<Self, RuntimeError> {
        let camera = profile.camera.clone();
        let (name, is_file) = match device {
            CameraDevice::Index(index) => (format!("/dev/video{index}"), false),
            CameraDevice::File(path) => (path.display().to_string(), true),
        };
        let fail = |problem: String| RuntimeError::Camera { name: name.clone(), problem };
        let explain = |error: opencv::Error| fail(error.message.split_whitespace().collect::<Vec<_>>().join(" "));
        if let CameraDevice::File(path) = device
            && !name.contains("://")
            && !path.is_file()
        {
            return Err(fail("no such file; give the path of a video".to_owned()));
        }
        let mut capture = match device {
            CameraDevice::Index(index) => {
                let index = i32::try_from(*index).map_err(|_| fail("no such number of a camera".to_owned()))?;
                let size = [(CAP_PROP_FRAME_WIDTH, camera.width), (CAP_PROP_FRAME_HEIGHT, camera.height)];
                let size =
                    size.into_iter().flat_map(|(property, pixels)| [property, i32::try_from(pixels).unwrap_or(0)]);
                VideoCapture::new_with_params(index, CAP_ANY, &size.collect::<Vector<i32>>()).map_err(explain)?
            }
            CameraDevice::File(_) => VideoCapture::from_file(&name, CAP_ANY).map_err(explain)?,
        };
        if !capture.is_opened().map_err(explain)? {
            let problem = if is_file {
                "cannot be decoded; is it a video?"
            } else {
                "cannot be opened; is it connected, not held by another process, and may this user read it?"
            };
            return Err(fail(problem.to_owned()));
        }
        if !is_file {
            // Fewer frames in the driver's queue are fresher frames; not every driver obeys.
            let _ = capture.set(CAP_PROP_BUFFERSIZE, 1.0);
        }
        Ok(Self { name, capture, camera, clock, is_file, image: Mat::default(), sequence: 0 })
    }

    fn grab(&mut self, frame: &mut Frame) -> Result<bool, String> {
        let explain = |error: opencv::Error| error.message.split_whitespace().collect::<Vec<_>>().join(" ");
        if !self.capture.grab().map_err(explain)? {
            return Ok(false);
        }
        // Before decoding: for a camera this is as near to the exposure as OpenCV gets.
        frame.stamp = if self.is_file {
            Stamp::from_seconds(self.capture.get(CAP_PROP_POS_MSEC).map_err(explain)? / 1000.0)
        } else {
            self.clock.now()
        };
        if !self.capture.retrieve(&mut self.image, 0).map_err(explain)? {
            return Ok(false);
        }
        let (width, height) = (self.image.cols(), self.image.rows());
        if (u32::try_from(width), u32::try_from(height)) != (Ok(self.camera.width), Ok(self.camera.height)) {
            let CameraProfile { width: wanted_width, height: wanted_height, .. } = self.camera;
            return Err(format!(
                "gives {width}x{height} where the profile's camera has {wanted_width}x{wanted_height}; make them agree"
            ));
        }
        let bytes = self.image.data_bytes().map_err(explain)?;
        (frame.width, frame.height, frame.encoding) = (self.camera.width, self.camera.height, self.camera.encoding);
        if bytes.len() != frame.num_bytes() {
            return Err(format!("gives {} bytes an image where 8-bit BGR has {}", bytes.len(), frame.num_bytes()));
        }
        frame.data.clear();
        frame.data.extend_from_slice(bytes);
        if self.camera.encoding == PixelEncoding::Rgb8 {
            frame.data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
        }
        Ok(true)
    }
}

impl FrameSource for CameraSource {
    /// Waits for the driver, which has a timeout of its own.
    fn next(&mut self, observation: &mut Observation, _timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let is_there = self
            .grab(&mut observation.frame)
            .map_err(|problem| RuntimeError::Camera { name: self.name.clone(), problem })?;
        if !is_there {
            return Ok(if self.is_file { SourceEvent::Finished } else { SourceEvent::TimedOut });
        }
        observation.frame.sequence = self.sequence;
        observation.joints.stamp = observation.frame.stamp;
        self.sequence += 1;
        Ok(SourceEvent::Observed)
    }

    /// What a driver drops it does not tell.
    fn num_dropped(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opencv::core::{Scalar, Size};
    use opencv::videoio::{VideoWriter, VideoWriterTrait};

    fn profile() -> DeviceProfile {
        foresee_firmware_config::load("desktop-sim").unwrap()
    }

    fn write_video(path: &std::path::Path, side: i32) {
        let code = VideoWriter::fourcc('M', 'J', 'P', 'G').unwrap();
        let mut writer =
            VideoWriter::new(path.display().to_string().as_str(), code, 25.0, Size::new(side, side), true).unwrap();
        for brightness in [10.0, 100.0, 200.0] {
            let colour = Scalar::new(brightness, 20.0, 0.0, 0.0);
            writer.write(&Mat::new_rows_cols_with_default(side, side, opencv::core::CV_8UC3, colour).unwrap()).unwrap();
        }
        writer.release().unwrap();
    }

    #[test]
    fn a_video_file_gives_its_frames_and_then_finishes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("video.avi");
        write_video(&path, 128);
        let mut source = CameraSource::open(&CameraDevice::File(path), &profile(), Clock::driven()).unwrap();
        let mut observation = Observation::blank(1, 1, 2);
        for (sequence, blue) in [(0, 10_u8), (1, 100), (2, 200)] {
            assert_eq!(source.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Observed);
            let frame = &observation.frame;
            assert_eq!(
                (frame.sequence, frame.stamp.nanos, frame.encoding),
                (sequence, sequence * 40_000_000, PixelEncoding::Rgb8)
            );
            assert!(frame.data[2].abs_diff(blue) < 8 && frame.data[0] < 8, "{:?}", &frame.data[..3]);
        }
        assert_eq!(source.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Finished);
    }

    #[test]
    fn what_is_no_video_is_a_named_error() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, expected: &str| {
            let device = CameraDevice::File(folder.path().join(name));
            let mut opened = CameraSource::open(&device, &profile(), Clock::Wall);
            let message = match &mut opened {
                Ok(source) => source.next(&mut Observation::blank(1, 1, 2), Duration::ZERO).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            assert!(message.contains(name) && message.contains(expected) && !message.contains('\n'), "{message}");
        };
        std::fs::write(folder.path().join("text.avi"), b"no video").unwrap();
        write_video(&folder.path().join("large.avi"), 64);
        check("missing.avi", "no such file");
        check("text.avi", "cannot be decoded");
        check("large.avi", "64x64 where the profile's camera has 128x128");
        let nothing = CameraSource::open(&CameraDevice::Index(97), &profile(), Clock::Wall).err().unwrap().to_string();
        assert!(nothing.contains("/dev/video97") && nothing.contains("cannot be opened"), "{nothing}");
    }
}
