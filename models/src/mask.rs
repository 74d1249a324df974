//! Which patches an encoder sees, as index lists that are made on the host from one uniform draw a patch.

use crate::recipe::MaskRule;

/// Marks a hidden patch in [`Mask::places`].
pub(crate) const HIDDEN: usize = usize::MAX;

/// Widths in patches of the two blurs whose difference is green noise.
const GREEN_DEVIATIONS: [f32; 2] = [0.6, 1.5];

/// The masks of one batch; every sample shows the same number of patches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mask {
    /// L.
    pub(crate) num_patches: usize,
    /// K: patches that each sample shows.
    pub(crate) num_visible: usize,
    /// `[N, K]`: patch indices in the order in which the encoder sees them.
    pub(crate) visible: Vec<usize>,
    /// `[N, L]`: where each patch went among the visible ones, or [`HIDDEN`].
    pub(crate) places: Vec<usize>,
}

impl Mask {
    /// From `draws` `[N, L]`.
    pub(crate) fn from_draws(draws: &[f32], num_patches: usize, (ratio, rule): (f64, MaskRule)) -> Self {
        let mut visible = Vec::new();
        let mut places = Vec::with_capacity(draws.len());
        let mut num_visible = 0;
        for draw in draws.chunks_exact(num_patches) {
            num_visible = rule.num_visible(num_patches, ratio);
            let mut order = if rule == MaskRule::Green { argsort(&green_noise(draw)) } else { argsort(draw) };
            let shown = if rule == MaskRule::RowMajor {
                let num_hidden = num_patches - num_visible;
                (0..num_patches).filter(|&patch| order.get(patch).is_some_and(|&rank| rank >= num_hidden)).collect()
            } else {
                order.truncate(num_visible);
                order
            };
            let mut place = vec![HIDDEN; num_patches];
            for (rank, &patch) in shown.iter().enumerate() {
                if let Some(slot) = place.get_mut(patch) {
                    *slot = rank;
                }
            }
            visible.extend(shown);
            places.extend(place);
        }
        Self { num_patches, num_visible, visible, places }
    }

    /// The same patches in each of `num_slices` slices of a clip.
    pub(crate) fn tubes(&self, num_slices: usize) -> Self {
        let (num_patches, num_visible) = (num_slices * self.num_patches, num_slices * self.num_visible);
        let mut tubes = Self { num_patches, num_visible, visible: Vec::new(), places: Vec::new() };
        for (visible, places) in
            self.visible.chunks_exact(self.num_visible).zip(self.places.chunks_exact(self.num_patches))
        {
            for slice_idx in 0..num_slices {
                tubes.visible.extend(visible.iter().map(|patch| slice_idx * self.num_patches + patch));
                let place = |place: &usize| match *place {
                    HIDDEN => HIDDEN,
                    place => slice_idx * self.num_visible + place,
                };
                tubes.places.extend(places.iter().map(place));
            }
        }
        tubes
    }

    /// N.
    pub(crate) fn num_samples(&self) -> usize {
        self.places.len() / self.num_patches.max(1)
    }

    /// `[N, L]`: 1 where hidden, else 0.
    pub(crate) fn hidden(&self) -> Vec<f32> {
        self.places.iter().map(|&place| if place == HIDDEN { 1.0 } else { 0.0 }).collect()
    }
}

/// Uniform draws over a square grid, band-passed by the difference of two Gaussian blurs that wrap around, with the sign turned so that
/// the highest values come first (ColorMAE, "green"; its released code has the filtered noise but not the widths).
fn green_noise(draws: &[f32]) -> Vec<f32> {
    let fine = blur(draws, GREEN_DEVIATIONS[0]);
    let coarse = blur(draws, GREEN_DEVIATIONS[1]);
    fine.iter().zip(coarse).map(|(fine, coarse)| coarse - fine).collect()
}

/// A Gaussian blur of a square grid that wraps around, rows first.
fn blur(values: &[f32], deviation: f32) -> Vec<f32> {
    let side = values.len().isqrt();
    let half = side / 2;
    let taps: Vec<f32> = (0..side).map(|tap| (-0.5 * ((tap as f32 - half as f32) / deviation).powi(2)).exp()).collect();
    let total: f32 = taps.iter().sum();
    // One pass along the rows that leaves the grid transposed; two passes bring it back.
    let pass = |values: &[f32]| -> Vec<f32> {
        let at = |row: usize, column: usize| values.get(row * side + column % side).copied().unwrap_or(0.0);
        let sum = |row, column| {
            taps.iter().enumerate().map(|(tap, weight)| weight * at(row, column + side + tap - half)).sum::<f32>()
        };
        (0..side * side).map(|place| sum(place % side, place / side) / total).collect()
    };
    pass(&pass(values))
}

/// Indices in ascending order of value; equal values keep their order.
fn argsort(values: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| match (values.get(a), values.get(b)) {
        (Some(a), Some(b)) => a.total_cmp(b),
        _ => std::cmp::Ordering::Equal,
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_rules_show_what_the_papers_code_shows() {
        let draws = [0.4, 0.1, 0.3, 0.2];
        let shuffled = Mask::from_draws(&draws, 4, (0.5, MaskRule::Shuffled));
        assert_eq!(shuffled.visible, [1, 3]);
        assert_eq!(shuffled.places, [HIDDEN, 0, HIDDEN, 1]);
        assert_eq!(shuffled.hidden(), [1.0, 0.0, 1.0, 0.0]);
        // argsort is [1, 3, 2, 0]; hidden where it is below 2: patches 0 and 3.
        let row_major = Mask::from_draws(&draws, 4, (0.5, MaskRule::RowMajor));
        assert_eq!(row_major.visible, [1, 2]);
    }

    #[test]
    fn tubes_hide_the_same_patches_in_every_slice() {
        let mask = Mask::from_draws(&[0.4, 0.1, 0.3, 0.2, 0.1, 0.2, 0.3, 0.4], 4, (0.5, MaskRule::Tube)).tubes(3);
        assert_eq!((mask.num_patches, mask.num_visible, mask.num_samples()), (12, 6, 2));
        assert_eq!(mask.visible, [1, 3, 5, 7, 9, 11, 0, 1, 4, 5, 8, 9]);
        assert_eq!(mask.places[..12], [HIDDEN, 0, HIDDEN, 1, HIDDEN, 2, HIDDEN, 3, HIDDEN, 4, HIDDEN, 5]);
        for (rank, &patch) in mask.visible.iter().enumerate() {
            assert_eq!(mask.places[rank / 6 * 12 + patch], rank % 6);
        }
    }

    #[test]
    fn green_masks_are_strongest_at_middle_frequencies() {
        use crate::random::{Stream, generator, uniforms};
        // Power at one frequency across a 14 x 14 grid, over many masks.
        let power = |rule, frequency: usize| {
            let mut sum = 0.0;
            for seed in 0..200 {
                let draws = uniforms(&mut generator(seed, Stream::Draws, [0, 0]), 196);
                let hidden = Mask::from_draws(&draws, 196, (0.75, rule)).hidden();
                let angle = |patch: usize| std::f64::consts::TAU * (frequency * (patch % 14)) as f64 / 14.0;
                let wave = |of: fn(f64) -> f64| {
                    hidden.iter().enumerate().map(|(patch, value)| f64::from(*value) * of(angle(patch))).sum::<f64>()
                };
                sum += wave(f64::cos).powi(2) + wave(f64::sin).powi(2);
            }
            sum
        };
        let [low, middle, high] = [1, 3, 6].map(|frequency| power(MaskRule::Green, frequency));
        assert!(middle > 2.0 * low && middle > 1.5 * high, "{low} {middle} {high}");
        let [low, middle, high] = [1, 3, 6].map(|frequency| power(MaskRule::Shuffled, frequency));
        assert!((middle / low - 1.0).abs() < 0.4 && (middle / high - 1.0).abs() < 0.4, "{low} {middle} {high}");
    }

    #[test]
    fn a_recipe_counts_the_patches_that_its_masks_show() {
        use crate::recipe::{RECIPES, Recipe};
        let masks = RECIPES.iter().flat_map(|(name, _)| {
            let recipe = Recipe::load(name).expect("a recipe");
            let encodings = recipe.encodings.clone().into_iter().filter(|encoding| encoding.mask_ratio > 0.0);
            encodings.map(move |encoding| (encoding, recipe.encoder.clone()))
        });
        let mut num_tubes = 0;
        for (encoding, encoder) in masks {
            let is_tube = encoding.mask_rule == MaskRule::Tube;
            let num_patches = if is_tube { encoder.patches_per_slice() } else { encoder.num_patches() };
            let draws: Vec<f32> = (0..num_patches).map(|patch| (patch * 7 % num_patches) as f32).collect();
            let mask = Mask::from_draws(&draws, num_patches, (encoding.mask_ratio, encoding.mask_rule));
            let num_shown = if is_tube { mask.tubes(encoder.num_slices()).num_visible } else { mask.num_visible };
            assert_eq!(num_shown, encoding.num_visible(&encoder), "{}", encoding.name);
            num_tubes += usize::from(is_tube);
        }
        // 196 patches at 0.9: VideoMAE hides 176 of each of 8 slices.
        let video = Recipe::load("videomae").expect("the recipe");
        assert_eq!((num_tubes, video.encodings[0].num_visible(&video.encoder)), (1, 8 * 20));
    }

    #[test]
    fn the_number_shown_follows_floating_point_as_the_reference_does() {
        for (num_patches, ratio, num_visible) in [(196, 0.75, 49), (16, 0.9, 1), (9, 0.8, 1), (196, 0.985, 2)] {
            let draws: Vec<f32> = (0..num_patches).map(|patch| patch as f32).collect();
            assert_eq!(Mask::from_draws(&draws, num_patches, (ratio, MaskRule::Shuffled)).num_visible, num_visible);
        }
    }
}
