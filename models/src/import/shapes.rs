//! Which method a set of tensors is of, and its sizes, read off names and shapes.

use crate::checkpoint::NamedTensors;
use crate::recipe::{Positions, Recipe};

/// Prefixes of CroCo's state dictionary and ours.
const RENAMES: &[(&str, &str)] = &[
    ("enc_blocks.", "blocks."),
    ("enc_norm.", "norm."),
    ("enc_pos_embed", "pos_embed"),
    ("dec_blocks.", "decoder_blocks."),
    ("dec_norm.", "decoder_norm."),
    ("dec_pos_embed", "decoder_pos_embed"),
    ("prediction_head.", "decoder_pred."),
];

/// A tensor that only this method has, most telling first, and the recipe.
const SIGNS: &[(&str, &str)] = &[
    ("to_prior.0.weight", "rsp"),
    ("decoder_blocks.0.cross_attn.projq.weight", "croco"),
    ("decoder_blocks.0.multihead_attn.in_proj_weight", "siam-mae"),
    ("decoder_blocks.0.cattn.q.weight", "tobo"),
    ("decoder_blocks.0.attn.qkv.weight", "mae"),
];

/// Our name of an official tensor.
pub(super) fn our_name(name: &str) -> String {
    let renamed = RENAMES.iter().find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)));
    renamed.unwrap_or_else(|| name.to_string())
}

/// The method's name (`encoder` without a decoder) and its recipe in these sizes.
pub(super) fn recipe_of(tensors: &NamedTensors, heads: Option<usize>) -> Result<(String, Recipe), String> {
    let sign = SIGNS.iter().find(|(sign, _)| tensors.contains_key(*sign));
    let mut recipe = Recipe::load(sign.map_or("mae", |(_, name)| name)).map_err(|error| error.to_string())?;
    let size = |name: &str, axis: usize| tensors.get(name).and_then(|(shape, _)| shape.get(axis)).copied();
    let need = |name: &str, axis: usize| size(name, axis).ok_or_else(|| format!("has no tensor {name}; is it a ViT?"));
    let encoder = &mut recipe.encoder;
    encoder.dim = need("patch_embed.proj.weight", 0)?;
    encoder.patch_size = need("patch_embed.proj.weight", 3)?;
    encoder.depth = depth(tensors, "blocks.");
    encoder.mlp_dim = need("blocks.0.mlp.fc1.weight", 0)?;
    encoder.class_token = tensors.contains_key("cls_token");
    if let Some(heads) = heads.filter(|heads| !encoder.dim.is_multiple_of(*heads)) {
        return Err(format!("is {} wide, which --heads {heads} does not divide", encoder.dim));
    }
    encoder.heads = heads.unwrap_or_else(|| encoder_heads(encoder.dim));
    match tensors.get("pos_embed") {
        Some((shape, _)) => {
            let num_tokens = shape.iter().rev().nth(1).copied().unwrap_or(0);
            let grid = num_tokens.saturating_sub(usize::from(encoder.class_token)).isqrt();
            encoder.image_size = grid.saturating_mul(encoder.patch_size);
        }
        None if !encoder.class_token => encoder.positions = Positions::Rope100,
        None => {}
    }
    if let Some(decoder) = recipe.decoders.get_mut("decoder").filter(|_| sign.is_some()) {
        let hidden =
            ["mlp.fc1", "mlp2.fc1", "linear1"].map(|layer| size(&format!("decoder_blocks.0.{layer}.weight"), 0));
        decoder.dim = need("decoder_norm.weight", 0)?;
        decoder.depth = depth(tensors, "decoder_blocks.");
        decoder.mlp_dim = hidden.into_iter().flatten().next().unwrap_or(4 * decoder.dim);
        decoder.heads = decoder_heads(decoder.dim);
    }
    if let Some(latent) = &mut recipe.latent {
        let values = need("to_prior.2.weight", 0)?;
        // The published models have as many groups as classes; other splits change no shape.
        if latent.groups * latent.classes != values {
            latent.groups = (1..=values.isqrt()).rev().find(|groups| values % groups == 0).unwrap_or(1);
            latent.classes = values / latent.groups;
        }
    }
    recipe.check().map_err(|problem| format!("has sizes that cannot be ({problem})"))?;
    let method = sign.map_or("encoder", |(_, name)| name);
    Ok((method.to_string(), recipe))
}

fn depth(tensors: &NamedTensors, prefix: &str) -> usize {
    let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
    tensors.keys().filter_map(number).max().map_or(0, |last| last.saturating_add(1))
}

/// 64 channels a head; 80 in ViT-H; 16 in sizes below.
fn encoder_heads(dim: usize) -> usize {
    match dim {
        1280 => 16,
        _ if dim.is_multiple_of(64) => dim / 64,
        _ => (dim / 16).max(1),
    }
}

/// 32 channels a head in every published decoder (64 in CroCo v2's of 768); 8 in sizes below.
fn decoder_heads(dim: usize) -> usize {
    match dim {
        768 => 12,
        _ if dim.is_multiple_of(32) && dim >= 64 => dim / 32,
        _ => (dim / 8).max(1),
    }
}
