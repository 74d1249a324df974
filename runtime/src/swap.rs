//! Models swapped while the loop runs: loaded and proved beside the old ones on a thread of their own, switched between two ticks,
//! back on failure.
//!
//! The loop keeps calling one encoder and one policy; what these do is exchanged behind it. An encode is the first thing that a tick
//! does with a model, so that the switch is made there for both.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use crate::card::{ModelCard, PreprocessingCard};
use crate::command::Action;
use crate::encoder::{Encoder, EncoderInput, EngineReport, Features};
use crate::error::RuntimeError;
use crate::joints::JointState;
use crate::policy::Policy;

/// Ticks that new models must answer before the old ones are let go.
const PROBATION_TICKS: u32 = 30;
/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// An encoder and a policy for its features, both proved.
pub struct ModelPair {
    /// Pixels to features.
    pub encoder: Box<dyn Encoder>,
    /// Features to actions.
    pub policy: Box<dyn Policy>,
}

/// What became of the newest models that were offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapNews {
    /// They answer since a moment ago; hex sha256 of the encoder.
    Switched(String),
    /// They answered [`PROBATION_TICKS`] ticks; the old ones are gone.
    Kept,
    /// They failed, and the old ones answer again.
    Back(String),
    /// They were never used: they could not be opened, or do not fit.
    Refused(String),
}

/// Where new models are offered. The loop takes them before its next encode.
#[derive(Clone)]
pub struct SwapHandle {
    shared: Arc<Shared>,
    preprocessing: Option<PreprocessingCard>,
    num_images: usize,
}

struct Shared {
    offered: Mutex<Option<ModelPair>>,
    /// From the encoder's side to the policy's; both run on the loop's thread, so that it never waits.
    order: Mutex<Option<Order>>,
    has_policy_failed: AtomicBool,
    news: Mutex<Option<SwapNews>>,
    /// Models that the loop let go; whoever offers drops them, since that takes long.
    retired: Mutex<Vec<ModelPart>>,
}

enum Order {
    Switch(Box<dyn Policy>),
    Back,
    Keep,
}

enum ModelPart {
    #[expect(dead_code, reason = "held until it is dropped elsewhere")]
    Encoder(Box<dyn Encoder>),
    #[expect(dead_code, reason = "held until it is dropped elsewhere")]
    Policy(Box<dyn Policy>),
}

/// Makes models that can be exchanged later, and the handle for that.
pub fn swappable(pair: ModelPair) -> (ModelPair, SwapHandle) {
    let shared = Arc::new(Shared {
        offered: Mutex::new(None),
        order: Mutex::new(None),
        has_policy_failed: AtomicBool::new(false),
        news: Mutex::new(None),
        retired: Mutex::new(Vec::with_capacity(8)),
    });
    let (preprocessing, num_images) = (pair.encoder.card().preprocessing.clone(), pair.encoder.num_images());
    let encoder = SwappableEncoder { now: pair.encoder, before: None, num_good: 0, shared: Arc::clone(&shared) };
    let policy = SwappablePolicy { now: pair.policy, before: None, shared: Arc::clone(&shared) };
    (
        ModelPair { encoder: Box::new(encoder), policy: Box::new(policy) },
        SwapHandle { shared, preprocessing, num_images },
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
        *lock(&self.shared.offered) = Some(pair);
        Ok(())
    }

    /// What happened since it was asked last; drops models that the loop let go.
    pub fn news(&self) -> Option<SwapNews> {
        lock(&self.shared.retired).clear();
        lock(&self.shared.news).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The loop never waits for whoever listens: news that cannot be left are left with the next.
    fn tell(&self, news: SwapNews) {
        if let Ok(mut slot) = self.news.try_lock() {
            *slot = Some(news);
        }
    }

    fn retire(&self, part: ModelPart) {
        match self.retired.try_lock() {
            Ok(mut retired) => retired.push(part),
            Err(_) => drop(part),
        }
    }
}

struct SwappableEncoder {
    now: Box<dyn Encoder>,
    /// Until the new one is kept.
    before: Option<Box<dyn Encoder>>,
    num_good: u32,
    shared: Arc<Shared>,
}

impl SwappableEncoder {
    fn take_offer(&mut self) {
        let offered = self.shared.offered.try_lock().ok().and_then(|mut offered| offered.take());
        let Some(ModelPair { encoder, policy }) = offered else { return };
        let old = std::mem::replace(&mut self.now, encoder);
        // Models that are still on trial go when others come; what is known to be good stays behind.
        if self.before.is_some() {
            self.shared.retire(ModelPart::Encoder(old));
        } else {
            self.before = Some(old);
        }
        self.num_good = 0;
        self.shared.has_policy_failed.store(false, Ordering::Relaxed);
        *lock(&self.shared.order) = Some(Order::Switch(policy));
        self.shared.tell(SwapNews::Switched(self.now.card().sha256.clone()));
    }

    fn go_back(&mut self, reason: String) {
        let Some(before) = self.before.take() else { return };
        let failed = std::mem::replace(&mut self.now, before);
        self.shared.retire(ModelPart::Encoder(failed));
        *lock(&self.shared.order) = Some(Order::Back);
        self.shared.tell(SwapNews::Back(reason));
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
        self.take_offer();
        if self.shared.has_policy_failed.swap(false, Ordering::Relaxed) {
            self.go_back("the new policy failed".to_owned());
        }
        match self.now.encode(input, features) {
            Ok(()) => {
                if self.before.is_some() {
                    self.num_good += 1;
                    if self.num_good > PROBATION_TICKS {
                        self.before.take().into_iter().for_each(|old| self.shared.retire(ModelPart::Encoder(old)));
                        *lock(&self.shared.order) = Some(Order::Keep);
                        self.shared.tell(SwapNews::Kept);
                    }
                }
                Ok(())
            }
            Err(error) if self.before.is_some() => {
                self.go_back(error.to_string());
                self.now.encode(input, features)
            }
            Err(error) => Err(error),
        }
    }
}

struct SwappablePolicy {
    now: Box<dyn Policy>,
    before: Option<Box<dyn Policy>>,
    shared: Arc<Shared>,
}

impl SwappablePolicy {
    fn obey(&mut self) {
        let order = lock(&self.shared.order).take();
        match order {
            Some(Order::Switch(policy)) => {
                let old = std::mem::replace(&mut self.now, policy);
                if self.before.is_some() {
                    self.shared.retire(ModelPart::Policy(old));
                } else {
                    self.before = Some(old);
                }
            }
            Some(Order::Back) => {
                if let Some(before) = self.before.take() {
                    let failed = std::mem::replace(&mut self.now, before);
                    self.shared.retire(ModelPart::Policy(failed));
                }
            }
            Some(Order::Keep) => {
                self.before.take().into_iter().for_each(|old| self.shared.retire(ModelPart::Policy(old)));
            }
            None => {}
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
        self.obey();
        let acted = self.now.act(features, joints, action);
        if acted.is_err() && self.before.is_some() {
            // These features are the new encoder's: this tick is lost, the next one is the old models'.
            self.shared.has_policy_failed.store(true, Ordering::Relaxed);
        }
        acted
    }
}

/// Watches model files on a thread of its own: when one or its card changed and has settled, `open` loads and proves both, and they
/// are offered to the loop. What happens is told in order; the thread ends with `stop`.
///
/// # Errors
/// [`RuntimeError::End`] when the thread cannot be started.
pub fn watch_models(
    handle: SwapHandle,
    files: Vec<PathBuf>,
    (mut open, mut tell): (
        impl FnMut() -> Result<ModelPair, RuntimeError> + Send + 'static,
        impl FnMut(SwapNews) + Send + 'static,
    ),
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<()>, RuntimeError> {
    let mut served = fingerprint(&files);
    let mut seen = served.clone();
    let watch = move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            handle.news().into_iter().for_each(&mut tell);
            let now = fingerprint(&files);
            // A file that is being written looks different each time.
            let is_settled = now == seen;
            seen.clone_from(&now);
            if now == served || !is_settled {
                continue;
            }
            served = now;
            if let Err(error) = open().and_then(|pair| handle.offer(pair)) {
                tell(SwapNews::Refused(error.to_string()));
            }
        }
    };
    let thread = std::thread::Builder::new().name("models".to_owned()).spawn(watch);
    thread.map_err(|error| RuntimeError::End { name: "thread `models`".to_owned(), problem: error.to_string() })
}

/// Time and size of each file and its card; `None` where it is gone.
fn fingerprint(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let look = |path: &Path| std::fs::metadata(path).ok().and_then(|file| Some((file.modified().ok()?, file.len())));
    files.iter().flat_map(|file| [look(file), look(&ModelCard::path_of(file))]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw_pixels::RawPixels;

    /// Answers with its own number; from some tick on it fails.
    struct Numbered {
        number: f64,
        num_left: u32,
    }

    impl Policy for Numbered {
        fn reset(&mut self) {}

        fn act(&mut self, _: &Features, _: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
            if self.num_left == 0 {
                return Err(RuntimeError::Inference { model: "numbered".to_owned(), problem: "spent".to_owned() });
            }
            self.num_left -= 1;
            action.values = vec![self.number];
            Ok(())
        }
    }

    fn pair(number: f64, num_left: u32, side: usize) -> ModelPair {
        ModelPair { encoder: Box::new(RawPixels::new(side, side)), policy: Box::new(Numbered { number, num_left }) }
    }

    /// What the policy answers, `None` when it fails.
    fn tick(models: &mut ModelPair) -> Option<f64> {
        let (mut features, mut action) = (Features::zeros(0, 0), Action::default());
        models.encoder.encode(&EncoderInput::zeros(4, 4), &mut features).unwrap();
        models.policy.act(&features, &JointState::default(), &mut action).ok()?;
        action.values.first().copied()
    }

    #[test]
    fn new_models_answer_from_the_next_tick_and_are_kept_after_their_probation() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        assert_eq!((tick(&mut models), handle.news()), (Some(1.0), None));
        handle.offer(pair(2.0, u32::MAX, 4)).unwrap();
        assert_eq!(tick(&mut models), Some(2.0));
        assert!(matches!(handle.news(), Some(SwapNews::Switched(_))));
        for _ in 0..=PROBATION_TICKS {
            assert_eq!(tick(&mut models), Some(2.0));
        }
        assert_eq!(handle.news(), Some(SwapNews::Kept));
    }

    #[test]
    fn models_that_fail_on_trial_give_way_to_the_old_ones() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        handle.offer(pair(2.0, 3, 4)).unwrap();
        let answers: Vec<Option<f64>> = (0..5).map(|_| tick(&mut models)).collect();
        assert_eq!(answers, [Some(2.0), Some(2.0), Some(2.0), None, Some(1.0)]);
        assert_eq!(handle.news(), Some(SwapNews::Back("the new policy failed".to_owned())));
    }

    #[test]
    fn an_encoder_of_other_images_is_refused() {
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        assert!(handle.offer(pair(2.0, u32::MAX, 6)).unwrap_err().to_string().contains("wants its images otherwise"));
        assert_eq!(tick(&mut models), Some(1.0));
    }

    #[test]
    fn a_changed_file_is_taken_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("policy.onnx");
        std::fs::write(&file, b"old").unwrap();
        let (mut models, handle) = swappable(pair(1.0, u32::MAX, 4));
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, news) = std::sync::mpsc::channel();
        let tell = move |news| sender.send(news).unwrap();
        let mut count = 0;
        let open = move || {
            count += 1;
            if count == 1 {
                return Err(RuntimeError::Frame("not this one".to_owned()));
            }
            Ok(pair(2.0, u32::MAX, 4))
        };
        let thread = watch_models(handle, vec![file.clone()], (open, tell), Arc::clone(&stop)).unwrap();
        std::fs::write(&file, b"spoilt").unwrap();
        let first = news.recv_timeout(Duration::from_secs(30)).unwrap();
        assert!(matches!(first, SwapNews::Refused(problem) if problem.contains("not this one")));
        assert_eq!(tick(&mut models), Some(1.0));
        std::fs::write(&file, b"new and good").unwrap();
        let mut answer = None;
        for _ in 0..300 {
            answer = tick(&mut models);
            if answer == Some(2.0) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(answer, Some(2.0));
        assert!(matches!(news.recv_timeout(Duration::from_secs(30)), Ok(SwapNews::Switched(_))));
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }
}
