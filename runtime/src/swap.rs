//! Models swapped while the loop runs: loaded and proved beside the old ones on a thread of their own, switched between two ticks,
//! back on failure.
//!
//! The loop keeps calling one encoder and one policy; what these do is exchanged behind it. The encoder's side switches with its next
//! encode, the policy's with its next act, and from then on each act of the new pair counts: a policy that acts in every eighth tick
//! is on trial as long as one that acts in each.

mod watch;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

pub use self::watch::watch_models;
use crate::card::{ModelCard, PreprocessingCard};
use crate::command::Action;
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::policy::Policy;
use crate::safety::Hold;

/// Acts of the new policy on the new encoder's features before the old models are let go.
const PROBATION_ACTS: u32 = 30;
/// News, and models to be dropped, that may wait for whoever offers.
const NUM_WAITING: usize = 16;

/// An encoder and a policy for its features, both proved.
pub struct ModelPair {
    /// Pixels to features.
    pub encoder: Box<dyn Encoder>,
    /// Features to actions.
    pub policy: Box<dyn Policy>,
}

/// What runs a pair of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairReport {
    /// What runs the encoder.
    pub encoder: EngineReport,
    /// What runs the policy, if an engine does.
    pub policy: Option<EngineReport>,
}

impl PairReport {
    /// Of these two.
    pub fn of(encoder: &dyn Encoder, policy: &dyn Policy) -> Self {
        Self { encoder: encoder.report().clone(), policy: policy.report().cloned() }
    }

    /// By role: `encoder`, `policy`.
    pub fn by_role(&self) -> Vec<(String, EngineReport)> {
        let reports = [("encoder", Some(&self.encoder)), ("policy", self.policy.as_ref())];
        reports.into_iter().filter_map(|(role, report)| Some((role.to_owned(), report?.clone()))).collect()
    }
}

/// What became of the newest models that were offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapNews {
    /// They answer since a moment ago.
    Switched(Arc<PairReport>),
    /// They passed their trial; the old ones are gone.
    Kept,
    /// They failed, and the old ones answer again.
    Back {
        /// How they failed.
        reason: String,
        /// The old ones.
        models: Arc<PairReport>,
    },
    /// They were never used: they could not be opened, or do not fit.
    Refused(String),
}

/// Where new models are offered. The loop takes them before its next encode.
#[derive(Clone)]
pub struct SwapHandle {
    shared: Arc<Shared>,
    received: Arc<Received>,
    preprocessing: Option<PreprocessingCard>,
    num_images: usize,
}

struct Shared {
    offered: Mutex<Option<Offer>>,
    /// Encoder, policy and listener are called by the loop's thread alone, so that none waits for another.
    trial: Mutex<Trial>,
    /// The loop never waits for whoever listens; what finds no room is lost.
    news: SyncSender<SwapNews>,
    /// Models that the loop let go; whoever offers drops them, since that takes long.
    retired: SyncSender<ModelPart>,
}

struct Received {
    news: Mutex<Receiver<SwapNews>>,
    retired: Mutex<Receiver<ModelPart>>,
}

struct Offer {
    pair: ModelPair,
    report: Arc<PairReport>,
}

/// How far a swap has come.
enum Trial {
    /// No other models are there than those that answer.
    None,
    /// The new encoder answers; the new policy will with its next act.
    Begun(Box<dyn Policy>),
    /// Both answer, and did so many times.
    Answering { num_acts: u32 },
    /// Both are good; the old encoder is let go with the next encode.
    Passed,
    /// They failed; the old encoder answers again with the next encode, and nothing acts until then.
    Failed(String),
    /// The old encoder answers again; the old policy will with its next act.
    Ended,
}

enum ModelPart {
    #[expect(dead_code, reason = "held until it is dropped elsewhere")]
    Encoder(Box<dyn Encoder>),
    #[expect(dead_code, reason = "held until it is dropped elsewhere")]
    Policy(Box<dyn Policy>),
}

/// Makes models that can be exchanged later, and the handle for that.
pub fn swappable(pair: ModelPair) -> (ModelPair, SwapHandle) {
    let (tell, news) = sync_channel(NUM_WAITING);
    let (retire, retired) = sync_channel(NUM_WAITING);
    let shared =
        Arc::new(Shared { offered: Mutex::new(None), trial: Mutex::new(Trial::None), news: tell, retired: retire });
    let received = Arc::new(Received { news: Mutex::new(news), retired: Mutex::new(retired) });
    let (preprocessing, num_images) = (pair.encoder.card().preprocessing.clone(), pair.encoder.num_images());
    let report = Arc::new(PairReport::of(pair.encoder.as_ref(), pair.policy.as_ref()));
    let encoder = SwappableEncoder { now: pair.encoder, report, before: None, shared: Arc::clone(&shared) };
    let policy = SwappablePolicy { now: pair.policy, before: None, shared: Arc::clone(&shared) };
    (
        ModelPair { encoder: Box::new(encoder), policy: Box::new(policy) },
        SwapHandle { shared, received, preprocessing, num_images },
    )
}

impl SwapHandle {
    /// Offers proved models; the loop takes them before its next encode.
    ///
    /// # Errors
    /// [`RuntimeError::Card`] when the encoder wants another preprocessing, or other numbers of images, than the one that runs.
    pub fn offer(&self, pair: ModelPair) -> Result<(), RuntimeError> {
        let card = pair.encoder.card();
        if card.preprocessing != self.preprocessing {
            let problem = "the new encoder wants its images otherwise (size, resampling or normalisation) than the one that runs; stop the loop and start it with the new one";
            return Err(RuntimeError::Card { path: card.model.clone().into(), problem: problem.to_owned() });
        }
        if pair.encoder.num_images() != self.num_images {
            let (takes, taken) = (pair.encoder.num_images(), self.num_images);
            let problem = format!(
                "the new encoder takes {takes} images at a time and the one that runs {taken}; stop the loop and start it with the new one"
            );
            return Err(RuntimeError::Card { path: pair.encoder.card().model.clone().into(), problem });
        }
        let report = Arc::new(PairReport::of(pair.encoder.as_ref(), pair.policy.as_ref()));
        *lock(&self.shared.offered) = Some(Offer { pair, report });
        Ok(())
    }

    /// Says, from the loop's thread, that the robot is held: models that are on trial meanwhile have failed it.
    pub fn hear_of_hold(&self, held: Hold) {
        self.shared.fail(|| format!("the robot was held while they were on trial: {}", held.words()));
    }

    /// What happened since it was asked last, in order; drops models that the loop let go.
    pub fn news(&self) -> Vec<SwapNews> {
        lock(&self.received.retired).try_iter().for_each(drop);
        lock(&self.received.news).try_iter().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn tell(&self, news: SwapNews) {
        let _ = self.news.try_send(news);
    }

    fn retire(&self, part: ModelPart) {
        // Without room it is dropped here.
        let _ = self.retired.try_send(part);
    }

    /// The next state of the trial; a policy that was never used goes.
    fn turn(&self, to: Trial) {
        if let Trial::Begun(unused) = std::mem::replace(&mut *lock(&self.trial), to) {
            self.retire(ModelPart::Policy(unused));
        }
    }

    /// Models that are on trial have failed it.
    fn fail(&self, why: impl FnOnce() -> String) {
        if matches!(*lock(&self.trial), Trial::Begun(_) | Trial::Answering { .. }) {
            self.turn(Trial::Failed(why()));
        }
    }
}

struct SwappableEncoder {
    now: Box<dyn Encoder>,
    /// What runs it, with its policy.
    report: Arc<PairReport>,
    /// Until the new one is kept.
    before: Option<(Box<dyn Encoder>, Arc<PairReport>)>,
    shared: Arc<Shared>,
}

impl SwappableEncoder {
    /// What the trial has come to since the last encode.
    fn settle(&mut self) {
        let mut trial = lock(&self.shared.trial);
        match std::mem::replace(&mut *trial, Trial::None) {
            Trial::Passed => {
                drop(trial);
                self.before.take().into_iter().for_each(|(old, _)| self.shared.retire(ModelPart::Encoder(old)));
                self.shared.tell(SwapNews::Kept);
            }
            Trial::Failed(reason) => {
                drop(trial);
                self.go_back(reason);
            }
            other => *trial = other,
        }
    }

    fn take_offer(&mut self) {
        let offered = self.shared.offered.try_lock().ok().and_then(|mut offered| offered.take());
        let Some(Offer { pair: ModelPair { encoder, policy }, report }) = offered else { return };
        let old = std::mem::replace(&mut self.now, encoder);
        let old_report = std::mem::replace(&mut self.report, Arc::clone(&report));
        // Models that are still on trial go when others come; what is known to be good stays behind.
        if self.before.is_some() {
            self.shared.retire(ModelPart::Encoder(old));
        } else {
            self.before = Some((old, old_report));
        }
        self.shared.turn(Trial::Begun(policy));
        self.shared.tell(SwapNews::Switched(report));
    }

    fn go_back(&mut self, reason: String) {
        let Some((before, report)) = self.before.take() else { return };
        let failed = std::mem::replace(&mut self.now, before);
        self.report = Arc::clone(&report);
        self.shared.retire(ModelPart::Encoder(failed));
        self.shared.turn(Trial::Ended);
        self.shared.tell(SwapNews::Back { reason, models: report });
    }
}

impl Encoder for SwappableEncoder {
    fn card(&self) -> &ModelCard {
        self.now.card()
    }

    fn report(&self) -> &EngineReport {
        self.now.report()
    }

    fn num_images(&self) -> usize {
        self.now.num_images()
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        self.settle();
        self.take_offer();
        let encoded = self.now.encode(input, features);
        if let Err(error) = &encoded {
            // Other images of this tick may have gone through the new encoder: the tick is lost, the next one is the old models'.
            self.go_back(error.to_string());
        }
        encoded
    }
}

struct SwappablePolicy {
    now: Box<dyn Policy>,
    /// Until the new one is kept.
    before: Option<Box<dyn Policy>>,
    shared: Arc<Shared>,
}

impl SwappablePolicy {
    /// Follows the encoder; gives how many times the new pair has answered, while it is on trial.
    fn follow(&mut self) -> Result<Option<u32>, RuntimeError> {
        let mut trial = lock(&self.shared.trial);
        match std::mem::replace(&mut *trial, Trial::None) {
            Trial::Begun(policy) => {
                *trial = Trial::Answering { num_acts: 0 };
                let old = std::mem::replace(&mut self.now, policy);
                if self.before.is_some() {
                    self.shared.retire(ModelPart::Policy(old));
                } else {
                    self.before = Some(old);
                }
                Ok(Some(0))
            }
            Trial::Ended => {
                if let Some(before) = self.before.take() {
                    let failed = std::mem::replace(&mut self.now, before);
                    self.shared.retire(ModelPart::Policy(failed));
                }
                Ok(None)
            }
            Trial::Failed(reason) => {
                let problem = format!("the new models failed, and the old ones are not yet back: {reason}");
                *trial = Trial::Failed(reason);
                Err(RuntimeError::Inference { model: "policy".to_owned(), problem })
            }
            other => {
                let num_acts = if let Trial::Answering { num_acts } = other { Some(num_acts) } else { None };
                *trial = other;
                Ok(num_acts)
            }
        }
    }
}

impl Policy for SwappablePolicy {
    fn report(&self) -> Option<&EngineReport> {
        self.now.report()
    }

    fn reset(&mut self) {
        self.now.reset();
    }

    fn act(&mut self, features: &Features, joints: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let on_trial = self.follow()?;
        let acted = self.now.act(features, joints, action);
        let Some(num_acts) = on_trial else { return acted };
        let acted = acted.and_then(|()| match action.values.iter().all(|value| value.is_finite()) {
            true => Ok(()),
            // A stage that fails, not the fault that is latched: the old models go on.
            false => Err(RuntimeError::Inference {
                model: "policy".to_owned(),
                problem: "an action that is not finite".to_owned(),
            }),
        });
        match &acted {
            Ok(()) if num_acts + 1 >= PROBATION_ACTS => {
                self.before.take().into_iter().for_each(|old| self.shared.retire(ModelPart::Policy(old)));
                self.shared.turn(Trial::Passed);
            }
            Ok(()) => self.shared.turn(Trial::Answering { num_acts: num_acts + 1 }),
            // These features are the new encoder's: this tick is lost, the next one is the old models'.
            Err(error) => self.shared.fail(|| error.to_string()),
        }
        acted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw_pixels::RawPixels;

    /// Answers with its own number; from some act on it fails, or is not finite.
    struct Numbered {
        number: f64,
        num_left: u32,
        end: End,
    }

    #[derive(Clone, Copy)]
    enum End {
        Fails,
        IsNotFinite,
    }

    impl Policy for Numbered {
        fn reset(&mut self) {}

        fn act(&mut self, _: &Features, _: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
            action.values = vec![self.number];
            if self.num_left == 0 {
                action.values = vec![f64::NAN];
                return match self.end {
                    End::Fails => {
                        Err(RuntimeError::Inference { model: "numbered".to_owned(), problem: "spent".to_owned() })
                    }
                    End::IsNotFinite => Ok(()),
                };
            }
            self.num_left -= 1;
            Ok(())
        }
    }

    /// Its side tells which pair it is of.
    pub(super) fn pair(number: f64, num_left: u32, side: usize) -> ModelPair {
        let policy = Numbered { number, num_left, end: End::Fails };
        ModelPair { encoder: Box::new(RawPixels::new(side, side)), policy: Box::new(policy) }
    }

    fn encode(models: &mut ModelPair) {
        models.encoder.encode(&EncoderInput::zeros(4, 4), &mut Features::zeros(0, 0)).unwrap();
    }

    /// What the policy answers, `None` when it fails.
    fn act(models: &mut ModelPair) -> Option<f64> {
        let mut action = Action::default();
        models.policy.act(&Features::zeros(0, 0), &JointState::default(), &mut action).ok()?;
        action.values.first().copied()
    }

    pub(super) fn tick(models: &mut ModelPair) -> Option<f64> {
        encode(models);
        act(models)
    }

    #[test]
    fn new_models_answer_from_the_next_tick_and_are_kept_after_their_probation() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        assert_eq!((tick(&mut models), handle.news()), (Some(1.0), Vec::new()));
        handle.offer(pair(2.0, u32::MAX, 4)).unwrap();
        for _ in 0..=PROBATION_ACTS {
            assert_eq!(tick(&mut models), Some(2.0));
        }
        assert!(matches!(handle.news()[..], [SwapNews::Switched(_), SwapNews::Kept]));
        assert_eq!(tick(&mut models), Some(2.0));
    }

    #[test]
    fn models_that_fail_on_trial_give_way_to_the_old_ones() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        handle.offer(pair(2.0, 3, 4)).unwrap();
        let answers: Vec<Option<f64>> = (0..5).map(|_| tick(&mut models)).collect();
        assert_eq!(answers, [Some(2.0), Some(2.0), Some(2.0), None, Some(1.0)]);
        let news = handle.news();
        assert!(
            matches!(&news[..], [SwapNews::Switched(_), SwapNews::Back { reason, .. }] if reason.contains("spent"))
        );
    }

    #[test]
    fn an_action_that_is_not_finite_or_a_robot_that_is_held_fails_the_trial() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        let policy = Numbered { number: 2.0, num_left: 1, end: End::IsNotFinite };
        handle.offer(ModelPair { policy: Box::new(policy), ..pair(2.0, 0, 4) }).unwrap();
        assert_eq!([(); 4].map(|()| tick(&mut models)), [Some(2.0), None, Some(1.0), Some(1.0)]);
        handle.hear_of_hold(Hold::OverBudget);
        assert_eq!(tick(&mut models), Some(1.0));
        handle.offer(pair(3.0, u32::MAX, 4)).unwrap();
        assert_eq!(tick(&mut models), Some(3.0));
        handle.hear_of_hold(Hold::OverBudget);
        // Features of the new encoder are there until the next encode: nothing acts on them.
        assert_eq!((act(&mut models), tick(&mut models)), (None, Some(1.0)));
        let news = handle.news();
        assert!(matches!(&news[3], SwapNews::Back { reason, .. } if reason.contains("budget")), "{news:?}");
    }

    /// Four cameras one after another, and a policy in every eighth tick: the new policy has its whole trial.
    #[test]
    fn encodes_of_several_cameras_do_not_count_and_no_policy_gets_features_of_another_encoder() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        handle.offer(pair(2.0, 5, 4)).unwrap();
        let mut eight_ticks = || {
            (0..8 * 4).for_each(|_| encode(&mut models));
            act(&mut models)
        };
        assert_eq!([(); 5].map(|()| eight_ticks()), [Some(2.0); 5]);
        // It fails as late as this, and the old pair is still there.
        assert_eq!([eight_ticks(), eight_ticks()], [None, Some(1.0)]);
        assert_eq!(handle.news().len(), 2);
    }

    #[test]
    fn models_that_come_while_others_are_on_trial_leave_the_good_ones_behind() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        handle.offer(pair(2.0, u32::MAX, 4)).unwrap();
        assert_eq!(tick(&mut models), Some(2.0));
        handle.offer(pair(3.0, u32::MAX, 4)).unwrap();
        encode(&mut models);
        // Before the policy acted at all.
        handle.offer(pair(4.0, 1, 4)).unwrap();
        assert_eq!([(); 3].map(|()| tick(&mut models)), [Some(4.0), None, Some(1.0)]);
    }

    #[test]
    fn an_encoder_of_other_images_is_refused() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        assert!(handle.offer(pair(2.0, u32::MAX, 6)).unwrap_err().to_string().contains("wants its images otherwise"));
        assert_eq!(tick(&mut models), Some(1.0));
    }
}
