//! What a real camera does to its frames: noise, blur, delay, dropped and frozen frames.

use std::collections::VecDeque;
use std::sync::Arc;

use foresee_runtime::Frame;

use super::{Knob, Randomisation, stream};
use crate::random::RandomState;

const PURPOSE: u32 = 0x7365_6e73;

/// Spoils the frames of one camera, one after the other.
#[derive(Debug)]
pub struct SensorFaults {
    ranges: Arc<Randomisation>,
    random: RandomState,
    noise_levels: f64,
    blur: Vec<f32>,
    delay_frames: usize,
    dropped_share: f64,
    frozen_share: f64,
    /// Frames that still show the frozen picture.
    num_frozen: usize,
    frozen: Vec<u8>,
    /// Pictures exposed and not yet shown.
    exposed: VecDeque<Vec<u8>>,
    scratch: Vec<f32>,
}

impl SensorFaults {
    /// A camera with the faults that the ranges name.
    pub fn new(ranges: Arc<Randomisation>) -> Self {
        Self {
            ranges,
            random: stream(0, PURPOSE),
            noise_levels: 0.0,
            blur: Vec::new(),
            delay_frames: 0,
            dropped_share: 0.0,
            frozen_share: 0.0,
            num_frozen: 0,
            frozen: Vec::new(),
            exposed: VecDeque::new(),
            scratch: Vec::new(),
        }
    }

    /// Draws an episode's faults.
    pub fn begin(&mut self, seed: u64) {
        self.random = stream(seed, PURPOSE);
        let mut draw = |knob| self.ranges.draw(knob, &mut self.random).unwrap_or(0.0);
        self.noise_levels = draw(Knob::SensorNoise);
        self.blur = blur_weights(draw(Knob::SensorBlur));
        self.delay_frames = draw(Knob::SensorDelay) as usize;
        self.dropped_share = draw(Knob::SensorDropped);
        self.frozen_share = draw(Knob::SensorFrozen);
        self.num_frozen = 0;
        self.frozen.clear();
        self.exposed.clear();
    }

    /// Whether the next frame never arrives.
    pub fn drops_next(&mut self) -> bool {
        self.dropped_share > 0.0 && self.random.sample() < self.dropped_share
    }

    /// Makes the frame just exposed the one that arrives: an older picture where there is a delay (the first one, until there
    /// is one old enough), then blurred, noisy, or frozen. Stamp and sequence are those of the arrival, as of a camera whose
    /// driver stamps what it receives: the loop cannot tell.
    pub fn spoil(&mut self, frame: &mut Frame) {
        self.delay(frame);
        if self.freeze(frame) {
            return;
        }
        if self.blur.len() > 1 {
            blur(frame, &self.blur, &mut self.scratch);
        }
        if self.noise_levels > 0.0 {
            for value in &mut frame.data {
                // The cast saturates at 0 and 255.
                *value = (f64::from(*value) + self.noise_levels * self.random.normal()).round() as u8;
            }
        }
        self.frozen.clone_from(&frame.data);
    }

    fn delay(&mut self, frame: &mut Frame) {
        if self.delay_frames == 0 {
            return;
        }
        // The oldest is shown and its buffer taken for the next exposure.
        let mut exposed = if self.exposed.len() > self.delay_frames { self.exposed.pop_front() } else { None };
        match &mut exposed {
            Some(buffer) => buffer.clone_from(&frame.data),
            None => exposed = Some(frame.data.clone()),
        }
        self.exposed.extend(exposed);
        if let Some(oldest) = self.exposed.front() {
            frame.data.clone_from(oldest);
        }
    }

    /// Shows the last picture again where the camera hangs; an episode's first picture is always its own.
    fn freeze(&mut self, frame: &mut Frame) -> bool {
        if self.frozen.len() != frame.data.len() {
            return false;
        }
        if self.num_frozen == 0 && self.frozen_share > 0.0 && self.random.sample() < self.frozen_share {
            self.num_frozen = self.ranges.draw_whole(Knob::SensorFrozenFrames, &mut self.random).unwrap_or(1);
        }
        if self.num_frozen == 0 {
            return false;
        }
        self.num_frozen -= 1;
        frame.data.copy_from_slice(&self.frozen);
        true
    }
}

/// Half of a Gaussian's weights, the middle first; they and their mirror image add up to 1.
fn blur_weights(deviation: f64) -> Vec<f32> {
    let num_sides = (3.0 * deviation).ceil() as usize;
    let weight =
        |distance: usize| if deviation > 0.0 { (-0.5 * (distance as f64 / deviation).powi(2)).exp() } else { 1.0 };
    let sum = 1.0 + 2.0 * (1..=num_sides).map(weight).sum::<f64>();
    (0..=num_sides).map(|distance| (weight(distance) / sum) as f32).collect()
}

/// Blurs rows, then columns; the edge's pixel stands for what lies beyond it.
fn blur(frame: &mut Frame, weights: &[f32], scratch: &mut Vec<f32>) {
    let (width, height) = (frame.width as usize, frame.height as usize);
    let blend = |at: usize, length: usize, value: &dyn Fn(usize) -> f32| {
        let side = |distance: usize| value(at.saturating_sub(distance)) + value((at + distance).min(length - 1));
        let sides = weights.iter().enumerate().skip(1).map(|(distance, weight)| weight * side(distance));
        weights[0] * value(at) + sides.sum::<f32>()
    };
    scratch.resize(frame.data.len(), 0.0);
    for (index, blurred) in scratch.iter_mut().enumerate() {
        let (row, column, channel) = (index / 3 / width, index / 3 % width, index % 3);
        *blurred = blend(column, width, &|column| f32::from(frame.data[(row * width + column) * 3 + channel]));
    }
    for (index, value) in frame.data.iter_mut().enumerate() {
        let (row, rest) = (index / 3 / width, index % (3 * width));
        *value = blend(row, height, &|row| scratch[row * 3 * width + rest]).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use foresee_firmware_config::PixelEncoding;
    use foresee_runtime::Stamp;

    use super::*;

    fn faults(text: &str) -> SensorFaults {
        let mut faults = SensorFaults::new(Arc::new(Randomisation::parse(Path::new("r.toml"), text).unwrap()));
        faults.begin(3);
        faults
    }

    /// Frame `index`: grey, with a white pixel in the middle.
    fn frame(index: u8) -> Frame {
        let mut frame = Frame::black(9, 7, PixelEncoding::Rgb8);
        frame.data.fill(100 + index);
        frame.data[(3 * 9 + 4) * 3..][..3].fill(255);
        (frame.sequence, frame.stamp) = (u64::from(index), Stamp::from_seconds(f64::from(index)));
        frame
    }

    #[test]
    fn nothing_named_changes_nothing() {
        let mut faults = faults("");
        let mut shown = frame(1);
        faults.spoil(&mut shown);
        assert!(shown == frame(1) && !faults.drops_next());
    }

    #[test]
    fn a_delayed_picture_arrives_with_a_fresh_stamp() {
        let mut faults = faults("[sensor]\ndelay_frames = 2");
        let shown: Vec<_> = (0..6)
            .map(|index| {
                let mut shown = frame(index);
                faults.spoil(&mut shown);
                shown
            })
            .collect();
        for (index, shown) in (0_u8..).zip(&shown) {
            assert_eq!((shown.sequence, shown.stamp), (u64::from(index), frame(index).stamp));
            assert_eq!(shown.data, frame(index.saturating_sub(2)).data);
        }
    }

    #[test]
    fn a_frozen_camera_repeats_its_picture_for_so_many_frames() {
        let mut faults = faults("[sensor]\nfrozen_share = 0.3\nfrozen_frames = 4");
        let shown: Vec<u8> = (0..100)
            .map(|index| {
                let mut shown = frame(index);
                faults.spoil(&mut shown);
                shown.data[0] - 100
            })
            .collect();
        let mut runs = vec![0];
        for (index, picture) in (0_u8..).zip(&shown) {
            if *picture == index {
                runs.push(0)
            } else if let Some(run) = runs.last_mut() {
                *run += 1
            }
        }
        let longest = runs.iter().max();
        assert!(longest >= Some(&4) && runs.iter().take(runs.len() - 1).all(|run| run % 4 == 0), "{runs:?}");
    }

    #[test]
    fn an_episode_shows_nothing_of_the_one_before() {
        let mut faults = faults("[sensor]\nfrozen_share = 0.6\nfrozen_frames = 3\nnoise_levels = 2");
        let mut show = |seed: u64, index: u8| -> Vec<Vec<u8>> {
            faults.begin(seed);
            let frames = (index..index + 10).map(|index| {
                let mut shown = frame(index);
                faults.spoil(&mut shown);
                shown.data
            });
            frames.collect()
        };
        let alone = show(5, 100);
        show(4, 0);
        assert!(show(5, 100) == alone, "seed 5 is another episode after seed 4");
    }

    #[test]
    fn noise_and_blur_have_their_size() {
        let mut shown = frame(0);
        faults("[sensor]\nblur_pixels = 1").spoil(&mut shown);
        let at = |row: usize, column: usize| f64::from(shown.data[(row * 9 + column) * 3]);
        // A Gaussian of 1 pixel puts 15.9 % of a point into its middle, 9.7 % beside it; far off nothing changes.
        assert!((at(3, 4) - (100.0 + 155.0 * 0.159)).abs() < 1.0 && (at(3, 5) - (100.0 + 155.0 * 0.0966)).abs() < 1.0);
        assert_eq!(at(0, 0), 100.0);

        let mut noisy = Frame::black(64, 64, PixelEncoding::Rgb8);
        noisy.data.fill(128);
        faults("[sensor]\nnoise_levels = 5").spoil(&mut noisy);
        let count = noisy.data.len() as f64;
        let mean = noisy.data.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = noisy.data.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        assert!((mean - 128.0).abs() < 0.3 && (variance.sqrt() - 5.0).abs() < 0.2, "{mean} {variance}");
    }

    #[test]
    fn frames_drop_at_their_rate_and_a_seed_repeats() {
        let mut faults = faults("[sensor]\ndropped_share = 0.25");
        let draw = |faults: &mut SensorFaults| -> Vec<bool> { (0..2000).map(|_| faults.drops_next()).collect() };
        let first = draw(&mut faults);
        let num_dropped = first.iter().filter(|dropped| **dropped).count();
        assert!((440..560).contains(&num_dropped), "{num_dropped}");
        faults.begin(3);
        assert_eq!(draw(&mut faults), first);
        faults.begin(4);
        assert_ne!(draw(&mut faults), first);
    }
}
