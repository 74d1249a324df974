//! SVG plots for reports.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
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

/// What is shorter than this is drawn as this long: 0.1 microseconds.
const SHORTEST_MILLIS: f64 = 1e-4;
/// Bars of a logarithmic histogram in every doubling.
const BARS_PER_DOUBLING: f64 = 4.0;

/// A histogram of bars of (lower edge, upper edge, count): the share of all in each quarter of a doubling. The axis is
/// logarithmic, so that bars are equally wide whether they are of microseconds or of seconds.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn histogram(x_label: &str, bars: &[(f64, f64, u64)]) -> anyhow::Result<String> {
    let total = bars.iter().map(|bar| bar.2).sum::<u64>().max(1) as f64;
    let mut shares: BTreeMap<i64, f64> = BTreeMap::new();
    for (lower, upper, count) in bars {
        let middle = (lower.max(SHORTEST_MILLIS) * upper.max(SHORTEST_MILLIS)).sqrt();
        let step = (middle.log2() * BARS_PER_DOUBLING).floor();
        *shares.entry(step as i64).or_default() += 100.0 * *count as f64 / total;
    }
    let edge = |step: i64| step as f64 / BARS_PER_DOUBLING;
    let left = shares.keys().next().map_or(-1.0, |step| edge(*step - 1));
    let right = shares.keys().last().map_or(1.0, |step| edge(*step + 2));
    let tallest = shares.values().copied().fold(1.0, f64::max) * 1.08;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d(Doublings { left, right }, 0.0..tallest)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).disable_x_mesh().x_desc(x_label).y_desc("% of the ticks");
        mesh.x_label_formatter(&|x| short(x.exp2())).y_label_formatter(&|y| format!("{y:.0}"));
        mesh.draw().map_err(drawing)?;
        let fill = RGBColor(70, 110, 180).filled();
        let bars =
            shares.iter().map(|(step, share)| Rectangle::new([(edge(*step), 0.0), (edge(step + 1), *share)], fill));
        chart.draw_series(bars).map_err(drawing)?;
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// An axis of logarithms to base 2, with its marks at round numbers.
struct Doublings {
    left: f64,
    right: f64,
}

impl Ranged for Doublings {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (left, right): (i32, i32)) -> i32 {
        left + ((value - self.left) / (self.right - self.left) * f64::from(right - left)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        round_edges(self.left, self.right)
    }

    fn range(&self) -> Range<f64> {
        self.left..self.right
    }
}

/// Logarithms of round numbers (1, 2, 5, 10, ..) between two logarithms; of 1, 10, .. alone where those are many.
fn round_edges(left: f64, right: f64) -> Vec<f64> {
    const MANY_DOUBLINGS: f64 = 8.0;
    let digits: &[f64] = if right - left > MANY_DOUBLINGS { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = -6..7;
    let numbers = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
    numbers.map(f64::log2).filter(|edge| (left..=right).contains(edge)).collect()
}

/// A number with the digits that it has.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

const COLOURS: [RGBColor; 8] = [
    RGBColor(70, 110, 180),
    RGBColor(200, 60, 50),
    RGBColor(40, 130, 70),
    RGBColor(220, 150, 30),
    RGBColor(130, 80, 160),
    RGBColor(90, 90, 90),
    RGBColor(0, 150, 160),
    RGBColor(160, 110, 70),
];

/// Curves of (seconds, value) with a name each.
///
/// # Errors
/// When the drawing library refuses.
pub(crate) fn over_time(y_label: &str, curves: &[(&str, &[(f64, f64)])]) -> anyhow::Result<String> {
    let points = || curves.iter().flat_map(|(_, points)| points.iter());
    let last = points().fold(1e-3_f64, |last, point| last.max(point.0));
    let first = points().next().map_or(0.0, |point| point.1);
    let low = points().fold(first, |low, point| low.min(point.1));
    let top = points().fold(first, |top, point| top.max(point.1));
    // What stands still is drawn in the middle, and not as noise from edge to edge.
    let margin = (0.06 * (top - low)).max(0.01);
    // Above the curves is the place of the legend.
    let (low, top) = (low - margin, top + margin * (1.0 + curves.len().min(8) as f64));
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(24)
            .x_label_area_size(36)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..last, low..top)
            .map_err(drawing)?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).x_desc("seconds").y_desc(y_label);
        mesh.x_label_formatter(&|x| short(*x)).y_label_formatter(&|y| short(*y)).draw().map_err(drawing)?;
        for ((name, points), colour) in curves.iter().zip(COLOURS.into_iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(drawing)?;
            drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
        }
        let mut legend = chart.configure_series_labels();
        legend.background_style(WHITE.mix(0.85)).border_style(BLACK.mix(0.2));
        legend.position(SeriesLabelPosition::UpperRight).draw().map_err(drawing)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Heights of the bars, in pixels.
    fn heights(svg: &str) -> Vec<u32> {
        let bars = svg.split("<rect ").skip(1).filter(|rect| rect.contains("#466EB4"));
        bars.map(|rect| {
            let (_, height) = rect.split_once("height=\"").unwrap();
            height.split('"').next().unwrap().parse().unwrap()
        })
        .collect()
    }

    #[test]
    fn a_histogram_with_held_ticks_shows_the_others_as_well() {
        // 30 ticks were held in 0.2 microseconds, 70 took about 5 ms.
        let bars = [(0.000_2, 0.000_22, 30), (4.6, 5.0, 35), (5.0, 5.4, 35)];
        let heights = heights(&histogram("ms", &bars).unwrap());
        let (tallest, shortest) = (heights.iter().max().unwrap(), heights.iter().min().unwrap());
        assert!(heights.len() >= 2 && *tallest > 150 && shortest * 5 > *tallest, "{heights:?}");
        assert!(histogram("ms", &[]).unwrap().contains("<svg"));
        assert!(histogram("ms", &[(0.0, 0.0, 5)]).unwrap().contains("<svg"));
    }

    #[test]
    fn an_axis_has_round_numbers() {
        assert_eq!(
            round_edges(0.9, 5.0).into_iter().map(|edge| short(edge.exp2())).collect::<Vec<_>>(),
            ["2", "5", "10", "20"]
        );
        let long: Vec<_> = round_edges(-13.0, 4.0).into_iter().map(|edge| short(edge.exp2())).collect();
        assert_eq!(long, ["0.001", "0.01", "0.1", "1", "10"]);
    }

    #[test]
    fn curves_of_one_point_or_none_are_drawn() {
        for points in [&[][..], &[(0.0, 1.0)], &[(0.0, 1.0), (2.0, 1.0)]] {
            assert!(over_time("rad", &[("elbow", points)]).unwrap().contains("elbow"));
        }
    }
}
