//! Activations inside the network against those of the official code, wherever a layer here gets or gives the same.

use super::file::GoldenFile;
use super::{larger, worst_difference};
use crate::error::ModelsError;
use crate::method::read_values;
use crate::weights::{Side, Traced};

/// Before the names of activations.
const PREFIX: &str = "act.";

/// Name and largest error of each activation of a file that the trace has: the nearest of the calls of its layer, since files and
/// recipes name calls differently. Activations that no layer here gets or gives are left out.
pub(super) fn errors(trace: &[Traced], file: &GoldenFile) -> Result<Vec<(String, f64)>, ModelsError> {
    let mut errors = Vec::new();
    for name in file.names().filter(|name| name.starts_with(PREFIX)) {
        let mut nearest: Option<f64> = None;
        let mut all = Vec::new();
        let places = places(name);
        let num_values = file.num_values(name);
        for traced in trace.iter().filter(|traced| places.contains(&(traced.layer.clone(), traced.side))) {
            let values = read_values(traced.values.clone().into_data())?;
            all.extend_from_slice(&values);
            for ours in [&values, &all].into_iter().filter(|ours| ours.len() == num_values) {
                let error = file.find(name).map_or(f64::INFINITY, |golden| worst_difference(ours, &golden.values));
                let error = larger(0.0, error);
                nearest = Some(nearest.map_or(error, |nearest| if error < nearest { error } else { nearest }));
            }
        }
        errors.extend(nearest.map(|error| (name.to_string(), error)));
    }
    Ok(errors)
}

/// The layers, by our names, that get or give what a file calls so: `act.<call>.block0.mlp`, `act.<call>.norm`.
fn places(name: &str) -> Vec<(String, Side)> {
    let parts: Vec<&str> = name.split('.').collect();
    let is_encoder = parts.contains(&"enc");
    let (blocks, last_norm) = if is_encoder { ("blocks", "norm") } else { ("decoder_blocks", "decoder_norm") };
    let block = parts.iter().find_map(|part| part.strip_prefix("block")?.parse::<usize>().ok());
    let of = |block: usize, layers: &[&str], side: Side| -> Vec<(String, Side)> {
        layers.iter().map(|layer| (format!("{blocks}.{block}.{layer}"), side)).collect()
    };
    // What a block begins with, in any of the kinds of blocks.
    let begins = |block| of(block, &["norm1", "norm3", "multihead_attn.in_proj_weight"], Side::In);
    let what = parts.last().copied().unwrap_or_default();
    match (block, what) {
        (None, "tokens_in" | "query_in") => begins(0),
        (None, "kv_in" | "memory") => of(0, &["norm_kv1", "norm_y", "multihead_attn.in_proj_weight"], Side::In),
        (None, "norm" | "decoder_norm") => vec![(last_norm.to_string(), Side::Out)],
        (None, "decoder_pred") => vec![(what.to_string(), Side::Out)],
        (Some(block), "out") => {
            let ends = [of(block, &["norm1"], Side::Out), vec![(last_norm.to_string(), Side::In)]].concat();
            [begins(block + 1), ends].concat()
        }
        (Some(block), "attn" | "self_attn") => of(block, &["attn.proj", "self_attn.out_proj"], Side::Out),
        (Some(block), "cattn" | "cross_attn") => {
            of(block, &["cattn.proj", "cross_attn.proj", "multihead_attn.out_proj"], Side::Out)
        }
        (Some(block), "mlp" | "mlp2" | "ffn") => of(block, &["mlp.fc2", "mlp2.fc2", "linear2"], Side::Out),
        (Some(block), "mlp_fc1") => of(block, &["mlp.fc1"], Side::Out),
        (Some(block), "mlp_gelu") => of(block, &["mlp.fc2"], Side::In),
        (Some(block), norm) if norm.starts_with("norm") => of(block, &[norm], Side::Out),
        _ => Vec::new(),
    }
}
