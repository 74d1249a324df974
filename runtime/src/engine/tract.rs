//! tract: pure Rust, one thread, nothing to install.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::{
    Datum, DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor, TractResult,
    TypedSimpleState,
};

use half::f16;
use half::slice::HalfFloatSliceExt as _;

use super::{
    GraphTensor, InferenceSession, Loaded, Model, NamedTensor, Refusal, check_tensors, explain_operator, one_line,
};
use crate::card::{ElementType, TensorCard};
use crate::onnx::ShapeProbe;

/// The version in Cargo.lock; `tests` holds it to that.
pub(super) const ENGINE: &str = "tract 0.23.9";

/// The newest operator set of which this tract knows operators. It takes a newer one for that, and would read what changed as it was.
const NEWEST_OPSET: i64 = 23;

/// Loads a model with the card's shapes.
pub(super) fn open(model: &Model<'_>) -> Result<Loaded, Refusal> {
    let card = model.card;
    check_opset(model)?;
    let session = unpanicking(|| load(model, &card.inputs, Some(&card.outputs)))?;
    let nodes = std::collections::BTreeMap::from([("tract".to_owned(), session.state.model().nodes().len())]);
    Ok(Loaded { session: Box::new(session), engine: ENGINE.to_owned(), nodes, note: None, build: None })
}

/// Runs a graph on each of these inputs in one session; gives every floating output and every probed shape, in graph order.
pub(super) fn explore(model: &Model<'_>, inputs: &[Vec<NamedTensor>]) -> Result<Vec<Vec<NamedTensor>>, Refusal> {
    check_opset(model)?;
    unpanicking(|| {
        let shapes = inputs.first().map(Vec::as_slice).unwrap_or_default();
        let cards: Vec<TensorCard> = shapes.iter().map(|input| input.card.clone()).collect();
        let mut session = load(model, &cards, None)?;
        inputs.iter().map(|inputs| run_once(&mut session, model, inputs)).collect()
    })
}

fn run_once(session: &mut TractSession, model: &Model<'_>, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, String> {
    for (tensor, input) in session.inputs.iter_mut().zip(inputs) {
        fill(tensor, &input.values)?;
    }
    let mut found = Vec::new();
    for (output, value) in model.summary.outputs.iter().zip(session.evaluate()?) {
        let name = output.name.as_str();
        let element = match value.datum_type() {
            datum_type if datum_type == f32::datum_type() => ElementType::F32,
            datum_type if datum_type == f16::datum_type() => ElementType::F16,
            _ if ShapeProbe::is_probe(name) => {
                let sizes = value.cast_to::<f32>().map_err(|error| one_line(&error))?;
                let mut values = vec![0.0; sizes.len()];
                read(&sizes, &mut values)?;
                found.push(NamedTensor { card: TensorCard::f32(name, value.shape()), values });
                continue;
            }
            _ => continue,
        };
        let card = TensorCard { element, ..TensorCard::f32(name, value.shape()) };
        let mut values = vec![0.0; value.len()];
        read(&value, &mut values)?;
        found.push(NamedTensor { card, values });
    }
    Ok(found)
}

fn check_opset(model: &Model<'_>) -> Result<(), Refusal> {
    match model.summary.standard_opset().filter(|version| *version > NEWEST_OPSET) {
        None => Ok(()),
        Some(version) => Err(Refusal::Model(format!(
            "is of opset {version}, and {ENGINE} knows operators up to opset {NEWEST_OPSET}: this engine is older than the model: export it for opset 17, or use the provider cpu"
        ))),
    }
}

/// tract indexes freely while it reads a graph.
fn unpanicking<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, Refusal> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(Refusal::Model),
        Err(_) => Err(Refusal::Model(
            "tract cannot read this graph: it panicked; use the provider cpu, or export the model again".to_owned(),
        )),
    }
}

struct TractSession {
    state: TypedSimpleState,
    /// In the card's order.
    inputs: Vec<Arc<Tensor>>,
    /// The graph's input number `i` is the card's `graph_inputs[i]`, and so on.
    graph_inputs: Vec<usize>,
    graph_outputs: Vec<usize>,
}

/// Loads a graph for inputs of these shapes; without `output_cards` it gives every output, in graph order.
fn load(
    model: &Model<'_>,
    input_cards: &[TensorCard],
    output_cards: Option<&[TensorCard]>,
) -> Result<TractSession, String> {
    let explain = |error| {
        let text = format!("{error:#}");
        format!("tract cannot run this graph: {}{}", one_line(&error), explain_operator(&text))
    };
    // The card's shapes are the ones to plan for: what exporters note of inner values may hold names of open dimensions.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    // External weights were checked against the card when the model was read.
    let folder = model.path.parent().map(|folder| folder.display().to_string());
    let parsed = onnx.proto_model_for_read(&mut &*model.bytes).and_then(|proto| onnx.parse(&proto, folder.as_deref()));
    let parsed = parsed.map_err(explain)?;
    if let Some(value) = parsed.unresolved_inputs.first() {
        return Err(format!("tract cannot run this graph: no node gives `{value}`; export the model again"));
    }
    let mut graph = parsed.model;
    let inputs = graph.input_outlets().map_err(explain)?.to_vec();
    let outputs = graph.output_outlets().map_err(explain)?.to_vec();
    let input_names: Vec<String> = inputs.iter().map(|outlet| graph.node(outlet.node).name.clone()).collect();
    let output_names: Vec<String> =
        outputs.iter().map(|outlet| graph.outlet_label(*outlet).unwrap_or_default().to_owned()).collect();
    let unknown = |names: &[String]| -> Vec<GraphTensor> {
        names.iter().map(|name| GraphTensor { name: name.clone(), shape: Vec::new(), element: None }).collect()
    };
    check_tensors("inputs", &unknown(&input_names), input_cards)?;
    check_tensors("outputs", &unknown(&output_names), output_cards.unwrap_or_default())?;
    let graph_inputs = order(&input_names, input_cards);
    for (graph_idx, card_idx) in graph_inputs.iter().enumerate() {
        let Some(card) = input_cards.get(*card_idx) else { continue };
        let fact = InferenceFact::dt_shape(datum_type(card.element), card.shape.clone());
        graph = graph.with_input_fact(graph_idx, fact).map_err(explain)?;
    }
    if let Some(cards) = output_cards {
        // What the card does not name is not computed.
        let wanted: Vec<_> = outputs
            .iter()
            .zip(&output_names)
            .filter(|(_, name)| cards.iter().any(|card| card.name == **name))
            .map(|(outlet, _)| *outlet)
            .collect();
        graph.select_output_outlets(&wanted).map_err(explain)?;
    }
    let wanted_names: Vec<String> = match output_cards {
        Some(cards) => output_names.into_iter().filter(|name| cards.iter().any(|card| card.name == *name)).collect(),
        None => output_names,
    };
    let graph_outputs = order(&wanted_names, output_cards.unwrap_or_default());
    let plan = graph.into_optimized().and_then(IntoRunnable::into_runnable).map_err(explain)?;
    let zero = |card: &TensorCard| Tensor::zero_dt(datum_type(card.element), &card.shape).map(Arc::new);
    let tensors: TractResult<Vec<_>> = input_cards.iter().map(zero).collect();
    let state = plan.spawn().map_err(explain)?;
    Ok(TractSession { state, inputs: tensors.map_err(explain)?, graph_inputs, graph_outputs })
}

fn datum_type(element: ElementType) -> DatumType {
    match element {
        ElementType::F32 => f32::datum_type(),
        ElementType::F16 => f16::datum_type(),
    }
}

/// Where each of the graph's tensors is in the card; both have the same names.
fn order(graph: &[String], card: &[TensorCard]) -> Vec<usize> {
    graph.iter().filter_map(|name| card.iter().position(|tensor| tensor.name == *name)).collect()
}

impl InferenceSession for TractSession {
    fn run(&mut self, inputs: &[&[f32]], outputs: &mut [&mut [f32]]) -> Result<(), String> {
        for (tensor, values) in self.inputs.iter_mut().zip(inputs) {
            fill(tensor, values)?;
        }
        let computed = self.evaluate()?;
        for (value, card_idx) in computed.iter().zip(&self.graph_outputs) {
            if let Some(output) = outputs.get_mut(*card_idx) {
                read(value, output)?;
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

fn fill(tensor: &mut Arc<Tensor>, values: &[f32]) -> Result<(), String> {
    let explain = |error| one_line(&error);
    check_length(values.len(), tensor)?;
    let is_half = tensor.datum_type() == f16::datum_type();
    // Unshared again since the last run gave it back; copied otherwise.
    let mut view = Arc::make_mut(tensor).try_as_plain_ram_mut().map_err(explain)?;
    if is_half {
        view.as_slice_mut::<f16>().map_err(explain)?.convert_from_f32_slice(values);
    } else {
        view.as_slice_mut::<f32>().map_err(explain)?.copy_from_slice(values);
    }
    Ok(())
}

fn read(tensor: &Tensor, values: &mut [f32]) -> Result<(), String> {
    let explain = |error| one_line(&error);
    check_length(values.len(), tensor)?;
    let view = tensor.try_as_plain_ram().map_err(explain)?;
    if tensor.datum_type() == f16::datum_type() {
        view.as_slice::<f16>().map_err(explain)?.convert_to_f32_slice(values);
    } else {
        values.copy_from_slice(view.as_slice::<f32>().map_err(explain)?);
    }
    Ok(())
}

fn check_length(given: usize, tensor: &Tensor) -> Result<(), String> {
    let wanted = tensor.len();
    if given == wanted { Ok(()) } else { Err(format!("{given} values for a tensor of {wanted}")) }
}
