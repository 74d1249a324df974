//! A pretraining method as data: views, what is hidden of each, the encoder, named decoders, weighted terms, optimiser.
//!
//! TOML with strict keys, parsed and checked once. Adding a method is adding a file to `recipes/` and a line to [`RECIPES`].

mod data;
mod sizes;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use self::data::DataRecipe;
use crate::error::ModelsError;

/// The recipes that come with the crate: name and text.
pub const RECIPES: &[(&str, &str)] = &[
    ("mae", include_str!("../recipes/mae.toml")),
    ("mae-64", include_str!("../recipes/mae-64.toml")),
    ("rsp", include_str!("../recipes/rsp.toml")),
    ("rsp-64", include_str!("../recipes/rsp-64.toml")),
    ("siam-mae", include_str!("../recipes/siam-mae.toml")),
    ("crop-mae", include_str!("../recipes/crop-mae.toml")),
    ("croco", include_str!("../recipes/croco.toml")),
    ("tobo", include_str!("../recipes/tobo.toml")),
    ("color-mae", include_str!("../recipes/color-mae.toml")),
    ("videomae", include_str!("../recipes/videomae.toml")),
];

/// A pretraining method and its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// File stem, such as `mae-64`.
    pub name: String,
    /// Where the method is from.
    pub paper: String,
    /// One sentence.
    pub summary: String,
    /// The one network that is exported.
    pub encoder: EncoderRecipe,
    /// The images of one sample.
    pub views: ViewsRecipe,
    /// Calls of the encoder in one step, in order.
    pub encodings: Vec<EncodingRecipe>,
    /// A discrete latent between two views (RSP).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentRecipe>,
    /// Named decoders; two terms may share one.
    pub decoders: BTreeMap<String, DecoderRecipe>,
    /// What is predicted; the loss is the weighted sum.
    pub terms: Vec<TermRecipe>,
    /// How the weights move.
    pub optimiser: OptimiserRecipe,
    /// How frames are kept and normalised.
    pub data: DataRecipe,
}

/// A vision transformer: pre-norm blocks, fused qkv with bias, exact GELU, LayerNorm epsilon 1e-6, a final norm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderRecipe {
    /// Pixels, square.
    pub image_size: usize,
    /// Pixels, square; divides `image_size`.
    pub patch_size: usize,
    /// D.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Hidden width of each block's MLP.
    pub mlp_dim: usize,
    /// Whether a class token goes first (CroCo has none).
    #[serde(default = "yes")]
    pub class_token: bool,
    /// How tokens know their place.
    #[serde(default)]
    pub positions: Positions,
    /// Frames of one input; 1 for images.
    #[serde(default = "one")]
    pub frames: usize,
    /// Frames that one patch spans; divides `frames`.
    #[serde(default = "one")]
    pub tubelet: usize,
}

/// How tokens know their place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Fixed 2-D sine and cosine tables, added once.
    #[default]
    SinCos,
    /// Rotary, base 100, applied to queries and keys (CroCo v2).
    Rope100,
}

/// The images of one sample and how they are cut out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewsRecipe {
    /// Which images.
    pub kind: ViewsKind,
    /// Frames between the two of a pair, both ends included.
    #[serde(default = "default_gap")]
    pub gap: [usize; 2],
    /// Random-resized crop: share of the area.
    pub crop_area: [f64; 2],
    /// Random-resized crop: width over height.
    pub crop_aspect: [f64; 2],
    /// Share of the global crop's area that the nested local crop takes.
    #[serde(default = "default_nested_area")]
    pub nested_crop_area: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip_probability: f64,
}

/// Which images make one sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewsKind {
    /// View 0: one frame.
    Single,
    /// Views 0 and 1: an earlier and a later frame of one episode, one crop box and one flip for both.
    FramePair,
    /// View 0: a crop of one frame; view 1: a crop of view 0; each with its own flip (CropMAE).
    NestedCrops,
    /// Views 0 and 1: an earlier and a later frame, each with its own crop (CroCo).
    FramePairOwnCrops,
    /// View 0: `encoder.frames` frames, `gap[0]` apart, one crop box and one flip for all (VideoMAE).
    Clip,
}

impl ViewsKind {
    /// Images in one sample.
    pub fn num_views(self) -> usize {
        match self {
            Self::Single | Self::Clip => 1,
            Self::FramePair | Self::NestedCrops | Self::FramePairOwnCrops => 2,
        }
    }
}

/// One call of the encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncodingRecipe {
    /// For the terms to refer to.
    pub name: String,
    /// Index of the view that it sees.
    pub view: usize,
    /// Share of the patches that is hidden from it; 0 shows all.
    #[serde(default)]
    pub mask_ratio: f64,
    /// How the hidden patches are chosen and the visible ones ordered.
    #[serde(default)]
    pub mask_rule: MaskRule,
    /// Standard deviation of noise added to the normalised pixels that it sees.
    #[serde(default)]
    pub noise: f64,
}

/// How a mask comes from one uniform draw a patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// MAE: patches in order of their draw, the first `int(L (1 - ratio))` stay, in that order.
    #[default]
    Shuffled,
    /// ColorMAE: as MAE, with draws that were filtered to middle frequencies over the grid, so that what is hidden lies in blobs; the
    /// highest stay.
    Green,
    /// VideoMAE: as MAE for the first slice of a clip, and the same patches in every other slice.
    Tube,
    /// CroCo: patch `i` is hidden where `argsort(draw)[i] < int(ratio L)`; the rest stay in row-major order.
    RowMajor,
}

/// A discrete latent: `groups` categoricals of `classes` each, a prior from one view and a posterior from both (RSP).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatentRecipe {
    /// Categorical variables.
    pub groups: usize,
    /// Classes of each.
    pub classes: usize,
    /// Encoding whose class token the prior sees.
    pub prior: String,
    /// Encoding whose class token the posterior sees beside the prior's.
    pub posterior: String,
    /// Weight of the divergence in the loss.
    pub kl_weight: f64,
    /// Share of the divergence that moves the posterior; the rest moves the prior.
    pub kl_posterior_share: f64,
    /// Below this many nats the divergence has no gradient; its mean is over the samples that go through the network at a time (a
    /// micro-batch, as the official code's is over those of one device).
    pub kl_free_nats: f64,
}

/// A transformer that predicts patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderRecipe {
    /// Width.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Hidden width of each block's MLP.
    pub mlp_dim: usize,
    /// What a block does.
    pub block: BlockKind,
    /// Share of the values that is dropped in training: of attention's weights, of each branch, inside the MLP (`cross_mlp_self_post` blocks only).
    #[serde(default)]
    pub dropout: f64,
}

/// What a decoder block does, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockKind {
    /// Self-attention, MLP; pre-norm (MAE).
    #[serde(rename = "self")]
    SelfOnly,
    /// Cross-attention (skipped without memory), self-attention, MLP; pre-norm (RSP, ToBo).
    CrossSelf,
    /// Cross-attention, MLP, self-attention; post-norm (SiamMAE, CropMAE).
    CrossMlpSelfPost,
    /// Self-attention, cross-attention, MLP; pre-norm (CroCo).
    SelfCross,
}

/// One weighted prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermRecipe {
    /// Its name in metrics.
    pub name: String,
    /// Its factor in the loss.
    pub weight: f64,
    /// Which decoder.
    pub decoder: String,
    /// What the decoder starts from.
    pub queries: QueriesRecipe,
    /// What it looks at by cross-attention, joined in order.
    #[serde(default)]
    pub memory: Vec<MemoryRecipe>,
    /// The view whose pixels are predicted.
    pub target_view: usize,
    /// Whether each patch of them is normalised by its own mean and deviation (MAE's `norm_pix_loss`).
    #[serde(default = "yes")]
    pub normalised: bool,
    /// Which patches count.
    pub tokens: TokensRecipe,
}

/// What a decoder starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum QueriesRecipe {
    /// Visible tokens at their places, the mask token elsewhere, plus positions.
    Filled {
        /// The masked encoding.
        encoding: String,
        /// Name of the linear layer to the decoder's width.
        embed: String,
        /// Takes the class token from another encoding (ToBo's bottleneck).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class_token_of: Option<String>,
    },
    /// The mask token everywhere, plus positions (RSP).
    MaskTokens,
}

/// One part of a decoder's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MemoryRecipe {
    /// All tokens of a whole view.
    Tokens {
        /// The encoding.
        encoding: String,
        /// Name of the linear layer to the decoder's width.
        embed: String,
        /// Whether the decoder's positions are added.
        positions: bool,
    },
    /// Visible tokens at their places, the mask token elsewhere, plus positions.
    Filled {
        /// The masked encoding.
        encoding: String,
        /// Name of the linear layer to the decoder's width.
        embed: String,
    },
    /// The sample of the posterior as one token.
    Latent {
        /// Name of the linear layer to the decoder's width.
        embed: String,
    },
}

/// Which patches of the target count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokensRecipe {
    /// Those hidden from the masked encoding of the target view.
    Hidden,
    /// All.
    All,
}

/// AdamW with linear warm-up from 0 and half a cosine to 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimiserRecipe {
    /// The peak learning rate is this times `batch_size / 256`.
    pub base_learning_rate: f64,
    /// Decay of the first and second moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled; none on biases and other one-dimensional tensors, and none on frozen ones.
    pub weight_decay: f64,
    /// Clips in one step: as many samples, unless the data are sampled repeatedly.
    pub batch_size: usize,
    /// Updates in all.
    pub steps: usize,
    /// Updates of warm-up.
    pub warm_up_steps: usize,
}

impl Recipe {
    /// The recipe of this name out of [`RECIPES`], or the file of this path.
    ///
    /// # Errors
    /// [`ModelsError::Recipe`] with the known names, or what is wrong in the file.
    pub fn load(name_or_path: &str) -> Result<Self, ModelsError> {
        if let Some((name, text)) = RECIPES.iter().find(|(name, _)| *name == name_or_path) {
            return Self::parse(name, text);
        }
        let path = Path::new(name_or_path);
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(path)
                .map_err(|source| ModelsError::File { path: path.to_path_buf(), source })?;
            return Self::parse(name_or_path, &text);
        }
        let known: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
        let problem = format!("is not known; there are {}, or give the path of a .toml", known.join(", "));
        Err(ModelsError::Recipe { name: name_or_path.to_string(), problem })
    }

    /// Reads and checks a recipe; `name` says where the text is from, for the error.
    ///
    /// # Errors
    /// [`ModelsError::Recipe`] naming the key and the value.
    pub fn parse(name: &str, text: &str) -> Result<Self, ModelsError> {
        let recipe: Self = toml::from_str(text).map_err(|error| {
            let problem = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            ModelsError::Recipe { name: name.to_string(), problem }
        })?;
        recipe.check().map_err(|problem| ModelsError::Recipe { name: name.to_string(), problem })?;
        Ok(recipe)
    }
}

fn yes() -> bool {
    true
}

fn one() -> usize {
    1
}

fn default_gap() -> [usize; 2] {
    [4, 48]
}

fn default_nested_area() -> [f64; 2] {
    [0.3, 0.6]
}
