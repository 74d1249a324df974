//! Label propagation: labels of a first frame carried through a video by the likeness of patch features, in both published protocols.

use std::collections::{BTreeMap, VecDeque};

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::probe::unit_rows;

/// Queries that are compared with all sources at a time: bounds the memory that likenesses take.
const QUERIES_AT_A_TIME: usize = 128;

/// The settings of one protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PropagationRecipe {
    /// Which rules.
    pub protocol: Protocol,
    /// Sources kept for each query.
    pub num_nearest: usize,
    /// Frames before the present one that labels come from, besides the first.
    pub num_last_frames: usize,
    /// In patches; none means everywhere.
    pub radius: Option<usize>,
    /// Of the likeness.
    pub temperature: f32,
}

impl PropagationRecipe {
    /// The settings for people, such as `7 nearest patches of the first frame and the last 20, ...`.
    pub fn words(&self) -> String {
        let Self { protocol, num_nearest, num_last_frames, radius, temperature } = self;
        let (window, weights) = match protocol {
            Protocol::SquareWindow => ("a square", "weights exp(cosine / T)"),
            Protocol::Disc => ("a disc", "softmax of cosine / T"),
        };
        let place = radius.map_or_else(
            || "anywhere in the frame".to_string(),
            |radius| format!("within {window} of radius {radius} patches"),
        );
        format!(
            "{num_nearest} nearest patches of the first frame and of the last {num_last_frames}, {place}, {weights} with T = {temperature}"
        )
    }
}

/// The two protocols in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// DINO's, RSP's for DAVIS: square window, also on the first frame; weights `exp(cosine / temperature)` of the nearest, normalised.
    SquareWindow,
    /// Videowalk's, CropMAE's for JHMDB and VIP: disc, not on the first frame; softmax over the nearest; before the video's start
    /// the first frame stands in for the missing ones.
    Disc,
}

/// Patch features of one video, `[T, rows * columns, dim]`.
#[derive(Clone, Copy, Debug)]
pub struct VideoFeatures<'a> {
    /// Row-major values, not normalised.
    pub values: &'a [f32],
    /// Patches down.
    pub rows: usize,
    /// Patches across.
    pub columns: usize,
    /// Values of one patch.
    pub dim: usize,
}

/// What one frame got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PropagatedFrame {
    /// `[rows * columns, C]`.
    pub labels: Vec<f32>,
    /// The weights of the nearest sources, strongest first, `[rows * columns][num_nearest]`.
    pub weights: Vec<Vec<f32>>,
}

/// Propagates `first` `[rows * columns, C]` to every frame of the video: frame 0 gives the first labels themselves.
pub fn propagate_labels(
    features: VideoFeatures<'_>,
    (first, num_classes): (&[f32], usize),
    recipe: PropagationRecipe,
) -> Vec<PropagatedFrame> {
    let num_patches = features.rows * features.columns;
    let unit_frame = |frame: &[f32]| {
        let values = TensorData::new(unit_rows(frame, features.dim), [num_patches, features.dim]);
        Tensor::<2>::from_data(values, &Device::flex())
    };
    let frames: Vec<Tensor<2>> =
        features.values.chunks_exact((num_patches * features.dim).max(1)).map(unit_frame).collect();
    let mut results: Vec<PropagatedFrame> = Vec::with_capacity(frames.len());
    let mut recent: VecDeque<usize> = match recipe.protocol {
        Protocol::SquareWindow => VecDeque::new(),
        Protocol::Disc => (0..recipe.num_last_frames).map(|_| 0).collect(),
    };
    for frame_idx in 0..frames.len() {
        let sources: Vec<usize> = std::iter::once(0).chain(recent.iter().copied()).collect();
        let asks = frame_idx > 0 || recipe.protocol == Protocol::Disc;
        let mut result = PropagatedFrame::default();
        if asks {
            let labels_of = |source: usize| results.get(source).map_or(first, |result| result.labels.as_slice());
            for start in (0..num_patches).step_by(QUERIES_AT_A_TIME) {
                let queries = start..(start + QUERIES_AT_A_TIME).min(num_patches);
                let likenesses = likenesses(&frames, (frame_idx, queries.clone()), &sources);
                let step = Step { features, recipe, likenesses: &likenesses, sources: &sources };
                let ask = |query: usize| {
                    let nearest = step.nearest(query, query - start);
                    let labels = step.mix(&nearest, (labels_of, num_classes));
                    (labels, nearest.into_iter().map(|near| near.weight).collect())
                };
                // Each query by itself, gathered in order: the threads do not change a bit.
                let answers: Vec<(Vec<f32>, Vec<f32>)> = queries.into_par_iter().map(ask).collect();
                for (labels, weights) in answers {
                    result.labels.extend(labels);
                    result.weights.push(weights);
                }
            }
        }
        if frame_idx == 0 {
            result.labels = first.to_vec();
        }
        results.push(result);
        let enters = frame_idx > 0 || recipe.protocol == Protocol::Disc;
        if enters {
            recent.push_back(frame_idx);
            if recent.len() > recipe.num_last_frames {
                recent.pop_front();
            }
        }
    }
    results
}

/// A source patch that a query looks at.
#[derive(Clone, Copy, Debug)]
struct Near {
    source: usize,
    patch: usize,
    weight: f32,
}

/// For each source frame the cosines of its patches with some patches of a frame, `[queries, patches]`.
fn likenesses(
    frames: &[Tensor<2>],
    (frame_idx, queries): (usize, std::ops::Range<usize>),
    sources: &[usize],
) -> BTreeMap<usize, Vec<f32>> {
    let mut likenesses = BTreeMap::new();
    let Some(frame) = frames.get(frame_idx) else { return likenesses };
    let asked = frame.clone().slice([queries]);
    for &source in sources {
        let Some(frame) = frames.get(source) else { continue };
        likenesses.entry(source).or_insert_with(|| {
            let cosines = asked.clone().matmul(frame.clone().swap_dims(0, 1));
            cosines.into_data().try_into_vec().unwrap_or_default()
        });
    }
    likenesses
}

struct Step<'a> {
    features: VideoFeatures<'a>,
    recipe: PropagationRecipe,
    /// Of the queries at hand.
    likenesses: &'a BTreeMap<usize, Vec<f32>>,
    sources: &'a [usize],
}

impl Step<'_> {
    /// The nearest sources of a patch, row `row` of the likenesses, with their normalised weights, strongest first.
    fn nearest(&self, query: usize, row: usize) -> Vec<Near> {
        let num_patches = self.features.rows * self.features.columns;
        let mut all = Vec::new();
        for (slot, &source) in self.sources.iter().enumerate() {
            let cosines = self.likenesses.get(&source).and_then(|cosines| cosines.chunks_exact(num_patches).nth(row));
            let is_free = self.recipe.protocol == Protocol::Disc && slot == 0;
            for (patch, cosine) in cosines.unwrap_or_default().iter().enumerate() {
                if is_free || self.is_inside(query, patch) {
                    all.push(Near { source, patch, weight: cosine / self.recipe.temperature });
                }
            }
        }
        let strongest_first = |a: &Near, b: &Near| b.weight.total_cmp(&a.weight);
        let num_nearest = self.recipe.num_nearest;
        // A stable sort of the few that can count; the order of equals is that of the sources.
        if num_nearest > 0 && all.len() > num_nearest {
            let mut weights: Vec<f32> = all.iter().map(|near| near.weight).collect();
            let (_, &mut least, _) = weights.select_nth_unstable_by(num_nearest - 1, |a, b| b.total_cmp(a));
            all.retain(|near| near.weight >= least);
        }
        all.sort_by(strongest_first);
        let last_kept = all.get(self.recipe.num_nearest.saturating_sub(1)).map(|near| near.weight);
        match (self.recipe.protocol, last_kept) {
            // Ties with the last one stay, as in the reference.
            (Protocol::SquareWindow, Some(least)) => all.retain(|near| near.weight >= least),
            _ => all.truncate(self.recipe.num_nearest),
        }
        let largest = all.first().map_or(0.0, |near| near.weight);
        all.iter_mut().for_each(|near| near.weight = (near.weight - largest).exp());
        let total: f32 = all.iter().map(|near| near.weight).sum();
        all.iter_mut().for_each(|near| near.weight /= total);
        all
    }

    fn mix<'l>(&self, nearest: &[Near], (labels_of, num_classes): (impl Fn(usize) -> &'l [f32], usize)) -> Vec<f32> {
        let mut mixed = vec![0.0; num_classes];
        for near in nearest {
            let start = near.patch * num_classes;
            let labels = labels_of(near.source).get(start..start + num_classes).unwrap_or_default();
            mixed.iter_mut().zip(labels).for_each(|(sum, label)| *sum += near.weight * label);
        }
        mixed
    }

    fn is_inside(&self, query: usize, patch: usize) -> bool {
        let Some(radius) = self.recipe.radius else { return true };
        let columns = self.features.columns;
        let [down, across] = [(query / columns).abs_diff(patch / columns), (query % columns).abs_diff(patch % columns)];
        match self.recipe.protocol {
            Protocol::SquareWindow => down <= radius && across <= radius,
            Protocol::Disc => down * down + across * across < radius * radius,
        }
    }
}

/// Soft labels `[rows * columns, C]` to one label a pixel, `[rows * scale, columns * scale]`: bilinear, each class stretched to 0..1
/// (DINO's `norm_mask`), the largest wins. The stretched maps `[C, H, W]` come with it.
pub fn label_pixels(labels: &[f32], [rows, columns, num_classes]: [usize; 3], scale: usize) -> (Vec<u8>, Vec<f32>) {
    let [down, across] = [rows, columns].map(|size| linear_taps(size, scale));
    let mut maps = Vec::with_capacity(num_classes * rows * columns * scale * scale);
    for class in 0..num_classes {
        let at = |row: usize, column: usize| {
            labels.get((row * columns + column) * num_classes + class).copied().unwrap_or(0.0)
        };
        let start = maps.len();
        for (row_taps, column_taps) in down.iter().flat_map(|row| across.iter().map(move |column| (row, column))) {
            let line = |row: usize| {
                let [(first, first_weight), (second, second_weight)] = *column_taps;
                at(row, first) * first_weight + at(row, second) * second_weight
            };
            let [(first, first_weight), (second, second_weight)] = *row_taps;
            maps.push(line(first) * first_weight + line(second) * second_weight);
        }
        if let Some(map) = maps.get_mut(start..) {
            stretch(map);
        }
    }
    let num_pixels = rows * columns * scale * scale;
    let best = |pixel: usize| {
        let mut best = (0, f32::NEG_INFINITY);
        for (class, map) in maps.chunks_exact(num_pixels.max(1)).enumerate() {
            let value = map.get(pixel).copied().unwrap_or(0.0);
            if value > best.1 {
                best = (class as u8, value);
            }
        }
        best.0
    };
    ((0..num_pixels).map(best).collect(), maps)
}

/// Where each class of `[rows * columns, C]` is (x, y in patches): the mean of its strongest patches by their weight; -1, -1 when it is
/// nowhere (JHMDB, in videowalk's code; class 0 is ground and left out).
pub fn key_points(labels: &[f32], [columns, num_classes]: [usize; 2], num_strongest: usize) -> Vec<[f64; 2]> {
    let point = |class: usize| {
        let column: Vec<f32> = labels.iter().skip(class).step_by(num_classes).copied().collect();
        let mut order: Vec<usize> = (0..column.len()).collect();
        order.sort_by(|&a, &b| column.get(b).unwrap_or(&0.0).total_cmp(column.get(a).unwrap_or(&0.0)));
        order.truncate(num_strongest);
        let weight = |patch: usize| f64::from(column.get(patch).copied().unwrap_or(0.0));
        let total: f64 = order.iter().map(|&patch| weight(patch)).sum();
        if column.iter().sum::<f32>() == 0.0 {
            return [-1.0; 2];
        }
        let mean = |place: fn(usize, usize) -> usize| {
            order.iter().map(|&patch| weight(patch) / total * place(patch, columns) as f64).sum::<f64>()
        };
        [mean(|patch, columns| patch % columns), mean(|patch, columns| patch / columns)]
    };
    (1..num_classes).map(point).collect()
}

/// Bilinear taps for an enlargement by a whole factor, `align_corners` off.
fn linear_taps(num_source: usize, scale: usize) -> Vec<[(usize, f32); 2]> {
    let taps = |target: usize| {
        let place = ((target as f32 + 0.5) / scale as f32 - 0.5).max(0.0);
        let first = place as usize;
        let share = place - first as f32;
        [(first, 1.0 - share), ((first + 1).min(num_source - 1), share)]
    };
    (0..num_source * scale).map(taps).collect()
}

/// To 0..1, if anything is above 0.
fn stretch(map: &mut [f32]) {
    let largest = map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest <= 0.0 {
        return;
    }
    let smallest = map.iter().copied().fold(f32::INFINITY, f32::min);
    let range = largest - smallest;
    map.iter_mut().for_each(|value| *value = (*value - smallest) / range);
}
