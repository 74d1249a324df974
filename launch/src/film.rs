//! What the camera saw, as pictures: a GIF of one episode and a strip of stills.

use std::io::Cursor;
use std::path::Path;

use anyhow::bail;
use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{Frame, write_atomically};
use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, RgbImage, imageops};

/// Frames kept of an episode; when there are more, every second one is let go, again and again.
const MAX_FRAMES: usize = 160;
/// A frame is taken when its mean byte differs by this much from the last one taken: what moves is shown.
const MIN_CHANGE: f64 = 0.05;
/// A still scene is shown this often all the same.
const MAX_GAP: usize = 50;
const NUM_STILLS: usize = 10;
const STILL_GAP: u32 = 2;
/// Small images are shown at least this wide.
const MIN_WIDTH: u32 = 256;

/// Collects the frames of one episode in which something moved.
#[derive(Default)]
pub(crate) struct Film {
    frames: Vec<(RgbImage, u64)>,
    last: Vec<u8>,
    stride: usize,
    num_moved: usize,
    num_since_last: usize,
}

impl Film {
    /// Forgets what was collected: another episode begins.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes a frame if something moved since the last one taken.
    ///
    /// # Errors
    /// When the frame's data does not fit its size.
    pub(crate) fn add(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.stride = self.stride.max(1);
        self.num_since_last += 1;
        if self.num_since_last < MAX_GAP && change(&self.last, &frame.data) < MIN_CHANGE {
            return Ok(());
        }
        self.num_since_last = 0;
        self.last.clone_from(&frame.data);
        if self.num_moved.is_multiple_of(self.stride) {
            self.frames.push((picture(frame)?, frame.stamp.nanos));
            if self.frames.len() > MAX_FRAMES {
                let mut keep = [true, false].iter().cycle();
                self.frames.retain(|_| *keep.next().unwrap_or(&true));
                self.stride *= 2;
            }
        }
        self.num_moved += 1;
        Ok(())
    }

    /// Writes `episode.gif` (at the speed of the stamps) and `filmstrip.png` into `folder`; nothing when no frame was taken.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        if self.frames.is_empty() {
            return Ok(());
        }
        self.write_gif(&folder.join("episode.gif"))?;
        self.write_strip(&folder.join("filmstrip.png"))
    }

    /// Writes what was collected as a GIF, at the speed of the stamps.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub(crate) fn write_gif(&self, path: &Path) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, 10);
        encoder.set_repeat(Repeat::Infinite)?;
        for (frame_idx, (picture, stamp_nanos)) in self.frames.iter().enumerate() {
            let next = self.frames.get(frame_idx + 1).map_or(stamp_nanos + 1_000_000_000, |next| next.1);
            let millis =
                u32::try_from(next.saturating_sub(*stamp_nanos) / 1_000_000).unwrap_or(u32::MAX).clamp(20, 2_000);
            let scale = MIN_WIDTH.div_ceil(picture.width().max(1));
            let size = (picture.width() * scale, picture.height() * scale);
            let large = imageops::resize(picture, size.0, size.1, imageops::FilterType::Nearest);
            let rgba = image::DynamicImage::ImageRgb8(large).into_rgba8();
            encoder.encode_frame(image::Frame::from_parts(rgba, 0, 0, Delay::from_numer_denom_ms(millis, 1)))?;
        }
        drop(encoder);
        write_atomically(path, &bytes).map_err(Into::into)
    }

    fn write_strip(&self, path: &Path) -> anyhow::Result<()> {
        let num_stills = NUM_STILLS.min(self.frames.len());
        let Some((first, _)) = self.frames.first() else { return Ok(()) };
        let (width, height) = first.dimensions();
        let step = width + STILL_GAP;
        let mut strip = RgbImage::from_pixel(step * num_stills as u32 - STILL_GAP, height, image::Rgb([255; 3]));
        for still_idx in 0..num_stills {
            let frame_idx = still_idx * (self.frames.len() - 1) / (num_stills - 1).max(1);
            if let Some((picture, _)) = self.frames.get(frame_idx) {
                imageops::replace(&mut strip, picture, i64::from(step) * still_idx as i64, 0);
            }
        }
        let mut bytes = Cursor::new(Vec::new());
        strip.write_to(&mut bytes, image::ImageFormat::Png)?;
        write_atomically(path, bytes.get_ref()).map_err(Into::into)
    }
}

/// Mean absolute difference of bytes; infinite between images of different sizes.
fn change(before: &[u8], after: &[u8]) -> f64 {
    if before.len() != after.len() {
        return f64::INFINITY;
    }
    let sum: u64 = before.iter().zip(after).map(|(before, after)| u64::from(before.abs_diff(*after))).sum();
    sum as f64 / after.len().max(1) as f64
}

/// A frame as a picture.
///
/// # Errors
/// When the frame's data does not fit its size.
pub(crate) fn picture(frame: &Frame) -> anyhow::Result<RgbImage> {
    let mut data = frame.data.clone();
    if !frame.encoding.is_interleaved_rgb() {
        bail!(
            "frame {}: {:?} cannot be drawn; give the camera the encoding rgb8 or bgr8",
            frame.sequence,
            frame.encoding
        );
    }
    if frame.encoding == PixelEncoding::Bgr8 {
        data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    }
    match RgbImage::from_raw(frame.width, frame.height, data) {
        Some(picture) => Ok(picture),
        None => bail!(
            "frame {}: {} bytes are not {}x{} pixels",
            frame.sequence,
            frame.data.len(),
            frame.width,
            frame.height
        ),
    }
}
