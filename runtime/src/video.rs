//! Video files through OpenCV, frame by frame and forwards: what training reads.

use std::path::Path;

use foresee_firmware_config::PixelEncoding;
use opencv::core::{Mat, MatTraitConst, MatTraitConstManual};
use opencv::videoio::{
    CAP_FFMPEG, CAP_PROP_FRAME_COUNT, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_WIDTH, CAP_PROP_POS_FRAMES, VideoCapture,
    VideoCaptureTrait, VideoCaptureTraitConst,
};

use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::preprocess::MAX_FRAME_PIXELS;

/// Frames further ahead than this are sought by the container's index; nearer ones are decoded through.
const SEEK_FROM: usize = 40;
/// Largest image that is decoded, in pixels.
const MAX_PIXELS: i64 = 64 << 20;

/// An open video.
pub struct VideoFile {
    name: String,
    capture: VideoCapture,
    size: [usize; 2],
    num_frames: usize,
    /// The frame that the next grab gives.
    next: usize,
    image: Mat,
}

impl VideoFile {
    /// Opens a file of any container and codec that this OpenCV's FFmpeg has.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] naming the file when it is missing, cannot be decoded, or is larger than 16384 pixels a side or 64
    /// million in all.
    pub fn open(path: &Path) -> Result<Self, RuntimeError> {
        let name = path.display().to_string();
        let fail = |problem: String| RuntimeError::Camera { name: name.clone(), problem };
        let explain = |error: opencv::Error| fail(one_line(&error));
        if !path.is_file() {
            return Err(fail("no such file; give the path of a video".to_owned()));
        }
        let mut capture = VideoCapture::from_file(&name, CAP_FFMPEG).map_err(explain)?;
        if !capture.is_opened().map_err(explain)? {
            return Err(fail("cannot be decoded; is it a whole video?".to_owned()));
        }
        let number = |property| capture.get(property).map(|value| value as i64).map_err(explain);
        let (width, height) = (number(CAP_PROP_FRAME_WIDTH)?, number(CAP_PROP_FRAME_HEIGHT)?);
        let side = i64::from(MAX_FRAME_PIXELS);
        if !(1..=side).contains(&width) || !(1..=side).contains(&height) || width * height > MAX_PIXELS {
            return Err(fail(format!(
                "is of {width}x{height} pixels; at most {side} a side and {MAX_PIXELS} in all are decoded"
            )));
        }
        let mut num_frames = usize::try_from(number(CAP_PROP_FRAME_COUNT)?).unwrap_or(0);
        if num_frames == 0 {
            // Some containers do not say: count once, then begin again.
            while capture.grab().map_err(explain)? {
                num_frames += 1;
            }
            capture = VideoCapture::from_file(&name, CAP_FFMPEG).map_err(explain)?;
        }
        let size = [width, height].map(|side| usize::try_from(side).unwrap_or(0));
        Ok(Self { name, capture, size, num_frames, next: 0, image: Mat::default() })
    }

    /// Width and height in pixels, as the container says.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Frames that the container claims, or that were counted where it claims none.
    pub fn num_frames(&self) -> usize {
        self.num_frames
    }

    /// Reads frame `frame_idx`, not before the last one read, as BGR. `Some(n)` says that the video has only `n` frames.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] when OpenCV fails or the frame cannot be what it is said to be.
    pub fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Option<usize>, RuntimeError> {
        let name = self.name.clone();
        self.read_frame(frame_idx, frame).map_err(|problem| RuntimeError::Camera { name, problem })
    }

    fn read_frame(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Option<usize>, String> {
        let explain = |error: opencv::Error| one_line(&error);
        let is_read = self.next == frame_idx + 1 && !self.image.empty();
        if !is_read {
            if frame_idx < self.next {
                return Err(format!("frame {frame_idx} is wanted after frame {}", self.next - 1));
            }
            let mut is_sought = frame_idx > self.next + SEEK_FROM && frame_idx < self.num_frames;
            if is_sought {
                self.seek(frame_idx).map_err(explain)?;
            }
            while self.next <= frame_idx {
                if self.capture.grab().map_err(explain)? {
                    self.next += 1;
                } else if std::mem::take(&mut is_sought) {
                    // The file may end before what its index says: counted from the start.
                    self.rewind().map_err(explain)?;
                } else {
                    return Ok(Some(self.next));
                }
            }
            if !self.capture.retrieve(&mut self.image, 0).map_err(explain)? {
                return Ok(Some(frame_idx));
            }
        }
        let side = |pixels: i32| u32::try_from(pixels).map_err(|_| format!("a side of {pixels} pixels"));
        (frame.width, frame.height) = (side(self.image.cols())?, side(self.image.rows())?);
        frame.encoding = PixelEncoding::Bgr8;
        let bytes = self.image.data_bytes().map_err(explain)?;
        if bytes.len() != frame.num_bytes() {
            return Err(format!("gives {} bytes an image where 8-bit BGR has {}", bytes.len(), frame.num_bytes()));
        }
        frame.data.clear();
        frame.data.extend_from_slice(bytes);
        Ok(None)
    }
}

impl VideoFile {
    /// Goes to a frame by the container's index, or back to the start where that leads elsewhere.
    fn seek(&mut self, frame_idx: usize) -> opencv::Result<()> {
        self.capture.set(CAP_PROP_POS_FRAMES, frame_idx as f64)?;
        if self.capture.get(CAP_PROP_POS_FRAMES)? as usize == frame_idx {
            self.next = frame_idx;
            return Ok(());
        }
        self.rewind()
    }

    fn rewind(&mut self) -> opencv::Result<()> {
        self.capture = VideoCapture::from_file(&self.name, CAP_FFMPEG)?;
        self.next = 0;
        Ok(())
    }
}

fn one_line(error: &opencv::Error) -> String {
    error.message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use opencv::core::{Scalar, Size};
    use opencv::videoio::{VideoWriter, VideoWriterTrait, VideoWriterTraitConst};

    /// Frame k has the grey level `k % 200 + 20`.
    fn write_video(path: &Path, [a, b, c, d]: [char; 4], num_frames: usize) {
        let code = VideoWriter::fourcc(a, b, c, d).unwrap();
        let mut writer =
            VideoWriter::new(path.display().to_string().as_str(), code, 25.0, Size::new(64, 48), true).unwrap();
        assert!(writer.is_opened().unwrap(), "{path:?} cannot be written here");
        for frame_idx in 0..num_frames {
            let colour = Scalar::all((frame_idx % 200 + 20) as f64);
            writer.write(&Mat::new_rows_cols_with_default(48, 64, opencv::core::CV_8UC3, colour).unwrap()).unwrap();
        }
        writer.release().unwrap();
    }

    #[test]
    fn each_container_gives_the_frames_that_were_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [("a.mp4", ['m', 'p', '4', 'v']), ("a.avi", ['M', 'J', 'P', 'G']), ("a.webm", ['V', 'P', '8', '0'])];
        for (name, code) in rows {
            let path = folder.path().join(name);
            write_video(&path, code, 400);
            let mut video = VideoFile::open(&path).unwrap();
            assert!(video.num_frames().abs_diff(400) <= 1, "{name}: {}", video.num_frames());
            let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
            for frame_idx in [0, 3, 3, 47, 390] {
                assert_eq!(video.read(frame_idx, &mut frame).unwrap(), None, "{name} {frame_idx}");
                assert_eq!((frame.width, frame.height), (64, 48));
                let wanted = (frame_idx % 200 + 20) as u8;
                assert!(frame.data[0].abs_diff(wanted) <= 4, "{name} {frame_idx}: {} {wanted}", frame.data[0]);
            }
            // A frame that is sought has the bytes of one that is reached.
            let (mut reached, mut stepwise) =
                (VideoFile::open(&path).unwrap(), Frame::black(0, 0, PixelEncoding::Rgb8));
            for frame_idx in 0..=390 {
                assert_eq!(reached.read(frame_idx, &mut stepwise).unwrap(), None, "{name} {frame_idx}");
            }
            assert!(stepwise == frame, "{name}");
            assert_eq!(video.read(1000, &mut frame).unwrap(), Some(400), "{name}");
            assert!(video.read(2, &mut frame).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn a_video_that_breaks_off_says_where_and_what_is_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.avi");
        write_video(&path, ['M', 'J', 'P', 'G'], 60);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
        match VideoFile::open(&path) {
            Ok(mut video) => {
                let ended = video.read(59, &mut frame).unwrap();
                assert!(ended.is_some_and(|num_frames| (1..59).contains(&num_frames)), "{ended:?}");
            }
            Err(error) => assert!(error.to_string().contains("cut.avi"), "{error}"),
        }
        std::fs::write(folder.path().join("text.mp4"), b"no video").unwrap();
        for (name, wanted) in [("text.mp4", "cannot be decoded"), ("missing.mp4", "no such file")] {
            let error = VideoFile::open(&folder.path().join(name)).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(wanted), "{error}");
        }
    }
}
