//! From a camera image to the encoder's input: crop, resize, normalise, planar, in one pass. The one implementation, for training,
//! simulation and robot.
//!
//! A camera whose calibration the profile gives can be straightened in the same pass (`lens.rs`).
//!
//! Semantics: the kernels of [`crate::card::Resize`] on float pixels, then `(value / 255 - mean) / std`. Rows are blended first,
//! then columns, each sum in tap order with fused multiply-add, so that every machine gives the same bits.

mod axis;
mod blend;
mod lanes;
mod lens;
mod pixels;

use foresee_firmware_config::{IntrinsicsProfile, PixelEncoding};

use self::axis::{Axis, Extent};
use self::blend::{Buffers, Instructions, Pass, Scratch, Source};
use self::lens::Lens;
use self::pixels::Converter;
use crate::card::{Crop, PreprocessingCard};
use crate::encoder::EncoderInput;
use crate::error::RuntimeError;
use crate::frame::Frame;

/// Largest side of a camera image in pixels.
pub(crate) const MAX_FRAME_PIXELS: u32 = 16_384;

/// Turns frames into encoder inputs. Weight tables and buffers are built for the first frame's size and again only when that size
/// changes; otherwise nothing is allocated (but by the decoder of JPEG frames).
#[derive(Clone, Debug)]
pub struct Preprocessor {
    card: PreprocessingCard,
    instructions: Instructions,
    /// The frame size (width, height in pixels) that the tables are for.
    frame_size: (u32, u32),
    rows: Axis,
    columns: Axis,
    scratch: Scratch,
    converter: Converter,
    lens: Option<Lens>,
}

impl Preprocessor {
    /// A preprocessor for what the card says.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when the card's size, mean or std cannot be used.
    pub fn new(card: &PreprocessingCard) -> Result<Self, RuntimeError> {
        card.check().map_err(RuntimeError::Frame)?;
        Ok(Self {
            card: card.clone(),
            instructions: Instructions::detect(),
            frame_size: (0, 0),
            rows: Axis::default(),
            columns: Axis::default(),
            scratch: Scratch::default(),
            converter: Converter::default(),
            lens: None,
        })
    }

    /// Straightens frames first, where the calibration asks for it: what the card says then happens to what OpenCV's
    /// `initUndistortRectifyMap` and `remap` (linear, black beyond the edge) would have made of the frame.
    #[must_use]
    pub fn with_intrinsics(mut self, intrinsics: Option<&IntrinsicsProfile>) -> Self {
        self.lens = intrinsics.and_then(Lens::of);
        self.frame_size = (0, 0);
        self
    }

    /// The calibration that frames are straightened by; `None`: they are taken as they come.
    pub fn straightens(&self) -> Option<&IntrinsicsProfile> {
        self.lens.as_ref().map(Lens::intrinsics)
    }

    /// What it does.
    pub fn card(&self) -> &PreprocessingCard {
        &self.card
    }

    /// `frame` -> `input` `[1, 3, H, W]`, planes red, green, blue whatever the frame's encoding.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when the frame's bytes do not fit its size or encoding, the card's crop lies outside it, or the lent
    /// input is not of the card's size, or the frame is not of the size that was calibrated.
    pub fn run(&mut self, frame: &Frame, input: &mut EncoderInput) -> Result<(), RuntimeError> {
        self.run_as(frame, input, 0)
    }

    /// The same, as image number `image_idx` of several.
    ///
    /// # Errors
    /// As [`Preprocessor::run`]; also when there is no such image in the lent input.
    pub fn run_as(&mut self, frame: &Frame, input: &mut EncoderInput, image_idx: usize) -> Result<(), RuntimeError> {
        let PreprocessingCard { width, height, .. } = self.card;
        let (given_width, given_height) = (input.width, input.height);
        let is_fitting = (given_width, given_height) == (width, height);
        let image = input.data.chunks_exact_mut(3 * width * height).nth(image_idx).filter(|_| is_fitting);
        let image = image.ok_or_else(|| {
            RuntimeError::Frame(format!(
                "the lent input is {given_width}x{given_height}, the model's card says {width}x{height}"
            ))
        })?;
        check_frame(frame)?;
        self.fit(frame)?;
        self.converter.begin(frame)?;
        let is_blue_first = frame.encoding == PixelEncoding::Bgr8;
        let (scale, shift) = normalisation(&self.card, is_blue_first);
        let pass = Pass { rows: &self.rows, columns: &self.columns, scale, shift, width };
        let (red, rest) = image.split_at_mut(width * height);
        let (green, blue) = rest.split_at_mut(width * height);
        let mut planes = if is_blue_first { [blue, green, red] } else { [red, green, blue] };
        let num_rows = self.instructions.num_rows();
        if let Some(lens) = &mut self.lens {
            lens.begin(self.rows.spans().first().map_or(0, |span| span.start));
        }
        for (block_idx, spans) in self.rows.spans().chunks(num_rows).enumerate() {
            let end = spans.iter().map(axis::Span::end).max().unwrap_or(0);
            let bytes = match &mut self.lens {
                None => self.converter.rows(frame, end),
                Some(lens) => lens.rows(self.converter.rows(frame, lens.needs(end)), end),
            };
            let source = Source { bytes, width: frame.width as usize, first_row: block_idx * num_rows };
            let buffers = Buffers { scratch: &mut self.scratch, planes: &mut planes };
            self.instructions.block(&pass, source, buffers);
        }
        Ok(())
    }

    /// Builds the tables for another frame size.
    fn fit(&mut self, frame: &Frame) -> Result<(), RuntimeError> {
        if self.frame_size == (frame.width, frame.height) {
            return Ok(());
        }
        let PreprocessingCard { width, height, resize, .. } = self.card;
        let [columns, rows] = extents(&self.card, (frame.width, frame.height)).map_err(RuntimeError::Frame)?;
        self.rows = Axis::new(rows, height, resize);
        self.columns = Axis::new(columns, width, resize);
        self.scratch = Scratch::new(frame.width as usize);
        if let Some(lens) = &mut self.lens {
            lens.fit((frame.width, frame.height)).map_err(RuntimeError::Frame)?;
        }
        self.frame_size = (frame.width, frame.height);
        Ok(())
    }
}

/// The whole frame as the pass sees it behind the lens: three bytes a pixel, blue first where it was so; `None` when the calibration
/// does not ask for straight frames.
///
/// # Errors
/// [`RuntimeError::Frame`] when the frame's bytes do not fit its size or encoding, or the size is not the one that was calibrated.
pub fn straighten(frame: &Frame, intrinsics: &IntrinsicsProfile) -> Result<Option<Frame>, RuntimeError> {
    let Some(mut lens) = Lens::of(intrinsics) else { return Ok(None) };
    check_frame(frame)?;
    lens.fit((frame.width, frame.height)).map_err(RuntimeError::Frame)?;
    let (mut converter, num_rows) = (Converter::default(), frame.height as usize);
    converter.begin(frame)?;
    let data = lens.rows(converter.rows(frame, num_rows), num_rows).to_vec();
    let encoding = if frame.encoding.is_interleaved_rgb() { frame.encoding } else { PixelEncoding::Rgb8 };
    Ok(Some(Frame { data, encoding, ..*frame }))
}

/// The frame in red, green, blue, whatever its encoding; decoded as for an encoder.
///
/// # Errors
/// [`RuntimeError::Frame`] when the frame's bytes do not fit its size or encoding.
pub fn to_rgb(frame: &Frame) -> Result<Frame, RuntimeError> {
    check_frame(frame)?;
    let mut converter = Converter::default();
    converter.begin(frame)?;
    let mut data = converter.rows(frame, frame.height as usize).to_vec();
    if frame.encoding == PixelEncoding::Bgr8 {
        data.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
    }
    Ok(Frame { data, encoding: PixelEncoding::Rgb8, ..*frame })
}

/// Columns and rows of the frame that the card's crop takes.
fn extents(card: &PreprocessingCard, (width, height): (u32, u32)) -> Result<[Extent; 2], String> {
    let [columns, rows] = [width, height].map(|size| size as usize);
    let extents = |[x, y, taken_width, taken_height]: [f64; 4]| {
        [
            Extent { num_source: columns, start: x, length: taken_width },
            Extent { num_source: rows, start: y, length: taken_height },
        ]
    };
    let [full_width, full_height] = [f64::from(width), f64::from(height)];
    match card.crop {
        None => Ok(extents([0.0, 0.0, full_width, full_height])),
        Some(Crop::Centre { fraction }) => {
            let aspect = card.width as f64 / card.height as f64;
            let taken_width = full_width.min(full_height * aspect) * f64::from(fraction);
            let taken_height = taken_width / aspect;
            Ok(extents([
                (full_width - taken_width) / 2.0,
                (full_height - taken_height) / 2.0,
                taken_width,
                taken_height,
            ]))
        }
        Some(Crop::Region { x, y, width: taken_width, height: taken_height }) => {
            let is_inside =
                |start: u32, length: u32, size: u32| start.checked_add(length).is_some_and(|end| end <= size);
            if !is_inside(x, taken_width, width) || !is_inside(y, taken_height, height) {
                return Err(format!(
                    "the card's crop {taken_width}x{taken_height} at ({x}, {y}) reaches beyond the frame of {width}x{height}; use the camera that the card was made for, or make the card again"
                ));
            }
            Ok(extents([x, y, taken_width, taken_height].map(f64::from)))
        }
    }
}

/// `value * scale + shift` in the frame's channel order is `(value / 255 - mean) / std`.
fn normalisation(card: &PreprocessingCard, is_blue_first: bool) -> ([f32; 3], [f32; 3]) {
    let [mean, std] = [card.mean, card.std]
        .map(|[red, green, blue]| if is_blue_first { [blue, green, red] } else { [red, green, blue] });
    let scale = std.map(|std| (1.0 / (255.0 * f64::from(std))) as f32);
    let mut shift = mean;
    for (shift, std) in shift.iter_mut().zip(std) {
        *shift = -(f64::from(*shift) / f64::from(std)) as f32;
    }
    (scale, shift)
}

fn check_frame(frame: &Frame) -> Result<(), RuntimeError> {
    let Frame { width, height, encoding, .. } = *frame;
    if !(1..=MAX_FRAME_PIXELS).contains(&width) || !(1..=MAX_FRAME_PIXELS).contains(&height) {
        return Err(RuntimeError::Frame(format!("{width}x{height} must lie within 1..={MAX_FRAME_PIXELS} pixels")));
    }
    let is_even = match encoding {
        PixelEncoding::Yuyv => width.is_multiple_of(2),
        PixelEncoding::Nv12 => width.is_multiple_of(2) && height.is_multiple_of(2),
        _ => true,
    };
    if !is_even {
        return Err(RuntimeError::Frame(format!(
            "{encoding:?} has chroma for two pixels at a time; {width}x{height} is odd"
        )));
    }
    if frame.data.len() != frame.num_bytes() {
        let (given, wanted) = (frame.data.len(), frame.num_bytes());
        return Err(RuntimeError::Frame(format!("{width}x{height} in {encoding:?} needs {wanted} bytes, not {given}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use foresee_firmware_config::StraighteningProfile;

    use super::*;
    use crate::card::Resize;
    use crate::time::Stamp;

    fn card(width: usize, height: usize) -> PreprocessingCard {
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        PreprocessingCard {
            width,
            height,
            resize: Resize::BilinearAntialias,
            crop: None,
            mean,
            std,
            hash: String::new(),
        }
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

    /// The kernels of [`Resize`] as functions of the distance in target pixels, and how many source pixels far they reach.
    fn kernel(resize: Resize, distance: f64, scale: f64) -> f64 {
        let wide = scale.max(1.0);
        let cubic = |x: f64, a: f64| match x.abs() {
            x if x < 1.0 => (a + 2.0) * x.powi(3) - (a + 3.0) * x.powi(2) + 1.0,
            x if x < 2.0 => a * x.powi(3) - 5.0 * a * x.powi(2) + 8.0 * a * x - 4.0 * a,
            _ => 0.0,
        };
        // `distance` is between centres, in source pixels.
        match resize {
            Resize::BilinearAntialias => (1.0 - distance.abs() / wide).max(0.0),
            Resize::BicubicAntialias => cubic(distance / wide, -0.5),
            Resize::Bilinear => (1.0 - distance.abs()).max(0.0),
            Resize::Bicubic => cubic(distance, -0.75),
            Resize::Area => ((scale + 1.0) / 2.0 - distance.abs()).clamp(0.0, scale.min(1.0)),
        }
    }

    /// The definition, in f64 and two dimensions at once. Without antialias the edge pixels stand for those beyond.
    fn by_definition(frame: &Frame, card: &PreprocessingCard) -> Vec<f32> {
        let [columns, rows] = extents(card, (frame.width, frame.height)).unwrap();
        let is_cut = matches!(card.resize, Resize::BilinearAntialias | Resize::BicubicAntialias | Resize::Area);
        let margin = if is_cut { 0 } else { 4 };
        let axis = |extent: Extent, num_target: usize, target: usize| -> Vec<(usize, f64)> {
            let scale = extent.length / num_target as f64;
            let centre = extent.start + scale * (target as f64 + 0.5);
            let weight = |source: i64| kernel(card.resize, source as f64 + 0.5 - centre, scale);
            let last = extent.num_source as i64 - 1;
            (-margin..=last + margin).map(|source| (source.clamp(0, last) as usize, weight(source))).collect()
        };
        let mut values = Vec::new();
        for channel in 0..3 {
            let byte = if frame.encoding == PixelEncoding::Bgr8 { 2 - channel } else { channel };
            for y in 0..card.height {
                for x in 0..card.width {
                    let (mut sum, mut total) = (0.0, 0.0);
                    for (v, weight_v) in axis(rows, card.height, y) {
                        for (u, weight_u) in axis(columns, card.width, x) {
                            let weight = weight_u * weight_v;
                            sum += weight * f64::from(frame.data[(v * frame.width as usize + u) * 3 + byte]);
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

    #[test]
    fn every_kernel_and_crop_follows_the_definition() {
        let crops =
            [None, Some(Crop::Centre { fraction: 0.875 }), Some(Crop::Region { x: 3, y: 2, width: 17, height: 11 })];
        for resize in
            [Resize::BilinearAntialias, Resize::BicubicAntialias, Resize::Area, Resize::Bilinear, Resize::Bicubic]
        {
            for crop in crops {
                for (width, height) in [(7, 5), (9, 9), (40, 20)] {
                    let card = PreprocessingCard { resize, crop, ..card(width, height) }.with_hash();
                    let frame = noise(33, 19, PixelEncoding::Bgr8);
                    let mut preprocessor = Preprocessor::new(&card).unwrap();
                    let values = run(&mut preprocessor, &frame);
                    let expected = by_definition(&frame, &card);
                    let worst = values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < 4e-6, "{resize:?} {crop:?} to {width}x{height}: off by {worst}");
                    for instructions in Instructions::available() {
                        preprocessor.instructions = instructions;
                        assert_eq!(values, run(&mut preprocessor, &frame), "{resize:?} {crop:?} on {instructions:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_crop_beyond_the_frame_is_a_named_error() {
        let crop = Some(Crop::Region { x: 30, y: 0, width: 8, height: 4 });
        let card = PreprocessingCard { crop, ..card(4, 4) }.with_hash();
        let frame = Frame::black(33, 19, PixelEncoding::Rgb8);
        let problem = Preprocessor::new(&card).unwrap().run(&frame, &mut EncoderInput::zeros(4, 4)).unwrap_err();
        assert!(problem.to_string().contains("reaches beyond the frame of 33x19"), "{problem}");
    }

    fn check((source_width, source_height): (u32, u32), (width, height): (usize, usize), encoding: PixelEncoding) {
        let frame = noise(source_width, source_height, encoding);
        let card = card(width, height);
        let mut preprocessor = Preprocessor::new(&card).unwrap();
        let values = run(&mut preprocessor, &frame);
        let expected = by_definition(&frame, &card);
        let worst = values.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 2e-6, "{source_width}x{source_height} -> {width}x{height}: off by {worst}");
        for instructions in Instructions::available() {
            preprocessor.instructions = instructions;
            assert_eq!(values, run(&mut preprocessor, &frame), "{instructions:?} changes a bit");
        }
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

    /// OpenCV writes the file, at its usual quality and with a colour for each two by two pixels.
    #[cfg(feature = "camera")]
    #[test]
    fn a_jpeg_frame_is_the_picture_that_it_was_made_of() {
        use opencv::core::{Mat, MatTraitConst, Vec3b, Vector};
        let (width, height) = (96_u32, 64_u32);
        let mut frame = Frame::black(width, height, PixelEncoding::Bgr8);
        for (at, pixel) in frame.data.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (x, y) = (at % width as usize, at / width as usize);
            *pixel = [40 + 2 * x as u8, 230 - 3 * y as u8, 30 + x as u8 + y as u8];
        }
        let pixels: Vec<Vec3b> = frame.data.as_chunks::<3>().0.iter().map(|pixel| Vec3b::from(*pixel)).collect();
        let image = Mat::new_rows_cols_with_data(height as i32, width as i32, &pixels).unwrap();
        let mut file = Vector::<u8>::new();
        opencv::imgcodecs::imencode(".jpg", &image.try_clone().unwrap(), &mut file, &Vector::new()).unwrap();
        let jpeg = Frame { data: file.iter().collect(), ..Frame::black(width, height, PixelEncoding::Jpeg) };
        // What looks at single pixels sees their noise.
        for (resize, allowed) in [(Resize::BilinearAntialias, 3.0), (Resize::Area, 3.0), (Resize::Bicubic, 6.0)] {
            let card = PreprocessingCard { resize, ..card(24, 20) }.with_hash();
            let mut preprocessor = Preprocessor::new(&card).unwrap();
            let (from_file, from_pixels) = (run(&mut preprocessor, &jpeg), run(&mut preprocessor, &frame));
            let num_values = card.width * card.height;
            let levels = from_file.iter().zip(&from_pixels).enumerate().map(|(at, (a, b))| {
                let std = card.std.get(at / num_values).copied().unwrap_or(1.0);
                (a - b).abs() * std * 255.0
            });
            let worst = levels.fold(0.0, f32::max);
            assert!(worst < allowed, "{resize:?}: off by {worst} of 255");
        }
        let decoded = to_rgb(&jpeg).unwrap();
        let pairs = decoded.data.iter().zip(&to_rgb(&frame).unwrap().data).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(decoded.encoding == PixelEncoding::Rgb8 && pairs < Some(8), "{pairs:?}");
    }

    /// Pillow 12: `Image.fromarray(np.arange(8, dtype="f4")[None]).resize((3, 1), Image.BILINEAR)`.
    #[test]
    fn the_kernel_is_pillows() {
        let axis = Axis::new(Extent { num_source: 8, start: 0.0, length: 8.0 }, 3, Resize::BilinearAntialias);
        let blend = |span: &axis::Span| -> f32 {
            (span.start..).zip(axis.weights_of(span)).map(|(source, weight)| source as f32 * weight).sum()
        };
        let values: Vec<f32> = axis.spans().iter().map(blend).collect();
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

    /// A lens of this size that bends, turns and shrinks.
    fn lens(width: u32, height: u32) -> IntrinsicsProfile {
        let (cx, cy) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
        let (sine, cosine) = 0.1_f64.sin_cos();
        IntrinsicsProfile {
            width,
            height,
            fx_pixels: cx,
            fy_pixels: cx,
            cx_pixels: cx,
            cy_pixels: cy,
            distortion: [-0.2, 0.05, 0.001, -0.002, 0.0, 0.0, 0.0, 0.0],
            reprojection_error_pixels: None,
            straightening: Some(StraighteningProfile {
                rectification: [[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]],
                projection_pixels: [cx * 0.8, cx * 0.9, cx, cy],
            }),
        }
    }

    #[test]
    fn what_is_straightened_in_the_pass_is_what_is_straightened_before_it() {
        use PixelEncoding::{Bgr8, Nv12, Rgb8, Yuyv};
        let crops =
            [None, Some(Crop::Centre { fraction: 0.6 }), Some(Crop::Region { x: 5, y: 9, width: 20, height: 14 })];
        for encoding in [Rgb8, Bgr8, Yuyv, Nv12] {
            for crop in crops {
                for resize in [Resize::BilinearAntialias, Resize::Bicubic] {
                    let card = PreprocessingCard { crop, resize, ..card(12, 20) }.with_hash();
                    let frame = noise(36, 26, encoding);
                    let intrinsics = lens(36, 26);
                    let mut preprocessor = Preprocessor::new(&card).unwrap();
                    let plain = run(&mut preprocessor, &frame);
                    let expected = run(&mut preprocessor, &straighten(&frame, &intrinsics).unwrap().unwrap());
                    assert_ne!(plain, expected);
                    let mut preprocessor = preprocessor.with_intrinsics(Some(&intrinsics));
                    assert_eq!(run(&mut preprocessor, &frame), expected, "{encoding:?} {crop:?} {resize:?}");
                }
            }
        }
    }

    #[test]
    fn a_lens_of_another_size_is_a_named_error() {
        let mut preprocessor = Preprocessor::new(&card(4, 4)).unwrap().with_intrinsics(Some(&lens(36, 26)));
        let frame = noise(26, 36, PixelEncoding::Rgb8);
        let message = preprocessor.run(&frame, &mut EncoderInput::zeros(4, 4)).unwrap_err().to_string();
        assert!(message.contains("26x36") && message.contains("36x26"), "{message}");
        let plain = IntrinsicsProfile { straightening: None, ..lens(36, 26) };
        assert_eq!(preprocessor.with_intrinsics(Some(&plain)).straightens(), None);
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
