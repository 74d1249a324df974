//! What is asked of a driver, and what it then gives: size, pixel format, rate, exposure.

use foresee_firmware_config::CameraProfile;
use opencv::core::Vector;
use opencv::videoio::{
    CAP_FFMPEG, CAP_GSTREAMER, CAP_PROP_AUTO_EXPOSURE, CAP_PROP_BUFFERSIZE, CAP_PROP_CONVERT_RGB, CAP_PROP_EXPOSURE,
    CAP_PROP_FOURCC, CAP_PROP_FPS, CAP_PROP_FRAME_HEIGHT, CAP_PROP_FRAME_WIDTH, CAP_PROP_OPEN_TIMEOUT_MSEC,
    CAP_PROP_READ_TIMEOUT_MSEC, CAP_V4L2, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst, VideoWriter,
    get_backends,
};

use super::device::CameraDevice;
use super::machine::obstacle;
use super::words;

const OPEN_TIMEOUT_MILLIS: i32 = 5000;
const READ_TIMEOUT_MILLIS: i32 = 2000;
/// `V4L2_EXPOSURE_MANUAL` of linux/v4l2-controls.h.
const EXPOSURE_MANUAL: f64 = 1.0;
/// `V4L2_CID_EXPOSURE_ABSOLUTE` counts in 100 microseconds.
const EXPOSURE_UNITS_PER_MILLI: f64 = 10.0;
/// A driver rounds an exposure to what its sensor can; further off, it did not take it.
const EXPOSURE_TOLERANCE: f64 = 0.2;

/// What a driver says that it gives.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraMode {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames a second; 0 where the driver does not say.
    pub rate_hertz: f64,
    /// V4L2's four letters; empty where the driver does not say.
    pub format: String,
    /// OpenCV's backend, such as `V4L2`.
    pub backend: String,
}

/// Opens a device and asks it for what the profile has.
pub(super) fn open(
    device: &CameraDevice,
    camera: &CameraProfile,
    any_size: bool,
) -> Result<(VideoCapture, CameraMode), String> {
    // OpenCV's own warnings go to standard error; what is wrong is told here.
    opencv::core::set_log_level(opencv::core::LogLevel::LOG_LEVEL_SILENT).map_err(words)?;
    let capture = match device {
        CameraDevice::V4l2(path) => open_v4l2(path, camera)?,
        CameraDevice::Csi(_) | CameraDevice::Gstreamer(_) => {
            let pipeline = device.pipeline(camera).unwrap_or_default();
            open_pipeline(&pipeline).map_err(|problem| match device {
                CameraDevice::Csi(_) => format!("{problem}; nvarguscamerasrc is on NVIDIA's Jetsons alone"),
                _ => problem,
            })?
        }
        CameraDevice::Stream(address) => {
            let timeouts =
                [CAP_PROP_OPEN_TIMEOUT_MSEC, OPEN_TIMEOUT_MILLIS, CAP_PROP_READ_TIMEOUT_MSEC, READ_TIMEOUT_MILLIS];
            let capture = VideoCapture::from_file_with_params(address, CAP_FFMPEG, &Vector::from_slice(&timeouts));
            opened(capture, "does not answer; is the address right, and the camera on the network?")?
        }
        CameraDevice::File(_) => return Err("is a file: its frames are read one by one".to_owned()),
        CameraDevice::Folder(_) => return Err("is a folder: its images are read one by one".to_owned()),
    };
    let mode = mode(&capture)?;
    if device.is_live() && !any_size && (mode.width, mode.height) != (camera.width, camera.height) {
        return Err(format!(
            "gives {}x{} where the profile's camera has {}x{}; make camera.width and camera.height what the camera can",
            mode.width, mode.height, camera.width, camera.height
        ));
    }
    Ok((capture, mode))
}

fn open_v4l2(path: &std::path::Path, camera: &CameraProfile) -> Result<VideoCapture, String> {
    if let Some(problem) = obstacle(path) {
        return Err(problem);
    }
    let mut wanted = Vec::new();
    let raw = camera.encoding.driver_format();
    // The format comes first: sizes and rates are those of a format.
    if let Some(letters) = raw.or(camera.format) {
        let [a, b, c, d] = letters.map(char::from);
        wanted.extend([CAP_PROP_FOURCC, VideoWriter::fourcc(a, b, c, d).map_err(words)?]);
    }
    let pixels = |pixels: u32| i32::try_from(pixels).unwrap_or(i32::MAX);
    wanted.extend([CAP_PROP_FRAME_WIDTH, pixels(camera.width), CAP_PROP_FRAME_HEIGHT, pixels(camera.height)]);
    if let Some(rate) = camera.rate_hertz {
        wanted.extend([CAP_PROP_FPS, rate.round() as i32]);
    }
    let text = path.display().to_string();
    // A number where it is one: older builds of OpenCV open no other path.
    let number = text.strip_prefix("/dev/video").and_then(|number| number.parse().ok());
    let parameters = Vector::from_slice(&wanted);
    let capture = match number {
        Some(number) => VideoCapture::new_with_params(number, CAP_V4L2, &parameters),
        None => VideoCapture::from_file_with_params(&text, CAP_V4L2, &parameters),
    };
    let mut capture = opened(
        capture,
        "the driver refuses; does it give images? of a camera with several devices, the first mostly does",
    )?;
    // Fewer frames in the driver's queue are fresher frames; not every driver obeys.
    let _ = capture.set(CAP_PROP_BUFFERSIZE, 1.0);
    if let Some(letters) = raw.or(camera.format) {
        let (wanted, given) = (String::from_utf8_lossy(&letters).into_owned(), mode(&capture)?.format);
        if wanted != given {
            let key = match raw {
                Some(_) => format!("camera.encoding = \"{}\"", camera.encoding.name()),
                None => "camera.format".to_owned(),
            };
            return Err(format!(
                "gives {given} where {key} asks for {wanted}; `v4l2-ctl --list-formats-ext` says what it can"
            ));
        }
    }
    if raw.is_some() && !capture.set(CAP_PROP_CONVERT_RGB, 0.0).map_err(words)? {
        let name = camera.encoding.name();
        return Err(format!("hands out no raw images for camera.encoding = \"{name}\"; give \"bgr8\" or \"rgb8\""));
    }
    if let Some(millis) = camera.exposure_millis {
        expose(&mut capture, millis)?;
    }
    Ok(capture)
}

fn expose(capture: &mut VideoCapture, millis: f64) -> Result<(), String> {
    let is_manual = capture.set(CAP_PROP_AUTO_EXPOSURE, EXPOSURE_MANUAL).map_err(words)?;
    let is_set = capture.set(CAP_PROP_EXPOSURE, millis * EXPOSURE_UNITS_PER_MILLI).map_err(words)?;
    let given = capture.get(CAP_PROP_EXPOSURE).map_err(words)? / EXPOSURE_UNITS_PER_MILLI;
    if is_manual && is_set && (given - millis).abs() <= EXPOSURE_TOLERANCE * millis {
        return Ok(());
    }
    Err(format!(
        "the driver does not take camera.exposure_millis = {millis}: it is at {given} ms; leave the key out, or give what the camera can"
    ))
}

fn open_pipeline(pipeline: &str) -> Result<VideoCapture, String> {
    let has_gstreamer = get_backends().map_err(words)?.iter().any(|backend| backend as i32 == CAP_GSTREAMER);
    if !has_gstreamer {
        return Err("this OpenCV was built without GStreamer; install one that has it, such as Debian's or JetPack's"
            .to_owned());
    }
    if !pipeline.contains("appsink") {
        return Err(format!("`{pipeline}`: a pipeline ends in `! appsink`, from which the images are taken"));
    }
    let problem =
        format!("GStreamer cannot play `{pipeline}`; try it with gst-launch-1.0, and `fakesink` for `appsink`");
    opened(VideoCapture::from_file(pipeline, CAP_GSTREAMER), &problem)
}

fn opened(capture: opencv::Result<VideoCapture>, problem: &str) -> Result<VideoCapture, String> {
    let capture = capture.map_err(words)?;
    if capture.is_opened().map_err(words)? { Ok(capture) } else { Err(problem.to_owned()) }
}

fn mode(capture: &VideoCapture) -> Result<CameraMode, String> {
    let get = |property: i32| capture.get(property).map_err(words);
    // The four letters are the bytes of a number, the lowest first.
    let letters = (get(CAP_PROP_FOURCC)? as u32).to_le_bytes();
    let is_text = letters.iter().all(u8::is_ascii_graphic);
    Ok(CameraMode {
        width: get(CAP_PROP_FRAME_WIDTH)? as u32,
        height: get(CAP_PROP_FRAME_HEIGHT)? as u32,
        rate_hertz: get(CAP_PROP_FPS)?.max(0.0),
        format: if is_text { String::from_utf8_lossy(&letters).into_owned() } else { String::new() },
        backend: capture.get_backend_name().map_err(words)?,
    })
}
