//! A method's forward, losses, gradients and optimiser steps against its official code.

mod steps;

use std::collections::BTreeMap;
use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use foresee_runtime::EncoderInput;

use super::activations;
use super::file::{GoldenFile, GoldenTensor};
use super::layouts::{Layout, PRIOR};
use super::{GoldenReport, Subject, larger, worst_difference};
use crate::checkpoint::NamedTensors;
use crate::encoder::TrainedEncoder;
use crate::error::ModelsError;
use crate::mask::Mask;
use crate::method::{Draws, LatentDraw, Outcome, encode, normalise_patches, patchify, read_values, run_method};
use crate::optimiser::HostGradients;
use crate::parameters::{Parameters, Start, parameter_specs};
use crate::positions::sin_cos_table;
use crate::recipe::Recipe;
use crate::step::to_views;
use crate::weights::Weights;

/// Forward and activations: absolute.
const FORWARD: f64 = 2e-5;
/// Losses: relative.
const LOSS: f64 = 1e-5;
/// Gradients: relative to the largest of the tensor, or to this share of the largest of all where a tensor's are zero in theory.
const GRADIENT: f64 = 1e-4;
const GRADIENT_FLOOR: f64 = 1e-4;

/// All that a method's golden file holds.
pub(super) fn verify(subject: &Subject<'_>, report: &mut GoldenReport) -> Result<(), ModelsError> {
    let layout = Layout::of(subject.kind, &subject.file)?;
    let recipe = layout.recipe(&subject.file)?;
    let trial = Trial { subject, layout, recipe };
    let mut parameters = trial.parameters(&subject.file, layout.weights)?;
    trial.tables(report)?;
    let (outcome, gradients) = trial.run(&parameters, 0)?;
    trial.forward(&outcome, &parameters, report)?;
    trial.losses(&outcome, (&parameters, 0), report)?;
    trial.gradients(&gradients, report)?;
    let mut steps = Vec::new();
    for numbers in ["f64", steps::SINGLE] {
        steps.extend(subject.companion(&format!("_steps_{numbers}"))?.map(|steps| (numbers, steps)));
    }
    trial.steps((&mut parameters, gradients), &steps, report)
}

struct Trial<'a> {
    subject: &'a Subject<'a>,
    layout: Layout,
    recipe: Recipe,
}

impl Trial<'_> {
    fn file(&self) -> &GoldenFile {
        &self.subject.file
    }

    /// Our sine and cosine tables against the file's.
    fn tables(&self, report: &mut GoldenReport) -> Result<(), ModelsError> {
        let encoder = &self.recipe.encoder;
        let grid = encoder.image_size / encoder.patch_size;
        let mut worst: Option<f64> = None;
        for (name, tensor) in self.file().with_prefix(self.layout.weights) {
            if self.layout.our_name(name).ends_with("pos_embed") {
                let dim = tensor.shape.last().copied().unwrap_or(0);
                let table = sin_cos_table([grid, grid], dim, encoder.num_class_tokens());
                worst = Some(larger(worst.unwrap_or(0.0), worst_difference(&table, &tensor.values)));
            }
        }
        if let Some(worst) = worst {
            report.add(self.subject.name("position_tables"), worst, self.layout.table);
        }
        Ok(())
    }

    /// Weights of a file under a prefix, by our names and in our shapes (CroCo's tables have no batch axis).
    fn parameters(&self, file: &GoldenFile, prefix: &str) -> Result<Parameters, ModelsError> {
        let frozen: Vec<String> = parameter_specs(&self.recipe)
            .into_iter()
            .filter(|spec| spec.start == Start::SinCos)
            .map(|spec| spec.name)
            .collect();
        let mut tensors = NamedTensors::new();
        for (name, tensor) in file.with_prefix(prefix) {
            let name = self.layout.our_name(name);
            let mut shape = tensor.shape.clone();
            if frozen.contains(&name) && shape.len() == 2 {
                shape.insert(0, 1);
            }
            if tensors.insert(name.clone(), (shape, tensor.to_f32())).is_some() {
                return Err(file.fail(format!("holds two tensors for {name} under {prefix}")));
            }
        }
        Parameters::from_tensors(&self.recipe, tensors)
    }

    /// Outcome and gradients of a step with the file's inputs and draws.
    fn run(&self, parameters: &Parameters, step: usize) -> Result<(Outcome, HostGradients), ModelsError> {
        let device = Device::flex().autodiff();
        let weights = Weights::upload(parameters, &device);
        let views = self.views(step, &device)?;
        let outcome = run_method(&self.recipe, &weights, (&views, &self.draws(step)?))?;
        let mut gradients = outcome.total.backward();
        let mut host = HostGradients::new();
        for (name, gradient) in weights.take_gradients(&mut gradients) {
            host.insert(name.to_string(), read_values(gradient)?);
        }
        Ok((outcome, host))
    }

    fn views(&self, step: usize, device: &Device) -> Result<Vec<Tensor<4>>, ModelsError> {
        let size = self.recipe.encoder.image_size;
        let mut batches = Vec::new();
        for name in self.layout.views {
            batches.push(self.samples(name, (step, 3 * size * size))?.to_f32());
        }
        Ok(to_views(batches, &self.recipe, device))
    }

    /// A tensor of a step that has so many values for each sample of the batch.
    fn samples(&self, name: &str, (step, values): (usize, usize)) -> Result<&GoldenTensor, ModelsError> {
        let name = self.layout.stepped(name, step);
        let tensor = self.file().get(&name)?;
        let first = self.layout.views.first().map_or("", |name| *name);
        let size = self.recipe.encoder.image_size;
        let num_samples = self.file().get(&self.layout.stepped(first, step))?.values.len() / (3 * size * size).max(1);
        if num_samples == 0 || num_samples.checked_mul(values) != Some(tensor.values.len()) {
            let problem = format!("{name} is {:?}, not {num_samples} samples of {values} values", tensor.shape);
            return Err(self.file().fail(problem));
        }
        Ok(tensor)
    }

    fn draws(&self, step: usize) -> Result<Draws, ModelsError> {
        let [num_patches, size] = [self.recipe.encoder.num_patches(), self.recipe.encoder.image_size];
        let mut draws = Draws::default();
        for encoding in &self.recipe.encodings {
            let mask = if encoding.mask_ratio > 0.0 {
                let noise = self.samples("draw.mask_noise", (step, num_patches))?.to_f32();
                Some(Mask::from_draws(&noise, num_patches, (encoding.mask_ratio, encoding.mask_rule)))
            } else {
                None
            };
            draws.masks.push(mask);
            let noise = if encoding.noise > 0.0 {
                Some(self.samples("draw.perturb_noise", (step, 3 * size * size))?.to_f32())
            } else {
                None
            };
            draws.noises.push(noise);
        }
        if self.recipe.latent.is_some() {
            let classes = self.file().get(&self.layout.stepped("draw.post_idx", step))?.to_indices();
            draws.latent = LatentDraw::Classes(classes);
        }
        Ok(draws)
    }

    /// Masks, predictions, logits, targets and the clean encoder.
    fn forward(
        &self,
        outcome: &Outcome,
        parameters: &Parameters,
        report: &mut GoldenReport,
    ) -> Result<(), ModelsError> {
        let mut check = |what: &str, ours: Vec<f32>, golden: &[f64]| {
            report.add(self.subject.name(what), worst_difference(&ours, golden), FORWARD);
        };
        if let (Some(mask), Some(golden)) =
            (self.draws(0)?.masks.into_iter().flatten().next(), self.file().find(&self.layout.stepped("draw.mask", 0)))
        {
            check("mask", mask.hidden(), &golden.values);
            if let Some(golden) = self.file().find("out.mask") {
                check("forward/out.mask", mask.hidden(), &golden.values);
            }
        }
        for (prediction, name) in outcome.predictions.iter().zip(self.layout.predictions) {
            let golden = self.file().get(name)?;
            check(&format!("forward/{name}"), read_values(prediction.clone().into_data())?, &golden.values);
        }
        if let Some(latent) = &outcome.latent {
            for (name, logits) in [("post", &latent.posterior_logits), ("prior", &latent.prior_logits)] {
                let golden = self.file().get(&format!("out.{name}_logits"))?;
                check(&format!("forward/out.{name}_logits"), read_values(logits.clone().into_data())?, &golden.values);
            }
            let golden = self.file().get("out.post_z")?;
            check("forward/out.post_z", read_values(latent.sample.clone().into_data())?, &golden.values);
            if let Some(golden) = self.file().find("out.tgt_pred_prior") {
                let prediction = self
                    .of_prior(&Weights::upload(parameters, &Device::flex()), 0)?
                    .predictions
                    .into_iter()
                    .next()
                    .map(|prediction| prediction.into_data());
                check("forward/out.tgt_pred_prior", prediction.map_or(Ok(Vec::new()), read_values)?, &golden.values);
            }
        }
        self.units(parameters, report)?;
        self.activations(parameters, report)
    }

    /// Targets, and the encoder on clean images, of its own size and of another.
    fn units(&self, parameters: &Parameters, report: &mut GoldenReport) -> Result<(), ModelsError> {
        let mut check = |what: &str, ours: Vec<f32>, golden: &[f64]| {
            report.add(self.subject.name(what), worst_difference(&ours, golden), FORWARD);
        };
        let target_view = self.recipe.terms.first().map_or(0, |term| term.target_view);
        let device = Device::flex();
        let views = self.views(0, &device)?;
        let patches = views.get(target_view).map(|view| patchify(view.clone(), self.recipe.encoder.patch_size));
        let acts = self.subject.companion("_acts")?;
        let unit = |name: &str| acts.as_ref().and_then(|acts| acts.find(name)).or_else(|| self.file().find(name));
        for name in ["unit.patchify", "unit.patchify_target", "unit.norm_target"] {
            let (Some(patches), Some(golden)) = (patches.clone(), unit(name)) else { continue };
            let ours = if name == "unit.norm_target" { normalise_patches(patches) } else { patches };
            check(&format!("forward/{name}"), read_values(ours.into_data())?, &golden.values);
        }
        if let Some(golden) = unit("unit.loss_no_norm_pix") {
            let mut recipe = self.recipe.clone();
            recipe.terms.iter_mut().for_each(|term| term.normalised = false);
            let outcome = run_method(&recipe, &Weights::upload(parameters, &device), (&views, &self.draws(0)?))?;
            check("forward/unit.loss_no_norm_pix", read_values(outcome.total.into_data())?, &golden.values);
        }
        if let (Some(view), Some(golden)) = (views.get(target_view), unit("infer.tokens")) {
            let weights = Weights::upload(parameters, &device);
            let encoded = encode(&self.recipe.encoder, &weights, view.clone(), None)?;
            check("forward/infer.tokens", read_values(encoded.tokens.into_data())?, &golden.values);
        }
        if let (Some(image), Some(golden)) = (unit("infer_hr.image"), unit("infer_hr.tokens")) {
            let &[1, 3, height, width] = image.shape.as_slice() else {
                return Err(self
                    .file()
                    .fail(format!("has infer_hr.image of shape {:?}, not [1, 3, H, W]", image.shape)));
            };
            let input = EncoderInput { height, width, data: image.to_f32() };
            let features = TrainedEncoder::new(&self.recipe, parameters).grid_features(&[input])?;
            check("forward/infer_hr.tokens", [features.cls, features.tokens].concat(), &golden.values);
        }
        Ok(())
    }

    /// What goes on inside, with the posterior's sample and, where the file has it, the prior's.
    fn activations(&self, parameters: &Parameters, report: &mut GoldenReport) -> Result<(), ModelsError> {
        let weights = Weights::upload(parameters, &Device::flex()).traced();
        run_method(&self.recipe, &weights, (&self.views(0, &Device::flex())?, &self.draws(0)?))?;
        if self.recipe.latent.is_some() && self.file().has(&self.layout.stepped("draw.prior_idx", 0)) {
            self.of_prior(&weights, 0)?;
        }
        let trace = weights.take_trace();
        let acts = self.subject.companion("_acts")?;
        for file in acts.iter().map(Rc::as_ref).chain([self.file()]) {
            for (name, error) in activations::errors(&trace, file)? {
                report.add(self.subject.name(&format!("forward/{name}")), error, FORWARD);
            }
        }
        Ok(())
    }

    /// Every loss term of the file, relative to its f64 value and to the official f32 one.
    fn losses(
        &self,
        outcome: &Outcome,
        (parameters, step): (&Parameters, usize),
        report: &mut GoldenReport,
    ) -> Result<(), ModelsError> {
        for (term, golden_name) in self.layout.losses {
            let precise = self.layout.stepped(&golden_name.replacen("loss.", "loss64.", 1), step);
            let golden = match self.file().find(&precise) {
                Some(golden) => golden.values.first().copied().unwrap_or(f64::NAN),
                None if term.is_empty() => return Err(self.file().fail(format!("has no tensor {precise}"))),
                None => continue,
            };
            let find = |name: &str| outcome.terms.iter().find(|(term, _)| term == name).map(|(_, loss)| loss.clone());
            let ours = match *term {
                "" => Some(outcome.total.clone()),
                "kl_loss" => outcome.latent.as_ref().map(|latent| latent.kl_loss.clone()),
                PRIOR => self
                    .of_prior(&Weights::upload(parameters, &Device::flex()), step)?
                    .terms
                    .into_iter()
                    .next()
                    .map(|(_, loss)| loss),
                term => find(term),
            };
            let ours = match ours {
                Some(loss) => read_values(loss.into_data())?.first().map_or(f64::NAN, |loss| f64::from(*loss)),
                None => f64::NAN,
            };
            let error = |golden: f64| (ours - golden).abs() / golden.abs().max(1e-12);
            report.add(self.subject.name(&format!("{golden_name}.{step}")), error(golden), LOSS);
            if let Some(single) = self.file().find(&self.layout.stepped(golden_name, step)) {
                let golden = single.values.first().copied().unwrap_or(f64::NAN);
                report.add(self.subject.name(&format!("{golden_name}.{step}/f32")), error(golden), LOSS);
            }
        }
        Ok(())
    }

    /// The same forward with the file's sample of the prior as latent.
    fn of_prior(&self, weights: &Weights, step: usize) -> Result<Outcome, ModelsError> {
        let classes = self.file().get(&self.layout.stepped("draw.prior_idx", step))?.to_indices();
        let draws = Draws { samples_prior: true, latent: LatentDraw::Classes(classes), ..self.draws(step)? };
        run_method(&self.recipe, weights, (&self.views(step, &Device::flex())?, &draws))
    }

    fn gradients(&self, gradients: &HostGradients, report: &mut GoldenReport) -> Result<(), ModelsError> {
        let mut golden = BTreeMap::new();
        for (name, tensor) in self.file().with_prefix("grad.") {
            let name = self.layout.our_name(name);
            if golden.insert(name.clone(), tensor).is_some() {
                return Err(self.file().fail(format!("holds two gradients of {name}")));
            }
        }
        let largest = |values: &[f64]| values.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let largest_of_all = golden.values().map(|tensor| largest(&tensor.values)).fold(0.0, f64::max);
        for (name, tensor) in &golden {
            let scale = largest(&tensor.values).max(GRADIENT_FLOOR * largest_of_all);
            let worst = gradients.get(name).map_or(f64::INFINITY, |ours| worst_difference(ours, &tensor.values));
            report.add(self.subject.name(&format!("gradient/{name}")), worst / scale, GRADIENT);
        }
        for (name, tensor) in self.file().with_prefix("gradnorm.") {
            let name = self.layout.our_name(name);
            let norm = |values: &[f32]| values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            let golden = tensor.values.first().copied().unwrap_or(f64::NAN);
            let ours = gradients.get(&name).map_or(f64::NAN, |values| norm(values));
            report.add(self.subject.name(&format!("gradient_norm/{name}")), (ours - golden).abs() / golden, GRADIENT);
        }
        Ok(())
    }
}
