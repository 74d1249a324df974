//! Playing episodes for a result: state actors here, visual policies in the same loop that serves a robot.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use foresee_firmware_config::{CameraProfile, DeviceProfile};
use foresee_runtime::{
    ControlLoop, Ends, EngineOptions, EngineReport, LoopEvent, LoopStatistics, RuntimeError, TickReport, open_encoder,
    open_policy, run,
};
use foresee_sim::{
    Assets, Camera, CameraOptions, CommandMap, Environment, EnvironmentOptions, EpisodePlan, EpisodePlayer, Quality,
    Randomisation, Textures, UserModel, in_process_ends,
};

use crate::actor::StateActor;
use crate::error::PoliciesError;
use crate::progress::{Progress, Watch};
use crate::statistics::EpisodeResult;

/// Plays the plan's episodes with an actor that sees the state. The same plan gives the same results. Asked to stop, it gives the
/// episodes that were played to their end.
///
/// # Errors
/// What the simulator or the actor says; [`PoliciesError::Endless`].
pub fn evaluate_state(
    environment: &mut Environment,
    actor: &mut dyn StateActor,
    plan: EpisodePlan,
    watch: &mut Watch<'_>,
) -> Result<Vec<EpisodeResult>, PoliciesError> {
    check_ends(environment)?;
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

/// A visual policy and where it is to be played.
#[derive(Clone, Copy, Debug)]
pub struct VisualEvaluation<'a> {
    /// Task name, such as `dmc/reacher-easy`.
    pub task: &'a str,
    /// A model of the user's own in place of the task.
    pub model: Option<&'a UserModel>,
    /// The folder of native parts, which holds the tasks' assets.
    pub native: &'a Path,
    /// Camera, joints and their limits.
    pub profile: &'a DeviceProfile,
    /// How the camera renders; the quality that the policy was trained with.
    pub quality: Quality,
    /// What every episode draws its model, latency and camera faults from.
    pub randomisation: Option<&'a Arc<Randomisation>>,
    /// The encoder's ONNX file, its card beside it.
    pub encoder: &'a Path,
    /// The policy's ONNX file, its card beside it.
    pub policy: &'a Path,
    /// What runs both.
    pub engine: &'a EngineOptions,
    /// Which episodes.
    pub plan: EpisodePlan,
    /// Threads, each with its own simulator and engines; the results do not depend on it, the times do.
    pub num_workers: usize,
}

/// What a visual policy did.
#[derive(Clone, Debug)]
pub struct VisualOutcome {
    /// In order of their seeds.
    pub episodes: Vec<EpisodeResult>,
    /// What ran the encoder.
    pub encoder: EngineReport,
    /// The account of all ticks.
    pub statistics: LoopStatistics,
}

/// Plays the plan's episodes with a visual policy: frames from the simulator's camera through preprocessing, encoder, policy and safety filter,
/// in lockstep inside this process. The same plan gives the same results. Asked to stop, it gives the episodes that were played to their end.
///
/// # Errors
/// What a model, an engine or the simulator says; [`PoliciesError::Runtime`] also when a stage fails in any tick, since a result with held commands
/// in it would not be the policy's; [`PoliciesError::Endless`].
pub fn evaluate_visual(
    evaluation: &VisualEvaluation<'_>,
    watch: &mut Watch<'_>,
) -> Result<VisualOutcome, PoliciesError> {
    let num_wanted = evaluation.plan.num_episodes as usize;
    let plans = evaluation.plans();
    let (sender, receiver) = mpsc::sync_channel(2 * plans.len());
    let stop = AtomicBool::new(false);
    let mut statistics = LoopStatistics::default();
    let (mut episodes, mut encoder) = (Vec::new(), None);
    std::thread::scope(|scope| {
        for plan in plans {
            let (sender, stop) = (sender.clone(), &stop);
            scope.spawn(move || {
                if let Err(error) = evaluation.play(plan, stop, &sender) {
                    // When nobody listens any more, an earlier error was told.
                    let _ = sender.send(Err(error));
                }
            });
        }
        drop(sender);
        hear((receiver, &stop), |played| {
            match played {
                Played::Opened(report) => encoder = Some(report),
                Played::Ticked => {}
                Played::Episode(episode, ticks) => {
                    ticks.iter().for_each(|tick| statistics.record(tick));
                    episodes.push(episode.clone());
                    watch.tell(Progress::Played { num_played: episodes.len(), num_wanted, episode });
                }
            }
            watch.stopped()
        })
    })?;
    episodes.sort_by_key(|episode: &EpisodeResult| episode.seed);
    let encoder = encoder.ok_or_else(|| PoliciesError::Option {
        option: "num_episodes",
        value: num_wanted.to_string(),
        rule: "use at least 1".to_owned(),
    })?;
    Ok(VisualOutcome { episodes, encoder, statistics })
}

/// What a worker tells.
enum Played {
    /// Its engines run.
    Opened(EngineReport),
    /// It is alive; told now and then, so that a wish to stop is noticed within an episode.
    Ticked,
    /// An episode was played to its end, with these ticks.
    Episode(EpisodeResult, Vec<TickReport>),
}

type Answer = Result<Played, PoliciesError>;

/// Ticks between two signs of life.
const TICKS_PER_SIGN: usize = 50;

/// Hears the workers to their ends, or to the first error; `each` says whether they shall stop. The receiver ends with it, so that no
/// worker waits for somebody to listen after an error.
fn hear(
    (answers, stop): (mpsc::Receiver<Answer>, &AtomicBool),
    mut each: impl FnMut(Played) -> bool,
) -> Result<(), PoliciesError> {
    for answer in answers {
        let must_stop = answer.map(&mut each);
        if must_stop.as_ref().map_or(true, |must_stop| *must_stop) {
            stop.store(true, Ordering::Relaxed);
        }
        must_stop?;
    }
    Ok(())
}

/// An evaluation is over when its episodes are.
fn check_ends(environment: &Environment) -> Result<(), PoliciesError> {
    let spec = environment.spec();
    if spec.is_endless() { Err(PoliciesError::Endless { task: spec.name.clone() }) } else { Ok(()) }
}

impl VisualEvaluation<'_> {
    /// One contiguous part of the plan a worker.
    fn plans(&self) -> Vec<EpisodePlan> {
        let num_episodes = self.plan.num_episodes;
        let num_workers = u32::try_from(self.num_workers).unwrap_or(u32::MAX).clamp(1, num_episodes.max(1));
        let starts: Vec<u32> = (0..=num_workers)
            .map(|worker| (u64::from(num_episodes) * u64::from(worker) / u64::from(num_workers)) as u32)
            .collect();
        let spans = starts.iter().zip(starts.iter().skip(1)).filter(|(start, end)| start < end);
        spans
            .map(|(start, end)| EpisodePlan {
                first_seed: self.plan.first_seed + u64::from(*start),
                num_episodes: end - start,
            })
            .collect()
    }

    fn play(
        &self,
        plan: EpisodePlan,
        stop: &AtomicBool,
        sender: &mpsc::SyncSender<Answer>,
    ) -> Result<(), PoliciesError> {
        plan.check()?;
        let encoder = open_encoder(self.encoder, self.engine)?;
        let names: Vec<String> = self.profile.joints.iter().map(|joint| joint.name.clone()).collect();
        let policy = open_policy(self.policy, encoder.card(), &names, self.engine)?;
        let report = encoder.report().clone();
        let mut control_loop = ControlLoop::new(encoder, policy, self.profile)?;
        let options = EnvironmentOptions { randomisation: self.randomisation.cloned(), ..Default::default() };
        let assets = Assets { native: self.native, textures: Textures::Full };
        let mut environment = Environment::of_task_or_model(self.task, self.model, assets, options)?;
        check_ends(&environment)?;
        let joints = CommandMap::new(&environment, self.profile)?;
        environment.reset(plan.first_seed)?;
        let camera = |view: &CameraProfile| Camera::new(&environment, &CameraOptions::of(view, self.quality));
        let first = camera(&self.profile.camera)?;
        let others = self.profile.extra_cameras.iter();
        let others = others.map(|extra| Camera::new(&environment, &CameraOptions::of_extra(extra, self.quality)));
        let others = others.collect::<Result<_, _>>()?;
        let player = EpisodePlayer::new(environment, first, plan).with_cameras(others).with_joints(joints);
        let (mut source, mut actuator) = in_process_ends(player);
        let ends = Ends { source: &mut source, actuator: &mut actuator };
        let tell = |played| {
            if sender.send(Ok(played)).is_err() {
                stop.store(true, Ordering::Relaxed);
            }
        };
        tell(Played::Opened(report));
        let mut ticks = Vec::new();
        run(ends, &mut control_loop, stop, &mut |event| {
            match event {
                LoopEvent::Ticked { failure: Some(failure), .. } => return Err(self.failed(failure)),
                LoopEvent::Ticked { report, .. } => {
                    ticks.push(report);
                    if ticks.len().is_multiple_of(TICKS_PER_SIGN) {
                        tell(Played::Ticked);
                    }
                }
                LoopEvent::EpisodeStarted(_) => ticks.clear(),
                LoopEvent::EpisodeEnded(episode) => {
                    let result = EpisodeResult {
                        seed: episode.seed,
                        episode_return: episode.episode_return,
                        num_steps: episode.num_steps,
                        success: episode.success,
                    };
                    tell(Played::Episode(result, std::mem::take(&mut ticks)));
                }
                LoopEvent::Waiting { .. } => {}
            }
            Ok(())
        })?;
        Ok(())
    }

    fn failed(&self, failure: &RuntimeError) -> RuntimeError {
        RuntimeError::Inference { model: self.policy.display().to_string(), problem: failure.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_worker_waits_to_be_heard_after_an_error() {
        let stop = AtomicBool::new(false);
        let (sender, receiver) = mpsc::sync_channel(1);
        let heard = std::thread::scope(|scope| {
            let talker = sender.clone();
            scope.spawn(move || while talker.send(Ok(Played::Ticked)).is_ok() {});
            scope.spawn(move || sender.send(Err(PoliciesError::Training("broke".to_owned()))).is_ok());
            hear((receiver, &stop), |_| false)
        });
        assert!(heard.is_err_and(|error| error.to_string().contains("broke")) && stop.load(Ordering::Relaxed));
    }
}
