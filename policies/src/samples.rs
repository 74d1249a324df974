//! Demonstrations in memory: features of every frame, the joint state with it, and what the expert did.

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::PolicyConditions;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::PoliciesError;

/// A commanded joint: the order and the ranges of the action.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JointRange {
    /// Joint name.
    pub name: String,
    /// Smallest command.
    pub minimum: f64,
    /// Largest command.
    pub maximum: f64,
}

/// Encoded demonstrations in memory, episode by episode. Tokens are kept as f16: 2 bytes a value, `num_tokens * token_dim` values a frame.
#[derive(Clone)]
pub struct Samples {
    pub(crate) num_tokens: usize,
    pub(crate) token_dim: usize,
    pub(crate) joints: Vec<JointRange>,
    /// Hex sha256 of the encoder that made the tokens.
    pub(crate) encoder_sha256: String,
    /// Cameras and period of the demonstrations, for the policy's card.
    pub(crate) conditions: Option<PolicyConditions>,
    episodes: Vec<EpisodeSamples>,
}

/// The samples of one episode.
#[derive(Clone, Debug, Default)]
pub(crate) struct EpisodeSamples {
    /// `[S, N, D]`.
    tokens: Vec<f16>,
    /// `[S, 2J]`: positions, then velocities.
    joint_states: Vec<f32>,
    /// `[S, J]`: the expert's commands, scaled so that each joint's range is -1 to 1.
    actions: Vec<f32>,
    num_samples: usize,
}

/// Where a sample lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SampleIdx {
    episode: usize,
    row: usize,
}

/// One sample to add.
pub(crate) struct Sample<'a> {
    /// `[N, D]`.
    pub(crate) tokens: &'a [f32],
    /// `[J]`.
    pub(crate) positions: &'a [f64],
    /// `[J]`.
    pub(crate) velocities: &'a [f64],
    /// `[J]`, in the joints' units.
    pub(crate) action: &'a [f64],
}

impl Samples {
    /// None yet, for tokens `[num_tokens, token_dim]` of the encoder.
    pub(crate) fn new(num_tokens: usize, token_dim: usize, joints: &[JointRange], encoder_sha256: &str) -> Self {
        let encoder_sha256 = encoder_sha256.to_owned();
        Self { num_tokens, token_dim, joints: joints.to_vec(), encoder_sha256, conditions: None, episodes: Vec::new() }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.episodes.iter().map(|episode| episode.num_samples).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Episodes they are of.
    pub fn num_episodes(&self) -> usize {
        self.episodes.len()
    }

    /// Adds an episode; one without samples is passed over.
    ///
    /// # Errors
    /// [`PoliciesError::Training`] when the lengths are not those of the others, or a value is not finite.
    pub(crate) fn push(&mut self, episode: EpisodeSamples) -> Result<(), PoliciesError> {
        let (count, num_joints) = (episode.num_samples, self.joints.len());
        let lengths = [episode.tokens.len(), episode.joint_states.len(), episode.actions.len()];
        let expected = [count * self.num_tokens * self.token_dim, count * 2 * num_joints, count * num_joints];
        if lengths != expected {
            let problem = format!("{count} samples have {lengths:?} token, joint and action values, not {expected:?}");
            return Err(PoliciesError::Training(problem));
        }
        let joints_are_finite = episode.joint_states.iter().chain(&episode.actions).all(|value| value.is_finite());
        if !joints_are_finite || !episode.tokens.iter().all(|value| value.is_finite()) {
            let problem = "a demonstration holds NaN, infinity or a feature beyond f16; record or encode it anew";
            return Err(PoliciesError::Training(problem.to_owned()));
        }
        if count > 0 {
            self.episodes.push(episode);
        }
        Ok(())
    }

    /// `[N * D]`; empty past the end.
    pub(crate) fn tokens_of(&self, at: SampleIdx) -> impl Iterator<Item = f32> {
        let tokens = self.episodes.get(at.episode).map(|episode| episode.tokens.as_slice());
        row(tokens, at.row, self.num_tokens * self.token_dim).iter().map(|value| value.to_f32())
    }

    /// `[2J]`: positions, then velocities; empty past the end.
    pub(crate) fn joint_state_of(&self, at: SampleIdx) -> &[f32] {
        row(self.episodes.get(at.episode).map(|episode| episode.joint_states.as_slice()), at.row, 2 * self.joints.len())
    }

    /// `[J]`, each within -1 to 1; empty past the end.
    pub(crate) fn action_of(&self, at: SampleIdx) -> &[f32] {
        row(self.episodes.get(at.episode).map(|episode| episode.actions.as_slice()), at.row, self.joints.len())
    }

    /// Samples of the episodes that `wanted` says yes to, in order.
    pub(crate) fn idxs_where(&self, wanted: impl Fn(usize) -> bool) -> Vec<SampleIdx> {
        let episodes = self.episodes.iter().enumerate().filter(|(episode_idx, _)| wanted(*episode_idx));
        let samples = episodes.flat_map(|(episode, samples)| (0..samples.num_samples).map(move |row| (episode, row)));
        samples.map(|(episode, row)| SampleIdx { episode, row }).collect()
    }
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = (self.num_episodes(), self.len());
        formatter.debug_struct("Samples").field("episodes_and_samples", &counts).finish_non_exhaustive()
    }
}

impl EpisodeSamples {
    /// Adds one; [`Samples::push`] checks it.
    pub(crate) fn push(&mut self, sample: &Sample<'_>, joints: &[JointRange]) {
        self.num_samples += 1;
        self.tokens.extend(sample.tokens.iter().map(|value| f16::from_f32(*value)));
        self.joint_states.extend(sample.positions.iter().chain(sample.velocities).map(|value| *value as f32));
        self.actions.extend(sample.action.iter().zip(joints).map(|(value, joint)| {
            let (middle, half_range) = joint.middle_and_half_range();
            ((value - middle) / half_range).clamp(-1.0, 1.0) as f32
        }));
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.num_samples
    }

    /// Memory that they take.
    pub(crate) fn num_bytes(&self) -> usize {
        2 * self.tokens.capacity() + 4 * (self.joint_states.capacity() + self.actions.capacity())
    }

    /// Gives spare memory back.
    pub(crate) fn shrink(&mut self) {
        self.tokens.shrink_to_fit();
        self.joint_states.shrink_to_fit();
        self.actions.shrink_to_fit();
    }
}

impl JointRange {
    /// A profile's joints, in its order.
    pub fn of(profile: &DeviceProfile) -> Vec<Self> {
        let joints = profile.joints.iter();
        joints.map(|joint| Self { name: joint.name.clone(), minimum: joint.minimum, maximum: joint.maximum }).collect()
    }

    pub(crate) fn middle_and_half_range(&self) -> (f64, f64) {
        (0.5 * (self.minimum + self.maximum), 0.5 * (self.maximum - self.minimum))
    }
}

fn row<T>(values: Option<&[T]>, row_idx: usize, width: usize) -> &[T] {
    values.and_then(|values| values.get(row_idx * width..(row_idx + 1) * width)).unwrap_or_default()
}
