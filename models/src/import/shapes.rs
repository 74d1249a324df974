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
    match tensors.get("pos_embed") {
        Some((shape, _)) => {
            let num_tokens = shape.iter().rev().nth(1).copied().unwrap_or(0);
            let grid = num_tokens.saturating_sub(usize::from(encoder.class_token)).isqrt();
            encoder.image_size = grid.saturating_mul(encoder.patch_size);
        }
        None if !encoder.class_token => encoder.positions = Positions::Rope100,
        None => {}
    }
    let positions = encoder.positions;
    encoder.heads = heads.unwrap_or_else(|| dividing_heads(encoder.dim, (encoder_heads(encoder.dim), positions)));
    if let Some(decoder) = recipe.decoders.get_mut("decoder").filter(|_| sign.is_some()) {
        let hidden =
            ["mlp.fc1", "mlp2.fc1", "linear1"].map(|layer| size(&format!("decoder_blocks.0.{layer}.weight"), 0));
        decoder.dim = need("decoder_norm.weight", 0)?;
        decoder.depth = depth(tensors, "decoder_blocks.");
        decoder.mlp_dim = hidden.into_iter().flatten().next().unwrap_or(4 * decoder.dim);
        decoder.heads = dividing_heads(decoder.dim, (decoder_heads(decoder.dim), positions));
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

/// The largest number of heads, at most the guess, that divides a width; rotary positions need channels in fours.
fn dividing_heads(dim: usize, (guess, positions): (usize, Positions)) -> usize {
    let step = if positions == Positions::Rope100 { 4 } else { 1 };
    (1..=guess).rev().find(|heads| dim.is_multiple_of(heads * step)).unwrap_or(1)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::parameter_specs;

    /// What is read off the shapes of a recipe of this width and decoder width: the heads of both.
    fn heads_of(name: &str, [dim, decoder_dim]: [usize; 2]) -> Result<[usize; 2], String> {
        let mut recipe = Recipe::load(name).expect("the recipe");
        let encoder = &mut recipe.encoder;
        (encoder.image_size, encoder.patch_size, encoder.depth) = (16, 8, 1);
        (encoder.dim, encoder.heads, encoder.mlp_dim) = (dim, 1, dim);
        if name == "croco" {
            encoder.positions = Positions::Rope100;
        }
        for decoder in recipe.decoders.values_mut() {
            (decoder.dim, decoder.heads, decoder.mlp_dim, decoder.depth) = (decoder_dim, 1, decoder_dim, 1);
        }
        let tensors = parameter_specs(&recipe).into_iter().map(|spec| {
            let count = spec.shape.iter().product();
            (spec.name, (spec.shape, vec![0.0; count]))
        });
        let (method, recipe) = recipe_of(&tensors.collect(), None)?;
        assert_eq!(method, name);
        Ok([recipe.encoder.heads, recipe.decoders["decoder"].heads])
    }

    #[test]
    fn every_width_gets_heads_that_divide_it() {
        for dim in (4..=256).step_by(4) {
            for name in ["mae", "croco"] {
                let [heads, decoder_heads] = heads_of(name, [dim, dim]).expect(name);
                assert!(dim % heads == 0 && dim % decoder_heads == 0, "{name} {dim}");
            }
        }
        assert_eq!(heads_of("mae", [52, 28]), Ok([2, 2]));
        assert_eq!(heads_of("mae", [100, 44]), Ok([5, 4]));
        assert_eq!(heads_of("mae", [384, 512]), Ok([6, 16]));
    }
}
