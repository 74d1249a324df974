//! The one check of a recipe: refuses impossible combinations and says why.

use std::collections::BTreeSet;

use super::{
    BlockKind, DecoderRecipe, EncoderRecipe, MemoryRecipe, Positions, QueriesRecipe, Recipe, TermRecipe, TokensRecipe,
    ViewsKind,
};
use crate::error::ModelsError;

/// Largest width, depth or size that a recipe may ask for: far above any published model, far below an overflow.
const LARGEST: usize = 1 << 16;

impl Recipe {
    /// Checks every combination that types cannot.
    ///
    /// # Errors
    /// [`ModelsError::Recipe`] naming the key, the value and what it must be.
    pub fn validate(&self) -> Result<(), ModelsError> {
        self.check().map_err(|problem| ModelsError::Recipe { name: self.name.clone(), problem })
    }

    /// The same, without saying which recipe.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_encoder(&self.encoder)
            .and_then(|()| self.check_views())
            .and_then(|()| self.check_encodings())
            .and_then(|()| self.decoders.iter().try_for_each(|(name, decoder)| self.check_decoder(name, decoder)))
            .and_then(|()| self.check_latent())
            .and_then(|()| self.check_terms())
            .and_then(|()| self.check_optimiser())
            .and_then(|()| self.check_data())
    }

    fn check_views(&self) -> Result<(), String> {
        let views = &self.views;
        check_range("views.crop_area", views.crop_area, 1.0)?;
        check_range("views.nested_crop_area", views.nested_crop_area, 1.0)?;
        check_range("views.crop_aspect", views.crop_aspect, 100.0)?;
        if views.gap[0] == 0 || views.gap[0] > views.gap[1] || views.gap[1] > LARGEST {
            let gap = views.gap;
            return Err(format!("views.gap is {gap:?}; it must be [least, most] with 1 <= least <= most <= {LARGEST}"));
        }
        if (views.kind == ViewsKind::Clip) != (self.encoder.frames > 1) {
            let frames = self.encoder.frames;
            return Err(format!("encoder.frames is {frames}; it is above 1 exactly for views.kind = \"clip\""));
        }
        check_share("views.flip_probability", views.flip_probability)
    }

    fn check_encodings(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        if self.encodings.is_empty() {
            return Err("encodings is empty; the encoder must see something".to_string());
        }
        for encoding in &self.encodings {
            let name = &encoding.name;
            if !names.insert(name) {
                return Err(format!("encodings.name {name} is there twice"));
            }
            if encoding.view >= self.views.kind.num_views() {
                let [view, last] = [encoding.view, self.views.kind.num_views() - 1];
                return Err(format!("encodings.{name}.view is {view}; the last of this kind of views is {last}"));
            }
            check_share(&format!("encodings.{name}.mask_ratio"), encoding.mask_ratio)?;
            if !(0.0..=10.0).contains(&encoding.noise) {
                return Err(format!("encodings.{name}.noise is {}; it must lie in 0..=10", encoding.noise));
            }
            if encoding.num_visible(&self.encoder) == 0 {
                return Err(format!("encodings.{name}.mask_ratio {} leaves no patch visible", encoding.mask_ratio));
            }
        }
        Ok(())
    }

    fn check_decoder(&self, name: &str, decoder: &DecoderRecipe) -> Result<(), String> {
        let plain = name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
        if !plain || name.is_empty() {
            return Err(format!("decoders.{name}: a decoder's name is of a-z and _"));
        }
        check_transformer(&format!("decoders.{name}"), [decoder.dim, decoder.depth, decoder.heads, decoder.mlp_dim])?;
        if !(0.0..1.0).contains(&decoder.dropout)
            || (decoder.dropout > 0.0 && decoder.block != BlockKind::CrossMlpSelfPost)
        {
            let dropout = decoder.dropout;
            return Err(format!(
                "decoders.{name}.dropout is {dropout}; it must lie in 0..1, and is of cross_mlp_self_post"
            ));
        }
        if self.encoder.positions == Positions::Rope100 && decoder.block != BlockKind::SelfCross {
            return Err(format!("decoders.{name}.block: rotary positions need the block self_cross"));
        }
        check_positions(self.encoder.positions, &format!("decoders.{name}"), [decoder.dim, decoder.heads])
    }

    fn check_latent(&self) -> Result<(), String> {
        let Some(latent) = &self.latent else { return Ok(()) };
        for (key, name) in [("prior", &latent.prior), ("posterior", &latent.posterior)] {
            if self.encoding_idx(name).is_none() {
                return Err(format!("latent.{key} is {name}; there is no encoding of that name"));
            }
        }
        if !self.encoder.class_token {
            return Err("latent needs encoder.class_token = true".to_string());
        }
        if !(1..=LARGEST).contains(&latent.groups) || !(2..=LARGEST).contains(&latent.classes) {
            let [groups, classes] = [latent.groups, latent.classes];
            return Err(format!(
                "latent.groups, classes are {groups}, {classes}; give 1..={LARGEST} groups of 2..={LARGEST} classes"
            ));
        }
        check_share("latent.kl_posterior_share", latent.kl_posterior_share)?;
        let finite = latent.kl_weight.is_finite() && (0.0..f64::INFINITY).contains(&latent.kl_free_nats);
        if finite {
            Ok(())
        } else {
            Err("latent.kl_weight and kl_free_nats must be finite, the latter >= 0".to_string())
        }
    }

    fn check_terms(&self) -> Result<(), String> {
        if self.terms.is_empty() {
            return Err("terms is empty; there must be something to predict".to_string());
        }
        self.terms
            .iter()
            .try_for_each(|term| self.check_term(term).map_err(|why| format!("terms.{}: {why}", term.name)))
    }

    fn check_term(&self, term: &TermRecipe) -> Result<(), String> {
        let decoder = self
            .decoders
            .get(&term.decoder)
            .ok_or_else(|| format!("decoder is {}; there is no decoder of that name", term.decoder))?;
        if !term.weight.is_finite() || term.weight < 0.0 {
            return Err(format!("weight is {}; it must be finite and not negative", term.weight));
        }
        if term.target_view >= self.views.kind.num_views() {
            let [view, last] = [term.target_view, self.views.kind.num_views() - 1];
            return Err(format!("target_view is {view}; the last of this kind of views is {last}"));
        }
        if term.tokens == TokensRecipe::Hidden && self.masked_encoding_idx(term.target_view).is_none() {
            return Err("tokens = \"hidden\" needs an encoding of the target view with a mask_ratio".to_string());
        }
        match (decoder.block, term.memory.is_empty()) {
            (BlockKind::SelfOnly, false) => {
                return Err("memory is given, but the block self has no cross-attention".into());
            }
            (BlockKind::SelfCross | BlockKind::CrossMlpSelfPost, true) => {
                return Err("memory is empty, but the decoder's block looks at one".into());
            }
            _ => {}
        }
        if let QueriesRecipe::Filled { encoding, class_token_of, .. } = &term.queries {
            self.check_encoding_name(encoding)?;
            class_token_of.iter().try_for_each(|name| self.check_encoding_name(name))?;
            if class_token_of.is_some() && !self.encoder.class_token {
                return Err("class_token_of needs encoder.class_token = true".to_string());
            }
        }
        term.memory.iter().try_for_each(|part| self.check_memory(part))
    }

    fn check_memory(&self, part: &MemoryRecipe) -> Result<(), String> {
        match part {
            MemoryRecipe::Tokens { encoding, .. } => {
                self.check_encoding_name(encoding)?;
                let masked = self.encodings.iter().any(|known| known.name == *encoding && known.mask_ratio > 0.0);
                if masked {
                    Err(format!("memory of kind tokens needs a whole view; {encoding} is masked"))
                } else {
                    Ok(())
                }
            }
            MemoryRecipe::Filled { encoding, .. } => self.check_encoding_name(encoding),
            MemoryRecipe::Latent { .. } if self.latent.is_none() => {
                Err("memory of kind latent needs [latent]".to_string())
            }
            MemoryRecipe::Latent { .. } => Ok(()),
        }
    }

    fn check_encoding_name(&self, name: &str) -> Result<(), String> {
        match self.encoding_idx(name) {
            Some(_) => Ok(()),
            None => Err(format!("there is no encoding {name}")),
        }
    }

    fn check_optimiser(&self) -> Result<(), String> {
        let optimiser = &self.optimiser;
        let positive = [("base_learning_rate", optimiser.base_learning_rate), ("epsilon", optimiser.epsilon)];
        if let Some((key, value)) = positive.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(format!("optimiser.{key} is {value}; it must be positive"));
        }
        if let Some(beta) = optimiser.betas.iter().find(|beta| !(0.0..1.0).contains(*beta)) {
            return Err(format!("optimiser.betas holds {beta}; each must lie in 0..1"));
        }
        check_share("optimiser.weight_decay", optimiser.weight_decay)?;
        if !(1..=LARGEST).contains(&optimiser.batch_size) {
            return Err(format!("optimiser.batch_size is {}; it must lie in 1..={LARGEST}", optimiser.batch_size));
        }
        if optimiser.steps == 0 {
            return Err("optimiser.steps is 0; give at least 1".to_string());
        }
        if optimiser.warm_up_steps > optimiser.steps {
            let [warm_up, steps] = [optimiser.warm_up_steps, optimiser.steps];
            return Err(format!("optimiser.warm_up_steps is {warm_up}, more than steps {steps}"));
        }
        Ok(())
    }

    fn check_data(&self) -> Result<(), String> {
        let data = &self.data;
        if !(8..=4096).contains(&data.stored_size) {
            return Err(format!("data.stored_size is {}; it must lie in 8..=4096", data.stored_size));
        }
        if !(1..=64).contains(&data.repeated_sampling) {
            return Err(format!("data.repeated_sampling is {}; it must lie in 1..=64", data.repeated_sampling));
        }
        if data.std.iter().any(|std| !(std.is_finite() && *std > 0.0)) || data.mean.iter().any(|mean| !mean.is_finite())
        {
            return Err("data.mean must be finite and data.std positive".to_string());
        }
        Ok(())
    }
}

fn check_encoder(encoder: &EncoderRecipe) -> Result<(), String> {
    let [image, patch] = [encoder.image_size, encoder.patch_size];
    if patch == 0 || image == 0 || image > 4096 || image % patch != 0 {
        return Err(format!("encoder.patch_size {patch} must divide encoder.image_size {image} (at most 4096)"));
    }
    let [frames, tubelet] = [encoder.frames, encoder.tubelet];
    if tubelet == 0 || frames == 0 || frames > 256 || frames % tubelet != 0 {
        return Err(format!("encoder.tubelet {tubelet} must divide encoder.frames {frames} (at most 256)"));
    }
    check_transformer("encoder", [encoder.dim, encoder.depth, encoder.heads, encoder.mlp_dim])?;
    check_positions(encoder.positions, "encoder", [encoder.dim, encoder.heads])
}

fn check_transformer(key: &str, [dim, depth, heads, mlp_dim]: [usize; 4]) -> Result<(), String> {
    for (name, value) in [("dim", dim), ("depth", depth), ("heads", heads), ("mlp_dim", mlp_dim)] {
        if !(1..=LARGEST).contains(&value) {
            return Err(format!("{key}.{name} is {value}; it must lie in 1..={LARGEST}"));
        }
    }
    if dim % heads != 0 {
        return Err(format!("{key}.heads {heads} must divide {key}.dim {dim}"));
    }
    Ok(())
}

fn check_positions(positions: Positions, key: &str, [dim, heads]: [usize; 2]) -> Result<(), String> {
    match positions {
        Positions::SinCos if dim % 4 != 0 => {
            Err(format!("{key}.dim is {dim}; sine and cosine tables need a multiple of 4"))
        }
        Positions::Rope100 if (dim / heads) % 4 != 0 => {
            Err(format!("{key}: dim / heads is {}; rotary positions need a multiple of 4", dim / heads))
        }
        _ => Ok(()),
    }
}

fn check_share(key: &str, value: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(format!("{key} is {value}; it must lie in 0..=1")) }
}

fn check_range(key: &str, [least, most]: [f64; 2], limit: f64) -> Result<(), String> {
    if least > 0.0 && least <= most && most <= limit {
        return Ok(());
    }
    Err(format!("{key} is [{least}, {most}]; it must be [least, most] with 0 < least <= most <= {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told_with_key_value_and_limit() {
        let check = |change: fn(&mut Recipe), wanted: &str| {
            let mut recipe = Recipe::load("rsp-64").expect("the recipe");
            change(&mut recipe);
            assert_eq!(recipe.check(), Err(wanted.to_string()));
        };
        check(
            |recipe| recipe.optimiser.batch_size = 4_000_000_000,
            "optimiser.batch_size is 4000000000; it must lie in 1..=65536",
        );
        check(|recipe| recipe.optimiser.steps = 0, "optimiser.steps is 0; give at least 1");
        check(
            |recipe| recipe.views.gap = [1, 100_000],
            "views.gap is [1, 100000]; it must be [least, most] with 1 <= least <= most <= 65536",
        );
        check(
            |recipe| recipe.terms[0].target_view = 2,
            "terms.future: target_view is 2; the last of this kind of views is 1",
        );
        check(
            |recipe| recipe.latent.as_mut().expect("a latent").kl_free_nats = f64::INFINITY,
            "latent.kl_weight and kl_free_nats must be finite, the latter >= 0",
        );
    }
}
