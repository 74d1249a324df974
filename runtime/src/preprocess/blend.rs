//! The pass from bytes to planes, a block of target rows at a time, one row a lane.
//!
//! Rows are blended first (every value of a source row alike), turned so that the block's rows lie side by side, and then
//! columns are blended for all rows of the block at once: weights are loaded once a block, and nothing is gathered.

use super::axis::{Axis, Span};
#[cfg(target_arch = "x86_64")]
use super::lanes::{Avx2, Avx512};
use super::lanes::{Lanes, Portable, Tile};

/// Values of a row that are blended before they are turned: what sixteen rows of it take stays in the first cache.
const STRIP: usize = 192;
/// Rows that are blended in one go.
const MAX_TAPS: usize = 6;
/// Most lanes of any kind.
const MAX_LANES: usize = 16;

/// What to do with each row and column.
pub(super) struct Pass<'a> {
    pub(super) rows: &'a Axis,
    pub(super) columns: &'a Axis,
    /// `value * scale + shift` by the frame's channel is `(value / 255 - mean) / std`.
    pub(super) scale: [f32; 3],
    pub(super) shift: [f32; 3],
    /// Target width in pixels.
    pub(super) width: usize,
}

/// Interleaved pixels of three bytes.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
    /// Pixels.
    pub(super) width: usize,
    /// The block's first target row.
    pub(super) first_row: usize,
}

/// What a pass works in; made once a frame size.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// Blended strips of the block's rows.
    strips: Vec<f32>,
    /// The block's blended rows, side by side: value `v` of row `r` at `v * lanes + r`.
    turned: Vec<f32>,
    /// One square of finished pixels a channel.
    finished: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(source_width: usize) -> Self {
        Self {
            strips: vec![0.0; MAX_LANES * STRIP],
            turned: vec![0.0; MAX_LANES * (3 * source_width).next_multiple_of(STRIP)],
            finished: vec![0.0; 3 * MAX_LANES * MAX_LANES],
        }
    }
}

/// The vector instructions to use. The values are the same with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// What the target always has (NEON on aarch64, SSE2 on x86-64).
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    pub(super) fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::Baseline)
    }

    /// What this machine has, the best last.
    pub(super) fn available() -> Vec<Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "others have but one"))]
        let mut found = vec![Self::Baseline];
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let has_avx2 = has!("avx2") && has!("fma");
            found.extend(has_avx2.then_some(Self::Avx2));
            found.extend((has_avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl")).then_some(Self::Avx512));
        }
        found
    }

    /// Target rows in a block.
    pub(super) fn num_rows(self) -> usize {
        match self {
            Self::Baseline => Portable::COUNT,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::COUNT,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::COUNT,
        }
    }

    /// Fills the target rows from the source's first row on, [`Instructions::num_rows`] of them or what is left; planes in the frame's channel
    /// order.
    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were detected on this machine"))]
    pub(super) fn block(self, pass: &Pass<'_>, source: Source<'_>, buffers: Buffers<'_, '_>) {
        match self {
            Self::Baseline => block::<Portable>(pass, source, buffers),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `detect` found AVX2 and FMA.
            Self::Avx2 => unsafe { block_avx2(pass, source, buffers) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `detect` found AVX-512.
            Self::Avx512 => unsafe { block_avx512(pass, source, buffers) },
        }
    }
}

/// What a block works in and what it fills.
pub(super) struct Buffers<'a, 'b> {
    pub(super) scratch: &'a mut Scratch,
    pub(super) planes: &'a mut [&'b mut [f32]; 3],
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn block_avx2(pass: &Pass<'_>, source: Source<'_>, buffers: Buffers<'_, '_>) {
    block::<Avx2>(pass, source, buffers);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn block_avx512(pass: &Pass<'_>, source: Source<'_>, buffers: Buffers<'_, '_>) {
    block::<Avx512>(pass, source, buffers);
}

#[inline(always)]
fn block<L: Lanes>(pass: &Pass<'_>, source: Source<'_>, buffers: Buffers<'_, '_>) {
    let first_row = source.first_row;
    let spans = pass.rows.spans().get(first_row..).unwrap_or_default();
    let num_rows = spans.len().min(L::COUNT);
    let Some(last) = spans.get(num_rows.saturating_sub(1)) else { return };
    let num_values = 3 * source.width;
    let Scratch { strips, turned, finished } = buffers.scratch;
    for strip_start in (0..num_values).step_by(STRIP) {
        let num_strip = STRIP.min(num_values - strip_start);
        for (lane, strip) in strips.chunks_exact_mut(STRIP).take(L::COUNT).enumerate() {
            // Lanes beyond the image repeat its last row and are not stored.
            let span = spans.get(lane).unwrap_or(last);
            let bytes = source.bytes.get(span.start * num_values + strip_start..).unwrap_or_default();
            let rows = Rows { bytes, stride: num_values };
            blend_rows::<L>(rows, pass.rows.weights_of(span), strip.get_mut(..num_strip).unwrap_or_default());
        }
        for tile_start in (0..num_strip).step_by(L::COUNT) {
            let from = Tile { values: strips.get(tile_start..).unwrap_or_default(), stride: STRIP };
            let to = turned.get_mut((strip_start + tile_start) * L::COUNT..).unwrap_or_default();
            L::transpose(from, Tile { values: to, stride: L::COUNT });
        }
    }
    for (group_idx, columns) in pass.columns.spans().chunks(L::COUNT).enumerate() {
        blend_columns::<L>(pass, turned, columns, finished);
        let at = first_row * pass.width + group_idx * L::COUNT;
        for (plane, tile) in buffers.planes.iter_mut().zip(finished.chunks_exact(L::COUNT * L::COUNT)) {
            let target = plane.get_mut(at..).unwrap_or_default();
            if num_rows == L::COUNT && columns.len() == L::COUNT {
                let from = Tile { values: tile, stride: L::COUNT };
                L::transpose(from, Tile { values: target, stride: pass.width });
            } else {
                for (row_idx, row) in target.chunks_mut(pass.width).take(num_rows).enumerate() {
                    let pixels = tile.iter().skip(row_idx).step_by(L::COUNT);
                    row.iter_mut().zip(pixels).take(columns.len()).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }
}

/// Source rows one below the other.
#[derive(Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    stride: usize,
}

/// `strip[i] = sum over taps of weight * row[i]`, in tap order.
#[inline(always)]
fn blend_rows<L: Lanes>(rows: Rows<'_>, weights: &[f32], strip: &mut [f32]) {
    let mut rows = rows;
    for (pass_idx, weights) in weights.chunks(MAX_TAPS).enumerate() {
        let is_first = pass_idx == 0;
        match weights.len() {
            1 => blend_taps::<L, 1>(rows, weights, (strip, is_first)),
            2 => blend_taps::<L, 2>(rows, weights, (strip, is_first)),
            3 => blend_taps::<L, 3>(rows, weights, (strip, is_first)),
            4 => blend_taps::<L, 4>(rows, weights, (strip, is_first)),
            5 => blend_taps::<L, 5>(rows, weights, (strip, is_first)),
            _ => blend_taps::<L, MAX_TAPS>(rows, weights, (strip, is_first)),
        }
        rows.bytes = rows.bytes.get(weights.len() * rows.stride..).unwrap_or_default();
    }
}

/// `strip[i] += sum over taps of weight * row[i]`; from 0 when it is the first.
#[inline(always)]
fn blend_taps<L: Lanes, const TAPS: usize>(rows: Rows<'_>, weights: &[f32], (strip, is_first): (&mut [f32], bool)) {
    let num_values = strip.len();
    let Some(weights) = weights.first_chunk::<TAPS>() else { return };
    let mut taps = [&[][..]; TAPS];
    for (tap_idx, tap) in taps.iter_mut().enumerate() {
        *tap = rows.bytes.get(tap_idx * rows.stride..).and_then(|row| row.get(..num_values)).unwrap_or_default();
    }
    if taps.iter().any(|tap| tap.len() != num_values) {
        return;
    }
    let splats = weights.map(L::splat);
    let mut start = 0;
    while start + L::COUNT <= num_values {
        let mut sum = if is_first { L::splat(0.0) } else { L::load(&strip[start..]) };
        for (tap, weight) in taps.iter().zip(splats) {
            sum = weight.mul_add(L::from_bytes(&tap[start..start + L::COUNT]), sum);
        }
        sum.store(&mut strip[start..start + L::COUNT]);
        start += L::COUNT;
    }
    for (offset, value) in strip.iter_mut().enumerate().skip(start) {
        let mut sum = if is_first { 0.0 } else { *value };
        for (tap, weight) in taps.iter().zip(weights) {
            sum = weight.mul_add(f32::from(tap[offset]), sum);
        }
        *value = sum;
    }
}

/// Each pixel of every row of the block: `sum over taps of weight * pixel`, normalised; pixel `p` of channel `c` and row `r` at
/// `(c * lanes + p) * lanes + r`.
#[inline(always)]
fn blend_columns<L: Lanes>(pass: &Pass<'_>, turned: &[f32], columns: &[Span], finished: &mut [f32]) {
    let (scale, shift) = (pass.scale.map(L::splat), pass.shift.map(L::splat));
    for (pixel_idx, span) in columns.iter().enumerate() {
        let weights = pass.columns.weights_of(span);
        let pixels = turned.get(3 * span.start * L::COUNT..3 * span.end() * L::COUNT).unwrap_or_default();
        let mut sums = [L::splat(0.0); 3];
        for (weight, pixel) in weights.iter().zip(pixels.chunks_exact(3 * L::COUNT)) {
            let weight = L::splat(*weight);
            for (channel, sum) in sums.iter_mut().enumerate() {
                *sum = weight.mul_add(L::load(&pixel[channel * L::COUNT..(channel + 1) * L::COUNT]), *sum);
            }
        }
        for (channel, sum) in sums.into_iter().enumerate() {
            let at = (channel * L::COUNT + pixel_idx) * L::COUNT;
            sum.mul_add(scale[channel], shift[channel]).store(finished.get_mut(at..).unwrap_or_default());
        }
    }
}
