//! `foresee camera`: which cameras are here, what one gives, and its calibration.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use foresee_firmware_config::{CameraProfile, IntrinsicsProfile, PixelEncoding, load};
use foresee_runtime::{
    Calibration, CalibrationView, CameraDevice, CameraOptions, CameraSource, Checkerboard, Clock, Frame, FrameSource,
    HandEye, HandEyeView, Observation, SourceEvent, board_pose, calibrate, find_checkerboard, hand_eye, list_cameras,
    write_atomically,
};
use nalgebra::{Isometry3, Quaternion, Translation3, UnitQuaternion};
use serde::Deserialize;
use serde_json::json;

use crate::stop;
use crate::words::{print, say};

/// How long a camera may give nothing.
const PATIENCE: Duration = Duration::from_secs(10);
/// A view whose corners moved less than this share of the width since an accepted one tells nothing new.
const NEW_VIEW_SHARE: f32 = 0.02;
/// A calibration that is worse than this is not written.
const DEFAULT_MAX_ERROR_PIXELS: f64 = 1.0;

/// Arguments of `foresee camera`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// List the cameras of this machine, and what stands against each.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take some frames: size, format, rate and age as they come; the last one as a picture.
    Preview(PreviewArguments),
    /// Measure focal lengths, principal point and distortion with a checkerboard; with poses of the gripper, where the camera is mounted.
    Calibrate(CalibrateArguments),
}

/// A camera, or the one of a profile.
#[derive(Args)]
struct DeviceArguments {
    /// /dev/video0, csi:0, rtsp://..., `gstreamer: PIPELINE ! appsink`, a video or a folder of images [default: the profile's]
    #[arg(value_name = "DEVICE", required_unless_present = "profile")]
    device: Option<String>,
    /// Take size, format, rate and exposure from this profile's [camera].
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
}

#[derive(Args)]
struct PreviewArguments {
    #[command(flatten)]
    device: DeviceArguments,
    /// Frames to take.
    #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,
    /// Picture of the last frame.
    #[arg(long, default_value = "preview.png", value_name = "FILE.png")]
    out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct CalibrateArguments {
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

impl CalibrateArguments {
    fn checkerboard(&self) -> Checkerboard {
        let (columns, rows) = self.board;
        Checkerboard { columns, rows, square_metres: self.square_metres }
    }
}

fn corners(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    parts.ok_or_else(|| format!("{text:?}: give inner corners in a row and rows, such as 9x6"))
}

/// Exit code 1 when there is no camera that can be used, or a calibration is too coarse.
///
/// # Errors
/// One line that names the camera, file or profile and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.what {
        What::List { json } => list(*json),
        What::Preview(arguments) => preview(arguments),
        What::Calibrate(arguments) => calibrate_with(arguments),
    }
}

fn list(as_json: bool) -> anyhow::Result<ExitCode> {
    let cameras = list_cameras();
    if as_json {
        let rows: Vec<_> = cameras
            .iter()
            .map(|camera| json!({ "device": camera.device, "name": camera.name, "problem": camera.problem }))
            .collect();
        print(&serde_json::to_string_pretty(&json!({ "cameras": rows }))?);
    } else if cameras.is_empty() {
        say("no Video4Linux camera; is one connected? csi:N, rtsp://... and gstreamer: are not listed");
    } else {
        for camera in &cameras {
            let problem = camera.problem.as_deref().unwrap_or("can be opened");
            print(&format!("{:<14} {:<32} {problem}", camera.device.display(), camera.name));
        }
    }
    let is_usable = cameras.iter().any(|camera| camera.problem.is_none());
    Ok(ExitCode::from(u8::from(!is_usable)))
}

impl DeviceArguments {
    fn open(&self) -> anyhow::Result<(CameraSource, CameraDevice)> {
        let camera = match &self.profile {
            Some(profile) => load(profile)?.camera,
            None => CameraProfile {
                name: "camera".to_owned(),
                device: None,
                width: 640,
                height: 480,
                encoding: PixelEncoding::Bgr8,
                rate_hertz: None,
                format: None,
                exposure_millis: None,
                reconnect_millis: 250,
            },
        };
        let named = self.device.as_deref().or(camera.device.as_deref());
        let named = named.with_context(|| {
            format!(
                "profile {}: has no camera.device; give one on the command line",
                self.profile.as_deref().unwrap_or_default()
            )
        })?;
        let device = CameraDevice::parse(named).map_err(anyhow::Error::msg)?;
        // A profile says what must come; without one, whatever comes is taken.
        let options = CameraOptions { camera, clock: Clock::Wall, any_size: self.profile.is_none() };
        Ok((CameraSource::open(&device, options)?, device))
    }
}

/// The next frame; `None` when the source has no more or was stopped.
fn next(source: &mut CameraSource, observation: &mut Observation, stop: &AtomicBool) -> anyhow::Result<Option<()>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match source.next(observation, Duration::from_millis(100))? {
            SourceEvent::Observed => return Ok(Some(())),
            SourceEvent::Finished => return Ok(None),
            _ if Instant::now() > deadline => {
                bail!(
                    "no frame came for {} s: {}",
                    PATIENCE.as_secs(),
                    source.lost().unwrap_or("the driver is silent")
                );
            }
            _ => {}
        }
    }
}

fn preview(arguments: &PreviewArguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let (mut source, device) = arguments.device.open()?;
    let mode = source.mode().cloned();
    let mut observation = Observation::blank(1, 1, 0);
    let (mut arrivals, mut oldest_millis) = (Vec::new(), 0.0_f64);
    while arrivals.len() < arguments.frames as usize {
        if next(&mut source, &mut observation, &stop)?.is_none() {
            break;
        }
        arrivals.push(Instant::now());
        let age = Clock::Wall.now().since(observation.frame.stamp);
        oldest_millis = oldest_millis.max(age.as_secs_f64() * 1e3);
    }
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else { bail!("{device}: gives no frame") };
    let seconds = last.duration_since(*first).as_secs_f64();
    let rate = if seconds > 0.0 { (arrivals.len() - 1) as f64 / seconds } else { 0.0 };
    picture(&observation.frame, &arguments.out)?;
    let age = device.is_live().then_some(oldest_millis);
    let frame = &observation.frame;
    if arguments.json {
        let mode = mode.map(|mode| {
            json!({ "width": mode.width, "height": mode.height, "rate_hertz": mode.rate_hertz, "format": mode.format, "backend": mode.backend })
        });
        let result = json!({
            "device": device.to_string(), "frames": arrivals.len(), "width": frame.width, "height": frame.height,
            "measured_rate_hertz": rate, "oldest_millis": age, "mode": mode, "picture": arguments.out,
        });
        print(&serde_json::to_string_pretty(&result)?);
    } else {
        let told = mode.map_or_else(String::new, |mode| {
            format!(
                "; the driver says {} {} at {:.1} Hz through {}",
                mode.format,
                format_args!("{}x{}", mode.width, mode.height),
                mode.rate_hertz,
                mode.backend
            )
        });
        let age = age.map_or_else(String::new, |millis| format!(", at most {millis:.1} ms old"));
        print(&format!(
            "{device}: {} frames of {}x{} at {rate:.1} Hz{age}{told}",
            arrivals.len(),
            frame.width,
            frame.height
        ));
        print(&format!("  {}", arguments.out.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn picture(frame: &Frame, file: &Path) -> anyhow::Result<()> {
    let mut data = frame.data.clone();
    if frame.encoding == PixelEncoding::Bgr8 {
        data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    }
    let image = image::RgbImage::from_raw(frame.width, frame.height, data).context("a frame of another size")?;
    image.save(file).with_context(|| format!("{}: cannot be written", file.display()))
}

/// Views of the board, and the images in which it was not found.
#[derive(Default)]
struct Collected {
    views: Vec<CalibrationView>,
    without_board: Vec<String>,
}

fn calibrate_with(arguments: &CalibrateArguments) -> anyhow::Result<ExitCode> {
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
    let mount = poses.map(|poses| mount(&collected.views, &poses, &board, &calibration.intrinsics)).transpose()?;
    let error = calibration.intrinsics.reprojection_error_pixels.unwrap_or(f64::INFINITY);
    let is_good = error <= arguments.max_error_pixels;
    report(arguments, &collected, &calibration, mount.as_ref())?;
    match &arguments.write {
        Some(file) if is_good => write(file, &calibration.intrinsics, mount.as_ref())?,
        Some(file) => say(&format!(
            "foresee: {error:.2} pixels are more than --max-error-pixels {}: {} is left as it was; leave out the worst views, hold the board still, and make sure that it is flat",
            arguments.max_error_pixels,
            file.display()
        )),
        None => {}
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

fn collect(
    arguments: &CalibrateArguments,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PosesFile {
    views: Vec<PoseRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoseRow {
    image: String,
    base_from_gripper_metres: [f64; 3],
    base_from_gripper_quaternion_wxyz: [f64; 4],
}

/// Poses of the gripper by image name.
fn read_poses(file: &Path) -> anyhow::Result<HashMap<String, Isometry3<f64>>> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let shape = "{\"views\": [{\"image\", \"base_from_gripper_metres\": [x, y, z], \"base_from_gripper_quaternion_wxyz\": [w, x, y, z]}]}";
    let poses: PosesFile = serde_json::from_str(&text)
        .with_context(|| format!("{}: not poses; they look like {shape}", file.display()))?;
    let mut by_image = HashMap::new();
    for row in poses.views {
        let [w, x, y, z] = row.base_from_gripper_quaternion_wxyz;
        let quaternion = Quaternion::new(w, x, y, z);
        if !quaternion.norm().is_finite() || (quaternion.norm() - 1.0).abs() > 1e-3 {
            bail!(
                "{}: image {:?}: base_from_gripper_quaternion_wxyz = {:?}: is not of length 1",
                file.display(),
                row.image,
                [w, x, y, z]
            );
        }
        let [x, y, z] = row.base_from_gripper_metres;
        let pose = Isometry3::from_parts(Translation3::new(x, y, z), UnitQuaternion::from_quaternion(quaternion));
        if by_image.insert(row.image.clone(), pose).is_some() {
            bail!("{}: image {:?} is given twice", file.display(), row.image);
        }
    }
    Ok(by_image)
}

fn mount(
    views: &[CalibrationView],
    poses: &HashMap<String, Isometry3<f64>>,
    board: &Checkerboard,
    lens: &IntrinsicsProfile,
) -> anyhow::Result<HandEye> {
    let with_pose = views.iter().filter_map(|view| Some((view, *poses.get(&view.name)?)));
    let views = with_pose
        .map(|(view, base_from_gripper)| {
            Ok(HandEyeView { base_from_gripper, camera_from_board: board_pose(view, board, lens)? })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    hand_eye(&views).map_err(Into::into)
}

fn report(
    arguments: &CalibrateArguments,
    collected: &Collected,
    calibration: &Calibration,
    mount: Option<&HandEye>,
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
            "mount": mount.map(|mount| json!({
                "parent_from_camera_metres": mount.gripper_from_camera.translation.vector.as_slice(),
                "parent_from_camera_quaternion_wxyz": wxyz(&mount.gripper_from_camera),
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
    print(&format!("distortion k1 k2 p1 p2 k3: {:.5?}", lens.distortion));
    if let Some(mount) = mount {
        let place = mount.gripper_from_camera.translation.vector;
        print(&format!(
            "gripper_from_camera: [{:.4}, {:.4}, {:.4}] m, quaternion w x y z {:.5?}; the board seems to move by {:.1} mm and {:.4} rad",
            place.x,
            place.y,
            place.z,
            wxyz(&mount.gripper_from_camera),
            mount.spread_metres * 1e3,
            mount.spread_radians
        ));
    }
    Ok(())
}

fn wxyz(pose: &Isometry3<f64>) -> [f64; 4] {
    let quaternion = pose.rotation;
    [quaternion.w, quaternion.i, quaternion.j, quaternion.k]
}

/// Puts the tables into the profile in the place of older ones. A profile that does not hold together with them stays as it was.
fn write(file: &Path, lens: &IntrinsicsProfile, mount: Option<&HandEye>) -> anyhow::Result<()> {
    let old =
        std::fs::read_to_string(file).with_context(|| format!("{}: give a profile that is there", file.display()))?;
    let table = format!(
        "[intrinsics]\nwidth = {}\nheight = {}\nfx_pixels = {:?}\nfy_pixels = {:?}\ncx_pixels = {:?}\ncy_pixels = {:?}\ndistortion = {:?}\nreprojection_error_pixels = {:?}\n",
        lens.width,
        lens.height,
        lens.fx_pixels,
        lens.fy_pixels,
        lens.cx_pixels,
        lens.cy_pixels,
        lens.distortion,
        lens.reprojection_error_pixels.unwrap_or_default(),
    );
    let mut text = with_table(&old, "intrinsics", &table);
    if let Some(mount) = mount {
        let place = mount.gripper_from_camera.translation.vector;
        let table = format!(
            "[mount]\nparent = \"gripper\"\nparent_from_camera_metres = [{:?}, {:?}, {:?}]\nparent_from_camera_quaternion_wxyz = {:?}\n",
            place.x,
            place.y,
            place.z,
            wxyz(&mount.gripper_from_camera)
        );
        text = with_table(&text, "mount", &table);
    }
    write_atomically(file, text.as_bytes())?;
    if let Err(error) = load(&file.display().to_string()) {
        write_atomically(file, old.as_bytes())?;
        bail!("{error}; {} is left as it was", file.display());
    }
    say(&format!("{}: [intrinsics]{} written", file.display(), if mount.is_some() { " and [mount]" } else { "" }));
    Ok(())
}

/// The text with this table in the place of the one of that name, or at its end.
fn with_table(text: &str, name: &str, table: &str) -> String {
    let header = format!("[{name}]");
    let lines: Vec<&str> = text.lines().collect();
    let Some(first) = lines.iter().position(|line| line.trim() == header) else {
        return format!("{}\n\n{table}", text.trim_end());
    };
    let rest = lines.iter().skip(first + 1);
    let next =
        rest.clone().position(|line| line.trim_start().starts_with('[')).map_or(lines.len(), |idx| first + 1 + idx);
    // Blank lines and comments before the next table are the next table's.
    let is_own = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let last = (first..next).rev().find(|idx| lines.get(*idx).is_some_and(is_own)).unwrap_or(first);
    let before = lines.iter().take(first).copied();
    let after = lines.iter().skip(last + 1).copied();
    let mut written: Vec<&str> = before.chain([table.trim_end()]).chain(after).collect();
    written.push("");
    written.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_takes_the_place_of_the_old_one_and_leaves_the_rest() {
        let old = "robot = \"a\"\n\n[mount]\nparent = \"x\" # old\n\n# the pace\n[pace]\nkind = \"fixed\"\n";
        let new = with_table(old, "mount", "[mount]\nparent = \"gripper\"\n");
        assert_eq!(new, "robot = \"a\"\n\n[mount]\nparent = \"gripper\"\n\n# the pace\n[pace]\nkind = \"fixed\"\n");
        let added = with_table(old, "intrinsics", "[intrinsics]\nwidth = 1\n");
        assert_eq!(added, format!("{old}\n[intrinsics]\nwidth = 1\n"));
        assert_eq!(
            with_table(&added, "intrinsics", "[intrinsics]\nwidth = 2\n"),
            added.replace("width = 1", "width = 2")
        );
    }

    #[test]
    fn a_board_is_two_numbers() {
        assert_eq!(corners("9x6"), Ok((9, 6)));
        assert!(corners("9").unwrap_err().contains("9x6") && corners("9x6x2").is_err());
    }
}
