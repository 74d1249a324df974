//! Weights after optimiser steps, and the losses between them.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::Trial;
use crate::error::ModelsError;
use crate::golden::file::GoldenFile;
use crate::golden::{GoldenReport, larger};
use crate::optimiser::{AdamW, HostGradients};
use crate::parameters::Parameters;
use crate::recipe::Positions;

/// Weights after steps: absolute, and the share of them that may be off by more than [`STEP_CLOSE`].
const STEP: f64 = 1e-4;
const STEP_CLOSE: f64 = 1e-5;
const STEP_SHARE: f64 = 1e-3;
/// Key biases after steps, against f64: in learning rates.
const KEY_BIAS: f64 = 0.2;
/// Weights after the official steps in single precision.
pub(super) const SINGLE: &str = "f32";

impl Trial<'_> {
    /// Weights after AdamW updates at the constant rate of the file (after those that the file has), and the losses between.
    pub(super) fn steps(
        &self,
        (parameters, mut gradients): (&mut Parameters, HostGradients),
        files: &[(&str, Rc<GoldenFile>)],
        report: &mut GoldenReport,
    ) -> Result<(), ModelsError> {
        let number = |name: &str| name.strip_prefix("step")?.split('.').next()?.parse::<usize>().ok();
        let compared: BTreeSet<usize> = files.iter().flat_map(|(_, file)| file.names().filter_map(number)).collect();
        let Some(last) = compared.last().copied() else { return Ok(()) };
        let learning_rate: f64 = self.file().fact("lr")?;
        let mut optimiser = AdamW::default();
        for step in 1..=last {
            optimiser.update(parameters, &gradients, (&self.recipe.optimiser, learning_rate))?;
            if compared.contains(&step) {
                for steps in files {
                    self.compare_weights(parameters, (steps, step, learning_rate), report)?;
                }
            }
            if step < last {
                let (outcome, next) = self.run(parameters, step)?;
                self.losses(&outcome, (parameters, step), report)?;
                gradients = next;
            }
        }
        Ok(())
    }

    fn compare_weights(
        &self,
        parameters: &Parameters,
        ((numbers, steps), step, learning_rate): (&(&str, Rc<GoldenFile>), usize, f64),
        report: &mut GoldenReport,
    ) -> Result<(), ModelsError> {
        let prefix = format!("step{step}.");
        let [mut worst, mut worst_key_bias, mut num_off, mut count] = [0.0_f64, 0.0_f64, 0.0, 0.0];
        for (name, golden) in steps.with_prefix(&prefix) {
            let name = self.layout.our_name(name);
            let ours = &parameters.get(&name)?.values;
            let num_values = ours.len();
            if num_values != golden.values.len() {
                worst = f64::INFINITY;
            }
            for (idx, (ours, golden)) in ours.iter().zip(&golden.values).enumerate() {
                let error = (f64::from(*ours) - golden).abs();
                if self.is_key_bias(&name, (idx, num_values)) {
                    worst_key_bias = larger(worst_key_bias, error);
                } else {
                    worst = larger(worst, error);
                    count += 1.0;
                    num_off += f64::from(u8::from(error > STEP_CLOSE || error.is_nan()));
                }
            }
        }
        if steps.names().any(|name| name.starts_with(&prefix)) {
            let name = |what: &str| self.subject.name(&format!("step{step}/{numbers}/{what}"));
            report.add(name("weights"), worst, STEP);
            report.add(name("share_off"), num_off / f64::max(count, 1.0), STEP_SHARE);
            // The suite allows a run in f32 this distance from the one in f64; two runs in f32 may lie on either side of it.
            let num_rounded = if *numbers == SINGLE { 2.0 } else { 1.0 };
            report.add(name("key_biases"), worst_key_bias, num_rounded * KEY_BIAS * learning_rate);
        }
        Ok(())
    }

    /// The key bias of an attention without rotary positions: softmax does not see it, so its gradient is rounding noise.
    fn is_key_bias(&self, name: &str, (idx, len): (usize, usize)) -> bool {
        if self.recipe.encoder.positions == Positions::Rope100 {
            return false;
        }
        if name.ends_with("attn.qkv.bias") || name.ends_with("in_proj_bias") {
            return (len / 3..2 * len / 3).contains(&idx);
        }
        name.ends_with("projk.bias") || (name.ends_with("cattn.kv.bias") && idx < len / 2)
    }
}
