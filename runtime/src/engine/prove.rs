//! A session's proof: it gives the golden output, and gives it again after it has seen another input.

use std::collections::BTreeMap;

use foresee_firmware_config::Provider;

use super::InferenceSession;
use crate::card::{ModelCard, TensorCard, TensorData};

/// How far two runs on one input may be from each other, of the largest value: sums of a GPU may come in any order.
fn repeated(provider: Provider) -> f32 {
    match provider {
        Provider::Cpu | Provider::Tract => 1e-6,
        Provider::Cuda | Provider::Tensorrt => 1e-3,
    }
}

/// Runs the golden input and compares with the golden output; then another input, and the golden one again.
///
/// # Errors
/// Which output is off, and what to do.
pub(super) fn prove(card: &ModelCard, provider: Provider, session: &mut dyn InferenceSession) -> Result<(), String> {
    let inputs = values_of(&card.inputs, &card.golden.inputs)?;
    let expected = values_of(&card.outputs, &card.golden.outputs)?;
    let outputs = run(session, &inputs, &expected)?;
    for (tensor, (output, expected)) in card.outputs.iter().zip(outputs.iter().zip(&expected)) {
        let worst = worst_difference(output, expected);
        if worst > card.golden.tolerance {
            let (name, tolerance) = (&tensor.name, card.golden.tolerance);
            return Err(format!(
                "output `{name}` of the golden input is off by {worst:e} where the card allows {tolerance:e}; use another provider or export the model again"
            ));
        }
    }
    let others: Vec<Vec<f32>> = inputs.iter().map(|values| values.iter().rev().copied().collect()).collect();
    run(session, &others, &expected)?;
    let again = run(session, &inputs, &expected)?;
    for (tensor, (output, again)) in card.outputs.iter().zip(outputs.iter().zip(&again)) {
        let largest = output.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let worst = worst_difference(output, again);
        if worst > repeated(provider) * largest {
            return Err(format!(
                "output `{}` of the golden input differs by {worst:e} in a second run of one session: the model draws at random or keeps a state; export it for inference (`model.eval()`), without masking or dropout",
                tensor.name
            ));
        }
    }
    Ok(())
}

fn values_of(tensors: &[TensorCard], golden: &BTreeMap<String, TensorData>) -> Result<Vec<Vec<f32>>, String> {
    let values = |tensor: &TensorCard| golden.get(&tensor.name).map_or(Ok(Vec::new()), TensorData::values);
    tensors.iter().map(values).collect()
}

/// Outputs of the expected sizes.
fn run(
    session: &mut dyn InferenceSession,
    inputs: &[Vec<f32>],
    expected: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, String> {
    let mut outputs: Vec<Vec<f32>> = expected.iter().map(|values| vec![f32::NAN; values.len()]).collect();
    let input_slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
    let mut output_slices: Vec<&mut [f32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    session.run(&input_slices, &mut output_slices).map_err(|problem| format!("the golden input fails: {problem}"))?;
    Ok(outputs)
}

fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |worst, off| if off.is_nan() { f32::INFINITY } else { f32::max(worst, off) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::Encoder as _;
    use crate::raw_pixels::RawPixels;

    /// Gives the golden output, and this much more with each run.
    struct Drifting {
        output: Vec<f32>,
        step: f32,
        num_runs: u32,
    }

    impl InferenceSession for Drifting {
        fn run(&mut self, _: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String> {
            let drift = self.step * self.num_runs as f32;
            for output in outputs {
                output.iter_mut().zip(&self.output).for_each(|(value, golden)| *value = golden + drift);
            }
            self.num_runs += 1;
            Ok(())
        }

        fn run_bare(&mut self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn what_differs_from_run_to_run_is_refused_even_within_the_tolerance() {
        let mut card = RawPixels::new(4, 4).card().clone();
        let tensor = TensorCard::f32("tokens", &[1, 2]);
        let data = TensorData::new(&[1, 2], &[1.0, -1.0]);
        (card.inputs, card.outputs) = (vec![tensor.clone()], vec![tensor]);
        card.golden.inputs = [("tokens".to_owned(), data.clone())].into();
        card.golden.outputs = [("tokens".to_owned(), data)].into();
        card.golden.tolerance = 0.1;
        let prove =
            |step: f32| prove(&card, Provider::Cpu, &mut Drifting { output: vec![1.0, -1.0], step, num_runs: 0 });
        assert_eq!(prove(0.0), Ok(()));
        let problem = prove(0.01).unwrap_err();
        assert!(problem.contains("a second run of one session") && problem.contains("`tokens`"), "{problem}");
    }
}
