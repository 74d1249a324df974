//! The latency budget: proved before the loop starts, watched while it runs.

use foresee_firmware_config::BudgetProfile;

use crate::control_loop::{Stage, TickReport};
use crate::error::RuntimeError;
use crate::statistics::{LatencyHistogram, LoopStatistics};

/// Ticks in a row within the budget that end a safe action taken for it.
const NUM_GOOD: u32 = 10;
/// The share of the self-test's ticks that must lie within the budget.
const PROVED_SHARE: f64 = 0.95;

/// Watches over the budget.
#[derive(Clone, Debug)]
pub(crate) struct BudgetWatch {
    budget: BudgetProfile,
    num_late: u32,
    num_good: u32,
    is_broken: bool,
}

/// How a tick stands to the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BudgetState {
    /// Within.
    Kept,
    /// Late, as few times in a row as the profile tolerates.
    Late,
    /// Late too often: the safe action.
    Broken,
}

impl BudgetWatch {
    pub(crate) fn new(budget: BudgetProfile) -> Self {
        Self { budget, num_late: 0, num_good: 0, is_broken: false }
    }

    /// What a whole tick may take, milliseconds.
    pub(crate) fn total_millis(&self) -> f64 {
        self.budget.total_millis
    }

    /// Counts a tick, up to its policy.
    pub(crate) fn look(&mut self, report: &TickReport) -> BudgetState {
        if limits(&self.budget).iter().any(|(stage, limit)| is_over(report, *stage, *limit)) {
            (self.num_late, self.num_good) = (self.num_late.saturating_add(1), 0);
            self.is_broken |= self.num_late > self.budget.tolerated_misses;
        } else {
            (self.num_late, self.num_good) = (0, self.num_good.saturating_add(1));
            self.is_broken &= self.num_good < NUM_GOOD;
        }
        match (self.is_broken, self.num_late) {
            (true, _) => BudgetState::Broken,
            (false, 0) => BudgetState::Kept,
            (false, _) => BudgetState::Late,
        }
    }
}

/// (stage, milliseconds); no stage: the whole tick.
fn limits(budget: &BudgetProfile) -> [(Option<Stage>, Option<f64>); 4] {
    [
        (Some(Stage::Preprocess), budget.preprocess_millis),
        (Some(Stage::Encode), budget.encode_millis),
        (Some(Stage::Policy), budget.policy_millis),
        (None, Some(budget.total_millis)),
    ]
}

fn is_over(report: &TickReport, stage: Option<Stage>, limit_millis: Option<f64>) -> bool {
    let nanos = stage.map_or_else(|| report.total_nanos(), |stage| report.nanos(stage));
    limit_millis.is_some_and(|limit| nanos as f64 * 1e-6 > limit)
}

/// Whether measured ticks keep the budget: 95 of 100 must, of each stage and of the whole.
///
/// # Errors
/// [`RuntimeError::Budget`] names the stage, what was measured and what is declared.
pub(crate) fn prove(budget: &BudgetProfile, measured: &LoopStatistics) -> Result<(), RuntimeError> {
    for (stage, limit) in limits(budget) {
        let Some(limit_millis) = limit else { continue };
        let histogram = stage.map_or(&measured.total, |stage| measured.stage(stage));
        prove_total(|| stage.map_or("total", Stage::name).to_owned(), histogram, limit_millis)?;
    }
    Ok(())
}

/// The same of what was measured of one thing.
///
/// # Errors
/// As [`prove`].
pub(crate) fn prove_total(
    stage: impl FnOnce() -> String,
    measured: &LatencyHistogram,
    limit_millis: f64,
) -> Result<(), RuntimeError> {
    let millis = measured.quantile_millis(PROVED_SHARE);
    if millis > limit_millis {
        return Err(RuntimeError::Budget { stage: stage(), millis, limit_millis });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: BudgetProfile = BudgetProfile {
        total_millis: 10.0,
        preprocess_millis: None,
        encode_millis: Some(6.0),
        policy_millis: None,
        tolerated_misses: 2,
        self_test_ticks: 1,
    };

    fn report(encode_millis: u64, policy_millis: u64) -> TickReport {
        TickReport {
            stage_nanos: [0, encode_millis * 1_000_000, policy_millis * 1_000_000, 0],
            ..TickReport::default()
        }
    }

    #[test]
    fn late_ticks_are_tolerated_then_not_and_good_ones_forgive() {
        let mut watch = BudgetWatch::new(BUDGET);
        let mut look = |encode, policy| watch.look(&report(encode, policy));
        assert_eq!(look(5, 4), BudgetState::Kept);
        assert_eq!([look(7, 0), look(5, 6), look(5, 5)], [BudgetState::Late, BudgetState::Late, BudgetState::Kept]);
        assert_eq!([look(7, 0), look(7, 0), look(7, 0)], [BudgetState::Late, BudgetState::Late, BudgetState::Broken]);
        for _ in 1..NUM_GOOD {
            assert_eq!(look(1, 1), BudgetState::Broken);
        }
        assert_eq!(look(1, 1), BudgetState::Kept);
    }

    #[test]
    fn a_machine_that_is_too_slow_is_told_by_how_much() {
        let mut measured = LoopStatistics::default();
        measured.record(&report(5, 1));
        assert!(prove(&BUDGET, &measured).is_ok());
        (0..3).for_each(|_| measured.record(&report(8, 1)));
        let told = prove(&BUDGET, &measured).unwrap_err().to_string();
        assert!(told.contains("encode") && told.contains("6 ms") && told.contains("8."), "{told}");
    }
}
