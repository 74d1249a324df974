//! What a method trains on.

use foresee_runtime::{PreprocessingCard, Resize};
use serde::{Deserialize, Serialize};

use crate::frames::preprocessing_card;

/// How frames are kept and normalised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// Frames of logs are kept in memory, and simulated ones rendered, as this many pixels squared, 8 bits a channel.
    pub stored_size: usize,
    /// Independent samples of each clip that is read; a step then has this many times `optimiser.batch_size` samples.
    #[serde(default = "one")]
    pub repeated_sampling: usize,
    /// How crops, and the frames of the exported encoder, are resized.
    #[serde(default = "bilinear")]
    pub resize: Resize,
    /// Subtracted from red, green, blue in 0..1.
    pub mean: [f32; 3],
    /// Divides after that.
    pub std: [f32; 3],
}

impl DataRecipe {
    /// How frames become square inputs of this size.
    pub(crate) fn preprocessing(&self, size: usize) -> PreprocessingCard {
        PreprocessingCard { resize: self.resize, ..preprocessing_card(size, self.mean, self.std) }.with_hash()
    }
}

fn one() -> usize {
    1
}

fn bilinear() -> Resize {
    Resize::BilinearAntialias
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{RECIPES, Recipe};

    #[test]
    fn crops_are_bicubic_in_the_recipes_whose_code_has_them_so() {
        let resize = |name: &str| Recipe::load(name).expect("a recipe").data.resize;
        let names = RECIPES.iter().map(|(name, _)| *name);
        let bicubic: Vec<&str> = names.filter(|name| resize(name) == Resize::BicubicAntialias).collect();
        assert_eq!(bicubic, ["mae", "rsp", "tobo", "color-mae"]);
    }
}
