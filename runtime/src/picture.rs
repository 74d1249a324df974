//! What a picture is, for training, probes, camera folders, logs and the loop alike: the content decides the format and not the name,
//! EXIF brings it upright, every pixel must be in the file, and it becomes 8 bits of red, green and blue: 16 bits are scaled, palettes
//! are looked up, grey is repeated, alpha is left out; of several pictures in a file the first counts.

mod jpeg;
mod upright;

use std::io::Cursor;
use std::path::Path;

use foresee_firmware_config::PixelEncoding;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use crate::error::RuntimeError;
use crate::files::read_limited;
use crate::frame::Frame;

pub use jpeg::{JpegCheck, JpegFault, Part};
pub(crate) use upright::Upright;

/// Endings of picture files, in lower case, without the dot.
pub const PICTURE_ENDINGS: &[&str] = &["jpg", "jpeg", "png", "gif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "pnm"];
/// Pixels a side that are decoded.
const MAX_SIDE: u32 = 16_384;
/// Bytes that decoding one picture may take.
const MAX_DECODED_BYTES: u64 = 512 << 20;
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Why bytes are no whole picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureFault {
    /// A JPEG file that is not whole.
    #[error("{0}; copy or record it again")]
    Jpeg(#[from] JpegFault),
    /// The container is longer than its data.
    #[error("the WebP image is cut short: {there} of {needed} bytes are there; copy or record it again")]
    CutShort {
        /// Bytes.
        there: usize,
        /// Bytes that its header names.
        needed: usize,
    },
    /// Larger than is decoded.
    #[error("is of {width}x{height} pixels; at most 16384 a side and 512 MiB decoded are read")]
    TooLarge {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// Of no known format, or a decoder found an error.
    #[error("cannot be decoded ({0}); is it a whole JPEG, PNG, GIF, WebP, BMP, TIFF or PNM file?")]
    Undecodable(#[from] ImageError),
}

/// Reads a file into `frame` as upright RGB of 8 bits; stamp and sequence stay.
///
/// # Errors
/// [`RuntimeError::File`] when it cannot be read, [`RuntimeError::Picture`] when it is no whole picture.
pub fn read_picture(path: &Path, frame: &mut Frame) -> Result<(), RuntimeError> {
    let bytes = read_limited(path, MAX_FILE_BYTES)?;
    decode_picture(&bytes, frame).map_err(|fault| RuntimeError::Picture { path: path.to_path_buf(), fault })
}

/// Decodes a file's bytes as [`read_picture`] does.
///
/// # Errors
/// [`PictureFault`] when they are no whole picture.
pub fn decode_picture(bytes: &[u8], frame: &mut Frame) -> Result<(), PictureFault> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(ImageError::IoError)?;
    match reader.format() {
        Some(ImageFormat::Jpeg) => JpegCheck::default().check(bytes)?,
        Some(ImageFormat::WebP) => check_webp(bytes)?,
        _ => {}
    }
    let mut reader = reader;
    let mut limits = Limits::no_limits();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    // Of 16 bits a channel the decoded picture is larger than the frame.
    let num_bytes = decoder.total_bytes().max(3 * u64::from(width) * u64::from(height));
    if width > MAX_SIDE || height > MAX_SIDE || num_bytes > MAX_DECODED_BYTES {
        return Err(PictureFault::TooLarge { width, height });
    }
    // An EXIF block that cannot be read turns nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    (frame.width, frame.height, frame.encoding) = (image.width(), image.height(), PixelEncoding::Rgb8);
    frame.data = image.into_raw();
    Ok(())
}

/// A lossy decoder reads zeros where the data end.
fn check_webp(bytes: &[u8]) -> Result<(), PictureFault> {
    let size = bytes.get(4..8).and_then(|bytes| bytes.first_chunk::<4>());
    let needed = size.map_or(0, |size| u32::from_le_bytes(*size) as usize).saturating_add(8);
    if bytes.len() < needed { Err(PictureFault::CutShort { there: bytes.len(), needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEGS: [&str; 11] = [
        "baseline_420.jpg",
        "baseline_422.jpg",
        "baseline_444.jpg",
        "grey.jpg",
        "cmyk.jpg",
        "progressive_420.jpg",
        "progressive_444.jpg",
        "progressive_grey.jpg",
        "restarts.jpg",
        "progressive_restarts.jpg",
        "mjpg_without_tables.jpg",
    ];

    fn fixture(name: &str) -> Vec<u8> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pictures");
        std::fs::read(folder.join(name)).unwrap()
    }

    fn decoded(bytes: &[u8]) -> Result<Frame, PictureFault> {
        let mut frame = Frame::black(0, 0, PixelEncoding::Bgr8);
        decode_picture(bytes, &mut frame).map(|()| frame)
    }

    /// As the loop sees a camera's JPEG file.
    fn in_the_loop(bytes: &[u8], width: u32, height: u32) -> Result<Frame, String> {
        let frame = Frame { data: bytes.to_vec(), ..Frame::black(width, height, PixelEncoding::Jpeg) };
        crate::to_rgb(&frame).map_err(|error| error.to_string())
    }

    /// At any length a file gives the pixels of the whole one, or none.
    #[test]
    fn a_jpeg_that_is_cut_anywhere_gives_no_invented_pixel() {
        for name in JPEGS {
            let bytes = fixture(name);
            let whole = decoded(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((whole.width, whole.height), (52, 37), "{name}");
            assert_eq!(in_the_loop(&bytes, 52, 37).unwrap().data, whole.data, "{name}");
            let mut num_taken = 0;
            for length in 0..bytes.len() {
                for ending in [&[][..], &[0xff, 0xd9], &[0; 40]] {
                    let cut = [&bytes[..length], ending].concat();
                    if let Ok(frame) = decoded(&cut) {
                        assert!(frame.data == whole.data, "{name} cut after {length} with {ending:?}");
                        num_taken += 1;
                    }
                    if let Ok(frame) = in_the_loop(&cut, 52, 37) {
                        assert!(frame.data == whole.data, "{name} cut after {length} with {ending:?}: in the loop");
                    }
                }
            }
            // The end marker may be missing, and the bits that fill the last byte.
            assert!(num_taken <= 9, "{name}: {num_taken}");
        }
    }

    #[test]
    fn a_jpeg_that_lost_a_piece_or_was_written_over_is_refused() {
        for name in ["baseline_420.jpg", "baseline_444.jpg", "restarts.jpg", "progressive_420.jpg"] {
            let bytes = fixture(name);
            let [from, to] = [bytes.len() * 7 / 10, bytes.len() * 9 / 10];
            let mut written_over = bytes.clone();
            written_over[from..].fill(0);
            let message = decoded(&written_over).unwrap_err().to_string();
            assert!(message.contains("JPEG image is c") && message.contains('%'), "{name}: {message}");
            let lost = [&bytes[..from], &bytes[to..]].concat();
            assert!(decoded(&lost).is_err(), "{name}");
        }
        let message = decoded(&fixture("baseline_420.jpg")[..900]).unwrap_err().to_string();
        assert!(message.contains("cut short") && message.contains("of the picture is there"), "{message}");
        let message = in_the_loop(&fixture("restarts.jpg")[..900], 52, 37).unwrap_err();
        assert!(message.contains("cut short") && message.contains("camera"), "{message}");
    }

    /// A restart marker that is missing or out of turn shifts every block behind it.
    #[test]
    fn restart_markers_come_in_turn() {
        let bytes = fixture("restarts.jpg");
        let places: Vec<usize> =
            (0..bytes.len() - 1).filter(|at| bytes[*at] == 0xff && bytes[at + 1] & 0xf8 == 0xd0).collect();
        assert!(places.len() > 4, "{places:?}");
        let mut wrong = bytes.clone();
        wrong[places[1] + 1] = 0xd5;
        assert!(decoded(&wrong).unwrap_err().to_string().contains("corrupt"));
        let mut missing = bytes;
        missing.drain(places[2]..places[2] + 2);
        assert!(decoded(&missing).is_err());
    }

    #[test]
    fn what_cameras_leave_around_a_whole_jpeg_is_no_matter() {
        for name in JPEGS {
            let bytes = fixture(name);
            let whole = decoded(&bytes).unwrap();
            let end = bytes.len() - 2;
            for padded in [
                [&bytes, &[0; 500][..]].concat(),
                [&bytes, b"more bytes \xff\xd8\xff".as_slice()].concat(),
                [&bytes[..end], &[0xff; 30], &[0xd9]].concat(),
                [&bytes[..end], &[0; 600], &[0xff, 0xd9]].concat(),
            ] {
                assert!(decoded(&padded).is_ok_and(|frame| frame.data == whole.data), "{name}");
                assert!(in_the_loop(&padded, 52, 37).is_ok_and(|frame| frame.data == whole.data), "{name}");
            }
        }
    }

    #[test]
    fn exif_brings_upright_alike_in_files_and_in_the_loop() {
        let stored = decoded(&fixture("exif1.jpg")).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for value in 1..=8 {
            let bytes = fixture(&format!("exif{value}.jpg"));
            let frame = decoded(&bytes).unwrap();
            let wanted = if value < 5 { (26, 18) } else { (18, 26) };
            assert_eq!((frame.width, frame.height), wanted, "{value}");
            let in_the_loop = in_the_loop(&bytes, wanted.0, wanted.1).unwrap();
            assert_eq!((in_the_loop.width, in_the_loop.height), wanted, "{value}");
            assert!(in_the_loop.data == frame.data, "{value}");
            // The stored corner at the upper left comes to the corner that EXIF names.
            let corners = |frame: &Frame| {
                let [width, height] = [frame.width, frame.height].map(|side| side as usize);
                let at = |x: usize, y: usize| frame.data[3 * (y * width + x)..][..3].to_vec();
                [at(0, 0), at(width - 1, 0), at(width - 1, height - 1), at(0, height - 1)]
            };
            let place = [0, 1, 2, 3, 0, 1, 2, 3][value - 1];
            assert_eq!(corners(&frame)[place], corners(&stored)[0], "{value}");
            seen.insert(frame.data);
        }
        assert_eq!(seen.len(), 8);
        let message = in_the_loop(&fixture("exif6.jpg"), 26, 18).unwrap_err();
        assert!(message.contains("18x26 when its EXIF orientation is applied"), "{message}");
    }

    #[test]
    fn every_format_is_known_by_its_content_and_refused_when_cut() {
        let whole = decoded(&fixture("colour.png")).unwrap();
        for name in
            ["colour.png", "colour.bmp", "colour.ppm", "colour.tif", "lossless.webp", "lossy.webp", "palette.gif"]
        {
            let bytes = fixture(name);
            let frame = decoded(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
            let is_lossy = matches!(name, "lossy.webp" | "palette.gif");
            assert!(frame.data == whole.data || is_lossy && frame.data.len() == whole.data.len(), "{name}");
            for length in 0..bytes.len() {
                if let Ok(cut) = decoded(&bytes[..length]) {
                    assert!(cut.data == frame.data, "{name} cut after {length}");
                }
            }
            assert!(decoded(&bytes[..bytes.len() / 2]).is_err(), "{name}");
        }
    }

    #[test]
    fn sixteen_bits_palettes_grey_and_alpha_are_eight_bits_of_colour() {
        let check = |image: DynamicImage, wanted: [u8; 3]| {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, ImageFormat::Png).unwrap();
            assert_eq!(decoded(&bytes.into_inner()).unwrap().data, wanted.repeat(2), "{:?}", image.color());
        };
        use image::{ImageBuffer, Luma, LumaA, Rgb, Rgba};
        check(ImageBuffer::from_pixel(2, 1, Luma([200_u16 * 257])).into(), [200; 3]);
        check(ImageBuffer::from_pixel(2, 1, Rgb([10_u16 * 257, 20 * 257, 255 * 257])).into(), [10, 20, 255]);
        check(ImageBuffer::from_pixel(2, 1, LumaA([90_u8, 10])).into(), [90; 3]);
        check(ImageBuffer::from_pixel(2, 1, Rgba([1_u8, 2, 3, 0])).into(), [1, 2, 3]);
    }

    #[test]
    fn what_is_no_picture_or_too_large_is_named() {
        let message = |bytes: &[u8]| decoded(bytes).unwrap_err().to_string();
        assert!(message(b"no image").contains("cannot be decoded"));
        // A header that claims 65535 x 65535 pixels.
        let gif = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02\x44\x01\x00;";
        assert!(message(gif).contains("cannot be decoded") || message(gif).contains("65535"), "{}", message(gif));
        let mut jpeg = fixture("progressive_420.jpg");
        let at = jpeg.windows(2).position(|marker| marker == [0xff, 0xc2]).unwrap();
        jpeg[at + 5..at + 9].fill(0xff);
        assert!(message(&jpeg).contains("16384 pixels"), "{}", message(&jpeg));
    }
}
