//! Tensors of a session, filled and read as f32 whatever the graph computes in.

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::session::Session;
use ort::value::{DynValue, DynValueRef, Tensor};

use crate::card::{ElementType, TensorCard};

/// A tensor that belongs to a session, filled and read as f32.
pub(super) enum BoundTensor {
    F32(Tensor<f32>),
    F16(Tensor<f16>),
}

impl BoundTensor {
    /// All zero.
    pub(super) fn new(session: &Session, card: &TensorCard) -> ort::Result<Self> {
        Ok(match card.element {
            ElementType::F32 => {
                let mut tensor = Tensor::<f32>::new(session.allocator(), card.shape.as_slice())?;
                tensor.extract_tensor_mut().1.fill(0.0);
                Self::F32(tensor)
            }
            ElementType::F16 => {
                let mut tensor = Tensor::<f16>::new(session.allocator(), card.shape.as_slice())?;
                tensor.extract_tensor_mut().1.fill(f16::ZERO);
                Self::F16(tensor)
            }
        })
    }

    pub(super) fn num_values(&self) -> usize {
        match self {
            Self::F32(tensor) => tensor.extract_tensor().1.len(),
            Self::F16(tensor) => tensor.extract_tensor().1.len(),
        }
    }

    /// As many values as it has.
    pub(super) fn fill(&mut self, values: &[f32]) {
        match self {
            Self::F32(tensor) => tensor.extract_tensor_mut().1.copy_from_slice(values),
            Self::F16(tensor) => tensor.extract_tensor_mut().1.convert_from_f32_slice(values),
        }
    }

    /// As many values as it has.
    pub(super) fn read(&self, values: &mut [f32]) {
        match self {
            Self::F32(tensor) => values.copy_from_slice(tensor.extract_tensor().1),
            Self::F16(tensor) => tensor.extract_tensor().1.convert_to_f32_slice(values),
        }
    }

    pub(super) fn view(&self) -> DynValueRef<'_> {
        match self {
            Self::F32(tensor) => tensor.view().into_dyn(),
            Self::F16(tensor) => tensor.view().into_dyn(),
        }
    }

    pub(super) fn into_value(self) -> DynValue {
        match self {
            Self::F32(tensor) => tensor.into_dyn(),
            Self::F16(tensor) => tensor.into_dyn(),
        }
    }
}
