//! ONNX models as the loop sees them.

use super::{InferenceSession, OpenedSession};
use crate::card::{ClassToken, EncoderInterface, ImageLayout, ModelCard, TensorCard, TokenLayout};
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
    reading: Reading,
    /// Of the image.
    height: usize,
    width: usize,
    /// At a time.
    num_images: usize,
    /// Of an image.
    num_tokens: usize,
    dim: usize,
}

/// How the session's tensors become features.
enum Reading {
    /// Outputs `tokens [1, N, D]` and `cls [1, D]` are the features; the session writes into the lent buffers.
    Direct {
        /// Whether the tokens come before the class token in the card.
        is_tokens_first: bool,
    },
    /// Anything else goes through buffers of its own.
    Staged {
        interface: EncoderInterface,
        /// The image with its channels last, where the graph wants it so; empty otherwise.
        image: Vec<f32>,
        /// In the card's order.
        outputs: Vec<Vec<f32>>,
        tokens_idx: usize,
        /// The class token's output; the tokens' where it has none.
        cls_idx: usize,
    },
}

impl OnnxEncoder {
    /// `card` is of one image, whatever the session takes.
    pub(super) fn new(
        card: ModelCard,
        OpenedSession { session, mut report }: OpenedSession,
        num_images: usize,
    ) -> Result<Self, String> {
        (report.images, report.model_sha256) = (num_images, card.identity());
        let interface = card.encoder_interface();
        let (height, width) = interface.image_size(&card.inputs)?;
        let (num_tokens, dim) = interface.feature_shape(&card.outputs)?;
        let preprocessed = card.preprocessing.as_ref().map(|preprocessing| (preprocessing.height, preprocessing.width));
        if preprocessed != Some((height, width)) {
            return Err(format!(
                "sizes disagree: the image is {width}x{height}, preprocessing gives {preprocessed:?} (height, width)"
            ));
        }
        let reading = Reading::new(&card, interface, num_images);
        Ok(Self { card, report, session, reading, height, width, num_images, num_tokens, dim })
    }

    /// The engine's plainest call on the last input.
    pub(super) fn run_bare(&mut self) -> Result<(), RuntimeError> {
        let inference = |problem| RuntimeError::Inference { model: self.card.name.clone(), problem };
        self.session.run_bare().map_err(inference)
    }
}

impl Reading {
    fn new(card: &ModelCard, interface: EncoderInterface, num_images: usize) -> Self {
        let idx_of = |name: &str| card.outputs.iter().position(|output| output.name == name).unwrap_or_default();
        let tokens_idx = idx_of(&interface.tokens);
        let cls_idx = match &interface.cls {
            ClassToken::Output(name) => idx_of(name),
            ClassToken::Row(_) | ClassToken::Mean => tokens_idx,
        };
        let is_direct = interface.layout == ImageLayout::Nchw
            && interface.token_layout == TokenLayout::Rows
            && interface.num_prefix_tokens == 0
            && card.outputs.len() == 2
            && cls_idx != tokens_idx;
        if is_direct {
            return Self::Direct { is_tokens_first: tokens_idx == 0 };
        }
        let count = |card: &TensorCard| num_images * card.shape.iter().product::<usize>();
        let num_pixels = card.inputs.first().map_or(0, count);
        let image = if interface.layout == ImageLayout::Nhwc { vec![0.0; num_pixels] } else { Vec::new() };
        let outputs = card.outputs.iter().map(|output| vec![0.0; count(output)]).collect();
        Self::Staged { interface, image, outputs, tokens_idx, cls_idx }
    }
}

impl Encoder for OnnxEncoder {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn report(&self) -> &EngineReport {
        &self.report
    }

    fn num_images(&self) -> usize {
        self.num_images
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        let inference = |problem| RuntimeError::Inference { model: self.card.name.clone(), problem };
        let num_images = self.num_images;
        let wanted = num_images * 3 * self.height * self.width;
        if input.data.len() != wanted {
            return Err(inference(format!("an input of {} values where {wanted} are wanted", input.data.len())));
        }
        // The lent features keep their size from the second frame on.
        (features.num_tokens, features.dim) = (num_images * self.num_tokens, self.dim);
        features.tokens.resize(features.num_tokens * self.dim, 0.0);
        features.cls.resize(num_images * self.dim, 0.0);
        match &mut self.reading {
            Reading::Direct { is_tokens_first } => {
                let (tokens, cls) = (features.tokens.as_mut_slice(), features.cls.as_mut_slice());
                let mut outputs = if *is_tokens_first { [tokens, cls] } else { [cls, tokens] };
                self.session.run(&[&input.data], &mut outputs).map_err(inference)
            }
            Reading::Staged { interface, image, outputs, tokens_idx, cls_idx } => {
                if !image.is_empty() {
                    let images = image.chunks_exact_mut(wanted / num_images);
                    input
                        .data
                        .chunks_exact(wanted / num_images)
                        .zip(images)
                        .for_each(|(from, to)| channels_last(from, to));
                }
                let given = if image.is_empty() { &input.data } else { &*image };
                // At most a handful of outputs; the slices live on the stack.
                run_staged(self.session.as_mut(), given, outputs).map_err(inference)?;
                if let [Some(tokens), Some(cls)] = [outputs.get(*tokens_idx), outputs.get(*cls_idx)] {
                    let given = [tokens, cls].map(|values| values.chunks_exact((values.len() / num_images).max(1)));
                    let wanted = features.tokens.chunks_exact_mut(self.num_tokens * self.dim);
                    let [tokens, cls] = given;
                    for ((tokens, cls), wanted) in
                        tokens.zip(cls).zip(wanted.zip(features.cls.chunks_exact_mut(self.dim)))
                    {
                        arrange(interface, (tokens, cls), wanted);
                    }
                }
                Ok(())
            }
        }
    }
}

/// An encoder's card names one or two outputs.
fn run_staged(session: &mut dyn InferenceSession, image: &[f32], outputs: &mut [Vec<f32>]) -> Result<(), String> {
    match outputs {
        [only] => session.run(&[image], &mut [only]),
        [first, second] => session.run(&[image], &mut [first, second]),
        others => Err(format!("{} outputs where an encoder has one or two; make its card again", others.len())),
    }
}

/// `[3, H * W]` -> `[H * W, 3]`.
fn channels_last(planes: &[f32], pixels: &mut [f32]) {
    let (red, rest) = planes.split_at(planes.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    for (pixel, ((red, green), blue)) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(red.iter().zip(green).zip(blue)) {
        *pixel = [*red, *green, *blue];
    }
}

/// What the graph gave of an image -> tokens `[N, D]` and class token `[D]`.
fn arrange(
    interface: &EncoderInterface,
    (given, given_cls): (&[f32], &[f32]),
    (tokens, cls): (&mut [f32], &mut [f32]),
) {
    let dim = cls.len().max(1);
    let num_tokens = tokens.len() / dim;
    if interface.token_layout == TokenLayout::ChannelsFirst {
        for (token_idx, token) in tokens.chunks_exact_mut(dim).enumerate() {
            let values = given.iter().skip(token_idx).step_by(num_tokens);
            token.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        }
    } else {
        let patches = given.get(interface.num_prefix_tokens * dim..).unwrap_or_default();
        tokens.iter_mut().zip(patches).for_each(|(to, from)| *to = *from);
    }
    match &interface.cls {
        ClassToken::Output(_) => cls.iter_mut().zip(given_cls).for_each(|(to, from)| *to = *from),
        ClassToken::Row(row) => {
            cls.iter_mut().zip(given.iter().skip(row * dim)).for_each(|(to, from)| *to = *from);
        }
        ClassToken::Mean => {
            cls.fill(0.0);
            for token in tokens.chunks_exact(dim) {
                cls.iter_mut().zip(token).for_each(|(mean, value)| *mean += value);
            }
            cls.iter_mut().for_each(|mean| *mean /= num_tokens as f32);
        }
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
    /// `[J]`, or a chunk `[T, J]`.
    action: Vec<f32>,
}

impl OnnxPolicy {
    pub(super) fn new(card: ModelCard, OpenedSession { session, mut report }: OpenedSession) -> Result<Self, String> {
        report.model_sha256 = card.identity();
        let [tokens, _] = one_of(&card.inputs, ["tokens", "joints"])?;
        let num_joints = card.joints.len();
        let [action] = one_of(&card.outputs, ["action"])?;
        let num_action_values = action.iter().product();
        Ok(Self {
            report,
            session,
            is_tokens_first: card.inputs.first().is_some_and(|input| input.name == "tokens"),
            num_token_values: tokens.iter().product(),
            joints: vec![0.0; 2 * num_joints],
            action: vec![0.0; num_action_values],
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
        let num_joints = self.card.joints.len();
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

/// Whether a policy goes with this encoder, so many cameras and these joints.
pub(super) fn check_policy(
    card: &ModelCard,
    (encoder, num_cameras): (&ModelCard, usize),
    joint_names: &[String],
) -> Result<(), String> {
    let identity = encoder.identity();
    if card.encoder_sha256.as_ref() != Some(&identity) {
        let trained_on = card.encoder_sha256.as_deref().unwrap_or_default();
        return Err(format!(
            "was trained on the encoder {trained_on}, and {} is {identity}; serve it with its own encoder or train it again",
            encoder.name
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
    let (num_tokens, dim) = encoder.feature_shape()?;
    let given = vec![1, num_cameras * num_tokens, dim];
    let is_action = action[..] == [1, num_joints]
        || matches!(action[..], [1, num_steps, joints] if num_steps > 0 && joints == num_joints);
    if *tokens != given || joints[..] != [1, 2 * num_joints] || !is_action {
        return Err(format!(
            "takes tokens {tokens:?} and joints {joints:?} and gives action {action:?}; the encoder gives tokens {given:?} of the profile's cameras ({num_cameras}) and there are {num_joints} joints; use the profile that it was trained for"
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
