//! Video files as clips, an epoch taking each once. Frames are shrunk to the recipe's stored size, the short side, as the videos of
//! the published training runs were beforehand. The first videos that fit into the memory given are decoded once and kept: reading
//! one frame of a file costs as much as decoding some twenty in a row. Of the others each reader keeps some open, and all share the
//! indexes of their frames.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use foresee_firmware_config::PixelEncoding;
use foresee_models::{ClipReader, ClipSource, ModelsError, Reading, Shrink};
use foresee_runtime::{DataSet, Frame, RuntimeError, Skipped, VideoFile, VideoIndex};

/// Pixels of one frame of each file that a reader keeps open: decoders hold some ten frames.
const MAX_OPEN_PIXELS: usize = 10_000_000;

/// Video files, opened when they are read.
pub(crate) struct Videos {
    name: String,
    files: Vec<PathBuf>,
    /// Pixels of a frame's short side; smaller frames are taken as they are.
    short_side: usize,
    /// The frames of the first videos, once they were read, or why they cannot be.
    kept: Vec<OnceLock<Result<KeptVideo, String>>>,
    /// Of each file, once it was opened.
    indexes: Vec<OnceLock<Arc<VideoIndex>>>,
    skipped: Skipped,
}

/// All frames of a video, small, or why one cannot be decoded.
struct KeptVideo {
    path: PathBuf,
    frames: Vec<Result<Frame, String>>,
}

impl Videos {
    /// Of these files, as many as fit into `keep_bytes` are decoded once. Which they are depends on the files alone.
    pub(crate) fn new(path: &Path, found: DataSet, (short_side, keep_bytes): (usize, u64)) -> Self {
        let DataSet { files, skipped, .. } = found;
        let indexes = files.iter().map(|_| OnceLock::new()).collect();
        let name = path.display().to_string();
        let mut videos = Self { name, files, short_side, kept: Vec::new(), indexes, skipped };
        let mut needed = 0;
        for clip_idx in 0..videos.files.len() {
            needed += videos.open(clip_idx).map_or(0, |video| {
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

    /// Opens a file; its frames are found once.
    fn open(&self, clip_idx: usize) -> Result<VideoFile, ModelsError> {
        let Some((file, index)) = self.files.get(clip_idx).zip(self.indexes.get(clip_idx)) else {
            let problem = format!("there is no video {clip_idx}");
            return Err(ModelsError::Data { path: self.name.clone().into(), problem });
        };
        if let Some(index) = index.get() {
            return VideoFile::open_indexed(file, Arc::clone(index)).map_err(of_file);
        }
        let video = VideoFile::open(file).map_err(of_file)?;
        // Of two threads that were here at once both indexes are the same.
        let _ = index.set(video.index());
        Ok(video)
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
        let small = SmallFrames { image, shrink: None };
        Ok(Box::new(VideoReader { videos: self, clip: Clip::None, open: VecDeque::new(), small }))
    }

    fn problems(&self) -> Vec<String> {
        let indexes = self.files.iter().zip(&self.indexes);
        let of_files = indexes
            .filter_map(|(file, index)| index.get()?.problem().map(|problem| format!("{}: {problem}", file.display())));
        of_files.chain(self.skipped.lines()).collect()
    }
}

struct VideoReader<'a> {
    videos: &'a Videos,
    clip: Clip<'a>,
    /// Files by number, the one used last at the front.
    open: VecDeque<(usize, VideoFile)>,
    small: SmallFrames,
}

/// Where the open clip's frames come from.
enum Clip<'a> {
    None,
    Kept(&'a KeptVideo),
    /// The file at the front.
    File,
}

impl VideoReader<'_> {
    /// Brings a file to the front, and lets those go that were not used for long.
    fn bring(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        let place = self.open.iter().position(|(open_idx, _)| *open_idx == clip_idx);
        let video = match place.and_then(|place| self.open.remove(place)) {
            Some((_, video)) => video,
            None => self.videos.open(clip_idx)?,
        };
        let num_frames = video.num_frames();
        self.open.push_front((clip_idx, video));
        let mut num_pixels = 0;
        let fits = |(_, video): &(usize, VideoFile)| {
            num_pixels += video.size().iter().product::<usize>();
            num_pixels <= MAX_OPEN_PIXELS
        };
        let num_kept = self.open.iter().map(fits).take_while(|fits| *fits).count();
        self.open.truncate(num_kept.max(1));
        Ok(num_frames)
    }
}

impl ClipReader for VideoReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        self.clip = Clip::None;
        let Some(file) = self.videos.files.get(clip_idx) else { return Ok(0) };
        if let Some(kept) = self.videos.kept.get(clip_idx) {
            let read = || self.small.read_all(self.videos, clip_idx).map_err(problem_of);
            let fail = |problem: &String| ModelsError::Data { path: file.clone(), problem: problem.clone() };
            let video = kept.get_or_init(read).as_ref().map_err(fail)?;
            self.clip = Clip::Kept(video);
            return Ok(video.frames.len());
        }
        let num_frames = self.bring(clip_idx)?;
        self.clip = Clip::File;
        Ok(num_frames)
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        let ended = match (&self.clip, self.open.front_mut()) {
            (Clip::Kept(video), _) => match video.frames.get(frame_idx) {
                Some(Ok(kept)) => {
                    frame.copy_from(kept);
                    None
                }
                Some(Err(problem)) => {
                    return Err(ModelsError::Data { path: video.path.clone(), problem: problem.clone() });
                }
                None => Some(video.frames.len()),
            },
            (Clip::File, Some((_, video))) => self.small.read(video, (frame_idx, self.videos.short_side), frame)?,
            _ => Some(0),
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

    fn read_all(&mut self, videos: &Videos, clip_idx: usize) -> Result<KeptVideo, ModelsError> {
        let mut video = videos.open(clip_idx)?;
        let mut frames = Vec::new();
        for frame_idx in 0..video.num_frames() {
            let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
            match self.read(&mut video, (frame_idx, videos.short_side), &mut frame) {
                Ok(None) => frames.push(Ok(frame)),
                Ok(Some(_)) => break,
                Err(error) => frames.push(Err(problem_of(error))),
            }
        }
        Ok(KeptVideo { path: videos.files.get(clip_idx).cloned().unwrap_or_default(), frames })
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
            let found = || DataSet { files: vec![path.clone()], ..DataSet::default() };
            let videos = |keep_bytes: u64| Videos::new(&folder, found(), (24, keep_bytes));
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
