//! Actors that see the simulator's state: scripted experts and random motion.

use foresee_sim::Environment;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::error::PoliciesError;

/// Decides on the simulator's state. What it does depends on its seed and on the states it saw since [`StateActor::reset`], and on nothing else.
pub trait StateActor {
    /// Forgets everything and starts again from `seed`: a new episode begins.
    fn reset(&mut self, seed: u64);
    /// Writes one value an actuator into `action`, within the ranges of the task.
    ///
    /// # Errors
    /// [`PoliciesError`] when the environment is not of the task that this actor was made for.
    fn act(&mut self, environment: &Environment, action: &mut [f64]) -> Result<(), PoliciesError>;
}

/// Every action drawn anew, uniformly within its range: the baseline of every result.
#[derive(Clone, Debug)]
pub struct UniformRandom {
    generator: StdRng,
}

impl UniformRandom {
    /// An actor that has not been reset yet: as if reset with seed 0.
    pub fn new() -> Self {
        Self { generator: seeded(0) }
    }
}

impl Default for UniformRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl StateActor for UniformRandom {
    fn reset(&mut self, seed: u64) {
        self.generator = seeded(seed);
    }

    fn act(&mut self, environment: &Environment, action: &mut [f64]) -> Result<(), PoliciesError> {
        for (value, spec) in action.iter_mut().zip(&environment.spec().actions) {
            let (minimum, maximum) = finite_range(spec.minimum, spec.maximum);
            *value = self.generator.random_range(minimum..=maximum);
        }
        Ok(())
    }
}

/// A smooth random walk within the range (an Ornstein-Uhlenbeck process): it wanders further than [`UniformRandom`], whose
/// pushes cancel, so its frames are more varied.
#[derive(Clone, Debug)]
pub struct SmoothRandom {
    generator: StdRng,
    noise: OrnsteinUhlenbeck,
}

impl SmoothRandom {
    /// Forgets its own past within about this many control steps.
    const CORRELATION_STEPS: f64 = 15.0;
    /// Stationary standard deviation, in halves of the action's range; more than 1 so that it often rests at the bounds.
    const STANDARD_DEVIATION: f64 = 0.9;

    /// An actor that has not been reset yet: as if reset with seed 0.
    pub fn new() -> Self {
        let noise = OrnsteinUhlenbeck::new(Self::STANDARD_DEVIATION, Self::CORRELATION_STEPS);
        Self { generator: seeded(0), noise }
    }
}

impl Default for SmoothRandom {
    fn default() -> Self {
        Self::new()
    }
}

impl StateActor for SmoothRandom {
    fn reset(&mut self, seed: u64) {
        self.generator = seeded(seed);
        self.noise.reset();
    }

    fn act(&mut self, environment: &Environment, action: &mut [f64]) -> Result<(), PoliciesError> {
        let noise = self.noise.next(action.len(), &mut self.generator);
        for ((value, spec), noise) in action.iter_mut().zip(&environment.spec().actions).zip(noise) {
            let (minimum, maximum) = finite_range(spec.minimum, spec.maximum);
            *value = (0.5 * (minimum + maximum) + noise * 0.5 * (maximum - minimum)).clamp(minimum, maximum);
        }
        Ok(())
    }
}

/// An actuator's range, or -1 to 1 where it has none.
pub(crate) fn finite_range(minimum: f64, maximum: f64) -> (f64, f64) {
    if minimum.is_finite() && maximum.is_finite() { (minimum, maximum) } else { (-1.0, 1.0) }
}

/// Gaussian noise that is correlated in time: `x' = a x + s sqrt(1 - a^2) n` with `a = exp(-1 / steps)`, stationary from its first value.
#[derive(Clone, Debug)]
pub(crate) struct OrnsteinUhlenbeck {
    standard_deviation: f64,
    decay: f64,
    values: Vec<f64>,
}

impl OrnsteinUhlenbeck {
    /// With this stationary standard deviation; `correlation_steps` of 0 gives white noise.
    pub(crate) fn new(standard_deviation: f64, correlation_steps: f64) -> Self {
        let decay = if correlation_steps > 0.0 { (-1.0 / correlation_steps).exp() } else { 0.0 };
        Self { standard_deviation, decay, values: Vec::new() }
    }

    pub(crate) fn reset(&mut self) {
        self.values.clear();
    }

    /// The next `count` values.
    pub(crate) fn next(&mut self, count: usize, generator: &mut StdRng) -> &[f64] {
        if self.values.len() == count {
            let innovation = self.standard_deviation * (1.0 - self.decay * self.decay).sqrt();
            for value in &mut self.values {
                *value = self.decay * *value + innovation * standard_normal(generator);
            }
        } else {
            self.values = (0..count).map(|_| self.standard_deviation * standard_normal(generator)).collect();
        }
        &self.values
    }
}

/// One draw of the standard normal distribution (Box and Muller, 1958).
pub(crate) fn standard_normal(generator: &mut StdRng) -> f64 {
    let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * generator.random::<f64>()).cos()
}

/// A generator for a seed; a constant keeps it apart from other streams of the same seed, such as the environment's own.
pub(crate) fn seeded(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed ^ 0x706f_6c69_6369_6573)
}
