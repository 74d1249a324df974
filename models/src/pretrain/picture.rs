//! What the model makes of some samples, for people: what it got, what it saw, what it predicted.

use std::path::Path;

use burn::tensor::Device;
use foresee_runtime::write_atomically;
use image::{ImageFormat, RgbImage};

use super::components::component_colours;
use crate::checkpoint::Checkpoint;
use crate::clips::ClipSource;
use crate::error::ModelsError;
use crate::loader::{Sampler, Unreadable};
use crate::mask::Mask;
use crate::method::{Draws, LatentDraw, encode, read_values, run_method};
use crate::patches::patch_scale;
use crate::random::{Stream, generator, uniforms};
use crate::recipe::{MemoryRecipe, Recipe, TermRecipe, TokensRecipe, ViewsKind};
use crate::step::{draw, to_batches, to_views};
use crate::weights::Weights;

/// Samples in the picture, evenly spread over the data; fewer of larger images.
const NUM_SAMPLES: usize = 12;
/// Pixels of a row of the picture, about.
const ROW_PIXELS: usize = 1400;
/// Futures sampled from the prior, and from the posterior.
const NUM_FUTURES: usize = 2;
/// Pixels around each tile.
const MARGIN: usize = 2;
/// Grey of a hidden patch.
const HIDDEN_GREY: f32 = 0.5;

/// Some samples and the draws for them, the same throughout a run.
pub(super) struct Preview {
    num_samples: usize,
    /// Each view's `[N, 3T, S, S]`.
    batches: Vec<Vec<f32>>,
    draws: Draws,
}

/// The picture of a moment: a column a sample.
pub(super) struct Pictures {
    /// What each row shows, from the top.
    pub(super) rows: Vec<String>,
    picture: Picture,
}

impl Pictures {
    /// Writes a PNG.
    pub(super) fn save(&self, path: &Path) -> Result<(), ModelsError> {
        self.picture.save(path)
    }
}

impl Preview {
    /// Samples that can be read, evenly spread over the source.
    pub(super) fn new(
        checkpoint: &Checkpoint,
        source: &dyn ClipSource,
        unreadable: &Unreadable,
    ) -> Result<Self, ModelsError> {
        let recipe = &checkpoint.recipe;
        let count = NUM_SAMPLES.min((ROW_PIXELS / recipe.encoder.image_size).max(2)).min(source.num_samples());
        let mut sampler = Sampler::new(recipe, source, unreadable)?;
        let mut samples = Vec::with_capacity(count);
        let mut sources = Vec::with_capacity(count);
        for column in 0..count {
            let random = |part| generator(checkpoint.place.seed, Stream::Preview, [column as u64, part]);
            let place = source.sample(column * source.num_samples() / count);
            // What cannot be read is told when training comes to it.
            if let Ok(sample) = sampler.preview(place, &mut random(0)) {
                samples.push(sample);
                sources.push(random(1));
            }
        }
        let draws = Draws { dropout: None, ..draw(recipe, &mut sources) };
        Ok(Self { num_samples: samples.len(), batches: to_batches(&samples), draws })
    }

    /// Rows: each view; for each term what its masked encoding saw and the prediction (with the target's own patch means and
    /// deviations, since it predicts normalised pixels; visible patches are the input's where only hidden ones count); for a term with a
    /// latent, futures sampled from the posterior and from the prior; the patch features' three strongest components as colours.
    pub(super) fn draw(&self, checkpoint: &Checkpoint) -> Result<Pictures, ModelsError> {
        let device = Device::flex();
        let weights = Weights::upload(&checkpoint.parameters, &device);
        let scene = Scene { preview: self, recipe: &checkpoint.recipe, weights, device };
        let mut rows: Vec<(String, Vec<Vec<f32>>)> = Vec::new();
        if self.num_samples > 0 {
            scene.view_rows(&mut rows);
            for (term_idx, term) in checkpoint.recipe.terms.iter().enumerate() {
                scene.term_rows((term_idx, term), &mut rows)?;
            }
            let view = checkpoint.recipe.terms.first().map_or(0, |term| term.target_view);
            rows.push(("patch features, three strongest components".to_string(), scene.component_tiles(view)?));
        }
        let mut picture = Picture::new(checkpoint.recipe.encoder.image_size, [self.num_samples, rows.len()]);
        for (row_idx, (_, tiles)) in rows.iter().enumerate() {
            for (column, tile) in tiles.iter().enumerate() {
                picture.draw([column, row_idx], tile);
            }
        }
        Ok(Pictures { rows: rows.into_iter().map(|(label, _)| label).collect(), picture })
    }
}

/// The samples and the model. A row is a tile `[S, S, 3]` a sample.
struct Scene<'a> {
    preview: &'a Preview,
    recipe: &'a Recipe,
    weights: Weights,
    device: Device,
}

impl Scene<'_> {
    fn view_rows(&self, rows: &mut Vec<(String, Vec<Vec<f32>>)>) {
        let labels: &[&str] = match self.recipe.views.kind {
            ViewsKind::Single | ViewsKind::Clip => &["input"],
            ViewsKind::FramePair | ViewsKind::FramePairOwnCrops => &["earlier frame", "later frame"],
            ViewsKind::NestedCrops => &["global crop", "local crop"],
        };
        for (view, label) in labels.iter().enumerate() {
            self.push(rows, label, |time| self.tiles((view, time), (None, Predicted::NONE), |_, value, _| value));
        }
    }

    fn term_rows(
        &self,
        (term_idx, term): (usize, &TermRecipe),
        rows: &mut Vec<(String, Vec<Vec<f32>>)>,
    ) -> Result<(), ModelsError> {
        let mask = self.recipe.masked_encoding_idx(term.target_view).and_then(|idx| self.preview.draws.masks.get(idx));
        let mask = mask.and_then(Option::as_ref).filter(|_| term.tokens == TokensRecipe::Hidden);
        if mask.is_some() && term_idx == self.first_with_mask() {
            let seen = |is_hidden: bool, value, _| if is_hidden { HIDDEN_GREY } else { value };
            let tiles = |time| self.tiles((term.target_view, time), (mask, Predicted::NONE), seen);
            self.push(rows, "what the encoder sees", tiles);
        }
        let shown = |is_hidden: bool, value, predicted| if is_hidden { predicted } else { value };
        let mut push = |label: String, draws: &Draws| -> Result<(), ModelsError> {
            let prediction = self.predict(term_idx, draws)?;
            let predicted = Predicted { patches: &prediction, normalised: term.normalised };
            self.push(rows, &label, |time| self.tiles((term.target_view, time), (mask, predicted), shown));
            Ok(())
        };
        if !term.memory.iter().any(|part| matches!(part, MemoryRecipe::Latent { .. })) {
            return push(format!("output: {}", term.name), &self.preview.draws);
        }
        for (from, samples_prior) in [("posterior", false), ("prior", true)] {
            for future in 1..=NUM_FUTURES {
                let mut draws = Draws { samples_prior, ..self.preview.draws.clone() };
                if let LatentDraw::Uniforms(values) = &mut draws.latent {
                    let mut random = generator(0, Stream::Preview, [u64::MAX, future as u64]);
                    *values = uniforms(&mut random, values.len());
                }
                push(format!("output: {}, sample {future} from the {from}", term.name), &draws)?;
            }
        }
        Ok(())
    }

    /// The first term that counts hidden patches: what is hidden is shown once.
    fn first_with_mask(&self) -> usize {
        self.recipe.terms.iter().position(|term| term.tokens == TokensRecipe::Hidden).unwrap_or(0)
    }

    /// A row, or for clips one of the first frame and one of the last.
    fn push(&self, rows: &mut Vec<(String, Vec<Vec<f32>>)>, label: &str, tiles: impl Fn(usize) -> Vec<Vec<f32>>) {
        let last = self.recipe.encoder.frames - 1;
        if last == 0 {
            return rows.push((label.to_string(), tiles(0)));
        }
        for time in [0, last] {
            rows.push((format!("{label}, frame {}", time + 1), tiles(time)));
        }
    }

    fn tiles(
        &self,
        (view, time): (usize, usize),
        (mask, predicted): (Option<&Mask>, Predicted<'_>),
        choose: impl Fn(bool, f32, f32) -> f32 + Copy,
    ) -> Vec<Vec<f32>> {
        let batch = self.preview.batches.get(view).map_or(&[][..], Vec::as_slice);
        let of_sample = |values: &[f32], sample_idx: usize| {
            values.chunks_exact(self.recipe.encoder.input_values()).nth(sample_idx).unwrap_or_default().to_vec()
        };
        let tile = |sample_idx| {
            let parts = [of_sample(batch, sample_idx), of_sample(predicted.patches, sample_idx)];
            let tiles = Tiles::new((self.recipe, time), parts, (mask, sample_idx));
            Tiles { normalised: predicted.normalised, ..tiles }.pixels(choose)
        };
        (0..self.preview.num_samples).map(tile).collect()
    }

    /// A term's prediction `[N, L, 3pp]`.
    fn predict(&self, term_idx: usize, draws: &Draws) -> Result<Vec<f32>, ModelsError> {
        let views = to_views(self.preview.batches.clone(), self.recipe, &self.device);
        let outcome = run_method(self.recipe, &self.weights, (&views, draws))?;
        let prediction = outcome.predictions.into_iter().nth(term_idx);
        prediction.map_or(Ok(Vec::new()), |prediction| read_values(prediction.into_data()))
    }

    /// Each patch in the colour of its features.
    fn component_tiles(&self, view: usize) -> Result<Vec<Vec<f32>>, ModelsError> {
        let encoder = &self.recipe.encoder;
        let views = to_views(self.preview.batches.clone(), self.recipe, &self.device);
        let Some(image) = views.into_iter().nth(view) else { return Ok(Vec::new()) };
        let encoded = encode(encoder, &self.weights, image, None)?;
        let tokens = encoded.tokens.narrow(1, encoder.num_class_tokens(), encoder.num_patches());
        let colours = component_colours(&read_values(tokens.into_data())?, encoder.dim);
        Ok((0..self.preview.num_samples).map(|sample_idx| self.patch_pixels(&colours, sample_idx)).collect())
    }

    /// `[S, S, 3]` with each patch in its colour.
    fn patch_pixels(&self, colours: &[[f32; 3]], sample_idx: usize) -> Vec<f32> {
        let [size, patch] = [self.recipe.encoder.image_size, self.recipe.encoder.patch_size];
        // Of a clip, the first slice.
        let first = sample_idx * self.recipe.encoder.num_patches();
        let places =
            (0..size).flat_map(|row| (0..size).map(move |column| row / patch * (size / patch) + column / patch));
        places.flat_map(|place| colours.get(first + place).copied().unwrap_or_default()).collect()
    }
}

/// A term's prediction `[N, L, 3pp]`.
#[derive(Clone, Copy)]
struct Predicted<'a> {
    patches: &'a [f32],
    normalised: bool,
}

impl Predicted<'_> {
    const NONE: Self = Self { patches: &[], normalised: true };
}

/// One frame of one sample: the input that it is in, the prediction patch by patch, and which patches were hidden.
struct Tiles<'a> {
    recipe: &'a Recipe,
    /// The frame's slice, and its place in it.
    slice_idx: usize,
    offset: usize,
    image: Vec<f32>,
    predicted: Vec<f32>,
    /// Whether the prediction wants the patches' means and deviations back.
    normalised: bool,
    hidden: Vec<bool>,
}

impl<'a> Tiles<'a> {
    fn new(
        (recipe, time): (&'a Recipe, usize),
        [image, predicted]: [Vec<f32>; 2],
        (mask, sample_idx): (Option<&Mask>, usize),
    ) -> Self {
        let num_patches = recipe.encoder.num_patches();
        let all = mask.map_or_else(Vec::new, Mask::hidden);
        let hidden = all
            .chunks_exact(num_patches)
            .nth(sample_idx)
            .map_or_else(|| vec![true; num_patches], |hidden| hidden.iter().map(|value| *value > 0.5).collect());
        let [slice_idx, offset] = [time / recipe.encoder.tubelet, time % recipe.encoder.tubelet];
        Self { recipe, slice_idx, offset, image, predicted, normalised: true, hidden }
    }

    /// `[S, S, 3]` values in 0..1; `choose` gets whether the patch was hidden, the pixel and its prediction.
    fn pixels(&self, choose: impl Fn(bool, f32, f32) -> f32) -> Vec<f32> {
        let encoder = &self.recipe.encoder;
        let [size, patch] = [encoder.image_size, encoder.patch_size];
        let first = self.slice_idx * encoder.patches_per_slice();
        let scales = if self.normalised { self.patch_scales() } else { Vec::new() };
        let mut pixels = Vec::with_capacity(3 * size * size);
        for (row, column) in (0..size).flat_map(|row| (0..size).map(move |column| (row, column))) {
            let in_slice = row / patch * (size / patch) + column / patch;
            let inside = (row % patch * patch + column % patch) * 3 * encoder.tubelet;
            let is_hidden = self.hidden.get(first + in_slice).copied().unwrap_or(false);
            let [mean, deviation] = scales.get(in_slice).copied().unwrap_or([0.0, 1.0]);
            for (channel, (&data_mean, &data_std)) in
                self.recipe.data.mean.iter().zip(&self.recipe.data.std).enumerate()
            {
                let plane = channel * encoder.tubelet + self.offset;
                let value = self.value(plane, row * size + column);
                let predicted = self.predicted.get((first + in_slice) * encoder.patch_values() + inside + plane);
                let predicted = predicted.copied().unwrap_or(0.0) * deviation + mean;
                let [value, predicted] = [value, predicted].map(|value| value * data_std + data_mean);
                pixels.push(choose(is_hidden, value, predicted));
            }
        }
        pixels
    }

    /// A pixel of a plane of this frame's slice.
    fn value(&self, plane: usize, pixel: usize) -> f32 {
        let encoder = &self.recipe.encoder;
        let plane = self.slice_idx * 3 * encoder.tubelet + plane;
        self.image.get(plane * encoder.image_size * encoder.image_size + pixel).copied().unwrap_or(0.0)
    }

    /// Mean and deviation of each patch of this slice, as the target's normalisation has them.
    fn patch_scales(&self) -> Vec<[f32; 2]> {
        let encoder = &self.recipe.encoder;
        let [size, patch] = [encoder.image_size, encoder.patch_size];
        let columns = size / patch;
        let scale = |patch_idx: usize| {
            let [top, left] = [patch_idx / columns * patch, patch_idx % columns * patch];
            let places = (0..encoder.patch_values()).map(|idx| (idx / (patch * patch), idx % (patch * patch)));
            let values: Vec<f32> = places
                .map(|(plane, inside)| self.value(plane, (top + inside / patch) * size + left + inside % patch))
                .collect();
            patch_scale(&values)
        };
        (0..encoder.patches_per_slice()).map(scale).collect()
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
