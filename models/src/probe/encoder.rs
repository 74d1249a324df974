//! What is probed: a trained encoder, one that learnt nothing, or the pixels themselves.

use foresee_runtime::{EncoderInput, Frame, PreprocessingCard, Preprocessor};

use crate::encoder::{EncoderWeights, GridFeatures, TrainedEncoder};
use crate::error::ModelsError;
use crate::parameters::Parameters;
use crate::recipe::{DataRecipe, Recipe};

/// Frames that go through the network at a time.
const BATCH: usize = 8;
/// Largest side of what an encoder is given, in pixels.
const MAX_SIDE: usize = 4096;

/// What is probed, under a name. Frames are resized and normalised by the runtime's own preprocessing.
pub struct ProbeEncoder {
    name: String,
    kind: Kind,
    patch: usize,
    has_class_token: bool,
    data: DataRecipe,
}

enum Kind {
    Trained(Box<TrainedEncoder>),
    RawPixels,
}

impl ProbeEncoder {
    /// Weights of a checkpoint or an import.
    pub fn trained(name: &str, weights: &EncoderWeights) -> Self {
        let trained = TrainedEncoder::new(&weights.recipe, &weights.parameters);
        Self::with_kind(name, &weights.recipe, Kind::Trained(Box::new(trained)))
    }

    /// The recipe's encoder as it starts: the first baseline.
    pub fn random(name: &str, recipe: &Recipe, seed: u64) -> Self {
        let trained = TrainedEncoder::new(recipe, &Parameters::initialise(recipe, seed));
        Self::with_kind(name, recipe, Kind::Trained(Box::new(trained)))
    }

    /// Each patch's pixels in place of the recipe's encoder: the second baseline. It has no class token.
    pub fn raw_pixels(name: &str, recipe: &Recipe) -> Self {
        Self::with_kind(name, recipe, Kind::RawPixels)
    }

    fn with_kind(name: &str, recipe: &Recipe, kind: Kind) -> Self {
        let Recipe { encoder, data, .. } = recipe;
        Self {
            name: name.to_string(),
            kind,
            patch: encoder.patch_size,
            has_class_token: encoder.class_token,
            data: data.clone(),
        }
    }

    /// Its name in results.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pixels of a patch's side.
    pub fn patch_size(&self) -> usize {
        self.patch
    }

    /// What [`GridFeatures::cls`] is; nothing for raw pixels, which have none.
    pub fn cls_name(&self) -> Option<&'static str> {
        match (&self.kind, self.has_class_token) {
            (Kind::RawPixels, _) => None,
            (Kind::Trained(_), true) => Some("class token"),
            (Kind::Trained(_), false) => Some("mean patch"),
        }
    }

    /// Features of frames on a grid of `rows` x `columns` patches.
    ///
    /// # Errors
    /// [`ModelsError`] when a frame's bytes do not fit its size, or the grid is empty or beyond 4096 pixels.
    pub fn features(&self, frames: &[Frame], [rows, columns]: [usize; 2]) -> Result<GridFeatures, ModelsError> {
        let [height, width] = [rows * self.patch, columns * self.patch];
        if height == 0 || width == 0 || height.max(width) > MAX_SIDE {
            let problem = format!("a grid of {rows}x{columns} patches of {} pixels cannot be used", self.patch);
            return Err(ModelsError::Training(problem));
        }
        let card = PreprocessingCard { width, height, ..self.data.preprocessing(height) };
        let mut preprocessor = Preprocessor::new(&card.with_hash())?;
        let mut inputs = vec![EncoderInput::zeros(height, width); BATCH.min(frames.len())];
        let mut all = GridFeatures { rows, columns, ..GridFeatures::default() };
        for part in frames.chunks(BATCH) {
            for (frame, input) in part.iter().zip(&mut inputs) {
                preprocessor.run(frame, input)?;
            }
            let inputs = inputs.get(..part.len()).unwrap_or_default();
            let features = match &self.kind {
                Kind::Trained(encoder) => encoder.grid_features(inputs)?,
                Kind::RawPixels => raw_patches(inputs, self.patch),
            };
            all.dim = features.dim;
            all.tokens.extend(features.tokens);
            all.cls.extend(features.cls);
        }
        Ok(all)
    }
}

/// `3 p p` values of each patch: channel, row, column.
fn raw_patches(inputs: &[EncoderInput], patch: usize) -> GridFeatures {
    let [height, width] = inputs.first().map_or([0; 2], |input| [input.height, input.width]);
    let [rows, columns] = [height / patch, width / patch];
    let mut tokens = Vec::with_capacity(inputs.len() * 3 * height * width);
    for input in inputs {
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))) {
            for (channel, line) in (0..3).flat_map(|channel| (0..patch).map(move |line| (channel, line))) {
                let start = (channel * height + row * patch + line) * width + column * patch;
                tokens.extend_from_slice(input.data.get(start..start + patch).unwrap_or_default());
            }
        }
    }
    GridFeatures { rows, columns, dim: 3 * patch * patch, tokens, cls: Vec::new() }
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::PixelEncoding;

    use super::*;

    #[test]
    fn raw_pixels_are_the_patches_and_baselines_share_the_grid() {
        let recipe = Recipe::load("mae-64").expect("a recipe");
        let mut frame = Frame::black(16, 16, PixelEncoding::Rgb8);
        // The lower right patch is red.
        for (row, column) in (8..16).flat_map(|row| (8..16).map(move |column| (row, column))) {
            frame.data[3 * (row * 16 + column)] = 255;
        }
        let raw = ProbeEncoder::raw_pixels("pixels", &recipe).features(&[frame.clone()], [2, 2]).expect("features");
        assert_eq!([raw.rows, raw.columns, raw.dim, raw.tokens.len(), raw.cls.len()], [2, 2, 192, 768, 0]);
        let red = raw.tokens.iter().map(|value| u8::from(*value > 2.0)).collect::<Vec<_>>();
        assert_eq!(red.iter().position(|value| *value == 1), Some(3 * 192));
        assert_eq!(red.iter().filter(|value| **value == 1).count(), 64);
        let frames = vec![frame; 9];
        let random = ProbeEncoder::random("random", &recipe, 1);
        let features = random.features(&frames, [2, 3]).expect("features");
        assert_eq!([features.tokens.len(), features.cls.len()], [9 * 6 * 128, 9 * 128]);
        let mut without = recipe.clone();
        without.encoder.class_token = false;
        let mean = ProbeEncoder::random("random", &without, 1);
        assert_eq!([random.cls_name(), mean.cls_name()], [Some("class token"), Some("mean patch")]);
        let features = mean.features(&frames[..1], [2, 3]).expect("features");
        let first: f32 = features.tokens.iter().step_by(128).sum::<f32>() / 6.0;
        assert!((features.cls[0] - first).abs() < 1e-5);
        assert!(ProbeEncoder::raw_pixels("pixels", &recipe).features(&frames, [0, 3]).is_err());
    }
}
