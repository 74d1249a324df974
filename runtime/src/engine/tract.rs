//! tract: pure Rust, one thread, nothing to install.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor, TractResult,
    TypedSimpleState,
};

use super::{InferenceSession, Refusal, check_tensors, one_line};
use crate::card::{ModelCard, TensorCard};

/// The version in Cargo.lock; `tests` holds it to that.
pub(super) const ENGINE: &str = "tract 0.23.9";

/// Loads a model with the card's shapes.
pub(super) fn open(card: &ModelCard, bytes: &[u8]) -> Result<(Box<dyn InferenceSession>, String), Refusal> {
    // tract indexes freely while it reads a graph.
    let loaded = catch_unwind(AssertUnwindSafe(|| load(card, bytes)));
    let session = match loaded {
        Ok(session) => session.map_err(Refusal::Model)?,
        Err(_) => {
            return Err(Refusal::Model("tract cannot read this graph: it panicked; export the model again".to_owned()));
        }
    };
    Ok((Box::new(session), ENGINE.to_owned()))
}

struct TractSession {
    state: TypedSimpleState,
    /// In the card's order.
    inputs: Vec<Arc<Tensor>>,
    /// The graph's input number `i` is the card's `graph_inputs[i]`, and so on.
    graph_inputs: Vec<usize>,
    graph_outputs: Vec<usize>,
}

fn load(card: &ModelCard, mut bytes: &[u8]) -> Result<TractSession, String> {
    let explain = |error| format!("tract cannot run this graph: {}", one_line(&error));
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true);
    let mut model = onnx.model_for_read(&mut bytes).map_err(explain)?;
    let inputs = model.input_outlets().map_err(explain)?.to_vec();
    let outputs = model.output_outlets().map_err(explain)?.to_vec();
    let input_names: Vec<String> = inputs.iter().map(|outlet| model.node(outlet.node).name.clone()).collect();
    let output_names: Vec<String> =
        outputs.iter().map(|outlet| model.outlet_label(*outlet).unwrap_or_default().to_owned()).collect();
    let unknown = |names: &[String]| names.iter().map(|name| (name.clone(), Vec::new())).collect::<Vec<_>>();
    check_tensors("inputs", &unknown(&input_names), &card.inputs)?;
    check_tensors("outputs", &unknown(&output_names), &card.outputs)?;
    let graph_inputs = order(&input_names, &card.inputs);
    let graph_outputs = order(&output_names, &card.outputs);
    for (graph_idx, card_idx) in graph_inputs.iter().enumerate() {
        let shape = card.inputs.get(*card_idx).map(|tensor| tensor.shape.clone()).unwrap_or_default();
        model = model.with_input_fact(graph_idx, InferenceFact::dt_shape(f32::datum_type(), shape)).map_err(explain)?;
    }
    let plan = model.into_optimized().and_then(IntoRunnable::into_runnable).map_err(explain)?;
    let tensors: TractResult<Vec<_>> =
        card.inputs.iter().map(|tensor| Tensor::zero::<f32>(&tensor.shape).map(Arc::new)).collect();
    let state = plan.spawn().map_err(explain)?;
    Ok(TractSession { state, inputs: tensors.map_err(explain)?, graph_inputs, graph_outputs })
}

/// Where each of the graph's tensors is in the card; both have the same names.
fn order(graph: &[String], card: &[TensorCard]) -> Vec<usize> {
    graph.iter().filter_map(|name| card.iter().position(|tensor| tensor.name == *name)).collect()
}

impl InferenceSession for TractSession {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        for (tensor, values) in self.inputs.iter_mut().zip(inputs) {
            // Unshared again since the last run gave it back; copied otherwise.
            let mut view = Arc::make_mut(tensor).try_as_plain_ram_mut().map_err(|error| one_line(&error))?;
            copy(values, view.as_slice_mut().map_err(|error| one_line(&error))?)?;
        }
        let computed = self.evaluate()?;
        for (value, card_idx) in computed.iter().zip(&self.graph_outputs) {
            if let Some(output) = outputs.get_mut(*card_idx) {
                let view = value.try_as_plain_ram().map_err(|error| one_line(&error))?;
                copy(view.as_slice().map_err(|error| one_line(&error))?, output)?;
            }
        }
        Ok(())
    }

    fn run_bare(&mut self) -> Result<(), String> {
        self.evaluate().map(drop)
    }
}

impl TractSession {
    fn evaluate(&mut self) -> Result<TVec<TValue>, String> {
        let cards = self.graph_inputs.iter();
        let given: TVec<TValue> =
            cards.filter_map(|card_idx| self.inputs.get(*card_idx)).cloned().map(TValue::from_const).collect();
        self.state.run(given).map_err(|error| one_line(&error))
    }
}

fn copy(from: &[f32], to: &mut [f32]) -> Result<(), String> {
    if from.len() != to.len() {
        return Err(format!("a tensor of {} values where its card says {}", from.len(), to.len()));
    }
    to.copy_from_slice(from);
    Ok(())
}
