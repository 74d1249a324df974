//! How long ticks took: histograms of fixed size, so that counting allocates nothing.

use hdrhistogram::Histogram;

use crate::control_loop::{Stage, TickReport};

/// Longer times count as this: a minute, in nanoseconds.
const LONGEST_NANOS: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 2;
const BARS_PER_DOUBLING: f64 = 8.0;

/// A distribution of times, 1 ns to 1 minute, to about 1 %.
#[derive(Clone, Debug)]
pub struct LatencyHistogram(Histogram<u64>);

impl Default for LatencyHistogram {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the library admits")]
        let histogram = Histogram::new_with_bounds(1, LONGEST_NANOS, SIGNIFICANT_DIGITS).expect("constant bounds");
        Self(histogram)
    }
}

impl LatencyHistogram {
    /// Counts one time in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.0.saturating_record(nanos.max(1));
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that a share `quantile` (0 to 1) does not exceed, in milliseconds; 0 when none was counted.
    pub fn quantile_millis(&self, quantile: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_quantile(quantile) as f64 * 1e-6 }
    }

    /// The longest, in milliseconds; 0 when none was counted.
    pub fn max_millis(&self) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.max() as f64 * 1e-6 }
    }

    /// Bars of (lower edge, upper edge, count) in milliseconds, eight a doubling, from the first that counts to the last.
    pub fn bars_millis(&self) -> Vec<(f64, f64, u64)> {
        let mut bars: Vec<(f64, f64, u64)> = Vec::new();
        for value in self.0.iter_recorded() {
            let step = ((value.value_iterated_to() as f64).log2() * BARS_PER_DOUBLING).floor() / BARS_PER_DOUBLING;
            let lower = step.exp2() * 1e-6;
            let count = value.count_since_last_iteration();
            match bars.last_mut() {
                Some(bar) if bar.0 >= lower => bar.2 += count,
                _ => bars.push((lower, (step + 1.0 / BARS_PER_DOUBLING).exp2() * 1e-6, count)),
            }
        }
        bars
    }
}

/// The account of many ticks.
#[derive(Clone, Debug, Default)]
pub struct LoopStatistics {
    /// Whole ticks: frame in memory to command in memory.
    pub total: LatencyHistogram,
    /// By stage, in [`Stage::ALL`]'s order.
    pub stages: [LatencyHistogram; 4],
    /// Exposure to arrival, where both clocks are known.
    pub arrival: LatencyHistogram,
    /// Arrival to the beginning of the tick.
    pub wait: LatencyHistogram,
    /// Sending the command.
    pub publish: LatencyHistogram,
    /// Commands in which a joint was moved into its range.
    pub num_clamped: u64,
    /// Commands in which a joint was slowed to its rate.
    pub num_rate_limited: u64,
    /// Commands held.
    pub num_held: u64,
}

impl LoopStatistics {
    /// Counts a tick.
    pub fn record(&mut self, report: &TickReport) {
        self.total.record(report.total_nanos());
        for (histogram, nanos) in self.stages.iter_mut().zip(report.stage_nanos) {
            histogram.record(nanos);
        }
        let ends = [
            (&mut self.arrival, report.arrival_nanos),
            (&mut self.wait, report.wait_nanos),
            (&mut self.publish, report.publish_nanos),
        ];
        for (histogram, nanos) in ends {
            nanos.into_iter().for_each(|nanos| histogram.record(nanos));
        }
        self.num_clamped += u64::from(report.verdict.num_clamped > 0);
        self.num_rate_limited += u64::from(report.verdict.num_rate_limited > 0);
        self.num_held += u64::from(report.verdict.held.is_some());
    }

    /// The histogram of one stage.
    pub fn stage(&self, stage: Stage) -> &LatencyHistogram {
        let [preprocess, encode, policy, safety] = &self.stages;
        match stage {
            Stage::Preprocess => preprocess,
            Stage::Encode => encode,
            Stage::Policy => policy,
            Stage::Safety => safety,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_bars_of_known_times() {
        let mut histogram = LatencyHistogram::default();
        assert_eq!((histogram.quantile_millis(0.5), histogram.max_millis()), (0.0, 0.0));
        for micros in 1..=1000 {
            histogram.record(micros * 1000);
        }
        assert!((histogram.quantile_millis(0.5) - 0.5).abs() < 0.01, "{}", histogram.quantile_millis(0.5));
        assert!((histogram.quantile_millis(0.99) - 0.99).abs() < 0.02);
        assert!((histogram.max_millis() - 1.0).abs() < 0.02);
        let bars = histogram.bars_millis();
        assert_eq!(bars.iter().map(|bar| bar.2).sum::<u64>(), 1000);
        assert!(bars.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 1e-9), "{bars:?}");
        histogram.record(u64::MAX);
        assert!(histogram.max_millis() <= 61_000.0);
    }
}
