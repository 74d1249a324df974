//! From recorded demonstrations to samples: every frame goes once through the same preprocessing and encoder that serve it later.
//!
//! Logs are read twice: first without their pixels, to match and inspect what belongs to each frame ([`DataReport`]), then to encode.

mod inspect;
mod track;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{
    CameraRig, DataSet, Encoder, Features, Frame, LogEntry, LogReader, LogTopics, Observation, PolicyConditions,
    RuntimeError,
};

pub use self::inspect::{DataReport, OutOfRange};
use self::inspect::{check_shares, inspect};
use self::track::{Label, Parts, Track};
use crate::error::PoliciesError;
use crate::progress::{Progress, Watch};
use crate::samples::{EpisodeSamples, JointRange, Sample, Samples};

/// The largest value of f16, in which features are kept.
const MAX_FEATURE: f32 = 65504.0;

/// Which demonstrations are read.
#[derive(Clone, Debug)]
pub struct DemonstrationOptions {
    /// Logs, or folders with logs at or below them.
    pub sources: Vec<PathBuf>,
    /// The robot: its cameras, and its joints in the order and with the ranges of the action.
    pub profile: DeviceProfile,
    /// Most memory that the features may take; above it, reading ends with an error rather than with swapping.
    pub max_bytes: usize,
    /// Topics to read instead of those found by name, as `TOPIC` or `CAMERA=TOPIC`.
    pub topics: Vec<String>,
    /// A joint state or command belongs to a frame if it is at most so far away in time; `None`: half the profile's period.
    pub match_tolerance: Option<Duration>,
    /// Train on logs of which more than 5 % of a joint's values lie out of its range; commands are clamped.
    pub allow_out_of_range: bool,
}

impl DemonstrationOptions {
    /// These sources, with the default of everything else: 1 GiB of features.
    pub fn new(sources: Vec<PathBuf>, profile: DeviceProfile) -> Self {
        let (topics, match_tolerance, allow_out_of_range) = (Vec::new(), None, false);
        Self { sources, profile, max_bytes: 1 << 30, topics, match_tolerance, allow_out_of_range }
    }

    fn tolerance(&self) -> Duration {
        self.match_tolerance.unwrap_or(self.profile.pace.period() / 2)
    }

    fn log_topics(&self) -> LogTopics {
        LogTopics::of_profile(&self.profile).with_named(&self.topics)
    }
}

/// Reads logs and encodes their frames, with one thread an encoder; all encoders must be of one model. The label of a frame is the
/// `expert_command` nearest in time, in logs without any the `joint_command`. What is wrong with the data is reported
/// ([`Progress::Inspected`]) before the first frame is encoded. The result does not depend on the number of threads.
///
/// # Errors
/// [`PoliciesError::NotFinite`] and [`PoliciesError::OutOfRange`] for values that cannot be trained on; [`PoliciesError::Recordings`] when a
/// source holds nothing to learn from, other joints than asked for, or more than fits; what a log or the encoder reports;
/// [`PoliciesError::Training`] when asked to stop.
pub fn load_demonstrations(
    options: &DemonstrationOptions,
    encoders: Vec<Box<dyn Encoder>>,
    watch: &mut Watch<'_>,
) -> Result<Samples, PoliciesError> {
    let joints = JointRange::of(&options.profile);
    let mut samples = empty_samples(options, &joints, &encoders)?;
    let tracks = inspected_tracks(options, &joints, watch)?;
    let mut read: Vec<Option<Vec<EpisodeSamples>>> = tracks.iter().map(|_| None).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let shared = Shared { tracks: &tracks, options, joints: &joints, next: &next, stop: &stop };
    let (sender, receiver) = mpsc::sync_channel(2 * encoders.len());
    std::thread::scope(|scope| {
        for encoder in encoders {
            let (shared, sender) = (&shared, sender.clone());
            scope.spawn(move || shared.work(encoder, &sender));
        }
        drop(sender);
        let collected = collect(&receiver, options, &mut read, watch);
        // Workers end at their next log; what they still send is not wanted.
        stop.store(true, Ordering::Relaxed);
        drop(receiver);
        collected
    })?;
    for episode in read.into_iter().flatten().flatten() {
        samples.push(episode)?;
    }
    Ok(samples)
}

/// Reads what belongs to the frames of all logs, reports it and refuses what cannot be trained on.
fn inspected_tracks(
    options: &DemonstrationOptions,
    joints: &[JointRange],
    watch: &mut Watch<'_>,
) -> Result<Vec<Track>, PoliciesError> {
    let DataSet { files, skipped, .. } = logs_of(&options.sources)?;
    let (topics, tolerance) = (options.log_topics(), options.tolerance());
    let mut tracks = Vec::with_capacity(files.len());
    for path in &files {
        if watch.stopped() {
            return Err(stopped());
        }
        tracks.push(Track::read(path, &topics, joints, tolerance)?);
    }
    let report = DataReport { skipped_files: skipped.into_paths(), ..inspect(&tracks, &options.profile, tolerance)? };
    let (checked, num_used) = (check_shares(&report), report.num_used);
    let why = report.logs.first().map_or_else(String::new, |line| format!(" ({line})"));
    watch.tell(Progress::Inspected(Box::new(report)));
    if num_used == 0 {
        let problem =
            format!("hold no frame with joint states and a command{why}; record demonstrations with an expert");
        return Err(PoliciesError::Recordings { folder: first_of(&options.sources), problem });
    }
    if !options.allow_out_of_range {
        checked?;
    }
    Ok(tracks)
}

fn stopped() -> PoliciesError {
    PoliciesError::Training("stopped while the demonstrations were read; nothing is kept".to_owned())
}

type Answer = (usize, Result<Vec<EpisodeSamples>, PoliciesError>);

/// What the workers share.
struct Shared<'a> {
    tracks: &'a [Track],
    options: &'a DemonstrationOptions,
    joints: &'a [JointRange],
    next: &'a AtomicUsize,
    stop: &'a AtomicBool,
}

impl Shared<'_> {
    fn work(&self, encoder: Box<dyn Encoder>, sender: &mpsc::SyncSender<Answer>) {
        let mut eyes = None;
        let mut encoder = Some(encoder);
        while !self.stop.load(Ordering::Relaxed) {
            let log_idx = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(track) = self.tracks.get(log_idx) else { return };
            let read = |eyes: &mut Eyes| encode_log(track, &self.options.log_topics(), self.joints, eyes);
            let answer = match (&mut eyes, encoder.take()) {
                (Some(eyes), _) => read(eyes),
                (None, Some(encoder)) => {
                    Eyes::new(&self.options.profile, encoder).and_then(|new| read(eyes.insert(new)))
                }
                (None, None) => return,
            };
            if sender.send((log_idx, answer)).is_err() {
                return;
            }
        }
    }
}

/// Takes the workers' answers until all logs are read.
fn collect(
    receiver: &mpsc::Receiver<Answer>,
    options: &DemonstrationOptions,
    read: &mut [Option<Vec<EpisodeSamples>>],
    watch: &mut Watch<'_>,
) -> Result<(), PoliciesError> {
    let (mut num_logs, mut num_frames, mut num_bytes) = (0, 0, 0);
    let num_logs_total = read.len();
    for (log_idx, episodes) in receiver {
        let episodes = episodes?;
        num_logs += 1;
        num_frames += episodes.iter().map(EpisodeSamples::len).sum::<usize>();
        num_bytes += episodes.iter().map(EpisodeSamples::num_bytes).sum::<usize>();
        if num_bytes > options.max_bytes {
            let problem = format!(
                "the features of the first {num_frames} frames take {num_bytes} bytes, more than the {} that are allowed; allow more or give fewer recordings",
                options.max_bytes
            );
            return Err(PoliciesError::Recordings { folder: first_of(&options.sources), problem });
        }
        if let Some(slot) = read.get_mut(log_idx) {
            *slot = Some(episodes);
        }
        watch.tell(Progress::Encoded { num_logs, num_logs_total, num_frames });
        if watch.stopped() {
            return Err(stopped());
        }
    }
    Ok(())
}

fn logs_of(sources: &[PathBuf]) -> Result<DataSet, PoliciesError> {
    let mut logs = DataSet::default();
    for source in sources {
        if source.is_dir() {
            let found = DataSet::below(source, &["mcap"])?;
            logs.files.extend(found.files);
            logs.skipped.extend(found.skipped);
        } else {
            logs.files.push(source.clone());
        }
    }
    if logs.files.is_empty() {
        let skipped = logs.skipped.lines().iter().map(|line| format!(" ({line})")).collect::<String>();
        let problem = format!("hold no .mcap log{skipped}; make some with `foresee record`");
        return Err(PoliciesError::Recordings { folder: first_of(sources), problem });
    }
    Ok(logs)
}

fn first_of(sources: &[PathBuf]) -> PathBuf {
    sources.first().cloned().unwrap_or_default()
}

fn empty_samples(
    options: &DemonstrationOptions,
    joints: &[JointRange],
    encoders: &[Box<dyn Encoder>],
) -> Result<Samples, PoliciesError> {
    let encoder = encoders
        .first()
        .ok_or_else(|| PoliciesError::Training("no encoder was given; open at least one".to_owned()))?;
    let card = encoder.card();
    if encoders.iter().any(|other| other.card().identity() != card.identity()) {
        return Err(PoliciesError::Training("the encoders are not all of one model; open one model".to_owned()));
    }
    let (num_tokens, dim) = token_shape(encoder.as_ref())?;
    let num_cameras = 1 + options.profile.extra_cameras.len();
    let mut samples = Samples::new(num_cameras * num_tokens, dim, joints, &card.identity());
    samples.conditions = Some(PolicyConditions::of(&options.profile));
    Ok(samples)
}

/// N and D of an encoder's `tokens`.
fn token_shape(encoder: &dyn Encoder) -> Result<(usize, usize), PoliciesError> {
    let card = encoder.card();
    card.feature_shape().map_err(|problem| PoliciesError::Training(format!("encoder {}: {problem}", card.name)))
}

/// Cameras and encoder with their buffers.
struct Eyes {
    rig: CameraRig,
    encoder: Box<dyn Encoder>,
    features: Features,
    observation: Observation,
    /// Names of the cameras beside the first.
    extra: Vec<String>,
}

impl Eyes {
    fn new(profile: &DeviceProfile, encoder: Box<dyn Encoder>) -> Result<Self, PoliciesError> {
        Ok(Self {
            rig: CameraRig::new(profile, encoder.as_ref())?,
            features: Features::zeros(0, 0),
            observation: Observation::of(profile),
            extra: profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect(),
            encoder,
        })
    }

    /// Keeps what a camera beside the first saw.
    fn keep(&mut self, camera: &str, frame: Frame) {
        let known = self.extra.iter().zip(&mut self.observation.extra).find(|(name, _)| *name == camera);
        known.into_iter().for_each(|(_, slot)| slot.copy_from(&frame));
    }
}

/// Encodes the frames of a log that have a label.
fn encode_log(
    track: &Track,
    topics: &LogTopics,
    joints: &[JointRange],
    eyes: &mut Eyes,
) -> Result<Vec<EpisodeSamples>, PoliciesError> {
    let mut reader = LogReader::open_with(&track.path, topics)?;
    let (mut breaks, mut frames, mut part) = (Parts::default(), track.frames.iter().enumerate(), 0);
    let mut episodes = vec![EpisodeSamples::default()];
    eyes.rig.reset();
    for entry in reader.by_ref() {
        let entry = entry?;
        if breaks.begins_at(&entry) {
            part += 1;
            episodes.push(EpisodeSamples::default());
            eyes.rig.reset();
        }
        match entry {
            LogEntry::Frame(frame) => {
                let Some((frame_idx, known)) = frames.next().filter(|(_, known)| known.part == part) else {
                    let problem = "changed while it was read; start again once nobody writes it".to_owned();
                    return Err(PoliciesError::Recordings { folder: track.path.clone(), problem });
                };
                if let (Some(label), Some(episode)) = (&known.label, episodes.last_mut()) {
                    let at = FrameAt { path: &track.path, frame_idx };
                    encode_frame(frame, label, at, eyes)?;
                    let Label { positions, velocities, action } = label;
                    episode.push(&Sample { tokens: &eyes.features.tokens, positions, velocities, action }, joints);
                }
            }
            LogEntry::ExtraFrame { camera, frame } => eyes.keep(&camera, frame),
            LogEntry::Joints { .. } | LogEntry::Command { .. } | LogEntry::Episode { .. } => {}
        }
    }
    episodes.retain(|episode| episode.len() > 0);
    episodes.iter_mut().for_each(EpisodeSamples::shrink);
    Ok(episodes)
}

/// Where a frame lies, for errors.
#[derive(Clone, Copy)]
struct FrameAt<'a> {
    path: &'a Path,
    frame_idx: usize,
}

/// Leaves the frame's features in `eyes`.
fn encode_frame(frame: Frame, label: &Label, at: FrameAt<'_>, eyes: &mut Eyes) -> Result<(), PoliciesError> {
    eyes.observation.frame = frame;
    eyes.observation.joints.positions.clone_from(&label.positions);
    eyes.observation.joints.velocities.clone_from(&label.velocities);
    let unusable = |error: RuntimeError| PoliciesError::Recordings {
        folder: at.path.to_path_buf(),
        problem: format!("frame {}: {error}; give the profile that it was recorded with", at.frame_idx),
    };
    eyes.rig.see(&eyes.observation, eyes.encoder.as_mut(), &mut eyes.features).map_err(unusable)?;
    match eyes.features.tokens.iter().find(|value| !value.is_finite() || value.abs() > MAX_FEATURE) {
        Some(value) => {
            let FrameAt { path, frame_idx } = at;
            Err(PoliciesError::Feature { path: path.to_path_buf(), frame_idx, value: *value })
        }
        None => Ok(()),
    }
}
