//! `report.html` of a probe: scores with intervals, and propagated labels to look at.

use std::fmt::Write as _;
use std::path::Path;

use foresee_runtime::write_atomically;

use super::scores::ProbeResult;
use crate::report::{STYLE, escape};

/// Writes `report.html` into `folder`; it shows the pictures `labels-<n>.png` that lie there.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn write(folder: &Path, result: &ProbeResult) -> anyhow::Result<()> {
    let title = format!("probe {} of {}", result.probe, result.data.join(", "));
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>{0}</title><style>{STYLE}</style><h1>{0}</h1>",
        escape(&title)
    );
    if result.interrupted {
        page.push_str("<p><b>Interrupted:</b> what follows is what had been probed by then.</p>");
    }
    let _ = write!(
        page,
        "<h2>Scores</h2><p>Percent; in brackets the 95 % interval over {} ({}).</p><table><tr><th>score",
        escape(&result.values_over),
        escape(&result.interval)
    );
    for encoder in &result.encoders {
        let _ = write!(page, "<th>{}", escape(&encoder.name));
    }
    page.push_str("</tr>");
    for name in result.columns() {
        let _ = write!(page, "<tr><td>{}", escape(name));
        for encoder in &result.encoders {
            let text = encoder.scores.get(name).map_or_else(|| "-".to_owned(), |score| score.text(1));
            let _ = write!(page, "<td>{text}");
        }
        page.push_str("</tr>");
    }
    page.push_str("</table>");
    pictures(&mut page, folder, result);
    page.push_str("<h2>Account</h2><table>");
    let mut row = |name: &str, value: &str| {
        let _ = write!(page, "<tr><td>{}<td><code>{}</code></tr>", escape(name), escape(value));
    };
    result.settings.iter().for_each(|(name, value)| row(name, value));
    for encoder in &result.encoders {
        if let Some(source) = &encoder.source {
            row(&encoder.name, source);
        }
    }
    let seeds: Vec<String> = result.seeds.iter().map(u64::to_string).collect();
    row("seeds", &seeds.join(", "));
    row("revision", &result.git_revision);
    row("processor", &result.cpu_features.join(" "));
    page.push_str("</table></html>\n");
    write_atomically(&folder.join("report.html"), page.as_bytes()).map_err(Into::into)
}

fn pictures(page: &mut String, folder: &Path, result: &ProbeResult) {
    let names: Vec<&str> = result.encoders.iter().map(|encoder| encoder.name.as_str()).collect();
    let mut is_first = true;
    for (picture_idx, data) in result.data.iter().enumerate() {
        let file = format!("labels-{picture_idx}.png");
        if !folder.join(&file).exists() {
            continue;
        }
        if is_first {
            let _ = write!(
                page,
                "<h2>Propagated labels</h2><p>Rows: exact labels, then {}. The first column is given.</p>",
                escape(&names.join(", "))
            );
            is_first = false;
        }
        let _ =
            write!(page, "<p>{0}<br><img class=film src={file} alt=\"labels carried through {0}\"></p>", escape(data));
    }
}
