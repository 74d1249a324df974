//! Episodes of simulated tasks as clips, rendered where a sample needs a frame. Clip k is episode `k / tasks` of task `k % tasks`, moved by
//! smooth random actions of that seed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use foresee_firmware_config::PixelEncoding;
use foresee_models::{ClipReader, ClipSource, ModelsError, Reading};
use foresee_policies::{SmoothRandom, StateActor};
use foresee_runtime::Frame;
use foresee_sim::{Camera, CameraOptions, Environment, Quality};

use super::task_names;
use crate::places;

/// Episodes of each task in an epoch.
const EPISODES_PER_TASK: usize = 10_000;
/// Control steps of an episode that are used.
const MAX_STEPS: u32 = 250;
/// The seed of episode 0: demonstrations and evaluations take lower ones.
const FIRST_SEED: u64 = 5_000_000;

/// Episodes of some tasks.
pub(crate) struct SimulatedClips {
    tasks: Vec<String>,
    native: PathBuf,
    size: u32,
}

impl SimulatedClips {
    /// Of `tasks`, separated by commas, rendered at `size` x `size` pixels.
    ///
    /// # Errors
    /// One line when a task is not known or its assets are missing.
    pub(crate) fn new(tasks: &str, size: usize) -> anyhow::Result<Self> {
        let native = places::native();
        let tasks = task_names(tasks)?;
        for task in &tasks {
            Environment::new(task, &native)?;
        }
        Ok(Self { tasks, native, size: u32::try_from(size)? })
    }

    fn place(&self, clip_idx: usize) -> (&str, u64) {
        let task = self.tasks.get(clip_idx % self.tasks.len().max(1)).map_or("", String::as_str);
        (task, FIRST_SEED + (clip_idx / self.tasks.len().max(1)) as u64)
    }
}

impl ClipSource for SimulatedClips {
    fn description(&self) -> String {
        format!(
            "{} rendered on the fly at {} pixels, {EPISODES_PER_TASK} episodes each",
            self.tasks.join(", "),
            self.size
        )
    }

    fn num_clips(&self) -> usize {
        self.tasks.len() * EPISODES_PER_TASK
    }

    fn clip_name(&self, clip_idx: usize) -> String {
        let (task, seed) = self.place(clip_idx);
        format!("{task} seed {seed}")
    }

    fn reader(&self) -> Result<Box<dyn ClipReader + '_>, ModelsError> {
        Ok(Box::new(SimulatedReader { clips: self, stages: BTreeMap::new(), task: "", name: String::new() }))
    }
}

/// A task on this thread.
struct Stage {
    environment: Environment,
    camera: Camera,
    actor: SmoothRandom,
    action: Vec<f64>,
}

struct SimulatedReader<'a> {
    clips: &'a SimulatedClips,
    stages: BTreeMap<&'a str, Stage>,
    task: &'a str,
    name: String,
}

impl SimulatedReader<'_> {
    fn fail(&self, error: &dyn std::fmt::Display) -> ModelsError {
        ModelsError::Data { path: self.name.clone().into(), problem: error.to_string() }
    }

    fn stage(&self, task: &str) -> Result<Stage, ModelsError> {
        let environment = Environment::new(task, &self.clips.native).map_err(|error| self.fail(&error))?;
        let name = environment.spec().camera.clone();
        let options = CameraOptions { name, width: self.clips.size, height: self.clips.size, quality: Quality::Fast };
        let camera = Camera::new(&environment, &options).map_err(|error| self.fail(&error))?;
        let action = vec![0.0; environment.spec().actions.len()];
        Ok(Stage { environment, camera, actor: SmoothRandom::new(), action })
    }
}

impl ClipReader for SimulatedReader<'_> {
    fn open(&mut self, clip_idx: usize) -> Result<usize, ModelsError> {
        let (task, seed) = self.clips.place(clip_idx);
        (self.task, self.name) = (task, self.clips.clip_name(clip_idx));
        if !self.stages.contains_key(task) {
            let stage = self.stage(task)?;
            self.stages.insert(task, stage);
        }
        let Some(stage) = self.stages.get_mut(task) else { return Ok(0) };
        stage.actor.reset(seed);
        let reset = stage.environment.reset(seed);
        let num_frames = stage.environment.spec().max_steps.min(MAX_STEPS) as usize + 1;
        reset.map_err(|error| self.fail(&error))?;
        Ok(num_frames)
    }

    fn read(&mut self, frame_idx: usize, frame: &mut Frame) -> Result<Reading, ModelsError> {
        let Some(stage) = self.stages.get_mut(self.task) else { return Ok(Reading::Ended { num_frames: 0 }) };
        match advance(stage, frame_idx, frame) {
            Ok(reading) => Ok(reading),
            Err(error) => Err(self.fail(&error)),
        }
    }
}

fn advance(stage: &mut Stage, frame_idx: usize, frame: &mut Frame) -> anyhow::Result<Reading> {
    while (stage.environment.num_steps() as usize) < frame_idx {
        stage.actor.act(&stage.environment, &mut stage.action)?;
        let transition = stage.environment.step(&stage.action)?;
        let num_frames = stage.environment.num_steps() as usize + 1;
        if transition.is_last() && num_frames <= frame_idx {
            return Ok(Reading::Ended { num_frames });
        }
    }
    let CameraOptions { width, height, .. } = *stage.camera.options();
    if (frame.width, frame.height, frame.encoding) != (width, height, PixelEncoding::Rgb8) {
        *frame = Frame::black(width, height, PixelEncoding::Rgb8);
    }
    stage.camera.render_frame(&mut stage.environment, frame)?;
    Ok(Reading::Frame)
}
