//! The images of one sample: which frames, which crop, which flip. Pixels go through the runtime's own preprocessing.

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{EncoderInput, Frame, Preprocessor};
use rand::Rng;
use rand::rngs::StdRng;

use crate::error::ModelsError;
use crate::frames::{FrameStore, preprocessing_card};
use crate::recipe::{Recipe, ViewsKind, ViewsRecipe};

/// Tries of a random-resized crop before it falls back to the whole width or height (torchvision's number).
const CROP_TRIES: usize = 10;

/// Cuts the views of samples out of stored frames; keeps its buffers.
pub(crate) struct ViewMaker {
    views: ViewsRecipe,
    preprocessor: Preprocessor,
    input: EncoderInput,
    cut: Frame,
    nested: Frame,
    enlarge: Preprocessor,
    unnormalised: EncoderInput,
}

/// A box in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CropBox {
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl ViewMaker {
    pub(crate) fn new(recipe: &Recipe) -> Result<Self, ModelsError> {
        let size = recipe.encoder.image_size;
        Ok(Self {
            views: recipe.views.clone(),
            preprocessor: Preprocessor::new(&preprocessing_card(size, recipe.data.mean, recipe.data.std))?,
            input: EncoderInput::zeros(size, size),
            cut: Frame::black(0, 0, PixelEncoding::Rgb8),
            nested: Frame::black(0, 0, PixelEncoding::Rgb8),
            enlarge: Preprocessor::new(&preprocessing_card(size, [0.0; 3], [1.0; 3]))?,
            unnormalised: EncoderInput::zeros(size, size),
        })
    }

    /// Appends `[3, S, S]` normalised values to each view's batch. `sample` is a frame number.
    pub(crate) fn make(
        &mut self,
        store: &FrameStore,
        (sample, random): (usize, &mut StdRng),
        batches: &mut [Vec<f32>],
    ) -> Result<(), ModelsError> {
        match self.views.kind {
            ViewsKind::Single => {
                let crop = self.draw_crop(store.size(), random);
                let is_flipped = self.draw_flip(random);
                self.cut_out(store, sample, (crop, is_flipped));
                self.push(batches.first_mut())
            }
            ViewsKind::FramePair | ViewsKind::FramePairOwnCrops => {
                let pair = draw_pair(store, sample, (self.views.gap, random));
                let mut crop = self.draw_crop(store.size(), random);
                let mut is_flipped = self.draw_flip(random);
                for (frame_idx, batch) in pair.into_iter().zip(batches) {
                    self.cut_out(store, frame_idx, (crop, is_flipped));
                    self.push(Some(batch))?;
                    if self.views.kind == ViewsKind::FramePairOwnCrops {
                        crop = self.draw_crop(store.size(), random);
                        is_flipped = self.draw_flip(random);
                    }
                }
                Ok(())
            }
            ViewsKind::NestedCrops => self.make_nested(store, (sample, random), batches),
        }
    }

    /// The whole frame without crop or flip, as the encoder will see it when it serves.
    pub(crate) fn whole(&mut self, store: &FrameStore, sample: usize, batch: &mut Vec<f32>) -> Result<(), ModelsError> {
        let size = store.size();
        self.cut_out(store, sample, (CropBox { left: 0, top: 0, width: size, height: size }, false));
        self.push(Some(batch))
    }

    /// The local crop is cut out of the resized global one (CropMAE); both are flipped after cutting, each on its own.
    fn make_nested(
        &mut self,
        store: &FrameStore,
        (sample, random): (usize, &mut StdRng),
        batches: &mut [Vec<f32>],
    ) -> Result<(), ModelsError> {
        let crop = self.draw_crop(store.size(), random);
        let flips = [self.draw_flip(random), self.draw_flip(random)];
        self.cut_out(store, sample, (crop, false));
        self.enlarge.run(&self.cut, &mut self.unnormalised)?;
        let size = self.unnormalised.width;
        interleave(&self.unnormalised, &mut self.nested);
        let [global, local] = batches else { return Ok(()) };
        let whole = CropBox { left: 0, top: 0, width: size, height: size };
        let inner = draw_crop(size, (self.views.nested_crop_area, self.views.crop_aspect), random);
        for (batch, (crop, is_flipped)) in [(global, (whole, flips[0])), (local, (inner, flips[1]))] {
            copy_box((&self.nested.data, size), (crop, is_flipped), &mut self.cut);
            self.push(Some(batch))?;
        }
        Ok(())
    }

    fn draw_crop(&self, size: usize, random: &mut StdRng) -> CropBox {
        draw_crop(size, (self.views.crop_area, self.views.crop_aspect), random)
    }

    fn draw_flip(&self, random: &mut StdRng) -> bool {
        random.random::<f64>() < self.views.flip_probability
    }

    fn cut_out(&mut self, store: &FrameStore, frame_idx: usize, place: (CropBox, bool)) {
        copy_box((store.frame(frame_idx), store.size()), place, &mut self.cut);
    }

    fn push(&mut self, batch: Option<&mut Vec<f32>>) -> Result<(), ModelsError> {
        self.preprocessor.run(&self.cut, &mut self.input)?;
        if let Some(batch) = batch {
            batch.extend_from_slice(&self.input.data);
        }
        Ok(())
    }
}

/// A random box of a square image as torchvision's `RandomResizedCrop` draws it: area uniform, aspect log-uniform, ten tries.
pub(crate) fn draw_crop(size: usize, (area, aspect): ([f64; 2], [f64; 2]), random: &mut StdRng) -> CropBox {
    let side = size as f64;
    for _ in 0..CROP_TRIES {
        let target = side * side * uniform(random, area);
        let ratio = uniform(random, aspect.map(f64::ln)).exp();
        let width = (target * ratio).sqrt().round() as usize;
        let height = (target / ratio).sqrt().round() as usize;
        if (1..=size).contains(&width) && (1..=size).contains(&height) {
            let left = random.random_range(0..=size - width);
            let top = random.random_range(0..=size - height);
            return CropBox { left, top, width, height };
        }
    }
    // A square image's own aspect is 1: the nearest allowed one decides which side is whole.
    let ratio = 1.0_f64.clamp(aspect[0], aspect[1]);
    let width = (side * ratio.min(1.0)).round().max(1.0) as usize;
    let height = (side / ratio.max(1.0)).round().max(1.0) as usize;
    CropBox { left: (size - width) / 2, top: (size - height) / 2, width, height }
}

/// An earlier and a later frame of the clip that `sample` is in: with more than `gap[1]` frames, the start is uniform and the gap
/// uniform in `gap`, both ends included; a shorter clip gives two distinct frames, and a clip of one gives it twice (RSP).
fn draw_pair(store: &FrameStore, sample: usize, (gap, random): ([usize; 2], &mut StdRng)) -> [usize; 2] {
    let clip = store.clip_of(sample);
    let count = clip.len();
    let [least, most] = gap;
    if count > most {
        let start = random.random_range(0..count - most);
        return [clip.start + start, clip.start + start + random.random_range(least..=most)];
    }
    if count < 2 {
        return [clip.start; 2];
    }
    let first = random.random_range(0..count);
    let second = (first + random.random_range(1..count)) % count;
    [clip.start + first.min(second), clip.start + first.max(second)]
}

fn uniform(random: &mut StdRng, [least, most]: [f64; 2]) -> f64 {
    least + (most - least) * random.random::<f64>()
}

/// Copies a box of a square `[size, size, 3]` image, mirrored if flipped.
fn copy_box((pixels, size): (&[u8], usize), (crop, is_flipped): (CropBox, bool), cut: &mut Frame) {
    cut.width = crop.width as u32;
    cut.height = crop.height as u32;
    cut.data.clear();
    for row in crop.top..crop.top + crop.height {
        let start = 3 * (row * size + crop.left);
        let line = pixels.get(start..start + 3 * crop.width).unwrap_or_default();
        if is_flipped {
            line.chunks_exact(3).rev().for_each(|pixel| cut.data.extend_from_slice(pixel));
        } else {
            cut.data.extend_from_slice(line);
        }
    }
}

/// Planes in 0..1 to interleaved bytes.
fn interleave(planes: &EncoderInput, frame: &mut Frame) {
    let count = planes.width * planes.height;
    frame.width = planes.width as u32;
    frame.height = planes.height as u32;
    frame.data.clear();
    let (red, rest) = planes.data.split_at(count);
    let (green, blue) = rest.split_at(count);
    for ((red, green), blue) in red.iter().zip(green).zip(blue) {
        frame.data.extend([*red, *green, *blue].map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator};

    #[test]
    fn crops_stay_inside_and_take_the_share_they_should() {
        let mut random = generator(1, Stream::Views, [0, 0]);
        for _ in 0..500 {
            let crop = draw_crop(64, ([0.2, 0.8], [0.75, 1.3333333]), &mut random);
            assert!(crop.left + crop.width <= 64 && crop.top + crop.height <= 64, "{crop:?}");
            let share = (crop.width * crop.height) as f64 / 4096.0;
            assert!((0.17..0.84).contains(&share), "{crop:?}");
        }
        // Nothing fits: the fall-back keeps the nearest aspect and the centre.
        let crop = draw_crop(64, ([1.0, 1.0], [2.0, 3.0]), &mut random);
        assert_eq!(crop, CropBox { left: 0, top: 16, width: 64, height: 32 });
    }

    #[test]
    fn pairs_stay_in_their_clip_in_order() {
        let mut store = FrameStore::new(8);
        let mut shrink = crate::frames::Shrink::new(8).expect("a size");
        let frame = Frame::black(8, 8, PixelEncoding::Rgb8);
        for clip_len in [60, 5, 1] {
            store.start_clip();
            (0..clip_len).for_each(|_| store.push(&frame, &mut shrink).expect("fits"));
        }
        let mut random = generator(2, Stream::Views, [0, 0]);
        for _ in 0..500 {
            let [start, end] = draw_pair(&store, 7, ([4, 48], &mut random));
            assert!(end < 60 && (4..=48).contains(&(end - start)), "{start} {end}");
            let [start, end] = draw_pair(&store, 62, ([4, 48], &mut random));
            assert!((60..65).contains(&start) && start < end && end < 65, "{start} {end}");
        }
        assert_eq!(draw_pair(&store, 65, ([4, 48], &mut random)), [65, 65]);
    }

    #[test]
    fn a_flip_mirrors_the_columns() {
        let pixels: Vec<u8> = (0..27).collect();
        let mut cut = Frame::black(0, 0, PixelEncoding::Rgb8);
        let crop = CropBox { left: 1, top: 1, width: 2, height: 1 };
        copy_box((&pixels, 3), (crop, true), &mut cut);
        assert_eq!(cut.data, [15, 16, 17, 12, 13, 14]);
    }
}
