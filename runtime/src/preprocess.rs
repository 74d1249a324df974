//! From a camera image to the encoder's input: resize with antialias, normalise, planar. The one implementation, for
//! training, simulation and robot.
//!
//! Semantics: the triangle kernel of `torch.nn.functional.interpolate(mode="bilinear", antialias=True,
//! align_corners=False)` on float pixels (Pillow's `BILINEAR` without its rounding to whole grey levels), then
//! `(value / 255 - mean) / std`. Rows are blended first, then columns, each sum in tap order with fused multiply-add, so
//! that every machine gives the same bits.

use foresee_firmware_config::PixelEncoding;

use crate::card::{PreprocessingCard, Resize};
use crate::encoder::EncoderInput;
use crate::error::RuntimeError;
use crate::frame::Frame;

/// Largest side of a camera image in pixels.
pub(crate) const MAX_FRAME_PIXELS: u32 = 16_384;

/// Turns frames into encoder inputs. Weight tables and the row buffer are built for the first frame's size and again only
/// when that size changes; otherwise nothing is allocated.
#[derive(Clone, Debug)]
pub struct Preprocessor {
    card: PreprocessingCard,
    instructions: Instructions,
    /// The frame size (width, height in pixels) that the tables are for.
    frame_size: (u32, u32),
    rows: Axis,
    columns: Axis,
    /// One blended row, interleaved, and one value more: the last pixel is read four lanes wide.
    blended: Vec<f32>,
}

impl Preprocessor {
    /// A preprocessor for what the card says.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when the card's size, mean or std cannot be used.
    pub fn new(card: &PreprocessingCard) -> Result<Self, RuntimeError> {
        card.check().map_err(RuntimeError::Frame)?;
        let Resize::BilinearAntialias = card.resize;
        Ok(Self {
            card: card.clone(),
            instructions: Instructions::detect(),
            frame_size: (0, 0),
            rows: Axis::default(),
            columns: Axis::default(),
            blended: Vec::new(),
        })
    }

    /// What it does.
    pub fn card(&self) -> &PreprocessingCard {
        &self.card
    }

    /// `frame` -> `input` `[1, 3, H, W]`, planes red, green, blue whatever the frame's channel order.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when the frame's bytes do not fit its size, or the lent input is not of the card's size.
    pub fn run(&mut self, frame: &Frame, input: &mut EncoderInput) -> Result<(), RuntimeError> {
        let PreprocessingCard { width, height, .. } = self.card;
        if (input.width, input.height) != (width, height) || input.data.len() != 3 * width * height {
            let (given_width, given_height) = (input.width, input.height);
            return Err(RuntimeError::Frame(format!(
                "the lent input is {given_width}x{given_height}, the model's card says {width}x{height}"
            )));
        }
        check_frame(frame)?;
        if self.frame_size != (frame.width, frame.height) {
            self.rows = Axis::new(frame.height as usize, height);
            self.columns = Axis::new(frame.width as usize, width).padded(frame.width as usize);
            self.blended = vec![0.0; 3 * frame.width as usize + 1];
            self.frame_size = (frame.width, frame.height);
        }
        let pass = ColumnPass::new(&self.columns, &self.card, frame.encoding);
        let bytes_per_row = 3 * frame.width as usize;
        let (red, rest) = input.data.split_at_mut(width * height);
        let (green, blue) = rest.split_at_mut(width * height);
        let planes = red.chunks_exact_mut(width).zip(green.chunks_exact_mut(width)).zip(blue.chunks_exact_mut(width));
        for (span, ((red, green), blue)) in self.rows.spans.iter().zip(planes) {
            let bytes = frame.data.get(span.start * bytes_per_row..).unwrap_or_default();
            let weights = self.rows.weights_of(span);
            self.instructions.blend_rows(bytes, weights, &mut self.blended);
            self.instructions.blend_columns(&pass, &self.blended, pass.order(red, green, blue));
        }
        Ok(())
    }
}

fn check_frame(frame: &Frame) -> Result<(), RuntimeError> {
    let Frame { width, height, .. } = *frame;
    if !(1..=MAX_FRAME_PIXELS).contains(&width) || !(1..=MAX_FRAME_PIXELS).contains(&height) {
        return Err(RuntimeError::Frame(format!("{width}x{height} must lie within 1..={MAX_FRAME_PIXELS} pixels")));
    }
    if frame.data.len() != frame.num_bytes() {
        let (given, wanted) = (frame.data.len(), frame.num_bytes());
        return Err(RuntimeError::Frame(format!("{width}x{height} in 3 channels needs {wanted} bytes, not {given}")));
    }
    Ok(())
}

/// Numbers of taps for which [`blend_columns`] has a loop of its own.
const UNROLLED_TAPS: [usize; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16];

/// Which source values make each target value along one axis, and how much of each.
#[derive(Clone, Debug, Default)]
struct Axis {
    spans: Vec<Span>,
    weights: Vec<f32>,
    /// The most taps that a target has.
    widest: usize,
}

/// The taps of one target value.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// First source index.
    start: usize,
    /// Where the weights lie in [`Axis::weights`].
    weights_start: usize,
    num_taps: usize,
}

impl Axis {
    /// The widened triangle kernel, as ATen's `_compute_indices_weights_aa`; taps of weight zero are left out.
    fn new(num_source: usize, num_target: usize) -> Self {
        let scale = num_source as f64 / num_target as f64;
        let support = scale.max(1.0);
        let mut axis = Self { spans: Vec::with_capacity(num_target), weights: Vec::new(), widest: 0 };
        for target in 0..num_target {
            let centre = scale * (target as f64 + 0.5);
            // Negative floats become 0: the kernel is cut at the edge.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(num_source);
            let weight_of = |source: usize| (1.0 - ((source as f64 - centre + 0.5) / support).abs()).max(0.0);
            let total: f64 = (first..end).map(weight_of).sum();
            let start = (first..end).find(|source| weight_of(*source) > 0.0).unwrap_or(first);
            let weights_start = axis.weights.len();
            axis.weights.extend(
                (start..end).map(weight_of).take_while(|weight| *weight > 0.0).map(|weight| (weight / total) as f32),
            );
            let num_taps = axis.weights.len() - weights_start;
            axis.widest = axis.widest.max(num_taps);
            axis.spans.push(Span { start, weights_start, num_taps });
        }
        axis
    }

    /// The same with as many taps for every target; the added ones weigh nothing.
    fn padded(&self, num_source: usize) -> Self {
        let unrolled = UNROLLED_TAPS.into_iter().find(|num_taps| *num_taps >= self.widest && *num_taps <= num_source);
        let widest = unrolled.unwrap_or(self.widest);
        let mut padded = Self { widest, ..Self::default() };
        for span in &self.spans {
            let start = span.start.min(num_source.saturating_sub(widest));
            let weights_start = padded.weights.len();
            padded.weights.resize(weights_start + span.start - start, 0.0);
            padded.weights.extend_from_slice(self.weights_of(span));
            padded.weights.resize(weights_start + widest, 0.0);
            padded.spans.push(Span { start, weights_start, num_taps: widest });
        }
        padded
    }

    fn weights_of(&self, span: &Span) -> &[f32] {
        self.weights.get(span.weights_start..span.weights_start + span.num_taps).unwrap_or_default()
    }
}

/// Blends columns and normalises: `value * scale + shift` per channel in the frame's channel order is
/// `(value / 255 - mean) / std`.
struct ColumnPass<'a> {
    columns: &'a Axis,
    scale: [f32; 4],
    shift: [f32; 4],
    encoding: PixelEncoding,
}

impl<'a> ColumnPass<'a> {
    fn new(columns: &'a Axis, card: &PreprocessingCard, encoding: PixelEncoding) -> Self {
        let [mean, std] = [card.mean, card.std].map(|[red, green, blue]| match encoding {
            PixelEncoding::Rgb8 => [red, green, blue, 1.0],
            PixelEncoding::Bgr8 => [blue, green, red, 1.0],
        });
        let scale = std.map(|std| (1.0 / (255.0 * f64::from(std))) as f32);
        let mut shift = mean;
        for (shift, std) in shift.iter_mut().zip(std) {
            *shift = -(f64::from(*shift) / f64::from(std)) as f32;
        }
        Self { columns, scale, shift, encoding }
    }

    /// The target rows in the frame's channel order.
    fn order<'b>(&self, red: &'b mut [f32], green: &'b mut [f32], blue: &'b mut [f32]) -> [&'b mut [f32]; 3] {
        match self.encoding {
            PixelEncoding::Rgb8 => [red, green, blue],
            PixelEncoding::Bgr8 => [blue, green, red],
        }
    }
}

/// The vector instructions to use. The values are the same with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    /// What the target always has (NEON on aarch64, SSE2 on x86-64).
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Instructions {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let has_avx2 = has!("avx2") && has!("fma");
            if has_avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512vl") {
                return Self::Avx512;
            }
            if has_avx2 {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }

    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were detected on this machine"))]
    fn blend_rows(self, bytes: &[u8], weights: &[f32], blended: &mut [f32]) {
        match self {
            Self::Baseline => blend_rows(bytes, weights, blended),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { blend_rows_avx2(bytes, weights, blended) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { blend_rows_avx512(bytes, weights, blended) },
        }
    }

    #[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were detected on this machine"))]
    fn blend_columns(self, pass: &ColumnPass<'_>, blended: &[f32], targets: [&mut [f32]; 3]) {
        match self {
            Self::Baseline => blend_columns(pass, blended, targets),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::Avx512 => unsafe { blend_columns_avx2(pass, blended, targets) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn blend_rows_avx2(bytes: &[u8], weights: &[f32], blended: &mut [f32]) {
    blend_rows(bytes, weights, blended);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
fn blend_rows_avx512(bytes: &[u8], weights: &[f32], blended: &mut [f32]) {
    blend_rows(bytes, weights, blended);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn blend_columns_avx2(pass: &ColumnPass<'_>, blended: &[f32], targets: [&mut [f32]; 3]) {
    blend_columns(pass, blended, targets);
}

/// `blended[i] = sum over taps of weight * row[i]`, at most six rows a pass.
#[inline(always)]
fn blend_rows(bytes: &[u8], weights: &[f32], blended: &mut [f32]) {
    let Some((_, blended)) = blended.split_last_mut() else { return };
    let (mut bytes, mut weights) = (bytes, weights);
    blended.fill(0.0);
    while !weights.is_empty() {
        let num_taps = weights.len().min(6);
        let (now, later) = weights.split_at(num_taps);
        match num_taps {
            1 => blend_taps::<1>(bytes, now, blended),
            2 => blend_taps::<2>(bytes, now, blended),
            3 => blend_taps::<3>(bytes, now, blended),
            4 => blend_taps::<4>(bytes, now, blended),
            5 => blend_taps::<5>(bytes, now, blended),
            _ => blend_taps::<6>(bytes, now, blended),
        }
        weights = later;
        bytes = bytes.get(num_taps * blended.len()..).unwrap_or_default();
    }
}

/// `blended[i] += sum over taps of weight * row[i]`.
#[inline(always)]
fn blend_taps<const TAPS: usize>(bytes: &[u8], weights: &[f32], blended: &mut [f32]) {
    let num_values = blended.len();
    let Some(weights) = weights.first_chunk::<TAPS>() else { return };
    let mut rows = [&[][..]; TAPS];
    for (row, values) in rows.iter_mut().zip(bytes.chunks_exact(num_values)) {
        *row = values;
    }
    if rows.iter().any(|row| row.len() != num_values) {
        return;
    }
    for (value_idx, blended) in blended.iter_mut().enumerate() {
        for (row, weight) in rows.iter().zip(weights) {
            *blended = weight.mul_add(f32::from(row[value_idx]), *blended);
        }
    }
}

/// Each target pixel: `sum over taps of weight * pixel`, four lanes wide (three channels and one that is thrown away),
/// normalised, and spread over the planes.
#[inline(always)]
fn blend_columns(pass: &ColumnPass<'_>, blended: &[f32], targets: [&mut [f32]; 3]) {
    match pass.columns.widest {
        1 => blend_pixels::<1>(pass, blended, targets),
        2 => blend_pixels::<2>(pass, blended, targets),
        3 => blend_pixels::<3>(pass, blended, targets),
        4 => blend_pixels::<4>(pass, blended, targets),
        5 => blend_pixels::<5>(pass, blended, targets),
        6 => blend_pixels::<6>(pass, blended, targets),
        7 => blend_pixels::<7>(pass, blended, targets),
        8 => blend_pixels::<8>(pass, blended, targets),
        10 => blend_pixels::<10>(pass, blended, targets),
        12 => blend_pixels::<12>(pass, blended, targets),
        16 => blend_pixels::<16>(pass, blended, targets),
        _ => blend_pixels::<0>(pass, blended, targets),
    }
}

/// `TAPS` of every pixel; 0: as many as the axis has.
#[inline(always)]
fn blend_pixels<const TAPS: usize>(pass: &ColumnPass<'_>, blended: &[f32], targets: [&mut [f32]; 3]) {
    let num_taps = if TAPS == 0 { pass.columns.widest } else { TAPS };
    let [first, second, third] = targets;
    let pixel_of = |span: &Span, weights: &[f32]| {
        let mut sums = [0.0_f32; 4];
        let from = 3 * span.start;
        if let Some(pixels) = blended.get(from..from + 3 * num_taps + 1) {
            for tap in 0..num_taps {
                for lane in 0..4 {
                    sums[lane] = weights[tap].mul_add(pixels[3 * tap + lane], sums[lane]);
                }
            }
        }
        sums
    };
    let spans = pass.columns.spans.as_chunks::<4>();
    let weights = pass.columns.weights.chunks_exact(4 * num_taps);
    let rest = weights.remainder();
    let groups = first.chunks_exact_mut(4).zip(second.chunks_exact_mut(4)).zip(third.chunks_exact_mut(4));
    for ((spans, weights), ((first, second), third)) in spans.0.iter().zip(weights).zip(groups) {
        let mut pixels = [[0.0_f32; 4]; 4];
        for pixel in 0..4 {
            pixels[pixel] = pixel_of(&spans[pixel], &weights[pixel * num_taps..(pixel + 1) * num_taps]);
        }
        for pixel in 0..4 {
            first[pixel] = pixels[pixel][0].mul_add(pass.scale[0], pass.shift[0]);
            second[pixel] = pixels[pixel][1].mul_add(pass.scale[1], pass.shift[1]);
            third[pixel] = pixels[pixel][2].mul_add(pass.scale[2], pass.shift[2]);
        }
    }
    let done = 4 * spans.0.len();
    for ((pixel, span), weights) in spans.1.iter().enumerate().zip(rest.chunks_exact(num_taps)) {
        let sums = pixel_of(span, weights);
        first[done + pixel] = sums[0].mul_add(pass.scale[0], pass.shift[0]);
        second[done + pixel] = sums[1].mul_add(pass.scale[1], pass.shift[1]);
        third[done + pixel] = sums[2].mul_add(pass.scale[2], pass.shift[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Stamp;

    fn card(width: usize, height: usize) -> PreprocessingCard {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        PreprocessingCard { width, height, resize: Resize::BilinearAntialias, mean, std, hash: String::new() }
            .with_hash()
    }

    fn noise(width: u32, height: u32, encoding: PixelEncoding) -> Frame {
        let mut frame = Frame::black(width, height, encoding);
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for byte in &mut frame.data {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        frame
    }

    fn run(preprocessor: &mut Preprocessor, frame: &Frame) -> Vec<f32> {
        let mut input = EncoderInput::zeros(preprocessor.card.height, preprocessor.card.width);
        preprocessor.run(frame, &mut input).unwrap();
        input.data
    }

    /// The definition, in f64 and two dimensions at once.
    fn by_definition(frame: &Frame, card: &PreprocessingCard) -> Vec<f32> {
        let kernel = |source: usize, target: usize, scale: f64| {
            (1.0 - ((source as f64 + 0.5) / scale - (target as f64 + 0.5)).abs() * scale / scale.max(1.0)).max(0.0)
        };
        let (frame_width, frame_height) = (frame.width as usize, frame.height as usize);
        let (scale_x, scale_y) = (frame_width as f64 / card.width as f64, frame_height as f64 / card.height as f64);
        let mut values = Vec::new();
        for channel in 0..3 {
            let byte = if frame.encoding == PixelEncoding::Bgr8 { 2 - channel } else { channel };
            for y in 0..card.height {
                for x in 0..card.width {
                    let (mut sum, mut total) = (0.0, 0.0);
                    for v in 0..frame_height {
                        for u in 0..frame_width {
                            let weight = kernel(u, x, scale_x) * kernel(v, y, scale_y);
                            sum += weight * f64::from(frame.data[(v * frame_width + u) * 3 + byte]);
                            total += weight;
                        }
                    }
                    let unit = sum / total / 255.0;
                    values.push(((unit - f64::from(card.mean[channel])) / f64::from(card.std[channel])) as f32);
                }
            }
        }
        values
    }

    fn check((source_width, source_height): (u32, u32), (width, height): (usize, usize), encoding: PixelEncoding) {
        let frame = noise(source_width, source_height, encoding);
        let card = card(width, height);
        let mut preprocessor = Preprocessor::new(&card).unwrap();
        let values = run(&mut preprocessor, &frame);
        let expected = by_definition(&frame, &card);
        let worst = values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "{source_width}x{source_height} -> {width}x{height}: off by {worst}");
        preprocessor.instructions = Instructions::Baseline;
        assert_eq!(values, run(&mut preprocessor, &frame), "vector instructions change no bit");
    }

    #[test]
    fn every_size_follows_the_definition() {
        use PixelEncoding::{Bgr8, Rgb8};
        check((16, 16), (8, 8), Rgb8);
        check((16, 16), (8, 8), Bgr8);
        check((13, 29), (7, 5), Rgb8);
        check((8, 6), (8, 6), Bgr8);
        check((3, 5), (11, 9), Rgb8);
        check((1, 1), (4, 4), Rgb8);
        check((40, 1), (1, 3), Bgr8);
        check((64, 48), (5, 3), Rgb8);
    }

    /// Pillow 12: `Image.fromarray(np.arange(8, dtype="f4")[None]).resize((3, 1), Image.BILINEAR)`.
    #[test]
    fn the_kernel_is_pillows() {
        let axis = Axis::new(8, 3);
        let blend = |span: &Span| -> f32 {
            (span.start..).zip(axis.weights_of(span)).map(|(source, weight)| source as f32 * weight).sum()
        };
        let values: Vec<f32> = axis.spans.iter().map(blend).collect();
        for (value, expected) in values.iter().zip([1.105_263_2_f32, 3.5, 5.894_737]) {
            assert!((value - expected).abs() < 1e-6, "{values:?}");
        }
    }

    #[test]
    fn a_change_of_frame_size_is_taken_up() {
        let mut preprocessor = Preprocessor::new(&card(6, 6)).unwrap();
        for (width, height) in [(12, 12), (30, 9), (12, 12)] {
            let frame = noise(width, height, PixelEncoding::Rgb8);
            let fresh = run(&mut Preprocessor::new(&card(6, 6)).unwrap(), &frame);
            assert_eq!(run(&mut preprocessor, &frame), fresh);
        }
    }

    #[test]
    fn a_wrong_frame_is_a_named_error() {
        let mut preprocessor = Preprocessor::new(&card(4, 4)).unwrap();
        let mut input = EncoderInput::zeros(4, 4);
        let mut check = |frame: Frame, expected: &str| {
            let message = preprocessor.run(&frame, &mut input).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        let black = Frame::black(8, 8, PixelEncoding::Rgb8);
        check(Frame { data: vec![0; 191], ..black.clone() }, "needs 192 bytes, not 191");
        check(Frame { width: 0, data: Vec::new(), ..black.clone() }, "0x8");
        check(Frame { width: 20_000, ..black.clone() }, "20000x8 must lie within");
        let message = preprocessor.run(&black, &mut EncoderInput::zeros(4, 5)).unwrap_err().to_string();
        assert!(message.contains("5x4") && message.contains("4x4"), "{message}");
        assert_eq!(black.stamp, Stamp::default());
    }
}
