//! Probes on rendered clips: label propagation of bodies and key points, joint positions by k-NN and by a linear map.

use foresee_models::{
    ClassMask, KeyPoints, LabelledVideo, MaskScores, ProbeEncoder, PropagationRecipe, Protocol, Samples,
    explained_variance, key_point_scores, linear_probe, mask_scores, mean_of_numbers, predict_by_nearest,
    propagate_key_points, propagate_masks,
};

use super::clips::Clip;
use super::scores::Gathered;

/// RSP's command for DAVIS: seven nearest of the first and the last 30 frames, temperature 0.1.
pub(crate) const SQUARE: PropagationRecipe = PropagationRecipe {
    protocol: Protocol::SquareWindow,
    num_nearest: 7,
    num_last_frames: 30,
    radius: Some(30),
    temperature: 0.1,
};

/// CropMAE's for JHMDB: seven nearest of the first and the last 20 frames, temperature 0.7.
pub(crate) const DISC: PropagationRecipe = PropagationRecipe {
    protocol: Protocol::Disc,
    num_nearest: 7,
    num_last_frames: 20,
    radius: Some(20),
    temperature: 0.7,
};

/// A joint that leaves this anywhere turns round and round, and is told by its sine and cosine.
const TURNING_RADIANS: f64 = 3.0;

/// What the joint probes train and are asked on: clips of one task.
pub(crate) struct JointClips<'a> {
    pub(crate) train: &'a [Clip],
    pub(crate) test: &'a [Clip],
}

/// Label propagation over some clips: J, F and their mean, PCK, all in percent. One value a clip, the mean over its objects or key points:
/// clips of other tasks have other ones, and few, so that they are not pooled as those of data sets are.
///
/// # Errors
/// When the encoder refuses the frames.
pub(crate) fn propagate(encoder: &ProbeEncoder, clips: &[Clip], grid: [usize; 2]) -> anyhow::Result<Gathered> {
    let mut gathered = Gathered::default();
    for Clip { video, .. } in clips {
        let objects = mask_scores(&propagate_masks(encoder, video, (grid, SQUARE))?, video);
        if let Some(scores) = MaskScores::mean(&objects) {
            gathered.add("J", 100.0 * scores.j);
            gathered.add("F", 100.0 * scores.f);
            gathered.add("J&F", 50.0 * (scores.j + scores.f));
        }
        if video.key_points.points.places.len() > 1 {
            let points = propagate_key_points(encoder, video, (grid, DISC))?;
            let scores = key_point_scores(&points, video);
            gathered.add("PCK@0.1", scores.within_tenth);
            gathered.add("PCK@0.2", scores.within_fifth);
        }
    }
    Ok(gathered)
}

/// The labels that label propagation gives one video: masks, key points.
///
/// # Errors
/// When the encoder refuses the frames.
pub(crate) fn propagated(
    encoder: &ProbeEncoder,
    video: &LabelledVideo,
    grid: [usize; 2],
) -> anyhow::Result<(Vec<ClassMask>, KeyPoints)> {
    let masks = propagate_masks(encoder, video, (grid, SQUARE))?;
    let has_points = !video.key_points.points.places.is_empty();
    let points = if has_points { propagate_key_points(encoder, video, (grid, DISC))? } else { KeyPoints::default() };
    Ok((masks, points))
}

/// Joint positions of one task: explained variance in percent, mean over joints, from the class token (the mean patch of an encoder without
/// one) and from all patches.
///
/// # Errors
/// When the encoder refuses the frames, or there are too few.
pub(crate) fn joint_positions(
    encoder: &ProbeEncoder,
    clips: &JointClips<'_>,
    grid: [usize; 2],
) -> anyhow::Result<Gathered> {
    let is_turning = turning_joints(clips.train.iter().chain(clips.test));
    let sides = [clips.train, clips.test].map(|clips| samples(encoder, clips, (grid, &is_turning)));
    let [train, test] = sides;
    let (train, test) = (train?, test?);
    let mut gathered = Gathered::default();
    let whole = encoder.cls_name().map(|name| (name, &train.cls, &test.cls));
    for (name, train, test) in whole.into_iter().chain([("patches", &train.tokens, &test.tokens)]) {
        let linear = linear_probe(train, test)?;
        gathered.add(&format!("joints, linear, {name}"), 100.0 * linear.mean());
        let nearest = mean_of_numbers(&explained_variance(&predict_by_nearest(train, test), test));
        gathered.add(&format!("joints, k-NN, {name}"), 100.0 * nearest);
    }
    Ok(gathered)
}

#[derive(Default)]
struct Sides {
    cls: Samples,
    tokens: Samples,
}

fn samples(encoder: &ProbeEncoder, clips: &[Clip], (grid, is_turning): ([usize; 2], &[bool])) -> anyhow::Result<Sides> {
    let mut sides = Sides::default();
    for clip in clips {
        let features = encoder.features(&clip.video.frames, grid)?;
        sides.tokens.dim = features.dim * grid[0] * grid[1];
        sides.cls.dim = if features.cls.is_empty() { 0 } else { features.dim };
        sides.tokens.features.extend(features.tokens);
        sides.cls.features.extend(features.cls);
        for joints in &clip.joints {
            let targets = joints.iter().zip(is_turning).flat_map(|(position, is_turning)| match is_turning {
                true => vec![position.sin() as f32, position.cos() as f32],
                false => vec![*position as f32],
            });
            let targets: Vec<f32> = targets.collect();
            for samples in [&mut sides.cls, &mut sides.tokens] {
                samples.num_targets = targets.len();
                samples.targets.extend_from_slice(&targets);
            }
        }
    }
    Ok(sides)
}

fn turning_joints<'a>(clips: impl Iterator<Item = &'a Clip>) -> Vec<bool> {
    let mut is_turning = Vec::new();
    for joints in clips.flat_map(|clip| &clip.joints) {
        is_turning.resize(joints.len(), false);
        for (turning, position) in is_turning.iter_mut().zip(joints) {
            *turning |= position.abs() > TURNING_RADIANS;
        }
    }
    is_turning
}
