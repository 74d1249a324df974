//! The two containers of `torch.save`: a zip of stored files, and the older sequence of pickles and raw storages.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{Pickle, read_pickle};
use super::values::{ElementType, Storage, Value};

/// Storages with other keys than these are not there.
pub(super) struct Archive<'a> {
    bytes: &'a [u8],
    /// What was saved.
    pub(super) pickle: Pickle,
    storages: HashMap<String, Range<usize>>,
}

/// First pickle of the older container.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

impl<'a> Archive<'a> {
    /// # Errors
    /// What is wrong, in one line.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.starts_with(b"PK\x03\x04") { Self::read_zip(bytes) } else { Self::read_legacy(bytes) }
    }

    /// The bytes of a storage; nothing when they, or the part that it is of them, are not there.
    pub(super) fn storage(&self, storage: &Storage) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.storages.get(&storage.key)?.clone())?;
        let Some([first, count]) = storage.part else { return Some(bytes) };
        let size = storage.element.num_bytes();
        bytes.get(first.checked_mul(size)?..first.checked_add(count)?.checked_mul(size)?)
    }

    fn read_zip(bytes: &'a [u8]) -> Result<Self, String> {
        let mut files = zip_files(bytes)?;
        let name = files.keys().find(|name| name.ends_with("/data.pkl") || *name == "data.pkl").cloned();
        let name = name.ok_or("the zip holds no data.pkl; is it a checkpoint of torch.save?")?;
        let pickle = files.get(&name).and_then(|range| bytes.get(range.clone())).unwrap_or_default();
        let pickle = read_pickle(pickle)?;
        let folder = format!("{}data/", name.trim_end_matches("data.pkl"));
        let storages = files.drain().filter_map(|(name, range)| Some((name.strip_prefix(&folder)?.to_string(), range)));
        Ok(Self { bytes, pickle, storages: storages.collect() })
    }

    /// Magic number, protocol version, system, the object, the storages' keys, then each storage: its length in elements, its numbers.
    fn read_legacy(bytes: &'a [u8]) -> Result<Self, String> {
        let is_magic = bytes.get(..16).unwrap_or_default().windows(MAGIC.len()).any(|window| window == MAGIC);
        if bytes.get(257..262) == Some(b"ustar") {
            let fix = "load it with torch.load and save it with torch.save in any torch from 0.4 on";
            return Err(format!("it is a tar file, as torch 0.1 saved; {fix}"));
        }
        if !is_magic {
            return Err("it is neither a zip nor an older file of torch.save".to_string());
        }
        let mut place = 0;
        let next = |place: &mut usize| {
            let pickle = read_pickle(bytes.get(*place..).unwrap_or_default())?;
            *place += pickle.num_bytes;
            Ok::<Pickle, String>(pickle)
        };
        for _ in 0..3 {
            next(&mut place)?;
        }
        let pickle = next(&mut place)?;
        let keys = next(&mut place)?;
        let Value::List(list) = keys.root else { return Err("it has no list of storages".to_string()) };
        let elements = element_types(&pickle);
        let mut storages = HashMap::new();
        for key in keys.heap.get(list) {
            let Value::Text(key) = key else { return Err("a storage's key is no text".to_string()) };
            let length =
                bytes.get(place..).and_then(|rest| rest.first_chunk::<8>()).ok_or("it breaks off in a storage")?;
            let num_elements =
                usize::try_from(i64::from_le_bytes(*length)).map_err(|_| "a storage of negative length")?;
            let element = elements.get(&**key).copied().unwrap_or(ElementType::F32);
            let start = place + 8;
            let end = num_elements.checked_mul(element.num_bytes()).and_then(|count| start.checked_add(count));
            let end = end.filter(|end| *end <= bytes.len()).ok_or("it breaks off in a storage")?;
            storages.insert(key.to_string(), start..end);
            place = end;
        }
        Ok(Self { bytes, pickle, storages })
    }
}

/// The element types of all storages that a pickle names: those of tensors are among the arguments that make them.
fn element_types(pickle: &Pickle) -> HashMap<&str, ElementType> {
    let storages = pickle.heap.values().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.as_str(), storage.element)),
        _ => None,
    });
    storages.collect()
}

/// Name and place of every file in a zip, from its central directory; only stored files are taken, as `torch.save` writes them.
fn zip_files(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, String> {
    let broken = || "its zip directory is broken; was it copied whole?".to_string();
    let tail = bytes.len().saturating_sub(66_000);
    let end = bytes.get(tail..).unwrap_or_default().windows(4).rposition(|window| window == b"PK\x05\x06");
    let end = tail + end.ok_or_else(broken)?;
    let mut num_files = u64::from(u16_at(bytes, end + 10).ok_or_else(broken)?);
    let mut place = u64::from(u32_at(bytes, end + 16).ok_or_else(broken)?);
    if num_files == 0xffff || place == 0xffff_ffff {
        let locator =
            end.checked_sub(20).filter(|at| bytes.get(*at..*at + 4) == Some(b"PK\x06\x07")).ok_or_else(broken)?;
        let end64 = u64_at(bytes, locator + 8).and_then(|at| usize::try_from(at).ok()).ok_or_else(broken)?;
        num_files = u64_at(bytes, end64.saturating_add(32)).ok_or_else(broken)?;
        place = u64_at(bytes, end64.saturating_add(48)).ok_or_else(broken)?;
    }
    let mut files = HashMap::new();
    let mut place = usize::try_from(place).map_err(|_| broken())?;
    for _ in 0..num_files {
        let entry = bytes.get(place..).filter(|entry| entry.starts_with(b"PK\x01\x02")).ok_or_else(broken)?;
        let [name_len, extra_len, comment_len] =
            [28, 30, 32].map(|at| usize::from(u16_at(entry, at).unwrap_or_default()));
        let name = String::from_utf8_lossy(entry.get(46..46 + name_len).ok_or_else(broken)?).into_owned();
        if u16_at(entry, 10) != Some(0) {
            return Err(format!("its file {name} is compressed, which torch.save never does"));
        }
        let extra = entry.get(46 + name_len..46 + name_len + extra_len).ok_or_else(broken)?;
        let [size, header] = sizes_of(entry, extra).ok_or_else(broken)?;
        let header_lens = [26, 28].map(|at| u16_at(bytes, header.saturating_add(at)).map(usize::from));
        let [Some(local_name_len), Some(local_extra_len)] = header_lens else { return Err(broken()) };
        let start = header + 30 + local_name_len + local_extra_len;
        let end = start.checked_add(size).filter(|end| *end <= bytes.len()).ok_or_else(broken)?;
        files.insert(name, start..end);
        place += 46 + name_len + extra_len + comment_len;
    }
    Ok(files)
}

/// Size and place of the local header, from the zip64 extra field where the plain ones are full.
fn sizes_of(entry: &[u8], extra: &[u8]) -> Option<[usize; 2]> {
    let [mut size, full_size, mut header] = [u32_at(entry, 24)?, u32_at(entry, 20)?, u32_at(entry, 42)?].map(u64::from);
    let mut rest = extra;
    while let (Some(kind), Some(count)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let field = rest.get(4..4 + usize::from(count))?;
        if kind == 1 {
            let mut at = 0;
            for value in [&mut size, &mut { full_size }, &mut header] {
                if *value == 0xffff_ffff {
                    *value = u64_at(field, at)?;
                    at += 8;
                }
            }
        }
        rest = rest.get(4 + usize::from(count)..)?;
    }
    Some([usize::try_from(size).ok()?, usize::try_from(header).ok()?])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
