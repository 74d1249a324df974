//! Random streams without state: a generator is made anew from (seed, stream, step, sample), so that a resumed run draws what an
//! uninterrupted one would have drawn, and no draw depends on threads.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What a stream is for; keeps streams of one seed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// First weights.
    Initialisation,
    /// The order of an epoch.
    Order,
    /// Crops, flips and frame gaps.
    Views,
    /// Masks, noise and latent samples.
    Draws,
    /// Pictures for people.
    Preview,
    /// What decoders drop.
    Dropout,
    /// Which clip stands in for one that cannot be read.
    OtherClips,
}

/// The generator of one place in one stream.
pub(crate) fn generator(seed: u64, stream: Stream, [step, sample]: [u64; 2]) -> StdRng {
    let mixed = [stream as u64, step, sample].iter().fold(mix(seed), |state, part| mix(state ^ mix(*part)));
    StdRng::seed_from_u64(mixed)
}

/// Uniform draws in 0..1.
pub(crate) fn uniforms(random: &mut StdRng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random::<f32>()).collect()
}

/// Standard normal draws (Box and Muller).
pub(crate) fn normals(random: &mut StdRng, count: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * random.random::<f64>();
        values.extend([(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]);
    }
    values.truncate(count);
    values
}

/// A permutation of `0..count` (Fisher and Yates).
pub(crate) fn permutation(random: &mut StdRng, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        order.swap(last, random.random_range(0..=last));
    }
    order
}

/// SplitMix64's finaliser.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
