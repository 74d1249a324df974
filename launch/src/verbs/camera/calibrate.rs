//! `foresee camera calibrate`: focal lengths, principal point and distortion from views of a checkerboard; with poses of the gripper, where the camera is mounted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::bail;
use clap::Args;
use foresee_runtime::{
    Calibration, CalibrationView, CameraDevice, CameraSource, Checkerboard, HandEye, Mounting, Observation, Spread,
    calibrate, disagreement, find_checkerboard,
};
use serde_json::json;

use super::poses::{read_poses, wxyz};
use super::tables;
use super::{DeviceArguments, next};
use crate::stop;
use crate::words::{print, say};

/// A view whose corners moved less than this share of the width since an accepted one tells nothing new.
const NEW_VIEW_SHARE: f32 = 0.02;
/// A calibration that is worse than this is not written.
const DEFAULT_MAX_ERROR_PIXELS: f64 = 1.0;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Inner corners of the checkerboard: in a row, and rows.
    #[arg(long, value_name = "COLUMNSxROWS", default_value = "9x6", value_parser = corners)]
    board: (u32, u32),
    /// Side of a square in metres, measured on the print.
    #[arg(long, value_name = "METRES")]
    square_metres: f64,
    /// Views to collect from a camera that goes on for ever.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(5..))]
    views: u32,
    /// Poses of the gripper by image name, for hand-eye calibration: JSON, as the handbook shows it.
    #[arg(long, value_name = "FILE.json")]
    poses: Option<PathBuf>,
    /// With --poses: the camera is fixed to the base, and the board to the gripper.
    #[arg(long, requires = "poses")]
    fixed_camera: bool,
    /// With --poses: if the board seems to move by more than this, it is a failure, and nothing is written.
    #[arg(long, default_value_t = 0.01, value_name = "METRES")]
    max_spread_metres: f64,
    /// With --poses: the same for how far the board seems to turn.
    #[arg(long, default_value_t = 0.035, value_name = "RADIANS")]
    max_spread_radians: f64,
    /// Profile to write [intrinsics] (and [mount]) into.
    #[arg(long, value_name = "FILE.toml")]
    write: Option<PathBuf>,
    /// A larger reprojection error is a failure, and nothing is written.
    #[arg(long, default_value_t = DEFAULT_MAX_ERROR_PIXELS, value_name = "PIXELS")]
    max_error_pixels: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    fn checkerboard(&self) -> Checkerboard {
        let (columns, rows) = self.board;
        Checkerboard { columns, rows, square_metres: self.square_metres }
    }
}

fn corners(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?}: give inner corners in a row and rows, such as 9x6"))
}

/// Views of the board, and the images in which it was not found.
#[derive(Default)]
struct Collected {
    views: Vec<CalibrationView>,
    without_board: Vec<String>,
}

pub(super) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if !(arguments.square_metres > 0.0 && arguments.square_metres < 10.0) {
        bail!("--square-metres {}: the side of a square in metres, such as 0.025", arguments.square_metres);
    }
    let board = arguments.checkerboard();
    let (columns, rows) = arguments.board;
    let poses = arguments.poses.as_deref().map(read_poses).transpose()?;
    if poses.is_some() && columns % 2 == rows % 2 {
        bail!(
            "--board {columns}x{rows}: looks the same when it is turned around, so that poses are ambiguous; take one with an even and an odd number, such as 9x6"
        );
    }
    let stop = stop::flag()?;
    let (mut source, device) = arguments.device.open()?;
    let collected = collect(arguments, &mut source, &device, &stop)?;
    let calibration = calibrate(&collected.views, &board)?;
    let mounting = if arguments.fixed_camera { Mounting::Base } else { Mounting::Gripper };
    let mount = poses.map(|poses| poses.mount(&collected.views, &board, &calibration.intrinsics, mounting));
    let mount = mount.transpose()?;
    let error = calibration.intrinsics.reprojection_error_pixels.unwrap_or(f64::INFINITY);
    let mut refusals = Vec::new();
    if error > arguments.max_error_pixels {
        refusals.push(format!(
            "{error:.2} pixels are more than --max-error-pixels {}; leave out the worst views, hold the board still, \
             and make sure that it is flat",
            arguments.max_error_pixels
        ));
    }
    if let Some((found, rows)) = &mount {
        let limits = Spread { metres: arguments.max_spread_metres, radians: arguments.max_spread_radians };
        refusals.extend(disagreement(rows, found, &limits, arguments.square_metres));
    }
    let mount = mount.map(|(found, _)| found);
    report(arguments, &collected, &calibration, mount.as_ref(), &refusals)?;
    let is_good = refusals.is_empty();
    let kept = arguments.write.as_ref().filter(|_| !is_good);
    let kept = kept.map_or_else(String::new, |file| format!("; {} is left as it was", file.display()));
    for refusal in &refusals {
        say(&format!("foresee: {refusal}{kept}"));
    }
    if let Some(file) = arguments.write.as_ref().filter(|_| is_good) {
        tables::write(file, &calibration.intrinsics, mount.as_ref())?;
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

fn collect(
    arguments: &Arguments,
    source: &mut CameraSource,
    device: &CameraDevice,
    stop: &AtomicBool,
) -> anyhow::Result<Collected> {
    let board = arguments.checkerboard();
    let mut collected = Collected::default();
    let mut observation = Observation::blank(1, 1, 0);
    while !(device.is_live() && collected.views.len() >= arguments.views as usize) {
        if next(source, &mut observation, stop)?.is_none() {
            break;
        }
        let name = source.last_name();
        let Some(view) = find_checkerboard(&observation.frame, &board, &name)? else {
            if !device.is_live() {
                collected.without_board.push(name);
            }
            continue;
        };
        // Images were chosen by hand; of a film only what moved is news.
        let is_chosen = matches!(device, CameraDevice::Folder(_));
        if is_chosen || collected.views.iter().all(|seen| is_new(&view, seen)) {
            collected.views.push(view);
            if device.is_live() {
                say(&format!("view {} of {}: move the board", collected.views.len(), arguments.views));
            }
        }
    }
    Ok(collected)
}

fn is_new(view: &CalibrationView, seen: &CalibrationView) -> bool {
    let distances = view.corners.iter().zip(&seen.corners).map(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]));
    distances.sum::<f32>() > NEW_VIEW_SHARE * view.width as f32 * view.corners.len() as f32
}

fn report(
    arguments: &Arguments,
    collected: &Collected,
    calibration: &Calibration,
    mount: Option<&HandEye>,
    refusals: &[String],
) -> anyhow::Result<()> {
    let lens = &calibration.intrinsics;
    let [fx, fy, cx, cy] = calibration.deviations_pixels;
    let views = collected.views.iter().zip(&calibration.view_errors_pixels);
    if arguments.json {
        let result = json!({
            "intrinsics": {
                "width": lens.width, "height": lens.height, "fx_pixels": lens.fx_pixels, "fy_pixels": lens.fy_pixels,
                "cx_pixels": lens.cx_pixels, "cy_pixels": lens.cy_pixels, "distortion": lens.distortion,
            },
            "deviations_pixels": { "fx": fx, "fy": fy, "cx": cx, "cy": cy },
            "reprojection_error_pixels": lens.reprojection_error_pixels,
            "views": views.map(|(view, error)| json!({ "name": view.name, "error_pixels": error })).collect::<Vec<_>>(),
            "without_board": collected.without_board,
            "refusals": refusals,
            "mount": mount.map(|mount| json!({
                "parent_from_camera_metres": mount.parent_from_camera.translation.vector.as_slice(),
                "parent_from_camera_quaternion_wxyz": wxyz(&mount.parent_from_camera),
                "spread_metres": mount.spread_metres, "spread_radians": mount.spread_radians,
            })),
        });
        print(&serde_json::to_string_pretty(&result)?);
        return Ok(());
    }
    for (view, error) in views {
        print(&format!("{error:>8.3} pixels  {}", view.name));
    }
    for name in &collected.without_board {
        print(&format!("  no board         {name}"));
    }
    let error = lens.reprojection_error_pixels.unwrap_or_default();
    print(&format!("reprojection error {error:.3} pixels over {} views", collected.views.len()));
    print(&format!(
        "fx {:.2} +- {fx:.2}  fy {:.2} +- {fy:.2}  cx {:.2} +- {cx:.2}  cy {:.2} +- {cy:.2} pixels",
        lens.fx_pixels, lens.fy_pixels, lens.cx_pixels, lens.cy_pixels
    ));
    let [k1, k2, p1, p2, k3, ..] = lens.distortion;
    print(&format!("distortion k1 k2 p1 p2 k3: {k1:.5} {k2:.5} {p1:.5} {p2:.5} {k3:.5}"));
    if let Some(mount) = mount {
        let place = mount.parent_from_camera.translation.vector;
        print(&format!(
            "{}_from_camera: [{:.4}, {:.4}, {:.4}] m, quaternion w x y z {:.5?}; the board seems to move by {:.1} mm and {:.4} rad",
            mount.mounting.parent(),
            place.x,
            place.y,
            place.z,
            wxyz(&mount.parent_from_camera),
            mount.spread_metres * 1e3,
            mount.spread_radians
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_two_numbers() {
        assert_eq!(corners("9x6"), Ok((9, 6)));
        assert!(corners("9").unwrap_err().contains("9x6") && corners("9x6x2").is_err());
    }
}
