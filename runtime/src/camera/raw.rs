//! What OpenCV hands out, as the bytes of a frame: pixels in blue, green, red, or as the camera gives them.

use foresee_firmware_config::{CameraProfile, PixelEncoding, raw_refusal};
use opencv::core::{CV_8UC1, CV_8UC2, CV_8UC3, Mat, MatTraitConst, MatTraitConstManual};

use super::device::CameraDevice;
use super::words;
use crate::frame::Frame;

/// Why a device cannot give this encoding, if it cannot; as `config check` has it.
pub(super) fn refusal(device: &CameraDevice, encoding: PixelEncoding) -> Option<String> {
    let why = raw_refusal(&device.to_string(), encoding)?;
    Some(format!("camera.encoding = \"{}\": {why}; give \"bgr8\" or \"rgb8\"", encoding.name()))
}

/// Copies an image into a frame, in the profile's encoding and (but for `any_size`) size.
///
/// # Errors
/// What came instead, and the fix.
pub(super) fn copy(image: &Mat, camera: &CameraProfile, any_size: bool, frame: &mut Frame) -> Result<(), String> {
    let [columns, rows] = [image.cols(), image.rows()].map(i32::unsigned_abs);
    let bytes = image.data_bytes().map_err(words)?;
    let (kind, mend) = match camera.encoding {
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => (CV_8UC3, "a GStreamer pipeline needs video/x-raw,format=BGR"),
        PixelEncoding::Yuyv => (CV_8UC2, "a GStreamer pipeline needs video/x-raw,format=YUY2"),
        PixelEncoding::Nv12 => (CV_8UC1, "a GStreamer pipeline needs video/x-raw,format=NV12"),
        PixelEncoding::Jpeg => (CV_8UC1, "a GStreamer pipeline needs image/jpeg"),
    };
    let is_jpeg = camera.encoding == PixelEncoding::Jpeg;
    let is_line = columns == 1 || rows == 1;
    let name = camera.encoding.name();
    if image.typ() != kind || is_jpeg && !(is_line && bytes.starts_with(&[0xff, 0xd8])) {
        let depth = opencv::core::type_to_string(image.typ()).map_err(words)?;
        return Err(format!(
            "gives {columns}x{rows} of {depth}, which is no image of camera.encoding = \"{name}\"; {mend} before appsink"
        ));
    }
    let (width, height) = match camera.encoding {
        PixelEncoding::Jpeg => (camera.width, camera.height),
        // A plane of luma, and half as many rows of chroma.
        PixelEncoding::Nv12 => (columns, rows / 3 * 2),
        _ => (columns, rows),
    };
    check_size([width, height], camera, any_size)?;
    (frame.width, frame.height, frame.encoding) = (width, height, camera.encoding);
    if !is_jpeg && bytes.len() != frame.num_bytes() {
        return Err(format!("gives {} bytes an image where {name} has {}", bytes.len(), frame.num_bytes()));
    }
    frame.data.clear();
    frame.data.extend_from_slice(bytes);
    if camera.encoding == PixelEncoding::Rgb8 {
        swap_red_and_blue(frame);
    }
    Ok(())
}

/// Brings a frame of three bytes a pixel into the profile's encoding.
///
/// # Errors
/// As [`copy`], of another size.
pub(super) fn fit(camera: &CameraProfile, any_size: bool, frame: &mut Frame) -> Result<(), String> {
    check_size([frame.width, frame.height], camera, any_size)?;
    if frame.encoding != camera.encoding {
        swap_red_and_blue(frame);
        frame.encoding = camera.encoding;
    }
    Ok(())
}

fn check_size([width, height]: [u32; 2], camera: &CameraProfile, any_size: bool) -> Result<(), String> {
    if any_size || (width, height) == (camera.width, camera.height) {
        return Ok(());
    }
    Err(format!(
        "gives {width}x{height} where the profile's camera has {}x{}; make them agree",
        camera.width, camera.height
    ))
}

fn swap_red_and_blue(frame: &mut Frame) {
    frame.data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
}

#[cfg(test)]
mod tests {
    use opencv::core::{Vec2b, Vec3b};

    use super::*;

    fn camera(encoding: PixelEncoding) -> CameraProfile {
        let camera = foresee_firmware_config::load("desktop-sim").unwrap().camera;
        CameraProfile { width: 4, height: 2, encoding, ..camera }
    }

    fn rows<T: opencv::core::DataType>(rows: i32, columns: i32, data: &[T]) -> Mat {
        Mat::new_rows_cols_with_data(rows, columns, data).unwrap().try_clone().unwrap()
    }

    fn copied(image: &Mat, encoding: PixelEncoding) -> Result<Frame, String> {
        let mut frame = Frame::black(1, 1, PixelEncoding::Rgb8);
        copy(image, &camera(encoding), false, &mut frame).map(|()| frame)
    }

    #[test]
    fn every_layout_that_opencv_hands_out_is_a_frame() {
        use PixelEncoding::{Bgr8, Jpeg, Nv12, Rgb8, Yuyv};
        let three = rows(2, 4, &[Vec3b::from([1, 2, 3]); 8]);
        let two: Vec<Vec2b> = (0..8).map(|pixel| Vec2b::from([2 * pixel, 2 * pixel + 1])).collect();
        let planes: Vec<u8> = (0..12).collect();
        let file = [0xff, 0xd8, 7, 8, 9];
        for (image, encoding, expected) in [
            (&three, Bgr8, [1, 2, 3].repeat(8)),
            (&three, Rgb8, [3, 2, 1].repeat(8)),
            (&rows(2, 4, &two), Yuyv, (0..16).collect()),
            (&rows(3, 4, &planes), Nv12, planes.clone()),
            (&rows(1, 5, &file), Jpeg, file.to_vec()),
        ] {
            let frame = copied(image, encoding).unwrap();
            assert_eq!((frame.width, frame.height, frame.encoding), (4, 2, encoding));
            assert_eq!((&frame.data, frame.num_bytes()), (&expected, expected.len()), "{encoding:?}");
        }
    }

    #[test]
    fn another_layout_or_size_is_named() {
        use PixelEncoding::{Bgr8, Jpeg, Nv12, Yuyv};
        let three = rows(2, 4, &[Vec3b::from([1, 2, 3]); 8]);
        for (image, encoding, part) in [
            (&three, Yuyv, "format=YUY2"),
            (&three, Nv12, "format=NV12"),
            (&three, Jpeg, "image/jpeg"),
            (&rows(2, 4, &[0_u8; 8]), Bgr8, "format=BGR"),
            (&rows(1, 3, &[1_u8, 2, 3]), Jpeg, "\"jpeg\""),
            (&rows(4, 2, &[Vec2b::from([1, 2]); 8]), Yuyv, "gives 2x4 where the profile's camera has 4x2"),
            (&rows(6, 4, &[0_u8; 24]), Nv12, "gives 4x4 where"),
        ] {
            let problem = copied(image, encoding).unwrap_err();
            assert!(problem.contains(part) && !problem.contains('\n'), "{problem}");
        }
    }

    #[test]
    fn what_is_decoded_anyway_gives_no_raw_images() {
        for (device, is_refused) in [
            ("film.mp4", true),
            ("rtsp://10.0.0.2/stream", true),
            ("/dev/video0", false),
            ("csi:0", false),
            ("gstreamer: videotestsrc ! appsink", false),
        ] {
            let device = CameraDevice::parse(device).unwrap();
            let problem = refusal(&device, PixelEncoding::Yuyv);
            assert_eq!(problem.is_some(), is_refused, "{device}: {problem:?}");
            assert!(problem.is_none_or(|problem| problem.contains("camera.encoding = \"yuyv\"")));
            assert_eq!(refusal(&device, PixelEncoding::Bgr8), None);
        }
        assert!(refusal(&CameraDevice::Csi(0), PixelEncoding::Jpeg).is_some());
    }
}
