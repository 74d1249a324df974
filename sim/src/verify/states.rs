//! Recorded states that are put one by one, and what a task says of each.

use super::file::{Array, Arrays};
use super::{TaskReport, difference};
use crate::environment::Environment;
use crate::metaworld::{EpisodeConstants, RecordedRow};

/// One recorded episode.
pub(super) struct SeedStates {
    constants: EpisodeConstants,
    actions: Array,
    expert_actions: Array,
    observations: Array,
    rewards: Array,
    successes: Array,
    qpos: Array,
    qvel: Array,
    mocap: Array,
}

impl SeedStates {
    pub(super) fn parse(arrays: &Arrays<'_>, seed: u64) -> Result<Self, String> {
        let array = |name: &str, num_axes| arrays.get(&format!("seed{seed}.{name}"), num_axes);
        let point = |name: &str| match *array(name, 1)?.values {
            [x, y, z] => Ok([x, y, z]),
            _ => Err(format!("seed{seed}.{name} is not a point")),
        };
        let states = Self {
            constants: EpisodeConstants {
                layout: array("last_rand_vec", 1)?.values,
                target: point("target_pos")?,
                object_start: point("obj_init_pos")?,
                start: point("init_tcp")?,
            },
            actions: array("actions", 2)?,
            expert_actions: array("expert_actions", 2)?,
            observations: array("observations", 2)?,
            rewards: array("rewards", 1)?,
            successes: array("success", 1)?,
            qpos: array("qpos", 2)?,
            qvel: array("qvel", 2)?,
            mocap: array("mocap_pos", 2)?,
        };
        let num_steps = states.actions.shape[0];
        let rows = [&states.expert_actions, &states.rewards, &states.successes].map(|array| array.shape[0]);
        let more = [&states.observations, &states.qpos, &states.qvel, &states.mocap].map(|array| array.shape[0]);
        if rows != [num_steps; 3] || more != [num_steps + 1; 4] || states.mocap.shape[1] != 3 {
            return Err(format!("seed{seed}: the tensors do not belong to {num_steps} steps"));
        }
        Ok(states)
    }

    fn row(&self, index: usize) -> RecordedRow<'_> {
        let mocap = row_of(&self.mocap, index);
        let mocap = [mocap[0], mocap[1], mocap[2]];
        RecordedRow { qpos: row_of(&self.qpos, index), qvel: row_of(&self.qvel, index), mocap }
    }
}

/// Puts every state of an episode.
pub(super) fn compare_seed(
    environment: &mut Environment,
    episode: &SeedStates,
    report: &mut TaskReport,
) -> Result<(), String> {
    let (task, physics) = environment.recorded_states().ok_or("the task cannot be put into a state")?;
    let first = (episode.row(0), row_of(&episode.observations, 0));
    task.begin(physics, &episode.constants, first).map_err(|error| error.to_string())?;
    let shift = task.expert_shift();
    compare_expert(environment, episode, 0, report)?;
    for step in 0..episode.actions.shape[0] {
        let (task, physics) = environment.recorded_states().ok_or("the task cannot be put into a state")?;
        let action = row_of(&episode.actions, step);
        task.put(physics, episode.row(step + 1), action).map_err(|error| error.to_string())?;
        let found = [environment.observe_again(), f64::from(environment.success())];
        let mut observation = environment.observation().to_vec();
        if step + 1 < episode.actions.shape[0] {
            observation[4..7].iter_mut().zip(shift).for_each(|(value, shift)| *value += shift);
        }
        let observation = difference(&observation, row_of(&episode.observations, step + 1));
        report.worst_observation = report.worst_observation.max(observation);
        let expected = [episode.rewards.values[step], episode.successes.values[step]];
        report.worst_reward = report.worst_reward.max(difference(&found, &expected));
        report.rows += 1;
        if step + 1 < episode.actions.shape[0] {
            compare_expert(environment, episode, step + 1, report)?;
        }
    }
    Ok(())
}

fn compare_expert(
    environment: &Environment,
    episode: &SeedStates,
    step: usize,
    report: &mut TaskReport,
) -> Result<(), String> {
    let expert = environment.expert_action().ok_or("the task has no expert")?;
    let error = difference(&expert, row_of(&episode.expert_actions, step));
    report.worst_reward = report.worst_reward.max(error);
    Ok(())
}

/// A row of a matrix; in range, because the shapes were checked against each other.
fn row_of(array: &Array, index: usize) -> &[f64] {
    let length = array.shape[1];
    &array.values[index * length..(index + 1) * length]
}
