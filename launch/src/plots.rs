//! SVG plots for reports.

use anyhow::anyhow;
use plotters::prelude::*;

const SIZE: (u32, u32) = (640, 300);

/// A named series of one value an episode.
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    pub(crate) colour: RGBColor,
    pub(crate) values: &'a [f64],
}

/// One dot an episode and series; x counts episodes from 1.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn per_episode(y_label: &str, series: &[Series<'_>]) -> anyhow::Result<String> {
    let num_episodes = series.iter().map(|series| series.values.len()).max().unwrap_or(0).max(1);
    let top = series.iter().flat_map(|series| series.values).fold(1.0_f64, |top, value| top.max(*value)) * 1.08;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(0.5..num_episodes as f64 + 0.5, 0.0..top)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_x_mesh().light_line_style(TRANSPARENT).x_desc("episode").y_desc(y_label);
        mesh.x_label_formatter(&|x| format!("{x:.0}")).x_labels(num_episodes.min(20)).draw().map_err(drawing)?;
        for Series { name, colour, values } in series {
            let colour = *colour;
            let dots = values
                .iter()
                .enumerate()
                .map(move |(episode_idx, value)| Circle::new((episode_idx as f64 + 1.0, *value), 4, colour.filled()));
            let drawn = chart.draw_series(dots).map_err(drawing)?;
            drawn.label(*name).legend(move |(x, y)| Circle::new((x + 8, y), 4, colour.filled()));
        }
        let mut legend = chart.configure_series_labels();
        legend
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .position(SeriesLabelPosition::MiddleRight);
        legend.draw().map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// A histogram: bars of (lower edge, upper edge, count) on a logarithmic x axis.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn histogram(x_label: &str, bars: &[(f64, f64, u64)]) -> anyhow::Result<String> {
    let least = bars.first().map_or(0.1, |bar| bar.0).max(1e-3);
    let most = bars.last().map_or(10.0, |bar| bar.1).max(least * 2.0);
    let tallest = bars.iter().map(|bar| bar.2).max().unwrap_or(1).max(1) as f64 * 1.08;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d((least..most).log_scale(), 0.0..tallest)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc(x_label).y_desc("ticks").draw().map_err(drawing)?;
        let fill = RGBColor(70, 110, 180).filled();
        let bars = bars
            .iter()
            .map(|(lower, upper, count)| Rectangle::new([(lower.max(least), 0.0), (*upper, *count as f64)], fill));
        chart.draw_series(bars).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("plot: {error}")
}
