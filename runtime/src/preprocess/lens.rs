//! A lens undone: the rows of a straightened frame, made as the pass comes to need them.
//!
//! Where each straightened pixel lies in the frame is `initUndistortRectifyMap` of OpenCV (Brown 1971 with the rational terms of
//! Claus and Fitzgibbon 2005); its colour is `remap` with `INTER_LINEAR` and black beyond the edge, in OpenCV's fixed point: places in
//! 32nds of a pixel, weights in 1024ths, rounded half up.

use foresee_firmware_config::{IntrinsicsProfile, StraighteningProfile};
use nalgebra::{Matrix3, Vector3};

use super::blend::Instructions;

/// 32nds of a pixel.
const FRACTION_BITS: u32 = 5;
const FRACTION: u32 = 1 << FRACTION_BITS;
/// Half of what the four weights of a pixel sum to.
const ROUND: u32 = 1 << (2 * FRACTION_BITS - 1);
/// Straightened pixels that are gathered, then blended, in one go.
const STRIP: usize = 64;

/// A lens to undo, its table, and the straightened rows. The table is built once a frame size; then nothing is allocated.
#[derive(Clone, Debug)]
pub(super) struct Lens {
    intrinsics: IntrinsicsProfile,
    straightening: StraighteningProfile,
    instructions: Instructions,
    /// A place for every straightened pixel, row-major; empty before the first frame.
    places: Vec<Place>,
    /// Rows of the frame that a straightened row and those before it need.
    needed: Vec<usize>,
    /// Straightened pixels, in the frame's channel order.
    pixels: Vec<u8>,
    /// Straightened rows of this frame that are there.
    num_rows: usize,
}

/// Where a straightened pixel lies in the frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Place {
    /// Left of the four pixels around it; -2 or less: they lie outside.
    x: i16,
    /// Upper of the four pixels around it.
    y: i16,
    /// Right of `x`, in 32nds.
    fraction_x: u8,
    /// Below `y`, in 32nds.
    fraction_y: u8,
}

impl Lens {
    /// `None` when the profile does not ask for straight frames.
    pub(super) fn of(intrinsics: &IntrinsicsProfile) -> Option<Self> {
        let straightening = intrinsics.straightening?;
        let (places, needed, pixels) = (Vec::new(), Vec::new(), Vec::new());
        let instructions = Instructions::detect();
        Some(Self { intrinsics: *intrinsics, straightening, instructions, places, needed, pixels, num_rows: 0 })
    }

    /// What it was calibrated for.
    pub(super) fn intrinsics(&self) -> &IntrinsicsProfile {
        &self.intrinsics
    }

    /// Builds the table if the frame's size is the calibration's.
    pub(super) fn fit(&mut self, (width, height): (u32, u32)) -> Result<(), String> {
        let lens = &self.intrinsics;
        if (lens.width, lens.height) != (width, height) {
            return Err(format!(
                "the frame is {width}x{height}, the profile's [intrinsics] are of {}x{}; calibrate at the size that the loop gets",
                lens.width, lens.height
            ));
        }
        if !self.places.is_empty() {
            return Ok(());
        }
        let [width, height] = [width, height].map(|size| size as usize);
        self.places = places(lens, &self.straightening).ok_or(
            "the profile's intrinsics.projection_pixels and rectification cannot be inverted; calibrate again",
        )?;
        let mut needed = 0;
        for row in self.places.chunks_exact(width) {
            let last = row.iter().map(|place| i32::from(place.y) + 2).max().unwrap_or(0);
            needed = needed.max(usize::try_from(last).unwrap_or(0).min(height));
            self.needed.push(needed);
        }
        self.pixels = vec![0; 3 * width * height];
        Ok(())
    }

    /// Begins with another frame, of which the rows above `first` are not asked for.
    pub(super) fn begin(&mut self, first: usize) {
        self.num_rows = first;
    }

    /// How many rows of the frame the straightened rows below `end` need.
    pub(super) fn needs(&self, end: usize) -> usize {
        end.checked_sub(1).and_then(|last| self.needed.get(last)).copied().unwrap_or(0)
    }

    /// Straightened pixels in which the rows from the first asked for to `end` are filled, out of the frame's pixels of three bytes.
    pub(super) fn rows(&mut self, frame: &[u8], end: usize) -> &[u8] {
        let width = self.intrinsics.width as usize;
        let source = Pixels { bytes: frame, width, height: self.intrinsics.height as usize };
        let rows = self.places.chunks_exact(width).zip(self.pixels.chunks_exact_mut(3 * width));
        let mut taps = Taps::default();
        for (places, row) in rows.take(end).skip(self.num_rows) {
            for (places, pixels) in places.chunks(STRIP).zip(row.chunks_mut(3 * STRIP)) {
                source.gather(places, &mut taps);
                blend(self.instructions, &taps, places, pixels);
            }
        }
        self.num_rows = self.num_rows.max(end);
        &self.pixels
    }
}

/// The four pixels around each place of a strip, three bytes in a word: upper left and right, lower left and right.
struct Taps([[u32; STRIP]; 4]);

impl Default for Taps {
    fn default() -> Self {
        Self([[0; STRIP]; 4])
    }
}

/// A frame, three bytes a pixel.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    bytes: &'a [u8],
    width: usize,
    height: usize,
}

impl Pixels<'_> {
    #[inline]
    fn gather(self, places: &[Place], taps: &mut Taps) {
        let [upper_left, upper_right, lower_left, lower_right] = &mut taps.0;
        let taps = upper_left.iter_mut().zip(upper_right).zip(lower_left.iter_mut().zip(lower_right));
        for (place, ((upper_left, upper_right), (lower_left, lower_right))) in places.iter().zip(taps) {
            let [upper, lower] = self.pairs(*place);
            (*upper_left, *upper_right) = (upper as u32, (upper >> 24) as u32);
            (*lower_left, *lower_right) = (lower as u32, (lower >> 24) as u32);
        }
    }

    /// The upper and the lower two pixels, in the six lowest bytes.
    #[inline]
    fn pairs(self, place: Place) -> [u64; 2] {
        let (x, y) = (place.x as usize, place.y as usize);
        // What is negative is a large number here.
        if x < self.width - 1 && y < self.height - 1 {
            let at = 3 * (y * self.width + x);
            let word = |at: usize| self.bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).copied();
            if let (Some(upper), Some(lower)) = (word(at), word(at + 3 * self.width)) {
                return [upper, lower].map(u64::from_le_bytes);
            }
        }
        self.pairs_at_the_edge(place)
    }

    /// Black beyond the edge.
    #[cold]
    fn pairs_at_the_edge(self, place: Place) -> [u64; 2] {
        let [x, y] = [place.x, place.y].map(i32::from);
        [y, y + 1].map(|y| self.pixel(x, y) | self.pixel(x + 1, y) << 24)
    }

    fn pixel(self, x: i32, y: i32) -> u64 {
        let at = usize::try_from(x).ok().zip(usize::try_from(y).ok());
        let inside = at.filter(|&(x, y)| x < self.width && y < self.height);
        let bytes = inside.and_then(|(x, y)| self.bytes.get(3 * (y * self.width + x)..)?.first_chunk::<3>());
        bytes.map_or(0, |&[a, b, c]| u64::from_le_bytes([a, b, c, 0, 0, 0, 0, 0]))
    }
}

/// The weighted sums of a strip, in whole numbers.
#[cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "the instructions were detected on this machine"))]
fn blend(instructions: Instructions, taps: &Taps, places: &[Place], pixels: &mut [u8]) {
    match instructions {
        Instructions::Baseline => blend_strip(taps, places, pixels),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `detect` found AVX2.
        _ => unsafe { blend_strip_avx2(taps, places, pixels) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn blend_strip_avx2(taps: &Taps, places: &[Place], pixels: &mut [u8]) {
    blend_strip(taps, places, pixels);
}

#[inline(always)]
fn blend_strip(taps: &Taps, places: &[Place], pixels: &mut [u8]) {
    let [mut right, mut below] = [[0_u32; STRIP]; 2];
    for (place, (right, below)) in places.iter().zip(right.iter_mut().zip(&mut below)) {
        (*right, *below) = (u32::from(place.fraction_x), u32::from(place.fraction_y));
    }
    let channels = [
        blend_channel::<0>(taps, (&right, &below)),
        blend_channel::<8>(taps, (&right, &below)),
        blend_channel::<16>(taps, (&right, &below)),
    ];
    let [first, second, third] = &channels;
    let values = first.iter().zip(second).zip(third);
    for (pixel, ((first, second), third)) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(values) {
        *pixel = [*first, *second, *third];
    }
}

/// The byte from bit `SHIFT` on of each pixel.
#[inline(always)]
fn blend_channel<const SHIFT: u32>(taps: &Taps, (right, below): (&[u32; STRIP], &[u32; STRIP])) -> [u8; STRIP] {
    let mut blended = [0; STRIP];
    let [upper_left, upper_right, lower_left, lower_right] = &taps.0;
    for at in 0..STRIP {
        let byte = |taps: &[u32; STRIP]| (taps[at] >> SHIFT) & 0xff;
        let (right, below) = (right[at], below[at]);
        let upper = byte(upper_left) * (FRACTION - right) + byte(upper_right) * right;
        let lower = byte(lower_left) * (FRACTION - right) + byte(lower_right) * right;
        blended[at] = ((upper * (FRACTION - below) + lower * below + ROUND) >> (2 * FRACTION_BITS)) as u8;
    }
    blended
}

/// Where every straightened pixel lies in the frame; `None` when the rectified camera cannot be inverted.
fn places(lens: &IntrinsicsProfile, straightening: &StraighteningProfile) -> Option<Vec<Place>> {
    let [fx, fy, cx, cy] = straightening.projection_pixels;
    let projection = Matrix3::new(fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0);
    let rotation = Matrix3::from_fn(|row, column| straightening.rectification[row][column]);
    let rays = (projection * rotation).try_inverse()?;
    let mut places = Vec::with_capacity(lens.width as usize * lens.height as usize);
    for row in 0..lens.height {
        for column in 0..lens.width {
            let ray = rays * Vector3::new(f64::from(column), f64::from(row), 1.0);
            places.push(place(lens, distorted(lens, ray)));
        }
    }
    Some(places)
}

/// Where the camera sees what lies along a ray of its own frame: pixels from the middle of the upper left one.
fn distorted(lens: &IntrinsicsProfile, ray: Vector3<f64>) -> [f64; 2] {
    let [k1, k2, p1, p2, k3, k4, k5, k6] = lens.distortion;
    let (x, y) = (ray.x / ray.z, ray.y / ray.z);
    let (x2, y2, xy) = (x * x, y * y, 2.0 * x * y);
    let r2 = x2 + y2;
    let radial = (1.0 + ((k3 * r2 + k2) * r2 + k1) * r2) / (1.0 + ((k6 * r2 + k5) * r2 + k4) * r2);
    let x = x * radial + p1 * xy + p2 * (r2 + 2.0 * x2);
    let y = y * radial + p1 * (r2 + 2.0 * y2) + p2 * xy;
    [lens.fx_pixels * x + lens.cx_pixels, lens.fy_pixels * y + lens.cy_pixels]
}

/// To the nearest 32nd of a pixel, halves to even. What lies beyond any frame, or nowhere, is beyond the upper left corner.
fn place(lens: &IntrinsicsProfile, [x, y]: [f64; 2]) -> Place {
    let is_near = |at: f64, size: u32| at > -2.0 && at < f64::from(size) + 1.0;
    if !is_near(x, lens.width) || !is_near(y, lens.height) {
        return Place { x: -2, y: -2, ..Place::default() };
    }
    let [x, y] = [x, y].map(|at| (at * f64::from(FRACTION)).round_ties_even() as i32);
    let [fraction_x, fraction_y] = [x, y].map(|at| (at & (FRACTION as i32 - 1)) as u8);
    // The frame's sides are at most 16384 pixels.
    Place { x: (x >> FRACTION_BITS) as i16, y: (y >> FRACTION_BITS) as i16, fraction_x, fraction_y }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        width: u32,
        height: u32,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        camera: [f64; 4],
        distortion: [f64; 8],
        rectification: [[f64; 3]; 3],
        projection: [f64; 4],
    }

    /// OpenCV's own results; the file says how they were made.
    #[test]
    fn straightened_frames_are_opencvs_to_the_bit() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../../tests/fixtures/lens/straightened.json")).unwrap();
        let bytes = include_bytes!("../../../tests/fixtures/lens/straightened.bin");
        let Vectors { width, height, cases } = vectors;
        let mut frames = bytes.chunks_exact(3 * width as usize * height as usize);
        let frame = frames.next().unwrap();
        assert_eq!((cases.len(), frames.len()), (5, 5));
        for (Case { name, camera, distortion, rectification, projection }, expected) in cases.into_iter().zip(frames) {
            let [fx_pixels, fy_pixels, cx_pixels, cy_pixels] = camera;
            let straightening = Some(StraighteningProfile { rectification, projection_pixels: projection });
            let intrinsics = IntrinsicsProfile {
                width,
                height,
                fx_pixels,
                fy_pixels,
                cx_pixels,
                cy_pixels,
                distortion,
                reprojection_error_pixels: None,
                straightening,
            };
            let mut lens = Lens::of(&intrinsics).unwrap();
            lens.fit((width, height)).unwrap();
            // Twice: a frame leaves nothing to the next.
            for frame in [&vec![255; frame.len()], frame] {
                lens.begin(0);
                for end in (1..=height as usize).step_by(7).chain([height as usize]) {
                    let needed = lens.needs(end);
                    let mut seen = frame.to_vec();
                    seen.iter_mut().skip(needed * 3 * width as usize).for_each(|byte| *byte = 77);
                    lens.rows(&seen, end);
                }
            }
            assert!(lens.rows(frame, height as usize) == expected, "{name}");
        }
    }
}
