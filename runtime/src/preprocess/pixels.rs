//! Camera encodings other than three bytes a pixel, made into red, green, blue row by row as the pass comes to need them.

use crate::error::RuntimeError;
use crate::frame::Frame;

/// The rows of a frame as three bytes a pixel. Frames that are so already are lent as they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Converter {}

impl Converter {
    pub(super) fn begin(&mut self, _frame: &Frame) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Interleaved pixels in which at least the rows below `end` are filled.
    pub(super) fn rows<'a>(&'a mut self, frame: &'a Frame, _end: usize) -> &'a [u8] {
        &frame.data
    }
}
