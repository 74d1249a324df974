//! Label propagation over whole videos: first-frame labels onto the patches, through the video, back onto the pixels, and scored.

use super::{ClassMask, LabelledPoints, LabelledVideo, ProbeEncoder};
use crate::error::ModelsError;
use crate::labels::{PropagationRecipe, VideoFeatures, key_points, label_pixels, propagate_labels};
use crate::scores::{
    BinaryMask, KeyPoints, boundary_accuracy, joint_boxes, joint_distances, mean_of_numbers, percent_within,
    region_similarity,
};

/// Standard deviation of a key point's first label, in patches (videowalk).
const POINT_SIGMA: f64 = 0.5;
/// Patches that a key point is the mean of (videowalk).
const POINT_PATCHES: usize = 5;

/// Scores of an object's masks, each the mean over all frames but the first and the last. DAVIS 2017 averages them over all objects of
/// all videos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskScores {
    /// Intersection over union.
    pub j: f64,
    /// Boundary accuracy.
    pub f: f64,
}

impl MaskScores {
    /// The mean over objects; nothing of none.
    pub fn mean(objects: &[Self]) -> Option<Self> {
        let mean = |score: fn(&Self) -> f64| mean_of_numbers(&objects.iter().map(score).collect::<Vec<f64>>());
        (!objects.is_empty()).then(|| Self { j: mean(|object| object.j), f: mean(|object| object.f) })
    }
}

/// Scores of key points: percent within this share of the box of the visible points, averaged over joints (JHMDB).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyPointScores {
    /// Within a tenth.
    pub within_tenth: f64,
    /// Within a fifth.
    pub within_fifth: f64,
}

/// The first mask carried through the video on a grid of patches: a mask a frame, of the first one's size.
///
/// # Errors
/// [`ModelsError`] when there is no mask or the encoder refuses the frames.
pub fn propagate_masks(
    encoder: &ProbeEncoder,
    video: &LabelledVideo,
    (grid, recipe): ([usize; 2], PropagationRecipe),
) -> Result<Vec<ClassMask>, ModelsError> {
    let first = video.masks.first().ok_or_else(|| nothing_to_carry(video, "mask"))?;
    let num_classes = video.num_classes;
    let one_hot = |class: &u8| {
        let class = usize::from(*class);
        (0..num_classes).map(move |at| if at == class { 1.0 } else { 0.0 })
    };
    let labels: Vec<f32> = first.resized(grid).classes.iter().flat_map(one_hot).collect();
    let frames = propagate(encoder, video, (&labels, num_classes), (grid, recipe))?;
    let patch = encoder.patch_size();
    let sizes = [grid[0], grid[1], num_classes];
    let to_mask = |labels: &Vec<f32>| {
        let (classes, _) = label_pixels(labels, sizes, patch);
        ClassMask { width: grid[1] * patch, classes }.resized([first.height(), first.width])
    };
    Ok(frames.iter().map(to_mask).collect())
}

/// The first frame's key points carried through the video: a place a joint and frame, in the frames' pixels.
///
/// # Errors
/// As [`propagate_masks`].
pub fn propagate_key_points(
    encoder: &ProbeEncoder,
    video: &LabelledVideo,
    (grid, recipe): ([usize; 2], PropagationRecipe),
) -> Result<KeyPoints, ModelsError> {
    let frame = video.frames.first().ok_or_else(|| nothing_to_carry(video, "frame"))?;
    let LabelledPoints { points, visible } = &video.key_points;
    if points.places.is_empty() {
        return Err(nothing_to_carry(video, "key point"));
    }
    // Videowalk's convention: cell c of the grid stands for pixel c * stride.
    let strides = [f64::from(frame.width) / grid[1].max(1) as f64, f64::from(frame.height) / grid[0].max(1) as f64];
    let num_classes = points.places.len() + 1;
    let mut labels = vec![0.0; grid[0] * grid[1] * num_classes];
    for (joint_idx, places) in points.places.iter().enumerate() {
        let is_seen = visible.get(joint_idx).and_then(|seen| seen.first()).copied().unwrap_or(false);
        if let (true, Some([x, y])) = (is_seen, places.first()) {
            draw_point(&mut labels, (grid, num_classes, joint_idx + 1), [x / strides[0], y / strides[1]]);
        }
    }
    for cell in labels.chunks_exact_mut(num_classes) {
        let most = cell.iter().copied().fold(0.0_f32, f32::max);
        if let Some(ground) = cell.first_mut() {
            *ground = 1.0 - most.min(1.0);
        }
    }
    let frames = propagate(encoder, video, (&labels, num_classes), (grid, recipe))?;
    let mut places = vec![Vec::with_capacity(frames.len()); points.places.len()];
    for labels in &frames {
        let points = key_points(labels, [grid[1], num_classes], POINT_PATCHES);
        for (places, [x, y]) in places.iter_mut().zip(points) {
            places.push([x * strides[0], y * strides[1]]);
        }
    }
    Ok(KeyPoints { places })
}

/// J and F of propagated masks against the video's own, one an object of the first frame; none when there are fewer than three frames.
pub fn mask_scores(predicted: &[ClassMask], video: &LabelledVideo) -> Vec<MaskScores> {
    let num_frames = predicted.len().min(video.masks.len());
    let scored = 1..num_frames.saturating_sub(1);
    let mut objects = Vec::new();
    for class in 1..video.num_classes.min(256) {
        let class = class as u8;
        let is_there = video.masks.first().is_some_and(|mask| mask.classes.contains(&class));
        if !is_there || scored.is_empty() {
            continue;
        }
        let mut scores = [Vec::new(), Vec::new()];
        for (predicted, truth) in predicted.iter().zip(&video.masks).take(scored.end).skip(scored.start) {
            let [ours, theirs] = [predicted.of_class(class), truth.of_class(class)];
            let [ours, theirs] = [&ours, &theirs].map(|values| BinaryMask { values, width: truth.width });
            scores[0].push(region_similarity(ours, theirs));
            scores[1].push(boundary_accuracy(ours, theirs));
        }
        let [j, f] = scores.map(|scores| mean_of_numbers(&scores));
        objects.push(MaskScores { j, f });
    }
    objects
}

/// Pixels of each class over any number of frames: one histogram, as VIP is scored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    /// For each class: pixels that both call so, pixels that either does.
    counts: Vec<[u64; 2]>,
}

impl ClassCounts {
    /// Nothing counted yet.
    pub fn new(num_classes: u8) -> Self {
        Self { counts: vec![[0; 2]; usize::from(num_classes)] }
    }

    /// Counts a video's frames; true classes beyond the number of classes are left out.
    pub fn add(&mut self, predicted: &[ClassMask], video: &LabelledVideo) {
        for (predicted, truth) in predicted.iter().zip(&video.masks) {
            for (ours, theirs) in predicted.classes.iter().zip(&truth.classes) {
                if usize::from(*theirs) >= self.counts.len() {
                    continue;
                }
                for class in [ours, theirs].iter().take(if ours == theirs { 1 } else { 2 }) {
                    if let Some([both, either]) = self.counts.get_mut(usize::from(**class)) {
                        *either += 1;
                        *both += u64::from(ours == theirs);
                    }
                }
            }
        }
    }

    /// Adds what another counted of as many classes.
    pub fn merge(&mut self, other: &Self) {
        for (counts, others) in self.counts.iter_mut().zip(&other.counts) {
            counts.iter_mut().zip(others).for_each(|(count, other)| *count += other);
        }
    }

    /// Mean intersection over union of the classes that occur.
    pub fn mean_overlap(&self) -> f64 {
        let overlap = |[both, either]: &[u64; 2]| if *either == 0 { f64::NAN } else { *both as f64 / *either as f64 };
        mean_of_numbers(&self.counts.iter().map(overlap).collect::<Vec<f64>>())
    }
}

/// How far off each joint is in any number of videos: a joint's frames are pooled over all of them, as JHMDB is scored.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointDistances {
    /// `[joint]`: in boxes.
    joints: Vec<Vec<f64>>,
}

impl JointDistances {
    /// Adds a video's propagated key points against its own.
    pub fn add(&mut self, predicted: &KeyPoints, video: &LabelledVideo) {
        let LabelledPoints { points, visible } = &video.key_points;
        let joints = joint_distances((predicted, points), (visible, &joint_boxes(points, visible)));
        self.merge(&Self { joints });
    }

    /// Adds what another holds.
    pub fn merge(&mut self, other: &Self) {
        self.joints.resize(self.joints.len().max(other.joints.len()), Vec::new());
        self.joints.iter_mut().zip(&other.joints).for_each(|(all, distances)| all.extend_from_slice(distances));
    }

    /// PCK of what was added.
    pub fn scores(&self) -> KeyPointScores {
        let [within_tenth, within_fifth] = [0.1, 0.2].map(|share| percent_within(&self.joints, share));
        KeyPointScores { within_tenth, within_fifth }
    }
}

/// PCK of propagated key points against the video's own.
pub fn key_point_scores(predicted: &KeyPoints, video: &LabelledVideo) -> KeyPointScores {
    let mut distances = JointDistances::default();
    distances.add(predicted, video);
    distances.scores()
}

/// `[rows * columns, C]` a frame.
fn propagate(
    encoder: &ProbeEncoder,
    video: &LabelledVideo,
    (labels, num_classes): (&[f32], usize),
    (grid, recipe): ([usize; 2], PropagationRecipe),
) -> Result<Vec<Vec<f32>>, ModelsError> {
    let features = encoder.features(&video.frames, grid)?;
    let features = VideoFeatures { values: &features.tokens, rows: grid[0], columns: grid[1], dim: features.dim };
    let frames = propagate_labels(features, (labels, num_classes), recipe);
    Ok(frames.into_iter().map(|frame| frame.labels).collect())
}

/// A Gaussian around the nearest cell, in a window of three deviations (videowalk's `draw_labelmap_np`).
fn draw_point(labels: &mut [f32], (grid, num_classes, class): ([usize; 2], usize, usize), [x, y]: [f64; 2]) {
    let reach = 3.0 * POINT_SIGMA;
    let size = (6.0 * POINT_SIGMA + 1.0) as i64;
    // Rounded towards zero as the original does it: a point in the first cell is drawn in the second or third.
    let [left, top] = [x - reach, y - reach].map(|place| place as i64);
    for (down, across) in (0..size).flat_map(|down| (0..size).map(move |across| (down, across))) {
        let [row, column] = [top + down, left + across];
        if row < 0 || column < 0 || row >= grid[0] as i64 || column >= grid[1] as i64 {
            continue;
        }
        let [off_x, off_y] = [across, down].map(|place| (place - size / 2) as f64);
        let value = (-(off_x * off_x + off_y * off_y) / (2.0 * POINT_SIGMA * POINT_SIGMA)).exp();
        if let Some(slot) = labels.get_mut((row as usize * grid[1] + column as usize) * num_classes + class) {
            *slot = value as f32;
        }
    }
}

fn nothing_to_carry(video: &LabelledVideo, what: &str) -> ModelsError {
    ModelsError::Training(format!("video {}: has no {what} to carry through it", video.name))
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::PixelEncoding;
    use foresee_runtime::Frame;

    use super::*;
    use crate::labels::Protocol;
    use crate::recipe::Recipe;
    use crate::scores::class_overlaps;

    const RECIPE: PropagationRecipe = PropagationRecipe {
        protocol: Protocol::SquareWindow,
        num_nearest: 3,
        num_last_frames: 3,
        radius: Some(8),
        temperature: 0.1,
    };

    /// A bright square of 16 pixels, one patch further each frame; its centre is the one key point.
    fn moving_square(num_frames: usize) -> LabelledVideo {
        let mut video = LabelledVideo { num_classes: 2, ..LabelledVideo::default() };
        let mut centres = Vec::new();
        for frame_idx in 0..num_frames {
            let left = 16 + 8 * frame_idx;
            let mut frame = Frame::black(64, 32, PixelEncoding::Rgb8);
            let mut mask = ClassMask { width: 64, classes: vec![0; 64 * 32] };
            for (row, column) in (8..24).flat_map(|row| (left..left + 16).map(move |column| (row, column))) {
                let pixel = row * 64 + column;
                mask.classes[pixel] = 1;
                // Each quarter of the square has its own look, so that patches can be told apart.
                let look = [200, 90 * u8::from(column - left < 8), 90 * u8::from(row < 16)];
                frame.data[3 * pixel..3 * pixel + 3].copy_from_slice(&look);
            }
            centres.push([left as f64 + 8.0, 16.0]);
            video.frames.push(frame);
            video.masks.push(mask);
        }
        video.key_points.points.places = vec![centres];
        video.key_points.visible = vec![vec![true; num_frames]];
        video
    }

    #[test]
    fn raw_pixels_follow_what_keeps_its_look() {
        let recipe = Recipe::load("mae-64").expect("a recipe");
        let encoder = ProbeEncoder::raw_pixels("pixels", &recipe);
        let video = moving_square(5);
        let masks = propagate_masks(&encoder, &video, ([4, 8], RECIPE)).expect("carries");
        assert_eq!([masks[4].width, masks[4].height()], [64, 32]);
        let scores = mask_scores(&masks, &video);
        assert!(scores.len() == 1 && scores[0].j > 0.7, "{scores:?}");
        let mut still = video.clone();
        still.masks = vec![video.masks[0].clone(); 5];
        assert!(mask_scores(&still.masks, &video)[0].j < 0.4);
        still.frames = vec![video.frames[0].clone(); 5];
        let points = propagate_key_points(&encoder, &still, ([4, 8], RECIPE)).expect("carries");
        let [x, y] = points.places[0][4];
        assert!((x - 24.0).abs() < 8.0 && (y - 16.0).abs() < 8.0, "{points:?}");
    }

    #[test]
    fn a_perfect_prediction_scores_full_and_nothing_is_said() {
        let video = moving_square(4);
        let scores = MaskScores::mean(&mask_scores(&video.masks, &video)).expect("scores");
        assert!((scores.j - 1.0).abs() < 1e-12 && (scores.f - 1.0).abs() < 1e-12);
        let mut counts = ClassCounts::new(2);
        counts.add(&video.masks, &video);
        assert!((counts.mean_overlap() - 1.0).abs() < 1e-12);
        let late: Vec<ClassMask> = video.masks.iter().skip(1).cloned().collect();
        let mut counts = ClassCounts::new(2);
        counts.add(&late, &video);
        let joined = |masks: &[ClassMask]| masks.iter().flat_map(|mask| mask.classes.clone()).collect::<Vec<u8>>();
        let wanted = mean_of_numbers(&class_overlaps(&joined(&late), &joined(&video.masks[..3]), 2));
        assert!((counts.mean_overlap() - wanted).abs() < 1e-12 && wanted < 0.9);
        let encoder = ProbeEncoder::raw_pixels("pixels", &Recipe::load("mae-64").expect("a recipe"));
        let error = propagate_masks(&encoder, &LabelledVideo::default(), ([4, 8], RECIPE)).expect_err("no mask");
        assert!(error.to_string().contains("no mask"), "{error}");
    }

    #[test]
    fn a_joint_is_scored_over_all_videos_at_once() {
        // Of the first joint, 9 frames of one video are right and 1 of the other wrong; the second joint is always right.
        let video = |num_frames: usize| LabelledVideo {
            key_points: LabelledPoints {
                points: KeyPoints { places: vec![vec![[0.0, 0.0]; num_frames], vec![[30.0, 40.0]; num_frames]] },
                visible: vec![vec![true; num_frames]; 2],
            },
            ..LabelledVideo::default()
        };
        let [long, short] = [video(10), video(2)];
        let mut off = short.key_points.points.clone();
        off.places[0][1] = [100.0, 0.0];
        let mut distances = JointDistances::default();
        distances.add(&long.key_points.points, &long);
        distances.add(&off, &short);
        assert!((distances.scores().within_tenth - 95.0).abs() < 1e-12, "{:?}", distances.scores());
        assert!((key_point_scores(&off, &short).within_fifth - 50.0).abs() < 1e-12);
    }

    #[test]
    fn a_first_point_lies_on_its_nearest_cell() {
        let mut labels = vec![0.0; 25 * 2];
        draw_point(&mut labels, ([5, 5], 2, 1), [3.4, 1.6]);
        let largest = labels.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(idx, _)| idx);
        assert_eq!(largest, Some((2 * 5 + 3) * 2 + 1));
    }
}
