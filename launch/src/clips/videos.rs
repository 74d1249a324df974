//! Video files as clips, an epoch taking each once.

use std::path::{Path, PathBuf};

use foresee_models::{ClipReader, ClipSource, ModelsError, Reading};
use foresee_runtime::{Frame, RuntimeError, VideoFile};

/// Video files, opened when they are read.
pub(crate) struct Videos {
    name: String,
    files: Vec<PathBuf>,
}

impl Videos {
    pub(crate) fn new(path: &Path, files: Vec<PathBuf>) -> Self {
        Self { name: path.display().to_string(), files }
    }
}

impl ClipSource for Videos {
    fn description(&self) -> String {
        format!("{} videos in {}", self.files.len(), self.name)
    }

    fn num_clips(&self) -> usize {
        self.files.len()
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        self.files.get(clip_idx).map_or_else(String::new, |file| file.display().to_string())
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        Ok(Box::new(VideoReader { files: &self.files, video: None }))
    }
}

struct VideoReader<'a> {
    files: &'a [PathBuf],
    video: Option<VideoFile>,
}

impl ClipReader for VideoReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        self.video = None;
        let Some(file) = self.files.get(clip_idx) else { return Ok(0) };
        let video = VideoFile::open(file).map_err(of_file)?;
        let num_frames = video.num_frames();
        self.video = Some(video);
        Ok(num_frames)
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        let Some(video) = &mut self.video else { return Ok(Reading::Ended { num_frames: 0 }) };
        let ended = video.read(frame_idx, frame).map_err(of_file)?;
        Ok(ended.map_or(Reading::Frame, |num_frames| Reading::Ended { num_frames }))
    }
}

/// A problem of a training file, not of a camera.
fn of_file(error: RuntimeError) -> ModelsError {
    match error {
        RuntimeError::Camera { name, problem } => ModelsError::Data { path: name.into(), problem },
        other => other.into(),
    }
}
