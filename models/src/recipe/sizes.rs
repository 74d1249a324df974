//! What follows from a recipe: sizes, places of encodings.

use super::{EncoderRecipe, EncodingRecipe, MaskRule, Recipe};

impl Recipe {
    /// The learning rate at the top of the warm-up.
    pub fn peak_learning_rate(&self) -> f64 {
        self.optimiser.base_learning_rate * self.optimiser.batch_size as f64 / 256.0
    }

    /// Samples of one step.
    pub fn samples_per_step(&self) -> usize {
        self.optimiser.batch_size * self.data.repeated_sampling
    }

    /// Position of the encoding of this name.
    pub(crate) fn encoding_idx(&self, name: &str) -> Option<usize> {
        self.encodings.iter().position(|encoding| encoding.name == name)
    }

    /// Position of the masked encoding of a view: what a term with hidden tokens counts by.
    pub(crate) fn masked_encoding_idx(&self, view: usize) -> Option<usize> {
        self.encodings.iter().position(|encoding| encoding.view == view && encoding.mask_ratio > 0.0)
    }
}

impl EncodingRecipe {
    /// Patches that the encoder sees.
    pub fn num_visible(&self, encoder: &EncoderRecipe) -> usize {
        match self.mask_rule {
            MaskRule::Tube => {
                encoder.num_slices() * self.mask_rule.num_visible(encoder.patches_per_slice(), self.mask_ratio)
            }
            rule => rule.num_visible(encoder.num_patches(), self.mask_ratio),
        }
    }
}

impl MaskRule {
    /// Patches of `num_patches` that stay. MAE rounds their number down, VideoMAE and CroCo that of the hidden ones.
    pub(crate) fn num_visible(self, num_patches: usize, ratio: f64) -> usize {
        match self {
            Self::Shuffled | Self::Green => (num_patches as f64 * (1.0 - ratio)) as usize,
            Self::Tube | Self::RowMajor => num_patches.saturating_sub((ratio * num_patches as f64) as usize),
        }
    }
}

impl EncoderRecipe {
    /// L: patches of one input, slice after slice of a clip.
    pub fn num_patches(&self) -> usize {
        self.num_slices() * self.patches_per_slice()
    }

    /// Values of one patch: `3 t p p`.
    pub fn patch_values(&self) -> usize {
        3 * self.tubelet * self.patch_size * self.patch_size
    }

    /// Values of one input: `3 T S S`, slices of `3 t` planes, inside a slice colour by colour.
    pub fn input_values(&self) -> usize {
        3 * self.frames * self.image_size * self.image_size
    }

    /// Slices of a clip, `tubelet` frames each; 1 for images.
    pub fn num_slices(&self) -> usize {
        self.frames / self.tubelet
    }

    /// Patches of one slice.
    pub fn patches_per_slice(&self) -> usize {
        let grid = self.image_size / self.patch_size;
        grid * grid
    }

    /// Rows and columns of the grid of patches, the slices below each other.
    pub fn grid(&self) -> [usize; 2] {
        let side = self.image_size / self.patch_size;
        [self.num_slices() * side, side]
    }

    /// 1 with a class token, else 0.
    pub(crate) fn num_class_tokens(&self) -> usize {
        usize::from(self.class_token)
    }
}
