//! Asks an engine for the shapes inside a graph: `Shape` nodes as further outputs, appended to the file's bytes.

use prost::Message;

use super::messages::TensorTypeProto;
use super::messages::{DATA_INT64, GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto};

/// Further outputs of a graph that give the shapes of values inside it.
pub(crate) struct ShapeProbe {
    /// Protobuf messages that follow each other are one: repeated fields are joined.
    suffix: Vec<u8>,
    values: Vec<String>,
}

/// What the outputs are called, before their number.
const PREFIX: &str = "foresee_shape_of_";

impl ShapeProbe {
    /// For these values.
    pub(crate) fn new(values: &[&str]) -> Self {
        let mut graph = GraphProto::default();
        for (idx, value) in values.iter().enumerate() {
            let output = format!("{PREFIX}{idx}");
            graph.node.push(NodeProto {
                input: vec![(*value).to_owned()],
                output: vec![output.clone()],
                name: output.clone(),
                op_type: "Shape".to_owned(),
                attribute: Vec::new(),
            });
            let tensor_type = Some(TensorTypeProto { elem_type: DATA_INT64, shape: None });
            graph.output.push(ValueInfoProto { name: output, r#type: Some(TypeProto { tensor_type }) });
        }
        let model = ModelProto { graph: Some(graph), ..ModelProto::default() };
        Self { suffix: model.encode_to_vec(), values: values.iter().map(|value| (*value).to_owned()).collect() }
    }

    /// The file with the further outputs.
    pub(crate) fn append_to(&self, bytes: &[u8]) -> Vec<u8> {
        [bytes, &self.suffix].concat()
    }

    /// The value whose shape an output is.
    pub(crate) fn value_of(&self, output: &str) -> Option<&str> {
        let idx: usize = output.strip_prefix(PREFIX)?.parse().ok()?;
        self.values.get(idx).map(String::as_str)
    }

    /// Whether this is an output that such a probe adds.
    pub(crate) fn is_probe(output: &str) -> bool {
        output.starts_with(PREFIX)
    }
}
