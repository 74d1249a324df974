//! Behaviour cloning: a small head on frozen features and joint state, fitted to what the expert did.

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::actor::seeded;
use crate::checkpoint::{CHECKPOINT_FORMAT, CheckpointHeader, GoldenInput, PolicyCheckpoint};
use crate::error::PoliciesError;
use crate::head::{Head, HeadShape, HeadWeights};
use crate::inputs::{InputScaling, PositionEncoding};
use crate::progress::{EpochReport, Progress, Watch};
use crate::samples::{SampleIdx, Samples};

/// How a policy is fitted. The defaults are those of the committed reacher policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BcOptions {
    /// What a token is mapped to before the perceptron.
    pub token_width: usize,
    /// Widths of the perceptron's hidden layers.
    pub hidden_widths: Vec<usize>,
    /// How joint positions enter.
    pub position_encoding: PositionEncoding,
    /// Passes over the training samples.
    pub num_epochs: usize,
    /// Samples a step.
    pub batch_size: usize,
    /// Peak learning rate: reached linearly within the first twentieth of the steps, then down to 0 on a cosine.
    pub learning_rate: f64,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f32,
    /// Share of the episodes held out to choose the weights that are kept.
    pub validation_share: f64,
    /// Of initial weights, split and order.
    pub seed: u64,
}

impl Default for BcOptions {
    fn default() -> Self {
        Self {
            token_width: 8,
            hidden_widths: vec![256, 256],
            position_encoding: PositionEncoding::Angle,
            num_epochs: 20,
            batch_size: 256,
            learning_rate: 1e-3,
            weight_decay: 1e-4,
            validation_share: 0.1,
            seed: 0,
        }
    }
}

/// Fits a policy to the samples with AdamW on the mean squared error, and gives the weights of the epoch with the lowest loss on the
/// held-out episodes (of a single episode, its end). Asked to stop, it drops the epoch under way; before the first epoch is done that is an error.
///
/// # Errors
/// [`PoliciesError::Option`] for options out of range, [`PoliciesError::Training`] for too few episodes or a loss that is not finite.
pub fn fit_policy(
    samples: &Samples,
    options: &BcOptions,
    watch: &mut Watch<'_>,
) -> Result<PolicyCheckpoint, PoliciesError> {
    options.check()?;
    let mut fit = Fit::new(samples, options)?;
    let mut epochs: Vec<EpochReport> = Vec::new();
    let mut best: Option<(f64, HeadWeights)> = None;
    for epoch in 1..=options.num_epochs {
        let Some(train_loss) = fit.train_one_epoch(epoch, watch) else { break };
        let validation_loss = fit.validation_loss();
        if !train_loss.is_finite() || !validation_loss.is_finite() {
            let rate = options.learning_rate;
            let problem = format!("the loss of epoch {epoch} is not finite; use a learning_rate below {rate}");
            return Err(PoliciesError::Training(problem));
        }
        let improved = best.as_ref().is_none_or(|(lowest, _)| validation_loss < *lowest);
        if improved {
            best = Some((validation_loss, fit.head.weights()?));
        }
        let report = EpochReport { epoch, num_epochs: options.num_epochs, train_loss, validation_loss, best: improved };
        watch.tell(Progress::Epoch(report.clone()));
        epochs.push(report);
    }
    let (_, weights) = best.ok_or_else(|| {
        PoliciesError::Training("stopped before the first epoch was done; nothing is kept".to_owned())
    })?;
    Ok(fit.into_checkpoint(weights, epochs))
}

/// A fit under way.
struct Fit<'a> {
    samples: &'a Samples,
    options: &'a BcOptions,
    shape: HeadShape,
    scaling: InputScaling,
    training_idxs: Vec<SampleIdx>,
    validation_idxs: Vec<SampleIdx>,
    generator: StdRng,
    device: Device,
    head: Head,
    optimiser: ModuleOptimizer,
    schedule: Schedule,
}

impl<'a> Fit<'a> {
    fn new(samples: &'a Samples, options: &'a BcOptions) -> Result<Self, PoliciesError> {
        let mut generator = seeded(options.seed);
        let (training_idxs, validation_idxs) = split(samples, options, &mut generator)?;
        let shape = HeadShape {
            num_tokens: samples.num_tokens,
            token_dim: samples.token_dim,
            token_width: options.token_width,
            num_joint_inputs: options.position_encoding.num_inputs(samples.joints.len()),
            hidden_widths: options.hidden_widths.clone(),
            num_actions: samples.joints.len(),
        };
        let device = Device::flex();
        let weights = HeadWeights::random(&shape, &mut generator);
        let num_steps = training_idxs.len().div_ceil(options.batch_size) * options.num_epochs;
        Ok(Self {
            samples,
            options,
            shape,
            scaling: InputScaling::of(samples, &training_idxs, options.position_encoding),
            training_idxs,
            validation_idxs,
            generator,
            head: Head::new(&weights, &device.clone().autodiff()),
            device,
            optimiser: AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(options.weight_decay).init(),
            schedule: Schedule { peak: options.learning_rate, num_steps },
        })
    }

    /// The mean loss over the epoch's batches; `None` when asked to stop.
    fn train_one_epoch(&mut self, epoch: usize, watch: &Watch<'_>) -> Option<f64> {
        shuffle(&mut self.training_idxs, &mut self.generator);
        let device = self.device.clone().autodiff();
        let num_batches = self.training_idxs.len().div_ceil(self.options.batch_size);
        let mut sum = 0.0;
        for (batch_idx, sample_idxs) in self.training_idxs.chunks(self.options.batch_size).enumerate() {
            if watch.stopped() {
                return None;
            }
            let loss = self.batch(sample_idxs, &device).loss(&self.head);
            sum += scalar(&loss) * sample_idxs.len() as f64;
            let gradients = GradientsParams::from_grads(loss.backward(), &self.head);
            let rate = self.schedule.rate((epoch - 1) * num_batches + batch_idx);
            self.head = self.optimiser.step(rate, self.head.clone(), gradients);
        }
        Some(sum / self.training_idxs.len().max(1) as f64)
    }

    fn validation_loss(&self) -> f64 {
        let head = self.head.valid();
        let chunks = self.validation_idxs.chunks(self.options.batch_size);
        let losses = chunks.map(|idxs| scalar(&self.batch(idxs, &self.device).loss(&head)) * idxs.len() as f64);
        losses.sum::<f64>() / self.validation_idxs.len().max(1) as f64
    }

    fn batch(&self, sample_idxs: &[SampleIdx], device: &Device) -> Batch {
        let Self { samples, scaling, shape, .. } = self;
        let batch = sample_idxs.len();
        let mut tokens = Vec::with_capacity(batch * shape.num_tokens * shape.token_dim);
        let mut joints = Vec::with_capacity(batch * shape.num_joint_inputs);
        let mut actions = Vec::with_capacity(batch * shape.num_actions);
        for sample_idx in sample_idxs {
            scaling.push_tokens(samples.tokens_of(*sample_idx), &mut tokens);
            scaling.push_joints(samples.joint_state_of(*sample_idx), &mut joints);
            actions.extend_from_slice(samples.action_of(*sample_idx));
        }
        let tokens = TensorData::new(tokens, [batch, shape.num_tokens, shape.token_dim]);
        let joints = TensorData::new(joints, [batch, shape.num_joint_inputs]);
        let actions = TensorData::new(actions, [batch, shape.num_actions]);
        Batch {
            tokens: Tensor::from_data(tokens, device),
            joints: Tensor::from_data(joints, device),
            actions: Tensor::from_data(actions, device),
        }
    }

    fn into_checkpoint(self, weights: HeadWeights, epochs: Vec<EpochReport>) -> PolicyCheckpoint {
        let Self { samples, options, validation_idxs, .. } = self;
        let golden_idx = validation_idxs.first().copied();
        PolicyCheckpoint {
            header: CheckpointHeader {
                format: CHECKPOINT_FORMAT,
                shape: self.shape,
                position_encoding: options.position_encoding,
                joints: samples.joints.clone(),
                encoder_sha256: samples.encoder_sha256.clone(),
                options: options.clone(),
                num_episodes: samples.num_episodes(),
                num_samples: samples.len(),
                epochs,
                conditions: samples.conditions.clone(),
            },
            weights,
            scaling: self.scaling,
            golden: GoldenInput {
                tokens: golden_idx.map(|at| samples.tokens_of(at).collect()).unwrap_or_default(),
                joints: golden_idx.map(|at| samples.joint_state_of(at).to_vec()).unwrap_or_default(),
            },
        }
    }
}

struct Batch {
    tokens: Tensor<3>,
    joints: Tensor<2>,
    actions: Tensor<2>,
}

impl Batch {
    fn loss(self, head: &Head) -> Tensor<1> {
        let error = head.forward(self.tokens, self.joints) - self.actions;
        error.powi_scalar(2).mean()
    }
}

impl BcOptions {
    fn check(&self) -> Result<(), PoliciesError> {
        let counts = [
            ("token_width", self.token_width, 1, 1024),
            ("num_epochs", self.num_epochs, 1, 100_000),
            ("batch_size", self.batch_size, 1, 65_536),
        ];
        for (option, value, least, most) in counts {
            if value < least || value > most {
                return Err(out_of_range(option, &value, &format!("{least} to {most}")));
            }
        }
        if self.hidden_widths.len() > 8 || self.hidden_widths.iter().any(|width| *width == 0 || *width > 8192) {
            let rule = "at most 8 hidden layers of 1 to 8192";
            return Err(out_of_range("hidden_widths", &format!("{:?}", self.hidden_widths), rule));
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            return Err(out_of_range("learning_rate", &self.learning_rate, "above 0, at most 1"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay <= 1.0) {
            return Err(out_of_range("weight_decay", &self.weight_decay, "0 to 1"));
        }
        if !(self.validation_share > 0.0 && self.validation_share <= 0.5) {
            return Err(out_of_range("validation_share", &self.validation_share, "above 0, at most 0.5"));
        }
        Ok(())
    }
}

fn out_of_range(option: &'static str, value: &impl ToString, rule: &str) -> PoliciesError {
    PoliciesError::Option { option, value: value.to_string(), rule: format!("use {rule}") }
}

/// Sample indices for training and for validation, split by episode.
fn split(
    samples: &Samples,
    options: &BcOptions,
    generator: &mut StdRng,
) -> Result<(Vec<SampleIdx>, Vec<SampleIdx>), PoliciesError> {
    let num_episodes = samples.num_episodes();
    if num_episodes < 2 {
        return split_one(samples, options.validation_share);
    }
    let mut order: Vec<usize> = (0..num_episodes).collect();
    shuffle(&mut order, generator);
    let num_held_out = ((num_episodes as f64 * options.validation_share).ceil() as usize).clamp(1, num_episodes - 1);
    let mut held_out = vec![false; num_episodes];
    for episode in order.iter().take(num_held_out) {
        if let Some(held_out) = held_out.get_mut(*episode) {
            *held_out = true;
        }
    }
    let is_held_out = |episode: usize| held_out.get(episode).copied().unwrap_or_default();
    Ok((samples.idxs_where(|episode| !is_held_out(episode)), samples.idxs_where(is_held_out)))
}

/// Of a single episode, such as one long recording, the end is held out.
fn split_one(samples: &Samples, share: f64) -> Result<(Vec<SampleIdx>, Vec<SampleIdx>), PoliciesError> {
    let mut training = samples.idxs_where(|_| true);
    if training.len() < 2 {
        let problem =
            format!("{} samples: at least 2 are needed, one of them to hold out; record more", training.len());
        return Err(PoliciesError::Training(problem));
    }
    let num_held_out = ((training.len() as f64 * share).ceil() as usize).clamp(1, training.len() - 1);
    let held_out = training.split_off(training.len() - num_held_out);
    Ok((training, held_out))
}

/// Fisher and Yates.
fn shuffle<T>(values: &mut [T], generator: &mut StdRng) {
    for last in (1..values.len()).rev() {
        values.swap(last, generator.random_range(0..=last));
    }
}

/// Linear warm-up over the first twentieth of the steps, then a cosine to 0.
struct Schedule {
    peak: f64,
    num_steps: usize,
}

impl Schedule {
    fn rate(&self, step: usize) -> f64 {
        let num_warm_up = (self.num_steps / 20).max(1);
        if step < num_warm_up {
            return self.peak * (step + 1) as f64 / num_warm_up as f64;
        }
        let done = (step - num_warm_up) as f64 / (self.num_steps - num_warm_up).max(1) as f64;
        self.peak * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
    }
}

fn scalar(tensor: &Tensor<1>) -> f64 {
    f64::from(tensor.clone().into_scalar::<f32>())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::samples::{EpisodeSamples, JointRange, Sample};

    const NUM_TOKENS: usize = 4;
    const DIM: usize = 6;

    /// Episodes whose action depends on which token is bright and on a joint's angle.
    pub(crate) fn samples(num_episodes: u32) -> Samples {
        let joints = ["a", "b"].map(|name| JointRange { name: name.to_owned(), minimum: -2.0, maximum: 1.0 });
        let mut samples = Samples::new(NUM_TOKENS, DIM, &joints, "0");
        let mut generator = seeded(7);
        for _ in 0..num_episodes {
            let mut episode = EpisodeSamples::default();
            let bright = generator.random_range(0..NUM_TOKENS);
            for _ in 0..8 {
                let mut tokens: Vec<f32> = (0..NUM_TOKENS * DIM).map(|_| generator.random_range(-0.1..0.1)).collect();
                tokens[bright * DIM] += 3.0;
                let positions = [generator.random_range(-9.0..9.0), 0.5];
                let velocities = [generator.random_range(-1.0..1.0), 0.0];
                let action = [bright as f64 * 0.5 - 1.0, 0.4 * f64::sin(positions[0]) + 0.3 * velocities[0]];
                let sample =
                    Sample { tokens: &tokens, positions: &positions, velocities: &velocities, action: &action };
                episode.push(&sample, &joints);
            }
            samples.push(episode).expect("an episode");
        }
        samples
    }

    pub(crate) fn options() -> BcOptions {
        BcOptions {
            num_epochs: 40,
            batch_size: 32,
            hidden_widths: vec![32, 32],
            learning_rate: 5e-3,
            ..BcOptions::default()
        }
    }

    pub(crate) fn fit(samples: &Samples, options: &BcOptions) -> Result<PolicyCheckpoint, PoliciesError> {
        fit_policy(samples, options, &mut Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) })
    }

    #[test]
    fn the_loss_falls_and_generalises_and_the_same_seed_gives_the_same_policy() {
        let samples = samples(40);
        let checkpoint = fit(&samples, &options()).expect("fitted");
        let (first, last) = (&checkpoint.epochs()[0], checkpoint.epochs().last().expect("epochs"));
        assert!(last.train_loss < 0.02 * first.train_loss, "{first:?} {last:?}");
        assert!(last.validation_loss < 0.1 * first.validation_loss, "{first:?} {last:?}");
        assert_eq!(fit(&samples, &options()).expect("fitted"), checkpoint);
        let other = fit(&samples, &BcOptions { seed: 1, ..options() }).expect("fitted");
        assert_ne!(other.weights, checkpoint.weights);
    }

    #[test]
    fn a_checkpoint_reads_back_equal_and_a_damaged_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.safetensors");
        let checkpoint = fit(&samples(4), &BcOptions { num_epochs: 1, ..options() }).expect("fitted");
        checkpoint.save(&path).expect("saved");
        assert_eq!(PolicyCheckpoint::load(&path).expect("loaded"), checkpoint);
        let bytes = std::fs::read(&path).expect("bytes");
        for keep in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..keep]).expect("written");
            let error = PolicyCheckpoint::load(&path).expect_err("truncated").to_string();
            assert!(error.contains("policy.safetensors") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_network_for_other_joints_than_the_headers_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("policy.safetensors");
        let mut checkpoint = fit(&samples(4), &BcOptions { num_epochs: 1, ..options() }).expect("fitted");
        checkpoint.header.joints.push(checkpoint.header.joints[0].clone());
        checkpoint.golden.joints.extend([0.0; 2]);
        checkpoint.save(&path).expect("saved");
        let error = PolicyCheckpoint::load(&path).expect_err("inconsistent").to_string();
        assert!(error.contains("joint inputs"), "{error}");
    }

    #[test]
    fn bad_options_and_too_little_data_are_refused_by_name() {
        let check = |options: BcOptions, name: &str| {
            let error = fit(&samples(3), &options).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        };
        check(BcOptions { num_epochs: 0, ..options() }, "num_epochs");
        check(BcOptions { batch_size: 0, ..options() }, "batch_size");
        check(BcOptions { token_width: 0, ..options() }, "token_width");
        check(BcOptions { hidden_widths: vec![0], ..options() }, "hidden_widths");
        check(BcOptions { learning_rate: f64::NAN, ..options() }, "learning_rate");
        check(BcOptions { weight_decay: -1.0, ..options() }, "weight_decay");
        check(BcOptions { validation_share: 0.0, ..options() }, "validation_share");
        let error = fit(&samples(0), &options()).expect_err("no episode").to_string();
        assert!(error.contains("at least 2"), "{error}");
        let one = samples(1);
        let (training, held_out) = split(&one, &options(), &mut seeded(0)).expect("its end is held out");
        assert_eq!((training.len(), held_out.as_slice()), (7, &one.idxs_where(|_| true)[7..]));
        let stop = AtomicBool::new(true);
        let stopped = fit_policy(&samples(4), &options(), &mut Watch { observe: &mut |_| (), stop: &stop });
        assert!(stopped.is_err());
    }
}
