//! `report.html` of a run: what it reached, how fast it was, and what it looked like.

use std::fmt::Write as _;
use std::path::Path;

use plotters::style::RGBColor;

use crate::plots::{Series, histogram, over_time, per_episode};
use crate::result::{Millis, Returns, RunResult};
use crate::traces::{Chart, Traces};
use foresee_runtime::write_atomically;

/// The look of every report.
pub(crate) const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}table{border-collapse:collapse}td,th{padding:.25em .9em .25em 0;\
text-align:left;border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}.good{color:#17703a}code{font-size:.92em}\
img.film{width:100%;image-rendering:pixelated}img.episode{width:256px;image-rendering:pixelated}svg{max-width:100%;height:auto}";

/// Writes `report.html` into `folder`; it shows `episode.gif` and `filmstrip.png` when they lie there.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn write(
    folder: &Path,
    result: &RunResult,
    loop_bars: &[(f64, f64, u64)],
    traces: &Traces,
) -> anyhow::Result<()> {
    let mut page = String::new();
    let title = format!("{} on {}", result.name, result.task.as_deref().unwrap_or(&result.robot));
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(&title)
    );
    if result.interrupted {
        page.push_str("<p><b>Interrupted:</b> what follows is what had been recorded by then.</p>");
    }
    if let Some(failure) = &result.failure {
        let _ = write!(page, "<p><b>Failed:</b> {}</p>", escape(failure));
    }
    match result.episodes {
        0 => page.push_str(&control(traces)?),
        _ => page.push_str(&comparison(result)?),
    }
    pictures(&mut page, folder);
    page.push_str("<h2>Loop</h2><p>Frame in memory to command in memory, wall time a tick. Ticks that the safety filter held without running the models are the short ones.</p>");
    page.push_str(&histogram("milliseconds a tick", loop_bars)?);
    page.push_str(&latency_table(result));
    page.push_str(&account(result));
    page.push_str("</html>\n");
    write_atomically(&folder.join("report.html"), page.as_bytes()).map_err(Into::into)
}

fn comparison(result: &RunResult) -> anyhow::Result<String> {
    let rows = [
        ("camera-driven policy", RGBColor(200, 60, 50), &result.policy),
        ("scripted expert", RGBColor(40, 130, 70), &result.expert),
        ("random", RGBColor(130, 130, 130), &result.random),
    ];
    let known: Vec<(&str, RGBColor, &Returns)> =
        rows.into_iter().filter_map(|(name, colour, returns)| Some((name, colour, returns.as_ref()?))).collect();
    if known.is_empty() {
        return Ok(String::new());
    }
    let mut html = format!("<h2>Return</h2><p>{} episodes, the same seeds for each row.</p>", result.episodes);
    html.push_str("<table><tr><th>policy<th>mean return<th>95 % interval<th>success<th>95 % interval</tr>");
    for (name, _, returns) in &known {
        let interval = returns
            .interval()
            .map_or_else(|| "too few episodes".to_owned(), |[lower, upper]| format!("{lower:.1} to {upper:.1}"));
        let [low, high] = returns.success_ci95.map(|share| share * 100.0);
        let _ = write!(
            html,
            "<tr><td>{name}<td>{:.1}<td>{interval}<td>{:.0} %<td>{low:.0} to {high:.0} %</tr>",
            returns.mean_return,
            returns.success_rate * 100.0
        );
    }
    html.push_str("</table>");
    let series: Vec<Series<'_>> = known
        .iter()
        .map(|(name, colour, returns)| Series { name, colour: *colour, values: &returns.returns })
        .collect();
    html.push_str(&per_episode("return", &series)?);
    Ok(html)
}

/// Joints and commands over time.
fn control(traces: &Traces) -> anyhow::Result<String> {
    let charts = traces.charts();
    if charts.is_empty() {
        return Ok(String::new());
    }
    let mut html = String::from("<h2>Joints and commands</h2><p>By the stamps of the frames.</p>");
    for Chart { label, curves } in &charts {
        let curves: Vec<_> = curves.iter().map(|(name, points)| (name.as_str(), points.as_slice())).collect();
        html.push_str(&over_time(label, &curves)?);
    }
    Ok(html)
}

fn pictures(page: &mut String, folder: &Path) {
    let (film, episode) = ("filmstrip.png", "episode.gif");
    if folder.join(episode).exists() || folder.join(film).exists() {
        page.push_str("<h2>What the camera saw</h2>");
    }
    if folder.join(episode).exists() {
        let _ = write!(page, "<p><img class=episode src={episode} alt=\"one episode, moving\"></p>");
    }
    if folder.join(film).exists() {
        let _ = write!(page, "<p><img class=film src={film} alt=\"one episode, first frame to last\"></p>");
    }
}

fn latency_table(result: &RunResult) -> String {
    let mut html = String::from("<table><tr><th>stage<th>p50 ms<th>p99 ms<th>max ms</tr>");
    let mut row = |name: &str, millis: &Millis| {
        let _ = write!(html, "<tr><td>{name}<td>{:.3}<td>{:.3}<td>{:.3}</tr>", millis.p50, millis.p99, millis.max);
    };
    let stages = &result.stage_millis;
    row("exposure to arrival", &result.account_millis.exposure_to_arrival);
    row("wait for the tick", &result.account_millis.wait);
    row("preprocess", &stages.preprocess);
    row("encode", &stages.encode);
    row("policy", &stages.policy);
    row("safety", &stages.safety);
    row("publish", &result.account_millis.publish);
    row("whole tick", &result.loop_millis);
    html.push_str("</table>");
    html
}

fn account(result: &RunResult) -> String {
    let mut html = String::from("<h2>Account</h2><table>");
    let mut row = |name: &str, value: String| {
        let _ = write!(html, "<tr><td>{name}<td><code>{}</code></tr>", escape(&value));
    };
    row("frames, dropped", format!("{}, {}", result.frames, result.frames_dropped));
    for camera in &result.cameras {
        row(
            &format!("camera {}", camera.name),
            format!(
                "{} frames, {} passed over, {} ticks refused, {} over budget; p99 age {:.1} ms, own time {:.2} ms",
                camera.frames,
                camera.passed_over,
                camera.ticks_refused,
                camera.ticks_over_budget,
                camera.age_millis.p99,
                camera.spent_millis.p99
            ),
        );
    }
    let commands = (result.commands_clamped, result.commands_rate_limited, result.commands_held);
    row("commands clamped, rate-limited, held", format!("{}, {}, {}", commands.0, commands.1, commands.2));
    let reasons = result.safe_actions.iter().map(|(reason, count)| format!("{count} x {reason}")).collect::<Vec<_>>();
    row("safe actions", if reasons.is_empty() { "none".to_owned() } else { reasons.join("; ") });
    row("log entries dropped", result.log_entries_dropped.to_string());
    for (model, engine) in result.models.iter().flatten() {
        row(
            model,
            format!(
                "{} on {}: {}; sha256 {}",
                engine.engine,
                engine.provider.name(),
                engine.reason,
                engine.model_sha256
            ),
        );
    }
    row("profile", result.profile.clone());
    if result.episodes > 0 {
        row("seeds", format!("{:?}", result.seeds));
    }
    row("MuJoCo", result.mujoco_version.clone().unwrap_or_else(|| "not in this build".to_owned()));
    row("revision", result.git_revision.clone());
    row("processor", result.cpu_features.join(" "));
    html.push_str("</table>");
    html
}

/// Text as HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
