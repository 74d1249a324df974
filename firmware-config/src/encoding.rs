//! Whether a camera can give its images in the encoding that the profile wants.

use crate::check::{Checked, wrong};
use crate::profile::{CameraProfile, PixelEncoding};

const PLAIN: &str = "give \"bgr8\" or \"rgb8\"";

/// Checks encoding, size, format and device against each other.
pub(crate) fn encoding(camera: &CameraProfile) -> Checked<()> {
    if camera.encoding.is_interleaved_rgb() {
        return Ok(());
    }
    let name = camera.encoding.name();
    let halved = [
        ("camera.width", camera.width, camera.encoding != PixelEncoding::Jpeg),
        ("camera.height", camera.height, camera.encoding == PixelEncoding::Nv12),
    ];
    if let Some((key, pixels, _)) = halved.iter().find(|(_, pixels, is_halved)| *is_halved && pixels % 2 == 1) {
        return Err(wrong(
            key,
            pixels,
            &format!("must be even: encoding = \"{name}\" has colours of two pixels at once"),
        ));
    }
    let Some(device) = camera.device.as_deref() else { return Ok(()) };
    if let Some(why) = raw_refusal(device, camera.encoding) {
        return Err(wrong("camera.encoding", format!("\"{name}\""), &format!("{why} (device = {device:?}): {PLAIN}")));
    }
    // The bytes come as the driver has them, so that its format is the encoding.
    match camera.encoding.driver_format().zip(camera.format).filter(|(format, given)| given != format) {
        None => Ok(()),
        Some((format, given)) => {
            let [given, format] = [&given, &format].map(|letters| String::from_utf8_lossy(letters).into_owned());
            let rule =
                format!("encoding = \"{name}\" is the driver's format \"{format}\": leave format out, or {PLAIN}");
            Err(wrong("camera.format", format!("\"{given}\""), &rule))
        }
    }
}

/// Why a device, as `camera.device` names it, cannot give its images in this encoding, if it cannot.
pub fn raw_refusal(device: &str, encoding: PixelEncoding) -> Option<&'static str> {
    if encoding.is_interleaved_rgb() {
        return None;
    }
    let device = device.trim();
    let is_driver = device.starts_with("/dev/") || device.parse::<u32>().is_ok() || device.starts_with("gstreamer:");
    match device.starts_with("csi:") {
        true if encoding == PixelEncoding::Jpeg => Some("a CSI camera gives pixels, not JPEG files"),
        true => None,
        false if is_driver => None,
        false => Some("files, folders and streams are decoded to pixels of three bytes"),
    }
}

#[cfg(test)]
mod tests {
    fn check(camera: &str, expected: Option<&str>) {
        let pace = "[pace]\nkind = \"fixed\"\nrate_hertz = 30.0\nmax_frame_age_millis = 100\n";
        let text = format!("inherit = \"desktop-sim\"\n{pace}[camera]\nname = \"c\"\n{camera}");
        let problem = crate::load::parse("mine", &text).err().map(|error| error.to_string());
        match (problem, expected) {
            (None, None) => {}
            (Some(problem), Some(expected)) => assert!(problem.contains(expected), "{problem}"),
            other => panic!("{camera}: {other:?}"),
        }
    }

    #[test]
    fn what_a_device_cannot_give_is_named() {
        let camera =
            |encoding: &str, more: &str| format!("width = 640\nheight = 480\nencoding = \"{encoding}\"\n{more}");
        for (encoding, device, expected) in [
            ("yuyv", "/dev/video0", None),
            ("jpeg", "0", None),
            ("nv12", "csi:0", None),
            ("nv12", "gstreamer: videotestsrc ! appsink", None),
            ("bgr8", "film.mp4", None),
            ("jpeg", "csi:0", Some("camera.encoding = \"jpeg\": a CSI camera")),
            ("yuyv", "film.mp4", Some("camera.encoding = \"yuyv\": files, folders and streams are decoded")),
            ("nv12", "rtsp://10.0.0.2/stream", Some("camera.encoding = \"nv12\"")),
            ("jpeg", "folder", Some("(device = \"folder\"): give \"bgr8\"")),
        ] {
            check(&camera(encoding, &format!("device = {device:?}\n")), expected);
        }
        let driver = |format: &str| format!("device = \"/dev/video0\"\nformat = \"{format}\"\n");
        check(&camera("yuyv", &driver("YUYV")), None);
        check(&camera("bgr8", &driver("MJPG")), None);
        check(&camera("yuyv", &driver("MJPG")), Some("camera.format = \"MJPG\": encoding = \"yuyv\" is"));
        // Over zenoh a robot sends what it has.
        check(&camera("jpeg", ""), None);
        check("width = 641\nheight = 480\nencoding = \"yuyv\"", Some("camera.width = 641: must be even"));
        check("width = 640\nheight = 481\nencoding = \"nv12\"", Some("camera.height = 481: must be even"));
        check("width = 641\nheight = 481\nencoding = \"jpeg\"", None);
    }
}
