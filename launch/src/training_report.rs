//! `report.html` of a pretraining run, in one file: curves, what the model makes of some samples, and what the run was.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foresee_models::{PretrainProgress, RunFacts};
use foresee_runtime::write_atomically;
use plotters::style::RGBColor;

use crate::machine;
use crate::plots::{Curve, curves};
use crate::report::{STYLE, escape};

/// Points of a curve; neighbouring steps are averaged.
const MAX_POINTS: usize = 400;
const COLOURS: [RGBColor; 6] = [
    RGBColor(40, 90, 170),
    RGBColor(200, 90, 40),
    RGBColor(40, 130, 70),
    RGBColor(130, 70, 150),
    RGBColor(150, 120, 30),
    RGBColor(90, 90, 90),
];
const PICTURE_STYLE: &str = ".grid{display:flex}.rows{display:flex;flex-direction:column;flex:0 0 11em;font-size:.85em}\
.rows span{flex:1;display:flex;align-items:center;line-height:1.2;padding-right:.8em}.grid img{flex:1;min-width:0;\
width:100%;image-rendering:pixelated}.plots{display:grid;grid-template-columns:1fr 1fr;gap:.5em}";

/// Writes `report.html` of a run's folder out of its `run.json`, `metrics.jsonl` and `reconstructions.png`.
///
/// # Errors
/// Names the file that cannot be read or written.
pub(crate) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let facts: RunFacts = serde_json::from_slice(&read("run.json")?).context("run.json")?;
    let metrics = String::from_utf8(read("metrics.jsonl")?).context("metrics.jsonl")?;
    // The last line may be on its way.
    let steps: Vec<PretrainProgress> = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let name = escape(&facts.recipe.name);
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>pretrain {name}</title><style>{STYLE}{PICTURE_STYLE}</style>\
        <h1>pretrain {name}</h1><p>{}<br><small>{}</small></p>",
        escape(&facts.recipe.summary),
        escape(&facts.recipe.paper)
    );
    page.push_str(&state(&steps));
    page.push_str(&plots(&steps)?);
    // A run that has not come to its first checkpoint has no picture.
    if let Ok(picture) = read("reconstructions.png") {
        page.push_str(&pictures(&facts, &picture));
    }
    page.push_str(&account(&facts));
    page.push_str("</html>\n");
    let path = folder.join("report.html");
    write_atomically(&path, page.as_bytes())?;
    Ok(path)
}

fn state(steps: &[PretrainProgress]) -> String {
    let Some(last) = steps.last() else { return "<p>No step is done yet.</p>".to_owned() };
    let share = 100.0 * last.step as f64 / last.steps.max(1) as f64;
    let mut html = format!(
        "<p>Step {} of {} ({share:.0} %), loss {:.4}, {:.1} samples a second, {:.1} minutes left at that speed. Steps skipped because \
        something was not finite: {}. Clips skipped because they could not be read: {}.</p>",
        last.step,
        last.steps,
        last.loss,
        last.images_per_second,
        last.seconds_left / 60.0,
        last.num_skipped,
        last.num_clips_skipped
    );
    if last.step >= last.steps {
        html = html.replace(", 0.0 minutes left at that speed", "");
    }
    html
}

fn plots(steps: &[PretrainProgress]) -> anyhow::Result<String> {
    let Some(first) = steps.first() else { return Ok(String::new()) };
    let loss = averaged(steps, |step| step.loss);
    let terms: Vec<(String, Vec<(f64, f64)>)> = first
        .terms
        .iter()
        .enumerate()
        .map(|(idx, (name, _))| {
            (name.clone(), averaged(steps, |step| step.terms.get(idx).map_or(f64::NAN, |term| term.1)))
        })
        .collect();
    let mut lines = vec![Curve { name: "what is minimised", colour: COLOURS[5], points: &loss }];
    for ((name, points), colour) in terms.iter().zip(COLOURS) {
        lines.push(Curve { name, colour, points });
    }
    let mut html = "<h2>Curves</h2><div class=plots>".to_owned();
    html.push_str(&curves("loss", &lines)?);
    let alone = |label: &str, points: &[(f64, f64)], colour| curves(label, &[Curve { name: label, colour, points }]);
    html.push_str(&alone("learning rate", &averaged(steps, |step| step.learning_rate), COLOURS[0])?);
    html.push_str(&alone("gradient norm", &averaged(steps, |step| step.gradient_norm), COLOURS[1])?);
    html.push_str(&alone("samples a second", &averaged(steps, |step| step.images_per_second), COLOURS[2])?);
    html.push_str("</div>");
    Ok(html)
}

/// (step, mean of the finite values) of runs of neighbouring steps.
fn averaged(steps: &[PretrainProgress], value: impl Fn(&PretrainProgress) -> f64) -> Vec<(f64, f64)> {
    let per_point = steps.len().div_ceil(MAX_POINTS).max(1);
    let point = |steps: &[PretrainProgress]| {
        let finite: Vec<f64> = steps.iter().map(&value).filter(|value| value.is_finite()).collect();
        let mean = finite.iter().sum::<f64>() / finite.len() as f64;
        (!finite.is_empty()).then(|| (steps.last().map_or(0.0, |step| step.step as f64), mean))
    };
    steps.chunks(per_point).filter_map(point).collect()
}

fn pictures(facts: &RunFacts, picture: &[u8]) -> String {
    let mut html = "<h2>What the model makes of some samples</h2><p>One column a sample, the same ones throughout the run. Predictions \
        are of normalised patches and are shown with the target's own patch means and deviations.</p><div class=grid><div class=rows>"
        .to_owned();
    for row in &facts.picture_rows {
        let _ = write!(html, "<span>{}</span>", escape(row));
    }
    let _ = write!(html, "</div><img alt=\"{}\" src=\"data:image/png;base64,", escape(&facts.picture_rows.join("; ")));
    STANDARD.encode_string(picture, &mut html);
    html.push_str("\"></div>");
    html
}

fn account(facts: &RunFacts) -> String {
    let mut html = "<h2>Account</h2><table>".to_owned();
    let mut row = |name: &str, value: &str| {
        let _ = write!(html, "<tr><td>{name}<td><code>{}</code></tr>", escape(value));
    };
    row("data", &facts.data);
    row("clips, samples of an epoch", &format!("{}, {}", facts.num_clips, facts.num_samples));
    row("samples a step", &facts.recipe.samples_per_step().to_string());
    row("trained values", &facts.num_trainable.to_string());
    row("seed, shards, micro-batch", &format!("{}, {}, {}", facts.seed, facts.threads, facts.micro_batch));
    row("devices, matrix products", &format!("{}, {}", facts.devices.join(" "), facts.arithmetic));
    row("revision", machine::GIT_REVISION);
    row("processor", &machine::cpu_features().join(" "));
    html.push_str("</table>");
    if !facts.data_problems.is_empty() {
        let _ = write!(html, "<h2>Data that could not be read</h2><p>{}:</p><ul>", facts.data_problems.len());
        for problem in &facts.data_problems {
            let _ = write!(html, "<li><code>{}</code>", escape(problem));
        }
        html.push_str("</ul>");
    }
    html
}
