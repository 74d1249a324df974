//! Tensors, parts of storages and pairs out of the arguments that a pickle would call something with.

use super::values::{Heap, Tensor, Value};

/// First element and number of elements of `(key, first, number)`.
pub(super) fn storage_part(heap: &Heap, part: &Value) -> Result<Option<[usize; 2]>, String> {
    let numbers = match part {
        Value::None => return Ok(None),
        Value::Tuple(part) => heap.get(*part),
        _ => &[],
    };
    let number = |value: &Value| match value {
        Value::Int(number) => usize::try_from(*number).ok(),
        _ => None,
    };
    let [_, first, count] = numbers else { return Err("a part of a storage without its place".to_string()) };
    match (number(first), number(count)) {
        (Some(first), Some(count)) => Ok(Some([first, count])),
        _ => Err("a part of a storage without its place".to_string()),
    }
}

/// `(storage, offset, shape, strides, ..)`.
pub(super) fn rebuild_tensor(heap: &Heap, arguments: usize) -> Result<Tensor, String> {
    let [Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides), ..] =
        heap.get(arguments)
    else {
        return Err("a tensor that is not made of a storage, an offset, a shape and strides".to_string());
    };
    let number = |value: &Value| match value {
        Value::Int(number) => usize::try_from(*number).map_err(|_| "a tensor with a negative size".to_string()),
        _ => Err("a tensor whose size is no number".to_string()),
    };
    let offset = number(&Value::Int(*offset))?;
    let shape: Vec<usize> = heap.get(*shape).iter().map(number).collect::<Result<_, _>>()?;
    let strides: Vec<usize> = heap.get(*strides).iter().map(number).collect::<Result<_, _>>()?;
    if shape.len() != strides.len() || shape.len() > 8 {
        return Err("a tensor whose shape and strides differ in length".to_string());
    }
    Ok(Tensor { storage: (**storage).clone(), offset, shape, strides })
}

/// Keys and values out of a list of pairs.
pub(super) fn pairs_of(heap: &Heap, arguments: usize) -> Vec<Value> {
    let Some(Value::List(list)) = heap.get(arguments).first() else { return Vec::new() };
    let pair = |value: &Value| match value {
        Value::Tuple(pair) | Value::List(pair) => heap.get(*pair).first_chunk::<2>().cloned(),
        _ => None,
    };
    heap.get(*list).iter().filter_map(pair).flatten().collect()
}
