//! Label propagation and its scores against the official code.

use super::file::{GoldenFile, GoldenTensor};
use super::{GoldenReport, Subject, larger, worst_difference};
use crate::error::ModelsError;
use crate::labels::{PropagationRecipe, Protocol, VideoFeatures, key_points, label_pixels, propagate_labels};
use crate::scores::{
    BinaryMask, KeyPoints, boundary, boundary_accuracy, class_overlaps, correct_key_points, joint_boxes,
    mean_of_numbers, region_similarity, score_statistics,
};

/// Soft labels: absolute.
const SOFT: f64 = 2e-5;
/// Share of hard labels that may differ, where two classes tie within rounding.
const HARD: f64 = 1e-3;
/// Scores: absolute.
const SCORE: f64 = 1e-9;
/// The shares of the box at which PCK is given.
const SHARES: [f64; 5] = [0.1, 0.2, 0.3, 0.4, 0.5];
/// Patches that a key point is the mean of.
const KEY_POINT_PATCHES: usize = 5;

/// Largest number of neighbours, frames in the queue, radius and patch.
const MAX_SETTING: usize = 4096;
/// Most values of one frame's label maps.
const MAX_VALUES: usize = 1 << 27;

/// Every part that the file holds.
pub(super) fn verify(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let cases: Vec<String> = file.names().filter_map(|name| Some(name.strip_suffix(".feats")?.to_string())).collect();
    for case in cases {
        match file.find(&format!("{case}.soft")) {
            Some(soft) => square_window(subject, (&case, soft), report)?,
            None => disc(subject, &case, report)?,
        }
    }
    if file.find("davis.gt").is_some() {
        davis(subject, report)?;
    }
    if file.find("vip.gt").is_some() {
        vip(subject, report)?;
    }
    if file.find("jhmdb.gt").is_some() {
        jhmdb(subject, report)?;
    }
    Ok(())
}

/// `params` is `[T, h, w, dim, C, topk, n_last_frames, radius (0: everywhere), patch]`.
fn square_window(
    subject: &Subject<'_>,
    (case, soft): (&str, &GoldenTensor),
    report: &mut GoldenReport,
) -> Result<(), ModelsError> {
    let file = &subject.file;
    let [_, rows, columns, dim, num_classes, num_nearest, num_last_frames, radius, patch] = params(file, case)?;
    check_limits((file, case), [num_nearest, num_last_frames, radius, patch], [rows, columns, num_classes])?;
    let recipe = PropagationRecipe {
        protocol: Protocol::SquareWindow,
        num_nearest,
        num_last_frames,
        radius: (radius > 0).then_some(radius),
        temperature: temperature(file, case)?,
    };
    let values = file.get(&format!("{case}.feats"))?.to_f32();
    let first = channels_last(&file.get(&format!("{case}.first_seg"))?.to_f32(), num_classes);
    let features = VideoFeatures { values: &values, rows, columns, dim };
    let frames = propagate_labels(features, (&first, num_classes), recipe);
    let ours: Vec<f32> = frames.iter().skip(1).flat_map(|frame| channels_first(&frame.labels, num_classes)).collect();
    report.add(subject.name(&format!("label_propagation/{case}.soft")), worst_difference(&ours, &soft.values), SOFT);
    if let Some(golden) = file.find(&format!("{case}.hard")) {
        let hard: Vec<u8> = frames
            .iter()
            .skip(1)
            .flat_map(|frame| label_pixels(&frame.labels, [rows, columns, num_classes], patch).0)
            .collect();
        let share = share_different(&hard, &golden.values);
        report.add(subject.name(&format!("label_propagation/{case}.hard")), share, HARD);
    }
    if let (Some(golden), Some(last)) = (file.find(&format!("{case}.up_last")), frames.last()) {
        let (_, maps) = label_pixels(&last.labels, [rows, columns, num_classes], patch);
        report.add(
            subject.name(&format!("label_propagation/{case}.up_last")),
            worst_difference(&maps, &golden.values),
            SOFT,
        );
    }
    Ok(())
}

/// `params` is `[T, h, w, dim, C, n_context, topk, radius]`.
fn disc(subject: &Subject<'_>, case: &str, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let [_, rows, columns, dim, num_classes, num_last_frames, num_nearest, radius] = params(file, case)?;
    check_limits((file, case), [num_nearest, num_last_frames, radius, 1], [rows, columns, num_classes])?;
    let temperature = temperature(file, case)?;
    let recipe =
        PropagationRecipe { protocol: Protocol::Disc, num_nearest, num_last_frames, radius: Some(radius), temperature };
    let values = file.get(&format!("{case}.feats"))?.to_f32();
    let labels = file.get(&format!("{case}.labels"))?.to_indices();
    let one_hot =
        |label: &usize| (0..num_classes).map(|class| if class == *label { 1.0 } else { 0.0 }).collect::<Vec<f32>>();
    let first: Vec<f32> = labels.iter().take(rows * columns).flat_map(one_hot).collect();
    let features = VideoFeatures { values: &values, rows, columns, dim };
    let frames = propagate_labels(features, (&first, num_classes), recipe);
    let ours: Vec<f32> = frames.iter().flat_map(|frame| frame.labels.iter().copied()).collect();
    let golden = file.get(&format!("{case}.preds"))?;
    report.add(subject.name(&format!("label_propagation/{case}.preds")), worst_difference(&ours, &golden.values), SOFT);
    if let Some(golden) = file.find(&format!("{case}.weights")) {
        let mut ours = Vec::new();
        for frame in &frames {
            for rank in 0..num_nearest {
                ours.extend(frame.weights.iter().map(|weights| weights.get(rank).copied().unwrap_or(0.0)));
            }
        }
        report.add(
            subject.name(&format!("label_propagation/{case}.weights")),
            worst_difference(&ours, &golden.values),
            SOFT,
        );
    }
    if let (Some(golden), Some(last)) = (file.find(&format!("{case}.pose_coords_last")), frames.last()) {
        let points = key_points(&last.labels, [columns, num_classes], KEY_POINT_PATCHES);
        let ours: Vec<f32> =
            [0, 1].into_iter().flat_map(|axis| points.iter().map(move |point| point[axis] as f32)).collect();
        report.add(
            subject.name(&format!("label_propagation/{case}.key_points")),
            worst_difference(&ours, &golden.values),
            SOFT,
        );
    }
    Ok(())
}

fn davis(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let [truth, predicted] = [file.get("davis.gt")?, file.get("davis.pred")?];
    let &[_, num_frames, height, width] = truth.shape.as_slice() else {
        return Err(file.fail("davis.gt must be [objects, frames, H, W]".to_string()));
    };
    let [truth, predicted] = [truth, predicted].map(|masks| to_bytes(&masks.values));
    let num_pixels = (height * width).max(1);
    let pairs: Vec<_> = predicted
        .chunks_exact(num_pixels)
        .zip(truth.chunks_exact(num_pixels))
        .map(|(predicted, truth)| [predicted, truth].map(|values| BinaryMask { values, width }))
        .collect();
    if let (Some([_, truth]), Some(golden)) = (pairs.first(), file.find("davis.boundary_gt_0_0")) {
        let share = share_different(&boundary(*truth), &golden.values);
        report.add(subject.name("davis/boundary"), share, 0.0);
    }
    type Score = fn(BinaryMask<'_>, BinaryMask<'_>) -> f64;
    let scores: [(&str, Score); 2] = [("J", region_similarity), ("F", boundary_accuracy)];
    for (name, score) in scores {
        let ours: Vec<f64> = pairs.iter().map(|[predicted, truth]| score(*predicted, *truth)).collect();
        let golden = file.get(&format!("davis.{name}"))?;
        report.add(subject.name(&format!("davis/{name}")), worst_score(&ours, &golden.values), SCORE);
        let statistics: Vec<f64> = ours
            .chunks_exact(num_frames.max(1))
            .map(score_statistics)
            .flat_map(|statistics| [statistics.mean, statistics.recall, statistics.decay])
            .collect();
        let golden = file.get(&format!("davis.{name}_mean_recall_decay"))?;
        report.add(subject.name(&format!("davis/{name}_statistics")), worst_score(&statistics, &golden.values), SCORE);
    }
    Ok(())
}

fn vip(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let [truth, predicted] = [file.get("vip.gt")?, file.get("vip.pred")?].map(|labels| to_bytes(&labels.values));
    let golden = file.get("vip.iou")?;
    let overlaps = class_overlaps(&predicted, &truth, u8::try_from(golden.values.len()).unwrap_or(u8::MAX));
    report.add(subject.name("vip/iou"), worst_score(&overlaps, &golden.values), SCORE);
    let golden = file.get("vip.miou")?;
    report.add(subject.name("vip/miou"), worst_score(&[mean_of_numbers(&overlaps)], &golden.values), SCORE);
    Ok(())
}

fn jhmdb(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let file = &subject.file;
    let [truth, predicted] = [to_key_points(file, "jhmdb.gt")?, to_key_points(file, "jhmdb.pred_px")?];
    let visible = file.get("jhmdb.visible")?;
    let num_frames = visible.shape.last().copied().unwrap_or(0).max(1);
    let visible: Vec<Vec<bool>> =
        visible.values.chunks_exact(num_frames).map(|joint| joint.iter().map(|value| *value > 0.0).collect()).collect();
    let boxes = joint_boxes(&truth, &visible);
    report.add(subject.name("jhmdb/boxes"), worst_score(&boxes, &file.get("jhmdb.boxes")?.values), 1e-6);
    let ours = correct_key_points((&predicted, &truth), (&visible, &boxes), &SHARES);
    let golden = file.get("jhmdb.pck_0.1_to_0.5")?;
    report.add(subject.name("jhmdb/pck"), worst_score(&ours, &golden.values), SCORE);
    Ok(())
}

fn params<const N: usize>(file: &GoldenFile, case: &str) -> Result<[usize; N], ModelsError> {
    let params = file.get(&format!("{case}.params"))?.to_indices();
    let wrong = |params: Vec<usize>| file.fail(format!("{case}.params holds {} numbers, not {N}", params.len()));
    let params: [usize; N] = params.try_into().map_err(wrong)?;
    // The first five are the sizes of the features and the number of classes.
    let [num_frames, rows, columns, dim, num_classes] = *params.first_chunk().unwrap_or(&[0; 5]);
    let count = [num_frames, rows, columns, dim].into_iter().try_fold(1_usize, usize::checked_mul);
    let num_values = file.get(&format!("{case}.feats"))?.values.len();
    if num_classes == 0 || num_values == 0 || count != Some(num_values) {
        return Err(file.fail(format!("{case}.params {params:?} do not fit {case}.feats of {num_values} values")));
    }
    Ok(params)
}

/// Whether propagation by these settings, and its pixels, stay within memory.
fn check_limits(
    (file, case): (&GoldenFile, &str),
    settings: [usize; 4],
    [rows, columns, num_classes]: [usize; 3],
) -> Result<(), ModelsError> {
    let [.., patch] = settings;
    let num_values = [rows, columns, num_classes, patch, patch].into_iter().try_fold(1_usize, usize::checked_mul);
    if settings.iter().any(|setting| *setting > MAX_SETTING) || num_values.is_none_or(|count| count > MAX_VALUES) {
        return Err(file.fail(format!(
            "{case}.params: neighbours, frames, radius and patch may be at most {MAX_SETTING} (they are {settings:?}), and \
            {num_classes} classes over all pixels at most {MAX_VALUES} values"
        )));
    }
    Ok(())
}

fn temperature(file: &GoldenFile, case: &str) -> Result<f32, ModelsError> {
    Ok(file.get(&format!("{case}.temperature"))?.to_f32().first().copied().unwrap_or(f32::NAN))
}

/// `[2, joints, frames]`, x then y.
fn to_key_points(file: &GoldenFile, name: &str) -> Result<KeyPoints, ModelsError> {
    let tensor = file.get(name)?;
    let &[2, _, num_frames] = tensor.shape.as_slice() else {
        return Err(file.fail(format!("{name} must be [2, joints, frames]")));
    };
    let (xs, ys) = tensor.values.split_at(tensor.values.len() / 2);
    let joints = xs.chunks_exact(num_frames.max(1)).zip(ys.chunks_exact(num_frames.max(1)));
    let places = joints.map(|(xs, ys)| xs.iter().zip(ys).map(|(x, y)| [*x, *y]).collect()).collect();
    Ok(KeyPoints { places })
}

fn to_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().map(|value| *value as u8).collect()
}

/// `[C, n]` -> `[n, C]`.
fn channels_last(values: &[f32], num_classes: usize) -> Vec<f32> {
    let count = values.len() / num_classes.max(1);
    (0..count).flat_map(|patch| values.iter().skip(patch).step_by(count).copied()).collect()
}

/// `[n, C]` -> `[C, n]`.
fn channels_first(values: &[f32], num_classes: usize) -> Vec<f32> {
    (0..num_classes).flat_map(|class| values.iter().skip(class).step_by(num_classes).copied()).collect()
}

fn share_different(ours: &[u8], golden: &[f64]) -> f64 {
    if ours.len() != golden.len() {
        return f64::INFINITY;
    }
    let num_different = ours.iter().zip(golden).filter(|(a, b)| f64::from(**a) != **b).count();
    num_different as f64 / ours.len().max(1) as f64
}

/// Largest absolute difference; two that are not a number agree.
fn worst_score(ours: &[f64], golden: &[f64]) -> f64 {
    if ours.len() != golden.len() {
        return f64::INFINITY;
    }
    let error = |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() };
    ours.iter().zip(golden).map(error).fold(0.0, larger)
}
