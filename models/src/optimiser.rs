//! AdamW on the host, and the learning rate's course.

use std::collections::BTreeMap;

use crate::error::ModelsError;
use crate::parameters::Parameters;
use crate::recipe::OptimiserRecipe;

/// Moments of every trained tensor (Loshchilov and Hutter, 2019: decoupled weight decay), f32 as in PyTorch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamW {
    moments: BTreeMap<String, Moments>,
    num_updates: u64,
}

/// First and second moment of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

/// Gradients by parameter name.
pub(crate) type HostGradients = BTreeMap<String, Vec<f32>>;

impl AdamW {
    /// An optimiser as a checkpoint kept it.
    pub(crate) fn from_parts(moments: BTreeMap<String, Moments>, num_updates: u64) -> Self {
        Self { moments, num_updates }
    }

    /// Updates so far.
    pub fn num_updates(&self) -> u64 {
        self.num_updates
    }

    pub(crate) fn moments(&self) -> &BTreeMap<String, Moments> {
        &self.moments
    }

    /// One update of every tensor that has a gradient: `p *= 1 - lr wd`, then
    /// `p -= lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)`.
    pub(crate) fn update(
        &mut self,
        parameters: &mut Parameters,
        gradients: &HostGradients,
        (recipe, learning_rate): (&OptimiserRecipe, f64),
    ) -> Result<(), ModelsError> {
        self.num_updates += 1;
        let [beta1, beta2] = recipe.betas;
        let exponent = i32::try_from(self.num_updates).unwrap_or(i32::MAX);
        let second_root = (1.0 - beta2.powi(exponent)).sqrt();
        let step = Step {
            betas: [beta1 as f32, beta2 as f32],
            step_size: (learning_rate / (1.0 - beta1.powi(exponent))) as f32,
            second_root: second_root as f32,
            epsilon: recipe.epsilon as f32,
        };
        let decay = (1.0 - learning_rate * recipe.weight_decay) as f32;
        for (name, parameter) in parameters.iter_mut() {
            let Some(gradient) = gradients.get(name).filter(|_| !parameter.frozen) else { continue };
            let count = parameter.values.len();
            if gradient.len() != count {
                let problem = format!("has a gradient of {} values, not {count}", gradient.len());
                return Err(ModelsError::Tensor { name: name.to_string(), problem });
            }
            let keep = if parameter.decays() { decay } else { 1.0 };
            let moments = self.moments.entry(name.to_string()).or_default();
            moments.first.resize(count, 0.0);
            moments.second.resize(count, 0.0);
            step.apply((&mut parameter.values, keep), gradient, moments);
        }
        Ok(())
    }
}

struct Step {
    betas: [f32; 2],
    step_size: f32,
    second_root: f32,
    epsilon: f32,
}

impl Step {
    fn apply(&self, (values, keep): (&mut [f32], f32), gradient: &[f32], moments: &mut Moments) {
        let [beta1, beta2] = self.betas;
        let pairs = moments.first.iter_mut().zip(&mut moments.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradient).zip(pairs) {
            *first = beta1 * *first + (1.0 - beta1) * gradient;
            *second = beta2 * *second + (1.0 - beta2) * gradient * gradient;
            let denominator = second.sqrt() / self.second_root + self.epsilon;
            *value = *value * keep - self.step_size * *first / denominator;
        }
    }
}

/// The learning rate of the update that follows `num_updates` others: linear from 0 over the warm-up, then half a cosine to 0
/// (MAE's `adjust_learning_rate`; the first update has rate 0).
pub fn learning_rate(recipe: &OptimiserRecipe, num_updates: u64) -> f64 {
    let peak = recipe.base_learning_rate * recipe.batch_size as f64 / 256.0;
    scheduled_rate(peak, [recipe.warm_up_steps as f64, recipe.steps as f64], num_updates as f64)
}

/// The same in any unit of time: `done` out of `steps` of which `warm_up` rise.
pub(crate) fn scheduled_rate(peak: f64, [warm_up, steps]: [f64; 2], done: f64) -> f64 {
    if done < warm_up {
        return peak * done / warm_up;
    }
    let share = if steps > warm_up { ((done - warm_up) / (steps - warm_up)).min(1.0) } else { 1.0 };
    peak * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
}

/// The Euclidean norm of all gradients together.
pub(crate) fn gradient_norm(gradients: &HostGradients) -> f64 {
    let square = |values: &Vec<f32>| values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>();
    gradients.values().map(square).sum::<f64>().sqrt()
}
