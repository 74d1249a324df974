//! A loop of 30 Hz for minutes, under load when asked for: how it keeps its time and its memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foresee_runtime::{Encoder, Frame};
use serde::Serialize;

use super::Served;

const PERIOD: Duration = Duration::from_nanos(33_333_333);
const BYTES_PER_PAGE: f64 = 4096.0;

/// How long, and beside what.
pub(super) struct Load {
    pub(super) minutes: f64,
    /// Threads that turn in place.
    pub(super) threads: usize,
}

#[derive(Serialize)]
pub(super) struct HeldLoop {
    minutes: f64,
    load_threads: usize,
    pub(super) ticks: usize,
    /// From the moment that a tick is due to its features.
    pub(super) p50_millis: f64,
    pub(super) p99_millis: f64,
    p99_over_p50: f64,
    max_millis: f64,
    /// Features that came after the next tick was due.
    pub(super) missed_deadlines: usize,
    /// By least squares over one sample a second, the first tenth left out.
    pub(super) rss_slope_mebibytes_per_minute: f64,
    rss_mebibytes: f64,
}

impl HeldLoop {
    pub(super) fn run(
        encoder: Box<dyn Encoder>,
        frame: &Frame,
        load: &Load,
        stop: &AtomicBool,
    ) -> anyhow::Result<Self> {
        let mut served = Served::new(encoder)?;
        served.micros(frame)?;
        let done = AtomicBool::new(false);
        let mut millis = Vec::new();
        let mut memory = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..load.threads {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let ticked = ticks(&mut served, frame, (load, stop), (&mut millis, &mut memory));
            done.store(true, Ordering::Relaxed);
            ticked
        })?;
        let period_millis = PERIOD.as_secs_f64() * 1e3;
        let missed_deadlines = millis.iter().filter(|millis| **millis > period_millis).count();
        let ticks = millis.len();
        millis.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = ((ticks as f64 * quantile) as usize).min(ticks.saturating_sub(1));
            millis.get(rank).copied().unwrap_or(f64::NAN)
        };
        Ok(Self {
            minutes: load.minutes,
            load_threads: load.threads,
            ticks,
            p50_millis: at(0.5),
            p99_millis: at(0.99),
            p99_over_p50: at(0.99) / at(0.5),
            max_millis: at(1.0),
            missed_deadlines,
            rss_slope_mebibytes_per_minute: slope_per_minute(memory.get(memory.len() / 10..).unwrap_or_default()),
            rss_mebibytes: resident_mebibytes(),
        })
    }
}

fn ticks(
    served: &mut Served,
    frame: &Frame,
    (load, stop): (&Load, &AtomicBool),
    (millis, memory): (&mut Vec<f64>, &mut Vec<(f64, f64)>),
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut due = started;
    while started.elapsed().as_secs_f64() < 60.0 * load.minutes && !stop.load(Ordering::Relaxed) {
        if let Some(left) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(left);
        }
        served.micros(frame)?;
        millis.push(due.elapsed().as_secs_f64() * 1e3);
        if millis.len() % 30 == 1 {
            memory.push((started.elapsed().as_secs_f64() / 60.0, resident_mebibytes()));
        }
        // Ticks that are already over are not caught up with.
        due = (due + PERIOD).max(Instant::now().checked_sub(PERIOD).unwrap_or(due));
    }
    Ok(())
}

/// Least squares of `(minutes, MiB)`.
fn slope_per_minute(samples: &[(f64, f64)]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|sample| sample.0), mean(|sample| sample.1));
    let along: f64 = samples.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square: f64 = samples.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if square > 0.0 { along / square } else { 0.0 }
}

/// Of this process.
pub(super) fn resident_mebibytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<f64>().ok());
    pages.map_or(f64::NAN, |pages| pages * BYTES_PER_PAGE / f64::from(1 << 20))
}
