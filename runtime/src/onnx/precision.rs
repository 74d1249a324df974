//! Half precision and 8-bit integers in a graph, and the f32 constants back out of a file.

use std::collections::BTreeMap;

use prost::Message;

use super::messages::{DATA_FLOAT, DATA_FLOAT16, DATA_INT8, ModelProto};
use super::{OnnxAttribute, OnnxGraph, OnnxValue};

/// A type that values can be cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnnxType {
    /// 32-bit float.
    F32,
    /// 16-bit float (IEEE 754 half).
    F16,
}

/// A weight `[in, out]` in 8 bits: each column is `values * scale`, without an offset.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantisedWeight {
    /// `[in, out]`, -127 to 127.
    pub values: Vec<i8>,
    /// `[out]`.
    pub scales: Vec<f32>,
}

impl QuantisedWeight {
    /// The nearest multiples of a scale of each column of `weight` `[in, outputs]`.
    pub fn nearest(weight: &[f32], outputs: usize) -> Self {
        const LARGEST: f32 = 127.0;
        let mut scales = vec![0.0_f32; outputs];
        for row in weight.chunks_exact(outputs.max(1)) {
            scales.iter_mut().zip(row).for_each(|(scale, value)| *scale = scale.max(value.abs() / LARGEST));
        }
        // A column of zeros is zero at any scale.
        scales.iter_mut().for_each(|scale| *scale = if *scale > 0.0 { *scale } else { 1.0 });
        let nearest = |(value, scale): (&f32, &f32)| (value / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8;
        let values = weight.chunks_exact(outputs.max(1)).flat_map(|row| row.iter().zip(&scales).map(nearest)).collect();
        Self { values, scales }
    }
}

impl OnnxGraph {
    /// An f16 initialiser, row-major, of the nearest halves; what is beyond their range becomes the largest one.
    pub fn add_half_constant(&mut self, name: &str, shape: &[usize], values: &[f32]) -> OnnxValue {
        let to_half = |value: &f32| half::f16::from_f32(value.clamp(-65504.0, 65504.0)).to_le_bytes();
        self.push_initialiser(name, shape, (DATA_FLOAT16, values.iter().flat_map(to_half).collect()))
    }

    /// `x` in another type.
    pub fn cast(&mut self, x: &OnnxValue, to: OnnxType) -> OnnxValue {
        let to = match to {
            OnnxType::F32 => DATA_FLOAT,
            OnnxType::F16 => DATA_FLOAT16,
        };
        self.add_node("Cast", &[x], vec![OnnxAttribute::Int("to", i64::from(to))])
    }

    /// `x @ weight + bias` over the last dimension with the product in 8-bit integers: `x` is scaled to the range that it has at run
    /// time (`DynamicQuantizeLinear`). In the shape of nodes that ONNX Runtime fuses. `bias` `[out]`.
    pub fn quantised_linear(
        &mut self,
        x: &OnnxValue,
        (name, weight): (&str, &QuantisedWeight),
        bias: &OnnxValue,
    ) -> OnnxValue {
        let outputs = weight.scales.len();
        let inputs = weight.values.len() / outputs.max(1);
        let bytes = weight.values.iter().map(|value| value.cast_unsigned()).collect();
        let values = self.push_initialiser(&format!("{name}_quantised"), &[inputs, outputs], (DATA_INT8, bytes));
        let zero = self.push_initialiser(&format!("{name}_zero_point"), &[], (DATA_INT8, vec![0]));
        let scales = self.add_constant(&format!("{name}_scale"), &[outputs], &weight.scales);
        let [quantised, scale, zero_point] = self.quantise(x);
        let product = self.add_node("MatMulInteger", &[&quantised, &values, &zero_point, &zero], Vec::new());
        let product = self.cast(&product, OnnxType::F32);
        let scale = self.mul(&scale, &scales);
        let product = self.mul(&product, &scale);
        self.add(&product, bias)
    }

    /// `x` as u8 with its scale and offset.
    fn quantise(&mut self, x: &OnnxValue) -> [OnnxValue; 3] {
        let stem = self.fresh_name("DynamicQuantizeLinear");
        let names = ["values", "scale", "zero_point"].map(|part| format!("{stem}_{part}"));
        self.push_node("DynamicQuantizeLinear", (&[x], names.to_vec()), Vec::new());
        names.map(OnnxValue)
    }
}

/// Shape and values of a constant.
pub type OnnxConstant = (Vec<usize>, Vec<f32>);

/// The f32 constants of an ONNX file by name, as [`OnnxGraph::add_constant`] writes them.
///
/// # Errors
/// What is wrong, in one line.
pub fn read_onnx_constants(bytes: &[u8]) -> Result<BTreeMap<String, OnnxConstant>, String> {
    let model = ModelProto::decode(bytes).map_err(|error| format!("is no ONNX file ({error})"))?;
    let graph = model.graph.ok_or("is an ONNX file without a graph")?;
    let mut constants = BTreeMap::new();
    for tensor in graph.initializer.into_iter().filter(|tensor| tensor.data_type == DATA_FLOAT) {
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|size| usize::try_from(*size).ok()).collect();
        let values: Vec<f32> =
            tensor.raw_data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        let shape = shape.filter(|shape| {
            let wanted = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
            wanted == Some(values.len())
        });
        let Some(shape) = shape else {
            return Err(format!("has a constant {} whose values are not in it or do not fit its shape", tensor.name));
        };
        constants.insert(tensor.name, (shape, values));
    }
    Ok(constants)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::OnnxDim;

    #[test]
    fn a_weight_keeps_its_values_within_half_a_step() {
        let weight = [0.5, -3.0, 0.0, 1.27, 2.0, 0.0];
        let quantised = QuantisedWeight::nearest(&weight, 3);
        assert_eq!(quantised.values, [50, -127, 0, 127, 85, 0]);
        let steps = quantised.values.iter().zip(quantised.scales.iter().cycle());
        for ((step, scale), value) in steps.zip(&weight) {
            assert!((f32::from(*step) * scale - value).abs() <= 0.5 * scale + 1e-6);
        }
    }

    #[test]
    fn constants_come_back_and_damage_is_named() {
        let mut graph = OnnxGraph::new("test");
        let x = graph.add_input("x", &[OnnxDim::Batch, OnnxDim::Fixed(2)]);
        let weight = graph.add_constant("weight", &[2, 1], &[0.25, -7.5]);
        graph.add_half_constant("half", &[2], &[1.0, 1e9]);
        let y = graph.matmul(&x, &weight);
        graph.add_output("y", &y, &[OnnxDim::Batch, OnnxDim::Fixed(1)]);
        let bytes = graph.to_bytes();
        let constants = read_onnx_constants(&bytes).expect("reads");
        assert_eq!(constants.keys().collect::<Vec<_>>(), ["weight"]);
        assert_eq!(constants["weight"], (vec![2, 1], vec![0.25, -7.5]));
        assert!(read_onnx_constants(&bytes[..bytes.len() / 2]).is_err());
        assert!(read_onnx_constants(b"").unwrap_err().contains("graph"));
    }
}
