//! Experts, recordings, cloning and evaluation on the real simulator.

#![expect(clippy::expect_used, reason = "these helpers run in tests alone")]

#[cfg(feature = "train")]
mod cloning;
#[cfg(feature = "train")]
mod demonstrations;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use foresee_policies::{
    Behaviour, Disturbance, EXPERTS, EpisodeResult, Keep, PoliciesError, Progress, RecordOptions, RecordReport,
    SmoothRandom, StateActor, Summary, UniformRandom, Watch, evaluate_state, expert_for, logs_in, record,
};
use foresee_runtime::{CommandTopic, EpisodePhase, LogEntry, LogReader};
use foresee_sim::{CameraOptions, Environment, EpisodePlan, Quality};

fn native() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/native")
}

fn environment(task: &str) -> Environment {
    let mut environment = Environment::new(task, &native()).expect("assets: run ./launch/setup");
    environment.reset(0).expect("reset");
    environment
}

fn play(task: &str, actor: &mut dyn StateActor, first_seed: u64, num_episodes: u32) -> Vec<EpisodeResult> {
    let plan = EpisodePlan { first_seed, num_episodes };
    let mut watch = Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) };
    evaluate_state(&mut environment(task), actor, plan, &mut watch).expect("played")
}

#[test]
fn every_expert_solves_its_task_and_random_motion_does_not() {
    for entry in EXPERTS {
        let mut expert = (entry.make)(&environment(entry.task)).expect("an expert");
        let summary = Summary::of(&play(entry.task, expert.as_mut(), 1000, 10));
        assert!(summary.mean_return > 950.0 && summary.success_rate == 1.0, "{}: {summary:?}", entry.task);
        let summary = Summary::of(&play(entry.task, &mut UniformRandom::new(), 1000, 10));
        assert!(summary.mean_return < 300.0, "{}: {summary:?}", entry.task);
    }
}

#[test]
fn the_experts_that_tasks_bring_act_within_range_and_solve_them_also_when_the_goal_is_hidden() {
    for task in ["metaworld/reach", "metaworld/drawer-open-goal-hidden", "metaworld/push-goal-hidden"] {
        let mut environment = environment(task);
        let mut expert = expert_for(&environment).expect("an expert");
        let mut action = [0.0; 4];
        let is_solved = (0..200).any(|_| {
            expert.act(&environment, &mut action).expect("acted");
            assert!(action.iter().all(|value| (-1.0..=1.0).contains(value)), "{task}: {action:?}");
            environment.step(&action).expect("stepped").success
        });
        assert!(is_solved, "{task}");
    }
}

#[test]
fn a_task_without_an_expert_is_refused_by_name() {
    let error = expert_for(&environment("dmc/cartpole-swingup")).err().expect("no expert").to_string();
    assert!(error.contains("dmc/cartpole-swingup") && error.contains("dmc/reacher-easy"), "{error}");
}

#[test]
fn the_same_seed_gives_the_same_episode_and_another_seed_another() {
    let actors: [fn() -> Box<dyn StateActor>; 2] =
        [|| Box::new(UniformRandom::new()), || Box::new(SmoothRandom::new())];
    for actor in actors {
        let task = "dmc/reacher-easy";
        // The second of the first run is the first of the second run: nothing is left over from an episode.
        let both = play(task, actor().as_mut(), 3, 2);
        assert_eq!(play(task, actor().as_mut(), 4, 1), both[1..]);
        assert_ne!(play(task, actor().as_mut(), 5, 3), play(task, actor().as_mut(), 15, 3));
    }
}

#[test]
fn evaluation_stops_when_asked_and_keeps_whole_episodes() {
    let stop = AtomicBool::new(false);
    let mut observe = |progress: Progress| {
        if let Progress::Played { num_played: 2, .. } = progress {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let plan = EpisodePlan { first_seed: 0, num_episodes: 50 };
    let mut watch = Watch { observe: &mut observe, stop: &stop };
    let mut environment = environment("dmc/reacher-easy");
    let episodes = evaluate_state(&mut environment, &mut UniformRandom::new(), plan, &mut watch).expect("played");
    assert_eq!(episodes.len(), 2);
}

fn recording(folder: &Path) -> RecordOptions {
    RecordOptions {
        task: "dmc/reacher-easy".to_owned(),
        model: None,
        native: native(),
        folder: folder.to_path_buf(),
        robot: "reacher".to_owned(),
        profile: "desktop-sim".to_owned(),
        device: None,
        camera: CameraOptions { name: "fixed".to_owned(), width: 32, height: 32, quality: Quality::Fast },
        extra_cameras: Vec::new(),
        behaviour: Behaviour::Expert,
        disturbance: Disturbance::CLONING,
        num_episodes: 4,
        first_seed: 7,
        max_steps: Some(30),
        stride: 1,
        keep: Keep::All,
        git_revision: "test".to_owned(),
        profile_toml: String::new(),
        policy: None,
    }
}

fn run(options: &RecordOptions) -> Result<RecordReport, PoliciesError> {
    record(options, &mut Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) })
}

fn entries_of(folder: &Path) -> Vec<(PathBuf, Vec<LogEntry>)> {
    let read = |log: PathBuf| {
        let entries = LogReader::open(&log).expect("opened").collect::<Result<_, _>>().expect("read");
        (log.file_name().expect("a name").into(), entries)
    };
    logs_in(folder).expect("listed").into_iter().map(read).collect()
}

#[test]
fn a_recording_that_was_stopped_goes_on_to_the_same_episodes() {
    let (whole, parts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let report = run(&recording(whole.path())).expect("recorded");
    assert_eq!((report.num_held, report.num_played, report.num_steps), (4, 4, 120));
    let is_success = |(_, entries): &(PathBuf, Vec<LogEntry>)| matches!(entries.last(), Some(LogEntry::Episode { episode, .. }) if episode.success);
    assert_eq!(report.num_successful, entries_of(whole.path()).iter().filter(|log| is_success(log)).count());

    let options = recording(parts.path());
    let stop = AtomicBool::new(false);
    let mut observe = |_| stop.store(true, Ordering::Relaxed);
    let report = record(&options, &mut Watch { observe: &mut observe, stop: &stop }).expect("recorded");
    assert!(report.stopped && report.num_held == 1, "{report:?}");
    // What a kill leaves behind is neither counted nor kept.
    let half = parts.path().join("episode-0000000009.mcap.partial");
    std::fs::write(&half, b"half").expect("written");
    let report = run(&options).expect("recorded");
    assert_eq!((report.num_held, report.num_played), (4, 3));
    assert!(!half.exists());
    assert!(entries_of(whole.path()) == entries_of(parts.path()));
    assert_eq!(run(&options).expect("recorded").num_played, 0);
}

#[test]
fn a_stride_leaves_steps_out_and_counts_what_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = RecordOptions { stride: 7, num_episodes: 2, ..recording(folder.path()) };
    assert_eq!(run(&options).expect("recorded").num_steps, 10);
    for (_, entries) in entries_of(folder.path()) {
        let steps = entries.iter().filter_map(|entry| match entry {
            LogEntry::Frame(frame) => Some((frame.sequence, frame.stamp.nanos)),
            _ => None,
        });
        let expected = (0..5).map(|frame_idx| (7 * frame_idx, 7 * frame_idx * 20_000_000));
        assert_eq!(steps.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
}

/// The reacher's motors give 0.05 N m at a control of 1.
#[test]
fn a_profile_is_recorded_in_its_own_order_and_units() {
    let folder = tempfile::tempdir().expect("a folder");
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"torque_newton_metres\"\nminimum = -0.05\nmaximum = 0.05\nmax_rate_per_second = 9.0\n"
        )
    };
    let file = folder.path().join("newton.toml");
    let text = format!("inherit = \"desktop-sim\"\n{}{}", joint("wrist"), joint("shoulder"));
    std::fs::write(&file, text).expect("written");
    let device = foresee_firmware_config::load(&file.to_string_lossy()).expect("a profile");
    let recorded = |device, name: &str| {
        let options = RecordOptions { device, num_episodes: 1, ..recording(&folder.path().join(name)) };
        run(&options).expect("recorded");
        let (_, entries) = entries_of(&options.folder).remove(0);
        entries
    };
    let (plain, newton) = (recorded(None, "plain"), recorded(Some(device), "newton"));
    let mut num_commands = 0;
    for (plain, newton) in plain.iter().zip(&newton) {
        match (plain, newton) {
            (LogEntry::Joints { state: plain, .. }, LogEntry::Joints { names, state }) => {
                assert_eq!((names[0].as_str(), names[1].as_str()), ("wrist", "shoulder"));
                assert_eq!(state.positions, [plain.positions[1], plain.positions[0]]);
                assert_eq!(state.velocities, [plain.velocities[1], plain.velocities[0]]);
            }
            (LogEntry::Command { values: plain, .. }, LogEntry::Command { values, .. }) => {
                num_commands += 1;
                let off = [values[0] - 0.05 * plain[1], values[1] - 0.05 * plain[0]];
                assert!(off.iter().all(|off| off.abs() < 1e-12), "{values:?} of {plain:?}");
            }
            _ => {}
        }
    }
    assert_eq!(num_commands, 60);
}

#[test]
fn a_recording_reads_back_with_clean_labels_beside_disturbed_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    run(&recording(folder.path())).expect("recorded");
    let mut num_disturbed = 0;
    for log in logs_in(folder.path()).expect("listed") {
        let mut reader = LogReader::open(&log).expect("opened");
        assert_eq!(reader.header().joints, ["shoulder", "wrist"]);
        let entries: Vec<LogEntry> = reader.by_ref().collect::<Result<_, _>>().expect("read");
        assert_eq!(reader.truncation(), None);
        assert!(matches!(entries.first(), Some(LogEntry::Episode { phase: EpisodePhase::Started, .. })));
        assert!(matches!(entries.last(), Some(LogEntry::Episode { phase: EpisodePhase::Ended, .. })));
        let commands = |wanted: CommandTopic| {
            let of_topic = entries.iter().filter_map(move |entry| match entry {
                LogEntry::Command { topic, values, stamp, .. } if *topic == wanted => Some((*stamp, values.clone())),
                _ => None,
            });
            of_topic.collect::<Vec<_>>()
        };
        let (executed, expert) = (commands(CommandTopic::JointCommand), commands(CommandTopic::ExpertCommand));
        assert_eq!((executed.len(), expert.len()), (30, 30));
        num_disturbed += executed.iter().zip(&expert).filter(|(executed, expert)| executed.1 != expert.1).count();
        let frames = entries.iter().filter(|entry| matches!(entry, LogEntry::Frame(frame) if frame.width == 32));
        assert_eq!(frames.count(), 30);
    }
    assert!(num_disturbed > 60, "{num_disturbed}");
}

#[test]
fn only_successful_episodes_are_kept_when_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    // Twelve steps are too few for most starts.
    let options = RecordOptions { max_steps: Some(12), keep: Keep::Successful, ..recording(folder.path()) };
    let report = run(&options).expect("recorded");
    assert_eq!(report.num_held, 4);
    assert!(report.num_rejected > 0, "{report:?}");
    assert_eq!(run(&options).expect("recorded").num_held, 4);
    for log in logs_in(folder.path()).expect("listed") {
        let last = LogReader::open(&log).expect("opened").last().expect("an entry").expect("read");
        assert!(matches!(last, LogEntry::Episode { episode, .. } if episode.success));
    }
}

#[test]
fn other_options_or_foreign_logs_in_the_folder_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = RecordOptions { num_episodes: 1, max_steps: Some(2), ..recording(folder.path()) };
    run(&options).expect("recorded");
    let check = |options: RecordOptions, needle: &str| {
        let error = run(&options).expect_err(needle).to_string();
        assert!(error.contains(needle) && !error.contains('\n'), "{error}");
    };
    check(RecordOptions { max_steps: Some(3), ..options.clone() }, "max_steps");
    check(RecordOptions { disturbance: Disturbance::NONE, ..options.clone() }, "disturbance");
    check(RecordOptions { task: "dmc/reacher-hard".to_owned(), ..options.clone() }, "task");
    check(RecordOptions { num_episodes: 0, ..options.clone() }, "num_episodes");
    check(RecordOptions { stride: 0, ..options.clone() }, "stride");
    check(RecordOptions { task: "dmc/teacher-easy".to_owned(), ..options.clone() }, "dmc/teacher-easy");
    std::fs::remove_file(folder.path().join("recording.json")).expect("removed");
    check(options, "recording.json");
}

#[test]
fn a_task_without_a_time_limit_is_refused_by_flag() {
    let folder = tempfile::tempdir().expect("a folder");
    let task = "dmc/lqr-lqr_2_1".to_owned();
    let options = RecordOptions {
        task: task.clone(),
        camera: CameraOptions { name: environment(&task).spec().camera.clone(), ..recording(folder.path()).camera },
        behaviour: Behaviour::UniformRandom,
        num_episodes: 1,
        max_steps: None,
        ..recording(folder.path())
    };
    let error = run(&options).expect_err("endless").to_string();
    assert!(error.contains(&task) && error.contains("--max-steps"), "{error}");
    assert_eq!(run(&RecordOptions { max_steps: Some(2), ..options }).expect("recorded").num_steps, 2);
    let plan = EpisodePlan { first_seed: 0, num_episodes: 1 };
    let mut watch = Watch { observe: &mut |_| (), stop: &AtomicBool::new(false) };
    let played = evaluate_state(&mut environment(&task), &mut UniformRandom::new(), plan, &mut watch);
    assert!(matches!(played, Err(PoliciesError::Endless { .. })), "{played:?}");
}
