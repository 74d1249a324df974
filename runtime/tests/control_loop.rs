//! The loop over real parts: a log as the source, the raw pixels as the encoder, a small policy written here.
#![cfg(feature = "log")]
#![expect(clippy::unwrap_used, reason = "these helpers run in tests alone")]

mod reflex;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{
    Action, Actuator, Clock, CommandRecorder, CommandTopic, ControlLoop, Encoder, Ends, Episode, EpisodePhase, Frame,
    Hold, LogHeader, LogSource, LogWriter, LoopEvent, Observation, RawPixels, RecordedCommand, Recorder,
    RecorderOptions, RunEnd, RuntimeError, SafeCommand, Stage, Watchdog, Watched,
};

use self::reflex::{Reflex, observe, profile, spoil};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static NUM_ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator can be written no other way; it adds nothing to the system's")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        NUM_ALLOCATIONS.set(NUM_ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        NUM_ALLOCATIONS.set(NUM_ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn control_loop(misbehave: fn(u64, &mut Action) -> Result<(), RuntimeError>) -> ControlLoop {
    let policy = Reflex { num_acts: 0, misbehave };
    ControlLoop::new(Box::new(RawPixels::new(16, 16)), Box::new(policy), &profile()).unwrap()
}

#[test]
fn a_tick_allocates_nothing_even_when_it_is_recorded() {
    let cameras = "[[extra_cameras]]\nname = \"side\"\nwidth = 64\nheight = 48\nencoding = \"rgb8\"\n";
    let several = |more: &str| {
        let text = format!("inherit = \"desktop-sim\"\n{more}{cameras}");
        foresee_firmware_config::parse("several.toml", &text).unwrap()
    };
    for profile in [profile(), several(""), several("[rates]\ncameras = \"round_robin\"\n")] {
        ticks_allocate_nothing(&profile, Box::new(RawPixels::new(16, 16)));
    }
    for encoding in ["bgr8", "yuyv", "nv12"] {
        let text = format!(
            "inherit = \"desktop-sim\"\n[camera]\nname = \"c\"\nwidth = 128\nheight = 128\nencoding = \"{encoding}\"\n"
        );
        let profile = foresee_firmware_config::parse("camera.toml", &text).unwrap();
        ticks_allocate_nothing(&profile, Box::new(RawPixels::new(16, 16)));
    }
}

/// ONNX Runtime keeps its memory from frame to frame, and what goes in and out of it lies in buffers that were bound once.
#[cfg(feature = "ort")]
#[test]
fn a_tick_with_onnx_runtime_allocates_nothing_either() {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo/mae-64.onnx");
    let native = std::env::var("FORESEE_NATIVE").expect("source launch/env.sh, or run ./launch/test");
    let library = Some(Path::new(&native).join("onnxruntime/lib/libonnxruntime.so"));
    let options = foresee_runtime::EngineOptions {
        library,
        ..foresee_runtime::EngineOptions::exactly(foresee_firmware_config::Provider::Cpu)
    };
    ticks_allocate_nothing(&profile(), foresee_runtime::open_encoder(&model, &options).unwrap());
}

fn ticks_allocate_nothing(profile: &DeviceProfile, encoder: Box<dyn Encoder>) {
    let folder = tempfile::tempdir().unwrap();
    let cameras = profile.extra_cameras.iter().map(|extra| extra.camera.name.clone()).collect();
    let header = LogHeader { cameras, ..LogHeader::default() };
    let writer = LogWriter::create(&folder.path().join("log.mcap"), &header).unwrap();
    let mut recorder = Recorder::start(writer, profile, RecorderOptions::default()).unwrap();
    let commands = recorder.take_command_tap().unwrap();
    let policy = Reflex { num_acts: 0, misbehave: |_, _| Ok(()) };
    let mut control = ControlLoop::new(encoder, Box::new(policy), profile).unwrap();
    let mut observation = Observation::of(profile);
    let episode = Episode { task: "dmc/reacher-easy".to_owned(), ..Episode::default() };
    let mut before = 0;
    for tick in 0..500 {
        if tick == 3 {
            before = NUM_ALLOCATIONS.get();
        }
        observe(&mut observation, tick);
        if tick % 50 == 0 {
            control.reset();
            recorder.episode(observation.frame.stamp, EpisodePhase::Started, &episode);
        }
        assert_eq!(control.tick(&observation).verdict.held, None);
        commands.record(control.command());
        recorder.observe(&observation);
    }
    assert_eq!(NUM_ALLOCATIONS.get() - before, 0);
    let summary = recorder.finish().unwrap();
    // Commands and events that found no room count as well.
    assert!(summary.num_written <= 500 && summary.num_written + summary.num_dropped >= 500, "{summary:?}");
}

/// A JPEG file is as long as its picture is rich; decoding one takes memory, and recording it must not.
#[test]
fn recording_jpeg_files_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    let camera = "[camera]\nname = \"c\"\nwidth = 320\nheight = 240\nencoding = \"jpeg\"\n";
    let profile = foresee_firmware_config::parse("jpeg.toml", &format!("inherit = \"desktop-sim\"\n{camera}")).unwrap();
    let writer = LogWriter::create(&path, &LogHeader::default()).unwrap();
    let recorder = Recorder::start(writer, &profile, RecorderOptions::default()).unwrap();
    let mut observation = Observation::of(&profile);
    observation.frame.fill_with_noise(1);
    let length = observation.frame.data.len();
    let before = NUM_ALLOCATIONS.get();
    for sequence in 0..50 {
        observation.frame.sequence = sequence;
        observation.frame.data.truncate(length - sequence as usize);
        recorder.observe(&observation);
    }
    assert_eq!(NUM_ALLOCATIONS.get() - before, 0);
    // More than a camera of that size gives: counted, and not worth a wait for memory.
    observation.frame.data = vec![0; 320 * 240 + 1];
    let before = NUM_ALLOCATIONS.get();
    recorder.observe(&observation);
    assert_eq!(NUM_ALLOCATIONS.get() - before, 0);
    let summary = recorder.finish().unwrap();
    assert_eq!((summary.num_written, summary.num_dropped), (50, 1));
}

/// Takes commands and keeps none.
struct Sink;

impl Actuator for Sink {
    fn send(&mut self, _sequence: u64, _command: &SafeCommand) -> Result<(), RuntimeError> {
        Ok(())
    }
}

/// Positions with every limit, a workspace, a budget, a lens to undo, chunks of two actions, and the watchdog between.
#[test]
fn at_a_fixed_pace_a_tick_allocates_nothing_either() {
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"position_radians\"\nminimum = -2.0\nmaximum = 2.0\nmax_rate_per_second = 2.0\n\
             max_acceleration_per_second_squared = 20.0\nmax_jerk_per_second_cubed = 400.0\naxis = [0.0, 0.0, 1.0]\norigin_metres = [0.3, 0.0, 0.1]\n"
        )
    };
    let text = format!(
        "inherit = \"desktop-sim\"\n[pace]\nkind = \"fixed\"\nrate_hertz = 500.0\nmax_frame_age_millis = 10000\n\
         [rates]\nencode_every_ticks = 3\npolicy_every_ticks = 2\nchunk_expiry_millis = 10000.0\nchunk_step_millis = 10000.0\n\
         [budget]\ntotal_millis = 1000.0\nself_test_ticks = 3\n\
         [intrinsics]\nwidth = 128\nheight = 128\nfx_pixels = 90.0\nfy_pixels = 90.0\ncx_pixels = 64.0\ncy_pixels = 64.0\n\
         distortion = [-0.2, 0.05, 0.0, 0.0, 0.0]\nundistort = true\n\
         [safety.workspace]\nminimum_metres = [-1.0, -1.0, 0.0]\nmaximum_metres = [1.0, 1.0, 1.0]\ntool_metres = [0.2, 0.0, 0.0]\n{}{}",
        joint("shoulder"),
        joint("wrist")
    );
    let profile = foresee_firmware_config::parse("mine", &text).unwrap();
    let policy = Reflex {
        num_acts: 0,
        misbehave: |_, action| {
            action.values.extend_from_within(..);
            Ok(())
        },
    };
    let mut control = ControlLoop::new(Box::new(RawPixels::new(16, 16)), Box::new(policy), &profile).unwrap();
    assert!(control.prove_budget(profile.budget.as_ref()).unwrap().is_some());
    let watched =
        Watched { actuator: Box::new(Sink), filter: control.filter(), clock: Clock::Wall, stop: Arc::default() };
    let (watchdog, mut actuator) = Watchdog::start(watched, &profile).unwrap();
    let mut observation = Observation::blank(128, 128, 2);
    let mut before = 0;
    for tick in 0..200 {
        if tick == 10 {
            before = NUM_ALLOCATIONS.get();
        }
        observe(&mut observation, tick);
        observation.frame.stamp = Clock::Wall.now();
        observation.joints.stamp = observation.frame.stamp;
        let report = control.tick(&observation);
        assert_eq!(report.verdict.held, None, "tick {tick}");
        actuator.send(tick, control.command()).unwrap();
    }
    assert_eq!(NUM_ALLOCATIONS.get() - before, 0);
    assert_eq!(control.chunks().num_taken, 100);
    assert_eq!(watchdog.finish().unwrap().num_trips, 0);
}

/// Writes a log of 60 ticks in episodes of 20, with what a loop commanded.
fn write_log(path: &Path) {
    let names: Vec<String> = profile().joints.into_iter().map(|joint| joint.name).collect();
    let header = LogHeader { robot: "reacher".to_owned(), joints: names.clone(), ..LogHeader::default() };
    let mut log = LogWriter::create(path, &header).unwrap();
    let mut control = control_loop(|_, _| Ok(()));
    let mut observation = Observation::blank(128, 128, 2);
    for tick in 0..60 {
        observe(&mut observation, tick);
        let stamp = observation.frame.stamp;
        let episode = Episode { index: (tick / 20) as u32, ..Episode::default() };
        if tick % 20 == 0 {
            control.reset();
            log.write_episode(stamp, EpisodePhase::Started, &episode).unwrap();
        }
        log.write_frame(&observation.frame).unwrap();
        log.write_joints(&names, &observation.joints).unwrap();
        control.tick(&observation);
        let values = control.command().values();
        log.write_command(CommandTopic::JointCommand, &names, (stamp, values)).unwrap();
        if tick % 20 == 19 {
            log.write_episode(stamp, EpisodePhase::Ended, &episode).unwrap();
        }
    }
    log.finish().unwrap();
}

#[test]
fn a_replayed_log_gives_the_same_commands_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    write_log(&path);
    let mut source = LogSource::open(&path, &profile()).unwrap();
    let mut actuator = CommandRecorder::default();
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    let (mut num_ticks, mut num_begun, mut num_ended) = (0, 0, 0);
    let mut listener = |event: LoopEvent<'_>| {
        match event {
            LoopEvent::Ticked { observation, command, report, failure, num_dropped, .. } => {
                assert_eq!((observation.frame.stamp, report.verdict), (command.stamp(), command.verdict()));
                assert!(failure.is_none() && num_dropped == 0 && report.total_nanos() > 0);
                num_ticks += 1;
            }
            LoopEvent::EpisodeStarted(_) => num_begun += 1,
            LoopEvent::EpisodeEnded(_) => num_ended += 1,
            LoopEvent::Waiting { .. } => panic!("a log never waits"),
        }
        Ok(())
    };
    let mut control = control_loop(|_, _| Ok(()));
    let end = foresee_runtime::run(ends, &mut control, &AtomicBool::new(false), &mut listener).unwrap();
    assert_eq!((end, num_ticks, num_begun, num_ended), (RunEnd::Finished, 60, 3, 3));
    let bits = |command: &RecordedCommand| {
        (command.stamp, command.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
    };
    let (recorded, replayed) = (source.recorded(), &actuator.commands);
    assert_eq!(recorded.len(), 60);
    assert!(recorded.iter().zip(replayed).all(|(recorded, replayed)| bits(recorded) == bits(replayed)));
}

/// A robot at a fixed pace measures its joints a little before or behind its frames, and some frames twice at one measurement.
#[test]
fn a_log_of_a_robot_gives_each_frame_the_joints_that_the_loop_saw_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.mcap");
    let pace = "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n";
    let profile = foresee_firmware_config::parse("robot.toml", &format!("inherit = \"desktop-sim\"\n{pace}")).unwrap();
    let make = |clock: &Clock| {
        let policy = Box::new(Reflex { num_acts: 0, misbehave: |_, _| Ok(()) });
        ControlLoop::new(Box::new(RawPixels::new(16, 16)), policy, &profile).unwrap().with_clock(clock.clone())
    };
    let header =
        LogHeader { joints: profile.joints.iter().map(|joint| joint.name.clone()).collect(), ..LogHeader::default() };
    let writer = LogWriter::create(&path, &header).unwrap();
    let options = RecorderOptions { num_slots: 100, ..RecorderOptions::default() };
    let mut recorder = Recorder::start(writer, &profile, options).unwrap();
    let tap = recorder.take_command_tap().unwrap();
    let clock = Clock::driven();
    let mut control = make(&clock);
    let mut observation = Observation::of(&profile);
    let mut seen = Vec::new();
    for tick in 1..60 {
        observe(&mut observation, tick);
        let nanos = observation.frame.stamp.nanos;
        // In turn before the frame, behind it, at it, and at the stamp of the next one.
        let shift = [nanos - 7_000_000, nanos + 3_000_000, nanos, nanos + 20_000_000];
        observation.joints.stamp.nanos = shift[tick as usize % 4];
        clock.advance(observation.frame.stamp);
        assert_eq!(control.tick(&observation).verdict.held, None, "tick {tick}");
        tap.record(control.command());
        recorder.observe(&observation);
        seen.push((observation.frame.sequence, observation.joints.clone()));
    }
    assert_eq!(recorder.finish().unwrap().num_dropped, 0);

    let mut source = LogSource::open(&path, &profile).unwrap();
    let mut control = make(&source.clock());
    let mut actuator = CommandRecorder::default();
    let ends = Ends { source: &mut source, actuator: &mut actuator };
    let mut replayed = Vec::new();
    let mut listener = |event: LoopEvent<'_>| {
        if let LoopEvent::Ticked { observation, .. } = event {
            replayed.push((observation.frame.sequence, observation.joints.clone()));
        }
        Ok(())
    };
    foresee_runtime::run(ends, &mut control, &AtomicBool::new(false), &mut listener).unwrap();
    assert_eq!(replayed, seen);
    // The stop at the end answers no frame.
    assert_eq!(source.recorded(), actuator.commands.split_last().unwrap().1);
}

/// Runs a policy that misbehaves in tick 5 and expects the safe action there (for what is not finite: from there on), and nothing
/// unsafe anywhere.
fn check(misbehave: fn(u64, &mut Action) -> Result<(), RuntimeError>, expected: Option<Hold>) {
    let mut control = control_loop(misbehave);
    let mut observation = Observation::blank(128, 128, 2);
    for tick in 0..10 {
        observe(&mut observation, tick);
        let report = control.tick(&observation);
        let command = control.command();
        let is_held = tick == 5 || (tick > 5 && expected == Some(Hold::NotFinite));
        assert_eq!(command.verdict().held, expected.filter(|_| is_held), "tick {tick}");
        assert!(command.values().iter().all(|value| value.abs() <= 1.0), "{command:?}");
        if command.verdict().held.is_some() {
            assert_eq!(command.values(), [0.0, 0.0], "no torque");
        }
        let is_failure = tick == 5 && expected == Some(Hold::StageFailed);
        assert_eq!(report.failed, is_failure.then_some(Stage::Policy));
        assert_eq!(control.failure().is_some(), is_failure);
    }
}

#[test]
fn whatever_a_policy_does_the_command_is_safe() {
    check(|tick, action| spoil(tick, || action.values[0] = f64::NAN), Some(Hold::NotFinite));
    check(|tick, action| spoil(tick, || action.values[1] = f64::NEG_INFINITY), Some(Hold::NotFinite));
    check(|tick, action| spoil(tick, || action.values.clear()), Some(Hold::WrongLength));
    check(|tick, action| spoil(tick, || action.values[0] = 1e300), None);
    check(
        |tick, _| match tick {
            5 => Err(RuntimeError::Inference { model: "reflex".to_owned(), problem: "on purpose".to_owned() }),
            _ => Ok(()),
        },
        Some(Hold::StageFailed),
    );
}

#[test]
fn a_wrong_frame_is_held_and_said() {
    let mut control = control_loop(|_, _| Ok(()));
    let mut observation = Observation::blank(128, 128, 2);
    let wrong: [fn(&mut Frame); 3] = [
        |frame| frame.data.truncate(7),
        |frame| *frame = Frame::black(64, 64, frame.encoding),
        |frame| frame.encoding = foresee_firmware_config::PixelEncoding::Bgr8,
    ];
    for spoil in wrong {
        observation.frame = Observation::blank(128, 128, 2).frame;
        assert_eq!(control.tick(&observation).verdict.held, None);
        spoil(&mut observation.frame);
        let report = control.tick(&observation);
        assert_eq!((report.verdict.held, report.failed), (Some(Hold::StageFailed), Some(Stage::Preprocess)));
        let error = control.failure().unwrap();
        assert!(error.to_string().starts_with("frame: "), "{error}");
    }
}

#[test]
fn in_lockstep_a_chunk_is_as_new_as_its_frame() {
    let two_rows = |_, action: &mut Action| {
        action.values.extend_from_within(..);
        Ok(())
    };
    let mut control = control_loop(two_rows);
    let mut observation = Observation::blank(128, 128, 2);
    for tick in 0..10 {
        observe(&mut observation, tick);
        assert_eq!(control.tick(&observation).verdict.held, None, "tick {tick}");
    }
    assert_eq!((control.chunks().num_taken, control.chunks().num_late), (10, 0));
}
