//! Several cameras in one loop: what goes to the encoder when, what is kept, what is refused, and that a log gives it all again.
#![cfg(feature = "log")]
#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use foresee_firmware_config::{DeviceProfile, parse};
use foresee_runtime::{
    Action, CameraAccount, Clock, CommandRecorder, ControlLoop, Encoder, EncoderInput, Ends, EngineReport, Episode,
    EpisodePhase, Features, Hold, JointState, LogHeader, LogSource, LogWriter, ModelCard, Observation, Policy,
    RawPixels, Recorder, RecorderOptions, RuntimeError, Stamp, run,
};

const CAMERAS: &str = r#"
[[extra_cameras]]
name = "left"
width = 40
height = 30
encoding = "bgr8"
[[extra_cameras]]
name = "right"
width = 24
height = 32
encoding = "rgb8"
"#;
const FIXED: &str = "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n";

fn profile(more: &str) -> DeviceProfile {
    parse("cameras.toml", &format!("inherit = \"desktop-sim\"\n{more}{CAMERAS}")).unwrap()
}

/// Says what it saw: the action is the mean of each third of the class tokens, of which the first two are played.
struct Witness {
    num_encoded: std::sync::Arc<std::sync::Mutex<Vec<f32>>>,
}

impl Policy for Witness {
    fn reset(&mut self) {}

    fn act(&mut self, features: &Features, _: &JointState, action: &mut Action) -> Result<(), RuntimeError> {
        let thirds = features.cls.chunks_exact(features.cls.len() / 3);
        let means: Vec<f32> = thirds.map(|third| third.iter().sum::<f32>() / third.len() as f32).collect();
        action.values.clear();
        action.values.extend(means.iter().take(2).map(|mean| f64::from(*mean)));
        *self.num_encoded.lock().unwrap() = means;
        Ok(())
    }
}

/// Raw pixels, three images at a time.
struct Batch(RawPixels);

impl Encoder for Batch {
    fn card(&self) -> &ModelCard {
        self.0.card()
    }

    fn report(&self) -> &EngineReport {
        self.0.report()
    }

    fn num_images(&self) -> usize {
        3
    }

    fn encode(&mut self, input: &EncoderInput, features: &mut Features) -> Result<(), RuntimeError> {
        let (mut one, mut all) = (Features::zeros(0, 0), Features::zeros(0, 0));
        for image in input.data.chunks_exact(3 * input.height * input.width) {
            self.0.encode(&EncoderInput { data: image.to_vec(), ..*input }, &mut one)?;
            all.tokens.extend(&one.tokens);
            all.cls.extend(&one.cls);
            (all.num_tokens, all.dim) = (all.num_tokens + one.num_tokens, one.dim);
        }
        *features = all;
        Ok(())
    }
}

type Seen = std::sync::Arc<std::sync::Mutex<Vec<f32>>>;

fn control(profile: &DeviceProfile, encoder: Box<dyn Encoder>) -> (ControlLoop, Seen) {
    let seen = Seen::default();
    let policy = Witness { num_encoded: seen.clone() };
    (ControlLoop::new(encoder, Box::new(policy), profile).unwrap(), seen)
}

fn raw() -> Box<dyn Encoder> {
    Box::new(RawPixels::new(8, 8))
}

/// Every camera one grey: of frame `tick`, camera number k is `10 + 40 k + tick`.
fn paint(observation: &mut Observation, tick: u64, stamp: Stamp) {
    let Observation { frame, extra, joints } = observation;
    joints.stamp = stamp;
    for (camera, frame) in std::iter::once(frame).chain(extra).enumerate() {
        (frame.stamp, frame.sequence) = (stamp, tick);
        frame.data.fill(grey(camera, tick));
    }
}

fn grey(camera: usize, tick: u64) -> u8 {
    10 + 40 * camera as u8 + tick as u8
}

/// The ticks whose frames the policy was shown, by camera.
fn shown(seen: &Seen) -> Vec<u64> {
    let card = RawPixels::new(8, 8).card().preprocessing.clone().unwrap();
    let value = |grey: f32| (0..3).map(|c| (grey / 255.0 - card.mean[c]) / card.std[c]).sum::<f32>() / 3.0;
    let means = seen.lock().unwrap().clone();
    let tick = |(camera, mean): (usize, &f32)| {
        let near = |tick: &u64| (value(f32::from(grey(camera, *tick))) - mean).abs() < 1e-4;
        (0..30).find(near).unwrap_or(99)
    };
    means.iter().enumerate().map(tick).collect()
}

fn stamp(tick: u64) -> Stamp {
    Stamp { nanos: 1 + tick * 20_000_000 }
}

#[test]
fn a_batch_shows_every_camera_every_tick_and_turns_one() {
    let every = [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]];
    // In turn: all of them first, then one a tick.
    let turns = [[0, 0, 0], [0, 1, 0], [0, 1, 2], [3, 1, 2]];
    let in_turn = "[rates]\ncameras = \"round_robin\"\n";
    for (more, is_batch, wanted, num_frames) in
        [("", false, every, [4; 3]), ("", true, every, [4; 3]), (in_turn, false, turns, [2, 2, 2])]
    {
        let encoder: Box<dyn Encoder> = if is_batch { Box::new(Batch(RawPixels::new(8, 8))) } else { raw() };
        let profile = profile(more);
        let (mut control, seen) = control(&profile, encoder);
        let mut observation = Observation::of(&profile);
        for (tick, wanted) in (0..).zip(wanted) {
            paint(&mut observation, tick, stamp(tick));
            let report = control.tick(&observation);
            assert_eq!((report.verdict.held, report.failed), (None, None), "{:?}", control.failure());
            assert_eq!(shown(&seen), wanted, "{more}");
        }
        let accounts: Vec<&CameraAccount> = control.cameras().accounts().collect();
        assert_eq!(
            accounts.iter().map(|account| account.name.as_str()).collect::<Vec<_>>(),
            ["fixed", "left", "right"]
        );
        assert_eq!(accounts.iter().map(|account| account.num_frames).collect::<Vec<_>>(), num_frames, "{more}");
        // Another episode: what was seen in the last one is gone.
        control.reset();
        paint(&mut observation, 9, stamp(9));
        control.tick(&observation);
        assert_eq!(shown(&seen), [9; 3]);
    }
}

#[test]
fn an_encoder_of_another_number_of_images_is_refused() {
    let one = foresee_firmware_config::load("desktop-sim").unwrap();
    let policy = Witness { num_encoded: Seen::default() };
    let refused = ControlLoop::new(Box::new(Batch(RawPixels::new(8, 8))), Box::new(policy), &one).err().unwrap();
    assert!(refused.to_string().contains("3 images at a time"), "{refused}");
}

#[test]
fn in_lockstep_every_camera_shows_the_same_moment() {
    let profile = profile("");
    let (mut control, _) = control(&profile, raw());
    let mut observation = Observation::of(&profile);
    paint(&mut observation, 0, stamp(0));
    observation.extra[1].stamp = stamp(1);
    assert_eq!(control.tick(&observation).verdict.held, Some(Hold::StageFailed));
    let told = control.failure().unwrap().to_string();
    assert!(told.contains("`right`") && told.contains("lockstep"), "{told}");
    observation.extra.pop();
    control.tick(&observation);
    assert!(control.failure().unwrap().to_string().contains("no frame of camera `right`"));
}

#[test]
fn a_slow_camera_is_encoded_once_and_one_that_is_gone_holds_the_joints() {
    let profile = profile(FIXED);
    let (control, seen) = control(&profile, raw());
    let clock = Clock::driven();
    let mut control = control.with_clock(clock.clone());
    let mut observation = Observation::of(&profile);
    for tick in 1..12 {
        let (left, right) = (observation.extra[0].clone(), observation.extra[1].clone());
        paint(&mut observation, tick, stamp(tick));
        // The left one has half the rate; the right one stands from the fourth frame on.
        if tick % 2 == 0 {
            observation.extra[0] = left;
        }
        if tick > 4 {
            observation.extra[1] = right;
        }
        clock.advance(stamp(tick));
        let held = control.tick(&observation).verdict.held;
        let is_gone = tick > 9;
        assert_eq!(held, is_gone.then_some(Hold::StaleFrame), "tick {tick}: {:?}", control.failure());
        if is_gone {
            let told = control.failure().unwrap().to_string();
            assert!(told.contains("`right`") && told.contains("new enough"), "{told}");
        } else {
            assert_eq!(shown(&seen), [tick, tick - u64::from(tick % 2 == 0), tick.min(4)]);
        }
    }
    let counts = |account: &CameraAccount| (account.num_frames, account.num_passed_over, account.num_refused);
    let accounts: Vec<_> = control.cameras().accounts().map(counts).collect();
    assert_eq!(accounts, [(9, 0, 0), (5, 4, 0), (4, 0, 2)]);
}

#[test]
fn a_camera_over_its_budget_is_counted_and_holds_the_joints_when_it_stays_so() {
    let budget =
        "[[extra_cameras]]\nname = \"slow\"\nwidth = 640\nheight = 480\nencoding = \"rgb8\"\nbudget_millis = 0.001\n";
    let text = format!("inherit = \"desktop-sim\"\n{FIXED}{budget}");
    let profile = parse("cameras.toml", &text).unwrap();
    let policy = Witness { num_encoded: Seen::default() };
    let mut control = ControlLoop::new(raw(), Box::new(policy), &profile).unwrap();
    let mut observation = Observation::of(&profile);
    let mut held = Vec::new();
    for tick in 1..6 {
        paint(&mut observation, tick, Clock::Wall.now());
        held.push(control.tick(&observation).verdict.held);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(held, [None, None, Some(Hold::OverBudget), Some(Hold::OverBudget), Some(Hold::OverBudget)]);
    let account = control.cameras().accounts().nth(1).unwrap();
    assert_eq!((account.num_over_budget, account.age.len(), account.spent.len()), (5, 5, 5));
    // Where ticks are measured before the loop starts, it does not.
    let whole = "[budget]\ntotal_millis = 1000.0\nself_test_ticks = 5\n";
    let profile = parse("cameras.toml", &format!("inherit = \"desktop-sim\"\n{FIXED}{whole}{budget}")).unwrap();
    let mut control = ControlLoop::new(raw(), Box::new(Witness { num_encoded: Seen::default() }), &profile).unwrap();
    let error = control.prove_budget(profile.budget.as_ref()).unwrap_err().to_string();
    assert!(error.contains("camera `slow` took") && error.contains("0.001 ms"), "{error}");
    assert_eq!(control.cameras().accounts().nth(1).unwrap().spent.len(), 0);
}

fn record(path: &Path, profile: &DeviceProfile) -> Vec<Vec<f64>> {
    let header = LogHeader { cameras: vec!["left".to_owned(), "right".to_owned()], ..LogHeader::default() };
    let recorder = Recorder::start(LogWriter::create(path, &header).unwrap(), profile, RecorderOptions::default());
    let mut recorder = recorder.unwrap();
    let tap = recorder.take_command_tap().unwrap();
    let (mut control, _) = control(profile, raw());
    let mut observation = Observation::of(profile);
    let mut commands = Vec::new();
    recorder.episode(stamp(0), EpisodePhase::Started, &Episode::default());
    for tick in 0..40 {
        paint(&mut observation, tick, stamp(tick));
        control.tick(&observation);
        tap.record(control.command());
        recorder.observe(&observation);
        commands.push(control.command().values().to_vec());
    }
    assert_eq!(recorder.finish().unwrap().num_dropped, 0);
    commands
}

#[test]
fn a_log_of_several_cameras_gives_the_same_commands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    for more in ["", "[rates]\ncameras = \"round_robin\"\n"] {
        let profile = profile(more);
        let commands = record(&path, &profile);
        let mut source = LogSource::open(&path, &profile).unwrap();
        let mut actuator = CommandRecorder::default();
        let (mut control, _) = control(&profile, raw());
        let ends = Ends { source: &mut source, actuator: &mut actuator };
        run(ends, &mut control, &AtomicBool::new(false), &mut |_| Ok(())).unwrap();
        let replayed: Vec<Vec<f64>> = actuator.commands.into_iter().map(|command| command.values).collect();
        assert_eq!(replayed, commands, "{more}");
    }
}
