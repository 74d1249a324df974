//! Images, masks and lists of data sets in their own folders, each within a limit.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{DataSet, Frame, RuntimeError, Skipped};

use super::mat::read_matrix;
use super::{ClassMask, LabelledPoints, LabelledVideo};
use crate::error::ModelsError;
use crate::images::read_image;
use crate::scores::KeyPoints;

/// Largest side of a mask, in pixels.
const MAX_SIDE: u32 = 8192;
/// Bytes that decoding one mask may take.
const MAX_MASK_BYTES: usize = 256 << 20;
/// Largest list of names, in bytes.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// Frames of one video.
const MAX_FRAMES: usize = 20_000;

/// One video of a data set, read when it is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VideoSource {
    /// Its name in results.
    pub name: String,
    /// In order.
    pub(super) images: Vec<PathBuf>,
    /// As many as images, or none.
    pub(super) masks: Vec<PathBuf>,
    /// Classes of the masks; 0 takes as many as the first one has.
    pub(super) num_classes: usize,
    /// A MAT file with the joints' places.
    pub(super) joints: Option<PathBuf>,
    /// What lies beside its files and is no data.
    pub skipped: Skipped,
}

impl VideoSource {
    /// Reads frames and labels.
    ///
    /// # Errors
    /// [`ModelsError::Data`] naming the file that is no image, of another size, or beyond a limit.
    pub fn load(&self) -> Result<LabelledVideo, ModelsError> {
        let mut video =
            LabelledVideo { name: self.name.clone(), num_classes: self.num_classes, ..LabelledVideo::default() };
        for path in &self.images {
            let frame = read_frame(path)?;
            if let Some(first) = video.frames.first()
                && (first.width, first.height) != (frame.width, frame.height)
            {
                let sizes = (frame.width, frame.height, first.width, first.height);
                return Err(wrong(
                    path,
                    format!("is {}x{}; the video begins with {}x{}", sizes.0, sizes.1, sizes.2, sizes.3),
                ));
            }
            video.frames.push(frame);
        }
        for path in &self.masks {
            video.masks.push(read_mask(path)?);
        }
        if let Some(first) = video.masks.first() {
            let most = first.classes.iter().copied().filter(|class| *class != u8::MAX).max().unwrap_or(0);
            video.num_classes = if self.num_classes > 0 { self.num_classes } else { usize::from(most) + 1 };
            let size = (first.width, first.classes.len());
            if let Some(path) = video.masks.iter().position(|mask| (mask.width, mask.classes.len()) != size) {
                let path = self.masks.get(path).cloned().unwrap_or_default();
                return Err(wrong(&path, "is of another size than the video's first mask".to_string()));
            }
            let frame = video.frames.first().map(|frame| (frame.width as usize, frame.height as usize));
            let [width, height] = [first.width, first.classes.len() / first.width.max(1)];
            if let (Some(path), Some((wide, high))) =
                (self.masks.first(), frame.filter(|size| *size != (width, height)))
            {
                return Err(wrong(path, format!("is {width}x{height}; its image is {wide}x{high}")));
            }
        }
        if let ([_] | [], Some(path)) = (video.frames.as_slice(), self.images.first()) {
            return Err(wrong(path, "is the only frame of its video; labels are followed over at least 2".to_string()));
        }
        if let Some(path) = &self.joints {
            video.key_points = read_joints(path, &video)?;
        }
        Ok(video)
    }
}

/// An image as a frame.
pub(super) fn read_frame(path: &Path) -> Result<Frame, ModelsError> {
    let mut frame = Frame::black(0, 0, PixelEncoding::Rgb8);
    read_image(path, &mut frame)?;
    Ok(frame)
}

/// A PNG whose palette indices or grey values are classes.
pub(super) fn read_mask(path: &Path) -> Result<ClassMask, ModelsError> {
    let file = File::open(path).map_err(|source| ModelsError::File { path: path.to_path_buf(), source })?;
    let broken = |error: png::DecodingError| wrong(path, format!("is no readable PNG ({error})"));
    let limits = png::Limits { bytes: MAX_MASK_BYTES };
    let mut decoder = png::Decoder::new_with_limits(BufReader::new(file), limits);
    // Palette indices must stay what they are.
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(broken)?;
    let (width, height) = (reader.info().width, reader.info().height);
    let (colour, depth) = (reader.info().color_type, reader.info().bit_depth as usize);
    if !matches!(colour, png::ColorType::Indexed | png::ColorType::Grayscale) || depth > 8 {
        return Err(wrong(path, format!("is {colour:?} with {depth} bits; a mask has palette indices or 8-bit grey")));
    }
    let bytes = reader.output_buffer_size().filter(|_| width <= MAX_SIDE && height <= MAX_SIDE);
    let bytes = bytes.ok_or_else(|| wrong(path, format!("is {width}x{height}; at most {MAX_SIDE} a side are read")))?;
    let mut packed = vec![0; bytes];
    let info = reader.next_frame(&mut packed).map_err(broken)?;
    let per_byte = 8 / depth;
    let unpack = |line: &[u8]| -> Vec<u8> {
        let at = |column: usize| {
            let byte = line.get(column / per_byte).copied().unwrap_or(0);
            let shift = 8 - depth * (column % per_byte + 1);
            ((u16::from(byte) >> shift) & ((1 << depth) - 1)) as u8
        };
        (0..width as usize).map(at).collect()
    };
    let classes = packed.chunks_exact(info.line_size.max(1)).take(height as usize).flat_map(unpack).collect();
    Ok(ClassMask { width: width as usize, classes })
}

/// `pos_img` `[2, joints, frames]` of a JHMDB file, whose first pixel is 1; a joint counts where it lies inside the image.
fn read_joints(path: &Path, video: &LabelledVideo) -> Result<LabelledPoints, ModelsError> {
    let matrix = read_matrix(path, "pos_img")?;
    let &[2, num_joints, num_frames] = matrix.shape.as_slice() else {
        return Err(wrong(path, format!("has pos_img of shape {:?}, not [2, joints, frames]", matrix.shape)));
    };
    if num_frames < video.frames.len() {
        return Err(wrong(
            path,
            format!("places joints in {num_frames} frames; there are {} images", video.frames.len()),
        ));
    }
    let [width, height] =
        video.frames.first().map_or([0.0; 2], |frame| [f64::from(frame.width), f64::from(frame.height)]);
    // Columns first: x and y of the first joint, of the second, ..., then the next frame.
    let at = |joint: usize, frame: usize| {
        let start = (frame * num_joints + joint) * 2;
        [0, 1].map(|axis| matrix.values.get(start + axis).map_or(f64::NAN, |place| place - 1.0))
    };
    let frames = 0..video.frames.len();
    let places: Vec<Vec<[f64; 2]>> =
        (0..num_joints).map(|joint| frames.clone().map(|frame| at(joint, frame)).collect()).collect();
    let is_inside = |[x, y]: &[f64; 2]| (0.0..width).contains(x) && (0.0..height).contains(y);
    let visible = places.iter().map(|places| places.iter().map(is_inside).collect()).collect();
    Ok(LabelledPoints { points: KeyPoints { places }, visible })
}

/// Files of a folder with one of these endings, in name order; what is no data is added to `skipped`.
pub(super) fn files_in(folder: &Path, endings: &[&str], skipped: &mut Skipped) -> Result<Vec<PathBuf>, ModelsError> {
    let found = DataSet::of_folder(folder, endings).map_err(of_folder)?;
    skipped.extend(found.skipped);
    match found.files.len() {
        0 => Err(wrong(folder, format!("holds no {} file", endings.join(" or ")))),
        1..=MAX_FRAMES => Ok(found.files),
        count => Err(wrong(folder, format!("holds {count} files; at most {MAX_FRAMES} are read"))),
    }
}

/// Folders of a folder, in name order; what is no data is added to `skipped`.
pub(super) fn folders_in(folder: &Path, skipped: &mut Skipped) -> Result<Vec<PathBuf>, ModelsError> {
    let found = DataSet::of_folder(folder, &[]).map_err(of_folder)?;
    skipped.extend(found.skipped);
    Ok(found.folders)
}

fn of_folder(error: RuntimeError) -> ModelsError {
    match error {
        RuntimeError::File { path, source } => ModelsError::File { path, source },
        other => other.into(),
    }
}

/// The lines of a list that are not empty.
pub(super) fn read_list(path: &Path) -> Result<Vec<String>, ModelsError> {
    let text = String::from_utf8(read_limited(path, MAX_LIST_BYTES)?);
    let text = text.map_err(|_| wrong(path, "is no text".to_string()))?;
    let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string).collect();
    if lines.is_empty() { Err(wrong(path, "lists nothing".to_string())) } else { Ok(lines) }
}

/// A name out of a list as one path below a folder; a list cannot lead out of its data set.
pub(super) fn below(folder: &Path, name: &str) -> Result<PathBuf, ModelsError> {
    let is_plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if is_plain && !name.is_empty() {
        return Ok(folder.join(name));
    }
    Err(wrong(folder, format!("{name:?} of its list is not a name below it")))
}

/// A whole file of at most `limit` bytes.
pub(super) fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, ModelsError> {
    let fail = |source| ModelsError::File { path: path.to_path_buf(), source };
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > limit {
        return Err(wrong(path, format!("has more than the {limit} bytes that are read")));
    }
    Ok(bytes)
}

pub(super) fn wrong(path: &Path, problem: String) -> ModelsError {
    ModelsError::Data { path: path.to_path_buf(), problem }
}
