//! The images of one sample: which frames, which crop, which flip. Pixels go through the runtime's own preprocessing.

use std::collections::BTreeMap;

use foresee_firmware_config::PixelEncoding;
use foresee_runtime::{EncoderInput, Frame, Preprocessor};
use rand::Rng;
use rand::rngs::StdRng;

use crate::error::ModelsError;
use crate::frames::preprocessing_card;
use crate::loader::SampleViews;
use crate::recipe::{Recipe, ViewsKind, ViewsRecipe};

/// Tries of a random-resized crop before it falls back to the whole width or height (torchvision's number).
const CROP_TRIES: usize = 10;

/// Frames of one clip by their number in it, and the numbers that one sample wants, in order.
pub(crate) type WantedFrames<'a> = (&'a BTreeMap<usize, Frame>, &'a [usize]);

/// Cuts the views of samples out of frames; keeps its buffers.
pub(crate) struct ViewMaker {
    views: ViewsRecipe,
    num_frames: usize,
    tubelet: usize,
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
            num_frames: recipe.encoder.frames,
            tubelet: recipe.encoder.tubelet,
            preprocessor: Preprocessor::new(&recipe.data.preprocessing(size))?,
            input: EncoderInput::zeros(size, size),
            cut: Frame::black(0, 0, PixelEncoding::Rgb8),
            nested: Frame::black(0, 0, PixelEncoding::Rgb8),
            enlarge: Preprocessor::new(&preprocessing_card(size, [0.0; 3], [1.0; 3]))?,
            unnormalised: EncoderInput::zeros(size, size),
        })
    }

    /// Which frames of a clip of `num_frames` (at least one) a sample needs; `named` is the one that it was dealt for.
    pub(crate) fn draw_frames(&self, num_frames: usize, (named, random): (Option<usize>, &mut StdRng)) -> Vec<usize> {
        match self.views.kind {
            ViewsKind::Single | ViewsKind::NestedCrops => {
                vec![named.unwrap_or_else(|| random.random_range(0..num_frames)).min(num_frames - 1)]
            }
            ViewsKind::FramePair | ViewsKind::FramePairOwnCrops => {
                draw_pair(num_frames, (self.views.gap, random)).to_vec()
            }
            ViewsKind::Clip => draw_clip(num_frames, [self.num_frames, self.views.gap[0]], random),
        }
    }

    /// Each view's `[3, S, S]` normalised values.
    pub(crate) fn make(&mut self, frames: WantedFrames<'_>, random: &mut StdRng) -> Result<SampleViews, ModelsError> {
        let first = frame_at(frames, 0)?;
        let mut crop = self.draw_crop(first, random);
        if self.views.kind == ViewsKind::NestedCrops {
            return self.make_nested((first, crop), random);
        }
        let mut is_flipped = self.draw_flip(random);
        let mut views = Vec::with_capacity(frames.1.len());
        for view_idx in 0..frames.1.len() {
            let frame = frame_at(frames, view_idx)?;
            if view_idx > 0 && self.views.kind == ViewsKind::FramePairOwnCrops {
                crop = self.draw_crop(frame, random);
                is_flipped = self.draw_flip(random);
            } else if size_of(frame) != size_of(first) {
                let [[width, height], [other_width, other_height]] = [size_of(first), size_of(frame)];
                return Err(ModelsError::Training(format!(
                    "its frames change from {width}x{height} to {other_width}x{other_height} pixels, and one crop is for all"
                )));
            }
            views.push(self.view(frame, (crop, is_flipped))?);
        }
        Ok(if self.views.kind == ViewsKind::Clip { vec![slices(&views, self.tubelet)] } else { views })
    }

    /// For pictures: a view of one frame is the whole frame without crop or flip, as the encoder will see it when it serves.
    pub(crate) fn preview(
        &mut self,
        frames: WantedFrames<'_>,
        random: &mut StdRng,
    ) -> Result<SampleViews, ModelsError> {
        if self.views.kind != ViewsKind::Single {
            return self.make(frames, random);
        }
        let frame = frame_at(frames, 0)?;
        let [width, height] = size_of(frame);
        Ok(vec![self.view(frame, (CropBox { left: 0, top: 0, width, height }, false))?])
    }

    /// The local crop is cut out of the resized global one (CropMAE); both are flipped after cutting, each on its own.
    fn make_nested(
        &mut self,
        (frame, crop): (&Frame, CropBox),
        random: &mut StdRng,
    ) -> Result<SampleViews, ModelsError> {
        let flips = [self.draw_flip(random), self.draw_flip(random)];
        copy_box(frame, (crop, false), &mut self.cut);
        self.enlarge.run(&self.cut, &mut self.unnormalised)?;
        let size = self.unnormalised.width;
        interleave(&self.unnormalised, &mut self.nested);
        let whole = CropBox { left: 0, top: 0, width: size, height: size };
        let inner = draw_crop([size, size], (self.views.nested_crop_area, self.views.crop_aspect), random);
        let mut views = Vec::with_capacity(2);
        for (crop, is_flipped) in [(whole, flips[0]), (inner, flips[1])] {
            copy_box(&self.nested, (crop, is_flipped), &mut self.cut);
            self.preprocessor.run(&self.cut, &mut self.input)?;
            views.push(self.input.data.clone());
        }
        Ok(views)
    }

    fn draw_crop(&self, frame: &Frame, random: &mut StdRng) -> CropBox {
        draw_crop(size_of(frame), (self.views.crop_area, self.views.crop_aspect), random)
    }

    fn draw_flip(&self, random: &mut StdRng) -> bool {
        random.random::<f64>() < self.views.flip_probability
    }

    fn view(&mut self, frame: &Frame, place: (CropBox, bool)) -> Result<Vec<f32>, ModelsError> {
        copy_box(frame, place, &mut self.cut);
        self.preprocessor.run(&self.cut, &mut self.input)?;
        Ok(self.input.data.clone())
    }
}

fn frame_at<'a>((frames, wanted): WantedFrames<'a>, view_idx: usize) -> Result<&'a Frame, ModelsError> {
    let frame = wanted.get(view_idx).and_then(|frame_idx| frames.get(frame_idx));
    frame.ok_or_else(|| ModelsError::Training(format!("the frame of view {view_idx} is missing")))
}

fn size_of(frame: &Frame) -> [usize; 2] {
    [frame.width as usize, frame.height as usize]
}

/// A random box as torchvision's `RandomResizedCrop` draws it: area uniform, aspect log-uniform, ten tries.
pub(crate) fn draw_crop(
    [image_width, image_height]: [usize; 2],
    (area, aspect): ([f64; 2], [f64; 2]),
    random: &mut StdRng,
) -> CropBox {
    let whole = [image_width, image_height].map(|side| side as f64);
    for _ in 0..CROP_TRIES {
        let target = whole[0] * whole[1] * uniform(random, area);
        let ratio = uniform(random, aspect.map(f64::ln)).exp();
        let width = (target * ratio).sqrt().round() as usize;
        let height = (target / ratio).sqrt().round() as usize;
        if (1..=image_width).contains(&width) && (1..=image_height).contains(&height) {
            let left = random.random_range(0..=image_width - width);
            let top = random.random_range(0..=image_height - height);
            return CropBox { left, top, width, height };
        }
    }
    // The allowed aspect nearest the image's own decides which side is whole.
    let ratio = (whole[0] / whole[1]).clamp(aspect[0], aspect[1]);
    let width = whole[0].min((whole[1] * ratio).round()).max(1.0) as usize;
    let height = whole[1].min((whole[0] / ratio).round()).max(1.0) as usize;
    CropBox { left: (image_width - width) / 2, top: (image_height - height) / 2, width, height }
}

/// An earlier and a later frame of a clip: with more than `gap[1]` frames, the start is uniform and the gap uniform in `gap`, both ends
/// included; a shorter clip gives two distinct frames, and a clip of one gives it twice (RSP).
fn draw_pair(num_frames: usize, (gap, random): ([usize; 2], &mut StdRng)) -> [usize; 2] {
    let [least, most] = gap;
    if num_frames > most {
        let start = random.random_range(0..num_frames - most);
        return [start, start + random.random_range(least..=most)];
    }
    if num_frames < 2 {
        return [0; 2];
    }
    let first = random.random_range(0..num_frames);
    let second = (first + random.random_range(1..num_frames)) % num_frames;
    [first.min(second), first.max(second)]
}

/// `wanted` frames `gap` apart from a random start; a shorter clip gives them evenly spread, some more than once.
fn draw_clip(num_frames: usize, [wanted, gap]: [usize; 2], random: &mut StdRng) -> Vec<usize> {
    let span = (wanted - 1) * gap + 1;
    if num_frames < span {
        return (0..wanted).map(|place| place * num_frames / wanted).collect();
    }
    let start = random.random_range(0..=num_frames - span);
    (0..wanted).map(|place| start + place * gap).collect()
}

/// Frames `[3, S, S]` as slices of `tubelet` frames: inside a slice colour by colour, inside a colour frame by frame.
fn slices(frames: &[Vec<f32>], tubelet: usize) -> Vec<f32> {
    let mut clip = Vec::with_capacity(frames.iter().map(Vec::len).sum());
    for slice in frames.chunks(tubelet) {
        for colour in 0..3 {
            for frame in slice {
                let plane = frame.len() / 3;
                clip.extend_from_slice(frame.get(colour * plane..(colour + 1) * plane).unwrap_or_default());
            }
        }
    }
    clip
}

fn uniform(random: &mut StdRng, [least, most]: [f64; 2]) -> f64 {
    least + (most - least) * random.random::<f64>()
}

/// Copies a box of a frame, mirrored if flipped.
fn copy_box(frame: &Frame, (crop, is_flipped): (CropBox, bool), cut: &mut Frame) {
    cut.width = crop.width as u32;
    cut.height = crop.height as u32;
    cut.encoding = frame.encoding;
    cut.data.clear();
    for row in crop.top..crop.top + crop.height {
        let start = 3 * (row * frame.width as usize + crop.left);
        let line = frame.data.get(start..start + 3 * crop.width).unwrap_or_default();
        if is_flipped {
            line.as_chunks::<3>().0.iter().rev().for_each(|pixel| cut.data.extend_from_slice(pixel));
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
    frame.encoding = PixelEncoding::Rgb8;
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
        for [width, height] in [[64, 64], [120, 40]] {
            for _ in 0..500 {
                let crop = draw_crop([width, height], ([0.2, 0.8], [0.75, 1.3333333]), &mut random);
                assert!(crop.left + crop.width <= width && crop.top + crop.height <= height, "{crop:?}");
                let share = (crop.width * crop.height) as f64 / (width * height) as f64;
                assert!((0.17..0.84).contains(&share), "{crop:?}");
            }
        }
        // Nothing fits: the fall-back keeps the nearest aspect and the centre.
        let mut fall_back = |size| draw_crop(size, ([1.0, 1.0], [2.0, 3.0]), &mut random);
        assert_eq!(fall_back([64, 64]), CropBox { left: 0, top: 16, width: 64, height: 32 });
        assert_eq!(fall_back([400, 100]), CropBox { left: 50, top: 0, width: 300, height: 100 });
    }

    #[test]
    fn pairs_are_in_order_and_as_far_apart_as_they_should_be() {
        let mut random = generator(2, Stream::Views, [0, 0]);
        let mut gaps = [0; 49];
        for _ in 0..5000 {
            let [start, end] = draw_pair(60, ([4, 48], &mut random));
            assert!(start < 12 && end < 60, "{start} {end}");
            gaps[end - start] += 1;
            let [start, end] = draw_pair(48, ([4, 48], &mut random));
            assert!(start < end && end < 48, "{start} {end}");
        }
        assert!(gaps[..4].iter().all(|&count| count == 0) && gaps[4..].iter().all(|&count| count > 50), "{gaps:?}");
        assert_eq!(draw_pair(2, ([4, 48], &mut random)), [0, 1]);
        assert_eq!(draw_pair(1, ([4, 48], &mut random)), [0, 0]);
    }

    #[test]
    fn clips_are_evenly_spaced_and_lie_slice_by_slice() {
        let mut random = generator(2, Stream::Views, [0, 0]);
        for _ in 0..100 {
            let frames = draw_clip(20, [4, 5], &mut random);
            assert!(frames[3] < 20 && frames.windows(2).all(|pair| pair[1] - pair[0] == 5), "{frames:?}");
        }
        assert_eq!(draw_clip(3, [6, 5], &mut random), [0, 0, 1, 1, 2, 2]);
        let frame = |value: f32| vec![value, value + 0.1, value + 0.2];
        let clip = slices(&[frame(1.0), frame(2.0), frame(3.0), frame(4.0)], 2);
        assert_eq!(clip, [1.0, 2.0, 1.1, 2.1, 1.2, 2.2, 3.0, 4.0, 3.1, 4.1, 3.2, 4.2]);
    }

    #[test]
    fn both_frames_of_a_pair_have_one_crop_and_one_flip() {
        let recipe = Recipe::load("rsp-64").expect("the recipe");
        let mut maker = ViewMaker::new(&recipe).expect("sizes");
        // Two equal frames that are not symmetrical: one crop and one flip give equal views.
        let mut frame = Frame::black(90, 70, PixelEncoding::Bgr8);
        frame.data.iter_mut().enumerate().for_each(|(idx, byte)| *byte = (idx * 31 % 251) as u8);
        let frames = BTreeMap::from([(3, frame.clone()), (9, frame)]);
        let mut random = generator(3, Stream::Views, [0, 0]);
        let mut seen: Vec<Vec<f32>> = Vec::new();
        for _ in 0..4 {
            let views = maker.make((&frames, &[3, 9]), &mut random).expect("made");
            assert_eq!(views[0], views[1]);
            assert!(!seen.contains(&views[0]), "the same crop twice");
            seen.push(views[0].clone());
        }
    }

    #[test]
    fn frames_of_two_sizes_share_no_crop() {
        let frame = |width, height| {
            let mut frame = Frame::black(width, height, PixelEncoding::Rgb8);
            frame.data.iter_mut().enumerate().for_each(|(idx, byte)| *byte = (idx % 251) as u8);
            frame
        };
        let frames = BTreeMap::from([(0, frame(90, 70)), (1, frame(30, 20))]);
        let make = |name: &str, seed: u64| {
            let mut recipe = Recipe::load(name).expect("the recipe");
            (recipe.encoder.image_size, recipe.encoder.patch_size) = (32, 8);
            let mut maker = ViewMaker::new(&recipe).expect("sizes");
            maker.make((&frames, &[0, 1]), &mut generator(seed, Stream::Views, [0, 0]))
        };
        for seed in 0..20 {
            let error = make("rsp", seed).expect_err("one crop for both").to_string();
            assert!(error.contains("change from 90x70 to 30x20 pixels"), "{error}");
            assert_eq!(make("croco", seed).expect("a crop for each").len(), 2);
        }
    }

    #[test]
    fn a_flip_mirrors_the_columns() {
        let frame = Frame { data: (0..27).collect(), ..Frame::black(3, 3, PixelEncoding::Rgb8) };
        let mut cut = Frame::black(0, 0, PixelEncoding::Rgb8);
        let crop = CropBox { left: 1, top: 1, width: 2, height: 1 };
        copy_box(&frame, (crop, true), &mut cut);
        assert_eq!(cut.data, [15, 16, 17, 12, 13, 14]);
    }
}
