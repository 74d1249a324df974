//! Cameras beside the first one, the tables `[[extra_cameras]]`: as written and as checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Checked, Problem, camera, key_part, within, wrong};
use crate::lens::{IntrinsicsProfile, RawIntrinsics, intrinsics};
use crate::profile::{CameraProfile, Pace, PixelEncoding};
use crate::raw::RawCamera;

/// More images than this go through no session at once.
const MAX_CAMERAS: usize = 8;

/// A camera beside the first one. Its frames come over zenoh at `camera/<name>/image`, or from its device.
#[derive(Clone, Debug, PartialEq)]
pub struct ExtraCameraProfile {
    /// The camera.
    pub camera: CameraProfile,
    /// Its name in a simulated model, where that is another one than in the zenoh key.
    pub source: Option<String>,
    /// Its calibration.
    pub intrinsics: Option<IntrinsicsProfile>,
    /// Older frames are not answered; `None` in lockstep, where frames do not age.
    pub max_frame_age_millis: Option<u64>,
    /// What preprocessing and encoding its images may take in a tick; `None`: measured, not watched.
    pub budget_millis: Option<f64>,
}

/// When the images of several cameras go through the encoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CameraOrder {
    /// All of them, as one batch.
    #[default]
    Batch,
    /// One after the other, one a tick; the others' last features serve.
    RoundRobin,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExtraCamera {
    /// Camera name in the key `camera/<name>/image`, and in the model or driver without `source`: letters, digits, `-` and `_`.
    name: String,
    /// Camera name in a simulated model, where it is another one, such as `head/left eye`.
    source: Option<String>,
    /// As `camera.device`; without it frames come over zenoh.
    device: Option<String>,
    /// Pixels, 1 to 16384.
    width: u32,
    /// Pixels, 1 to 16384.
    height: u32,
    /// As `camera.encoding`.
    encoding: PixelEncoding,
    /// Frames a second to ask the driver for.
    rate_hertz: Option<f64>,
    /// Pixel format to ask the driver for, as V4L2's four letters.
    format: Option<String>,
    /// Fixed exposure time; without it the driver chooses.
    exposure_millis: Option<f64>,
    /// How long a camera that went away is waited for before it is tried again, at first; doubles up to 5 s.
    reconnect_millis: Option<u64>,
    /// Older frames are not answered; the pace's without it.
    max_frame_age_millis: Option<u64>,
    /// What preprocessing and encoding its images may take in a tick; measured, but not watched without it.
    budget_millis: Option<f64>,
    /// Its calibration, as `[intrinsics]`.
    intrinsics: Option<RawIntrinsics>,
}

/// Checks the cameras beside the `first`.
pub(crate) fn extra_cameras(
    raw: Vec<RawExtraCamera>,
    first: &CameraProfile,
    pace: Pace,
) -> Checked<Vec<ExtraCameraProfile>> {
    if raw.len() >= MAX_CAMERAS {
        let rule = format!("at most {} beside the first", MAX_CAMERAS - 1);
        return Err(wrong("extra_cameras", format!("{} tables", raw.len()), &rule));
    }
    let mut checked: Vec<ExtraCameraProfile> = Vec::with_capacity(raw.len());
    for (idx, raw) in raw.into_iter().enumerate() {
        let key = |field: &str| format!("extra_cameras[{idx}].{field}");
        camera_key(&key("name"), &raw.name)?;
        if raw.name == first.name || checked.iter().any(|other| other.camera.name == raw.name) {
            return Err(wrong(
                &key("name"),
                format!("{:?}", raw.name),
                "another camera has this name; each needs its own",
            ));
        }
        let max_frame_age_millis = match (pace, raw.max_frame_age_millis) {
            (Pace::Lockstep { .. }, Some(millis)) => {
                let rule = "frames do not age in lockstep: leave it out, or pace.kind = \"fixed\"";
                return Err(wrong(&key("max_frame_age_millis"), millis, rule));
            }
            (Pace::Lockstep { .. }, None) => None,
            (Pace::Fixed { max_frame_age_millis, .. }, given) => Some(given.unwrap_or(max_frame_age_millis)),
        };
        if let Some(millis) = max_frame_age_millis {
            within(&key("max_frame_age_millis"), millis, 1..=60_000)?;
        }
        if let Some(millis) = raw.budget_millis {
            within(&key("budget_millis"), millis, 0.001..=60_000.0)?;
        }
        let here = |problem: Problem| Problem { key: key(problem.key.trim_start_matches("camera.")), ..problem };
        let (lens, budget_millis, source) = (raw.intrinsics.clone(), raw.budget_millis, raw.source.clone());
        let camera = camera(raw.into_camera()).map_err(here)?;
        let intrinsics = lens.map(|lens| intrinsics(&lens, &camera)).transpose().map_err(here)?;
        checked.push(ExtraCameraProfile { camera, source, intrinsics, max_frame_age_millis, budget_millis });
    }
    Ok(checked)
}

/// As any part of a key; a model's name that is none goes into `source`.
fn camera_key(key: &str, name: &str) -> Checked<()> {
    key_part(key, name).map_err(|problem| Problem {
        rule: format!(
            "{}; a model's name that is none goes into source = {name:?} beside a name of your own",
            problem.rule
        ),
        ..problem
    })
}

impl RawExtraCamera {
    fn into_camera(self) -> RawCamera {
        let Self {
            name, device, width, height, encoding, rate_hertz, format, exposure_millis, reconnect_millis, ..
        } = self;
        RawCamera { name, device, width, height, encoding, rate_hertz, format, exposure_millis, reconnect_millis }
    }
}
