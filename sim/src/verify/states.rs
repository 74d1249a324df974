//! Recorded states that are put one by one, and what a task says of each.

use super::file::{Array, Arrays};
use super::{TaskReport, difference};
use crate::environment::Environment;
use crate::recorded::{EpisodeStart, RecordedRow};

/// One recorded episode.
pub(super) struct SeedStates {
    start: EpisodeStart,
    actions: Array,
    /// What the original's expert did, where it has one.
    expert_actions: Option<Array>,
    observations: Array,
    /// What follows on each observation in ours.
    achieved_goals: Option<Array>,
    rewards: Array,
    successes: Array,
    qpos: Array,
    qvel: Array,
    mocap: Option<Array>,
}

impl SeedStates {
    pub(super) fn parse(arrays: &Arrays<'_>, seed: u64) -> Result<Self, String> {
        let array = |name: &str, num_axes| arrays.get(&format!("seed{seed}.{name}"), num_axes);
        let optional = |name: &str| arrays.has(&format!("seed{seed}.{name}")).then(|| array(name, 2)).transpose();
        let states = Self {
            start: parse_start(arrays, seed)?,
            actions: array("actions", 2)?,
            expert_actions: optional("expert_actions")?,
            observations: array("observations", 2)?,
            achieved_goals: optional("achieved_goal")?,
            rewards: array("rewards", 1)?,
            successes: array("success", 1)?,
            qpos: array("qpos", 2)?,
            qvel: array("qvel", 2)?,
            mocap: optional("mocap_pos")?,
        };
        if !states.fits_together() {
            return Err(format!("seed{seed}: the tensors do not belong to {} steps", states.num_steps()));
        }
        Ok(states)
    }

    fn fits_together(&self) -> bool {
        let of_steps = [Some(&self.rewards), Some(&self.successes), self.expert_actions.as_ref()];
        let of_states = [&self.observations, &self.qpos, &self.qvel].map(Some);
        let of_states = of_states.into_iter().chain([self.mocap.as_ref(), self.achieved_goals.as_ref()]);
        of_steps.into_iter().flatten().all(|array| array.shape[0] == self.num_steps())
            && of_states.flatten().all(|array| array.shape[0] == self.num_steps() + 1)
            && self.mocap.as_ref().is_none_or(|mocap| mocap.shape[1] == 3)
    }

    fn num_steps(&self) -> usize {
        self.actions.shape[0]
    }

    fn row(&self, index: usize) -> RecordedRow<'_> {
        let mocap = self.mocap.as_ref().map(|mocap| row_of(mocap, index));
        let mocap = mocap.map(|place| [place[0], place[1], place[2]]);
        RecordedRow { qpos: row_of(&self.qpos, index), qvel: row_of(&self.qvel, index), mocap }
    }

    fn observation(&self, index: usize) -> Vec<f64> {
        let goal = self.achieved_goals.as_ref().map_or(&[][..], |goals| row_of(goals, index));
        [row_of(&self.observations, index), goal].concat()
    }
}

fn parse_start(arrays: &Arrays<'_>, seed: u64) -> Result<EpisodeStart, String> {
    let array = |name: &str, num_axes| arrays.get(&format!("seed{seed}.{name}"), num_axes);
    if arrays.has(&format!("seed{seed}.reset.body_pos")) {
        return Ok(EpisodeStart::Model {
            body_positions: array("reset.body_pos", 2)?.values.as_chunks().0.to_vec(),
            body_quaternions: array("reset.body_quat", 2)?.values.as_chunks().0.to_vec(),
            site_positions: array("reset.site_pos", 2)?.values.as_chunks().0.to_vec(),
        });
    }
    let point = |name: &str| match *array(name, 1)?.values {
        [x, y, z] => Ok([x, y, z]),
        _ => Err(format!("seed{seed}.{name} is not a point")),
    };
    Ok(EpisodeStart::Layout {
        layout: array("last_rand_vec", 1)?.values,
        target: point("target_pos")?,
        object_start: point("obj_init_pos")?,
        start: point("init_tcp")?,
    })
}

/// Puts every state of an episode.
pub(super) fn compare_seed(
    environment: &mut Environment,
    episode: &SeedStates,
    report: &mut TaskReport,
) -> Result<(), String> {
    let (task, physics) = environment.recorded_states().ok_or("the task cannot be put into a state")?;
    let first = (episode.row(0), row_of(&episode.observations, 0));
    task.begin(physics, &episode.start, first).map_err(|error| error.to_string())?;
    let (shift, compares_first) = (task.expert_shift(), task.compares_first());
    environment.observe_again();
    if compares_first {
        compare_observation(environment.observation(), &episode.observation(0), report)?;
    }
    compare_expert(environment, episode, 0, report)?;
    for step in 0..episode.num_steps() {
        let (task, physics) = environment.recorded_states().ok_or("the task cannot be put into a state")?;
        let action = row_of(&episode.actions, step);
        task.put(physics, episode.row(step + 1), action).map_err(|error| error.to_string())?;
        let found = [environment.observe_again(), f64::from(environment.success())];
        let mut observation = environment.observation().to_vec();
        if step + 1 < episode.num_steps() && shift != [0.0; 3] {
            observation[4..7].iter_mut().zip(shift).for_each(|(value, shift)| *value += shift);
        }
        compare_observation(&observation, &episode.observation(step + 1), report)?;
        let expected = [episode.rewards.values[step], episode.successes.values[step]];
        report.worst_reward = report.worst_reward.max(difference(&found, &expected));
        compare_expert(environment, episode, step + 1, report)?;
    }
    Ok(())
}

fn compare_observation(found: &[f64], expected: &[f64], report: &mut TaskReport) -> Result<(), String> {
    if found.len() != expected.len() {
        return Err(format!("the observation has {} values, but the file has {}", found.len(), expected.len()));
    }
    report.worst_observation = report.worst_observation.max(difference(found, expected));
    report.rows += 1;
    Ok(())
}

fn compare_expert(
    environment: &Environment,
    episode: &SeedStates,
    step: usize,
    report: &mut TaskReport,
) -> Result<(), String> {
    let Some(expected) = episode.expert_actions.as_ref().filter(|actions| step < actions.shape[0]) else {
        return Ok(());
    };
    let expert = environment.expert_action().ok_or("the task has no expert")?;
    report.worst_reward = report.worst_reward.max(difference(&expert, row_of(expected, step)));
    Ok(())
}

/// A row of a matrix; in range, because the shapes were checked against each other.
fn row_of(array: &Array, index: usize) -> &[f64] {
    let length = array.shape[1];
    &array.values[index * length..(index + 1) * length]
}
