//! The cameras of a loop: their images through one encoder, as one batch or in turn, each camera with an age, a budget and an account
//! of its own. What they show is put side by side, in the profile's order.

use std::time::{Duration, Instant};

use foresee_firmware_config::{BudgetProfile, CameraOrder, CameraProfile, DeviceProfile, IntrinsicsProfile, Pace};

use crate::admission::Admission;
use crate::budget::{BudgetState, BudgetWatch, prove_total};
use crate::control_loop::{Stage, TickReport, nanos_since};
use crate::encoder::{Encoder, EncoderInput, Features};
use crate::ends::Observation;
use crate::error::RuntimeError;
use crate::frame::Frame;
use crate::preprocess::Preprocessor;
use crate::safety::Hold;
use crate::statistics::LatencyHistogram;
use crate::time::{Clock, Stamp};

/// Ticks in a row over a camera's budget that are tolerated where the profile has no `[budget]`.
const TOLERATED_MISSES: u32 = 2;

/// What became of one camera's frames.
#[derive(Clone, Debug, Default)]
pub struct CameraAccount {
    /// The camera's name.
    pub name: String,
    /// Frames that were encoded.
    pub num_frames: u64,
    /// Frames that another one overtook before they were looked at.
    pub num_passed_over: u64,
    /// Ticks that were not answered because its frame was too old, frozen or black.
    pub num_refused: u64,
    /// Ticks in which its images took longer than its budget.
    pub num_over_budget: u64,
    /// Exposure to the end of the tick; a fixed pace on a real clock has it.
    pub age: LatencyHistogram,
    /// Preprocessing its image and its share of encoding.
    pub spent: LatencyHistogram,
}

/// The cameras, and what the encoder made of their images.
#[derive(Debug)]
pub struct CameraRig {
    /// The profile's camera, then the ones beside it.
    cameras: Vec<RigCamera>,
    order: CameraOrder,
    is_lockstep: bool,
    /// All images in one, if the encoder takes a batch; else one each.
    inputs: Vec<EncoderInput>,
    is_batch: bool,
    /// What the encoder says of one image.
    one: Features,
    /// Hex sha256 of the encoder whose features are kept from tick to tick.
    encoder_sha256: String,
    /// Whose turn it is.
    turn: usize,
}

#[derive(Debug)]
struct RigCamera {
    profile: CameraProfile,
    preprocessor: Preprocessor,
    /// The loop's own for the first.
    admission: Option<Admission>,
    budget: Option<BudgetWatch>,
    /// Stamp and sequence of the frame that was looked at last.
    looked: Option<(Stamp, u64)>,
    /// Whether the features are of that frame.
    is_encoded: bool,
    /// Whether it is looked at even when it is another's turn.
    is_due: bool,
    spent_nanos: u64,
    account: CameraAccount,
}

impl CameraRig {
    /// The cameras of a profile, before this encoder.
    ///
    /// # Errors
    /// [`RuntimeError::Card`] when its card has no preprocessing, [`RuntimeError::Frame`] when that cannot be done or the encoder
    /// takes another number of images.
    pub fn new(profile: &DeviceProfile, encoder: &dyn Encoder) -> Result<Self, RuntimeError> {
        let card = encoder.card();
        let problem = || format!("the card of encoder `{}` has no preprocessing; export the encoder again", card.name);
        let preprocessing = card.preprocessing.as_ref();
        let preprocessing =
            preprocessing.ok_or_else(|| RuntimeError::Card { path: card.model.clone().into(), problem: problem() })?;
        let camera = |camera: &CameraProfile, intrinsics: Option<&IntrinsicsProfile>| {
            Ok::<_, RuntimeError>(RigCamera {
                profile: camera.clone(),
                preprocessor: Preprocessor::new(preprocessing)?.with_intrinsics(intrinsics),
                admission: None,
                budget: None,
                looked: None,
                is_encoded: false,
                is_due: false,
                spent_nanos: 0,
                account: CameraAccount { name: camera.name.clone(), ..CameraAccount::default() },
            })
        };
        let mut cameras = vec![camera(&profile.camera, profile.intrinsics.as_ref())?];
        let tolerated_misses = profile.budget.map_or(TOLERATED_MISSES, |budget| budget.tolerated_misses);
        for extra in &profile.extra_cameras {
            let max_age = extra.max_frame_age_millis.map(Duration::from_millis);
            let budget = extra.budget_millis.map(|total_millis| {
                let whole = BudgetProfile { total_millis, tolerated_misses, ..BudgetProfile::default() };
                BudgetWatch::new(whole)
            });
            let admission = Some(Admission::with_max_age(max_age));
            cameras.push(RigCamera { admission, budget, ..camera(&extra.camera, extra.intrinsics.as_ref())? });
        }
        let (num_cameras, num_images) = (cameras.len(), encoder.num_images());
        if num_images != 1 && num_images != num_cameras {
            let problem = format!(
                "the encoder was opened for {num_images} images at a time, and profile `{}` has {num_cameras} cameras",
                profile.name
            );
            return Err(RuntimeError::Frame(problem));
        }
        let is_batch = num_images > 1;
        let (num_inputs, images_each) = if is_batch { (1, num_images) } else { (num_cameras, 1) };
        let input = EncoderInput::batch(images_each, preprocessing.height, preprocessing.width);
        Ok(Self {
            cameras,
            order: profile.rates.cameras,
            is_lockstep: matches!(profile.pace, Pace::Lockstep { .. }),
            inputs: vec![input; num_inputs],
            is_batch,
            one: Features::zeros(0, 0),
            encoder_sha256: encoder.report().model_sha256.clone(),
            turn: 0,
        })
    }

    /// A new episode begins: what was seen before is of another. At a fixed pace the cameras and their time go on.
    pub fn reset(&mut self) {
        self.turn = 0;
        for camera in &mut self.cameras {
            (camera.looked, camera.is_encoded) = (None, false);
            if self.is_lockstep {
                camera.admission.iter_mut().for_each(Admission::reset);
            }
        }
    }

    /// Whatever the order, every camera is due in the next tick: what was seen before is too long ago.
    pub(crate) fn look_anew(&mut self) {
        self.cameras.iter_mut().for_each(|camera| camera.is_due = true);
    }

    /// What all cameras show -> features, side by side: what a tick does before its policy.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when a frame is not of its camera's size or encoding, or is missing; what the encoder says.
    pub fn see(
        &mut self,
        observation: &Observation,
        encoder: &mut dyn Encoder,
        features: &mut Features,
    ) -> Result<(), RuntimeError> {
        self.look(observation)?;
        self.encode(encoder, features)
    }

    /// Why the frames beside the first are not to be answered, if they are not.
    pub(crate) fn refuse(&mut self, observation: &Observation, clock: &Clock) -> Option<(&str, Hold)> {
        let mut held = None;
        for (camera, frame) in self.cameras.iter_mut().skip(1).zip(&observation.extra) {
            let Some(admission) = &mut camera.admission else { continue };
            let is_new = camera.looked != Some((frame.stamp, frame.sequence));
            let refused = match is_new {
                true => admission.refuse(frame, clock),
                false => admission.is_too_old(frame.stamp, clock).then_some(Hold::StaleFrame),
            };
            match refused {
                Some(why) => {
                    camera.account.num_refused += 1;
                    held = held.or(Some((camera.profile.name.as_str(), why)));
                }
                None => admission.note(frame.stamp),
            }
        }
        held
    }

    /// Whether every camera gives frames of its size and encoding.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] names the camera and both.
    pub(crate) fn check(&self, observation: &Observation) -> Result<(), RuntimeError> {
        let frames = std::iter::once(&observation.frame).chain(&observation.extra);
        self.cameras.iter().zip(frames).try_for_each(|(camera, frame)| check_camera(frame, &camera.profile))
    }

    /// The images whose turn it is -> encoder input. All of them in the first tick of an episode, and as one batch always.
    ///
    /// # Errors
    /// [`RuntimeError::Frame`] when a frame is not of its camera's size or encoding, or is missing.
    pub(crate) fn look(&mut self, observation: &Observation) -> Result<(), RuntimeError> {
        let (num_cameras, is_batch, turn) = (self.cameras.len(), self.is_batch, self.turn);
        for (idx, camera) in self.cameras.iter_mut().enumerate() {
            camera.spent_nanos = 0;
            let frame = match idx.checked_sub(1) {
                None => Some(&observation.frame),
                Some(extra_idx) => observation.extra.get(extra_idx),
            };
            let name = &camera.profile.name;
            let frame = frame.ok_or_else(|| RuntimeError::Frame(format!("no frame of camera `{name}`")))?;
            check_camera(frame, &camera.profile)?;
            if self.is_lockstep && frame.stamp != observation.frame.stamp {
                let (found, wanted) = (frame.stamp.nanos, observation.frame.stamp.nanos);
                return Err(RuntimeError::Frame(format!(
                    "camera `{name}` shows {found} ns where the first camera shows {wanted} ns; in lockstep they belong together"
                )));
            }
            let now = (frame.stamp, frame.sequence);
            let is_turn = is_batch || self.order == CameraOrder::Batch || idx == turn;
            let is_due = std::mem::take(&mut camera.is_due) || is_turn || camera.looked.is_none();
            // A picture of a slower camera that is encoded already stays so.
            if !is_due || (idx > 0 && camera.looked == Some(now)) {
                continue;
            }
            let started = Instant::now();
            let (input_idx, image_idx) = if is_batch { (0, idx) } else { (idx, 0) };
            if let Some(input) = self.inputs.get_mut(input_idx) {
                camera.preprocessor.run_as(frame, input, image_idx)?;
            }
            camera.spent_nanos = nanos_since(started);
            let passed_over = camera.looked.map_or(0, |(_, last)| frame.sequence.saturating_sub(last + 1));
            // In turn, frames between two turns are not meant to be looked at.
            if self.order == CameraOrder::Batch {
                camera.account.num_passed_over += passed_over;
            }
            camera.account.num_frames += 1;
            (camera.looked, camera.is_encoded) = (Some(now), false);
        }
        self.turn = (turn + 1) % num_cameras.max(1);
        Ok(())
    }

    /// What was looked at -> the features of all cameras, side by side.
    ///
    /// # Errors
    /// What the encoder says.
    pub(crate) fn encode(&mut self, encoder: &mut dyn Encoder, features: &mut Features) -> Result<(), RuntimeError> {
        if self.is_batch || self.cameras.len() == 1 {
            let started = Instant::now();
            for input in &self.inputs {
                encoder.encode(input, features)?;
            }
            let share = nanos_since(started) / self.cameras.len() as u64;
            for camera in &mut self.cameras {
                camera.is_encoded = true;
                camera.spent_nanos += share;
            }
            return Ok(());
        }
        let mut encoded = self.encode_new(encoder, features);
        // Models were swapped, or failed on their way: features of two encoders do not go together.
        while encoded.is_ok() && encoder.report().model_sha256 != self.encoder_sha256 {
            self.encoder_sha256.clone_from(&encoder.report().model_sha256);
            self.cameras.iter_mut().for_each(|camera| camera.is_encoded = false);
            encoded = self.encode_new(encoder, features);
        }
        if encoded.is_err() {
            self.cameras.iter_mut().for_each(|camera| camera.is_encoded = false);
        }
        encoded
    }

    /// One image after the other.
    fn encode_new(&mut self, encoder: &mut dyn Encoder, features: &mut Features) -> Result<(), RuntimeError> {
        let num_cameras = self.cameras.len();
        for (idx, (camera, input)) in self.cameras.iter_mut().zip(&self.inputs).enumerate() {
            if camera.is_encoded {
                continue;
            }
            let started = Instant::now();
            encoder.encode(input, &mut self.one)?;
            let one = &self.one;
            (features.num_tokens, features.dim) = (num_cameras * one.num_tokens, one.dim);
            features.tokens.resize(num_cameras * one.tokens.len(), 0.0);
            features.cls.resize(num_cameras * one.cls.len(), 0.0);
            put(&one.tokens, &mut features.tokens, idx);
            put(&one.cls, &mut features.cls, idx);
            camera.is_encoded = true;
            camera.spent_nanos += nanos_since(started);
        }
        Ok(())
    }

    /// Counts a tick that was decided; gives the worst that any camera's budget has to say, if budgets are watched.
    pub(crate) fn account(&mut self, clock: &Clock, is_watched: bool) -> BudgetState {
        let mut worst = BudgetState::Kept;
        for camera in &mut self.cameras {
            if camera.spent_nanos > 0 {
                camera.account.spent.record(camera.spent_nanos);
            }
            if !is_watched {
                continue;
            }
            if let Some((stamp, _)) = camera.looked {
                let age = clock.now().since(stamp).as_nanos();
                camera.account.age.record(u64::try_from(age).unwrap_or(u64::MAX));
            }
            let Some(budget) = camera.budget.as_mut().filter(|_| camera.spent_nanos > 0) else { continue };
            let mut report = TickReport::default();
            report.stage_nanos[Stage::Preprocess as usize] = camera.spent_nanos;
            let state = budget.look(&report);
            camera.account.num_over_budget += u64::from(state != BudgetState::Kept);
            worst = worst.max(state);
        }
        worst
    }

    /// Whether what a camera shows has become too old since it was looked at: in turn, or while the tick went on.
    pub(crate) fn has_old(&mut self, clock: &Clock) -> bool {
        let mut is_old = false;
        for camera in &mut self.cameras {
            let (Some(admission), Some((stamp, _))) = (&camera.admission, camera.looked) else { continue };
            if admission.is_too_old(stamp, clock) {
                camera.account.num_refused += 1;
                is_old = true;
            }
        }
        is_old
    }

    /// Whether what was counted keeps every camera's budget, as far as it declares one.
    ///
    /// # Errors
    /// [`RuntimeError::Budget`] names the camera.
    pub(crate) fn prove_budgets(&self) -> Result<(), RuntimeError> {
        let declared = self.cameras.iter().filter_map(|camera| Some((camera, camera.budget.as_ref()?)));
        declared.into_iter().try_for_each(|(camera, budget)| {
            let stage = || format!("camera `{}`", camera.profile.name);
            prove_total(stage, &camera.account.spent, budget.total_millis())
        })
    }

    /// A self-test is over: what counts begins.
    pub(crate) fn forget_accounts(&mut self) {
        for camera in &mut self.cameras {
            let name = std::mem::take(&mut camera.account.name);
            camera.account = CameraAccount { name, ..CameraAccount::default() };
        }
    }

    /// How their images go through the encoder, in words.
    pub fn words(&self) -> String {
        let num_cameras = self.cameras.len();
        match (self.is_batch, self.order) {
            _ if num_cameras == 1 => "one camera".to_owned(),
            (true, _) => format!("{num_cameras} cameras, one batch"),
            (false, CameraOrder::Batch) => format!("{num_cameras} cameras, one image after the other every tick"),
            (false, CameraOrder::RoundRobin) => format!("{num_cameras} cameras in turn, one a tick"),
        }
    }

    /// One account a camera, the profile's first.
    pub fn accounts(&self) -> impl Iterator<Item = &CameraAccount> {
        self.cameras.iter().map(|camera| &camera.account)
    }
}

/// Writes one image's values to their place among several.
fn put(from: &[f32], to: &mut [f32], idx: usize) {
    let place = to.chunks_exact_mut(from.len().max(1)).nth(idx);
    place.into_iter().for_each(|place| place.copy_from_slice(from));
}

fn check_camera(frame: &Frame, camera: &CameraProfile) -> Result<(), RuntimeError> {
    if (frame.width, frame.height, frame.encoding) == (camera.width, camera.height, camera.encoding) {
        return Ok(());
    }
    let Frame { width, height, encoding, .. } = frame;
    Err(RuntimeError::Frame(format!(
        "{width}x{height} {encoding:?} where the profile's camera `{}` gives {}x{} {:?}; make camera and profile agree",
        camera.name, camera.width, camera.height, camera.encoding
    )))
}
