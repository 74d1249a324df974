//! Pictures and videos, as training and the loop read them.

use std::path::Path;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{Frame, VideoFile, decode_picture, to_rgb};

/// Frames of a video that are read: first and last, and one between.
const NUM_PLACES: usize = 3;
/// Frames that a header of a small file may claim.
const MAX_FRAMES: usize = 1 << 20;

pub(super) fn picture(bytes: &[u8], _: &Path) -> bool {
    decode_picture(bytes, &mut Frame::black(0, 0, PixelEncoding::Rgb8)).is_ok()
}

/// The bytes as a camera's JPEG file.
pub(super) fn loop_picture(bytes: &[u8], _: &Path) -> bool {
    let frame = Frame { data: bytes.to_vec(), ..Frame::black(52, 37, PixelEncoding::Jpeg) };
    to_rgb(&frame).is_ok()
}

/// Of each kind that the loop reads, and others.
pub(super) fn picture_seeds() -> Vec<Vec<u8>> {
    super::files(&[
        "tests/fixtures/pictures/baseline_420.jpg",
        "tests/fixtures/pictures/progressive_420.jpg",
        "tests/fixtures/pictures/restarts.jpg",
    ])
}

pub(super) fn video(bytes: &[u8], folder: &Path) -> bool {
    let Some(mut video) = super::write(bytes, folder, "fuzz.video").and_then(|file| VideoFile::open(&file).ok()) else {
        return false;
    };
    let num_frames = video.num_frames().min(MAX_FRAMES);
    let mut frame = Frame::black(0, 0, PixelEncoding::Bgr8);
    let mut reads = (0..NUM_PLACES).map(|place| video.read(place * (num_frames - 1) / (NUM_PLACES - 1), &mut frame));
    reads.all(|read| read.is_ok_and(|ended| ended.is_none()))
}

pub(super) fn video_seeds() -> Vec<Vec<u8>> {
    super::files(&[
        "tests/fixtures/videos/moving.mp4",
        "tests/fixtures/videos/moving.webm",
        "tests/fixtures/videos/turned_90.mp4",
        "tests/fixtures/videos/uneven.mkv",
    ])
}
