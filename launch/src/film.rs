//! What the camera saw, as pictures: a GIF of one episode and a strip of stills.

use std::io::Cursor;
use std::path::Path;

use foresee_runtime::{EncoderInput, Frame, PreprocessingCard, Preprocessor, Resize, RuntimeError, write_atomically};
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
/// A GIF counts in hundredths of a second.
const GIF_STEP_MILLIS: u32 = 10;
const GIF_STEP_NANOS: u64 = 10_000_000;
/// Programs show a delay of one step as ten.
const SHORTEST_STEPS: u64 = 2;
/// How long a film of one frame is.
const LONE_STEPS: u64 = 100;
/// Large ones are kept at most this wide and high.
const MAX_SIDE: u32 = 320;

/// Collects small pictures of the frames of one episode in which something moved.
#[derive(Default)]
pub(crate) struct Film {
    frames: Vec<(RgbImage, u64)>,
    last: Vec<u8>,
    stride: usize,
    num_moved: usize,
    num_since_last: usize,
    /// Frames that could not be drawn, in every episode, and what was said of the first.
    undrawn: Option<(u64, String)>,
    sketch: Option<Box<Sketch>>,
}

impl Film {
    /// Forgets what was collected: another episode begins.
    pub(crate) fn clear(&mut self) {
        *self = Self { undrawn: self.undrawn.take(), sketch: self.sketch.take(), ..Self::default() };
    }

    /// Takes a frame if something moved since the last one taken. One that cannot be drawn is left out and counted.
    pub(crate) fn add(&mut self, frame: &Frame) {
        let picture = match self.draw(frame) {
            Ok(picture) => picture,
            Err(error) => {
                self.undrawn.get_or_insert_with(|| (0, error.to_string())).0 += 1;
                return;
            }
        };
        self.stride = self.stride.max(1);
        self.num_since_last += 1;
        if self.num_since_last < MAX_GAP && change(&self.last, &picture) < MIN_CHANGE {
            return;
        }
        self.num_since_last = 0;
        self.last.clone_from(picture.as_raw());
        if self.num_moved.is_multiple_of(self.stride) {
            self.frames.push((picture, frame.stamp.nanos));
            if self.frames.len() > MAX_FRAMES {
                let mut keep = [true, false].iter().cycle();
                self.frames.retain(|_| *keep.next().unwrap_or(&true));
                self.stride *= 2;
            }
        }
        self.num_moved += 1;
    }

    /// How many frames could not be drawn, and why the first could not.
    pub(crate) fn undrawn(&self) -> Option<(u64, &str)> {
        self.undrawn.as_ref().map(|(count, why)| (*count, why.as_str()))
    }

    fn draw(&mut self, frame: &Frame) -> Result<RgbImage, RuntimeError> {
        let size = (frame.width, frame.height);
        let sketch = match self.sketch.take().filter(|sketch| sketch.of == size) {
            Some(sketch) => sketch,
            None => Box::new(Sketch::new(size)?),
        };
        self.sketch.insert(sketch).draw(frame)
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
        let stamps: Vec<u64> = self.frames.iter().map(|(_, stamp_nanos)| *stamp_nanos).collect();
        for Shown { frame_idx, delay } in schedule(&stamps) {
            let Some((picture, _)) = self.frames.get(frame_idx) else { continue };
            let scale = MIN_WIDTH.div_ceil(picture.width().max(1));
            let size = (picture.width() * scale, picture.height() * scale);
            let large = imageops::resize(picture, size.0, size.1, imageops::FilterType::Nearest);
            let rgba = image::DynamicImage::ImageRgb8(large).into_rgba8();
            encoder.encode_frame(image::Frame::from_parts(
                rgba,
                0,
                0,
                Delay::from_numer_denom_ms(delay * GIF_STEP_MILLIS, 1),
            ))?;
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

/// A frame of a GIF, and how long it is shown, in steps of 10 ms.
#[derive(Debug, PartialEq)]
struct Shown {
    frame_idx: usize,
    delay: u32,
}

/// Which frames are shown, and for how long, so that the film is as long as what it shows. Frames that come faster than
/// [`SHORTEST_STEPS`] are left out; every delay is the difference of two rounded times, so that no error adds up.
fn schedule(stamps_nanos: &[u64]) -> Vec<Shown> {
    let first = stamps_nanos.first().copied().unwrap_or_default();
    let step = |stamp: u64| (stamp.saturating_sub(first) + GIF_STEP_NANOS / 2) / GIF_STEP_NANOS;
    let mut starts: Vec<(usize, u64)> = Vec::new();
    for (frame_idx, stamp) in stamps_nanos.iter().enumerate() {
        if starts.last().is_none_or(|(_, last)| step(*stamp) >= last + SHORTEST_STEPS) {
            starts.push((frame_idx, step(*stamp)));
        }
    }
    // The last frame is shown for as long as one is on average.
    let end = starts.last().map_or(0, |(_, last)| *last);
    let mean = if starts.len() > 1 { end / (starts.len() as u64 - 1) } else { LONE_STEPS };
    let ends = starts.iter().skip(1).map(|(_, start)| *start).chain([end + mean.max(SHORTEST_STEPS)]);
    let shown = starts.iter().zip(ends).map(|((frame_idx, start), end)| {
        let delay = u32::try_from(end - start).unwrap_or(u32::MAX).min(u32::from(u16::MAX));
        Shown { frame_idx: *frame_idx, delay }
    });
    shown.collect()
}

/// Mean absolute difference of bytes; infinite between images of different sizes.
fn change(before: &[u8], after: &[u8]) -> f64 {
    if before.len() != after.len() {
        return f64::INFINITY;
    }
    let sum: u64 = before.iter().zip(after).map(|(before, after)| u64::from(before.abs_diff(*after))).sum();
    sum as f64 / after.len().max(1) as f64
}

/// Frames of one size -> small pictures, whatever the encoding, by the preprocessing that serves the encoder.
struct Sketch {
    of: (u32, u32),
    preprocessor: Preprocessor,
    input: EncoderInput,
}

impl Sketch {
    fn new(of: (u32, u32)) -> Result<Self, RuntimeError> {
        let shrink = f64::from(of.0.max(of.1)) / f64::from(MAX_SIDE);
        let [width, height] = [of.0, of.1].map(|side| (f64::from(side) / shrink.max(1.0)).round().max(1.0) as usize);
        let card = PreprocessingCard {
            width,
            height,
            resize: Resize::Area,
            crop: None,
            mean: [0.0; 3],
            std: [1.0; 3],
            hash: String::new(),
        };
        Ok(Self { of, preprocessor: Preprocessor::new(&card.with_hash())?, input: EncoderInput::zeros(height, width) })
    }

    fn draw(&mut self, frame: &Frame) -> Result<RgbImage, RuntimeError> {
        self.preprocessor.run(frame, &mut self.input)?;
        let EncoderInput { width, height, data } = &self.input;
        let mut picture = RgbImage::new(*width as u32, *height as u32);
        for (channel, plane) in data.chunks_exact(width * height).enumerate() {
            let bytes = picture.iter_mut().skip(channel).step_by(3);
            bytes.zip(plane).for_each(|(byte, value)| *byte = (value * 255.0).round() as u8);
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::PixelEncoding;

    use super::*;

    /// Grey of this brightness.
    fn frame(encoding: PixelEncoding, brightness: u8) -> Frame {
        let mut frame = Frame::black(64, 48, encoding);
        match encoding {
            PixelEncoding::Jpeg => {
                let grey = RgbImage::from_pixel(64, 48, image::Rgb([brightness; 3]));
                grey.write_to(&mut Cursor::new(&mut frame.data), image::ImageFormat::Jpeg).unwrap();
            }
            PixelEncoding::Yuyv => frame.data.as_chunks_mut::<2>().0.fill([brightness, 128]),
            _ => frame.data.fill(brightness),
        }
        frame
    }

    #[test]
    fn a_frame_of_any_encoding_is_drawn() {
        for encoding in [PixelEncoding::Rgb8, PixelEncoding::Bgr8, PixelEncoding::Yuyv, PixelEncoding::Jpeg] {
            let mut film = Film::default();
            film.add(&frame(encoding, 128));
            let (picture, _) = &film.frames[0];
            // Luma 128 of 16 to 235 is 130.
            assert!(
                picture.dimensions() == (64, 48) && picture.iter().all(|byte| byte.abs_diff(129) <= 2),
                "{encoding:?}"
            );
        }
        let mut film = Film::default();
        film.add(&frame(PixelEncoding::Nv12, 128));
        assert_eq!((film.frames.len(), film.undrawn()), (1, None));
    }

    /// Steps that a film of these stamps takes, and the frames that it shows.
    fn shown(stamps_millis: impl IntoIterator<Item = f64>) -> (u32, Vec<usize>) {
        let stamps: Vec<u64> = stamps_millis.into_iter().map(|millis| (millis * 1e6) as u64 + 5_000_000_000).collect();
        let shown = schedule(&stamps);
        assert!(shown.iter().all(|shown| u64::from(shown.delay) >= SHORTEST_STEPS), "{shown:?}");
        (shown.iter().map(|shown| shown.delay).sum(), shown.iter().map(|shown| shown.frame_idx).collect())
    }

    #[test]
    fn a_film_is_as_long_as_what_it_shows() {
        for period_millis in [2.0, 8.333, 10.0, 12.5, 15.0, 16.667, 20.0, 33.333, 50.0, 100.0, 1000.0] {
            let (steps, frames) = shown((0..150).map(|idx| f64::from(idx) * period_millis));
            let error = f64::from(steps) * 10.0 - 150.0 * period_millis;
            assert!(error.abs() <= 0.011 * 150.0 * period_millis + 25.0, "{period_millis} ms: {error} ms off");
            assert_eq!(frames.len() == 150, period_millis >= 20.0, "{period_millis}: {} frames", frames.len());
        }
        let (steps, _) = shown([0.0, 40.0, 80.0, 10_080.0, 10_120.0]);
        assert!((1012..=1300).contains(&steps), "a pause is as long as it was: {steps}");
        assert_eq!(shown([0.0]), (100, vec![0]));
        assert_eq!(shown([50.0, 0.0, 100.0]).1, [0, 2]);
        assert_eq!(shown([]), (0, vec![]));
    }

    #[test]
    fn a_small_frame_is_drawn_as_it_is_and_a_large_one_small() {
        let mut noise = Frame::black(40, 30, PixelEncoding::Rgb8);
        noise
            .data
            .iter_mut()
            .zip(0_u32..)
            .for_each(|(byte, at)| *byte = at.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
        let mut film = Film::default();
        film.add(&noise);
        assert_eq!(film.frames[0].0.as_raw(), &noise.data);
        film.add(&Frame::black(3840, 2160, PixelEncoding::Bgr8));
        assert_eq!(film.frames[1].0.dimensions(), (320, 180));
    }

    #[test]
    fn a_frame_that_cannot_be_drawn_is_left_out_and_counted() {
        let mut film = Film::default();
        film.add(&Frame::black(64, 48, PixelEncoding::Jpeg));
        film.clear();
        film.add(&Frame::black(64, 48, PixelEncoding::Jpeg));
        film.add(&frame(PixelEncoding::Rgb8, 9));
        let (num_undrawn, why) = film.undrawn().unwrap();
        assert!(num_undrawn == 2 && why.contains("not a JPEG image"), "{why}");
        assert_eq!(film.frames.len(), 1);
        film.write(tempfile::tempdir().unwrap().path()).unwrap();
    }
}
