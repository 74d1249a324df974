//! Video files through FFmpeg's libraries: the frame with index k is the one that is shown as number k, whatever the container, the
//! frame rate, the order of the packets and the way to it, upright as the container's display matrix has it.

mod decode;
mod index;

use std::path::Path;
use std::sync::Arc;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use foresee_firmware_config::PixelEncoding;

use crate::error::RuntimeError;
use crate::frame::Frame;

use decode::Stream;
use index::Times;

pub use index::VideoIndex;

/// Frames that are decoded through rather than sought: a seek costs about as much.
const SEEK_COST: usize = 8;

/// An open video.
pub struct VideoFile {
    name: String,
    index: Arc<VideoIndex>,
    stream: Stream,
    /// The frame that the stream gave last.
    held: Option<usize>,
    converter: Option<Converter>,
    /// Pixels as they are stored, of videos that are turned.
    stored: Vec<u8>,
}

/// From the decoder's pixels to blue, green, red.
struct Converter {
    context: scaling::Context,
    image: ffmpeg_next::frame::Video,
}

#[expect(unsafe_code, reason = "the wrapper of FFmpeg leaves this mark of its scaler out, and has it for all the rest")]
// SAFETY: FFmpeg's scaler is memory without any tie to a thread, used here by one at a time.
unsafe impl Send for Converter {}

impl VideoFile {
    /// Opens a file of any container and codec that FFmpeg has, and reads through its packets once to know its frames.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] naming the file when it is missing, cannot be decoded, holds no frame, or is larger than 16384 pixels a
    /// side or 64 million in all.
    pub fn open(path: &Path) -> Result<Self, RuntimeError> {
        Self::open_with(path, None)
    }

    /// As [`VideoFile::open`] of a file whose index was built before.
    ///
    /// # Errors
    /// As [`VideoFile::open`].
    pub fn open_indexed(path: &Path, index: Arc<VideoIndex>) -> Result<Self, RuntimeError> {
        Self::open_with(path, Some(index))
    }

    fn open_with(path: &Path, index: Option<Arc<VideoIndex>>) -> Result<Self, RuntimeError> {
        let name = path.display().to_string();
        let fail = |problem: String| RuntimeError::Camera { name: name.clone(), problem };
        if !path.is_file() {
            return Err(fail("no such file; give the path of a video".to_owned()));
        }
        let mut stream = Stream::open(path).map_err(fail)?;
        let index = match index {
            Some(index) => index,
            None => {
                let index = VideoIndex::of(&mut stream).map_err(fail)?;
                stream.rewind().map_err(fail)?;
                Arc::new(index)
            }
        };
        Ok(Self { name, index, stream, held: None, converter: None, stored: Vec::new() })
    }

    /// What [`VideoFile::open_indexed`] takes.
    pub fn index(&self) -> Arc<VideoIndex> {
        Arc::clone(&self.index)
    }

    /// Width and height of the upright picture in pixels, as the container has them.
    pub fn size(&self) -> [usize; 2] {
        self.stream.upright().size(self.stream.size())
    }

    /// Frames that are shown.
    pub fn num_frames(&self) -> usize {
        self.index.num_frames()
    }

    /// Frames a second on average; 0 where the container has no rate.
    pub fn rate_hertz(&self) -> f64 {
        self.stream.rate_hertz()
    }

    /// The codec's name, such as `h264`.
    pub fn codec(&self) -> &'static str {
        self.stream.codec()
    }

    /// When a frame is shown, in seconds after the first.
    pub fn seconds(&self, frame_idx: usize) -> f64 {
        match &self.index.times {
            Times::Shown { frames, .. } => {
                let since = frames.get(frame_idx).zip(frames.first()).map_or(0, |(time, first)| time - first);
                since as f64 * self.stream.seconds_per_tick()
            }
            Times::Counted { .. } => frame_idx as f64 / self.stream.rate_hertz().max(1.0),
        }
    }

    /// Reads frame `frame_idx` as BGR; frames in rising order are fastest. `Some(n)` says that the video has only `n` frames.
    ///
    /// # Errors
    /// [`RuntimeError::Camera`] when the frame cannot be decoded whole.
    pub fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Option<usize>, RuntimeError> {
        let read = self.read_frame(frame_idx, frame);
        read.map_err(|problem| RuntimeError::Camera { name: self.name.clone(), problem })
    }

    fn read_frame(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Option<usize>, String> {
        if frame_idx >= self.num_frames() {
            return Ok(Some(self.num_frames()));
        }
        if self.held != Some(frame_idx) {
            let index = Arc::clone(&self.index);
            let was_sought = self.approach(&index, frame_idx)?;
            let mut is_there = self.decode_to(&index, frame_idx)?;
            if !is_there && was_sought {
                // What a seek came to is not what the index has: counted from the start.
                self.rewind()?;
                is_there = self.decode_to(&index, frame_idx)?;
            }
            if !is_there {
                self.rewind()?;
                return Err(format!("frame {frame_idx} cannot be decoded whole; the file is damaged"));
            }
            self.held = Some(frame_idx);
        }
        self.convert(frame).map(|()| None)
    }

    fn rewind(&mut self) -> Result<(), String> {
        self.held = None;
        self.stream.rewind()
    }

    /// Seeks where that is less work than to decode on; whether it did.
    fn approach(&mut self, index: &VideoIndex, frame_idx: usize) -> Result<bool, String> {
        let next = self.held.map_or(0, |held| held + 1);
        let is_ahead = frame_idx >= next;
        let Times::Shown { frames, keys } = &index.times else {
            return if is_ahead { Ok(false) } else { self.rewind().map(|()| false) };
        };
        let Some(time) = frames.get(frame_idx) else { return Ok(false) };
        let mut key = keys.partition_point(|key| key <= time);
        let key_frame = key.checked_sub(1).and_then(|key| keys.get(key));
        let key_idx = key_frame.map_or(0, |key| frames.partition_point(|frame| frame < key));
        if is_ahead && frame_idx - next <= frame_idx.saturating_sub(key_idx) + SEEK_COST {
            return Ok(false);
        }
        self.held = None;
        // Demuxers may come to a later frame than asked for: from further ahead, then from the start.
        for step in [1, 1, 2, 4] {
            let Some(earlier) = key.checked_sub(step) else { break };
            key = earlier;
            if let Some(from) = keys.get(key)
                && self.stream.seek(*from, *time)
            {
                return Ok(true);
            }
        }
        self.rewind().map(|()| false)
    }

    /// Decodes until this frame is there; whether it is, and whole.
    fn decode_to(&mut self, index: &VideoIndex, frame_idx: usize) -> Result<bool, String> {
        match &index.times {
            Times::Shown { frames, .. } => {
                let Some(wanted) = frames.get(frame_idx) else { return Ok(false) };
                loop {
                    match self.stream.next()? {
                        Some(Some(time)) if time < *wanted => {}
                        Some(Some(time)) => return Ok(time == *wanted && self.stream.is_whole()),
                        Some(None) => {}
                        None => return Ok(false),
                    }
                }
            }
            Times::Counted { .. } => {
                for _ in self.held.map_or(0, |held| held + 1)..=frame_idx {
                    if self.stream.next()?.is_none() {
                        return Ok(false);
                    }
                }
                Ok(self.stream.is_whole())
            }
        }
    }

    fn convert(&mut self, frame: &mut Frame) -> Result<(), String> {
        let picture = self.stream.picture();
        let (width, height, format) = (picture.width(), picture.height(), picture.format());
        decode::check_size([width, height].map(i64::from))?;
        let fits = |converter: &Converter| {
            let input = converter.context.input();
            (input.format, input.width, input.height) == (format, width, height)
        };
        if !self.converter.as_ref().is_some_and(fits) {
            let flags = scaling::Flags::BICUBIC;
            let context = scaling::Context::get(format, width, height, Pixel::BGR24, width, height, flags);
            let context = context.map_err(|error| format!("pixels of {format:?} cannot be converted ({error})"))?;
            self.converter = Some(Converter { context, image: ffmpeg_next::frame::Video::empty() });
        }
        let Some(converter) = &mut self.converter else { return Err("has no converter".to_owned()) };
        converter
            .context
            .run(picture, &mut converter.image)
            .map_err(|error| format!("cannot be converted ({error})"))?;
        let (row_bytes, stride) = (3 * width as usize, converter.image.stride(0));
        let upright = self.stream.upright();
        let target = if upright.is_as_stored() { &mut frame.data } else { &mut self.stored };
        target.clear();
        for row in converter.image.data(0).chunks(stride.max(1)).take(height as usize) {
            target.extend_from_slice(row.get(..row_bytes).unwrap_or_default());
        }
        let stored = [width, height].map(|side| side as usize);
        let [width, height] = upright.size(stored);
        (frame.width, frame.height, frame.encoding) = (width as u32, height as u32, PixelEncoding::Bgr8);
        if !upright.is_as_stored() {
            frame.data.resize(frame.num_bytes(), 0);
            upright.turn(&self.stored, stored, &mut frame.data);
        }
        if frame.data.len() == frame.num_bytes() { Ok(()) } else { Err("gives an image that is too short".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opencv::core::{Mat, Scalar, Size};
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
            assert_eq!(video.num_frames(), 400, "{name}");
            let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
            for frame_idx in [0, 3, 3, 47, 390] {
                assert_eq!(video.read(frame_idx, &mut frame).unwrap(), None, "{name} {frame_idx}");
                assert_eq!((frame.width, frame.height), (64, 48));
                let wanted = (frame_idx % 200 + 20) as u8;
                assert!(frame.data[0].abs_diff(wanted) <= 4, "{name} {frame_idx}: {} {wanted}", frame.data[0]);
            }
            // A frame that is sought has the bytes of one that is reached.
            let mut reached = VideoFile::open(&path).unwrap();
            let (mut stepwise, mut second) = (frame.clone(), frame.clone());
            for frame_idx in 0..=390 {
                assert_eq!(reached.read(frame_idx, &mut stepwise).unwrap(), None, "{name} {frame_idx}");
                if frame_idx == 2 {
                    second.copy_from(&stepwise);
                }
            }
            assert!(stepwise == frame, "{name}");
            assert_eq!(video.read(1000, &mut frame).unwrap(), Some(400), "{name}");
            assert_eq!(video.read(2, &mut frame).unwrap(), None, "{name}: back again");
            assert!(frame == second, "{name}: {} {}", frame.data[0], second.data[0]);
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
        let mut video = VideoFile::open(&path).unwrap();
        let num_frames = video.num_frames();
        assert!((10..59).contains(&num_frames), "{num_frames}");
        let problem = video.index().problem().unwrap().to_owned();
        assert!(problem.contains("breaks off after") && problem.contains("of 60 frames"), "{problem}");
        assert_eq!(video.read(59, &mut frame).unwrap(), Some(num_frames));
        assert_eq!(video.read(num_frames - 3, &mut frame).unwrap(), None);
        std::fs::write(folder.path().join("text.mp4"), b"no video").unwrap();
        for (name, wanted) in [("text.mp4", "cannot be decoded"), ("missing.mp4", "no such file")] {
            let error = VideoFile::open(&folder.path().join(name)).err().unwrap().to_string();
            assert!(error.contains(name) && error.contains(wanted), "{error}");
        }
    }

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/videos").join(name)
    }

    /// Frames that FFmpeg shows (`-fps_mode passthrough`), and the grey level of the first; each is 3 levels above the one before.
    const NUMBERED: [(&str, usize, f64); 10] = [
        ("uneven.mp4", 60, 20.0),
        ("uneven_short_groups.mp4", 60, 20.0),
        ("uneven.mkv", 60, 20.0),
        ("uneven.ts", 60, 20.0),
        ("uneven.webm", 60, 20.0),
        ("vp9.webm", 60, 20.0),
        ("open_groups.mp4", 60, 20.0),
        ("h264.avi", 60, 20.0),
        // JPEG rounds the level.
        ("plain.mov", 60, 18.0),
        ("edited.mp4", 49, 53.0),
    ];

    #[test]
    fn frame_k_is_the_kth_that_is_shown_however_it_is_reached() {
        for (name, num_frames, first) in NUMBERED {
            let mut stepwise = VideoFile::open(&fixture(name)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(stepwise.num_frames(), num_frames, "{name}");
            let (mut frame, mut frames) = (Frame::black(0, 0, PixelEncoding::Rgb8), Vec::new());
            for frame_idx in 0..num_frames {
                assert_eq!(stepwise.read(frame_idx, &mut frame).unwrap(), None, "{name} {frame_idx}");
                let wanted = first + 3.0 * frame_idx as f64;
                let level = f64::from(frame.data[3 * (24 * 64 + 32)]);
                assert!((level - wanted).abs() < 1.5, "{name} {frame_idx}: {level} where {wanted} is");
                frames.push(frame.data.clone());
            }
            assert_eq!(stepwise.read(num_frames, &mut frame).unwrap(), Some(num_frames), "{name}");
            // By leaps forwards and backwards, in the same file and in one that is opened anew.
            let mut leaping = VideoFile::open(&fixture(name)).unwrap();
            for leap in 0..120 {
                let frame_idx = leap * 37 % num_frames;
                assert_eq!(leaping.read(frame_idx, &mut frame).unwrap(), None, "{name} {frame_idx}");
                assert!(frame.data == frames[frame_idx], "{name} {frame_idx} in leap {leap}");
            }
            for frame_idx in [num_frames - 1, num_frames / 2, 1] {
                let mut fresh = VideoFile::open_indexed(&fixture(name), stepwise.index()).unwrap();
                assert_eq!(fresh.read(frame_idx, &mut frame).unwrap(), None, "{name} {frame_idx}");
                assert!(frame.data == frames[frame_idx], "{name} {frame_idx} at once");
            }
        }
    }

    /// 10 frames a second, then 50, then a pause of 6.6 s, whether the first comes at 0 s or 5 s.
    #[test]
    fn times_are_the_containers() {
        for name in ["uneven.mp4", "uneven.mkv", "uneven.webm", "uneven.ts"] {
            let video = VideoFile::open(&fixture(name)).unwrap();
            for (frame_idx, seconds) in [(0, 0.0), (10, 1.0), (30, 2.2), (40, 9.0), (59, 9.627)] {
                assert!((video.seconds(frame_idx) - seconds).abs() < 0.002, "{name}: {}", video.seconds(frame_idx));
            }
        }
    }

    #[test]
    fn a_display_matrix_brings_upright() {
        let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
        for name in ["turned_90.mp4", "turned_180.mp4", "turned_270.mp4"] {
            let mut video = VideoFile::open(&fixture(name)).unwrap();
            assert_eq!((video.size(), video.num_frames()), ([64, 48], 12), "{name}");
            for frame_idx in [0, 7] {
                assert_eq!(video.read(frame_idx, &mut frame).unwrap(), None);
                assert_eq!((frame.width, frame.height), (64, 48), "{name}");
                let pixel = |x: usize, y: usize| frame.data[3 * (y * 64 + x)..][..3].to_vec();
                let (above, below) = (pixel(32, 4), pixel(32, 40));
                assert!(above[2] > 200 && above[0] < 60, "{name}: {above:?} above");
                assert!(below[2].abs_diff(20 + 3 * frame_idx as u8) < 6, "{name}: {below:?} below");
            }
        }
    }

    /// What is overwritten in the middle gives the other frames and no picture of its own.
    #[test]
    fn a_damaged_frame_is_named_and_the_others_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.mov");
        let mut bytes = std::fs::read(fixture("plain.mov")).unwrap();
        let starts: Vec<usize> =
            (0..bytes.len() - 2).filter(|at| bytes[*at..].starts_with(&[0xff, 0xd8, 0xff])).collect();
        assert_eq!(starts.len(), 60);
        bytes[starts[20]..starts[21]].fill(0);
        // Another one lacks its second half.
        bytes[(starts[30] + starts[31]) / 2..starts[31]].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let mut video = VideoFile::open(&path).unwrap();
        let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
        assert_eq!(video.num_frames(), 60);
        let message = video.read(20, &mut frame).unwrap_err().to_string();
        assert!(message.contains("damaged.mov") && message.contains("frame 20"), "{message}");
        assert!(video.read(30, &mut frame).unwrap_err().to_string().contains("frame 30"));
        assert_eq!(video.read(21, &mut frame).unwrap(), None);
        assert!(frame.data[3 * (24 * 64 + 32)].abs_diff(20 + 63) < 3);
    }
}
