//! Single states of a dm_control task, compared as functions of state.

use super::file::{Array, Arrays};
use super::{StateRow, TaskReport, compare_state, difference};
use crate::environment::Environment;

/// Puts every such state of a seed, where the file holds some, and compares observation and reward.
pub(super) fn compare(
    environment: &mut Environment,
    (arrays, seed): (&Arrays<'_>, u64),
    report: &mut TaskReport,
) -> Result<(), String> {
    let name = |part: &str| format!("seed{seed}.edges.{part}");
    if !arrays.has(&name("rewards")) {
        return Ok(());
    }
    let rewards = arrays.get(&name("rewards"), 1)?;
    let [qpos, qvel, observations] =
        [arrays.get(&name("qpos"), 2)?, arrays.get(&name("qvel"), 2)?, arrays.get(&name("observations"), 2)?];
    if [&qpos, &qvel, &observations].iter().any(|array| array.shape[0] != rewards.shape[0]) {
        return Err(format!("the tensors {} have different numbers of rows", name("*")));
    }
    environment.reset(seed).map_err(|error| error.to_string())?;
    for (index, reward) in rewards.values.iter().enumerate() {
        let expected =
            StateRow { qpos: row(&qpos, index), qvel: row(&qvel, index), observation: row(&observations, index) };
        let physics = environment.physics_mut();
        if (physics.qpos().len(), physics.qvel().len()) != (expected.qpos.len(), expected.qvel.len()) {
            return Err(format!("the rows of {} have other lengths than the model's", name("qpos and qvel")));
        }
        physics.reset();
        physics.data_mut().qpos_mut().copy_from_slice(expected.qpos);
        physics.data_mut().qvel_mut().copy_from_slice(expected.qvel);
        physics.forward_without_actuation();
        let found = environment.observe_again();
        compare_state(environment, &expected, report)?;
        report.worst_reward = report.worst_reward.max(difference(&[found], &[*reward]));
    }
    Ok(())
}

fn row(array: &Array, index: usize) -> &[f64] {
    let length = array.shape[1];
    &array.values[index * length..(index + 1) * length]
}
