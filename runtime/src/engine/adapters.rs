//! ONNX models as the loop sees them.

use super::{InferenceSession, OpenedSession};
use crate::card::{ModelCard, TensorCard};
use crate::command::Action;
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::policy::Policy;

/// An encoder in an ONNX file.
pub(super) struct OnnxEncoder {
    card: ModelCard,
    report: EngineReport,
    session: Box<dyn InferenceSession>,
    /// Whether `tokens` comes before `cls` in the card.
    is_tokens_first: bool,
    num_inputs: usize,
    num_tokens: usize,
    dim: usize,
}

impl OnnxEncoder {
    pub(super) fn new(card: ModelCard, OpenedSession { session, report }: OpenedSession) -> Result<Self, String> {
        let [image] = one_of(&card.inputs, ["image"])?;
        let [tokens, cls] = one_of(&card.outputs, ["tokens", "cls"])?;
        let (&[1, 3, height, width], &[1, num_tokens, dim], &[1, cls_dim]) = (&image[..], &tokens[..], &cls[..]) else {
            return Err(format!(
                "an encoder takes image [1, 3, H, W] and gives tokens [1, N, D] and cls [1, D], not {image:?}, {tokens:?}, {cls:?}"
            ));
        };
        let preprocessed = card.preprocessing.as_ref().map(|preprocessing| (preprocessing.height, preprocessing.width));
        if dim != cls_dim || preprocessed != Some((height, width)) {
            return Err(format!(
                "sizes disagree: image {image:?} against preprocessing {preprocessed:?}, tokens {tokens:?} against cls {cls:?}"
            ));
        }
        let is_tokens_first = card.outputs.first().is_some_and(|output| output.name == "tokens");
        Ok(Self { card, report, session, is_tokens_first, num_inputs: 3 * height * width, num_tokens, dim })
    }
}

impl OnnxEncoder {
    /// The engine's plainest call on the last input.
    pub(super) fn run_bare(&mut self) -> Result<(), RuntimeError> {
        let inference = |problem| RuntimeError::Inference { model: self.card.name.clone(), problem };
        self.session.run_bare().map_err(inference)
    }
}

impl Encoder for OnnxEncoder {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn report(&self) -> &EngineReport {
        &self.report
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        let inference = |problem| RuntimeError::Inference { model: self.card.name.clone(), problem };
        if input.data.len() != self.num_inputs {
            return Err(inference(format!(
                "an input of {} values where {} are wanted",
                input.data.len(),
                self.num_inputs
            )));
        }
        // The lent features keep their size from the second frame on.
        (features.num_tokens, features.dim) = (self.num_tokens, self.dim);
        features.tokens.resize(self.num_tokens * self.dim, 0.0);
        features.cls.resize(self.dim, 0.0);
        let (tokens, cls) = (features.tokens.as_mut_slice(), features.cls.as_mut_slice());
        let mut outputs = if self.is_tokens_first { [tokens, cls] } else { [cls, tokens] };
        self.session.run(&[&input.data], &mut outputs).map_err(inference)
    }
}

/// A policy in an ONNX file.
pub(super) struct OnnxPolicy {
    card: ModelCard,
    report: EngineReport,
    session: Box<dyn InferenceSession>,
    /// Whether `tokens` comes before `joints` in the card.
    is_tokens_first: bool,
    num_token_values: usize,
    /// `[2J]`: positions, then velocities.
    joints: Vec<f32>,
    /// `[J]`.
    action: Vec<f32>,
}

impl OnnxPolicy {
    pub(super) fn new(card: ModelCard, OpenedSession { session, report }: OpenedSession) -> Result<Self, String> {
        let [tokens, _] = one_of(&card.inputs, ["tokens", "joints"])?;
        let num_joints = card.joints.len();
        Ok(Self {
            report,
            session,
            is_tokens_first: card.inputs.first().is_some_and(|input| input.name == "tokens"),
            num_token_values: tokens.iter().product(),
            joints: vec![0.0; 2 * num_joints],
            action: vec![0.0; num_joints],
            card,
        })
    }
}

impl Policy for OnnxPolicy {
    fn report(&self) -> Option<&EngineReport> {
        Some(&self.report)
    }

    fn reset(&mut self) {}

    fn act(&mut self, features: &Features, joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let inference = |problem| RuntimeError::Inference { model: self.card.name.clone(), problem };
        let num_joints = self.action.len();
        if features.tokens.len() != self.num_token_values
            || [joints.positions.len(), joints.velocities.len()] != [num_joints; 2]
        {
            let (tokens, positions) = (features.tokens.len(), joints.positions.len());
            let wanted = self.num_token_values;
            return Err(inference(format!(
                "{tokens} token values and {positions} joints where {wanted} and {num_joints} are wanted"
            )));
        }
        let states = joints.positions.iter().chain(&joints.velocities);
        self.joints.iter_mut().zip(states).for_each(|(value, state)| *value = *state as f32);
        let (tokens, joints) = (features.tokens.as_slice(), self.joints.as_slice());
        let inputs = if self.is_tokens_first { [tokens, joints] } else { [joints, tokens] };
        self.session.run(&inputs, &mut [&mut self.action]).map_err(inference)?;
        action.values.clear();
        action.values.extend(self.action.iter().map(|value| f64::from(*value)));
        Ok(())
    }
}

/// Whether a policy goes with this encoder and these joints.
pub(super) fn check_policy(card: &ModelCard, encoder: &ModelCard, joint_names: &[String]) -> Result<(), String> {
    if card.encoder_sha256.as_deref() != Some(encoder.sha256.as_str()) {
        let trained_on = card.encoder_sha256.as_deref().unwrap_or_default();
        return Err(format!(
            "was trained on the encoder {trained_on}, and {} is {}; serve it with its own encoder or train it again",
            encoder.name, encoder.sha256
        ));
    }
    if card.joints != joint_names {
        let (has, wanted) = (card.joints.join(", "), joint_names.join(", "));
        return Err(format!(
            "commands the joints {has}, and the profile has {wanted}; use the profile that it was trained for"
        ));
    }
    let [tokens, joints] = one_of(&card.inputs, ["tokens", "joints"])?;
    let [action] = one_of(&card.outputs, ["action"])?;
    let num_joints = card.joints.len();
    let [given] = one_of(
        &encoder.outputs.iter().filter(|output| output.name == "tokens").cloned().collect::<Vec<_>>(),
        ["tokens"],
    )
    .map(|[shape]| [shape.clone()])?;
    if *tokens != given || joints[..] != [1, 2 * num_joints] || action[..] != [1, num_joints] {
        return Err(format!(
            "takes tokens {tokens:?} and joints {joints:?} and gives action {action:?}; the encoder gives tokens {given:?} and there are {num_joints} joints"
        ));
    }
    Ok(())
}

/// The shapes of exactly these tensors.
fn one_of<'a, const COUNT: usize>(
    tensors: &'a [TensorCard],
    names: [&str; COUNT],
) -> Result<[&'a Vec<usize>; COUNT], String> {
    let found: Vec<&Vec<usize>> = names
        .iter()
        .filter_map(|name| tensors.iter().find(|tensor| tensor.name == *name).map(|tensor| &tensor.shape))
        .collect();
    let given = || tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>().join(", ");
    match <[&Vec<usize>; COUNT]>::try_from(found) {
        Ok(shapes) if tensors.len() == COUNT => Ok(shapes),
        _ => Err(format!("has the tensors {} where {} are wanted", given(), names.join(", "))),
    }
}
