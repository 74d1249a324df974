//! Image files as clips: stills, each a clip of its own, or the numbered frames of videos, a folder each.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::Frame;
use image::{ImageReader, Limits};

use crate::clips::{ClipReader, ClipSource, Reading};
use crate::error::ModelsError;

/// Pixels a side that are decoded.
const MAX_SIDE: u32 = 16_384;
/// Bytes that decoding one image may take.
const MAX_DECODED_BYTES: u64 = 512 << 20;
/// Largest image file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// What counts as an image.
pub(crate) const EXTENSIONS: &[&str] = &["jpg", "jpeg", "png", "gif"];

/// Image files below a folder.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    folder: PathBuf,
    clips: Vec<Vec<PathBuf>>,
}

impl ImageFolder {
    /// Every image below `folder`, at any depth, as a still.
    ///
    /// # Errors
    /// [`ModelsError::Data`] when there is none, [`ModelsError::File`] when a folder cannot be read.
    pub fn stills(folder: &Path) -> Result<Self, ModelsError> {
        let files = list_files(folder, EXTENSIONS)?;
        Self::from_clips(folder, files.into_iter().map(|file| vec![file]).collect())
    }

    /// The images of each folder at or below `folder`, in name order, as the frames of one clip (as DAVIS has them).
    ///
    /// # Errors
    /// As [`ImageFolder::stills`].
    pub fn frames(folder: &Path) -> Result<Self, ModelsError> {
        // A subfolder's files lie between its folder's own in the order of paths.
        let mut clips: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
        for file in list_files(folder, EXTENSIONS)? {
            clips.entry(file.parent().unwrap_or(folder).to_path_buf()).or_default().push(file);
        }
        Self::from_clips(folder, clips.into_values().collect())
    }

    fn from_clips(folder: &Path, clips: Vec<Vec<PathBuf>>) -> Result<Self, ModelsError> {
        if clips.is_empty() {
            let problem = format!("no image in it; give files that end in {}", EXTENSIONS.join(", "));
            return Err(ModelsError::Data { path: folder.to_path_buf(), problem });
        }
        Ok(Self { folder: folder.to_path_buf(), clips })
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

/// Decodes a file into `frame` as RGB, whatever the file's colours.
pub(crate) fn read_image(path: &Path, frame: &mut Frame) -> Result<(), ModelsError> {
    let fail = |problem: String| ModelsError::Data { path: path.to_path_buf(), problem };
    let file_fail = |source| ModelsError::File { path: path.to_path_buf(), source };
    let num_bytes = std::fs::metadata(path).map_err(file_fail)?.len();
    if num_bytes > MAX_FILE_BYTES {
        return Err(fail(format!("has {num_bytes} bytes; at most {MAX_FILE_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(file_fail)?;
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(file_fail)?;
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let image = reader.decode().map_err(|error| fail(format!("cannot be decoded ({error})")))?.into_rgb8();
    (frame.width, frame.height, frame.encoding) = (image.width(), image.height(), PixelEncoding::Rgb8);
    frame.data = image.into_raw();
    Ok(())
}

/// Files at or below `folder` with one of these endings (in lower case, without the dot), in the order of their paths.
///
/// # Errors
/// [`ModelsError::File`] when a folder cannot be read.
pub fn list_files(folder: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ModelsError> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let fail = |source| ModelsError::File { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            // A link to a folder is not followed, so that no circle can be walked.
            if entry.file_type().map_err(fail)?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
            if extension.is_some_and(|extension| extensions.contains(&extension.as_str())) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
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
        // A bitmap header that claims 65535 x 65535 pixels.
        let gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02\x44\x01\x00;";
        check("huge.gif", gif, "cannot be decoded");
    }
}
