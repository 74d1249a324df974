//! Writes ONNX files: a small graph builder over hand-derived protobuf messages, no code generator; and reads what a file says of itself.
//!
//! Opset 17 (the first with `LayerNormalization`) and IR version 8: taken by ONNX Runtime, tract and TensorRT alike. GELU is
//! written out with `Erf`, since the `Gelu` operator needs opset 20.

mod messages;
mod nodes;
mod precision;
mod reader;
mod shape_probe;

use std::path::Path;

use prost::Message;

use self::messages::{
    ATTRIBUTE_FLOAT, ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, DATA_FLOAT, DATA_INT64, DimensionProto,
    DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
pub(crate) use self::nodes::OnnxNode;
pub use self::precision::{OnnxConstant, OnnxType, QuantisedWeight, read_onnx_constants};
pub(crate) use self::reader::type_name;
pub use self::reader::{OnnxAxis, OnnxSummary, OnnxTensor};
pub(crate) use self::shape_probe::ShapeProbe;
use crate::error::RuntimeError;
use crate::files::write_atomically;

/// The operator set that every exported model uses.
pub const ONNX_OPSET: i64 = 17;

/// The intermediate representation that goes with [`ONNX_OPSET`].
const IR_VERSION: i64 = 8;

/// A tensor in the graph: an input, an initialiser or what a node gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxValue(String);

/// One dimension of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnnxDim {
    /// Any number, the same for every input and output (`batch`).
    Batch,
    /// That many.
    Fixed(usize),
}

/// The attribute of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum OnnxAttribute {
    /// `name = value`.
    Int(&'static str, i64),
    /// `name = [values]`.
    Ints(&'static str, Vec<i64>),
    /// `name = value`.
    Float(&'static str, f32),
}

/// A graph under construction: add inputs, constants and nodes in order, name outputs, then [`OnnxGraph::to_bytes`].
#[derive(Clone, Debug)]
pub struct OnnxGraph {
    graph: GraphProto,
    metadata: Vec<StringStringEntryProto>,
}

impl OnnxGraph {
    /// An empty graph of this name.
    pub fn new(name: &str) -> Self {
        Self { graph: GraphProto { name: name.to_string(), ..GraphProto::default() }, metadata: Vec::new() }
    }

    /// Adds `key: value` to the file's `metadata_props`.
    pub fn add_metadata(&mut self, key: &str, value: &str) {
        self.metadata.push(StringStringEntryProto { key: key.to_string(), value: value.to_string() });
    }

    /// An f32 input.
    pub fn add_input(&mut self, name: &str, shape: &[OnnxDim]) -> OnnxValue {
        self.graph.input.push(value_info(name, shape));
        OnnxValue(name.to_string())
    }

    /// Makes `value` the f32 output `name`.
    pub fn add_output(&mut self, name: &str, value: &OnnxValue, shape: &[OnnxDim]) {
        self.graph.output.push(value_info(name, shape));
        self.push_node("Identity", (&[value], vec![name.to_string()]), Vec::new());
    }

    /// Notes the shape of an inner value, as other exporters do.
    #[cfg(test)]
    pub(crate) fn add_value_info(&mut self, value: &OnnxValue, shape: &[OnnxDim]) {
        self.graph.value_info.push(value_info(&value.0, shape));
    }

    /// An f32 initialiser, row-major. `values` must hold the product of `shape`.
    pub fn add_constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> OnnxValue {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push_initialiser(name, shape, (DATA_FLOAT, raw_data))
    }

    /// An i64 initialiser of one dimension, such as a shape or axes.
    pub fn add_indices(&mut self, name: &str, values: &[i64]) -> OnnxValue {
        let raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.push_initialiser(name, &[values.len()], (DATA_INT64, raw_data))
    }

    /// Any operator with one output.
    pub fn add_node(&mut self, operator: &str, inputs: &[&OnnxValue], attributes: Vec<OnnxAttribute>) -> OnnxValue {
        let output = self.fresh_name(operator);
        self.push_node(operator, (inputs, vec![output.clone()]), attributes);
        OnnxValue(output)
    }

    /// `a @ b`, broadcasting the leading dimensions.
    pub fn matmul(&mut self, a: &OnnxValue, b: &OnnxValue) -> OnnxValue {
        self.add_node("MatMul", &[a, b], Vec::new())
    }

    /// `a + b`, broadcasting.
    pub fn add(&mut self, a: &OnnxValue, b: &OnnxValue) -> OnnxValue {
        self.add_node("Add", &[a, b], Vec::new())
    }

    /// `a - b`, broadcasting.
    pub fn sub(&mut self, a: &OnnxValue, b: &OnnxValue) -> OnnxValue {
        self.add_node("Sub", &[a, b], Vec::new())
    }

    /// `a * b`, broadcasting.
    pub fn mul(&mut self, a: &OnnxValue, b: &OnnxValue) -> OnnxValue {
        self.add_node("Mul", &[a, b], Vec::new())
    }

    /// `a / b`, broadcasting.
    pub fn div(&mut self, a: &OnnxValue, b: &OnnxValue) -> OnnxValue {
        self.add_node("Div", &[a, b], Vec::new())
    }

    /// `x @ weight + bias` over the last dimension; `weight` `[in, out]`, `bias` `[out]`.
    pub fn linear(&mut self, x: &OnnxValue, weight: &OnnxValue, bias: &OnnxValue) -> OnnxValue {
        let product = self.matmul(x, weight);
        self.add(&product, bias)
    }

    /// `x @ weight + bias` for `x` `[B, in]` as one `Gemm`; `weight` `[in, out]`, `bias` `[out]`.
    pub fn gemm(&mut self, x: &OnnxValue, weight: &OnnxValue, bias: &OnnxValue) -> OnnxValue {
        self.add_node("Gemm", &[x, weight, bias], Vec::new())
    }

    /// Normalises over the last dimension with the biased variance; `norm.weight` and `norm.bias` `[D]`.
    pub fn layer_norm(&mut self, x: &OnnxValue, norm: &OnnxNorm) -> OnnxValue {
        let attributes = vec![OnnxAttribute::Int("axis", -1), OnnxAttribute::Float("epsilon", norm.epsilon)];
        self.add_node("LayerNormalization", &[x, &norm.weight, &norm.bias], attributes)
    }

    /// Softmax over `axis`.
    pub fn softmax(&mut self, x: &OnnxValue, axis: i64) -> OnnxValue {
        self.add_node("Softmax", &[x], vec![OnnxAttribute::Int("axis", axis)])
    }

    /// `x * 0.5 * (1 + erf(x / sqrt 2))`, the exact GELU, in the shape of nodes that engines fuse.
    pub fn gelu(&mut self, x: &OnnxValue) -> OnnxValue {
        let sqrt_two = self.scalar("sqrt_two", std::f32::consts::SQRT_2);
        let one = self.scalar("one", 1.0);
        let half = self.scalar("half", 0.5);
        let scaled = self.div(x, &sqrt_two);
        let erf = self.add_node("Erf", &[&scaled], Vec::new());
        let shifted = self.add(&erf, &one);
        let product = self.mul(x, &shifted);
        self.mul(&product, &half)
    }

    /// `max(x, 0)`.
    pub fn relu(&mut self, x: &OnnxValue) -> OnnxValue {
        self.add_node("Relu", &[x], Vec::new())
    }

    /// Hyperbolic tangent.
    pub fn tanh(&mut self, x: &OnnxValue) -> OnnxValue {
        self.add_node("Tanh", &[x], Vec::new())
    }

    /// Convolution of `x` `[B, C, H, W]` without padding; `weight` `[D, C, kernel, kernel]`, `bias` `[D]`.
    pub fn conv(&mut self, x: &OnnxValue, filter: &OnnxFilter) -> OnnxValue {
        let [kernel, stride] = [filter.kernel, filter.stride].map(to_i64);
        let attributes = vec![
            OnnxAttribute::Ints("dilations", vec![1, 1]),
            OnnxAttribute::Int("group", 1),
            OnnxAttribute::Ints("kernel_shape", vec![kernel, kernel]),
            OnnxAttribute::Ints("pads", vec![0; 4]),
            OnnxAttribute::Ints("strides", vec![stride, stride]),
        ];
        self.add_node("Conv", &[x, &filter.weight, &filter.bias], attributes)
    }

    /// Reshape; 0 keeps a dimension (use it for the batch), one -1 is worked out.
    pub fn reshape(&mut self, x: &OnnxValue, shape: &[i64]) -> OnnxValue {
        let shape = self.fresh_indices("shape", shape);
        self.add_node("Reshape", &[x, &shape], Vec::new())
    }

    /// Reorders the dimensions.
    pub fn transpose(&mut self, x: &OnnxValue, permutation: &[i64]) -> OnnxValue {
        self.add_node("Transpose", &[x], vec![OnnxAttribute::Ints("perm", permutation.to_vec())])
    }

    /// Joins along `axis`.
    pub fn concat(&mut self, values: &[&OnnxValue], axis: i64) -> OnnxValue {
        self.add_node("Concat", values, vec![OnnxAttribute::Int("axis", axis)])
    }

    /// `x[start..end]` along one axis.
    pub fn slice(&mut self, x: &OnnxValue, axis: i64, range: std::ops::Range<i64>) -> OnnxValue {
        let starts = self.fresh_indices("starts", &[range.start]);
        let ends = self.fresh_indices("ends", &[range.end]);
        let axes = self.fresh_indices("axes", &[axis]);
        self.add_node("Slice", &[x, &starts, &ends, &axes], Vec::new())
    }

    /// Pieces of the given sizes along one axis.
    pub fn split(&mut self, x: &OnnxValue, axis: i64, sizes: &[i64]) -> Vec<OnnxValue> {
        let sizes_value = self.fresh_indices("sizes", sizes);
        let first = self.fresh_name("Split");
        let names: Vec<String> = (0..sizes.len()).map(|piece_idx| format!("{first}_{piece_idx}")).collect();
        self.push_node("Split", (&[x, &sizes_value], names.clone()), vec![OnnxAttribute::Int("axis", axis)]);
        names.into_iter().map(OnnxValue).collect()
    }

    /// Removes dimensions of size 1.
    pub fn squeeze(&mut self, x: &OnnxValue, axes: &[i64]) -> OnnxValue {
        let axes = self.fresh_indices("axes", axes);
        self.add_node("Squeeze", &[x, &axes], Vec::new())
    }

    /// Zeros around `x`: `pads` holds what goes before each dimension, then what goes after each.
    pub fn pad_zeros(&mut self, x: &OnnxValue, pads: &[i64]) -> OnnxValue {
        let pads = self.fresh_indices("pads", pads);
        self.add_node("Pad", &[x, &pads], Vec::new())
    }

    /// Mean over `axes`, which disappear.
    pub fn reduce_mean(&mut self, x: &OnnxValue, axes: &[i64]) -> OnnxValue {
        let attributes = vec![OnnxAttribute::Ints("axes", axes.to_vec()), OnnxAttribute::Int("keepdims", 0)];
        self.add_node("ReduceMean", &[x], attributes)
    }

    /// The ONNX file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let model = ModelProto {
            ir_version: IR_VERSION,
            producer_name: "foresee".to_string(),
            producer_version: env!("CARGO_PKG_VERSION").to_string(),
            graph: Some(self.graph.clone()),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: ONNX_OPSET }],
            metadata_props: self.metadata.clone(),
        };
        model.encode_to_vec()
    }

    fn scalar(&mut self, name: &str, value: f32) -> OnnxValue {
        if self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            return OnnxValue(name.to_string());
        }
        self.add_constant(name, &[], &[value])
    }

    fn fresh_name(&self, stem: &str) -> String {
        format!("{stem}_{}", self.graph.node.len())
    }

    /// Named after the node that comes next, which is the one that takes them.
    fn fresh_indices(&mut self, stem: &str, values: &[i64]) -> OnnxValue {
        let name = self.fresh_name(stem);
        self.add_indices(&name, values)
    }

    fn push_node(
        &mut self,
        operator: &str,
        (inputs, outputs): (&[&OnnxValue], Vec<String>),
        attributes: Vec<OnnxAttribute>,
    ) {
        let node = NodeProto {
            input: inputs.iter().map(|value| value.0.clone()).collect(),
            output: outputs,
            name: format!("node_{}_{operator}", self.graph.node.len()),
            op_type: operator.to_string(),
            attribute: attributes.into_iter().map(attribute).collect(),
        };
        self.graph.node.push(node);
    }

    fn push_initialiser(&mut self, name: &str, shape: &[usize], (data_type, raw_data): (i32, Vec<u8>)) -> OnnxValue {
        let dims = shape.iter().map(|&size| to_i64(size)).collect();
        self.graph.initializer.push(TensorProto { dims, data_type, name: name.to_string(), raw_data });
        OnnxValue(name.to_string())
    }
}

/// The parameters of [`OnnxGraph::layer_norm`].
#[derive(Clone, Debug)]
pub struct OnnxNorm {
    /// `[D]`.
    pub weight: OnnxValue,
    /// `[D]`.
    pub bias: OnnxValue,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The parameters of [`OnnxGraph::conv`]: a square kernel.
#[derive(Clone, Debug)]
pub struct OnnxFilter {
    /// `[D, C, kernel, kernel]`.
    pub weight: OnnxValue,
    /// `[D]`.
    pub bias: OnnxValue,
    /// Pixels.
    pub kernel: usize,
    /// Pixels.
    pub stride: usize,
}

/// Writes an ONNX file whole or not at all.
///
/// # Errors
/// [`RuntimeError::File`] when the folder cannot be written.
pub fn write_model(path: &Path, bytes: &[u8]) -> Result<(), RuntimeError> {
    write_atomically(path, bytes)
}

fn attribute(attribute: OnnxAttribute) -> AttributeProto {
    match attribute {
        OnnxAttribute::Int(name, i) => {
            AttributeProto { name: name.to_string(), i, r#type: ATTRIBUTE_INT, ..AttributeProto::default() }
        }
        OnnxAttribute::Ints(name, ints) => {
            AttributeProto { name: name.to_string(), ints, r#type: ATTRIBUTE_INTS, ..AttributeProto::default() }
        }
        OnnxAttribute::Float(name, f) => {
            AttributeProto { name: name.to_string(), f, r#type: ATTRIBUTE_FLOAT, ..AttributeProto::default() }
        }
    }
}

fn value_info(name: &str, shape: &[OnnxDim]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|dim| match dim {
            OnnxDim::Batch => DimensionValue::DimParam("batch".to_string()),
            OnnxDim::Fixed(size) => DimensionValue::DimValue(to_i64(*size)),
        })
        .map(|value| DimensionProto { value: Some(value) })
        .collect();
    let tensor_type = Some(TensorTypeProto { elem_type: DATA_FLOAT, shape: Some(TensorShapeProto { dim }) });
    ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type }) }
}

fn to_i64(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_graph_reads_back_with_every_value_defined_once_before_its_use() {
        let mut graph = OnnxGraph::new("test");
        graph.add_metadata("recipe", "none");
        let x = graph.add_input("x", &[OnnxDim::Batch, OnnxDim::Fixed(4)]);
        let weight = graph.add_constant("weight", &[4, 4], &[0.5; 16]);
        let bias = graph.add_constant("bias", &[4], &[0.0; 4]);
        let hidden = graph.gemm(&x, &weight, &bias);
        let activated = graph.gelu(&hidden);
        let activated = graph.gelu(&activated);
        let pieces = graph.split(&activated, 1, &[1, 3]);
        let joined = graph.concat(&[&pieces[1], &pieces[0]], 1);
        let last = graph.slice(&joined, 1, 3..4);
        graph.add_output("y", &last, &[OnnxDim::Batch, OnnxDim::Fixed(1)]);

        let model = ModelProto::decode(graph.to_bytes().as_slice()).expect("decodes");
        assert_eq!(model.opset_import[0].version, ONNX_OPSET);
        assert_eq!(model.metadata_props[0].key, "recipe");
        let graph = model.graph.expect("a graph");
        let mut known: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        for tensor in &graph.initializer {
            assert!(known.insert(&tensor.name), "{} twice", tensor.name);
        }
        for node in &graph.node {
            assert!(
                node.input.iter().all(|name| known.contains(name.as_str())),
                "{} uses what is not there",
                node.name
            );
            assert!(node.output.iter().all(|name| known.insert(name)), "{} defines anew", node.name);
        }
        assert!(known.contains("y"));
    }
}
