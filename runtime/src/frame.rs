//! One camera image.

mod noise;

use foresee_firmware_config::PixelEncoding;

use crate::time::Stamp;

/// Luma of black, in BT.601's limited range.
const LUMA_BLACK: u8 = 16;

/// One camera image, rows from top to bottom without padding. A source writes into a frame that the loop lends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Time of exposure (or of the simulated state).
    pub stamp: Stamp,
    /// Counts up by one a frame at its source; a gap is a lost frame.
    pub sequence: u64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Channel order and packing.
    pub encoding: PixelEncoding,
    /// [`Frame::num_bytes`] bytes; a file of any length when JPEG.
    pub data: Vec<u8>,
}

impl Frame {
    /// A frame of zeros of the given size in pixels; black where a pixel is three bytes.
    pub fn black(width: u32, height: u32, encoding: PixelEncoding) -> Self {
        let mut frame = Self { stamp: Stamp::default(), sequence: 0, width, height, encoding, data: Vec::new() };
        // Zero is black in red, green and blue.
        frame.data.resize(frame.num_bytes(), 0);
        frame
    }

    /// Becomes a copy, in the memory that it has: a derived `clone_from` would allocate anew.
    pub fn copy_from(&mut self, other: &Self) {
        let Self { stamp, sequence, width, height, encoding, data } = other;
        (self.stamp, self.sequence) = (*stamp, *sequence);
        (self.width, self.height, self.encoding) = (*width, *height, *encoding);
        self.data.clone_from(data);
    }

    /// Becomes a picture of noise of its size, for what is measured without a camera; another `seed` is another picture.
    pub fn fill_with_noise(&mut self, seed: u32) {
        if self.encoding == PixelEncoding::Jpeg {
            return noise::write_jpeg((self.width, self.height), seed, &mut self.data);
        }
        let bytes = (0_u32..).zip(&mut self.data);
        bytes.for_each(|(at, byte)| *byte = at.wrapping_mul(31).wrapping_add(seed.wrapping_mul(17)) as u8);
    }

    /// The brightest of about `num_samples` pixels, 0 for black; `None` where only decoding would tell.
    pub fn brightest(&self, num_samples: usize) -> Option<u8> {
        let num_pixels = self.width as usize * self.height as usize;
        // Bytes, how far apart the ones that count are, and how black is written: luma has a limited range.
        let (bytes, step, black) = match self.encoding {
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => (self.data.as_slice(), 1, 0),
            PixelEncoding::Yuyv => (self.data.as_slice(), 2, LUMA_BLACK),
            PixelEncoding::Nv12 => (self.data.get(..num_pixels).unwrap_or_default(), 1, LUMA_BLACK),
            PixelEncoding::Jpeg => return None,
        };
        // Odd, so that every channel has its turn.
        let stride = step * ((bytes.len() / step / num_samples.max(1)) | 1);
        let brightest = bytes.iter().step_by(stride).max().copied().unwrap_or_default();
        Some(brightest.saturating_sub(black))
    }

    /// Bytes that `data` must have for `width`, `height` and encoding; as many as it has when JPEG.
    pub fn num_bytes(&self) -> usize {
        let num_pixels = self.width as usize * self.height as usize;
        match self.encoding {
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => 3 * num_pixels,
            PixelEncoding::Yuyv => 2 * num_pixels,
            PixelEncoding::Nv12 => num_pixels + num_pixels / 2,
            PixelEncoding::Jpeg => self.data.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn black_is_told_from_grey_in_every_encoding() {
        let check = |encoding, black: &dyn Fn(usize) -> u8, at: usize| {
            let mut frame = Frame::black(8, 8, encoding);
            frame.data.iter_mut().enumerate().for_each(|(at, byte)| *byte = black(at));
            assert_eq!(frame.brightest(4096), Some(0), "{encoding:?}");
            if let Some(byte) = frame.data.get_mut(at) {
                *byte = 100;
            }
            let luma = if encoding.is_interleaved_rgb() { 100 } else { 84 };
            assert_eq!(frame.brightest(4096), Some(luma), "{encoding:?}");
        };
        check(PixelEncoding::Rgb8, &|_| 0, 5);
        check(PixelEncoding::Bgr8, &|_| 0, 191);
        // Chroma without colour is 128.
        check(PixelEncoding::Yuyv, &|at| if at % 2 == 0 { 16 } else { 128 }, 6);
        check(PixelEncoding::Nv12, &|at| if at < 64 { 16 } else { 128 }, 63);
        assert_eq!(Frame::black(8, 8, PixelEncoding::Jpeg).brightest(4096), None);
    }

    #[test]
    fn noise_is_a_picture_in_every_encoding() {
        use crate::card::{PreprocessingCard, Resize};
        use crate::encoder::EncoderInput;
        let card = PreprocessingCard {
            width: 48,
            height: 40,
            resize: Resize::Area,
            crop: None,
            mean: [0.0; 3],
            std: [1.0; 3],
            hash: String::new(),
        };
        let mut preprocessor = crate::preprocess::Preprocessor::new(&card.with_hash()).unwrap();
        for encoding in
            [PixelEncoding::Rgb8, PixelEncoding::Bgr8, PixelEncoding::Yuyv, PixelEncoding::Nv12, PixelEncoding::Jpeg]
        {
            // No whole number of blocks.
            let mut frame = Frame::black(90, 50, encoding);
            let mut pictures = [1, 2].map(|seed| {
                frame.fill_with_noise(seed);
                let mut input = EncoderInput::zeros(40, 48);
                preprocessor.run(&frame, &mut input).unwrap();
                input.data
            });
            assert_ne!(pictures[0], pictures[1], "{encoding:?}");
            pictures[0].sort_by(f32::total_cmp);
            let spread = pictures[0][5000] - pictures[0][700];
            assert!(spread > 0.05, "{encoding:?}: {spread}");
        }
    }
}
