//! Which camera: the one text of profiles and command lines, taken apart.

use std::path::{Path, PathBuf};

use foresee_firmware_config::{CameraProfile, PixelEncoding};

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CameraDevice {
    /// A Video4Linux device, such as `/dev/video0`.
    V4l2(PathBuf),
    /// A camera at a Jetson's CSI connector, through `nvarguscamerasrc`: its sensor number.
    Csi(u32),
    /// A network stream, such as `rtsp://10.0.0.2/stream`.
    Stream(String),
    /// A GStreamer pipeline that ends in `appsink`.
    Gstreamer(String),
    /// A video file.
    File(PathBuf),
    /// A folder of images, in the order of their names' numbers.
    Folder(PathBuf),
}

impl CameraDevice {
    /// Takes a text apart: `0` and `/dev/video0`, `csi:0`, `rtsp://...`, `gstreamer: ...`; anything else is a file or folder.
    ///
    /// # Errors
    /// What is wrong with a number or an empty text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(
                "give /dev/video0, csi:0, rtsp://..., `gstreamer: PIPELINE ! appsink`, a video file or a folder"
                    .to_owned(),
            );
        }
        if let Ok(number) = text.parse::<u32>() {
            return Ok(Self::V4l2(PathBuf::from(format!("/dev/video{number}"))));
        }
        if let Some(sensor) = text.strip_prefix("csi:") {
            let sensor = sensor.trim().parse();
            return sensor.map(Self::Csi).map_err(|_| format!("{text}: give the sensor's number, such as csi:0"));
        }
        if let Some(pipeline) = text.strip_prefix("gstreamer:") {
            return Ok(Self::Gstreamer(pipeline.trim().to_owned()));
        }
        let path = Path::new(text);
        Ok(match () {
            () if text.contains("://") => Self::Stream(text.to_owned()),
            () if path.starts_with("/dev") => Self::V4l2(path.to_owned()),
            () if path.is_dir() => Self::Folder(path.to_owned()),
            () => Self::File(path.to_owned()),
        })
    }

    /// Whether it goes on for ever: one that ends for a moment is waited for, and its frames age.
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::File(_) | Self::Folder(_))
    }

    /// The GStreamer pipeline that gives what the profile's camera has, for devices that are opened by one.
    pub(crate) fn pipeline(&self, camera: &CameraProfile) -> Option<String> {
        match self {
            Self::Gstreamer(pipeline) => Some(pipeline.clone()),
            Self::Csi(sensor) => {
                let rate = camera.rate_hertz.unwrap_or(30.0);
                let exposure = camera.exposure_millis.map_or_else(String::new, |millis| {
                    let nanos = (millis * 1e6).round() as u64;
                    format!(" aelock=true exposuretimerange=\"{nanos} {nanos}\"")
                });
                let (width, height) = (camera.width, camera.height);
                // NVIDIA's converter scales; pixels of three bytes OpenCV takes in the order blue, green, red. One frame waits at most.
                let format = match camera.encoding {
                    PixelEncoding::Nv12 => "NV12",
                    PixelEncoding::Yuyv => "YUY2",
                    PixelEncoding::Rgb8 | PixelEncoding::Bgr8 | PixelEncoding::Jpeg => {
                        "BGRx ! videoconvert ! video/x-raw, format=BGR"
                    }
                };
                Some(format!(
                    "nvarguscamerasrc sensor-id={sensor}{exposure} ! video/x-raw(memory:NVMM), format=NV12, framerate={}/1000 \
                     ! nvvidconv ! video/x-raw, width={width}, height={height}, format={format} \
                     ! appsink drop=true max-buffers=1 sync=false",
                    (rate * 1000.0).round() as u64
                ))
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for CameraDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V4l2(path) | Self::File(path) | Self::Folder(path) => path.display().fmt(formatter),
            Self::Csi(sensor) => write!(formatter, "csi:{sensor}"),
            Self::Stream(address) => formatter.write_str(address),
            Self::Gstreamer(pipeline) => write!(formatter, "gstreamer: {pipeline}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: CameraDevice| assert_eq!(CameraDevice::parse(text), Ok(expected), "{text}");
        check("2", CameraDevice::V4l2("/dev/video2".into()));
        check("/dev/v4l/by-id/usb-x", CameraDevice::V4l2("/dev/v4l/by-id/usb-x".into()));
        check("csi:1", CameraDevice::Csi(1));
        check("rtsp://a/b", CameraDevice::Stream("rtsp://a/b".to_owned()));
        check("gstreamer: videotestsrc ! appsink", CameraDevice::Gstreamer("videotestsrc ! appsink".to_owned()));
        check("film.mp4", CameraDevice::File("film.mp4".into()));
        check(&folder.path().display().to_string(), CameraDevice::Folder(folder.path().to_owned()));
        assert!(CameraDevice::parse("csi:left").unwrap_err().contains("csi:0"));
        assert!(CameraDevice::parse(" ").is_err());
    }

    #[test]
    fn a_csi_camera_gives_the_profiles_size_rate_and_exposure() {
        let camera = foresee_firmware_config::load("jetson-orin-nano").unwrap().camera;
        let camera = CameraProfile { exposure_millis: Some(8.0), ..camera };
        let pipeline = CameraDevice::parse("csi:0").unwrap().pipeline(&camera).unwrap();
        for part in ["sensor-id=0", "width=640, height=480", "framerate=30000/1000", "\"8000000 8000000\"", "appsink"] {
            assert!(pipeline.contains(part), "{pipeline} lacks {part}");
        }
        let camera = CameraProfile { encoding: PixelEncoding::Nv12, ..camera };
        let pipeline = CameraDevice::parse("csi:0").unwrap().pipeline(&camera).unwrap();
        assert!(pipeline.contains("height=480, format=NV12 ! appsink"), "{pipeline}");
    }
}
