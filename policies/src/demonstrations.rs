//! From recorded demonstrations to samples: every frame goes once through the same preprocessing and encoder that serve it later.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{
    CameraRig, CommandTopic, Encoder, Features, Frame, JointState, LogEntry, LogReader, Observation, RuntimeError,
    Stamp,
};

use crate::error::PoliciesError;
use crate::progress::{Progress, Watch};
use crate::record::logs_in;
use crate::samples::{EpisodeSamples, JointRange, Sample, Samples};

/// Which demonstrations are read.
#[derive(Clone, Debug)]
pub struct DemonstrationOptions {
    /// Logs, or folders of logs.
    pub sources: Vec<PathBuf>,
    /// The robot: its cameras, and its joints in the order and with the ranges of the action.
    pub profile: DeviceProfile,
    /// Most memory that the features may take; above it, reading ends with an error rather than with swapping.
    pub max_bytes: usize,
}

/// Reads logs and encodes their frames, with one thread an encoder; all encoders must be of one model. The label of a frame is its
/// `expert_command`, or else its `joint_command`. The result does not depend on the number of threads.
///
/// # Errors
/// [`PoliciesError::Recordings`] when a source holds nothing to learn from, other joints than asked for, or more than fits; what a log or the
/// encoder says; [`PoliciesError::Training`] when asked to stop.
pub fn load_demonstrations(
    options: &DemonstrationOptions,
    encoders: Vec<Box<dyn Encoder>>,
    watch: &mut Watch<'_>,
) -> Result<Samples, PoliciesError> {
    let logs = logs_of(&options.sources)?;
    let joints = JointRange::of(&options.profile);
    let mut samples = empty_samples(options, &joints, &encoders)?;
    let mut read: Vec<Option<Vec<EpisodeSamples>>> = logs.iter().map(|_| None).collect();
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let shared = Shared { logs: &logs, profile: &options.profile, joints: &joints, next: &next, stop: &stop };
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
    if samples.is_empty() {
        let problem = "hold no frame with joint states and a command; record demonstrations with an expert".to_owned();
        return Err(PoliciesError::Recordings { folder: first_of(&options.sources), problem });
    }
    Ok(samples)
}

type Answer = (usize, Result<Vec<EpisodeSamples>, PoliciesError>);

/// What the workers share.
struct Shared<'a> {
    logs: &'a [PathBuf],
    profile: &'a DeviceProfile,
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
            let Some(log) = self.logs.get(log_idx) else { return };
            let answer = match (&mut eyes, encoder.take()) {
                (Some(eyes), _) => read_log(log, self.joints, eyes),
                (None, Some(encoder)) => {
                    Eyes::new(self.profile, encoder).and_then(|new| read_log(log, self.joints, eyes.insert(new)))
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
            return Err(PoliciesError::Training("stopped while the frames were encoded; nothing is kept".to_owned()));
        }
    }
    Ok(())
}

fn logs_of(sources: &[PathBuf]) -> Result<Vec<PathBuf>, PoliciesError> {
    let mut logs = Vec::new();
    for source in sources {
        if source.is_dir() { logs.extend(logs_in(source)?) } else { logs.push(source.clone()) }
    }
    if logs.is_empty() {
        let problem = "hold no .mcap log; make some with `foresee record`".to_owned();
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
    Ok(Samples::new(num_cameras * num_tokens, dim, joints, &card.identity()))
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
    /// What is read.
    log: PathBuf,
}

impl Eyes {
    fn new(profile: &DeviceProfile, encoder: Box<dyn Encoder>) -> Result<Self, PoliciesError> {
        Ok(Self {
            rig: CameraRig::new(profile, encoder.as_ref())?,
            features: Features::zeros(0, 0),
            observation: Observation::of(profile),
            extra: profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect(),
            encoder,
            log: PathBuf::new(),
        })
    }

    /// Keeps what a camera beside the first saw.
    fn keep(&mut self, camera: &str, frame: Frame) {
        let known = self.extra.iter().zip(&mut self.observation.extra).find(|(name, _)| *name == camera);
        known.into_iter().for_each(|(_, slot)| slot.copy_from(&frame));
    }
}

/// What a log said of one moment so far.
#[derive(Default)]
struct Moment {
    frame: Option<Frame>,
    joints: Option<JointState>,
    executed: Option<(Stamp, Vec<f64>)>,
    expert: Option<(Stamp, Vec<f64>)>,
}

fn read_log(path: &Path, joints: &[JointRange], eyes: &mut Eyes) -> Result<Vec<EpisodeSamples>, PoliciesError> {
    let mut reader = LogReader::open(path)?;
    eyes.log = path.to_path_buf();
    eyes.rig.reset();
    let (mut episodes, mut moment) = (vec![EpisodeSamples::default()], Moment::default());
    for entry in reader.by_ref() {
        match entry? {
            LogEntry::Frame(frame) => {
                std::mem::take(&mut moment).settle(joints, eyes, &mut episodes)?;
                moment.frame = Some(frame);
            }
            LogEntry::ExtraFrame { camera, frame } => {
                // It belongs to the frame of the first camera that follows.
                std::mem::take(&mut moment).settle(joints, eyes, &mut episodes)?;
                eyes.keep(&camera, frame);
            }
            LogEntry::Joints { names, state } => {
                check_names(path, &names, joints)?;
                moment.joints = Some(state);
            }
            LogEntry::Command { topic, names, stamp, values } => {
                check_names(path, &names, joints)?;
                match topic {
                    CommandTopic::JointCommand => moment.executed = Some((stamp, values)),
                    CommandTopic::ExpertCommand => moment.expert = Some((stamp, values)),
                }
            }
            LogEntry::Episode { .. } => {
                std::mem::take(&mut moment).settle(joints, eyes, &mut episodes)?;
                episodes.push(EpisodeSamples::default());
                eyes.rig.reset();
            }
        }
    }
    moment.settle(joints, eyes, &mut episodes)?;
    if let Some(why) = reader.truncation() {
        let problem = format!("the log is cut ({why}); remove it or record it anew");
        return Err(PoliciesError::Recordings { folder: path.to_path_buf(), problem });
    }
    episodes.retain(|episode| episode.len() > 0);
    episodes.iter_mut().for_each(EpisodeSamples::shrink);
    Ok(episodes)
}

impl Moment {
    /// Makes a sample of what belongs together; what lacks a part is passed over.
    fn settle(
        self,
        joints: &[JointRange],
        eyes: &mut Eyes,
        episodes: &mut [EpisodeSamples],
    ) -> Result<(), PoliciesError> {
        let (Some(frame), Some(state), Some(label)) = (self.frame, self.joints, self.expert.or(self.executed)) else {
            return Ok(());
        };
        let (stamp, action) = label;
        let widths = [state.positions.len(), state.velocities.len(), action.len()];
        if stamp != frame.stamp || state.stamp != frame.stamp || widths != [joints.len(); 3] {
            return Ok(());
        }
        eyes.observation.frame = frame;
        let unusable = |error: RuntimeError| PoliciesError::Recordings {
            folder: eyes.log.clone(),
            problem: format!("{error}; give the profile that it was recorded with"),
        };
        eyes.rig.see(&eyes.observation, eyes.encoder.as_mut(), &mut eyes.features).map_err(unusable)?;
        if let Some(episode) = episodes.last_mut() {
            let JointState { positions, velocities, .. } = &state;
            episode.push(&Sample { tokens: &eyes.features.tokens, positions, velocities, action: &action }, joints);
        }
        Ok(())
    }
}

fn check_names(path: &Path, names: &[String], joints: &[JointRange]) -> Result<(), PoliciesError> {
    if names.iter().eq(joints.iter().map(|joint| &joint.name)) {
        return Ok(());
    }
    let wanted: Vec<&str> = joints.iter().map(|joint| joint.name.as_str()).collect();
    let problem = format!("joints {names:?} where the profile has {wanted:?}; give recordings of that robot");
    Err(PoliciesError::Recordings { folder: path.to_path_buf(), problem })
}
