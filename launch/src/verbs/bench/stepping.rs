//! `foresee bench sim`: environment steps with observation and reward against raw `mj_step` of the same model, and against
//! others' environments; what an image costs; what memory an environment takes.

mod peers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use foresee_sim::{
    CameraOptions, Quality, RenderingFigure, SteppingFigure, SteppingMode, SteppingOptions, SteppingRace,
    VectorOptions, VectorRendering, measure_memory, measure_rendering, measure_vector_rendering,
};
use serde_json::json;

use crate::places;
use crate::words::{print, say};
use peers::{Peer, PeerFigure, Turn};

/// What vectors and images are measured on.
const WALKER: &str = "dmc/walker-walk";
const WALKER_CAMERA: &str = "side";
const SIZES: [u32; 3] = [84, 128, 224];
/// Images of each kind, a round.
const NUM_IMAGES: u32 = 10;
/// Cheap ones are so many times more.
const FAST_TIMES: u32 = 10;
const NUM_ROUNDS: u32 = 8;

/// Arguments of `foresee bench sim`.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Tasks to step alone; may be given more than once.
    #[arg(long, value_name = "TASK", default_values = ["dmc/walker-walk", "dmc/cheetah-run", "metaworld/assembly", "kitchen/all", "kitchen/microwave"])]
    task: Vec<String>,
    /// Environments of the vector modes (on dmc/walker-walk).
    #[arg(long, default_value_t = 8, value_name = "N")]
    environments: usize,
    /// Threads of the vector modes.
    #[arg(long, default_value_t = 2, value_name = "N")]
    threads: usize,
    /// Rounds of a quarter of a second for raw, environment and each peer alike.
    #[arg(long, default_value_t = 20, value_name = "N")]
    rounds: u32,
    /// Environments in one process whose memory is measured.
    #[arg(long, default_value_t = 256, value_name = "N")]
    memory_environments: usize,
    /// A Python that has some of dm_control, envpool, metaworld, gymnasium-robotics, mujoco: its packages step the same tasks in turn;
    /// may be given more than once.
    #[arg(long, value_name = "INTERPRETER")]
    python: Vec<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Measures and prints.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // First: what other measurements free would be taken up again without a trace.
    let memory = measure_memory(WALKER, &places::native(), arguments.memory_environments)?;
    let mut peers = Vec::new();
    let mut stepping = Vec::new();
    let size = VectorOptions { num_environments: arguments.environments, num_threads: arguments.threads };
    let alone = arguments.task.iter().map(|task| (task.as_str(), SteppingMode::Single));
    let vector = [(WALKER, SteppingMode::Lockstep), (WALKER, SteppingMode::Asynchronous)];
    for (task, mode) in alone.chain(vector) {
        let (figure, others) = race(task, SteppingOptions { mode, size }, arguments)?;
        if !arguments.json {
            print(&stepping_line(&figure));
            others.iter().for_each(|peer| print(&peer.line()));
        }
        stepping.push(figure);
        peers.extend(others);
    }
    let rendering = images(arguments, &mut peers)?;
    if arguments.json {
        let json = json!({ "stepping": stepping, "peers": peers, "rendering": rendering, "memory": [memory] });
        print(&serde_json::to_string_pretty(&json)?);
    } else {
        let (number, bytes) = (memory.environments, memory.bytes_per_environment);
        let seconds = memory.build_seconds;
        print(&format!("{WALKER:<24} {number} environments: {:.0} KiB each, built in {seconds:.1} s", bytes / 1024.0));
    }
    Ok(ExitCode::SUCCESS)
}

/// Rounds of raw, environment, and every peer that this mode has, in turn.
fn race(
    task: &str,
    options: SteppingOptions,
    arguments: &Arguments,
) -> anyhow::Result<(SteppingFigure, Vec<PeerFigure>)> {
    let mut race = SteppingRace::new(task, &places::native(), options)?;
    let size = match options.mode {
        SteppingMode::Single => VectorOptions { num_environments: 1, num_threads: 1 },
        _ => options.size,
    };
    let mut peers = open_peers(&peers::of_stepping(task, options.mode), (task, size), &arguments.python)?;
    for seed in 0..arguments.rounds.max(1) {
        let own = race.round()?;
        let own = Turn { seconds: own, physics_steps: race.num_physics_steps() };
        for peer in &mut peers {
            let num_steps = peer.as_long_as(own, size.num_environments);
            peer.round((num_steps, seed), own)?;
        }
    }
    Ok((race.figure(), peers.iter().map(Peer::figure).collect()))
}

/// Each peer on the first interpreter that has it.
fn open_peers(
    names: &[&'static str],
    (task, size): (&str, VectorOptions),
    interpreters: &[PathBuf],
) -> anyhow::Result<Vec<Peer>> {
    let mut open = Vec::new();
    for name in names {
        let mut missing = String::new();
        for python in interpreters {
            match Peer::open(python, name, (task, size))? {
                Ok(peer) => {
                    open.push(peer);
                    missing.clear();
                    break;
                }
                Err(problem) => missing = format!("bench: {name} is left out of {task}: {problem}"),
            }
        }
        if !missing.is_empty() {
            say(&missing);
        }
    }
    Ok(open)
}

fn images(arguments: &Arguments, peers: &mut Vec<PeerFigure>) -> anyhow::Result<Vec<RenderingFigure>> {
    let native = places::native();
    let mut figures = Vec::new();
    for pixels in SIZES {
        for quality in [Quality::Fast, Quality::Reference] {
            let camera = CameraOptions { name: WALKER_CAMERA.to_owned(), width: pixels, height: pixels, quality };
            let word = if quality == Quality::Fast { "fast" } else { "reference" };
            let task = format!("{WALKER}:{WALKER_CAMERA}:{pixels}:{word}");
            let alone = VectorOptions { num_environments: 1, num_threads: 1 };
            let mut others = open_peers(&["mujoco.Renderer"], (&task, alone), &arguments.python)?;
            let num_images = if quality == Quality::Fast { FAST_TIMES * NUM_IMAGES } else { NUM_IMAGES };
            // A few images each in turn; the middle round is what is told.
            let mut rounds = Vec::new();
            for seed in 0..NUM_ROUNDS {
                let figure = measure_rendering(WALKER, &native, &camera, num_images)?;
                let seconds = foresee_sim::Seconds { cpu: figure.cpu_millis / 1e3, wall: figure.wall_millis / 1e3 };
                let own = Turn { seconds, physics_steps: 1.0 };
                for peer in &mut others {
                    peer.round((num_images, seed), own)?;
                }
                rounds.push(figure);
            }
            rounds.sort_by(|left, right| left.cpu_millis.total_cmp(&right.cpu_millis));
            figures.extend(rounds.into_iter().nth(NUM_ROUNDS as usize / 2));
            peers.extend(others.iter().map(Peer::figure));
        }
        for threads in [1, arguments.threads] {
            let size = VectorOptions { num_environments: arguments.environments, num_threads: threads };
            let name = WALKER_CAMERA.to_owned();
            let camera = CameraOptions { name, width: pixels, height: pixels, quality: Quality::Fast };
            let options = VectorRendering { size, camera, num_steps: 4 * NUM_IMAGES };
            figures.push(measure_vector_rendering(WALKER, &native, &options)?);
        }
    }
    if !arguments.json {
        figures.iter().for_each(|figure| print(&rendering_line(figure)));
        peers.iter().filter(|peer| peer.is_rendering()).for_each(|peer| print(&peer.line()));
    }
    Ok(figures)
}

fn stepping_line(figure: &SteppingFigure) -> String {
    let setting = format!("{:?}, {} on {} threads", figure.mode, figure.environments, figure.threads);
    format!(
        "{:<24} {setting:<32} {:>9.0} steps/CPU s  {:.3} of raw (wall {:.3})",
        figure.task, figure.steps_per_cpu_second, figure.ratio_to_raw_cpu, figure.ratio_to_raw_wall
    )
}

fn rendering_line(figure: &RenderingFigure) -> String {
    let RenderingFigure { width, height, quality, environments, threads, cpu_millis, wall_millis, .. } = figure;
    format!(
        "image {width} x {height}, {quality:<9} {environments} environments on {threads} threads: {cpu_millis:.2} CPU ms, \
         {wall_millis:.2} ms"
    )
}
