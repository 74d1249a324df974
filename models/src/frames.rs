//! Training frames in memory: 8 bits a channel, one size, in clips of consecutive frames.

use std::ops::Range;
use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{
    DataSet, EncoderInput, Frame, LogEntry, LogReader, LogTopics, PreprocessingCard, Preprocessor, Resize, Skipped,
};

use crate::clips::{ClipReader, ClipSource, Reading, SamplePlace};
use crate::error::ModelsError;

/// Frames of one size in memory, in clips.
#[derive(Clone, Debug)]
pub struct FrameStore {
    size: usize,
    pixels: Vec<u8>,
    clips: Vec<Range<usize>>,
    problems: Vec<String>,
}

impl FrameStore {
    /// Nothing yet; frames will be kept as `size` x `size` pixels.
    pub fn new(size: usize) -> Self {
        Self { size, pixels: Vec::new(), clips: Vec::new(), problems: Vec::new() }
    }

    /// All frames of MCAP logs; a folder means every `.mcap` at or below it, in the order of their paths. A new clip begins with each log and each
    /// episode. A log that breaks off gives what it has, and [`FrameStore::problems`] reports it. The images are those of the topic
    /// `camera/image`.
    ///
    /// # Errors
    /// [`ModelsError::Data`] when nothing is there or no frame could be read at all.
    pub fn from_logs(paths: &[PathBuf], size: usize) -> Result<Self, ModelsError> {
        Self::from_topics(paths, &[], size)
    }

    /// As [`FrameStore::from_logs`], of these topics: at most one a log.
    ///
    /// # Errors
    /// As [`FrameStore::from_logs`].
    pub fn from_topics(paths: &[PathBuf], topics: &[String], size: usize) -> Result<Self, ModelsError> {
        let mut store = Self::new(size);
        let (logs, skipped) = list_logs(paths)?;
        for log in logs {
            if let Err(error) = store.read_log(&log, topics) {
                store.problems.push(error.to_string());
            }
        }
        if store.num_frames() > 0 {
            store.problems.extend(skipped.lines());
            return Ok(store);
        }
        let path = paths.first().cloned().unwrap_or_default();
        let problem = store.problems.first().map_or_else(
            || "no frame in it; record one with foresee record".to_owned(),
            |problem| format!("no frame of it can be read: {problem}"),
        );
        Err(ModelsError::Data { path, problem })
    }

    /// Begins a clip: frame pairs never reach across.
    pub fn start_clip(&mut self) {
        let end = self.num_frames();
        if self.clips.last().is_none_or(|clip| !clip.is_empty()) {
            self.clips.push(end..end);
        }
    }

    /// Adds frames to the last clip, resized by the runtime's own preprocessing.
    ///
    /// # Errors
    /// [`ModelsError::Runtime`] when the frame's bytes do not fit its size.
    pub fn push(&mut self, frame: &Frame, shrink: &mut Shrink) -> Result<(), ModelsError> {
        if self.clips.is_empty() {
            self.start_clip();
        }
        shrink.run(frame, &mut self.pixels)?;
        if let Some(clip) = self.clips.last_mut() {
            clip.end += 1;
        }
        Ok(())
    }

    /// Pixels along one side.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Frames in all.
    pub fn num_frames(&self) -> usize {
        self.pixels.len() / self.frame_bytes()
    }

    /// Clips with their frame ranges.
    pub fn clips(&self) -> &[Range<usize>] {
        &self.clips
    }

    /// What could not be read, one line each.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// `[size, size, 3]` bytes of one frame; empty when there is none of this number.
    pub fn frame(&self, frame_idx: usize) -> &[u8] {
        let start = frame_idx * self.frame_bytes();
        self.pixels.get(start..start + self.frame_bytes()).unwrap_or_default()
    }

    fn frame_bytes(&self) -> usize {
        3 * self.size * self.size
    }

    fn read_log(&mut self, path: &Path, topics: &[String]) -> Result<(), ModelsError> {
        let mut shrink = Shrink::new(self.size)?;
        self.start_clip();
        let mut reader = LogReader::open_with(path, &LogTopics::frames().with_named(topics))?;
        for entry in reader.by_ref() {
            match entry? {
                LogEntry::Frame(frame) => self.push(&frame, &mut shrink)?,
                LogEntry::Episode { .. } => self.start_clip(),
                _ => {}
            }
        }
        let passed = reader.passed_over();
        self.problems.extend(passed.iter().map(|why| format!("{}: {why}", path.display())));
        if let Some(why) = reader.truncation() {
            self.problems.push(format!("{}: breaks off ({why}); what came before is used", path.display()));
        }
        Ok(())
    }
}

/// An epoch takes each frame once.
impl ClipSource for FrameStore {
    fn description(&self) -> String {
        format!("{} frames in {} clips, in memory at {} pixels", self.num_frames(), self.clips.len(), self.size)
    }

    fn num_clips(&self) -> usize {
        self.clips.len()
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        format!("clip {clip_idx}")
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        Ok(Box::new(StoreReader { store: self, clip: 0..0 }))
    }

    fn num_samples(&self) -> usize {
        self.num_frames()
    }

    fn sample(&self, sample_idx: usize) -> SamplePlace {
        let clip_idx = self.clips.partition_point(|clip| clip.end <= sample_idx);
        let start = self.clips.get(clip_idx).map_or(0, |clip| clip.start);
        SamplePlace { clip_idx, frame_idx: Some(sample_idx - start) }
    }

    fn is_still(&self) -> bool {
        self.clips.iter().all(|clip| clip.len() < 2)
    }

    fn problems(&self) -> Vec<String> {
        self.problems.clone()
    }
}

struct StoreReader<'a> {
    store: &'a FrameStore,
    clip: Range<usize>,
}

impl ClipReader for StoreReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        self.clip = self.store.clips.get(clip_idx).cloned().unwrap_or_default();
        Ok(self.clip.len())
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        if frame_idx >= self.clip.len() {
            return Ok(Reading::Ended { num_frames: self.clip.len() });
        }
        let side = self.store.size as u32;
        (frame.width, frame.height, frame.encoding) = (side, side, PixelEncoding::Rgb8);
        frame.data.clear();
        frame.data.extend_from_slice(self.store.frame(self.clip.start + frame_idx));
        Ok(Reading::Frame)
    }
}

/// Resizes frames to the stored size, back to 8 bits.
#[derive(Debug)]
pub struct Shrink {
    preprocessor: Preprocessor,
    planes: EncoderInput,
}

impl Shrink {
    /// To `size` x `size` pixels.
    ///
    /// # Errors
    /// [`ModelsError::Runtime`] when the size cannot be.
    pub fn new(size: usize) -> Result<Self, ModelsError> {
        Self::to([size, size])
    }

    /// To this width and height in pixels.
    ///
    /// # Errors
    /// As [`Shrink::new`].
    pub fn to([width, height]: [usize; 2]) -> Result<Self, ModelsError> {
        let mut card = preprocessing_card(width, [0.0; 3], [1.0; 3]);
        card.height = height;
        card.hash = card.compute_hash();
        Ok(Self { preprocessor: Preprocessor::new(&card)?, planes: EncoderInput::zeros(height, width) })
    }

    /// The frame as `[H, W, 3]` bytes, red first.
    ///
    /// # Errors
    /// [`ModelsError::Runtime`] when the frame's bytes do not fit its size.
    pub fn shrink(&mut self, frame: &Frame, small: &mut Frame) -> Result<(), ModelsError> {
        (small.width, small.height) = (self.planes.width as u32, self.planes.height as u32);
        small.encoding = PixelEncoding::Rgb8;
        small.data.clear();
        small.data.reserve_exact(3 * self.planes.width * self.planes.height);
        self.run(frame, &mut small.data)
    }

    /// Appends `[H, W, 3]` bytes.
    fn run(&mut self, frame: &Frame, pixels: &mut Vec<u8>) -> Result<(), ModelsError> {
        let size = (self.planes.width as u32, self.planes.height as u32, PixelEncoding::Rgb8);
        if (frame.width, frame.height, frame.encoding) == size && frame.data.len() == frame.num_bytes() {
            pixels.extend_from_slice(&frame.data);
            return Ok(());
        }
        self.preprocessor.run(frame, &mut self.planes)?;
        let count = self.planes.data.len() / 3;
        let (red, rest) = self.planes.data.split_at(count);
        let (green, blue) = rest.split_at(count);
        let to_byte = |value: f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        for ((red, green), blue) in red.iter().zip(green).zip(blue) {
            pixels.extend([*red, *green, *blue].map(to_byte));
        }
        Ok(())
    }
}

/// A card for square images, with its hash.
pub(crate) fn preprocessing_card(size: usize, mean: [f32; 3], std: [f32; 3]) -> PreprocessingCard {
    let hash = String::new();
    let mut card =
        PreprocessingCard { width: size, height: size, resize: Resize::BilinearAntialias, crop: None, mean, std, hash };
    card.hash = card.compute_hash();
    card
}

fn list_logs(paths: &[PathBuf]) -> Result<(Vec<PathBuf>, Skipped), ModelsError> {
    let (mut logs, mut skipped) = (Vec::new(), Skipped::default());
    for path in paths {
        if !path.is_dir() {
            logs.push(path.clone());
            continue;
        }
        let found = DataSet::below(path, &["mcap"])?;
        logs.extend(found.files);
        skipped.extend(found.skipped);
    }
    Ok((logs, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_pixels_and_their_clips() {
        let mut store = FrameStore::new(8);
        let mut shrink = Shrink::new(8).expect("a size");
        let mut frame = Frame::black(8, 8, PixelEncoding::Rgb8);
        for clip_len in [2, 3] {
            store.start_clip();
            for _ in 0..clip_len {
                frame.data.fill(store.num_frames() as u8 * 10);
                store.push(&frame, &mut shrink).expect("fits");
            }
        }
        let mut wide = Frame::black(16, 24, PixelEncoding::Bgr8);
        wide.data.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&[3, 2, 1]));
        store.push(&wide, &mut shrink).expect("is resized");
        assert_eq!(store.clips(), [0..2, 2..6]);
        assert_eq!(store.frame(3), [30; 192]);
        assert_eq!(&store.frame(5)[..3], [1, 2, 3]);
        let place = |clip_idx, frame_idx| SamplePlace { clip_idx, frame_idx: Some(frame_idx) };
        assert_eq!([store.sample(1), store.sample(4)], [place(0, 1), place(1, 2)]);
        assert!(store.frame(6).is_empty());
    }

    #[test]
    fn a_folder_without_logs_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = FrameStore::from_logs(&[folder.path().to_path_buf()], 8).expect_err("nothing there");
        assert!(error.to_string().contains("foresee record"), "{error}");
    }
}
