//! Video files as clips, an epoch taking each once. Frames are shrunk to the recipe's stored size, the short side, as the videos of
//! the published training runs were beforehand. The first videos that fit into the memory given are decoded once and kept: reading
//! one frame of a file costs as much as decoding some twenty in a row.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use foresee_firmware_config::PixelEncoding;
use foresee_models::{ClipReader, ClipSource, ModelsError, Reading, Shrink};
use foresee_runtime::{Frame, RuntimeError, VideoFile};

/// Video files, opened when they are read.
pub(crate) struct Videos {
    name: String,
    files: Vec<PathBuf>,
    /// Pixels of a frame's short side; smaller frames are taken as they are.
    short_side: usize,
    /// The frames of the first videos, once they were read, or why they cannot be.
    kept: Vec<OnceLock<Result<KeptVideo, String>>>,
}

/// All frames of a video, small.
struct KeptVideo {
    path: PathBuf,
    frames: Vec<Frame>,
    /// As many as the container says.
    claimed: usize,
    /// What the frame after the last one came to, if that was no end.
    problem: Option<String>,
}

impl Videos {
    /// Of these files, as many as fit into `keep_bytes` are decoded once. Which they are depends on the files alone.
    pub(crate) fn new(path: &Path, files: Vec<PathBuf>, (short_side, keep_bytes): (usize, u64)) -> Self {
        let mut videos = Self { name: path.display().to_string(), files, short_side, kept: Vec::new() };
        let mut needed = 0;
        for file in &videos.files {
            needed += VideoFile::open(file).map_or(0, |video| {
                let [width, height] = stored_size(video.size(), short_side);
                3 * (width * height * video.num_frames()) as u64
            });
            if needed > keep_bytes {
                break;
            }
            videos.kept.push(OnceLock::new());
        }
        videos
    }
}

impl ClipSource for Videos {
    fn description(&self) -> String {
        let kept = self.kept.len();
        let (count, name) = (self.files.len(), &self.name);
        format!(
            "{count} videos in {name}, {kept} of them kept in memory, at most {} pixels high or wide",
            self.short_side
        )
    }

    fn num_clips(&self) -> usize {
        self.files.len()
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        self.files.get(clip_idx).map_or_else(String::new, |file| file.display().to_string())
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        let image = Frame::black(0, 0, PixelEncoding::Bgr8);
        Ok(Box::new(VideoReader { videos: self, clip: Clip::None, small: SmallFrames { image, shrink: None } }))
    }
}

struct VideoReader<'a> {
    videos: &'a Videos,
    clip: Clip<'a>,
    small: SmallFrames,
}

/// Where the open clip's frames come from.
enum Clip<'a> {
    None,
    Kept(&'a KeptVideo),
    File(VideoFile),
}

impl ClipReader for VideoReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        self.clip = Clip::None;
        let Some(file) = self.videos.files.get(clip_idx) else { return Ok(0) };
        if let Some(kept) = self.videos.kept.get(clip_idx) {
            let read = || self.small.read_all(file, self.videos.short_side).map_err(problem_of);
            let fail = |problem: &String| ModelsError::Data { path: file.clone(), problem: problem.clone() };
            let video = kept.get_or_init(read).as_ref().map_err(fail)?;
            self.clip = Clip::Kept(video);
            return Ok(video.claimed);
        }
        let video = VideoFile::open(file).map_err(of_file)?;
        let num_frames = video.num_frames();
        self.clip = Clip::File(video);
        Ok(num_frames)
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        let ended = match &mut self.clip {
            Clip::None => Some(0),
            Clip::Kept(video) => match video.frames.get(frame_idx) {
                Some(kept) => {
                    frame.copy_from(kept);
                    None
                }
                None => match &video.problem {
                    Some(problem) => {
                        let path = video.path.clone();
                        return Err(ModelsError::Data { path, problem: problem.clone() });
                    }
                    None => Some(video.frames.len()),
                },
            },
            Clip::File(video) => self.small.read(video, (frame_idx, self.videos.short_side), frame)?,
        };
        Ok(ended.map_or(Reading::Frame, |num_frames| Reading::Ended { num_frames }))
    }
}

/// Reads frames and shrinks them; keeps its buffers.
struct SmallFrames {
    image: Frame,
    /// For this width and height.
    shrink: Option<([usize; 2], Shrink)>,
}

impl SmallFrames {
    /// As [`VideoFile::read`], the frame no larger than is stored.
    fn read(
        &mut self,
        video: &mut VideoFile,
        (frame_idx, short_side): (usize, usize),
        frame: &mut Frame,
    ) -> Result<Option<usize>, ModelsError> {
        let ended = video.read(frame_idx, &mut self.image).map_err(of_file)?;
        if ended.is_some() {
            return Ok(ended);
        }
        let size = stored_size([self.image.width, self.image.height].map(|side| side as usize), short_side);
        if self.shrink.as_ref().is_none_or(|(made_for, _)| *made_for != size) {
            self.shrink = Some((size, Shrink::to(size)?));
        }
        if let Some((_, shrink)) = &mut self.shrink {
            shrink.shrink(&self.image, frame)?;
        }
        Ok(None)
    }

    fn read_all(&mut self, file: &Path, short_side: usize) -> Result<KeptVideo, ModelsError> {
        let mut video = VideoFile::open(file).map_err(of_file)?;
        let claimed = video.num_frames();
        let (mut frames, mut problem) = (Vec::new(), None);
        for frame_idx in 0..claimed {
            let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
            match self.read(&mut video, (frame_idx, short_side), &mut frame) {
                Ok(None) => frames.push(frame),
                Ok(Some(_)) => break,
                Err(error) => {
                    problem = Some(problem_of(error));
                    break;
                }
            }
        }
        Ok(KeptVideo { path: file.to_path_buf(), frames, claimed, problem })
    }
}

/// Width and height as stored: the short side no longer than this.
fn stored_size(size: [usize; 2], short_side: usize) -> [usize; 2] {
    let short = size[0].min(size[1]).max(1);
    if short <= short_side { size } else { size.map(|side| (side * short_side + short / 2) / short) }
}

/// Without the file's name.
fn problem_of(error: ModelsError) -> String {
    match error {
        ModelsError::Data { problem, .. } => problem,
        other => other.to_string(),
    }
}

/// A problem of a training file, not of a camera.
fn of_file(error: RuntimeError) -> ModelsError {
    match error {
        RuntimeError::Camera { name, problem } => ModelsError::Data { path: name.into(), problem },
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Width, height and bytes.
    type Picture = (u32, u32, Vec<u8>);

    /// Every frame that a source gives of a clip, and where it ends.
    fn frames(source: &Videos, wanted: &[usize]) -> (usize, Vec<Picture>, Reading) {
        let mut reader = source.reader().unwrap();
        let claimed = reader.open(0).unwrap();
        let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
        let mut read = |frame_idx: usize| {
            assert_eq!(reader.read(frame_idx, &mut frame).unwrap(), Reading::Frame, "{frame_idx}");
            (frame.width, frame.height, frame.data.clone())
        };
        let given = wanted.iter().map(|frame_idx| read(*frame_idx)).collect();
        (claimed, given, reader.read(claimed + 5, &mut frame).unwrap())
    }

    #[test]
    fn a_kept_video_gives_the_bytes_that_the_file_gives() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/videos");
        for name in ["moving.mp4", "moving.avi", "moving.webm"] {
            let path = folder.join(name);
            let video = VideoFile::open(&path).unwrap();
            let (num_frames, [width, height]) = (video.num_frames(), stored_size(video.size(), 24));
            assert!(video.size()[1] > 24 && height == 24 && num_frames >= 12, "{name}: {:?}", video.size());
            let needed = (3 * width * height * num_frames) as u64;
            let videos = |keep_bytes: u64| Videos::new(&folder, vec![path.clone()], (24, keep_bytes));
            let (kept, read) = (videos(needed), videos(needed - 1));
            assert_eq!((kept.kept.len(), read.kept.len()), (1, 0), "{name}");
            let wanted = [0, 1, 2, num_frames - 1];
            let (kept, read) = (frames(&kept, &wanted), frames(&read, &wanted));
            assert!(kept == read, "{name}: {} {} {:?} {:?}", kept.0, read.0, kept.2, read.2);
            assert_eq!((kept.0, kept.1[0].0, kept.1[0].1), (num_frames, width as u32, height as u32));
            assert_ne!(kept.1[0].2, kept.1[3].2, "{name}");
        }
    }

    #[test]
    fn sizes_keep_their_shape_and_small_frames_their_size() {
        assert_eq!(stored_size([640, 480], 96), [128, 96]);
        assert_eq!(stored_size([480, 641], 96), [96, 128]);
        assert_eq!(stored_size([90, 2000], 96), [90, 2000]);
        assert_eq!(stored_size([1, 1], 96), [1, 1]);
    }
}
