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
        mesh.x_label_formatter(&|x| format!("{x:.0}")).y_label_formatter(&|y| format!("{y:.0}"));
        mesh.x_labels(num_episodes.min(20)).draw().map_err(drawing)?;
        for (series_idx, Series { name, colour, values }) in series.iter().enumerate() {
            let colour = *colour;
            // Side by side, so that equal values do not hide each other.
            let shift = (series_idx as f64 - (series.len() as f64 - 1.0) / 2.0) * 0.18;
            let dots = values.iter().enumerate().map(move |(episode_idx, value)| {
                Circle::new((episode_idx as f64 + 1.0 + shift, *value), 4, colour.filled())
            });
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

/// A histogram: bars of (lower edge, upper edge, count), from 0 to `most`; what lies beyond is said in the axis label.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn histogram(x_label: &str, bars: &[(f64, f64, u64)], most: f64) -> anyhow::Result<String> {
    type Bars = Vec<(f64, f64, u64)>;
    let (shown, beyond): (Bars, Bars) = bars.iter().partition(|bar| bar.1 <= most);
    let num_beyond: u64 = beyond.iter().map(|bar| bar.2).sum();
    let x_label = format!("{x_label} ({num_beyond} beyond {most:.1})");
    // Bars of different widths: the height is a density, so that the area counts.
    let density = |bar: &(f64, f64, u64)| bar.2 as f64 / (bar.1 - bar.0).max(f64::MIN_POSITIVE);
    let tallest = shown.iter().map(density).fold(1.0, f64::max) * 1.08;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(0.0..most.max(1e-3), 0.0..tallest)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc(x_label).y_desc("ticks a millisecond");
        mesh.y_label_formatter(&|y| format!("{y:.0}")).draw().map_err(drawing)?;
        let fill = RGBColor(70, 110, 180).filled();
        let bars = shown.iter().map(|bar| Rectangle::new([(bar.0, 0.0), (bar.1, density(bar))], fill));
        chart.draw_series(bars).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// A line of (x, y) points with a name.
#[cfg(feature = "train")]
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) colour: RGBColor,
    pub(crate) points: &'a [(f64, f64)],
}

/// Curves over steps; y begins at 0 or at the lowest value, whichever is lower.
///
/// # Errors
/// When the drawing library refuses.
#[cfg(feature = "train")]
pub(crate) fn curves(y_label: &str, curves: &[Curve<'_>]) -> anyhow::Result<String> {
    let points = || curves.iter().flat_map(|curve| curve.points);
    let last = points().fold(1.0_f64, |last, point| last.max(point.0));
    let low = points().fold(0.0_f64, |low, point| low.min(point.1));
    let top = points().fold(f64::MIN_POSITIVE, |top, point| top.max(point.1)) * 1.05;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..last, low..top)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc("step").y_desc(y_label);
        let y_number = |y: &f64| axis_number(*y, top);
        mesh.x_label_formatter(&|x| format!("{x:.0}")).y_label_formatter(&y_number);
        mesh.draw().map_err(drawing)?;
        for Curve { name, colour, points } in curves {
            let colour = *colour;
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(drawing)?;
            if curves.len() > 1 {
                drawn
                    .label(*name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
            }
        }
        if curves.len() > 1 {
            let mut legend = chart.configure_series_labels();
            legend.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2));
            legend.position(SeriesLabelPosition::UpperRight).draw().map_err(drawing)?;
        }
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// As many digits as an axis up to `top` needs.
#[cfg(feature = "train")]
fn axis_number(value: f64, top: f64) -> String {
    if top < 0.01 {
        return format!("{value:.1e}");
    }
    let digits = if top < 0.1 {
        3
    } else if top < 10.0 {
        2
    } else {
        0
    };
    format!("{value:.digits$}")
}

fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("plot: {error}")
}
