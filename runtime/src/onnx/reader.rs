//! Reads what an ONNX file says of itself: inputs, outputs, operator sets, operators, where its weights lie. No weights are kept.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use super::messages::{DimensionValue, ValueInfoProto};
use super::nodes::{Model, Node, OnnxNode, operator_name};

/// An ONNX file without its weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxSummary {
    /// What must be given: inputs that are no initialisers.
    pub inputs: Vec<OnnxTensor>,
    /// In graph order.
    pub outputs: Vec<OnnxTensor>,
    /// Version by domain; the standard operators' domain is empty.
    pub opsets: BTreeMap<String, i64>,
    /// How often each operator occurs in the main graph, with its domain before it unless standard.
    pub operators: BTreeMap<String, usize>,
    /// Files that hold weights, in the file's folder.
    pub external_files: BTreeSet<String>,
    /// Number of weights by `TensorProto.DataType`.
    pub num_weights: BTreeMap<i32, u64>,
    /// The main graph's, in graph order.
    pub(crate) nodes: Vec<OnnxNode>,
    /// Nodes of local functions by the operator that calls them.
    pub(crate) functions: BTreeMap<String, Vec<OnnxNode>>,
}

/// An input or output as a graph declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxTensor {
    /// Its name.
    pub name: String,
    /// `TensorProto.DataType`; 0 when it is no tensor.
    pub data_type: i32,
    /// `None` when the graph says nothing of its shape.
    pub shape: Option<Vec<OnnxAxis>>,
}

/// One dimension as a graph declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnnxAxis {
    /// That many.
    Fixed(usize),
    /// Any number; the same wherever the name is, unless it is empty.
    Dynamic(String),
}

impl OnnxSummary {
    /// Reads the bytes of an ONNX file.
    ///
    /// # Errors
    /// What is wrong, when it is none.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // A zip, as torch.save writes it.
        if bytes.starts_with(b"PK\x03\x04") {
            return Err("not an ONNX file but one of PyTorch; first `foresee import`, then `foresee export`".to_owned());
        }
        let model = Model::decode(bytes).map_err(|error| format!("not an ONNX file: {error}"))?;
        let graph = model.graph.ok_or("not an ONNX file: it holds no graph")?;
        let initialisers: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let given = graph.input.iter().filter(|input| !initialisers.contains(input.name.as_str()));
        let mut summary = Self {
            inputs: given.map(tensor).collect(),
            outputs: graph.output.iter().map(tensor).collect(),
            opsets: model.opset_import.into_iter().map(|opset| (opset.domain, opset.version)).collect(),
            operators: BTreeMap::new(),
            external_files: BTreeSet::new(),
            num_weights: BTreeMap::new(),
            nodes: Vec::new(),
            functions: BTreeMap::new(),
        };
        let bodies = model.functions.iter().flat_map(|function| &function.node);
        for tensor in graph.node.iter().chain(bodies).flat_map(Node::tensors).chain(&graph.initializer) {
            let location = tensor.external_data.iter().find(|entry| entry.key == "location");
            summary.external_files.extend(location.map(|entry| entry.value.clone()));
        }
        for tensor in &graph.initializer {
            let count = tensor.dims.iter().try_fold(1_u64, |count, size| count.checked_mul(u64::try_from(*size).ok()?));
            *summary.num_weights.entry(tensor.data_type).or_default() += count.unwrap_or(0);
        }
        summary.nodes = graph.node.into_iter().map(Node::into_node).collect();
        for node in &summary.nodes {
            *summary.operators.entry(node.operator.clone()).or_default() += 1;
        }
        for function in model.functions {
            // Overloads of one name are taken together.
            let body = summary.functions.entry(operator_name(&function.domain, &function.name)).or_default();
            body.extend(function.node.into_iter().map(Node::into_node));
        }
        Ok(summary)
    }

    /// The version of the standard operators, by either name of their domain; `None` when the file does not say.
    pub fn standard_opset(&self) -> Option<i64> {
        ["", "ai.onnx"].iter().filter_map(|domain| self.opsets.get(*domain)).max().copied()
    }

    /// The type that most weights have, such as `f32` or `int8`.
    pub fn precision(&self) -> &'static str {
        self.num_weights.iter().max_by_key(|(_, count)| **count).map_or("f32", |(data_type, _)| type_name(*data_type))
    }
}

/// The short name of a `TensorProto.DataType`.
pub(crate) fn type_name(data_type: i32) -> &'static str {
    match data_type {
        1 => "f32",
        2 => "uint8",
        3 => "int8",
        6 => "int32",
        7 => "int64",
        9 => "bool",
        10 => "f16",
        11 => "f64",
        16 => "bf16",
        17..=20 => "f8",
        21 | 22 => "int4",
        _ => "no known tensor",
    }
}

fn tensor(value: &ValueInfoProto) -> OnnxTensor {
    let tensor = value.r#type.as_ref().and_then(|r#type| r#type.tensor_type.as_ref());
    let axis = |value: &Option<DimensionValue>| match value {
        // A negative size is how some exporters write an unknown one.
        Some(DimensionValue::DimValue(size)) => {
            usize::try_from(*size).map_or_else(|_| OnnxAxis::Dynamic(String::new()), OnnxAxis::Fixed)
        }
        Some(DimensionValue::DimParam(name)) => OnnxAxis::Dynamic(name.clone()),
        None => OnnxAxis::Dynamic(String::new()),
    };
    OnnxTensor {
        name: value.name.clone(),
        data_type: tensor.map_or(0, |tensor| tensor.elem_type),
        shape: tensor
            .and_then(|tensor| tensor.shape.as_ref())
            .map(|shape| shape.dim.iter().map(|dim| axis(&dim.value)).collect()),
    }
}
