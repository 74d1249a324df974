//! One numeric array out of a MAT file of level 5 (MATLAB 5 to 7; MathWorks, "MAT-File Format", chapter 1): what JHMDB's joints are in.

use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::files::{read_limited, wrong};
use crate::error::ModelsError;

/// Largest file, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// Largest array when it is decompressed, in bytes.
const MAX_ARRAY_BYTES: u64 = 64 << 20;
const HEADER_BYTES: usize = 128;
const MI_MATRIX: u32 = 14;
const MI_COMPRESSED: u32 = 15;

/// A real array, columns first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Matrix {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<f64>,
}

/// The array of this name.
///
/// # Errors
/// [`ModelsError::Data`] saying what is not as the format has it, or which arrays there are.
pub(super) fn read_matrix(path: &Path, name: &str) -> Result<Matrix, ModelsError> {
    let bytes = read_limited(path, MAX_BYTES)?;
    find(&bytes, name).map_err(|problem| wrong(path, problem))
}

fn find(bytes: &[u8], name: &str) -> Result<Matrix, String> {
    let header = bytes.get(..HEADER_BYTES).ok_or("is no MAT file: it is shorter than its header")?;
    if header.starts_with(b"MATLAB 7.3") {
        return Err("is a MAT file of version 7.3 (HDF5); save it with -v7".to_string());
    }
    if header.get(124..) != Some(&[0x00, 0x01, b'I', b'M']) {
        return Err("is no little-endian MAT file of level 5".to_string());
    }
    let mut elements = Elements { bytes: bytes.get(HEADER_BYTES..).unwrap_or_default() };
    let mut seen = Vec::new();
    while let Some((kind, data)) = elements.next()? {
        let inflated;
        let matrix = match kind {
            MI_COMPRESSED => {
                inflated = inflate(data)?;
                let mut inner = Elements { bytes: &inflated };
                match inner.next()? {
                    Some((MI_MATRIX, data)) => data.to_vec(),
                    _ => continue,
                }
            }
            MI_MATRIX => data.to_vec(),
            _ => continue,
        };
        let mut parts = Elements { bytes: &matrix };
        let (Some(_), Some((_, dims)), Some((_, found))) = (parts.next()?, parts.next()?, parts.next()?) else {
            return Err("breaks off inside an array".to_string());
        };
        let found = String::from_utf8_lossy(found).into_owned();
        if found != name {
            seen.push(found);
            continue;
        }
        let shape: Vec<usize> =
            dims.as_chunks::<4>().0.iter().map(|size| i32::from_le_bytes(*size).max(0) as usize).collect();
        let (kind, data) = parts.next()?.ok_or_else(|| format!("has no values in {name}"))?;
        let values = numbers(kind, data).ok_or_else(|| format!("has values of type {kind} in {name}"))?;
        let wanted = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        if wanted != Some(values.len()) {
            return Err(format!("has {} values in {name}, which is {shape:?}", values.len()));
        }
        return Ok(Matrix { shape, values });
    }
    Err(format!("has no array {name}; it has {}", if seen.is_empty() { "none".to_string() } else { seen.join(", ") }))
}

/// Tagged elements, one after the other, each padded to 8 bytes unless it is small or compressed.
struct Elements<'a> {
    bytes: &'a [u8],
}

impl<'a> Elements<'a> {
    fn next(&mut self) -> Result<Option<(u32, &'a [u8])>, String> {
        let Some((tag, rest)) = self.bytes.split_at_checked(8) else { return Ok(None) };
        let word =
            |start: usize| tag.get(start..start + 4).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
        let (Some(first), Some(second)) = (word(0), word(4)) else { return Ok(None) };
        let small = (first >> 16) as usize;
        if small > 0 {
            self.bytes = rest;
            let data = tag.get(4..4 + small).ok_or("has a small element of more than 4 bytes")?;
            return Ok(Some((first & 0xffff, data)));
        }
        let size = second as usize;
        let data = rest.get(..size).ok_or_else(|| format!("breaks off: an element of {size} bytes is not whole"))?;
        let padded = if first == MI_COMPRESSED { size } else { size.next_multiple_of(8) };
        self.bytes = rest.get(padded..).unwrap_or_default();
        Ok(Some((first, data)))
    }
}

fn inflate(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = ZlibDecoder::new(data).take(MAX_ARRAY_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("has a compressed array that cannot be read ({error})"))?;
    if bytes.len() as u64 > MAX_ARRAY_BYTES {
        return Err(format!("has an array of more than the {MAX_ARRAY_BYTES} bytes that are read"));
    }
    Ok(bytes)
}

/// The numeric types of the format.
fn numbers(kind: u32, data: &[u8]) -> Option<Vec<f64>> {
    let twos = || data.as_chunks::<2>().0.iter();
    let fours = || data.as_chunks::<4>().0.iter();
    let eights = || data.as_chunks::<8>().0.iter();
    Some(match kind {
        1 => data.iter().map(|byte| f64::from(*byte as i8)).collect(),
        2 => data.iter().map(|byte| f64::from(*byte)).collect(),
        3 => twos().map(|bytes| f64::from(i16::from_le_bytes(*bytes))).collect(),
        4 => twos().map(|bytes| f64::from(u16::from_le_bytes(*bytes))).collect(),
        5 => fours().map(|bytes| f64::from(i32::from_le_bytes(*bytes))).collect(),
        6 => fours().map(|bytes| f64::from(u32::from_le_bytes(*bytes))).collect(),
        7 => fours().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect(),
        9 => eights().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
        _ => return None,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// A MAT file with one array of doubles, compressed as MATLAB 7 does it.
    pub(in crate::probe) fn mat_file(name: &str, shape: &[i32], values: &[f64]) -> Vec<u8> {
        let dims: Vec<u8> = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let parts =
            [element(6, &[6, 0, 0, 0, 0, 0, 0, 0]), element(5, &dims), element(1, name.as_bytes()), element(9, &data)];
        let matrix = element(MI_MATRIX, &parts.concat());
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&matrix).unwrap();
        let packed = encoder.finish().unwrap();
        let mut file = vec![b' '; 124];
        file.extend([0x00, 0x01, b'I', b'M']);
        file.extend(MI_COMPRESSED.to_le_bytes());
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
        file
    }

    #[test]
    fn a_compressed_array_is_read_and_damage_is_named() {
        let file = mat_file("pos_img", &[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        let matrix = find(&file, "pos_img").unwrap();
        assert_eq!((matrix.shape, matrix.values), (vec![2, 1, 2], vec![1.0, 2.0, 3.0, 4.0]));
        assert!(find(&file, "scale").unwrap_err().contains("pos_img"));
        assert!(find(&file[..file.len() - 9], "pos_img").is_err());
        assert!(find(&file[..100], "pos_img").unwrap_err().contains("header"));
        assert!(find(&mat_file("pos_img", &[2, 9, 2], &[1.0]), "pos_img").unwrap_err().contains("1 values"));
        for end in 0..file.len() {
            let _ = find(&file[..end], "pos_img");
        }
    }
}
