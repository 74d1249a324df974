//! `foresee probe davis|vip|jhmdb|images`: the published protocols, on data sets in their own folders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::bail;
use clap::{Args, ValueEnum};
use foresee_models::{
    ClassCounts, ClassMask, JointDistances, KeyPoints, LabelledVideo, MaskScores, ProbeEncoder, PropagationRecipe,
    VIP_CLASSES, VideoSource, classify_by_nearest, classify_linearly, davis_2017, jhmdb, labelled_images, mask_scores,
    propagate_key_points, propagate_masks, save_propagation, vip,
};
use foresee_runtime::{Skipped, wilson_interval};

use super::run::{ProbeArguments, Subject, square_grid};
use super::scores::{BOOTSTRAP_SEED, Gathered, INTERVAL, NUM_RESAMPLES, ProbeResult, Score, bootstrap};
use super::simulated::{DISC, SQUARE};
use crate::progress::bar;
use crate::stop;
use crate::words::say;

/// CropMAE's for VIP: as for JHMDB with ten nearest.
const VIP_DISC: PropagationRecipe = PropagationRecipe { num_nearest: 10, ..DISC };
/// Sides of frames are multiples of this, in pixels (both published evaluations).
const SIDE_STEP: usize = 64;

/// Arguments of the probes on a data set of videos.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The data set's folder.
    folder: PathBuf,
    #[command(flatten)]
    probe: ProbeArguments,
    /// Seeds of the random encoder.
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// Settings of label propagation [default: rsp for DAVIS, cropmae for VIP and JHMDB, as published]
    #[arg(long, value_enum)]
    protocol: Option<ProtocolArgument>,
    /// Pixels: the short side (DAVIS), the long one (VIP), both (JHMDB, images) [default: 480, 880, 320, what the encoder was trained on]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,
    /// Probe only the first so many videos.
    #[arg(long, value_name = "N")]
    first: Option<usize>,
}

/// The two published settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ProtocolArgument {
    /// DINO's and RSP's: square window, temperature 0.1.
    Rsp,
    /// Videowalk's and CropMAE's: disc, temperature 0.7.
    Cropmae,
}

/// Which data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DataSet {
    Davis,
    Vip,
    Jhmdb,
}

impl DataSet {
    fn name(self) -> &'static str {
        match self {
            Self::Davis => "davis",
            Self::Vip => "vip",
            Self::Jhmdb => "jhmdb",
        }
    }

    fn videos(self, arguments: &Arguments) -> anyhow::Result<Vec<VideoSource>> {
        let mut videos = match self {
            Self::Davis => davis_2017(&arguments.folder)?,
            Self::Vip => vip(&arguments.folder)?,
            Self::Jhmdb => jhmdb(&arguments.folder)?,
        };
        let mut skipped = Skipped::default();
        videos.iter().for_each(|video| skipped.extend(video.skipped.clone()));
        skipped.lines().iter().for_each(|line| say(line));
        videos.truncate(arguments.first.unwrap_or(usize::MAX));
        if videos.is_empty() {
            bail!("--first 0: give at least 1");
        }
        Ok(videos)
    }

    fn recipe(self, protocol: Option<ProtocolArgument>) -> PropagationRecipe {
        match (self, protocol) {
            (Self::Davis, None) | (_, Some(ProtocolArgument::Rsp)) => SQUARE,
            (Self::Vip, _) => VIP_DISC,
            (Self::Davis | Self::Jhmdb, _) => DISC,
        }
    }

    /// Patches down and across of a video's frames.
    fn grid(self, video: &LabelledVideo, (size, patch): (Option<usize>, usize)) -> anyhow::Result<[usize; 2]> {
        let frame = video.frames.first();
        let [height, width] = frame.map_or([1.0; 2], |frame| [f64::from(frame.height), f64::from(frame.width)]);
        let (long, short) = (width.max(height), width.min(height));
        let sides = match self {
            Self::Davis => {
                let short_side = size.unwrap_or(480) as f64;
                [height, width].map(|side| if side > short { side * short_side / short } else { short_side })
            }
            Self::Vip => [height, width].map(|side| side * size.unwrap_or(880) as f64 / long),
            Self::Jhmdb => return square_grid(size.unwrap_or(320), patch),
        };
        let step = if SIDE_STEP.is_multiple_of(patch) { SIDE_STEP } else { patch };
        // The short side of DAVIS is taken as it is.
        let exact = |side: f64| side as usize / patch;
        let floored = |side: f64| side as usize / step * step / patch;
        let is_short = |side: f64| self == Self::Davis && (side - size.unwrap_or(480) as f64).abs() < 0.5;
        let grid = sides.map(|side| if is_short(side) { exact(side) } else { floored(side) });
        if grid.contains(&0) {
            bail!("{}: its frames of {width}x{height} pixels are too small; give a larger --size", video.name);
        }
        Ok(grid)
    }
}

/// Probes a data set of videos; Ctrl-C leaves what is done.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act(data_set: DataSet, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let videos = data_set.videos(arguments)?;
    let mut subjects = arguments.probe.subjects()?;
    let recipe = data_set.recipe(arguments.protocol);
    let progress = bar(videos.len() as u64);
    let mut pairs: Vec<Gathered> = subjects.iter().map(|_| Gathered::default()).collect();
    let mut pools: Vec<Vec<Vec<Pool>>> = vec![vec![Vec::new(); arguments.seeds as usize]; subjects.len()];
    let mut rows = Vec::new();
    let mut num_done = 0;
    let mut first = None;
    for source in &videos {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let video = source.load()?;
        for ((subject, gathered), pools) in subjects.iter().zip(&mut pairs).zip(&mut pools) {
            let mut of_video = Gathered::default();
            for (seed, pool) in subject.seeds(arguments.seeds).zip(pools) {
                let encoder = subject.encoder(seed);
                let grid = data_set.grid(&video, (arguments.size, encoder.patch_size()))?;
                let labels = propagate(data_set, (&encoder, &video), (grid, recipe))?;
                let alone = Pool::of(data_set, &labels, &video);
                of_video.extend(alone.scores());
                pool.push(alone);
                if num_done == 0 && seed == 0 {
                    rows.push(labels);
                }
            }
            of_video.means().iter().for_each(|(name, value)| gathered.add(&format!("{name} of a video"), *value));
        }
        num_done += 1;
        first.get_or_insert(video);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let Some(first) = first else { bail!("interrupted before a video was whole") };
    save_propagation(&first, &rows, &arguments.probe.picture(0)?)?;
    for ((subject, gathered), pools) in subjects.iter_mut().zip(pairs).zip(&pools) {
        subject.extend(gathered);
        subject.set(pooled_scores(pools));
    }
    let settings = [
        ("label propagation", recipe.words()),
        ("videos", format!("{num_done} of {}", videos.len())),
        ("random encoder", format!("mean over {} seeds for each video", arguments.seeds)),
    ];
    let result = ProbeResult {
        probe: data_set.name().to_owned(),
        data: vec![arguments.folder.display().to_string()],
        seeds: (0..arguments.seeds).collect(),
        values_over: "videos".to_owned(),
        interval: format!(
            "{INTERVAL}, of numbers of a video; of the numbers over all videos the percentile bootstrap, {NUM_RESAMPLES} resamples of \
            the videos, seed {BOOTSTRAP_SEED}"
        ),
        settings: settings.into_iter().map(|(name, text)| (name.to_owned(), text)).collect(),
        interrupted: num_done < videos.len(),
        ..ProbeResult::default()
    };
    arguments.probe.finish(result, subjects)?;
    Ok(if stop.load(Ordering::Relaxed) { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

type Labels = (Vec<ClassMask>, KeyPoints);

fn propagate(
    data_set: DataSet,
    (encoder, video): (&ProbeEncoder, &LabelledVideo),
    how: ([usize; 2], PropagationRecipe),
) -> anyhow::Result<Labels> {
    Ok(match data_set {
        DataSet::Davis | DataSet::Vip => (propagate_masks(encoder, video, how)?, KeyPoints::default()),
        DataSet::Jhmdb => (Vec::new(), propagate_key_points(encoder, video, how)?),
    })
}

/// What a published number is made of, over any number of videos.
#[derive(Clone)]
enum Pool {
    /// J and F of every object; the mean is over all objects, so that a video counts as often as it has some.
    Davis(Vec<MaskScores>),
    /// One histogram over all frames.
    Vip(ClassCounts),
    /// Each joint over all frames; the mean is over joints.
    Jhmdb(JointDistances),
}

impl Pool {
    /// Of one video.
    fn of(data_set: DataSet, (masks, points): &Labels, video: &LabelledVideo) -> Self {
        match data_set {
            DataSet::Davis => Self::Davis(mask_scores(masks, video)),
            DataSet::Vip => {
                let mut counts = ClassCounts::new(VIP_CLASSES);
                counts.add(masks, video);
                Self::Vip(counts)
            }
            DataSet::Jhmdb => {
                let mut distances = JointDistances::default();
                distances.add(points, video);
                Self::Jhmdb(distances)
            }
        }
    }

    /// Adds another of the same data set.
    fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Davis(objects), Self::Davis(others)) => objects.extend_from_slice(others),
            (Self::Vip(counts), Self::Vip(others)) => counts.merge(others),
            (Self::Jhmdb(distances), Self::Jhmdb(others)) => distances.merge(others),
            _ => {}
        }
    }

    /// In percent.
    fn scores(&self) -> Gathered {
        let mut gathered = Gathered::default();
        match self {
            Self::Davis(objects) => {
                if let Some(MaskScores { j, f }) = MaskScores::mean(objects) {
                    let shares = [("J", j), ("F", f), ("J&F", 0.5 * (j + f))];
                    shares.iter().for_each(|(name, share)| gathered.add(name, 100.0 * share));
                }
            }
            Self::Vip(counts) => gathered.add("mIoU", 100.0 * counts.mean_overlap()),
            Self::Jhmdb(distances) => {
                let scores = distances.scores();
                gathered.add("PCK@0.1", scores.within_tenth);
                gathered.add("PCK@0.2", scores.within_fifth);
            }
        }
        gathered
    }
}

/// The published numbers, of the videos of each seed: mean over the seeds, with an interval over the videos.
fn pooled_scores(seeds: &[Vec<Pool>]) -> BTreeMap<String, Score> {
    let seeds: Vec<&Vec<Pool>> = seeds.iter().filter(|videos| !videos.is_empty()).collect();
    let num_videos = seeds.first().map_or(0, |videos| videos.len());
    let scores_of = |units: &[usize]| {
        let mut gathered = Gathered::default();
        for videos in &seeds {
            let mut drawn = units.iter().filter_map(|unit| videos.get(*unit));
            if let Some(mut pool) = drawn.next().cloned() {
                drawn.for_each(|video| pool.merge(video));
                gathered.extend(pool.scores());
            }
        }
        gathered
    };
    let intervals = bootstrap(num_videos, |units| scores_of(units).means());
    let mut scores = scores_of(&(0..num_videos).collect::<Vec<usize>>()).scores();
    for (name, score) in &mut scores {
        score.ci95 = intervals.get(name).copied().unwrap_or([score.mean; 2]);
    }
    scores
}

/// `foresee probe images`: classes of still images by k-NN and by a linear map.
///
/// # Errors
/// One line that names what is wrong and the fix.
pub(crate) fn act_on_images(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let stop = stop::flag()?;
    let images = labelled_images(&arguments.folder)?;
    images.skipped.lines().iter().for_each(|line| say(line));
    let mut subjects = arguments.probe.subjects()?;
    for subject in &mut subjects {
        let gathered = classify(subject, (&images, arguments), &stop)?;
        subject.set(shares_of(&gathered, images.test.len()));
    }
    let counts = (images.train.len(), images.test.len(), images.classes.len());
    let settings = BTreeMap::from([
        ("images".to_owned(), format!("{} to learn from, {} asked, {} classes", counts.0, counts.1, counts.2)),
        (
            "told from".to_owned(),
            "the class token; the mean patch of an encoder without one; all patches of raw pixels".to_owned(),
        ),
        ("k-NN".to_owned(), "20 neighbours by cosine, votes exp(cosine / 0.07)".to_owned()),
    ]);
    let result = ProbeResult {
        probe: "images".to_owned(),
        data: vec![arguments.folder.display().to_string()],
        seeds: (0..arguments.seeds).collect(),
        values_over: "the images asked".to_owned(),
        interval: "Wilson, two-sided, 95 %, at the mean over the seeds of the random encoder".to_owned(),
        settings,
        ..ProbeResult::default()
    };
    arguments.probe.finish(result, subjects)?;
    Ok(ExitCode::SUCCESS)
}

/// Percentages of so many images, with their intervals.
fn shares_of(gathered: &Gathered, num_images: usize) -> BTreeMap<String, Score> {
    let mut scores = gathered.scores();
    for score in scores.values_mut() {
        let num_right = (0.01 * score.mean * num_images as f64).round() as usize;
        score.ci95 = wilson_interval(num_right, num_images).map(|share| 100.0 * share);
    }
    scores
}

fn classify(
    subject: &Subject,
    (images, arguments): (&foresee_models::LabelledImages, &Arguments),
    stop: &AtomicBool,
) -> anyhow::Result<Gathered> {
    let mut gathered = Gathered::default();
    for seed in subject.seeds(arguments.seeds) {
        if stop.load(Ordering::Relaxed) {
            bail!("interrupted before every encoder was probed");
        }
        let encoder = subject.encoder(seed);
        let grid = match arguments.size {
            Some(size) => square_grid(size, encoder.patch_size())?,
            None => subject.trained_grid(),
        };
        let train = images.samples(&images.train, (&encoder, grid))?;
        let test = images.samples(&images.test, (&encoder, grid))?;
        gathered.add("k-NN accuracy", 100.0 * classify_by_nearest(&train, &test));
        gathered.add("linear accuracy", 100.0 * classify_linearly(&train, &test)?);
    }
    Ok(gathered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames between a first and a last one, of this many objects that lie side by side.
    fn video(num_objects: u8) -> LabelledVideo {
        let mask = ClassMask { width: 64, classes: (0..64 * 8).map(|pixel| (pixel % 64 / 16) as u8).collect() };
        let classes = mask.classes.iter().map(|class| if *class <= num_objects { *class } else { 0 }).collect();
        let masks = vec![ClassMask { classes, ..mask }; 4];
        LabelledVideo { masks, num_classes: usize::from(num_objects) + 1, ..LabelledVideo::default() }
    }

    #[test]
    fn davis_counts_objects_and_not_videos() {
        let [one, three] = [video(1), video(3)];
        let nothing = vec![ClassMask { width: 64, classes: vec![0; 64 * 8] }; 4];
        let of_one = Pool::of(DataSet::Davis, &(nothing, KeyPoints::default()), &one);
        let of_three = Pool::of(DataSet::Davis, &(three.masks.clone(), KeyPoints::default()), &three);
        let alone = [&of_one, &of_three].map(|pool| pool.scores().0["J"][0]);
        let both = &pooled_scores(&[vec![of_one, of_three]])["J"];
        assert_eq!((alone, both.mean, both.values.len()), ([0.0, 100.0], 75.0, 1));
        // Both videos, either twice.
        assert_eq!((both.ci95, both.text(1).as_str()), ([0.0, 100.0], "75.0 (0.0 to 100.0)"));
    }

    #[test]
    fn every_pooled_number_has_an_interval_over_videos_and_a_share_one_over_images() {
        let [one, two] = [video(1), video(2)];
        let right = |video: &LabelledVideo| (video.masks.clone(), KeyPoints::default());
        let vip = [Pool::of(DataSet::Vip, &right(&one), &one), Pool::of(DataSet::Vip, &right(&one), &two)];
        let score = &pooled_scores(&[vip.to_vec(), vip.to_vec(), Vec::new()])["mIoU"];
        assert!(score.ci95[0] < score.mean && score.mean < score.ci95[1] && score.values.len() == 2, "{score:?}");
        let alone = &pooled_scores(&[vip[..1].to_vec()])["mIoU"];
        assert_eq!((alone.ci95, alone.text(1).as_str()), ([100.0; 2], "100.0"));
        let mut gathered = Gathered::default();
        [80.0, 90.0].iter().for_each(|percent| gathered.add("k-NN accuracy", *percent));
        let share = &shares_of(&gathered, 40)["k-NN accuracy"];
        let wilson = wilson_interval(34, 40).map(|share| 100.0 * share);
        assert_eq!((share.mean, share.ci95), (85.0, wilson));
    }
}
