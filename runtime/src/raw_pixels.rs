//! An encoder that learnt nothing: the preprocessed pixels themselves. The baseline of every result, and for tests.

use std::collections::BTreeMap;

use foresee_firmware_config::Provider;

use crate::card::{
    CARD_FORMAT, Golden, ModelCard, ModelKind, PreprocessingCard, Provenance, Resize, TensorCard, TensorData,
};
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::error::RuntimeError;

/// Gives each row of the preprocessed image as a token (`N` = height, `D` = 3 * width: red, green, blue), and their mean as `cls`.
#[derive(Clone, Debug)]
pub struct RawPixels {
    card: ModelCard,
    report: EngineReport,
}

impl RawPixels {
    /// For images resized to this size in pixels, scaled to -1..1.
    pub fn new(height: usize, width: usize) -> Self {
        let preprocessing = PreprocessingCard {
            width,
            height,
            resize: Resize::BilinearAntialias,
            crop: None,
            mean: [0.5; 3],
            std: [0.5; 3],
            hash: String::new(),
        }
        .with_hash();
        let tensor = TensorCard::f32;
        let golden = |tensors: &[TensorCard]| -> BTreeMap<String, TensorData> {
            let zeros = |card: &TensorCard| TensorData::new(&card.shape, &vec![0.0; card.shape.iter().product()]);
            tensors.iter().map(|card| (card.name.clone(), zeros(card))).collect()
        };
        let inputs = vec![tensor("image", &[1, 3, height, width])];
        let outputs = vec![tensor("tokens", &[1, height, 3 * width]), tensor("cls", &[1, 3 * width])];
        // There is no file to hash; what it does is its preprocessing.
        let sha256 = preprocessing.hash.clone();
        let report = EngineReport {
            provider: Provider::Cpu,
            engine: "raw pixels".to_owned(),
            reason: "nothing to infer".to_owned(),
            intra_threads: 1,
            precision: "f32".to_owned(),
            nodes: BTreeMap::new(),
            images: 1,
            signed_by: None,
            model_sha256: sha256.clone(),
        };
        let card = ModelCard {
            format: CARD_FORMAT,
            kind: ModelKind::Encoder,
            name: format!("raw-pixels-{width}x{height}"),
            model: String::new(),
            sha256,
            golden: Golden { inputs: golden(&inputs), outputs: golden(&outputs), tolerance: 1e-6 },
            inputs,
            outputs,
            preprocessing: Some(preprocessing),
            external: Vec::new(),
            interface: None,
            joints: Vec::new(),
            encoder_sha256: None,
            provenance: Provenance::default(),
        };
        Self { card, report }
    }
}

impl Encoder for RawPixels {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn report(&self) -> &EngineReport {
        &self.report
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        let EncoderInput { height, width, ref data } = *input;
        if data.len() != 3 * height * width || data.is_empty() {
            let problem = format!("{} values do not make an image of {width}x{height}", data.len());
            return Err(RuntimeError::Inference { model: self.card.name.clone(), problem });
        }
        (features.num_tokens, features.dim) = (height, 3 * width);
        features.tokens.resize(3 * height * width, 0.0);
        features.cls.resize(3 * width, 0.0);
        for (channel, plane) in data.chunks_exact(height * width).enumerate() {
            for (token, row) in features.tokens.chunks_exact_mut(3 * width).zip(plane.chunks_exact(width)) {
                let values = token.iter_mut().skip(channel * width);
                values.zip(row).for_each(|(value, pixel)| *value = *pixel);
            }
        }
        features.cls.fill(0.0);
        for token in features.tokens.chunks_exact(3 * width) {
            features.cls.iter_mut().zip(token).for_each(|(mean, value)| *mean += value / height as f32);
        }
        Ok(())
    }
}
