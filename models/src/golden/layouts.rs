//! How each method's golden files name their parts, and the recipe that they are of.

use super::file::GoldenFile;
use super::{SINGLE_TABLE, TABLE};
use crate::error::ModelsError;
use crate::recipe::{Positions, Recipe};

/// In place of a term: the first one when the latent is the prior's.
pub(super) const PRIOR: &str = "prior";

/// Largest width, depth or number of classes that a golden file may ask for.
const MAX_SIZE: usize = 1 << 14;

/// Names in one kind of golden file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// The recipe that comes with the crate; its sizes are the file's.
    pub(super) recipe: &'static str,
    /// Before the weights' names.
    pub(super) weights: &'static str,
    /// Inputs, one a view.
    pub(super) views: &'static [&'static str],
    /// Whether inputs, draws and losses have a step number after their names.
    pub(super) is_stepped: bool,
    /// Our term (empty: the total; `kl_loss`: the divergence with its free nats; [`PRIOR`]) and the file's.
    pub(super) losses: &'static [(&'static str, &'static str)],
    /// The file's predictions, in the order of the recipe's terms.
    pub(super) predictions: &'static [&'static str],
    /// The file's weight names and ours, where they differ (prefixes).
    pub(super) renames: &'static [(&'static str, &'static str)],
    /// Our terms and the file's facts that weigh them.
    pub(super) weighing: &'static [(&'static str, &'static str)],
    /// How far position tables may be off.
    pub(super) table: f64,
}

const WAVE_ONE: Layout = Layout {
    recipe: "siam-mae",
    weights: "w.",
    views: &["in.frame1", "in.frame2"],
    is_stepped: false,
    losses: &[("", "loss.loss")],
    predictions: &["out.pred"],
    renames: &[],
    weighing: &[],
    table: TABLE,
};

const CROCO: Layout = Layout {
    recipe: "croco",
    views: &["in.img1", "in.img2"],
    renames: &[
        ("enc_blocks.", "blocks."),
        ("enc_norm.", "norm."),
        ("enc_pos_embed", "pos_embed"),
        ("dec_blocks.", "decoder_blocks."),
        ("dec_norm.", "decoder_norm."),
        ("dec_pos_embed", "decoder_pos_embed"),
        ("prediction_head.", "decoder_pred."),
    ],
    ..WAVE_ONE
};

const LAYOUTS: &[(&str, Layout)] = &[
    ("mae", Layout { recipe: "mae", weights: "model.", views: &["in.tgt"], is_stepped: true, ..WAVE_ONE }),
    (
        "rsp",
        Layout {
            recipe: "rsp",
            weights: "model.",
            views: &["in.src", "in.tgt"],
            is_stepped: true,
            losses: &[
                ("", "loss.loss"),
                ("future", "loss.loss_post"),
                ("mae", "loss.mae_loss"),
                ("kl", "loss.kl_value"),
                ("kl_loss", "loss.kl_loss"),
                (PRIOR, "loss.loss_prior"),
            ],
            predictions: &["out.tgt_pred", "out.pred_masked"],
            table: SINGLE_TABLE,
            ..WAVE_ONE
        },
    ),
    ("siammae", WAVE_ONE),
    ("cropmae", Layout { recipe: "crop-mae", views: &["in.global", "in.local"], ..WAVE_ONE }),
    (
        "tobo",
        Layout {
            recipe: "tobo",
            views: &["in.src", "in.tgt"],
            losses: &[("", "loss.loss"), ("mim", "loss.loss_mim"), ("bottleneck", "loss.loss_tobo")],
            predictions: &["out.pred_mim", "out.pred_tobo"],
            weighing: &[("mim", "w_mim"), ("bottleneck", "w_tobo")],
            table: SINGLE_TABLE,
            ..WAVE_ONE
        },
    ),
    ("croco", CROCO),
    ("croco_rope", CROCO),
];

impl Layout {
    pub(super) fn of(kind: &str, file: &GoldenFile) -> Result<Self, ModelsError> {
        let known = LAYOUTS.iter().find(|(known, _)| *known == kind);
        known.map(|(_, layout)| *layout).ok_or_else(|| file.fail(format!("is of the unknown kind {kind}")))
    }

    /// `name` of step `step`.
    pub(super) fn stepped(&self, name: &str, step: usize) -> String {
        if self.is_stepped { format!("{name}.{step}") } else { name.to_string() }
    }

    /// Our name of one of the file's weights.
    pub(super) fn our_name(&self, name: &str) -> String {
        let renamed = self.renames.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
        renamed.unwrap_or_else(|| name.to_string())
    }

    /// The recipe in the file's sizes.
    pub(super) fn recipe(&self, file: &GoldenFile) -> Result<Recipe, ModelsError> {
        check_fixed(file)?;
        let mut recipe = Recipe::load(self.recipe)?;
        let encoder = &mut recipe.encoder;
        encoder.image_size = file.fact("img")?;
        encoder.patch_size = file.fact("patch")?;
        encoder.dim = file.fact("dim")?;
        encoder.depth = file.fact("depth")?;
        encoder.heads = file.fact("heads")?;
        let mlp_ratio: f64 = if file.has_fact("mlp_ratio") { file.fact("mlp_ratio")? } else { 4.0 };
        if !(mlp_ratio.is_finite() && mlp_ratio > 0.0) {
            return Err(file.fail(format!("has mlp_ratio = {mlp_ratio} in its metadata; it must be above 0")));
        }
        // As the reference codes round; a float-to-integer cast saturates.
        let widened = |dim: usize| (mlp_ratio * dim as f64) as usize;
        encoder.mlp_dim = widened(encoder.dim);
        if file.has_fact("pos_embed") && file.fact::<String>("pos_embed")?.starts_with("RoPE") {
            encoder.positions = Positions::Rope100;
        }
        for decoder in recipe.decoders.values_mut() {
            decoder.dim = file.fact("ddim")?;
            decoder.depth = file.fact("ddepth")?;
            decoder.heads = file.fact("dheads")?;
            let has_width = file.has_fact("decoder_ffn_hidden");
            decoder.mlp_dim = if has_width { file.fact("decoder_ffn_hidden")? } else { widened(decoder.dim) };
        }
        let mask_ratio: f64 = file.fact("mask_ratio")?;
        for encoding in recipe.encodings.iter_mut().filter(|encoding| encoding.mask_ratio > 0.0) {
            encoding.mask_ratio = mask_ratio;
        }
        let is_normalised = file.flag("norm_pix_loss")?.unwrap_or(true);
        for term in &mut recipe.terms {
            term.normalised = is_normalised;
            if let Some((_, fact)) = self.weighing.iter().find(|(name, fact)| *name == term.name && file.has_fact(fact))
            {
                term.weight = file.fact(fact)?;
            }
        }
        for (optimiser, fact) in [(&mut recipe.optimiser.weight_decay, "wd"), (&mut recipe.optimiser.epsilon, "eps")] {
            if file.has_fact(fact) {
                *optimiser = file.fact(fact)?;
            }
        }
        if file.has_fact("betas") {
            recipe.optimiser.betas = betas(file)?;
        }
        if let Some(latent) = &mut recipe.latent {
            latent.groups = file.fact("stoch")?;
            latent.classes = file.fact("disc")?;
        }
        recipe.validate()?;
        check_sizes(&recipe, file)?;
        Ok(recipe)
    }
}

/// The metadata's `(0.9, 0.95)`.
fn betas(file: &GoldenFile) -> Result<[f64; 2], ModelsError> {
    let text: String = file.fact("betas")?;
    let numbers = text.trim_matches(['(', ')', '[', ']']).split(',').map(|number| number.trim().parse::<f64>().ok());
    match numbers.collect::<Vec<_>>().as_slice() {
        &[Some(first), Some(second)] => Ok([first, second]),
        _ => Err(file.fail(format!("has betas = {text} in its metadata, which are not two numbers"))),
    }
}

/// Refuses what the metadata says and no recipe here does: another epsilon, dropout, another order of blocks.
fn check_fixed(file: &GoldenFile) -> Result<(), ModelsError> {
    let first_number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    let is_fixed = |key: &str, text: &str| match key {
        "ln_eps" => first_number(text) == Some(1e-6),
        "dropout" => first_number(text) == Some(0.0),
        "tobo_path" => text == "sm",
        "tgt_path" => text == "csm",
        _ => text.eq_ignore_ascii_case("true") || text == "1",
    };
    for key in ["ln_eps", "dropout", "tobo_path", "tgt_path", "norm_im2_in_dec", "qkv_bias"] {
        if !file.has_fact(key) {
            continue;
        }
        let text: String = file.fact(key)?;
        if !is_fixed(key, &text) {
            return Err(file.fail(format!("has {key} = {text} in its metadata, which this program does not have")));
        }
    }
    Ok(())
}

/// Whether the metadata asks for a model that a golden file can hold; sizes beyond that would ask for memory before a weight is missed.
fn check_sizes(recipe: &Recipe, file: &GoldenFile) -> Result<(), ModelsError> {
    let encoder = &recipe.encoder;
    let mut sizes = vec![("dim", encoder.dim), ("depth", encoder.depth), ("mlp_ratio * dim", encoder.mlp_dim)];
    for decoder in recipe.decoders.values() {
        sizes.extend([("ddim", decoder.dim), ("ddepth", decoder.depth), ("decoder_ffn_hidden", decoder.mlp_dim)]);
    }
    if let Some(latent) = &recipe.latent {
        sizes.extend([("stoch", latent.groups), ("disc", latent.classes)]);
    }
    match sizes.iter().find(|(_, size)| *size > MAX_SIZE) {
        Some((key, size)) => Err(file.fail(format!("has {key} = {size} in its metadata; at most {MAX_SIZE} is read"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::positions::sin_cos_table;

    #[test]
    fn tables_of_single_precision_are_within_what_their_methods_allow() {
        // As RSP's code: frequencies and angles in f32, columns first, at the grid of ViT-S/8.
        let (grid, dim) = (28_usize, 384_usize);
        let quarter = dim / 4;
        let frequencies: Vec<f32> = (0..quarter).map(|k| 1.0 / 10000_f32.powf(k as f32 / quarter as f32)).collect();
        let mut table = vec![0.0; dim];
        for (row, column) in (0..grid).flat_map(|row| (0..grid).map(move |column| (row, column))) {
            for place in [column, row] {
                let angles = frequencies.iter().map(|frequency| place as f32 * frequency);
                table.extend(angles.clone().map(f32::sin).chain(angles.map(f32::cos)).map(f64::from));
            }
        }
        let worst = super::super::worst_difference(&sin_cos_table([grid, grid], dim, 1), &table);
        assert!(worst > TABLE, "{worst}");
        for (kind, layout) in LAYOUTS {
            let is_single = matches!(*kind, "rsp" | "tobo");
            assert_eq!(worst < layout.table, is_single, "{kind}: {worst}");
        }
    }
}
