//! Scores of propagated labels: DAVIS J and F, VIP mIoU, JHMDB PCK, as their official code computes them.

/// A binary mask, row-major.
#[derive(Clone, Copy, Debug)]
pub struct BinaryMask<'a> {
    /// `height * width` values; anything but 0 is inside.
    pub values: &'a [u8],
    /// Pixels.
    pub width: usize,
}

impl BinaryMask<'_> {
    fn height(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    fn is_set(&self, row: usize, column: usize) -> bool {
        column < self.width && self.values.get(row * self.width + column).is_some_and(|value| *value != 0)
    }
}

/// Mean, recall (share above 0.5) and decay (first quarter less last) of a score over frames (davis2017-evaluation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreStatistics {
    /// Over all frames.
    pub mean: f64,
    /// Share of the frames above 0.5.
    pub recall: f64,
    /// Mean of the first quarter less mean of the last.
    pub decay: f64,
}

/// J: intersection over union; 1 when both are empty.
pub fn region_similarity(predicted: BinaryMask<'_>, truth: BinaryMask<'_>) -> f64 {
    let pairs = || predicted.values.iter().zip(truth.values).map(|(a, b)| (*a != 0, *b != 0));
    let union = pairs().filter(|(a, b)| *a || *b).count();
    let intersection = pairs().filter(|(a, b)| *a && *b).count();
    if union == 0 { 1.0 } else { intersection as f64 / union as f64 }
}

/// F: harmonic mean of the boundaries' precision and recall, matched within `ceil(0.008 * diagonal)` pixels.
pub fn boundary_accuracy(predicted: BinaryMask<'_>, truth: BinaryMask<'_>) -> f64 {
    let [height, width] = [truth.height(), truth.width];
    let radius = (0.008 * ((height * height + width * width) as f64).sqrt()).ceil() as usize;
    let [ours, theirs] = [boundary(predicted), boundary(truth)];
    let count = |mask: &[u8]| mask.iter().filter(|value| **value != 0).count();
    let [num_ours, num_theirs] = [count(&ours), count(&theirs)];
    let matched = |mask: &[u8], other: &[u8]| {
        let wide = dilate(BinaryMask { values: other, width }, radius);
        mask.iter().zip(&wide).filter(|(a, b)| **a != 0 && **b != 0).count() as f64
    };
    let [precision, recall] = match [num_ours, num_theirs] {
        [0, 0] => [1.0, 1.0],
        [0, _] => [1.0, 0.0],
        [_, 0] => [0.0, 1.0],
        _ => [matched(&ours, &theirs) / num_ours as f64, matched(&theirs, &ours) / num_theirs as f64],
    };
    if precision + recall == 0.0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) }
}

/// Pixels at whose right, lower or lower right neighbour the mask changes (`_seg2bmap`).
pub fn boundary(mask: BinaryMask<'_>) -> Vec<u8> {
    let [height, width] = [mask.height(), mask.width];
    let mut edges = Vec::with_capacity(mask.values.len());
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        let here = mask.is_set(row, column);
        let differs = |row, column| here != mask.is_set(row, column);
        let is_edge = match [row + 1 == height, column + 1 == width] {
            [true, true] => false,
            [true, false] => differs(row, column + 1),
            [false, true] => differs(row + 1, column),
            [false, false] => differs(row, column + 1) || differs(row + 1, column) || differs(row + 1, column + 1),
        };
        edges.push(u8::from(is_edge));
    }
    edges
}

/// Statistics of a score over frames; values that are not a number are left out.
pub fn score_statistics(scores: &[f64]) -> ScoreStatistics {
    let recalls: Vec<f64> = scores.iter().map(|score| f64::from(u8::from(*score > 0.5))).collect();
    let last = scores.len() as f64;
    // numpy rounds halves to even.
    let edge =
        |bin: usize| ((1.0 + (last - 1.0) * bin as f64 / 4.0 + 1e-10).round_ties_even() as usize).saturating_sub(1);
    let bin = |bin: usize| mean_of_numbers(scores.get(edge(bin)..=edge(bin + 1)).unwrap_or_default());
    ScoreStatistics { mean: mean_of_numbers(scores), recall: mean_of_numbers(&recalls), decay: bin(0) - bin(3) }
}

/// Intersection over union of each class over all pixels; not a number where a class occurs in neither (VIP: 20 classes).
pub fn class_overlaps(predicted: &[u8], truth: &[u8], num_classes: u8) -> Vec<f64> {
    let overlap = |class: u8| {
        let pairs = || predicted.iter().zip(truth).filter(|(_, truth)| **truth < num_classes);
        let both = pairs().filter(|(a, b)| **a == class && **b == class).count();
        let either = pairs().filter(|(a, b)| **a == class || **b == class).count();
        if either == 0 { f64::NAN } else { both as f64 / either as f64 }
    };
    (0..num_classes).map(overlap).collect()
}

/// Mean of the values that are numbers.
pub fn mean_of_numbers(values: &[f64]) -> f64 {
    let numbers: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    numbers.iter().sum::<f64>() / numbers.len() as f64
}

/// Key points of one video: `[joint][frame]` in pixels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyPoints {
    /// `[joint][frame]` x, y.
    pub places: Vec<Vec<[f64; 2]>>,
}

/// The box that distances are measured by in each frame: 0.6 times the diagonal of the visible joints' box.
pub fn joint_boxes(truth: &KeyPoints, visible: &[Vec<bool>]) -> Vec<f64> {
    let num_frames = truth.places.first().map_or(0, Vec::len);
    let box_of = |frame: usize| {
        let seen = |(joint, places): (&Vec<bool>, &Vec<[f64; 2]>)| {
            joint.get(frame).copied().unwrap_or(false).then(|| places.get(frame).copied()).flatten()
        };
        let places: Vec<[f64; 2]> = visible.iter().zip(&truth.places).filter_map(seen).collect();
        let side = |axis: fn(&[f64; 2]) -> f64| {
            let [low, high] = places
                .iter()
                .map(axis)
                .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], value| [low.min(value), high.max(value)]);
            high - low
        };
        0.6 * side(|place| place[0]).hypot(side(|place| place[1]))
    };
    (0..num_frames).map(box_of).collect()
}

/// PCK in percent at each share of the box: over visible joints of all frames but the first, averaged over joints.
pub fn correct_key_points(
    (predicted, truth): (&KeyPoints, &KeyPoints),
    (visible, boxes): (&[Vec<bool>], &[f64]),
    shares: &[f64],
) -> Vec<f64> {
    let distances = joint_distances((predicted, truth), (visible, boxes));
    shares.iter().map(|share| percent_within(&distances, *share)).collect()
}

/// How far off each joint is, in boxes: where it is visible, in all frames but the first.
pub(crate) fn joint_distances(
    (predicted, truth): (&KeyPoints, &KeyPoints),
    (visible, boxes): (&[Vec<bool>], &[f64]),
) -> Vec<Vec<f64>> {
    let mut joints = Vec::new();
    for ((predicted, truth), visible) in predicted.places.iter().zip(&truth.places).zip(visible) {
        let frames = predicted.iter().zip(truth).zip(visible.iter().zip(boxes)).skip(1);
        let seen = frames.filter(|(_, (visible, _))| **visible);
        let distances = seen.map(|(([x, y], [true_x, true_y]), (_, size))| (x - true_x).hypot(y - true_y) / size);
        joints.push(distances.collect());
    }
    joints
}

/// PCK in percent: the share of a joint's distances within this one, averaged over the joints that were seen.
pub(crate) fn percent_within(distances: &[Vec<f64>], share: f64) -> f64 {
    let of_joint = |distances: &Vec<f64>| {
        let num_within = distances.iter().filter(|distance| **distance <= share).count();
        if distances.is_empty() { f64::NAN } else { num_within as f64 / distances.len() as f64 }
    };
    100.0 * mean_of_numbers(&distances.iter().map(of_joint).collect::<Vec<f64>>())
}

/// Dilation with a disc of this radius.
fn dilate(mask: BinaryMask<'_>, radius: usize) -> Vec<u8> {
    let [height, width] = [mask.height(), mask.width];
    let mut wide = vec![0; mask.values.len()];
    for (row, column) in (0..height).flat_map(|row| (0..width).map(move |column| (row, column))) {
        if !mask.is_set(row, column) {
            continue;
        }
        for near_row in row.saturating_sub(radius)..=(row + radius).min(height - 1) {
            let down = near_row.abs_diff(row);
            let reach = (radius * radius - down * down).isqrt();
            let [left, right] = [column.saturating_sub(reach), (column + reach).min(width - 1)];
            if let Some(line) = wide.get_mut(near_row * width + left..=near_row * width + right) {
                line.fill(1);
            }
        }
    }
    wide
}
