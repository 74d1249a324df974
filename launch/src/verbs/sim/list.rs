//! `foresee sim --list`: what tasks there are.

use std::process::ExitCode;

use foresee_sim::{Assets, Environment, SimError, TASKS, TaskEntry, TaskSpec, Textures};
use serde::Serialize;

use crate::places;
use crate::words::print;

#[derive(Serialize)]
struct Listed {
    task: String,
    observation: Vec<Observed>,
    actions: Vec<Action>,
    camera: String,
    cameras: Vec<String>,
    control_timestep_seconds: f64,
    /// `None`: nothing but the task itself, if that, ends an episode.
    max_steps: Option<u32>,
    success: Option<&'static str>,
    has_expert: bool,
    licence: &'static str,
}

#[derive(Serialize)]
struct Observed {
    name: String,
    shape: Vec<usize>,
    unit: Option<&'static str>,
}

#[derive(Serialize)]
struct Action {
    name: String,
    /// `null`: no limit.
    minimum: Option<f64>,
    maximum: Option<f64>,
    unit: &'static str,
}

/// Prints the list. Tasks are built without their large textures, on as many threads as there are processors.
///
/// # Errors
/// When a task's assets are not there.
pub(super) fn act(json: bool) -> anyhow::Result<ExitCode> {
    let num_threads = std::thread::available_parallelism().map_or(1, usize::from).min(TASKS.len());
    let share = TASKS.len().div_ceil(num_threads);
    let shares: Vec<Result<Vec<Listed>, SimError>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            TASKS.chunks(share).map(|entries| scope.spawn(|| entries.iter().map(listed).collect())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    let mut tasks = Vec::new();
    for share in shares {
        tasks.extend(share?);
    }
    anyhow::ensure!(tasks.len() == TASKS.len(), "only {} of {} tasks could be listed", tasks.len(), TASKS.len());
    if json {
        print(&serde_json::to_string_pretty(&tasks)?);
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!(
        "{:<36} {:>11} {:>6} {:>7} {:>6}  {:<6}  licence of the assets; cameras, the default first",
        "task", "observation", "action", "step s", "steps", "expert"
    ));
    for task in &tasks {
        print(&line(task));
    }
    print("metaworld tasks also as <task>-goal-observable (the same) and <task>-goal-hidden");
    Ok(ExitCode::SUCCESS)
}

fn line(task: &Listed) -> String {
    let num_values: usize = task.observation.iter().map(|part| part.shape.iter().product::<usize>()).sum();
    let (actions, cameras) = (task.actions.len(), task.cameras.join(", "));
    let seconds = task.control_timestep_seconds;
    let steps = task.max_steps.map_or_else(|| "-".to_owned(), |steps| steps.to_string());
    let expert = if task.has_expert { "yes" } else { "-" };
    let name = &task.task;
    format!(
        "{name:<36} {num_values:>11} {actions:>6} {seconds:>7.4} {steps:>6}  {expert:<6}  {}; {cameras}",
        task.licence
    )
}

/// The model's cameras; before them the default one where it is none of them.
fn default_first(spec: &TaskSpec) -> Vec<String> {
    let is_extra = !spec.cameras.contains(&spec.camera);
    is_extra.then(|| spec.camera.clone()).into_iter().chain(spec.cameras.iter().cloned()).collect()
}

fn listed(entry: &TaskEntry) -> Result<Listed, SimError> {
    let native = places::native();
    let environment = Environment::with_assets(entry.name, Assets { native: &native, textures: Textures::Small })?;
    let spec = environment.spec();
    let finite = |limit: f64| limit.is_finite().then_some(limit);
    let observation = spec.observations.iter().map(|part| Observed {
        name: part.name.clone(),
        shape: part.shape.clone(),
        unit: part.unit,
    });
    let actions = spec.actions.iter().map(|action| Action {
        name: action.name.clone(),
        minimum: finite(action.minimum),
        maximum: finite(action.maximum),
        unit: action.unit,
    });
    Ok(Listed {
        task: spec.name.clone(),
        observation: observation.collect(),
        actions: actions.collect(),
        camera: spec.camera.clone(),
        cameras: default_first(spec),
        control_timestep_seconds: spec.control_timestep_seconds,
        max_steps: (!spec.is_endless()).then_some(spec.max_steps),
        success: spec.success_criterion,
        has_expert: foresee_policies::expert_for(&environment).is_ok(),
        licence: entry.licence(),
    })
}
