//! The nodes of an ONNX graph without its weights: what feeds what, subgraphs and local functions included; and which of them draw
//! random numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::messages::{OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};
use super::reader::OnnxSummary;

/// Operators that draw random numbers whenever they run. `Dropout` is not among them: engines for inference take it as the identity,
/// and the proof runs a model twice.
const RANDOM_OPERATORS: &[&str] = &[
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
    "com.microsoft.Sampling",
];

/// A node of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnnxNode {
    /// May be empty.
    pub(crate) name: String,
    /// With its domain before it unless standard, such as `Conv` or `com.microsoft.Attention`.
    pub(crate) operator: String,
    /// Names of values; an empty one is an input that is left out.
    pub(crate) inputs: Vec<String>,
    /// Names of values.
    pub(crate) outputs: Vec<String>,
    /// Attributes that are an integer or integers.
    pub(crate) integers: BTreeMap<String, Vec<i64>>,
    /// Of `If`, `Loop`, `Scan` and the like.
    pub(crate) subgraphs: Vec<Vec<OnnxNode>>,
}

impl OnnxNode {
    /// Its name, or what it gives when it has none.
    pub(crate) fn label(&self) -> &str {
        let output = self.outputs.first().map_or("", String::as_str);
        if self.name.is_empty() { output } else { &self.name }
    }

    /// Names of all values that it or its subgraphs read.
    pub(crate) fn reads(&self) -> Vec<&str> {
        let mut values = Vec::new();
        let mut nodes = vec![self];
        while let Some(node) = nodes.pop() {
            values.extend(node.inputs.iter().map(String::as_str));
            nodes.extend(node.subgraphs.iter().flatten());
        }
        values
    }
}

impl OnnxSummary {
    /// The node of each value of the main graph.
    pub(crate) fn producers(&self) -> HashMap<&str, &OnnxNode> {
        self.nodes.iter().flat_map(|node| node.outputs.iter().map(move |output| (output.as_str(), node))).collect()
    }

    /// A node that draws random numbers and on which one of these outputs depends; subgraphs and local functions are searched too.
    pub(crate) fn random_node(&self, outputs: &[&str]) -> Option<&OnnxNode> {
        let producers = self.producers();
        let (mut values, mut known, mut functions) = (outputs.to_vec(), BTreeSet::new(), BTreeSet::new());
        while let Some(value) = values.pop() {
            let Some(node) = producers.get(value).filter(|_| known.insert(value)) else { continue };
            if let Some(random) = self.random_within(node, &mut functions) {
                return Some(random);
            }
            values.extend(node.reads());
        }
        None
    }

    /// The node itself or one of its subgraphs or of the functions that it calls; `searched` functions draw nothing.
    fn random_within<'a>(&'a self, node: &'a OnnxNode, searched: &mut BTreeSet<&'a str>) -> Option<&'a OnnxNode> {
        let mut nodes = vec![node];
        while let Some(node) = nodes.pop() {
            match self.functions.get_key_value(&node.operator) {
                Some((name, body)) if searched.insert(name) => nodes.extend(body),
                None if RANDOM_OPERATORS.contains(&node.operator.as_str()) => return Some(node),
                _ => {}
            }
            nodes.extend(node.subgraphs.iter().flatten());
        }
        None
    }

    /// Refuses a model that is no function of its input, as far as these outputs go.
    ///
    /// # Errors
    /// The operator, the node and what to do.
    pub(crate) fn check_is_function(&self, outputs: &[&str]) -> Result<(), String> {
        let Some(node) = self.random_node(outputs) else { return Ok(()) };
        let mut fix =
            "export the model for inference after `model.eval()`, without random masking, noise or sampling".to_owned();
        if node.operator.contains("Random") {
            fix.push_str("; of a masked autoencoder, export the encoder alone, or with mask ratio 0 and a fixed `noise` (torch.arange)");
        }
        Err(format!(
            "operator {} (node `{}`) draws random numbers at run time, so one input gives another output each time; {fix}",
            node.operator,
            node.label()
        ))
    }
}

/// Name of an operator, with its domain unless standard.
pub(super) fn operator_name(domain: &str, operator: &str) -> String {
    let is_standard = domain.is_empty() || domain == "ai.onnx";
    if is_standard { operator.to_owned() } else { format!("{domain}.{operator}") }
}

/// `ModelProto` without what is not read; prost skips the rest without keeping it.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Model {
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "25")]
    pub(super) functions: Vec<Function>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<Node>,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<Initialiser>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Function {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "7")]
    pub(super) node: Vec<Node>,
    #[prost(string, tag = "10")]
    pub(super) domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(message, optional, tag = "5")]
    t: Option<Initialiser>,
    #[prost(message, optional, tag = "6")]
    g: Option<Graph>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<Graph>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Initialiser {
    #[prost(int64, repeated, tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "13")]
    pub(super) external_data: Vec<StringStringEntryProto>,
}

impl Node {
    /// Tensors in its attributes and subgraphs.
    pub(super) fn tensors(&self) -> Vec<&Initialiser> {
        let mut tensors = Vec::new();
        let mut nodes = vec![self];
        while let Some(node) = nodes.pop() {
            for attribute in &node.attribute {
                tensors.extend(&attribute.t);
                for graph in attribute.g.iter().chain(&attribute.graphs) {
                    tensors.extend(&graph.initializer);
                    nodes.extend(&graph.node);
                }
            }
        }
        tensors
    }

    /// Nested as deep as prost decodes, which is 100 messages.
    pub(super) fn into_node(self) -> OnnxNode {
        let (mut integers, mut subgraphs) = (BTreeMap::new(), Vec::new());
        for Attribute { name, i, g, ints, graphs, .. } in self.attribute {
            let graphs = g.into_iter().chain(graphs);
            subgraphs.extend(graphs.map(|graph| graph.node.into_iter().map(Self::into_node).collect()));
            let values = if ints.is_empty() { i.into_iter().collect() } else { ints };
            if !values.is_empty() {
                integers.insert(name, values);
            }
        }
        OnnxNode {
            name: self.name,
            operator: operator_name(&self.domain, &self.op_type),
            inputs: self.input,
            outputs: self.output,
            integers,
            subgraphs,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn node(operator: &str, inputs: &[&str], output: &str, subgraph: Vec<Node>) -> Node {
        let graph = Graph { node: subgraph, ..Graph::default() };
        let attribute = Attribute { name: "body".to_owned(), g: Some(graph), ..Attribute::default() };
        Node {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("node_{output}"),
            op_type: operator.to_owned(),
            attribute: vec![attribute],
            domain: if operator.starts_with("Local") { "local".to_owned() } else { String::new() },
        }
    }

    /// What is refused of the output `y`.
    fn check(nodes: Vec<Node>, functions: &[(&str, Node)]) -> Result<(), String> {
        let function = |(name, node): &(&str, Node)| Function {
            name: (*name).to_owned(),
            node: vec![node.clone()],
            domain: "local".to_owned(),
        };
        let graph = Graph { node: nodes, ..Graph::default() };
        let model =
            Model { graph: Some(graph), functions: functions.iter().map(function).collect(), ..Model::default() };
        OnnxSummary::parse(&model.encode_to_vec()).expect("parses").check_is_function(&["y"])
    }

    #[test]
    fn random_operators_are_found_wherever_they_are_and_only_where_they_are_served() {
        let refused = |nodes: Vec<Node>, functions: &[(&str, Node)], wanted: &[&str]| {
            let problem = check(nodes, functions).expect_err("draws at random");
            assert!(wanted.iter().all(|wanted| problem.contains(wanted)), "{problem}");
        };
        for operator in RANDOM_OPERATORS.iter().filter(|operator| !operator.contains('.')) {
            let nodes = vec![node(operator, &[], "noise", vec![]), node("Add", &["x", "noise"], "y", vec![])];
            refused(nodes, &[], &[operator, "node_noise", "eval()"]);
        }
        let nested = |inner: Node| node("If", &["x"], "y", vec![node("Loop", &[], "z", vec![inner])]);
        refused(vec![nested(node("Multinomial", &[], "deep", vec![]))], &[], &["Multinomial", "node_deep"]);
        // A value that only a subgraph reads.
        let outer = node("RandomNormal", &[], "noise", vec![]);
        refused(vec![outer, nested(node("Add", &["noise"], "deep", vec![]))], &[], &["RandomNormal"]);
        let call = node("LocalOuter", &["x"], "y", vec![]);
        let functions = [
            ("LocalOuter", node("LocalInner", &[], "a", vec![])),
            ("LocalInner", node("Bernoulli", &[], "inner", vec![])),
        ];
        refused(vec![call.clone()], &functions, &["Bernoulli", "node_inner"]);
        let passes = |nodes: Vec<Node>, functions: &[(&str, Node)]| assert_eq!(check(nodes, functions), Ok(()));
        passes(vec![node("Dropout", &["x"], "y", vec![])], &[]);
        // Not served, not called.
        passes(vec![node("RandomNormal", &[], "unused", vec![]), node("Relu", &["x"], "y", vec![])], &[]);
        passes(vec![node("Relu", &["x"], "y", vec![])], &functions);
        // Functions that call each other end.
        let round = [("LocalOuter", node("LocalOuter", &[], "a", vec![]))];
        passes(vec![call], &round);
    }
}
