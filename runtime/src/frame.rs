//! One camera image.

use foresee_firmware_config::PixelEncoding;

use crate::time::Stamp;

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
