//! What a scripted expert and random actions reach on the same seeds as the policy: the frame of every return.

use anyhow::Context;
use foresee_policies::{EpisodeResult, StateActor, Summary, UniformRandom, Watch, evaluate_state, expert_for};
use foresee_sim::{Assets, Environment, EnvironmentOptions, EpisodePlan, TASKS, Textures};

use crate::places;
use crate::result::Returns;

/// Expert's and random's returns on these seeds; `None` for a task without an expert, and for the other when stopped.
///
/// # Errors
/// What the simulator says.
pub(crate) fn play(
    task: &str,
    options: EnvironmentOptions,
    seeds: &[u64],
    watch: &mut Watch<'_>,
) -> anyhow::Result<[Option<Returns>; 2]> {
    // A model of the user's own has none.
    if !TASKS.iter().any(|entry| entry.name == task) {
        return Ok([None, None]);
    }
    let assets = Assets { native: &places::native(), textures: Textures::Small };
    let mut environment = Environment::with_options(task, assets, options).context("baselines")?;
    let expert = match expert_for(&environment) {
        Ok(mut expert) => of_actor(&mut environment, expert.as_mut(), seeds, watch)?,
        Err(_) => None,
    };
    let random = of_actor(&mut environment, &mut UniformRandom::new(), seeds, watch)?;
    Ok([expert, random])
}

fn of_actor(
    environment: &mut Environment,
    actor: &mut dyn StateActor,
    seeds: &[u64],
    watch: &mut Watch<'_>,
) -> anyhow::Result<Option<Returns>> {
    let mut episodes = Vec::with_capacity(seeds.len());
    for &first_seed in seeds {
        episodes.extend(evaluate_state(environment, actor, EpisodePlan { first_seed, num_episodes: 1 }, watch)?);
    }
    Ok((episodes.len() == seeds.len()).then(|| returns(&environment.spec().name, &episodes)))
}

/// Episodes of a task as returns. Where it is known what a return can be, the interval lies within that.
pub(crate) fn returns(task: &str, episodes: &[EpisodeResult]) -> Returns {
    let mut summary = Summary::of(episodes);
    // A reward of the DeepMind control suite is 0 to 1, an episode has 1000 steps.
    if task.starts_with("dmc/") {
        let highest = summary.mean_return.max(1000.0);
        summary.ci95 = summary.ci95.map(|end| end.clamp(summary.mean_return.min(0.0), highest));
    }
    Returns {
        mean_return: summary.mean_return,
        ci95: summary.ci95,
        success_rate: summary.success_rate,
        success_ci95: summary.success_ci95,
        returns: episodes.iter().map(|episode| episode.episode_return).collect(),
    }
}
