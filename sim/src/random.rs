//! numpy's `RandomState`, bit for bit: MT19937 (Matsumoto and Nishimura 1998) under numpy's legacy distributions.
//!
//! Follows `numpy/random/src/mt19937/mt19937.c`, `legacy/legacy-distributions.c` and `_bounded_integers.pyx`.

const STATE_LENGTH: usize = 624;
const SHIFT: usize = 397;

/// The stream that `numpy.random.RandomState(seed)` gives.
#[derive(Clone, Debug)]
pub struct RandomState {
    key: Box<[u32; STATE_LENGTH]>,
    position: usize,
    /// The second value of the last polar pair, if it was not given out yet.
    spare_gauss: Option<f64>,
}

impl RandomState {
    /// The stream of `seed`, any 32-bit number.
    pub fn new(seed: u32) -> Self {
        let mut key = Box::new([0; STATE_LENGTH]);
        let mut word = seed;
        for (index, slot) in (1_u32..).zip(key.iter_mut()) {
            *slot = word;
            word = 1_812_433_253_u32.wrapping_mul(word ^ (word >> 30)).wrapping_add(index);
        }
        Self { key, position: STATE_LENGTH, spare_gauss: None }
    }

    /// `random_sample()`, `rand()`: uniform in [0, 1) with 53 bits.
    pub fn sample(&mut self) -> f64 {
        let high = f64::from(self.next_word() >> 5);
        let low = f64::from(self.next_word() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// `uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.sample()
    }

    /// `randn()`, `standard_normal()`: Marsaglia's polar method, the second value of a pair first.
    pub fn normal(&mut self) -> f64 {
        if let Some(value) = self.spare_gauss.take() {
            return value;
        }
        loop {
            let first = 2.0 * self.sample() - 1.0;
            let second = 2.0 * self.sample() - 1.0;
            let square = first * first + second * second;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare_gauss = Some(factor * first);
                return factor * second;
            }
        }
    }

    /// `randint(low, high)` with numpy's default 64-bit type, for ranges below 2^32: uniform in [low, high).
    pub fn integer(&mut self, low: i64, high: i64) -> i64 {
        let Some(range) = high.checked_sub(low + 1).and_then(|range| u32::try_from(range).ok()) else {
            return low;
        };
        if range == 0 {
            return low;
        }
        let mask = u32::MAX >> range.leading_zeros();
        loop {
            let value = self.next_word() & mask;
            if value <= range {
                return low + i64::from(value);
            }
        }
    }

    /// `choice(len(probabilities), p=probabilities)`: an index drawn by inverting the cumulative distribution.
    pub fn choice(&mut self, probabilities: &[f64]) -> usize {
        let total: f64 = probabilities.iter().sum();
        let sample = self.sample();
        let mut cumulative = 0.0;
        let found = probabilities.iter().position(|probability| {
            cumulative += probability;
            sample < cumulative / total
        });
        found.unwrap_or(probabilities.len().saturating_sub(1))
    }

    /// Fills `values` with [`Self::normal`].
    pub fn fill_normal(&mut self, values: &mut [f64]) {
        values.iter_mut().for_each(|value| *value = self.normal());
    }

    fn next_word(&mut self) -> u32 {
        if self.position == STATE_LENGTH {
            self.twist();
        }
        let mut word = self.key[self.position];
        self.position += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for index in 0..STATE_LENGTH {
            let word = (self.key[index] & 0x8000_0000) | (self.key[(index + 1) % STATE_LENGTH] & 0x7fff_ffff);
            let odd = if word & 1 == 1 { 0x9908_b0df } else { 0 };
            self.key[index] = self.key[(index + SHIFT) % STATE_LENGTH] ^ (word >> 1) ^ odd;
        }
        self.position = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that numpy 2.4.6 prints for the same calls.
    #[test]
    fn the_stream_is_numpys() {
        let mut random = RandomState::new(NUMPY_SEED);
        for expected in NUMPY_SAMPLES {
            assert_eq!(random.sample(), expected);
        }
        for expected in NUMPY_UNIFORM {
            assert_eq!(random.uniform(-0.2, 0.5), expected);
        }
        for expected in NUMPY_NORMAL {
            assert_eq!(random.normal(), expected);
        }
        for expected in NUMPY_INTEGERS {
            assert_eq!(random.integer(-3, 8), expected);
        }
        for expected in NUMPY_CHOICES {
            assert_eq!(random.choice(&[0.1, 0.1, 0.8]), expected);
        }
        assert_eq!(random.sample(), NUMPY_LAST);
    }

    const NUMPY_SEED: u32 = 4_000_000_007;
    const NUMPY_SAMPLES: [f64; 3] = [0.978127190352781, 0.665463637757426, 0.1876670836349773];
    const NUMPY_UNIFORM: [f64; 3] = [0.4149722590799408, 0.4137387987362539, 0.1871191955447038];
    const NUMPY_NORMAL: [f64; 3] = [-0.47537714454517166, -1.8624981415221677, 0.3030989314526549];
    const NUMPY_INTEGERS: [i64; 6] = [0, -1, 3, -1, 7, 5];
    const NUMPY_CHOICES: [usize; 5] = [2, 2, 2, 2, 2];
    const NUMPY_LAST: f64 = 0.8962073238828172;
}
