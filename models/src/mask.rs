//! Which patches an encoder sees, as index lists that are made on the host from one uniform draw a patch.

use crate::recipe::MaskRule;

/// Marks a hidden patch in [`Mask::places`].
pub(crate) const HIDDEN: usize = usize::MAX;

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
            let shown = match rule {
                MaskRule::Shuffled => {
                    let num_kept = (num_patches as f64 * (1.0 - ratio)) as usize;
                    let mut order = argsort(draw);
                    order.truncate(num_kept);
                    order
                }
                MaskRule::RowMajor => {
                    let num_hidden = (ratio * num_patches as f64) as usize;
                    let order = argsort(draw);
                    (0..num_patches).filter(|&patch| order.get(patch).is_some_and(|&rank| rank >= num_hidden)).collect()
                }
            };
            num_visible = shown.len();
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

    /// N.
    pub(crate) fn num_samples(&self) -> usize {
        self.places.len() / self.num_patches.max(1)
    }

    /// `[N, L]`: 1 where hidden, else 0.
    pub(crate) fn hidden(&self) -> Vec<f32> {
        self.places.iter().map(|&place| if place == HIDDEN { 1.0 } else { 0.0 }).collect()
    }
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
    fn the_number_shown_follows_floating_point_as_the_reference_does() {
        for (num_patches, ratio, num_visible) in [(196, 0.75, 49), (16, 0.9, 1), (9, 0.8, 1), (196, 0.985, 2)] {
            let draws: Vec<f32> = (0..num_patches).map(|patch| patch as f32).collect();
            assert_eq!(Mask::from_draws(&draws, num_patches, (ratio, MaskRule::Shuffled)).num_visible, num_visible);
        }
    }
}
