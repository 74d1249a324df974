//! `RESULTS.md`: what every method reached, the papers' orders, and whether ours agrees.

use std::fmt::Write as _;
use std::path::Path;

use foresee_models::FuturePsnr;
use foresee_runtime::mean_and_half_width;
use foresee_runtime::write_atomically;

use super::clips::FRAME_SECONDS;
use super::methods::{BATCH, METHODS};
use super::plan::{Plan, Unit};
use super::scores::{INTERVAL, Score, range_of, range_of_difference};
use crate::machine;

/// What the table is of.
pub(crate) struct Facts<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) units: &'a [Unit],
    pub(crate) command: &'a str,
}

/// Scores in the table, with what the head says of them.
const COLUMNS: [(&str, &str); 7] = [
    ("J", "J"),
    ("F", "F"),
    ("PCK@0.1", "PCK@0.1"),
    ("PCK@0.2", "PCK@0.2"),
    ("joints, linear, class token", "joints, linear from cls"),
    ("joints, linear, patches", "joints, linear from patches"),
    ("joints, k-NN, patches", "joints, k-NN on patches"),
];

/// A published order, best first.
struct PaperOrder {
    score: &'static str,
    source: &'static str,
    methods: &'static [&'static str],
}

const PAPER_ORDERS: &[PaperOrder] = &[
    PaperOrder {
        score: "J",
        source: "DAVIS-2017 J at ViT-S/16, 400 epochs of Kinetics-400 (Token Bottleneck, table 5): 58.4, 57.4, 56.6, 55.8, 50.4",
        methods: &["ToBo", "RSP", "SiamMAE", "CropMAE", "MAE"],
    },
    PaperOrder {
        score: "PCK@0.1",
        source: "JHMDB PCK@0.1 (same table): 47.0, 44.7, 44.6, 43.0, 42.9",
        methods: &["ToBo", "SiamMAE", "RSP", "MAE", "CropMAE"],
    },
    PaperOrder {
        score: "joints, linear, class token",
        source: "no paper probes joint positions; the order of robot learning from the class token (CortexBench and Franka Kitchen: Token Bottleneck, tables 1 and 2)",
        methods: &["ToBo", "RSP", "SiamMAE", "MAE"],
    },
];

/// Writes the file whole or not at all.
///
/// # Errors
/// Names the file that cannot be written.
pub(crate) fn write(path: &Path, facts: &Facts<'_>) -> anyhow::Result<()> {
    let mut page = String::from("# What the encoders are worth\n\n");
    conditions(&mut page, facts);
    scores(&mut page, facts.units);
    picture(&mut page, path);
    baselines(&mut page, facts.units);
    orders(&mut page, facts.units);
    futures(&mut page, facts);
    write_atomically(path, page.as_bytes()).map_err(Into::into)
}

fn conditions(page: &mut String, facts: &Facts<'_>) {
    let Facts { plan, units, command } = facts;
    let mut seeds: Vec<u64> = units.iter().map(|unit| unit.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let mut revisions: Vec<&str> = units.iter().map(|unit| unit.git_revision.as_str()).collect();
    revisions.sort_unstable();
    revisions.dedup();
    let tasks = plan.tasks.join(", ");
    let _ = write!(
        page,
        "Made by `{command}`; revision {}, seeds {seeds:?}, {} of {} method-seeds; processor {}.\n\n\
        Small encoders on simulated video: ViT of width 96, depth 4, 64 x 64 pixels in patches of 8, decoder of width 64, depth 2. Every \
        trained row takes the same compute, **{} TFLOP**, counted as six floating-point operations for each multiply-add of the matrix \
        products in a sample's forward pass (attention's included, nothing else; forward once, backward twice), so that a cheap step is \
        made more often. Same frames ({} episodes of each task, {} frames each, 25 frames a second, smooth random actions), same peak \
        learning rate, batch {}. Gaps between frames, masks, crops, noise, latent, losses and weights are each recipe's own, but for \
        CropMAE's ratio (0.98 in place of 0.985: one of 64 patches must stay).\n\n\
        Tasks: {tasks}. Probed on {} other videos of each, of {} frames at 128 x 128 (a grid of 16 x 16 patches, positions stretched as \
        DINO does): bodies of the first frame that move are followed by RSP's DAVIS command (7 nearest, first and last 30 frames, radius 30, \
        temperature 0.1), key points (middles of geoms) by CropMAE's JHMDB one (7, 20, 20, 0.7). Joints: explained variance of the driven \
        joints' positions on other episodes ({} clips of each task to learn from, {} asked), by ridge regression and by 20 \
        neighbours. A seed is of first weights, of all draws and of the probed videos; intervals are over seeds ({INTERVAL}).\n",
        revisions.join(", "),
        units.len(),
        METHODS.len() * seeds.len(),
        machine::cpu_features().join(" "),
        plan.compute_tflop,
        plan.train_episodes,
        plan.train_frames,
        BATCH,
        plan.videos,
        plan.video_frames,
        plan.joint_clips[0],
        plan.joint_clips[1],
    );
}

fn scores(page: &mut String, units: &[Unit]) {
    page.push_str("\n## Scores in percent\n\n| | steps |");
    COLUMNS.iter().for_each(|(_, head)| {
        let _ = write!(page, " {head} |");
    });
    page.push_str("\n|---|---|");
    page.push_str(&"---|".repeat(COLUMNS.len()));
    page.push('\n');
    for method in METHODS {
        let of_method: Vec<&Unit> = units.iter().filter(|unit| unit.method == method.name).collect();
        let Some(first) = of_method.first() else { continue };
        let steps = if first.steps > 0 { first.steps.to_string() } else { "-".to_owned() };
        let _ = write!(page, "| {} | {steps} |", method.name);
        for (name, _) in COLUMNS {
            let values: Vec<f64> = of_method.iter().filter_map(|unit| unit.scores.get(name)).copied().collect();
            let _ = write!(page, " {} |", Score::within(&values, range_of(name)).text(1));
        }
        page.push('\n');
    }
}

fn picture(page: &mut String, path: &Path) {
    let picture = path.with_extension("png");
    if picture.exists() {
        let name = picture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rows: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
        let _ = write!(
            page,
            "\n![propagated labels]({name})\n\nOne Meta-World video of seed 0. Rows: exact labels, then {}. The first column is given.\n",
            rows.join(", ")
        );
    }
}

/// What training brought: each method less the encoder that learnt nothing.
fn baselines(page: &mut String, units: &[Unit]) {
    const BASELINE: &str = "random encoder";
    let scores = ["J", "PCK@0.1", "joints, linear, class token", "joints, linear, patches"];
    let _ = write!(
        page,
        "\n## Less the random encoder\n\nPaired by seed, 95 % interval; in bold where it leaves out 0.\n\n| | {} |\n|{}\n",
        scores.join(" | "),
        "---|".repeat(scores.len() + 1)
    );
    for method in METHODS.iter().filter(|method| method.name != BASELINE) {
        let cells = scores.map(|score| {
            let differences = paired(units, [method.name, BASELINE], score);
            let (mean, half_width) = mean_and_half_width(&differences);
            let [lower, upper] = Score::within(&differences, range_of_difference(score)).ci95;
            let text = format!("{mean:+.1} ({lower:+.1} to {upper:+.1})");
            match differences.len() {
                0 => "-".to_owned(),
                1 => format!("{mean:+.1} (too few seeds)"),
                _ if mean.abs() > half_width => format!("**{text}**"),
                _ => text,
            }
        });
        let _ = writeln!(page, "| {} | {} |", method.name, cells.join(" | "));
    }
}

fn orders(page: &mut String, units: &[Unit]) {
    page.push_str(
        "\n## The papers' order and ours\n\nEach pair of neighbours in the published order, best first: our difference (paired by seed, 95 % \
        interval). *agrees* and *disagrees* only where the interval leaves out 0.\n",
    );
    for order in PAPER_ORDERS {
        let mean_of = |method: &&str| Score::of(&values(units, method, order.score)).mean;
        let mut ours = order.methods.to_vec();
        ours.retain(|method| !values(units, method, order.score).is_empty());
        ours.sort_by(|a, b| mean_of(b).total_cmp(&mean_of(a)));
        let _ = write!(
            page,
            "\n**{}**. Published: {} ({}). Ours by mean: {}.\n\n| pair | ours | |\n|---|---|---|\n",
            order.score,
            order.methods.join(" > "),
            order.source,
            ours.join(" > ")
        );
        for pair in order.methods.windows(2) {
            let [better, worse] = pair else { continue };
            let differences = paired(units, [better, worse], order.score);
            let difference = Score::within(&differences, range_of_difference(order.score));
            let (mean, [lower, upper]) = (difference.mean, difference.ci95);
            let verdict = match differences.len() {
                0 | 1 => "too few seeds",
                _ if lower > 0.0 => "agrees",
                _ if upper < 0.0 => "**disagrees**",
                _ => "cannot be told",
            };
            let _ = writeln!(page, "| {better} - {worse} | {mean:+.1} ({lower:+.1} to {upper:+.1}) | {verdict} |");
        }
    }
}

fn futures(page: &mut String, Facts { plan, units, .. }: &Facts<'_>) {
    let seconds = plan.future_gap as f64 * FRAME_SECONDS;
    let _ = write!(
        page,
        "\n## RSP's future frame\n\nPSNR in decibels of the frame {seconds:.2} s later, on the probed videos. Predictions are of normalised patches and get \
        the target's own patch means and deviations back, all rows alike (so do the copied ones).\n\n| prediction | PSNR |\n|---|---|\n",
    );
    type Pick = fn(&FuturePsnr) -> Option<f64>;
    let rows: [(&str, &str, Pick); 5] = [
        ("RSP", "posterior's sample", |future| future.posterior),
        ("RSP", "prior's sample", |future| future.prior),
        ("RSP", "mean of eight predictions from the prior", |future| future.prior_mean),
        ("RSP without latent", "deterministic twin, trained alike", |future| future.deterministic),
        ("RSP", "the present frame", |future| Some(future.copy)),
    ];
    let picked = |method: &str, pick: Pick| -> Vec<(u64, f64)> {
        let of_method = units.iter().filter(|unit| unit.method == method);
        of_method.filter_map(|unit| Some((unit.seed, pick(unit.future.as_ref()?)?))).collect()
    };
    for (method, name, pick) in rows {
        let values: Vec<f64> = picked(method, pick).into_iter().map(|(_, value)| value).collect();
        let _ = writeln!(page, "| {name} | {} |", Score::of(&values).text(2));
    }
    let nats: Vec<f64> = units.iter().filter_map(|unit| unit.kl_nats).collect();
    let _ = write!(
        page,
        "\nThe latent carries {} nats at the end of training (balanced divergence; below 0.1 it costs nothing).\n\n\
        Expected: posterior > prior > deterministic.\n\n",
        Score::of(&nats).text(3)
    );
    let compared =
        [("posterior - prior", 0, 1), ("prior - deterministic", 1, 3), ("mean of priors - deterministic", 2, 3)];
    for (name, better, worse) in compared {
        let [Some(better), Some(worse)] = [rows.get(better), rows.get(worse)] else { continue };
        let [better, worse] = [better, worse].map(|(method, _, pick)| picked(method, *pick));
        let differences: Vec<f64> = better
            .iter()
            .filter_map(|(seed, value)| Some(value - worse.iter().find(|(other, _)| other == seed)?.1))
            .collect();
        let (mean, half_width) = mean_and_half_width(&differences);
        let verdict = match differences.len() {
            0 | 1 => "too few seeds",
            _ if mean - half_width > 0.0 => "holds",
            _ if mean + half_width < 0.0 => "**does not hold**",
            _ => "cannot be told",
        };
        let _ = writeln!(
            page,
            "- {name}: {mean:+.2} dB ({:+.2} to {:+.2}): {verdict}",
            mean - half_width,
            mean + half_width
        );
    }
}

fn values(units: &[Unit], method: &str, score: &str) -> Vec<f64> {
    let of_method = units.iter().filter(|unit| unit.method == method);
    of_method.filter_map(|unit| unit.scores.get(score)).copied().collect()
}

/// Differences of the seeds that both have.
fn paired(units: &[Unit], [better, worse]: [&str; 2], score: &str) -> Vec<f64> {
    let value = |method: &str, seed: u64| {
        units.iter().find(|unit| unit.method == method && unit.seed == seed).and_then(|unit| unit.scores.get(score))
    };
    let mut seeds: Vec<u64> = units.iter().map(|unit| unit.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    seeds.into_iter().filter_map(|seed| Some(value(better, seed)? - value(worse, seed)?)).collect()
}
