//! `foresee sim --contact-sheet`: every task in one picture.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use foresee_policies::{SmoothRandom, expert_for};
use foresee_sim::{Camera, CameraOptions, Environment, Quality, TASKS};
use image::{Rgb, RgbImage, imageops};

use super::label;
use crate::places;
use crate::progress::Steps;
use crate::words::print;

const TILE: u32 = 144;
const GAP: u32 = 4;
const NUM_COLUMNS: u32 = 12;
/// Control steps before the picture is taken, so that it shows something happen.
const NUM_STEPS: u32 = 20;

/// Draws it.
///
/// # Errors
/// What a task or its camera says; when the file cannot be written.
pub(super) fn act(path: &Path, arguments: &super::Arguments) -> anyhow::Result<ExitCode> {
    super::expect_ending("--contact-sheet ", path, "png")?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        ensure!(folder.is_dir(), "--contact-sheet {}: there is no folder {}", path.display(), folder.display());
    }
    let quality = if arguments.reference_quality { Quality::Reference } else { Quality::Fast };
    let [across, down] = [TILE + GAP, TILE + GAP + label::HEIGHT + 2];
    let num_rows = (TASKS.len() as u32).div_ceil(NUM_COLUMNS);
    let mut sheet = RgbImage::from_pixel(across * NUM_COLUMNS, down * num_rows, Rgb([255; 3]));
    let mut steps = Steps::new("contact sheet", TASKS.len() as u64);
    for (index, entry) in (0..).zip(TASKS) {
        let tile = tile(entry.name, arguments.seed, quality).with_context(|| entry.name)?;
        let [left, top] = [index % NUM_COLUMNS * across, index / NUM_COLUMNS * down];
        label::write(&mut sheet, entry.name, (left, top));
        imageops::replace(&mut sheet, &tile, i64::from(left), i64::from(top + label::HEIGHT + 1));
        steps.set(u64::from(index) + 1, entry.name);
    }
    steps.finish();
    sheet.save(path).with_context(|| format!("{}: cannot be written; name a .png file", path.display()))?;
    if arguments.json {
        let sheet = serde_json::json!({ "file": path, "tasks": TASKS.len(), "seed": arguments.seed });
        print(&serde_json::to_string_pretty(&sheet)?);
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{}: {} tasks, seed {}", path.display(), TASKS.len(), arguments.seed));
    Ok(ExitCode::SUCCESS)
}

fn tile(task: &str, seed: u64, quality: Quality) -> anyhow::Result<RgbImage> {
    let mut environment = Environment::new(task, &places::native())?;
    environment.reset(seed)?;
    let mut actor = expert_for(&environment).unwrap_or_else(|_| Box::new(SmoothRandom::new()));
    actor.reset(seed);
    let mut action = vec![0.0; environment.spec().actions.len()];
    for _ in 0..NUM_STEPS {
        actor.act(&environment, &mut action)?;
        if environment.step(&action)?.is_last() {
            break;
        }
    }
    let name = environment.spec().camera.clone();
    let mut camera = Camera::new(&environment, &CameraOptions { name, width: TILE, height: TILE, quality })?;
    let mut pixels = vec![0; camera.num_bytes()];
    camera.render(&mut environment, &mut pixels)?;
    RgbImage::from_raw(TILE, TILE, pixels).context("the camera's image has another size")
}
