//! How long a log lasts until it is as large as it may be: told before a robot starts.

use foresee_firmware_config::{CameraProfile, DeviceProfile, Pace, PixelEncoding};

/// Logs that last longer need no warning.
const LONG_ENOUGH_MINUTES: f64 = 8.0 * 60.0;
/// A JPEG image of a camera has about this many bytes a pixel.
const JPEG_BYTES_PER_PIXEL: f64 = 0.25;

/// A line for people when the log of a robot will be full within hours, with the estimated time.
pub(crate) fn warning(profile: &DeviceProfile, max_bytes: u64) -> Option<String> {
    let Pace::Fixed { rate_hertz, .. } = profile.pace else { return None };
    let bytes_per_second = bytes_per_tick(profile) * rate_hertz;
    let minutes = max_bytes as f64 / bytes_per_second / 60.0;
    (minutes < LONG_ENOUGH_MINUTES).then(|| {
        format!(
            "log: images of {:.0} MB/s before compression fill its {:.1} GiB in about {minutes:.0} minutes, then it ends and the run goes on; allow more with --max-log-mebibytes, record JPEG ([camera] encoding = \"jpeg\"), or give --no-log",
            bytes_per_second / 1e6,
            max_bytes as f64 / f64::from(1 << 30)
        )
    })
}

fn bytes_per_tick(profile: &DeviceProfile) -> f64 {
    let extra = profile.extra_cameras.iter().map(|extra| &extra.camera);
    std::iter::once(&profile.camera).chain(extra).map(bytes_per_image).sum()
}

fn bytes_per_image(camera: &CameraProfile) -> f64 {
    let bytes_per_pixel = match camera.encoding {
        PixelEncoding::Rgb8 | PixelEncoding::Bgr8 => 3.0,
        PixelEncoding::Yuyv => 2.0,
        PixelEncoding::Nv12 => 1.5,
        PixelEncoding::Jpeg => JPEG_BYTES_PER_PIXEL,
    };
    f64::from(camera.width) * f64::from(camera.height) * bytes_per_pixel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_images_fill_a_log_within_minutes_and_small_ones_do_not() {
        let profile = |camera: &str, pace: &str| {
            let text = format!("inherit = \"desktop-sim\"\n[camera]\nname = \"c\"\n{camera}\n[pace]\n{pace}\n");
            foresee_firmware_config::parse("mine.toml", &text).unwrap()
        };
        let fixed = "kind = \"fixed\"\nrate_hertz = 30.0\nmax_frame_age_millis = 100";
        let raw = "width = 640\nheight = 480\nencoding = \"rgb8\"";
        let line = warning(&profile(raw, fixed), 8 << 30).unwrap();
        // 8 GiB / (640 * 480 * 3 bytes * 30 Hz) = 311 s.
        assert!(
            line.contains("28 MB/s") && line.contains("about 5 minutes") && line.contains("--max-log-mebibytes"),
            "{line}"
        );
        assert_eq!(warning(&profile(raw, fixed), 1 << 50), None);
        assert_eq!(warning(&profile("width = 64\nheight = 64\nencoding = \"jpeg\"", fixed), 8 << 30), None);
        let lockstep = "kind = \"lockstep\"\nperiod_millis = 20\nanswer_timeout_millis = 2000";
        assert_eq!(warning(&profile(raw, lockstep), 8 << 30), None);
    }
}
