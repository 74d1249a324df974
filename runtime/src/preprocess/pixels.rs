//! Camera encodings other than three bytes a pixel, made into red, green, blue row by row as the pass comes to need them.

use foresee_firmware_config::PixelEncoding;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::picture::{JpegCheck, Upright};

/// The rows of a frame as three bytes a pixel. Frames that are so already are lent as they are.
#[derive(Clone, Debug, Default)]
pub(super) struct Converter {
    /// Red, green, blue; of the whole frame.
    pixels: Vec<u8>,
    /// Rows of this frame that are there.
    num_rows: usize,
    /// Of JPEG frames alone.
    jpeg: Jpeg,
}

/// What is kept from one JPEG frame to the next.
#[derive(Clone, Debug, Default)]
struct Jpeg {
    check: JpegCheck,
    /// Pixels that EXIF turns.
    stored: Vec<u8>,
}

impl Converter {
    /// Begins with another frame, whose bytes fit its size.
    pub(super) fn begin(&mut self, frame: &Frame) -> Result<(), RuntimeError> {
        self.num_rows = 0;
        if frame.encoding.is_interleaved_rgb() {
            return Ok(());
        }
        self.pixels.resize(3 * frame.width as usize * frame.height as usize, 0);
        if frame.encoding == PixelEncoding::Jpeg {
            self.jpeg.decode(frame, &mut self.pixels).map_err(RuntimeError::Frame)?;
            self.num_rows = frame.height as usize;
        }
        Ok(())
    }

    /// Interleaved pixels in which at least the rows below `end` are filled.
    pub(super) fn rows<'a>(&'a mut self, frame: &'a Frame, end: usize) -> &'a [u8] {
        let width = frame.width as usize;
        let target = self.pixels.chunks_exact_mut(3 * width.max(1)).enumerate().take(end).skip(self.num_rows);
        match frame.encoding {
            PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => return &frame.data,
            PixelEncoding::Jpeg => {}
            PixelEncoding::Yuyv => {
                for ((_, target), source) in target.zip(frame.data.chunks_exact(2 * width).skip(self.num_rows)) {
                    yuyv_row(source, target);
                }
            }
            PixelEncoding::Nv12 => {
                let (luma, chroma) = frame.data.split_at(width * frame.height as usize);
                for (row_idx, target) in target {
                    let luma = luma.get(row_idx * width..(row_idx + 1) * width).unwrap_or_default();
                    let chroma = chroma.get(row_idx / 2 * width..(row_idx / 2 + 1) * width).unwrap_or_default();
                    nv12_row(luma, chroma, target);
                }
            }
        }
        self.num_rows = self.num_rows.max(end);
        &self.pixels
    }
}

/// `Y0 U Y1 V` for each two pixels.
fn yuyv_row(source: &[u8], target: &mut [u8]) {
    for (source, target) in source.as_chunks::<4>().0.iter().zip(target.as_chunks_mut::<6>().0) {
        let chroma = Chroma::new(source[1], source[3]);
        let [first, second] = [chroma.pixel(source[0]), chroma.pixel(source[2])];
        *target = [first[0], first[1], first[2], second[0], second[1], second[2]];
    }
}

/// A row of luma, and `U V` for each two pixels of two rows.
fn nv12_row(luma: &[u8], chroma: &[u8], target: &mut [u8]) {
    let pairs = luma.as_chunks::<2>().0.iter().zip(chroma.as_chunks::<2>().0);
    for ((luma, chroma), target) in pairs.zip(target.as_chunks_mut::<6>().0) {
        let chroma = Chroma::new(chroma[0], chroma[1]);
        let [first, second] = [chroma.pixel(luma[0]), chroma.pixel(luma[1])];
        *target = [first[0], first[1], first[2], second[0], second[1], second[2]];
    }
}

/// What two chroma samples add to red, green, blue: BT.601, limited range, in OpenCV's fixed point (`color_yuv.simd.hpp`), so that
/// the bytes are those of `cvtColor`.
struct Chroma([i32; 3]);

impl Chroma {
    const SHIFT: u32 = 20;

    fn new(u: u8, v: u8) -> Self {
        let [u, v] = [u, v].map(|value| i32::from(value) - 128);
        let half = 1 << (Self::SHIFT - 1);
        Self([half + 1_673_527 * v, half - 852_492 * v - 409_993 * u, half + 2_116_026 * u])
    }

    fn pixel(&self, luma: u8) -> [u8; 3] {
        let luma = (i32::from(luma) - 16).max(0) * 1_220_542;
        self.0.map(|chroma| ((luma + chroma) >> Self::SHIFT).clamp(0, 255) as u8)
    }
}

impl Jpeg {
    /// Upright pixels of a whole picture, as [`crate::read_picture`] gives them. The decoder allocates its tables anew for each image.
    fn decode(&mut self, frame: &Frame, pixels: &mut [u8]) -> Result<(), String> {
        self.check.check(&frame.data).map_err(|fault| format!("{fault}; check the camera's encoding and its link"))?;
        let explain = |error: &dyn std::fmt::Display| format!("not a JPEG image: {error}; check the camera's encoding");
        let longest = frame.width.max(frame.height) as usize;
        let options = DecoderOptions::default()
            .jpeg_set_out_colorspace(ColorSpace::RGB)
            .set_max_width(longest)
            .set_max_height(longest);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(frame.data.as_slice()), options);
        decoder.decode_headers().map_err(|error| explain(&error))?;
        let upright = decoder.exif().map_or(Upright::default(), |exif| Upright::of_exif(exif));
        let wanted = [frame.width, frame.height].map(|size| size as usize);
        let stored: [usize; 2] = decoder.dimensions().unwrap_or_default().into();
        if upright.size(stored) != wanted {
            let [[width, height], [wanted_width, wanted_height]] = [upright.size(stored), wanted];
            let turned = if upright.is_as_stored() { "" } else { " when its EXIF orientation is applied" };
            return Err(format!(
                "the JPEG image is {width}x{height}{turned} where the frame has {wanted_width}x{wanted_height}"
            ));
        }
        if upright.is_as_stored() {
            return decoder.decode_into(pixels).map_err(|error| explain(&error));
        }
        self.stored.resize(pixels.len(), 0);
        decoder.decode_into(&mut self.stored).map_err(|error| explain(&error))?;
        upright.turn(&self.stored, stored, pixels);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(encoding: PixelEncoding, (width, height): (u32, u32), data: &[u8], expected: &[u8]) {
        let frame = Frame { width, height, data: data.to_vec(), ..Frame::black(1, 1, encoding) };
        assert_eq!(frame.data.len(), frame.num_bytes());
        let mut converter = Converter::default();
        converter.begin(&frame).unwrap();
        // Row after row, as the pass asks for them.
        for end in 1..=height as usize {
            converter.rows(&frame, end);
        }
        assert_eq!(converter.rows(&frame, height as usize), expected, "{encoding:?}");
    }

    /// `cv2.cvtColor` (5.0) with `COLOR_YUV2RGB_YUY2` and `COLOR_YUV2RGB_NV12`.
    #[test]
    fn conversions_are_opencvs() {
        check(
            PixelEncoding::Yuyv,
            (4, 2),
            &[16, 128, 235, 128, 90, 54, 100, 240, 0, 0, 255, 255, 130, 200, 77, 33],
            &[0, 0, 0, 255, 255, 255, 255, 24, 0, 255, 36, 0, 203, 0, 0, 255, 225, 20, 0, 182, 255, 0, 120, 216],
        );
        check(
            PixelEncoding::Nv12,
            (4, 2),
            &[16, 235, 90, 100, 0, 255, 130, 77, 54, 240, 200, 33],
            &[179, 0, 0, 255, 193, 106, 0, 135, 231, 0, 147, 243, 179, 0, 0, 255, 216, 129, 0, 182, 255, 0, 120, 216],
        );
    }

    #[test]
    fn what_is_no_jpeg_of_this_size_is_a_named_error() {
        let frame = Frame { data: b"not a picture".to_vec(), ..Frame::black(4, 2, PixelEncoding::Jpeg) };
        let message = Converter::default().begin(&frame).unwrap_err().to_string();
        assert!(message.contains("not a JPEG image"), "{message}");
    }
}
