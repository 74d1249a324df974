//! What the model makes of some frames, for people: input, what it saw, what it predicted.

use std::path::Path;

use burn::tensor::Device;
use foresee_runtime::write_atomically;
use image::{ImageFormat, RgbImage};

use super::components::component_colours;
use crate::checkpoint::Checkpoint;
use crate::error::ModelsError;
use crate::frames::FrameStore;
use crate::mask::Mask;
use crate::method::{Draws, encode, read_values, run_method};
use crate::random::{Stream, generator};
use crate::recipe::{Recipe, TokensRecipe};
use crate::step::{draw, to_views};
use crate::views::ViewMaker;
use crate::weights::Weights;

/// Frames in the picture, evenly spread over the data.
const NUM_SAMPLES: usize = 12;
/// Pixels around each tile.
const MARGIN: usize = 2;
/// Grey of a hidden patch.
const HIDDEN_GREY: f32 = 0.5;

/// Writes a PNG with a column a sample. Rows: each view, what the masked encoding saw of the first term's target, the prediction
/// (with the target's own patch means and deviations, since it predicts normalised pixels; visible patches are the input's where only
/// hidden ones count), for a method with a latent the prediction from the prior's sample, and the patch features' three strongest
/// components as colours.
///
/// # Errors
/// [`ModelsError`] when the model or the file fails.
pub fn save_reconstructions(checkpoint: &Checkpoint, store: &FrameStore, path: &Path) -> Result<(), ModelsError> {
    let recipe = &checkpoint.recipe;
    let Some(term) = recipe.terms.first() else { return Ok(()) };
    let scene = Scene::new(checkpoint, store)?;
    let mut predictions = vec![scene.predict(false)?];
    if recipe.latent.is_some() {
        predictions.push(scene.predict(true)?);
    }
    let colours = scene.colours(term.target_view)?;
    let masks = &scene.draws.masks;
    let mask = recipe.masked_encoding_idx(term.target_view).and_then(|idx| masks.get(idx)).cloned().flatten();
    let keeps_visible = term.tokens == TokensRecipe::Hidden;
    let num_views = scene.batches.len();
    let mut picture = Picture::new(recipe.encoder.image_size, [scene.num_samples, num_views + 2 + predictions.len()]);
    for sample_idx in 0..scene.num_samples {
        let tiles = |view: usize, prediction: &[f32]| {
            let [image, predicted] = [scene.batches.get(view).map_or(&[][..], Vec::as_slice), prediction]
                .map(|values| values.chunks_exact(scene.image_values()).nth(sample_idx).unwrap_or_default().to_vec());
            Tiles::new(recipe, [image, predicted], (mask.as_ref(), sample_idx))
        };
        for view in 0..num_views {
            picture.draw([sample_idx, view], &tiles(view, &[]).pixels(|_, value, _| value));
        }
        let seen = |is_hidden: bool, value, _| if is_hidden { HIDDEN_GREY } else { value };
        picture.draw([sample_idx, num_views], &tiles(term.target_view, &[]).pixels(seen));
        let shown = |is_hidden: bool, value, predicted| if is_hidden || !keeps_visible { predicted } else { value };
        for (prediction_idx, prediction) in predictions.iter().enumerate() {
            let row = num_views + 1 + prediction_idx;
            picture.draw([sample_idx, row], &tiles(term.target_view, prediction).pixels(shown));
        }
        let row = num_views + 1 + predictions.len();
        picture.draw([sample_idx, row], &scene.patch_pixels(&colours, sample_idx));
    }
    picture.save(path)
}

/// Some frames, the draws for them, and the model.
struct Scene<'a> {
    recipe: &'a Recipe,
    weights: Weights,
    device: Device,
    num_samples: usize,
    /// Each view's `[N, 3, S, S]`.
    batches: Vec<Vec<f32>>,
    draws: Draws,
}

impl<'a> Scene<'a> {
    fn new(checkpoint: &'a Checkpoint, store: &FrameStore) -> Result<Self, ModelsError> {
        let recipe = &checkpoint.recipe;
        let num_samples = NUM_SAMPLES.min(store.num_frames());
        let mut maker = ViewMaker::new(recipe)?;
        let mut batches = vec![Vec::new(); recipe.views.kind.num_views()];
        let mut sources = Vec::new();
        for sample_idx in 0..num_samples {
            let frame_idx = sample_idx * store.num_frames() / num_samples;
            let random = |part| generator(checkpoint.place.seed, Stream::Preview, [sample_idx as u64, part]);
            match batches.as_mut_slice() {
                [only] => maker.whole(store, frame_idx, only)?,
                batches => maker.make(store, (frame_idx, &mut random(0)), batches)?,
            }
            sources.push(random(1));
        }
        let device = Device::flex();
        let weights = Weights::upload(&checkpoint.parameters, &device);
        Ok(Self { recipe, weights, num_samples, batches, draws: draw(recipe, &mut sources), device })
    }

    fn image_values(&self) -> usize {
        3 * self.recipe.encoder.image_size * self.recipe.encoder.image_size
    }

    /// The first term's prediction `[N, L, 3pp]`, from the posterior's or the prior's sample.
    fn predict(&self, samples_prior: bool) -> Result<Vec<f32>, ModelsError> {
        let views = to_views(self.batches.clone(), self.recipe, &self.device);
        let draws = Draws { samples_prior, ..self.draws.clone() };
        let outcome = run_method(self.recipe, &self.weights, (&views, &draws))?;
        outcome.predictions.into_iter().next().map_or(Ok(Vec::new()), |prediction| read_values(prediction.into_data()))
    }

    /// A colour for each patch of each sample.
    fn colours(&self, view: usize) -> Result<Vec<[f32; 3]>, ModelsError> {
        let encoder = &self.recipe.encoder;
        let views = to_views(self.batches.clone(), self.recipe, &self.device);
        let Some(image) = views.into_iter().nth(view) else { return Ok(Vec::new()) };
        let encoded = encode(encoder, &self.weights, image, None)?;
        let tokens = encoded.tokens.narrow(1, encoder.num_class_tokens(), encoder.num_patches());
        Ok(component_colours(&read_values(tokens.into_data())?, encoder.dim))
    }

    /// `[S, S, 3]` with each patch in its colour.
    fn patch_pixels(&self, colours: &[[f32; 3]], sample_idx: usize) -> Vec<f32> {
        let [size, patch] = [self.recipe.encoder.image_size, self.recipe.encoder.patch_size];
        let first = sample_idx * self.recipe.encoder.num_patches();
        let places =
            (0..size).flat_map(|row| (0..size).map(move |column| row / patch * (size / patch) + column / patch));
        places.flat_map(|place| colours.get(first + place).copied().unwrap_or_default()).collect()
    }
}

/// One sample: its image, the prediction patch by patch, and which patches were hidden.
struct Tiles<'a> {
    recipe: &'a Recipe,
    image: Vec<f32>,
    predicted: Vec<f32>,
    hidden: Vec<bool>,
}

impl<'a> Tiles<'a> {
    fn new(recipe: &'a Recipe, [image, predicted]: [Vec<f32>; 2], (mask, sample_idx): (Option<&Mask>, usize)) -> Self {
        let num_patches = recipe.encoder.num_patches();
        let all = mask.map_or_else(Vec::new, Mask::hidden);
        let hidden = all
            .chunks_exact(num_patches)
            .nth(sample_idx)
            .map_or_else(|| vec![true; num_patches], |hidden| hidden.iter().map(|value| *value > 0.5).collect());
        Self { recipe, image, predicted, hidden }
    }

    /// `[S, S, 3]` values in 0..1; `choose` gets whether the patch was hidden, the pixel and its prediction.
    fn pixels(&self, choose: impl Fn(bool, f32, f32) -> f32) -> Vec<f32> {
        let [size, patch] = [self.recipe.encoder.image_size, self.recipe.encoder.patch_size];
        let columns = size / patch;
        let scales = self.patch_scales();
        let mut pixels = Vec::with_capacity(3 * size * size);
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            let patch_idx = row / patch * columns + column / patch;
            let inside = (row % patch * patch + column % patch) * 3;
            let is_hidden = self.hidden.get(patch_idx).copied().unwrap_or(false);
            let (mean, deviation) = scales.get(patch_idx).copied().unwrap_or((0.0, 1.0));
            for (channel, (&data_mean, &data_std)) in
                self.recipe.data.mean.iter().zip(&self.recipe.data.std).enumerate()
            {
                let value = self.value(channel, row * size + column);
                let predicted = self.predicted.get(patch_idx * 3 * patch * patch + inside + channel).copied();
                let predicted = predicted.unwrap_or(0.0) * deviation + mean;
                let [value, predicted] = [value, predicted].map(|value| value * data_std + data_mean);
                pixels.push(choose(is_hidden, value, predicted));
            }
        }
        pixels
    }

    fn value(&self, channel: usize, pixel: usize) -> f32 {
        let size = self.recipe.encoder.image_size;
        self.image.get(channel * size * size + pixel).copied().unwrap_or(0.0)
    }

    /// Mean and deviation of each patch, as the target's normalisation has them.
    fn patch_scales(&self) -> Vec<(f32, f32)> {
        let [size, patch] = [self.recipe.encoder.image_size, self.recipe.encoder.patch_size];
        let columns = size / patch;
        let scale = |patch_idx: usize| {
            let [top, left] = [patch_idx / columns * patch, patch_idx % columns * patch];
            let places = (0..3 * patch * patch).map(|idx| (idx / (patch * patch), idx % (patch * patch)));
            let values: Vec<f32> = places
                .map(|(channel, inside)| self.value(channel, (top + inside / patch) * size + left + inside % patch))
                .collect();
            let count = values.len() as f32;
            let mean = values.iter().sum::<f32>() / count;
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / (count - 1.0);
            (mean, (variance + 1e-6).sqrt())
        };
        (0..columns * columns).map(scale).collect()
    }
}

struct Picture {
    image: RgbImage,
    size: usize,
}

impl Picture {
    fn new(size: usize, [num_columns, num_rows]: [usize; 2]) -> Self {
        let extent = |count: usize| (count * (size + MARGIN) + MARGIN) as u32;
        Self { image: RgbImage::from_pixel(extent(num_columns), extent(num_rows), image::Rgb([255; 3])), size }
    }

    fn draw(&mut self, [column, row]: [usize; 2], pixels: &[f32]) {
        let [left, top] = [column, row].map(|place| place * (self.size + MARGIN) + MARGIN);
        for (pixel_idx, pixel) in pixels.as_chunks::<3>().0.iter().enumerate() {
            let place = [left + pixel_idx % self.size, top + pixel_idx / self.size].map(|place| place as u32);
            let bytes = pixel.map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8);
            if let Some(slot) = self.image.get_pixel_mut_checked(place[0], place[1]) {
                *slot = image::Rgb(bytes);
            }
        }
    }

    fn save(&self, path: &Path) -> Result<(), ModelsError> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let written = self.image.write_to(&mut bytes, ImageFormat::Png);
        written.map_err(|error| ModelsError::Training(format!("{}: {error}", path.display())))?;
        Ok(write_atomically(path, bytes.get_ref())?)
    }
}
