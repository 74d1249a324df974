//! What a patch's normalisation takes from its values.

/// Added to the variance, as the targets' normalisation has it.
const EPSILON: f32 = 1e-6;

/// Mean and unbiased deviation of a patch's values: what a prediction of normalised values gets back.
pub(crate) fn patch_scale(values: &[f32]) -> [f32; 2] {
    let count = values.len() as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / (count - 1.0).max(1.0);
    [mean, (variance + EPSILON).sqrt()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{normalise_patches, read_values};

    #[test]
    fn a_normalised_patch_gets_its_values_back() {
        let values = [0.5, -1.0, 2.0, 0.25, 0.0, 1.0];
        let patch = burn::tensor::Tensor::<3>::from_data([[values]], &burn::tensor::Device::flex());
        let normalised = read_values(normalise_patches(patch).into_data()).unwrap();
        let [mean, deviation] = patch_scale(&values);
        for (value, normalised) in values.iter().zip(normalised) {
            assert!((normalised * deviation + mean - value).abs() < 1e-6);
        }
    }
}
