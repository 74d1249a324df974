//! How an image becomes an encoder's input: the part of a card that training, simulation and robot share.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::MAX_INPUT_PIXELS;
use crate::files::hex;

/// How an image becomes the encoder's input. One implementation serves training, simulation and robot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessingCard {
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// The resampling.
    pub resize: Resize,
    /// What of the image is taken; all of it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
    /// Subtracted from red, green, blue in 0..1.
    pub mean: [f32; 3],
    /// Divides after that.
    pub std: [f32; 3],
    /// Hex sha256 of the parameters above, by `PreprocessingCard::compute_hash`.
    pub hash: String,
}

/// Resampling kernels. Pixel centres lie at halves (`align_corners=False`); the kernels that widen when shrinking are PIL's and
/// torchvision's `antialias=True`, without their rounding to whole grey levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// Triangle kernel widened by the scale when shrinking.
    BilinearAntialias,
    /// Cubic kernel (Keys, a = -0.5) widened by the scale when shrinking.
    BicubicAntialias,
    /// The mean over the area that a target pixel covers (`cv2.INTER_AREA` when shrinking).
    Area,
    /// Triangle kernel of two taps (`cv2.INTER_LINEAR`, `torch.nn.functional.interpolate` without antialias).
    Bilinear,
    /// Cubic kernel (a = -0.75) of four taps (`cv2.INTER_CUBIC`, `interpolate` without antialias).
    Bicubic,
}

/// What of the camera's image the encoder sees. Taps may reach over the edge of the region, not of the image: resizing all and
/// cropping then gives the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Crop {
    /// The largest centred region of the input's aspect ratio, its sides times `fraction` (timm's `crop_pct`).
    Centre {
        /// Above 0, at most 1.
        fraction: f32,
    },
    /// This region of the image, in its pixels.
    Region {
        /// First column.
        x: u32,
        /// First row.
        y: u32,
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
}

impl Resize {
    /// The name used in cards.
    pub fn name(self) -> &'static str {
        match self {
            Self::BilinearAntialias => "bilinear_antialias",
            Self::BicubicAntialias => "bicubic_antialias",
            Self::Area => "area",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
        }
    }
}

impl PreprocessingCard {
    /// Hex sha256 of every parameter but the hash itself.
    pub fn compute_hash(&self) -> String {
        let Self { width, height, resize, crop, mean, std, hash: _ } = self;
        // Floats print as the shortest text that reads back equal, so equal parameters give equal text.
        let mut text = format!("foresee preprocessing 1: {width}x{height} {} mean {mean:?} std {std:?}", resize.name());
        if let Some(crop) = crop {
            text.push_str(&format!(" crop {crop:?}"));
        }
        hex(&Sha256::digest(text.as_bytes()))
    }

    /// Fills in the hash.
    #[must_use]
    pub fn with_hash(mut self) -> Self {
        self.hash = self.compute_hash();
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let Self { width, height, mean, std, hash, crop, .. } = self;
        if !(1..=MAX_INPUT_PIXELS).contains(width) || !(1..=MAX_INPUT_PIXELS).contains(height) {
            return Err(format!("preprocessing: {width}x{height} must lie within 1..={MAX_INPUT_PIXELS} pixels"));
        }
        if !mean.iter().all(|value| value.is_finite()) || !std.iter().all(|value| value.is_normal() && *value > 0.0) {
            return Err(format!("preprocessing: mean {mean:?} must be finite and std {std:?} above 0"));
        }
        match crop {
            Some(Crop::Centre { fraction }) if !(*fraction > 0.0 && *fraction <= 1.0) => {
                return Err(format!("preprocessing: crop fraction {fraction} must be above 0 and at most 1"));
            }
            Some(Crop::Region { width: 0, .. } | Crop::Region { height: 0, .. }) => {
                return Err("preprocessing: a crop region must be at least 1x1 pixels".to_owned());
            }
            _ => {}
        }
        let computed = self.compute_hash();
        if *hash != computed {
            return Err(format!("preprocessing: hash {hash} is not that of its parameters ({computed}); export again"));
        }
        Ok(())
    }
}
