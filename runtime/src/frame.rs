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
    /// Channel order; three bytes a pixel.
    pub encoding: PixelEncoding,
    /// `height * width * 3` bytes.
    pub data: Vec<u8>,
}

impl Frame {
    /// A black frame of the given size in pixels.
    pub fn black(width: u32, height: u32, encoding: PixelEncoding) -> Self {
        let data = vec![0; width as usize * height as usize * 3];
        Self { stamp: Stamp::default(), sequence: 0, width, height, encoding, data }
    }

    /// Bytes that `data` must have for `width` and `height`.
    pub fn num_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}
