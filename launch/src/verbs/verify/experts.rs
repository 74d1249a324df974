//! `foresee verify experts`: Meta-World's scripted experts here, beside what the originals reach in the original.
//!
//! The two draw their layouts from the same spaces, but not the same layouts, and step different versions of MuJoCo: what is
//! compared is the share of episodes solved. What an expert does to a scene that it has solved also depends on MuJoCo's
//! version, so the count of those still solved at the end is told and not judged. `launch/peers/metaworld_experts.py` made the originals' figures.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Context;
use clap::Args;
use foresee_policies::expert_for;
use foresee_runtime::wilson_interval;
use foresee_sim::{Assets, Environment, TASKS, Textures};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::progress::bar;
use crate::words::print;
use crate::{places, stop};

/// Per task: episodes, those solved at some step, those in the state of success at their last step.
const ORIGINALS: &str = include_str!("metaworld_experts.csv");

/// Arguments of `foresee verify experts`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Tasks, such as metaworld/reach [default: all of Meta-World]
    #[arg(value_name = "TASK")]
    tasks: Vec<String>,
    /// Episodes of each task.
    #[arg(long, default_value_t = 50, value_name = "N")]
    episodes: u32,
    /// Seed of the first episode; the next ones count up.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Tasks at a time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Episodes of one expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Score {
    episodes: usize,
    /// Solved at some step.
    solved: usize,
    /// In the state of success at the last step.
    solved_at_end: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    task: String,
    ours: Score,
    solved_ci95: [f64; 2],
    original: Option<Score>,
    original_solved_ci95: Option<[f64; 2]>,
    /// The 95 % intervals of episodes solved overlap; true where there is no original.
    passed: bool,
}

impl Row {
    fn new(task: String, ours: Score) -> Self {
        let original = original(&task);
        let interval = |score: Score| wilson_interval(score.solved, score.episodes);
        let [low, high] = interval(ours);
        let passed = original.is_none_or(|other| low <= interval(other)[1] && interval(other)[0] <= high);
        Self { task, ours, solved_ci95: interval(ours), original, original_solved_ci95: original.map(interval), passed }
    }

    /// A line of a Markdown table.
    fn line(&self) -> String {
        let cell = |score: Score| {
            let [low, high] = wilson_interval(score.solved, score.episodes).map(|end| 100.0 * end);
            let Score { episodes, solved, solved_at_end } = score;
            format!("{solved} / {episodes} ({low:.0}-{high:.0} %) | {solved_at_end}")
        };
        let original = self.original.map_or_else(|| "- | -".to_owned(), cell);
        let mark = if self.passed { "" } else { "**differs**" };
        format!("| `{}` | {} | {original} | {mark} |", self.task, cell(self.ours))
    }
}

/// Plays and compares; exit code 1 when an expert's success differs from the original's.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let mut tasks = arguments.tasks.clone();
    if tasks.is_empty() {
        tasks.extend(TASKS.iter().map(|entry| entry.name.to_owned()).filter(|name| name.starts_with("metaworld/")));
    }
    let progress_bar = bar(u64::from(arguments.episodes) * tasks.len() as u64);
    let scores = play_all(&tasks, arguments, (&stop, &progress_bar))?;
    progress_bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) {
        return Ok(ExitCode::from(130));
    }
    let rows: Vec<Row> = tasks.into_iter().zip(scores).map(|(task, score)| Row::new(task, score)).collect();
    if arguments.json {
        print(&serde_json::to_string_pretty(&serde_json::json!({ "tasks": rows }))?);
    } else {
        print("| task | here: solved (95 % interval) | at the end | original: solved (95 % interval) | at the end | |");
        print("|---|---|---|---|---|---|");
        rows.iter().for_each(|row| print(&row.line()));
    }
    Ok(ExitCode::from(u8::from(rows.iter().any(|row| !row.passed))))
}

/// One score a task, in their order.
fn play_all(
    tasks: &[String],
    arguments: &Arguments,
    (stop, progress_bar): (&AtomicBool, &ProgressBar),
) -> anyhow::Result<Vec<Score>> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.clamp(1, tasks.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((index, task)) = take(next, tasks) {
                    // Nobody listens any more only after another task's error.
                    let _ = sender.send((index, play(task, arguments, (stop, progress_bar))));
                }
            });
        }
        drop(sender);
        let mut scores = vec![Score::default(); tasks.len()];
        for (index, score) in receiver {
            scores[index] = score.inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(scores)
    })
}

fn take<'a>(next: &AtomicUsize, tasks: &'a [String]) -> Option<(usize, &'a String)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, tasks.get(index)?))
}

fn play(task: &str, arguments: &Arguments, (stop, progress_bar): (&AtomicBool, &ProgressBar)) -> anyhow::Result<Score> {
    let native = places::native();
    let mut environment = Environment::with_assets(task, Assets { native: &native, textures: Textures::Small })?;
    environment.reset(arguments.seed)?;
    let mut expert = expert_for(&environment)?;
    let mut action = vec![0.0; environment.spec().actions.len()];
    let mut score = Score::default();
    for seed in (arguments.seed..).take(arguments.episodes as usize) {
        environment.reset(seed)?;
        expert.reset(seed);
        let mut is_solved = false;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(score);
            }
            expert.act(&environment, &mut action)?;
            let transition = environment.step(&action).with_context(|| task.to_owned())?;
            is_solved |= transition.success;
            if transition.is_last() {
                score.solved_at_end += usize::from(transition.success);
                break;
            }
        }
        score.episodes += 1;
        score.solved += usize::from(is_solved);
        progress_bar.inc(1);
    }
    Ok(score)
}

/// What was counted with the original.
fn original(task: &str) -> Option<Score> {
    let line = ORIGINALS.lines().find_map(|line| line.strip_prefix(task)?.strip_prefix(','))?;
    let mut numbers = line.split(',').map_while(|number| number.trim().parse().ok());
    Some(Score { episodes: numbers.next()?, solved: numbers.next()?, solved_at_end: numbers.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_has_its_original() {
        let names = TASKS.iter().map(|entry| entry.name).filter(|name| name.starts_with("metaworld/"));
        for name in names {
            let score = original(name).unwrap_or_default();
            assert!(score.episodes >= 50 && score.solved >= score.solved_at_end, "{name}: {score:?}");
        }
    }

    #[test]
    fn a_score_beyond_noise_differs() {
        let original = original("metaworld/reach").unwrap_or_default();
        assert!(Row::new("metaworld/reach".to_owned(), original).passed);
        let worse = Score { solved: original.solved / 2, solved_at_end: original.solved_at_end / 2, ..original };
        assert!(!Row::new("metaworld/reach".to_owned(), worse).passed);
    }
}
