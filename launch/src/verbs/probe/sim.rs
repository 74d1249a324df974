//! `foresee probe sim`: probes on rendered videos whose labels are exact.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::bail;
use clap::Args;
use foresee_models::save_propagation;

use super::clips::{Clip, ClipOptions, Labels, render_clips};
use super::run::{ProbeArguments, square_grid};
use super::scores::{Gathered, ProbeResult};
use super::simulated::{DISC, JointClips, SQUARE, joint_positions, propagate, propagated};
use crate::words::say;
use crate::{places, stop};

/// Arguments of `foresee probe sim`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Tasks, such as dmc/finger-spin; see foresee sim --list
    #[arg(required = true, value_name = "TASK")]
    tasks: Vec<String>,
    #[command(flatten)]
    probe: ProbeArguments,
    /// Seeds: each renders other videos and starts another random encoder.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Videos of each task and seed whose labels are propagated.
    #[arg(long, default_value_t = 3, value_name = "N")]
    videos: u64,
    /// Frames of each of these, 25 a simulated second.
    #[arg(long, default_value_t = 24, value_name = "N")]
    frames: usize,
    /// Clips of each task and seed that the joint probes learn from; half as many are asked. 0 leaves them out.
    #[arg(long, default_value_t = 12, value_name = "N")]
    joint_clips: u64,
    /// Pixels of a rendered frame's side, and of what label propagation looks at: a multiple of the patch.
    #[arg(long, default_value_t = 128, value_name = "PIXELS")]
    size: u32,
}

/// First seed of the first video; seeds of the runs are this far apart.
const FIRST_SEED: u64 = 8_000_000;
const SEED_STRIDE: u64 = 10_000;
/// Frames of a clip of the joint probes.
const JOINT_FRAMES: usize = 25;

/// Renders, probes and writes the run folder; Ctrl-C leaves what is done.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    for (name, value) in [("--seeds", arguments.seeds), ("--videos", arguments.videos)] {
        if value == 0 {
            bail!("{name} 0: give at least 1");
        }
    }
    if arguments.frames < 3 {
        bail!("--frames {}: give at least 3: the first and the last are not scored", arguments.frames);
    }
    let mut subjects = arguments.probe.subjects()?;
    let mut seeds = Vec::new();
    for seed in 0..arguments.seeds {
        let mut gathered: Vec<Gathered> = subjects.iter().map(|_| Gathered::default()).collect();
        for (task_idx, task) in arguments.tasks.iter().enumerate() {
            let clips = TaskClips::render(arguments, (task, seed))?;
            let mut rows = Vec::new();
            for (subject, gathered) in subjects.iter().zip(&mut gathered) {
                let encoder = subject.encoder(seed);
                let grid = square_grid(arguments.size as usize, encoder.patch_size())?;
                gathered.extend(propagate(&encoder, &clips.videos, grid)?);
                if !clips.train.is_empty() {
                    let joints = JointClips { train: &clips.train, test: &clips.test };
                    gathered.extend(joint_positions(&encoder, &joints, subject.trained_grid())?);
                }
                if let (0, Some(clip)) = (seed, clips.videos.first()) {
                    rows.push(propagated(&encoder, &clip.video, grid)?);
                }
                if stop.load(Ordering::Relaxed) {
                    bail!("interrupted before a seed was whole");
                }
            }
            if let (0, Some(clip)) = (seed, clips.videos.first()) {
                save_propagation(&clip.video, &rows, &arguments.probe.picture(task_idx)?)?;
            }
            if !arguments.probe.json {
                say(&format!("seed {seed}: {task}"));
            }
        }
        subjects.iter_mut().zip(&gathered).for_each(|(subject, gathered)| subject.add_means(gathered));
        seeds.push(seed);
    }
    let size = arguments.size;
    let settings = [
        ("masks", SQUARE.words()),
        ("key points", DISC.words()),
        (
            "frames",
            format!("{} of {size}x{size} pixels, {} videos of each task and seed", arguments.frames, arguments.videos),
        ),
        (
            "joints",
            format!("{} clips of {JOINT_FRAMES} frames to learn from, half as many asked", arguments.joint_clips),
        ),
    ];
    let result = ProbeResult {
        probe: "sim".to_owned(),
        data: arguments.tasks.clone(),
        seeds,
        values_over: "seeds".to_owned(),
        settings: settings.into_iter().map(|(name, text)| (name.to_owned(), text)).collect::<BTreeMap<_, _>>(),
        ..ProbeResult::default()
    };
    arguments.probe.finish(result, subjects)?;
    Ok(ExitCode::SUCCESS)
}

struct TaskClips {
    videos: Vec<Clip>,
    train: Vec<Clip>,
    test: Vec<Clip>,
}

impl TaskClips {
    fn render(arguments: &Arguments, (task, seed): (&str, u64)) -> anyhow::Result<Self> {
        let first = FIRST_SEED + SEED_STRIDE * seed;
        let clips = |labels, num_frames, seeds| -> anyhow::Result<Vec<Clip>> {
            let (native, size) = (places::native(), arguments.size);
            let mut clips = Vec::new();
            render_clips(&ClipOptions { task, native, size, num_frames, seeds, labels }, &mut |clip| {
                clips.push(clip);
                Ok(true)
            })?;
            Ok(clips)
        };
        let videos = first..first + arguments.videos;
        let train = videos.end..videos.end + arguments.joint_clips;
        let test = train.end..train.end + arguments.joint_clips / 2;
        let videos = clips(Labels::OBJECTS, arguments.frames, videos)?;
        if videos.iter().all(|clip| clip.video.num_classes < 2) {
            bail!(
                "{task}: nothing that moves is as large as {} pixels in its first frames; give a larger --size or more --frames",
                Labels::LEAST_PIXELS
            );
        }
        Ok(Self {
            videos,
            train: clips(Labels::None, JOINT_FRAMES, train)?,
            test: clips(Labels::None, JOINT_FRAMES, test)?,
        })
    }
}
