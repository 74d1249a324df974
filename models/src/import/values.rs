//! What a pickle of a checkpoint can hold, and the few names that it may mention.

use std::rc::Rc;

/// Values in containers that a pickle may make; a checkpoint of a thousand tensors has some ten thousand.
const MAX_VALUES: usize = 2_000_000;

/// A value of a pickle. Containers are places in a [`Heap`], as pickles refer back to them.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    Bytes,
    Tuple(usize),
    List(usize),
    /// Keys and values in turn, in order; also a `Namespace`.
    Dict(usize),
    /// A callable or class that is known, by what it makes.
    Known(Known),
    /// Where a tensor's numbers lie.
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// The containers of a pickle: however deep they lie in each other, and in circles, this is flat.
#[derive(Debug, Default)]
pub(super) struct Heap {
    containers: Vec<Vec<Value>>,
    num_values: usize,
}

impl Heap {
    /// Place of a new container.
    pub(super) fn add(&mut self, values: Vec<Value>) -> Result<usize, String> {
        self.containers.push(Vec::new());
        let place = self.containers.len() - 1;
        self.extend(place, values)?;
        Ok(place)
    }

    pub(super) fn extend(&mut self, place: usize, values: Vec<Value>) -> Result<(), String> {
        self.num_values += values.len();
        if self.num_values > MAX_VALUES {
            return Err(format!("a pickle of more than {MAX_VALUES} values"));
        }
        if let Some(container) = self.containers.get_mut(place) {
            container.extend(values);
        }
        Ok(())
    }

    pub(super) fn get(&self, place: usize) -> &[Value] {
        self.containers.get(place).map_or(&[], Vec::as_slice)
    }

    /// Keys and values of a dictionary.
    pub(super) fn pairs(&self, place: usize) -> &[[Value; 2]] {
        self.get(place).as_chunks::<2>().0
    }

    /// Every value in any container.
    pub(super) fn values(&self) -> impl Iterator<Item = &Value> {
        self.containers.iter().flatten()
    }
}

/// What is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Tensor,
    /// Its first argument: a parameter is its tensor, a size a tuple.
    First,
    Dict,
    Namespace,
    /// Data that is not looked at, such as a device, a set or a number of NumPy.
    Opaque,
    StorageType(ElementType),
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ElementType {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl ElementType {
    pub(super) fn num_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }
}

/// A file of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    pub(super) key: String,
    pub(super) element: ElementType,
    /// The part that it is of the file, if not all: first element and how many (older files).
    pub(super) part: Option<[usize; 2]>,
}

/// A view of a storage.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) storage: Storage,
    /// Elements.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements.
    pub(super) strides: Vec<usize>,
}

impl Tensor {
    /// Most of all where they cannot be counted.
    pub(super) fn num_values(&self) -> usize {
        self.shape.iter().fold(1, |count, size| count.saturating_mul(*size))
    }
}

/// Callables that are known: module, name, what it makes.
pub(super) const KNOWN: &[(&str, &str, Known)] = &[
    ("torch._utils", "_rebuild_tensor_v2", Known::Tensor),
    ("torch._utils", "_rebuild_parameter", Known::First),
    ("torch", "Size", Known::First),
    ("collections", "OrderedDict", Known::Dict),
    ("collections", "defaultdict", Known::Dict),
    ("builtins", "dict", Known::Dict),
    ("__builtin__", "dict", Known::Dict),
    ("argparse", "Namespace", Known::Namespace),
    ("torch", "device", Known::Opaque),
    ("builtins", "set", Known::Opaque),
    ("__builtin__", "set", Known::Opaque),
    ("builtins", "frozenset", Known::Opaque),
    ("__builtin__", "frozenset", Known::Opaque),
    ("builtins", "bytearray", Known::Opaque),
    ("__builtin__", "bytearray", Known::Opaque),
    // What a defaultdict makes of a key that is not there; nothing here makes any.
    ("builtins", "list", Known::Opaque),
    ("__builtin__", "list", Known::Opaque),
    ("builtins", "int", Known::Opaque),
    ("__builtin__", "int", Known::Opaque),
    ("builtins", "float", Known::Opaque),
    ("__builtin__", "float", Known::Opaque),
    // Byte strings as older protocols write them, and NumPy's numbers.
    ("_codecs", "encode", Known::Opaque),
    ("numpy", "dtype", Known::Opaque),
    ("numpy.core.multiarray", "scalar", Known::Opaque),
    ("numpy._core.multiarray", "scalar", Known::Opaque),
    ("torch", "DoubleStorage", Known::StorageType(ElementType::F64)),
    ("torch", "FloatStorage", Known::StorageType(ElementType::F32)),
    ("torch", "HalfStorage", Known::StorageType(ElementType::F16)),
    ("torch", "BFloat16Storage", Known::StorageType(ElementType::Bf16)),
    ("torch", "LongStorage", Known::StorageType(ElementType::I64)),
    ("torch", "IntStorage", Known::StorageType(ElementType::I32)),
    ("torch", "ShortStorage", Known::StorageType(ElementType::I16)),
    ("torch", "CharStorage", Known::StorageType(ElementType::I8)),
    ("torch", "ByteStorage", Known::StorageType(ElementType::U8)),
    ("torch", "BoolStorage", Known::StorageType(ElementType::U8)),
];
