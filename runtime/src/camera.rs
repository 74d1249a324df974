//! Cameras, video files and folders of images through OpenCV: opened, negotiated with, reconnected to, calibrated.

mod beside;
mod calibrate;
mod device;
mod hand_eye;
mod live;
mod machine;
mod negotiate;
mod raw;
mod source;

pub use beside::CamerasBeside;
pub use calibrate::{Calibration, CalibrationView, Checkerboard, calibrate, find_checkerboard};
pub use device::CameraDevice;
pub use hand_eye::{HandEye, HandEyeView, Mounting, Spread, board_pose, disagreement, hand_eye};
pub use live::LiveCamera;
pub use machine::{CameraFinding, list_cameras};
pub use negotiate::CameraMode;
pub use source::{CameraOptions, CameraSource};

/// OpenCV's words on one line.
fn words(error: opencv::Error) -> String {
    error.message.split_whitespace().collect::<Vec<_>>().join(" ")
}
