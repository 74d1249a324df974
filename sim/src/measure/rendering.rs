//! What an image costs, alone and in a vector of environments, and what memory an environment takes.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use super::processor_time::process_seconds;
use super::{ACTION_ROWS, Seconds, action_rows, median};
use crate::camera::{Camera, CameraOptions};
use crate::environment::Environment;
use crate::error::SimError;
use crate::vector::{VectorEnvironment, VectorOptions};

/// Images a second.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RenderingFigure {
    /// Such as `dmc/reacher-easy`.
    pub task: String,
    /// Rendering at the same time, each with its own context.
    pub threads: usize,
    /// Environments that are rendered.
    pub environments: usize,
    /// `fast` or `reference`.
    pub quality: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Median processor milliseconds an image, software rasteriser's threads included.
    pub cpu_millis: f64,
    /// Median wall milliseconds an image.
    pub wall_millis: f64,
}

/// What a vector with images is measured with.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorRendering {
    /// How many environments on how many threads.
    pub size: VectorOptions,
    /// What each sees.
    pub camera: CameraOptions,
    /// Steps of the whole vector.
    pub num_steps: u32,
}

/// Memory of environments without images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryFigure {
    /// Such as `dmc/walker-walk`.
    pub task: String,
    /// Environments in one process, stepped.
    pub environments: usize,
    /// Resident memory that they added, divided by their number.
    pub bytes_per_environment: f64,
    /// Seconds to build and reset them all.
    pub build_seconds: f64,
}

/// Measures rendering of a moving scene with the task's first camera or the one named.
///
/// # Errors
/// As [`Environment::new`] and [`Camera::new`].
pub fn measure_rendering(
    task: &str,
    native: &Path,
    options: &CameraOptions,
    num_images: u32,
) -> Result<RenderingFigure, SimError> {
    let mut environment = Environment::new(task, native)?;
    environment.reset(0)?;
    let mut camera = Camera::new(&environment, options)?;
    let mut rgb = vec![0; camera.num_bytes()];
    camera.render(&mut environment, &mut rgb)?;
    let actions = action_rows(environment.spec().actions.len());
    let mut images = Vec::new();
    for (_, action) in (0..num_images.max(1)).zip(actions.iter().cycle()) {
        if environment.step(action)?.is_last() {
            environment.reset_again()?;
        }
        let (cpu, wall) = (process_seconds(), Instant::now());
        camera.render(&mut environment, &mut rgb)?;
        images.push(Seconds { cpu: process_seconds() - cpu, wall: wall.elapsed().as_secs_f64() });
    }
    Ok(figure(task, options, VectorOptions { num_environments: 1, num_threads: 1 }, &images))
}

/// Measures steps with an image each in a vector, per image; the physics' share is in it.
///
/// # Errors
/// As [`VectorEnvironment::with_camera`].
pub fn measure_vector_rendering(
    task: &str,
    native: &Path,
    options: &VectorRendering,
) -> Result<RenderingFigure, SimError> {
    let VectorRendering { size, camera, num_steps } = options;
    let mut vector = VectorEnvironment::with_camera(task, native, *size, camera.clone())?;
    vector.reset(0)?;
    let number = size.num_environments;
    let actions = action_rows(vector.spec().actions.len());
    let mut images = Vec::new();
    for (_, action) in (0..(*num_steps).max(1)).zip(actions.iter().cycle()) {
        let (cpu, wall) = (process_seconds(), Instant::now());
        vector.step(&action.repeat(number))?;
        let (cpu, wall) = (process_seconds() - cpu, wall.elapsed().as_secs_f64());
        images.push(Seconds { cpu: cpu / number as f64, wall: wall / number as f64 });
    }
    Ok(figure(task, camera, *size, &images))
}

fn figure(task: &str, camera: &CameraOptions, size: VectorOptions, images: &[Seconds]) -> RenderingFigure {
    RenderingFigure {
        task: task.to_string(),
        threads: size.num_threads,
        environments: size.num_environments,
        quality: format!("{:?}", camera.quality).to_lowercase(),
        width: camera.width,
        height: camera.height,
        cpu_millis: median(images.iter().map(|image| image.cpu * 1e3)),
        wall_millis: median(images.iter().map(|image| image.wall * 1e3)),
    }
}

/// Builds that many environments on one thread, steps each, and looks at the memory that they added.
///
/// # Errors
/// As [`VectorEnvironment::new`].
pub fn measure_memory(task: &str, native: &Path, num_environments: usize) -> Result<MemoryFigure, SimError> {
    // The first one also loads what all share.
    drop(VectorEnvironment::new(task, native, VectorOptions { num_environments: 1, num_threads: 1 })?);
    let (before, start) = (resident_bytes(), Instant::now());
    let mut vector = VectorEnvironment::new(task, native, VectorOptions { num_environments, num_threads: 1 })?;
    vector.reset(0)?;
    let build_seconds = start.elapsed().as_secs_f64();
    for action in action_rows(vector.spec().actions.len()).iter().take(ACTION_ROWS / 8) {
        vector.step(&action.repeat(num_environments))?;
    }
    let bytes_per_environment = (resident_bytes() - before) / num_environments as f64;
    Ok(MemoryFigure { task: task.to_string(), environments: num_environments, bytes_per_environment, build_seconds })
}

/// Resident memory of this process; not a number where the system does not say.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse::<f64>().ok());
    kibibytes.map_or(f64::NAN, |number| number * 1024.0)
}
