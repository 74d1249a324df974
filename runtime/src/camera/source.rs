//! A camera as a source of observations.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use foresee_firmware_config::CameraProfile;
use opencv::core::{Mat, get_tick_count, get_tick_frequency};
use opencv::videoio::{CAP_PROP_POS_MSEC, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst};

use super::device::CameraDevice;
use super::negotiate::{CameraMode, open};
use super::words;
use crate::data_set::DataSet;
use crate::ends::{FrameSource, Observation, SourceEvent};
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::picture::{PICTURE_ENDINGS, read_picture};
use crate::time::{Clock, Stamp};
use crate::video::VideoFile;

/// The pause before a camera that went away is tried again doubles up to here.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A driver's stamp that is older than this when its frame arrives is of another clock.
const LONGEST_TRANSPORT: Duration = Duration::from_secs(1);
const DEFAULT_FOLDER_RATE_HERTZ: f64 = 30.0;

/// How a camera is opened.
#[derive(Clone, Debug)]
pub struct CameraOptions {
    /// What the images must be, and what is asked of the driver.
    pub camera: CameraProfile,
    /// Where the stamps of live frames come from.
    pub clock: Clock,
    /// Take images of any size, as calibration does.
    pub any_size: bool,
}

/// A camera, a video file or a folder as a source. Images come in the profile's size and encoding: YUYV, NV12 and JPEG as the driver gives
/// them, without a copy through pixels of three bytes. A camera knows no joints:
/// their states stay zero under the frame's stamp. A live frame is stamped with its exposure where the driver tells it, else with its
/// arrival; one of a file or folder with its place there. A live camera that goes away is waited for, and tried again with back-off.
pub struct CameraSource {
    device: CameraDevice,
    options: CameraOptions,
    input: Input,
    image: Mat,
    sequence: u64,
    pause: Duration,
    num_reconnects: u64,
}

enum Input {
    Capture(VideoCapture, CameraMode),
    Images { files: Vec<PathBuf>, next: usize },
    Video { video: Box<VideoFile>, mode: CameraMode, next: usize },
    Lost { why: String, again: Instant },
}

impl CameraSource {
    /// Opens the device and negotiates.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] with the fix: no such device or file, held by another process, no format that fits, no video, an encoding
    /// that the device cannot give.
    pub fn open(device: &CameraDevice, options: CameraOptions) -> Result<Self, RuntimeError> {
        let fail = |problem: String| RuntimeError::Camera { name: device.to_string(), problem };
        if let Some(problem) = super::raw::refusal(device, options.camera.encoding) {
            return Err(fail(problem));
        }
        let input = connect(device, &options).map_err(fail)?;
        let pause = Duration::from_millis(options.camera.reconnect_millis);
        Ok(Self {
            device: device.clone(),
            options,
            input,
            image: Mat::default(),
            sequence: 0,
            pause,
            num_reconnects: 0,
        })
    }

    /// What the driver gives; `None` for a folder, and while a camera is away.
    pub fn mode(&self) -> Option<&CameraMode> {
        match &self.input {
            Input::Capture(_, mode) | Input::Video { mode, .. } => Some(mode),
            Input::Images { .. } | Input::Lost { .. } => None,
        }
    }

    /// Why the camera is away, while it is.
    pub fn lost(&self) -> Option<&str> {
        match &self.input {
            Input::Lost { why, .. } => Some(why),
            Input::Capture(..) | Input::Images { .. } | Input::Video { .. } => None,
        }
    }

    /// How often a camera that went away came back.
    pub fn num_reconnects(&self) -> u64 {
        self.num_reconnects
    }

    /// What the last frame is called: its file's name in a folder, else its number.
    pub fn last_name(&self) -> String {
        match &self.input {
            Input::Images { files, next } => {
                let file = next.checked_sub(1).and_then(|last| files.get(last)?.file_name());
                file.unwrap_or_default().to_string_lossy().into_owned()
            }
            Input::Capture(..) | Input::Lost { .. } | Input::Video { .. } => {
                format!("frame {}", self.sequence.saturating_sub(1))
            }
        }
    }

    /// The next image, decoded into the lent frame; `None` when there is none (yet).
    fn grab(&mut self, frame: &mut Frame) -> Result<Option<()>, String> {
        let stamp = match &mut self.input {
            Input::Lost { .. } => return Ok(None),
            Input::Images { files, next } => {
                let Some(file) = files.get(*next) else { return Ok(None) };
                *next += 1;
                read_picture(file, frame).map_err(|error| error.to_string())?;
                let rate = self.options.camera.rate_hertz.unwrap_or(DEFAULT_FOLDER_RATE_HERTZ);
                frame.stamp = Stamp::from_seconds((*next - 1) as f64 / rate);
                return super::raw::fit(&self.options.camera, self.options.any_size, frame).map(Some);
            }
            Input::Video { video, next, .. } => {
                let frame_idx = *next;
                *next += 1;
                if video.read(frame_idx, frame).map_err(|error| error.to_string())?.is_some() {
                    return Ok(None);
                }
                frame.stamp = Stamp::from_seconds(video.seconds(frame_idx));
                return super::raw::fit(&self.options.camera, self.options.any_size, frame).map(Some);
            }
            Input::Capture(capture, _) => {
                if !capture.grab().map_err(words)? {
                    return Ok(None);
                }
                let place_millis = capture.get(CAP_PROP_POS_MSEC).map_err(words)?;
                let now = || self.options.clock.now();
                let stamp = match &self.device {
                    CameraDevice::V4l2(_) => exposed(place_millis, now())?,
                    // A stream's place is its own time, not the machine's.
                    _ => now(),
                };
                if !capture.retrieve(&mut self.image, 0).map_err(words)? {
                    return Ok(None);
                }
                stamp
            }
        };
        frame.stamp = stamp;
        super::raw::copy(&self.image, &self.options.camera, self.options.any_size, frame).map(Some)
    }

    /// A live camera that gave nothing is let go, and tried again after a pause.
    fn lose(&mut self, why: String) {
        self.input = Input::Lost { why, again: Instant::now() + self.pause };
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }

    fn reconnect(&mut self, timeout: Duration) {
        let Input::Lost { again, .. } = self.input else { return };
        let left = again.saturating_duration_since(Instant::now());
        if left > timeout {
            std::thread::sleep(timeout);
            return;
        }
        std::thread::sleep(left);
        match connect(&self.device, &self.options) {
            Ok(input) => {
                self.input = input;
                self.num_reconnects += 1;
            }
            Err(why) => self.lose(why),
        }
    }
}

impl FrameSource for CameraSource {
    /// Waits for the driver, which has a timeout of its own, or for a camera that is away.
    fn next(&mut self, observation: &mut Observation, timeout: Duration) -> Result<SourceEvent, RuntimeError> {
        let is_live = self.device.is_live();
        self.reconnect(timeout);
        match self.grab(&mut observation.frame) {
            Ok(Some(())) => {
                self.pause = Duration::from_millis(self.options.camera.reconnect_millis);
                observation.frame.sequence = self.sequence;
                observation.joints.stamp = observation.frame.stamp;
                self.sequence += 1;
                Ok(SourceEvent::Observed)
            }
            Ok(None) if !is_live => Ok(SourceEvent::Finished),
            Ok(None) => {
                if self.lost().is_none() {
                    self.lose("gives no more images; is it still connected?".to_owned());
                }
                Ok(SourceEvent::TimedOut)
            }
            Err(problem) => Err(RuntimeError::Camera { name: self.device.to_string(), problem }),
        }
    }

    /// What a driver drops it does not tell.
    fn num_dropped(&self) -> u64 {
        0
    }
}

fn connect(device: &CameraDevice, options: &CameraOptions) -> Result<Input, String> {
    match device {
        CameraDevice::Folder(folder) => Ok(Input::Images { files: images(folder)?, next: 0 }),
        CameraDevice::File(path) => {
            let video = VideoFile::open(path).map_err(|error| match error {
                RuntimeError::Camera { problem, .. } => problem,
                other => other.to_string(),
            })?;
            let [width, height] = video.size().map(|side| u32::try_from(side).unwrap_or(u32::MAX));
            let (rate_hertz, format) = (video.rate_hertz(), video.codec().to_owned());
            let mode = CameraMode { width, height, rate_hertz, format, backend: "FFMPEG".to_owned() };
            Ok(Input::Video { video: Box::new(video), mode, next: 0 })
        }
        _ => {
            let (capture, mode) = open(device, &options.camera, options.any_size)?;
            Ok(Input::Capture(capture, mode))
        }
    }
}

/// The images of a folder in the order of the numbers in their names.
fn images(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = DataSet::of_folder(folder, PICTURE_ENDINGS).map_err(|error| error.to_string())?.files;
    if files.is_empty() {
        return Err(format!("holds no image ({})", PICTURE_ENDINGS.join(", ")));
    }
    files.sort_by_cached_key(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let digits: String = name.chars().filter(char::is_ascii_digit).take(18).collect();
        (digits.parse::<u64>().unwrap_or_default(), name)
    });
    Ok(files)
}

/// When a frame was exposed: Video4Linux gives the monotonic clock's time of it, which is OpenCV's tick count as well.
fn exposed(driver_millis: f64, now: Stamp) -> Result<Stamp, String> {
    let monotonic_millis = get_tick_count().map_err(words)? as f64 / get_tick_frequency().map_err(words)? * 1000.0;
    Ok(exposure_stamp(driver_millis, monotonic_millis, now))
}

/// A driver that tells nothing, or the time of another clock, leaves the arrival.
fn exposure_stamp(driver_millis: f64, monotonic_millis: f64, now: Stamp) -> Stamp {
    let age_millis = monotonic_millis - driver_millis;
    if driver_millis > 0.0 && (0.0..=LONGEST_TRANSPORT.as_secs_f64() * 1000.0).contains(&age_millis) {
        return Stamp { nanos: now.nanos.saturating_sub((age_millis * 1e6) as u64) };
    }
    now
}

#[cfg(test)]
pub(super) mod tests {
    use foresee_firmware_config::PixelEncoding;
    use opencv::core::{Scalar, Size, Vector};
    use opencv::imgcodecs::imwrite;
    use opencv::videoio::{VideoWriter, VideoWriterTrait};

    use super::*;

    pub(in crate::camera) fn options() -> CameraOptions {
        let camera = foresee_firmware_config::load("desktop-sim").unwrap().camera;
        CameraOptions { camera, clock: Clock::driven(), any_size: false }
    }

    fn uniform(side: i32, blue: f64) -> Mat {
        let colour = Scalar::new(blue, 20.0, 0.0, 0.0);
        Mat::new_rows_cols_with_default(side, side, opencv::core::CV_8UC3, colour).unwrap()
    }

    pub(in crate::camera) fn write_video(path: &Path, side: i32) {
        let code = VideoWriter::fourcc('M', 'J', 'P', 'G').unwrap();
        let path = path.display().to_string();
        let mut writer = VideoWriter::new(&path, code, 25.0, Size::new(side, side), true).unwrap();
        for blue in [10.0, 100.0, 200.0] {
            writer.write(&uniform(side, blue)).unwrap();
        }
        writer.release().unwrap();
    }

    fn check_three_frames(device: &CameraDevice, options: CameraOptions, period_nanos: u64) {
        let mut source = CameraSource::open(device, options).unwrap();
        let mut observation = Observation::blank(1, 1, 2);
        for (sequence, blue) in [(0, 10_u8), (1, 100), (2, 200)] {
            assert_eq!(source.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Observed);
            let frame = &observation.frame;
            assert_eq!(
                (frame.sequence, frame.stamp.nanos, frame.encoding),
                (sequence, sequence * period_nanos, PixelEncoding::Rgb8)
            );
            assert!(frame.data[2].abs_diff(blue) < 8 && frame.data[0] < 8, "{:?}", &frame.data[..3]);
        }
        assert_eq!(source.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Finished);
    }

    #[test]
    fn a_video_or_folder_gives_its_frames_and_then_finishes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("video.avi");
        write_video(&path, 128);
        check_three_frames(&CameraDevice::File(path), options(), 40_000_000);
        let images = folder.path().join("images");
        std::fs::create_dir(&images).unwrap();
        for (name, blue) in [("9.png", 10.0), ("10.png", 100.0), ("11.png", 200.0)] {
            let file = images.join(name).display().to_string();
            imwrite(&file, &uniform(128, blue), &Vector::new()).unwrap();
        }
        std::fs::write(images.join("notes.txt"), "none").unwrap();
        let mut slow = options();
        slow.camera.rate_hertz = Some(10.0);
        check_three_frames(&CameraDevice::parse(&images.display().to_string()).unwrap(), slow, 100_000_000);
    }

    /// GStreamer's own test picture, where it is installed: black, so that its bytes are known.
    #[test]
    fn a_pipeline_gives_raw_images_as_they_are() {
        for (encoding, caps, is_right) in [
            (
                PixelEncoding::Yuyv,
                "video/x-raw,format=YUY2",
                (|data| data[..4] == [16, 128, 16, 128]) as fn(&[u8]) -> bool,
            ),
            (PixelEncoding::Nv12, "video/x-raw,format=NV12", |data| data[0] == 16 && data[128 * 128] == 128),
            (PixelEncoding::Jpeg, "video/x-raw,format=I420", |data| data.ends_with(&[0xff, 0xd9])),
        ] {
            let encoder = if encoding == PixelEncoding::Jpeg { " ! jpegenc ! image/jpeg" } else { "" };
            let pipeline = format!(
                "gstreamer: videotestsrc pattern=black num-buffers=3 ! {caps},width=128,height=128{encoder} ! appsink"
            );
            let mut options = options();
            options.camera.encoding = encoding;
            let mut source = match CameraSource::open(&CameraDevice::parse(&pipeline).unwrap(), options) {
                Ok(source) => source,
                Err(error) => {
                    let message = error.to_string();
                    assert!(
                        message.contains("GStreamer cannot play") || message.contains("without GStreamer"),
                        "{message}"
                    );
                    eprintln!("skipped: {message}");
                    continue;
                }
            };
            let mut observation = Observation::blank(1, 1, 2);
            assert_eq!(source.next(&mut observation, Duration::ZERO).unwrap(), SourceEvent::Observed);
            let frame = &observation.frame;
            assert_eq!((frame.width, frame.height, frame.encoding), (128, 128, encoding));
            assert!(is_right(&frame.data) && frame.data.len() == frame.num_bytes(), "{encoding:?}");
        }
    }

    #[test]
    fn what_is_no_camera_is_a_named_error() {
        let folder = tempfile::tempdir().unwrap();
        let check = |device: &str, expected: &str| {
            let device = CameraDevice::parse(device).unwrap();
            let message = match &mut CameraSource::open(&device, options()) {
                Ok(source) => source.next(&mut Observation::blank(1, 1, 2), Duration::ZERO).unwrap_err().to_string(),
                Err(error) => error.to_string(),
            };
            let name = device.to_string();
            assert!(message.contains(&name) && message.contains(expected) && !message.contains('\n'), "{message}");
        };
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("text.avi"), b"no video").unwrap();
        std::fs::create_dir_all(file("empty")).unwrap();
        std::fs::create_dir_all(file("broken")).unwrap();
        std::fs::write(file("broken/1.png"), b"no image").unwrap();
        write_video(Path::new(&file("large.avi")), 64);
        check(&file("missing.avi"), "no such file");
        check(&file("text.avi"), "cannot be decoded");
        check(&file("large.avi"), "64x64 where the profile's camera has 128x128");
        check(&file("empty"), "holds no image");
        check(&file("broken"), "1.png: cannot be decoded");
        check("97", "no such device");
        check("gstreamer: videotestsrc", "ends in `! appsink`");
        check("gstreamer: nosuchsource ! appsink", "GStreamer cannot play");
        check("rtsp://127.0.0.1:1/none", "does not answer");
        let mut raw = options();
        raw.camera.encoding = PixelEncoding::Nv12;
        let device = CameraDevice::parse(&file("large.avi")).unwrap();
        let message = CameraSource::open(&device, raw).map(drop).unwrap_err().to_string();
        assert!(message.contains("large.avi") && message.contains("camera.encoding = \"nv12\""), "{message}");
    }

    #[test]
    fn exposure_is_the_drivers_where_it_is_of_the_same_clock() {
        let now = Stamp { nanos: 5_000_000_000 };
        assert_eq!(exposure_stamp(1000.0, 1030.0, now), Stamp { nanos: 4_970_000_000 });
        // Nothing told, the future, Unix time, long ago.
        for driver_millis in [0.0, 1031.0, 1.7e12, -5.0] {
            assert_eq!(exposure_stamp(driver_millis, 1030.0, now), now, "{driver_millis}");
        }
        assert_eq!(exposure_stamp(1000.0, 99_999.0, now), now);
    }

    /// A stream that ends is a live camera that goes away; opened again, it is one that comes back.
    #[test]
    fn a_live_camera_that_goes_away_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stream.avi");
        write_video(&path, 128);
        let device = CameraDevice::parse(&format!("file://{}", path.display())).unwrap();
        let mut options = CameraOptions { clock: Clock::Wall, ..options() };
        options.camera.reconnect_millis = 10;
        let mut source = CameraSource::open(&device, options).unwrap();
        let mut observation = Observation::blank(1, 1, 2);
        let (mut num_frames, mut num_timeouts) = (0, 0);
        let mut step = |source: &mut CameraSource| {
            match source.next(&mut observation, Duration::from_millis(5)).unwrap() {
                SourceEvent::Observed => num_frames += 1,
                SourceEvent::TimedOut => num_timeouts += 1,
                other => panic!("{other:?}"),
            }
            assert!(num_timeouts < 10_000, "it never comes back: {:?}", source.lost());
            (num_frames, num_timeouts)
        };
        while source.num_reconnects() < 2 {
            step(&mut source);
        }
        let (frames, timeouts) = step(&mut source);
        assert!(frames >= 7 && timeouts >= 2, "{frames} {timeouts}");
        // Away for good: it is waited for, longer and longer, and why is told.
        std::fs::remove_file(&path).unwrap();
        while !source.lost().is_some_and(|why| why.contains("does not answer")) {
            step(&mut source);
        }
        assert!(source.pause >= Duration::from_millis(40), "{:?}", source.pause);
        write_video(&path, 128);
        let before = source.num_reconnects();
        while source.num_reconnects() == before {
            step(&mut source);
        }
        step(&mut source);
        assert_eq!(source.pause, Duration::from_millis(10));
        assert_eq!(observation.frame.sequence, num_frames - 1, "frames are counted on");
    }
}
