//! Reads the pickles of PyTorch checkpoints as plain data. Nothing in them is ever looked up or called: tensors and containers are
//! known by name, an `argparse.Namespace` is read as a dictionary, and any other callable is refused by name.

use std::collections::HashMap;
use std::rc::Rc;

use super::rebuild::{pairs_of, rebuild_tensor, storage_part};
use super::values::{Heap, KNOWN, Known, Storage, Value};

/// Instructions that a pickle may have; a checkpoint of a thousand tensors needs some ten thousand.
const MAX_STEPS: usize = 2_000_000;

/// What a pickle holds.
pub(super) struct Pickle {
    pub(super) root: Value,
    pub(super) heap: Heap,
    /// Bytes that it took.
    pub(super) num_bytes: usize,
}

/// Reads one pickle from the front of `bytes`.
///
/// # Errors
/// What is wrong, in one line; a callable that is not known is named.
pub(super) fn read_pickle(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine =
        Machine { bytes, place: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), heap: Heap::default() };
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { root, heap: machine.heap, num_bytes: machine.place });
        }
    }
    Err(format!("a pickle of more than {MAX_STEPS} instructions"))
}

struct Machine<'a> {
    bytes: &'a [u8],
    place: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
    heap: Heap,
}

impl Machine<'_> {
    /// One instruction; the value at the end.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let instruction = self.take(1)?.first().copied().unwrap_or(0);
        match instruction {
            b'.' => return self.pop().map(Some),
            // PROTO, FRAME.
            0x80 => _ = self.take(1)?,
            0x95 => _ = self.take(8)?,
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b'N' => self.stack.push(Value::None),
            0x88 | 0x89 => self.stack.push(Value::Bool),
            b'J' | b'K' | b'M' | 0x8a | 0x8b | b'I' | b'L' => self.integer(instruction)?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            b'F' => {
                self.line()?;
                self.stack.push(Value::Float);
            }
            b'X' | 0x8c | 0x8d | b'V' | b'U' | b'T' => self.text(instruction)?,
            b'B' | b'C' | 0x8e | 0x96 => self.byte_string(instruction)?,
            b')' | b't' | 0x85 | 0x86 | 0x87 => self.tuple(instruction)?,
            b']' | b'l' | b'a' | b'e' => self.list(instruction)?,
            b'}' | b'd' | b's' | b'u' => self.dict(instruction)?,
            // Sets hold nothing that is looked at.
            0x8f => self.list(b']')?,
            0x90 => drop(self.since_mark()?),
            0x91 => {
                drop(self.since_mark()?);
                self.stack.push(Value::None);
            }
            b'q' | b'r' | 0x94 | b'p' | b'h' | b'j' | b'g' => self.memory(instruction)?,
            b'c' | 0x93 => self.global(instruction)?,
            b'i' => {
                // An instance of an old class: if it is not known, it is refused by its name.
                self.global(instruction)?;
                return Err(unknown(instruction));
            }
            b'R' | 0x81 => self.call()?,
            0x92 => {
                // Arguments by name are not looked at.
                drop(self.pop()?);
                self.call()?;
            }
            b'b' => self.build()?,
            b'Q' => self.persistent()?,
            other => return Err(unknown(other)),
        }
        Ok(None)
    }

    fn integer(&mut self, instruction: u8) -> Result<(), String> {
        let value = match instruction {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(u8::from_le_bytes(self.array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            0x8a => {
                let count = usize::from(u8::from_le_bytes(self.array()?));
                long(self.take(count)?)
            }
            0x8b => {
                let count = u32::from_le_bytes(self.array()?) as usize;
                long(self.take(count)?)
            }
            // Protocol 0: "I01" is true; a long ends with L.
            _ => self.line()?.trim_end_matches('L').parse().map_err(|_| "an integer that is none".to_string())?,
        };
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn text(&mut self, instruction: u8) -> Result<(), String> {
        let text: Rc<str> = if instruction == b'V' {
            self.line()?.into()
        } else {
            let count = match instruction {
                0x8c | b'U' => usize::from(u8::from_le_bytes(self.array()?)),
                0x8d => usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX),
                _ => u32::from_le_bytes(self.array()?) as usize,
            };
            String::from_utf8_lossy(self.take(count)?).into()
        };
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn byte_string(&mut self, instruction: u8) -> Result<(), String> {
        let count = match instruction {
            b'C' => usize::from(u8::from_le_bytes(self.array()?)),
            0x8e | 0x96 => usize::try_from(u64::from_le_bytes(self.array()?)).unwrap_or(usize::MAX),
            _ => u32::from_le_bytes(self.array()?) as usize,
        };
        self.take(count)?;
        self.stack.push(Value::Bytes);
        Ok(())
    }

    fn tuple(&mut self, instruction: u8) -> Result<(), String> {
        let values = match instruction {
            b')' => Vec::new(),
            b't' => self.since_mark()?,
            _ => {
                let count = usize::from(instruction - 0x84);
                let start = self.stack.len().checked_sub(count).ok_or_else(underflow)?;
                self.stack.split_off(start)
            }
        };
        let place = self.heap.add(values)?;
        self.stack.push(Value::Tuple(place));
        Ok(())
    }

    fn list(&mut self, instruction: u8) -> Result<(), String> {
        let values = match instruction {
            b']' => Vec::new(),
            b'a' => vec![self.pop()?],
            _ => self.since_mark()?,
        };
        if matches!(instruction, b']' | b'l') {
            let place = self.heap.add(values)?;
            self.stack.push(Value::List(place));
            return Ok(());
        }
        match self.top()? {
            Value::List(place) => self.heap.extend(place, values),
            _ => Err("something appended to what is no list".to_string()),
        }
    }

    fn dict(&mut self, instruction: u8) -> Result<(), String> {
        let values = match instruction {
            b'}' => Vec::new(),
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.since_mark()?,
        };
        if !values.len().is_multiple_of(2) {
            return Err("a dictionary with a key and no value".to_string());
        }
        if matches!(instruction, b'}' | b'd') {
            let place = self.heap.add(values)?;
            self.stack.push(Value::Dict(place));
            return Ok(());
        }
        match self.top()? {
            Value::Dict(place) => self.heap.extend(place, values),
            _ => Err("a key set in what is no dictionary".to_string()),
        }
    }

    fn memory(&mut self, instruction: u8) -> Result<(), String> {
        let slot = match instruction {
            b'q' | b'h' => u64::from(u8::from_le_bytes(self.array()?)),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            0x94 => self.memo.len() as u64,
            _ => self.line()?.parse().map_err(|_| "a memo slot that is no number".to_string())?,
        };
        if matches!(instruction, b'h' | b'j' | b'g') {
            let value = self.memo.get(&slot).cloned().ok_or_else(|| "a memo slot that is empty".to_string())?;
            self.stack.push(value);
        } else {
            let value = self.top()?;
            self.memo.insert(slot, value);
        }
        Ok(())
    }

    fn global(&mut self, instruction: u8) -> Result<(), String> {
        let [module, name] = if matches!(instruction, b'c' | b'i') {
            [self.line()?, self.line()?]
        } else {
            let name = self.pop()?;
            match (self.pop()?, name) {
                (Value::Text(module), Value::Text(name)) => [module.to_string(), name.to_string()],
                _ => return Err("a global without a name".to_string()),
            }
        };
        let known = KNOWN.iter().find(|(known_module, known_name, _)| *known_module == module && *known_name == name);
        let (_, _, known) = known.ok_or_else(|| {
            format!("it wants to call {module}.{name}, which is no part of a checkpoint and is refused")
        })?;
        self.stack.push(Value::Known(*known));
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let arguments = self.pop()?;
        let callee = self.pop()?;
        let (Value::Known(known), Value::Tuple(arguments)) = (callee, arguments) else {
            return Err("a call of what is no known callable".to_string());
        };
        let heap = &mut self.heap;
        let value = match known {
            Known::Tensor => Value::Tensor(Rc::new(rebuild_tensor(heap, arguments)?)),
            Known::First => heap.get(arguments).first().cloned().ok_or_else(underflow)?,
            Known::Dict => {
                let pairs = pairs_of(heap, arguments);
                Value::Dict(heap.add(pairs)?)
            }
            Known::Namespace => Value::Dict(heap.add(Vec::new())?),
            Known::Opaque => Value::None,
            Known::StorageType(_) => return Err("a call of a storage type".to_string()),
        };
        self.stack.push(value);
        Ok(())
    }

    /// State of an object: a `Namespace` or an ordered dictionary with attributes takes it as its own pairs.
    fn build(&mut self) -> Result<(), String> {
        let state = self.pop()?;
        if let (Value::Dict(object), Value::Dict(state)) = (self.top()?, state)
            && object != state
        {
            // Attributes such as `_metadata` of a state dictionary are no tensors; they do no harm.
            let pairs = self.heap.get(state).to_vec();
            self.heap.extend(object, pairs)?;
        }
        Ok(())
    }

    /// `("storage", type, key, device, number of elements)`; older files add `(key, first, number)` where it is a part of another.
    fn persistent(&mut self) -> Result<(), String> {
        let Value::Tuple(parts) = self.pop()? else { return Err("a persistent id that is no tuple".to_string()) };
        let [Value::Text(kind), Value::Known(Known::StorageType(element)), Value::Text(key), rest @ ..] =
            self.heap.get(parts)
        else {
            return Err("a persistent id that is no storage".to_string());
        };
        if &**kind != "storage" {
            return Err(format!("a persistent id of kind {kind}"));
        }
        let part = rest.get(2).map_or(Ok(None), |part| storage_part(&self.heap, part))?;
        let storage = Storage { key: key.to_string(), element: *element, part };
        self.stack.push(Value::Storage(Rc::new(storage)));
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let end = self.place.checked_add(count).ok_or_else(truncated)?;
        let bytes = self.bytes.get(self.place..end).ok_or_else(truncated)?;
        self.place = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| truncated())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.place..).unwrap_or_default();
        let count = rest.iter().position(|byte| *byte == b'\n').ok_or_else(truncated)?;
        let line = String::from_utf8_lossy(self.take(count)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(underflow)
    }

    fn top(&self) -> Result<Value, String> {
        self.stack.last().cloned().ok_or_else(underflow)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.marks.pop().ok_or_else(underflow)?;
        if mark > self.stack.len() {
            return Err(underflow());
        }
        Ok(self.stack.split_off(mark))
    }
}

/// A little-endian two's complement number; one that does not fit is not looked at anyway.
fn long(bytes: &[u8]) -> i64 {
    let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
    let mut wide = [sign; 8];
    wide.iter_mut().zip(bytes).for_each(|(wide, byte)| *wide = *byte);
    i64::from_le_bytes(wide)
}

/// Instructions that are refused, as Python names them.
const REFUSED: &[(u8, &str)] = &[
    (b'P', "PERSID"),
    (b'o', "OBJ"),
    (b'i', "INST"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

fn unknown(instruction: u8) -> String {
    let name = REFUSED.iter().find(|(known, _)| *known == instruction).map_or("", |(_, name)| name);
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    format!("a pickle instruction{name} ({instruction:#04x}) that checkpoints do not have")
}

fn underflow() -> String {
    "a pickle that takes more than it has".to_string()
}

fn truncated() -> String {
    "a pickle that breaks off".to_string()
}
