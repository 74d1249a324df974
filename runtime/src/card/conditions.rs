//! What a policy was trained under, and where it may be served: its cameras and its command period.

use foresee_firmware_config::DeviceProfile;
use serde::{Deserialize, Serialize};

use super::{ModelCard, ModelKind};

/// The key of the card's recipe under which the conditions lie.
const CONDITIONS_KEY: &str = "conditions";
/// Periods may differ by this share: clocks of cameras do.
const MAX_PERIOD_DIFFERENCE: f64 = 0.01;

/// Cameras and command period that a policy was trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyConditions {
    /// In the order of the profile.
    pub cameras: Vec<CameraConditions>,
    /// Time from one command to the next.
    pub command_period_seconds: f64,
}

/// A camera that a policy was trained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CameraConditions {
    /// Name in the profile.
    pub name: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl std::fmt::Display for CameraConditions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` {}x{}", self.name, self.width, self.height)
    }
}

impl PolicyConditions {
    /// Those of a profile.
    pub fn of(profile: &DeviceProfile) -> Self {
        let extra = profile.extra_cameras.iter().map(|extra| &extra.camera);
        let camera = |camera: &foresee_firmware_config::CameraProfile| CameraConditions {
            name: camera.name.clone(),
            width: camera.width,
            height: camera.height,
        };
        Self {
            cameras: std::iter::once(&profile.camera).chain(extra).map(camera).collect(),
            command_period_seconds: profile.pace.period().as_secs_f64(),
        }
    }

    /// As a value of a card's recipe, under its key.
    pub fn in_recipe(&self, recipe: &mut serde_json::Value) {
        if let (Some(recipe), Ok(conditions)) = (recipe.as_object_mut(), serde_json::to_value(self)) {
            recipe.insert(CONDITIONS_KEY.to_owned(), conditions);
        }
    }

    /// Whether a policy that was trained so may run on a robot of this profile.
    ///
    /// # Errors
    /// A text with both values and the fix.
    pub fn check(&self, profile: &DeviceProfile) -> Result<(), String> {
        let here = Self::of(profile);
        let cameras =
            |conditions: &Self| conditions.cameras.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if self.cameras != here.cameras {
            return Err(format!(
                "was trained with camera {}, and profile {} has {}; give the profile that it was trained with, or train it for this one",
                cameras(self),
                profile.name,
                cameras(&here)
            ));
        }
        let (then, now) = (self.command_period_seconds, here.command_period_seconds);
        if (then - now).abs() > MAX_PERIOD_DIFFERENCE * then.max(now) {
            return Err(format!(
                "was trained with a command every {:.2} ms, and profile {} has a period of {:.2} ms; set [pace] to the period that it was trained with, or train it for this one",
                then * 1e3,
                profile.name,
                now * 1e3
            ));
        }
        Ok(())
    }
}

impl ModelCard {
    /// What a policy was trained under; `None` for encoders, and for policies whose card does not tell.
    pub fn conditions(&self) -> Option<PolicyConditions> {
        let conditions = self.provenance.recipe.get(CONDITIONS_KEY).filter(|_| self.kind == ModelKind::Policy)?;
        serde_json::from_value(conditions.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::Encoder;

    #[test]
    fn another_camera_or_period_is_refused_with_both_values() {
        let profile = foresee_firmware_config::load("desktop-sim").unwrap();
        let trained = PolicyConditions::of(&profile);
        trained.check(&profile).unwrap();
        let check = |more: &str, needles: [&str; 2]| {
            let text = format!("inherit = \"desktop-sim\"\n{more}");
            let other = foresee_firmware_config::parse("other.toml", &text).unwrap();
            let problem = trained.check(&other).unwrap_err();
            assert!(needles.iter().all(|needle| problem.contains(needle)), "{problem}");
        };
        check(
            "[camera]\nname = \"wrist\"\nwidth = 128\nheight = 128\nencoding = \"rgb8\"\n",
            ["`fixed` 128x128", "`wrist` 128x128"],
        );
        check("[camera]\nname = \"fixed\"\nwidth = 64\nheight = 48\nencoding = \"rgb8\"\n", ["128x128", "64x48"]);
        check("[pace]\nkind = \"fixed\"\nrate_hertz = 30.0\nmax_frame_age_millis = 100\n", ["20.00 ms", "33.33 ms"]);
        let mut recipe = serde_json::json!({});
        trained.in_recipe(&mut recipe);
        let mut card = crate::RawPixels::new(4, 4).card().clone();
        card.provenance.recipe = recipe;
        assert_eq!(card.conditions(), None);
        card.kind = ModelKind::Policy;
        assert_eq!(card.conditions(), Some(trained));
    }
}
