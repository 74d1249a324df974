//! Chunks of actions: what a policy wants from one observation on, played step by step until it is too old.

use std::time::Duration;

use foresee_firmware_config::RatesProfile;

use crate::command::Action;
use crate::time::Stamp;

/// What a player did with chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkSummary {
    /// Chunks played from.
    pub num_taken: u64,
    /// Chunks refused because their observation was too old.
    pub num_late: u64,
    /// Chunks refused because a chunk of that observation, or a newer one, was there already.
    pub num_duplicate: u64,
}

/// Plays the newest chunk. The first action is for the observation's stamp, each next one a step later.
#[derive(Clone, Debug)]
pub struct ChunkPlayer {
    num_joints: usize,
    step: Duration,
    expiry: Duration,
    /// The observation that the chunk answers, and `[T, J]` values; empty: none.
    observation: Option<Stamp>,
    values: Vec<f64>,
    summary: ChunkSummary,
}

impl ChunkPlayer {
    /// For actions of `num_joints` values.
    pub fn new(num_joints: usize, rates: &RatesProfile) -> Self {
        let millis = |millis: f64| Duration::from_secs_f64(millis * 1e-3);
        Self {
            num_joints: num_joints.max(1),
            step: millis(rates.chunk_step_millis),
            expiry: millis(rates.chunk_expiry_millis),
            observation: None,
            values: Vec::new(),
            summary: ChunkSummary::default(),
        }
    }

    /// Forgets what it plays, after a reset or a reconnection; the id of the last observation is kept, so that nothing older comes again.
    pub fn forget(&mut self) {
        self.values.clear();
    }

    /// As [`ChunkPlayer::forget`], and stamps begin anew: another episode, or another clock.
    pub fn reset(&mut self) {
        self.forget();
        self.observation = None;
    }

    /// Takes `[T, J]` values that answer `observation`, unless it is too old at `now` or was answered already; gives whether it took them.
    pub fn take(&mut self, observation: Stamp, values: &[f64], now: Stamp) -> bool {
        if self.observation.is_some_and(|known| observation <= known) {
            self.summary.num_duplicate += 1;
            return false;
        }
        if now.since(observation) > self.expiry {
            self.summary.num_late += 1;
            return false;
        }
        self.observation = Some(observation);
        self.values.clear();
        self.values.extend_from_slice(values);
        self.summary.num_taken += 1;
        true
    }

    /// Writes the action for `now`; false when there is none that is still valid: used up, too old, or of another length.
    pub fn play(&self, now: Stamp, action: &mut Action) -> bool {
        action.values.clear();
        let Some(observation) = self.observation.filter(|observation| *observation <= now) else { return false };
        let elapsed = now.since(observation);
        if elapsed > self.expiry || !self.values.len().is_multiple_of(self.num_joints) {
            return false;
        }
        // Half a step early is still that step: ticks are never exactly apart.
        let step = ((elapsed.as_secs_f64() / self.step.as_secs_f64()) + 0.5) as usize;
        let Some(values) = self.values.chunks_exact(self.num_joints).nth(step) else { return false };
        action.values.extend_from_slice(values);
        true
    }

    /// What it did so far.
    pub fn summary(&self) -> ChunkSummary {
        self.summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Stamp {
        Stamp { nanos: millis * 1_000_000 }
    }

    #[test]
    fn chunks_are_played_in_time_and_nothing_old_or_twice() {
        let rates = RatesProfile {
            encode_every_ticks: 1,
            policy_every_ticks: 4,
            chunk_step_millis: 20.0,
            chunk_expiry_millis: 100.0,
            cameras: foresee_firmware_config::CameraOrder::Batch,
        };
        let mut player = ChunkPlayer::new(2, &rates);
        let mut action = Action::default();
        assert!(!player.play(millis(1000), &mut action), "nothing was taken yet");
        assert!(player.take(millis(1000), &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], millis(1010)));
        for (now, expected) in [(1000, 0.0), (1009, 0.0), (1011, 1.0), (1020, 1.0), (1041, 2.0)] {
            assert!(player.play(millis(now), &mut action));
            assert_eq!(action.values, [expected, expected + 0.5], "at {now}");
        }
        assert!(!player.play(millis(1060), &mut action), "used up");
        assert!(!player.play(millis(990), &mut action), "before its observation");
        assert!(!player.take(millis(1000), &[9.0, 9.0], millis(1020)), "a duplicate");
        assert!(!player.take(millis(980), &[9.0, 9.0], millis(1020)), "an older one");
        assert!(!player.take(millis(1020), &[9.0, 9.0], millis(1200)), "too late");
        assert_eq!(player.summary(), ChunkSummary { num_taken: 1, num_late: 1, num_duplicate: 2 });
        assert!(player.take(millis(1100), &[9.0; 20], millis(1100)));
        assert!(player.play(millis(1200), &mut action) && !player.play(millis(1201), &mut action), "expired");
        player.forget();
        assert!(!player.play(millis(1120), &mut action) && !player.take(millis(1100), &[1.0, 1.0], millis(1120)));
        assert!(player.take(millis(1121), &[1.0, 1.0, 1.0], millis(1121)));
        assert!(!player.play(millis(1121), &mut action), "not a whole number of actions");
    }
}
