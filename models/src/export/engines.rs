//! What each engine makes of an exported file, beside the training framework.

use std::path::Path;

use foresee_runtime::{EncoderInput, EngineOptions, Features, ProviderChoice, open_encoder};
use serde::{Deserialize, Serialize};

/// One engine's agreement with the training framework.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineCheck {
    /// Such as `cpu` or `tract`.
    pub provider: String,
    /// Name and version of what ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Inputs that were compared.
    pub inputs: usize,
    /// Smallest cosine over the inputs between all of its tokens and the framework's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine_tokens: Option<f64>,
    /// Smallest cosine over the inputs between its class token and the framework's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine_cls: Option<f64>,
    /// Largest absolute difference of any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_error: Option<f64>,
    /// Why it does not run the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Runs `inputs`, and gives the largest difference on the first of them, the golden one.
pub(super) fn check_engine(
    (model, options): (&Path, &EngineOptions),
    (inputs, wanted): (&[EncoderInput], &[Features]),
) -> (EngineCheck, Option<f32>) {
    let provider = match &options.choice {
        ProviderChoice::Exactly(provider) => provider.name().to_string(),
        ProviderChoice::Auto(_) => "auto".to_string(),
    };
    let mut check = EngineCheck { provider, ..EngineCheck::default() };
    let mut encoder = match open_encoder(model, options) {
        Ok(encoder) => encoder,
        Err(error) => {
            check.refused = Some(error.to_string());
            return (check, None);
        }
    };
    check.engine = Some(encoder.report().engine.clone());
    let mut found = Features::zeros(0, 0);
    let [mut tokens, mut cls] = [1.0_f64; 2];
    let mut errors = Vec::with_capacity(inputs.len());
    for (input, wanted) in inputs.iter().zip(wanted) {
        if let Err(error) = encoder.encode(input, &mut found) {
            check.refused = Some(error.to_string());
            return (check, None);
        }
        if found.tokens.iter().chain(&found.cls).any(|value| !value.is_finite()) {
            check.refused = Some("gives values that are not finite".to_string());
            return (check, None);
        }
        tokens = tokens.min(cosine(&found.tokens, &wanted.tokens));
        cls = cls.min(cosine(&found.cls, &wanted.cls));
        let pairs = found.tokens.iter().zip(&wanted.tokens).chain(found.cls.iter().zip(&wanted.cls));
        errors.push(pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max));
    }
    check.inputs = inputs.len();
    // Short decimals read back from JSON as they were written.
    let [tokens, cls] = [tokens, cls].map(|cosine| (cosine * 1e9).round() / 1e9);
    check.cosine_tokens = Some(tokens);
    check.cosine_cls = Some(cls);
    let largest = errors.iter().copied().reduce(f32::max).map(f64::from);
    check.max_error = largest.map(|error| format!("{error:.2e}").parse().unwrap_or(error));
    (check, errors.first().copied())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt().max(1e-30)
}
