//! What frozen features are worth: label propagation in the two published protocols, k-NN and a linear probe.
//!
//! Videos and their labels come from whoever calls: out of a data set's own folders (`davis_2017`, `vip`, `jhmdb`), or rendered by a
//! simulator that knows its labels exactly. Nothing here is trained but the linear probe, which has a closed form.

mod davis;
mod encoder;
mod files;
mod future;
mod images;
mod jhmdb;
mod linear;
mod mat;
mod nearest;
mod picture;
mod propagation;
mod vip;

use foresee_runtime::Frame;

use crate::scores::KeyPoints;

pub use self::davis::davis_2017;
pub use self::encoder::ProbeEncoder;
pub use self::files::VideoSource;
pub use self::future::{FuturePsnr, future_psnr};
pub use self::images::{LabelledImages, labelled_images};
pub use self::jhmdb::jhmdb;
pub use self::linear::{LinearProbe, classify_linearly, explained_variance, linear_probe};
pub(crate) use self::nearest::unit_rows;
pub use self::nearest::{NEAREST_TEMPERATURE, NUM_NEAREST, classify_by_nearest, predict_by_nearest};
pub use self::picture::save_propagation;
pub use self::propagation::{
    ClassCounts, JointDistances, KeyPointScores, MaskScores, key_point_scores, mask_scores, propagate_key_points,
    propagate_masks,
};
pub use self::vip::{VIP_CLASSES, vip};

/// A video and what is known of its frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledVideo {
    /// Its name in results.
    pub name: String,
    /// All of one size.
    pub frames: Vec<Frame>,
    /// One mask a frame; empty where there are none. The first is what is propagated.
    pub masks: Vec<ClassMask>,
    /// Classes of the masks, ground included.
    pub num_classes: usize,
    /// Points and where they are seen; without joints where there are none.
    pub key_points: LabelledPoints,
}

/// One class a pixel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassMask {
    /// Pixels.
    pub width: usize,
    /// Row-major, `height * width` classes; 0 is ground.
    pub classes: Vec<u8>,
}

/// Points that are followed through a video.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledPoints {
    /// `[joint][frame]` in pixels.
    pub points: KeyPoints,
    /// `[joint][frame]`: whether it counts.
    pub visible: Vec<Vec<bool>>,
}

/// Features with what they shall tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// `[N, dim]`.
    pub features: Vec<f32>,
    /// Values of one sample's features.
    pub dim: usize,
    /// `[N, num_targets]`.
    pub targets: Vec<f32>,
    /// Values to tell of one sample.
    pub num_targets: usize,
}

impl Samples {
    /// N.
    pub fn len(&self) -> usize {
        self.features.len() / self.dim.max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl ClassMask {
    /// Pixels.
    pub fn height(&self) -> usize {
        self.classes.len() / self.width.max(1)
    }

    /// Where a class is, as 0 and 1.
    pub fn of_class(&self, class: u8) -> Vec<u8> {
        self.classes.iter().map(|value| u8::from(*value == class)).collect()
    }

    /// The nearest class at the centre of each target pixel (Pillow's `NEAREST`).
    pub fn resized(&self, [height, width]: [usize; 2]) -> Self {
        let taps = |source: usize, target: usize| -> Vec<usize> {
            let scale = source as f64 / target.max(1) as f64;
            (0..target).map(|place| (((place as f64 + 0.5) * scale) as usize).min(source.saturating_sub(1))).collect()
        };
        let [rows, columns] = [taps(self.height(), height), taps(self.width, width)];
        let at = |row: usize, column: usize| self.classes.get(row * self.width + column).copied().unwrap_or(0);
        let classes = rows.iter().flat_map(|&row| columns.iter().map(move |&column| at(row, column))).collect();
        Self { width, classes }
    }
}
