//! `foresee eval`: what a camera policy reaches, beside the expert and random actions on the same seeds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use clap::Args;
use foresee_firmware_config::DeviceProfile;
use foresee_policies::{EpisodeResult, Progress, VisualEvaluation, VisualOutcome, Watch, evaluate_visual};
use foresee_runtime::{CardSignature, EngineReport, ModelCard};
use foresee_sim::{CommandMap, EnvironmentOptions, EpisodePlan, Quality, Randomisation};
use serde::Serialize;

use crate::counts::check_counts;
use crate::models::ModelArguments;
use crate::progress::Steps;
use crate::result::{Millis, Returns};
use crate::simulated::SimulatedArguments;
use crate::words::{print, say};
use crate::{baselines, machine, places, stop, trail};

/// Arguments of `foresee eval`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Task, such as dmc/reacher-easy; see foresee sim --list
    #[arg(required_unless_present = "mjcf")]
    task: Option<String>,
    #[command(flatten)]
    models: ModelArguments,
    #[command(flatten)]
    simulated: SimulatedArguments,
    /// Robot: its camera and joints.
    #[arg(long, default_value = "desktop-sim", value_name = "NAME|FILE")]
    profile: String,
    /// Episodes to play.
    #[arg(long, default_value_t = 100, value_name = "N")]
    episodes: u32,
    /// Seed of the first episode; the next ones count up.
    #[arg(long, default_value_t = 1_000_000, value_name = "S")]
    seed: u64,
    /// Episodes at a time, each with its own simulator and engines; the returns do not depend on it.
    #[arg(long, default_value = "2", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,
    /// Write what was measured into the policy's card.
    #[arg(long)]
    into_card: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Evaluation {
    task: String,
    episodes: usize,
    seeds: [u64; 2],
    policy: Returns,
    expert: Option<Returns>,
    random: Option<Returns>,
    /// Mean return of the policy over the expert's.
    policy_over_expert: Option<f64>,
    engines: BTreeMap<&'static str, EngineReport>,
    loop_millis: Millis,
    commands_held: u64,
    mujoco_version: Option<String>,
    /// What every episode drew from, the expert's and random's too (which see the state, not the camera).
    randomisation: Option<Randomisation>,
    cpu_features: Vec<&'static str>,
    git_revision: &'static str,
    interval: &'static str,
}

/// Plays, in this process, the same loop that serves a robot.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let counts = [("--episodes", arguments.episodes as usize), ("--workers", usize::from(arguments.workers))];
    check_counts(&counts.map(|(flag, count)| (flag, count, usize::MAX)))?;
    let policy_path = arguments.models.policy_path();
    if arguments.into_card {
        must_be_unsigned(&policy_path)?;
    }
    let stop = stop::flag()?;
    let profile = foresee_firmware_config::load(&arguments.profile)?;
    // Opened once for its own sake: errors name the arguments, and the policy says what runs it.
    let (encoder, policy) = arguments.models.open(&profile)?;
    let reports = [("encoder", Some(encoder.report().clone())), ("policy", policy.report().cloned())];
    let plan = EpisodePlan { first_seed: arguments.seed, num_episodes: arguments.episodes };
    let randomisation = arguments.simulated.randomise.load()?;
    let model = arguments.simulated.model.of(arguments.task.as_deref(), &profile)?;
    let task = arguments.name_of_task(&profile)?;
    let visual = VisualEvaluation {
        task: &task,
        model: model.as_ref(),
        native: &places::native(),
        profile: &profile,
        quality: Quality::Fast,
        randomisation: randomisation.as_ref(),
        encoder: &arguments.models.encoder.path(),
        policy: &policy_path,
        engine: &arguments.models.encoder.options(&profile)?,
        plan,
        num_workers: usize::from(arguments.workers),
    };
    let outcome = play("eval: policy", &visual, &stop)?;
    let VisualOutcome { episodes, statistics, .. } = outcome;
    if episodes.is_empty() {
        return Ok(ExitCode::from(130));
    }
    let seeds: Vec<u64> = episodes.iter().map(|episode| episode.seed).collect();
    // Expert and random actions, where the task has both.
    let mut steps = Steps::new("eval: expert and random actions", 2 * seeds.len() as u64);
    let mut num_played = 0;
    let mut observe = |progress| {
        if let Progress::Played { episode, .. } = progress {
            num_played += 1;
            steps.set(num_played, &said(&episode));
        }
    };
    let mut watch = Watch { observe: &mut observe, stop: &stop };
    let options = EnvironmentOptions { randomisation: randomisation.clone(), ..EnvironmentOptions::default() };
    let [expert, random] = baselines::play(&task, options, &seeds, &mut watch)?;
    steps.finish();
    let policy = baselines::returns(&task, &episodes);
    let evaluation = Evaluation {
        task,
        episodes: episodes.len(),
        seeds: [arguments.seed, arguments.seed + episodes.len() as u64 - 1],
        policy_over_expert: expert.as_ref().map(|expert| policy.mean_return / expert.mean_return),
        policy,
        expert,
        random,
        engines: reports.into_iter().filter_map(|(name, report)| Some((name, report?))).collect(),
        loop_millis: Millis::of(&statistics.total),
        commands_held: statistics.num_held,
        mujoco_version: machine::mujoco_version(),
        randomisation: randomisation.as_deref().cloned(),
        cpu_features: machine::cpu_features(),
        git_revision: machine::GIT_REVISION,
        interval: foresee_policies::INTERVAL_METHOD,
    };
    report(&evaluation, arguments.json)?;
    let is_whole = episodes.len() == arguments.episodes as usize && !stop.load(Ordering::Relaxed);
    match (arguments.into_card, is_whole) {
        (true, true) => write_into_card(&policy_path, &evaluation)?,
        (true, false) => say("eval: interrupted; the card stays as it was"),
        (false, _) => {}
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

impl Arguments {
    /// The task, or the name that a model of the user's own has; says what of the profile and the ranges the model cannot follow.
    fn name_of_task(&self, profile: &DeviceProfile) -> anyhow::Result<String> {
        let environment = self.simulated.open(self.task.as_deref(), profile)?;
        let joints = CommandMap::new(&environment, profile)?;
        joints.notes().iter().chain(&environment.notes()).for_each(|note| say(&format!("eval: {note}")));
        Ok(environment.spec().name.clone())
    }
}

fn play(what: &str, visual: &VisualEvaluation<'_>, stop: &AtomicBool) -> anyhow::Result<VisualOutcome> {
    let mut steps = Steps::new(what, u64::from(visual.plan.num_episodes));
    let mut observe = |progress| {
        if let Progress::Played { num_played, episode, .. } = progress {
            steps.set(num_played as u64, &said(&episode));
        }
    };
    let outcome = evaluate_visual(visual, &mut Watch { observe: &mut observe, stop })?;
    steps.finish();
    Ok(outcome)
}

fn said(episode: &EpisodeResult) -> String {
    format!("seed {}, return {:.1}", episode.seed, episode.episode_return)
}

fn report(evaluation: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        print(&serde_json::to_string_pretty(evaluation)?);
        return Ok(());
    }
    let [first, last] = evaluation.seeds;
    print(&format!("{}: {} episodes, seeds {first} to {last}", evaluation.task, evaluation.episodes));
    let rows = [
        ("policy", Some(&evaluation.policy)),
        ("expert", evaluation.expert.as_ref()),
        ("random", evaluation.random.as_ref()),
    ];
    for (name, returns) in rows {
        let Some(returns) = returns else { continue };
        let interval = returns
            .interval()
            .map_or_else(|| "too few episodes".to_owned(), |[lower, upper]| format!("95 % [{lower:.1}, {upper:.1}]"));
        let success = returns.success_rate * 100.0;
        let [low, high] = returns.success_ci95.map(|share| share * 100.0);
        print(&format!(
            "{name:<8} mean return {:>7.1}  {interval}  success {success:.0} %  95 % [{low:.0}, {high:.0}]",
            returns.mean_return
        ));
    }
    if let Some(share) = evaluation.policy_over_expert {
        print(&format!("policy over expert {share:.3}"));
    }
    Ok(())
}

/// A signature is of every byte of the card.
fn must_be_unsigned(model: &Path) -> anyhow::Result<()> {
    let signature = CardSignature::path_of(model);
    if signature.exists() {
        bail!(
            "--into-card: {} signs the card as it is, and what is written into it would make that wrong; remove the signature, evaluate, and sign again",
            signature.display()
        );
    }
    Ok(())
}

fn write_into_card(model: &Path, evaluation: &Evaluation) -> anyhow::Result<()> {
    let mut card = ModelCard::load(model)?;
    card.provenance.commands.push(trail::command_line());
    let mut results = card.provenance.results.as_object().cloned().unwrap_or_default();
    results.insert("evaluation".to_owned(), serde_json::to_value(evaluation)?);
    card.provenance.results = results.into();
    card.save(model).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_card_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("policy.onnx");
        must_be_unsigned(&model).unwrap();
        std::fs::write(CardSignature::path_of(&model), "{}").unwrap();
        let problem = must_be_unsigned(&model).unwrap_err().to_string();
        assert!(problem.contains("policy.card.sig") && problem.contains("sign again"), "{problem}");
    }
}
