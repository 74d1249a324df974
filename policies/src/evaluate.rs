//! Playing episodes for a result: state actors here, visual policies in the same loop that serves a robot.

use foresee_sim::{Environment, EpisodePlan};

use crate::actor::StateActor;
use crate::error::PoliciesError;
use crate::progress::{Progress, Watch};
use crate::statistics::EpisodeResult;

/// Plays the plan's episodes with an actor that sees the state. The same plan gives the same results. Asked to stop, it gives the
/// episodes that were played to their end.
///
/// # Errors
/// What the simulator or the actor says.
pub fn evaluate_state(
    environment: &mut Environment,
    actor: &mut dyn StateActor,
    plan: EpisodePlan,
    watch: &mut Watch<'_>,
) -> Result<Vec<EpisodeResult>, PoliciesError> {
    let mut action = vec![0.0; environment.spec().actions.len()];
    let mut episodes = Vec::new();
    for seed in (plan.first_seed..).take(plan.num_episodes as usize) {
        environment.reset(seed)?;
        actor.reset(seed);
        let mut episode = EpisodeResult { seed, episode_return: 0.0, num_steps: 0, success: false };
        loop {
            if watch.stopped() {
                return Ok(episodes);
            }
            actor.act(environment, &mut action)?;
            let transition = environment.step(&action)?;
            episode.episode_return += transition.reward;
            episode.num_steps += 1;
            episode.success = transition.success;
            if transition.is_last() {
                break;
            }
        }
        episodes.push(episode.clone());
        let (num_played, num_wanted) = (episodes.len(), plan.num_episodes as usize);
        watch.tell(Progress::Played { num_played, num_wanted, episode });
    }
    Ok(episodes)
}
