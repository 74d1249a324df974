//! Image files as clips: stills, each a clip of its own, or the numbered frames of videos, a folder each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foresee_runtime::{DataSet, Frame, PICTURE_ENDINGS, RuntimeError, Skipped, read_picture};

use crate::clips::{ClipReader, ClipSource, Reading};
use crate::error::ModelsError;

/// Image files below a folder.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    folder: PathBuf,
    clips: Vec<Vec<PathBuf>>,
    skipped: Skipped,
}

impl ImageFolder {
    /// Every image below `folder`, at any depth, as a still.
    ///
    /// # Errors
    /// [`ModelsError::Data`] when there is none, [`ModelsError::File`] when a folder cannot be read.
    pub fn stills(folder: &Path) -> Result<Self, ModelsError> {
        let DataSet { files, skipped, .. } = DataSet::below(folder, PICTURE_ENDINGS)?;
        Self::from_clips(folder, files.into_iter().map(|file| vec![file]).collect(), skipped)
    }

    /// The images of each folder at or below `folder`, in name order, as the frames of one clip (as DAVIS has them).
    ///
    /// # Errors
    /// As [`ImageFolder::stills`].
    pub fn frames(folder: &Path) -> Result<Self, ModelsError> {
        // A subfolder's files lie between its folder's own in the order of paths.
        let mut clips: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        let DataSet { files, skipped, .. } = DataSet::below(folder, PICTURE_ENDINGS)?;
        for file in files {
            clips.entry(file.parent().unwrap_or(folder).to_path_buf()).or_default().push(file);
        }
        Self::from_clips(folder, clips.into_values().collect(), skipped)
    }

    fn from_clips(folder: &Path, clips: Vec<Vec<PathBuf>>, skipped: Skipped) -> Result<Self, ModelsError> {
        if clips.is_empty() {
            let problem = format!("no image in it; give files that end in {}", PICTURE_ENDINGS.join(", "));
            let problem = skipped.lines().iter().fold(problem, |problem, line| format!("{problem}; {line}"));
            return Err(ModelsError::Data { path: folder.to_path_buf(), problem });
        }
        Ok(Self { folder: folder.to_path_buf(), clips, skipped })
    }
}

impl ClipSource for ImageFolder {
    fn description(&self) -> String {
        let num_images: usize = self.clips.iter().map(Vec::len).sum();
        match self.is_still() {
            true => format!("{num_images} images in {}", self.folder.display()),
            false => format!("{num_images} images in {} clips in {}", self.clips.len(), self.folder.display()),
        }
    }

    fn num_clips(&self) -> usize {
        self.clips.len()
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        match self.clips.get(clip_idx).map(Vec::as_slice) {
            Some([still]) => still.display().to_string(),
            Some([first, ..]) => first.parent().unwrap_or(first).display().to_string(),
            _ => String::new(),
        }
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        Ok(Box::new(ImageReaderOf { clips: &self.clips, clip: &[] }))
    }

    fn is_still(&self) -> bool {
        self.clips.iter().all(|clip| clip.len() < 2)
    }

    fn problems(&self) -> Vec<String> {
        self.skipped.lines()
    }
}

struct ImageReaderOf<'a> {
    clips: &'a [Vec<PathBuf>],
    clip: &'a [PathBuf],
}

impl ClipReader for ImageReaderOf<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        self.clip = self.clips.get(clip_idx).map_or(&[], Vec::as_slice);
        Ok(self.clip.len())
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        match self.clip.get(frame_idx) {
            Some(file) => read_image(file, frame).map(|()| Reading::Frame),
            None => Ok(Reading::Ended { num_frames: self.clip.len() }),
        }
    }
}

/// Decodes a file into `frame` as upright RGB, whatever the file's colours.
pub(crate) fn read_image(path: &Path, frame: &mut Frame) -> Result<(), ModelsError> {
    read_picture(path, frame).map_err(|error| match error {
        RuntimeError::Picture { path, fault } => ModelsError::Data { path, problem: fault.to_string() },
        RuntimeError::File { path, source } => ModelsError::File { path, source },
        other => other.into(),
    })
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::PixelEncoding;

    use super::*;

    fn write(path: &Path, brightness: u8) {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        image::RgbImage::from_pixel(6, 4, image::Rgb([brightness, 20, 40])).save(path).expect("written");
    }

    #[test]
    fn stills_and_frames_of_the_same_files() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, brightness) in [("b/00001.png", 30), ("b/00000.png", 10), ("a/00000.JPG", 50), ("a/note.txt", 0)] {
            let path = folder.path().join(name);
            if name.ends_with("txt") {
                std::fs::write(&path, "text").expect("written")
            } else {
                write(&path, brightness)
            }
        }
        let stills = ImageFolder::stills(folder.path()).expect("images");
        let frames = ImageFolder::frames(folder.path()).expect("images");
        assert_eq!((stills.num_clips(), stills.is_still()), (3, true));
        assert_eq!((frames.num_clips(), frames.is_still()), (2, false));
        assert!(frames.clip_name(1).ends_with("/b") && stills.clip_name(0).ends_with("00000.JPG"));
        let mut reader = frames.reader().expect("a reader");
        let mut frame = Frame::black(0, 0, PixelEncoding::Bgr8);
        assert_eq!(reader.open(1).expect("opens"), 2);
        for (frame_idx, brightness) in [(0, 10), (1, 30)] {
            assert_eq!(reader.read(frame_idx, &mut frame).expect("reads"), Reading::Frame);
            assert_eq!((frame.width, frame.height, &frame.data[..3]), (6, 4, &[brightness, 20, 40][..]));
        }
        assert_eq!(reader.read(2, &mut frame).expect("reads"), Reading::Ended { num_frames: 2 });
    }

    #[test]
    fn a_folder_of_images_and_folders_is_one_clip_beside_theirs() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.png", "b/0.png", "b/1.png", "c.png"] {
            write(&folder.path().join(name), 10);
        }
        let frames = ImageFolder::frames(folder.path()).expect("images");
        let mut reader = frames.reader().expect("a reader");
        let mut lengths = (0..frames.num_clips()).map(|clip_idx| reader.open(clip_idx).expect("opens"));
        assert_eq!((lengths.next(), lengths.next(), lengths.next()), (Some(2), Some(2), None));
    }

    #[test]
    fn what_is_no_image_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = ImageFolder::stills(folder.path()).expect_err("nothing there").to_string();
        assert!(none.contains("no image in it"), "{none}");
        let check = |name: &str, bytes: &[u8], wanted: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("written");
            let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
            let error = read_image(&path, &mut frame).expect_err(wanted).to_string();
            assert!(error.contains(name) && error.contains(wanted), "{error}");
        };
        check("text.png", b"no image", "cannot be decoded");
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        let jpeg = std::fs::read(fixtures.join("baseline_420.jpg")).expect("read");
        check("cut.jpg", &jpeg[..jpeg.len() - 200], "cut short");
    }

    #[test]
    fn what_a_system_left_beside_the_images_is_no_data_and_is_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a/0.png", "a/1.png", "a/._0.png", "a/@eaDir/0.png", ".AppleDouble/0.png"] {
            write(&folder.path().join(name), 10);
        }
        let frames = ImageFolder::frames(folder.path()).expect("images");
        assert_eq!((frames.num_clips(), frames.problems().len()), (1, 1));
        assert!(frames.problems()[0].contains("skipped 3"), "{:?}", frames.problems());
        let error = ImageFolder::stills(&folder.path().join("a/@eaDir/..").join("../none")).expect_err("nothing");
        assert!(error.to_string().contains("none"), "{error}");
    }
}
