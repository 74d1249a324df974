//! What the policy network is fed: raw tokens and joint state, normalised. The same numbers are baked into the exported graph.

use serde::{Deserialize, Serialize};

use crate::samples::{SampleIdx, Samples};

/// Nothing is scaled up by more than the inverse of this.
const SMALLEST_DEVIATION: f32 = 1e-3;

/// How joint positions enter the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PositionEncoding {
    /// Sine and cosine: for hinges, also those that turn without end.
    #[default]
    Angle,
    /// Normalised as it is: for slides.
    Linear,
}

/// The normalisation of both inputs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InputScaling {
    pub(crate) position_encoding: PositionEncoding,
    /// `[D]`.
    pub(crate) token_mean: Vec<f32>,
    /// `[D]`: what centred tokens are multiplied by.
    pub(crate) token_scale: Vec<f32>,
    /// `[I]`.
    pub(crate) joint_mean: Vec<f32>,
    /// `[I]`: what centred joint inputs are multiplied by.
    pub(crate) joint_scale: Vec<f32>,
}

impl InputScaling {
    /// Mean 0 and deviation 1 over the given samples for tokens, velocities and linear positions; sines and cosines stay.
    pub(crate) fn of(samples: &Samples, sample_idxs: &[SampleIdx], position_encoding: PositionEncoding) -> Self {
        let dim = samples.token_dim;
        let mut tokens = Moments::new(dim);
        let mut joints = Moments::new(position_encoding.num_inputs(samples.joints.len()));
        // A few thousand frames say enough of a mean over tokens.
        let stride = sample_idxs.len().div_ceil(4096).max(1);
        let mut buffer = Vec::new();
        for sample_idx in sample_idxs.iter().step_by(stride) {
            buffer.clear();
            buffer.extend(samples.tokens_of(*sample_idx));
            buffer.chunks_exact(dim).for_each(|token| tokens.add(token));
        }
        for sample_idx in sample_idxs {
            buffer.clear();
            position_encoding.encode(samples.joint_state_of(*sample_idx), &mut buffer);
            joints.add(&buffer);
        }
        let (token_mean, token_scale) = tokens.mean_and_scale();
        let (mut joint_mean, mut joint_scale) = joints.mean_and_scale();
        if position_encoding == PositionEncoding::Angle {
            joint_mean.iter_mut().take(2 * samples.joints.len()).for_each(|mean| *mean = 0.0);
            joint_scale.iter_mut().take(2 * samples.joints.len()).for_each(|scale| *scale = 1.0);
        }
        Self { position_encoding, token_mean, token_scale, joint_mean, joint_scale }
    }

    /// Appends the normalised tokens of `raw` `[N * D]`.
    pub(crate) fn push_tokens(&self, raw: impl Iterator<Item = f32>, tokens: &mut Vec<f32>) {
        let scaling = self.token_mean.iter().zip(&self.token_scale).cycle();
        tokens.extend(raw.zip(scaling).map(|(value, (mean, scale))| (value - mean) * scale));
    }

    /// Appends the normalised joint inputs of `raw` `[2J]`.
    pub(crate) fn push_joints(&self, raw: &[f32], joints: &mut Vec<f32>) {
        let start = joints.len();
        self.position_encoding.encode(raw, joints);
        let scaling = self.joint_mean.iter().zip(&self.joint_scale);
        joints.iter_mut().skip(start).zip(scaling).for_each(|(value, (mean, scale))| *value = (*value - mean) * scale);
    }
}

impl PositionEncoding {
    /// Joint inputs for `num_joints` joints.
    pub(crate) fn num_inputs(self, num_joints: usize) -> usize {
        match self {
            Self::Angle => 3 * num_joints,
            Self::Linear => 2 * num_joints,
        }
    }

    /// Appends positions (as sines, then cosines, or as they are), then velocities, of `raw` `[2J]`.
    fn encode(self, raw: &[f32], joints: &mut Vec<f32>) {
        let (positions, velocities) = raw.split_at(raw.len() / 2);
        match self {
            Self::Angle => {
                joints.extend(positions.iter().map(|position| position.sin()));
                joints.extend(positions.iter().map(|position| position.cos()));
            }
            Self::Linear => joints.extend(positions),
        }
        joints.extend(velocities);
    }
}

/// Running first and second moments of vectors.
struct Moments {
    count: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl Moments {
    fn new(dim: usize) -> Self {
        Self { count: 0.0, sums: vec![0.0; dim], squares: vec![0.0; dim] }
    }

    fn add(&mut self, values: &[f32]) {
        self.count += 1.0;
        for ((sum, square), value) in self.sums.iter_mut().zip(&mut self.squares).zip(values) {
            *sum += f64::from(*value);
            *square += f64::from(*value) * f64::from(*value);
        }
    }

    fn mean_and_scale(&self) -> (Vec<f32>, Vec<f32>) {
        let count = self.count.max(1.0);
        let scale = |sum: &f64, square: &f64| {
            let deviation = (square / count - (sum / count).powi(2)).max(0.0).sqrt() as f32;
            1.0 / deviation.max(SMALLEST_DEVIATION)
        };
        (
            self.sums.iter().map(|sum| (sum / count) as f32).collect(),
            self.sums.iter().zip(&self.squares).map(|(sum, square)| scale(sum, square)).collect(),
        )
    }
}
