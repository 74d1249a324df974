//! Demonstrations as people bring them: other units, values that are not finite, late stamps, single recordings, folders of bags.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use foresee_firmware_config::{DeviceProfile, PixelEncoding, parse};
use foresee_policies::{
    DataReport, DemonstrationOptions, PoliciesError, Progress, Samples, Watch, load_demonstrations,
};
use foresee_runtime::{CommandTopic, Frame, JointState, LogHeader, LogWriter, RawPixels, Stamp};

const PERIOD_NANOS: u64 = 20_000_000;
const NUM_FRAMES: u64 = 40;

fn profile() -> DeviceProfile {
    let camera = "[camera]\nname = \"c\"\nwidth = 8\nheight = 8\nencoding = \"rgb8\"\n";
    let joint = |name: &str| {
        format!(
            "[[joints]]\nname = \"{name}\"\ncommand = \"position_radians\"\nminimum = -2.0\nmaximum = 2.0\nmax_rate_per_second = 9.0\n"
        )
    };
    parse("arm.toml", &format!("inherit = \"desktop-sim\"\n{camera}{}{}", joint("a"), joint("b"))).expect("a profile")
}

/// One moment of a demonstration, before it is written.
struct Step {
    number: u64,
    positions: Vec<f64>,
    action: Vec<f64>,
    state_late_nanos: u64,
    command_late_nanos: u64,
}

/// Writes a log of which each step was changed.
fn write(path: &Path, change: impl Fn(&mut Step)) {
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    let names = ["a".to_owned(), "b".to_owned()];
    let header = LogHeader { robot: "arm".to_owned(), joints: names.to_vec(), ..LogHeader::default() };
    let mut writer = LogWriter::create(path, &header).expect("created");
    for number in 0..NUM_FRAMES {
        let phase = number as f64 / 9.0;
        let (positions, action) = (vec![phase.sin(), phase.cos()], vec![0.5 * phase.sin(), 0.5 * phase.cos()]);
        let mut step = Step { number, positions, action, state_late_nanos: 0, command_late_nanos: 0 };
        change(&mut step);
        let nanos = 1_000_000_000 + number * PERIOD_NANOS;
        let mut frame = Frame::black(8, 8, PixelEncoding::Rgb8);
        (frame.stamp, frame.sequence) = (Stamp { nanos }, number);
        frame.data.fill(number as u8);
        writer.write_frame(&frame).expect("written");
        let stamp = Stamp { nanos: nanos + step.state_late_nanos };
        let state = JointState { stamp, velocities: vec![phase; step.positions.len()], positions: step.positions };
        writer.write_joints(&names, &state).expect("written");
        let stamp = Stamp { nanos: nanos + step.command_late_nanos };
        writer.write_command(CommandTopic::JointCommand, &names, (stamp, &step.action)).expect("written");
    }
    writer.finish().expect("finished");
}

fn load(options: &DemonstrationOptions) -> (Result<Samples, PoliciesError>, DataReport) {
    let mut report = DataReport::default();
    let mut observe = |progress| {
        if let Progress::Inspected(inspected) = progress {
            report = *inspected;
        }
    };
    let mut watch = Watch { observe: &mut observe, stop: &AtomicBool::new(false) };
    let loaded = load_demonstrations(options, vec![Box::new(RawPixels::new(8, 8))], &mut watch);
    (loaded, report)
}

fn options(folder: &Path) -> DemonstrationOptions {
    DemonstrationOptions::new(vec![folder.to_path_buf()], profile())
}

/// Loads one good log and one whose steps were changed.
fn load_changed(change: impl Fn(&mut Step)) -> (Result<Samples, PoliciesError>, DataReport) {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("good.mcap"), |_| ());
    write(&folder.path().join("odd.mcap"), change);
    load(&options(folder.path()))
}

#[test]
fn values_that_are_not_finite_are_refused_with_log_frame_and_joint() {
    let check = |change: fn(&mut Step), needles: [&str; 3]| {
        let error = load_changed(change).0.expect_err("refused").to_string();
        assert!(error.contains("odd.mcap: frame 3") && needles.iter().all(|needle| error.contains(needle)), "{error}");
    };
    fn third(step: &Step) -> bool {
        step.number == 3
    }
    check(
        |step| {
            if third(step) {
                step.action[1] = f64::INFINITY
            }
        },
        ["command", "`b`", "inf"],
    );
    check(
        |step| {
            if third(step) {
                step.action[0] = f64::NEG_INFINITY
            }
        },
        ["command", "`a`", "-inf"],
    );
    check(
        |step| {
            if third(step) {
                step.action[0] = f64::NAN
            }
        },
        ["command", "`a`", "NaN"],
    );
    check(
        |step| {
            if third(step) {
                step.positions[0] = f64::NAN
            }
        },
        ["position", "`a`", "NaN"],
    );
    // Finite, but not as the f32 that is trained on.
    check(
        |step| {
            if third(step) {
                step.positions[1] = 1e300
            }
        },
        ["position", "`b`", "1000000"],
    );
}

#[test]
fn another_unit_is_refused_with_log_joint_and_share_unless_it_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("good.mcap"), |_| ());
    write(&folder.path().join("odd.mcap"), |step| step.action[1] *= 180.0 / std::f64::consts::PI);
    let (loaded, report) = load(&options(folder.path()));
    let error = loaded.expect_err("degrees").to_string();
    let needles = ["odd.mcap", "`b`", "commands", "%", "degrees", "--allow-out-of-range"];
    assert!(needles.iter().all(|needle| error.contains(needle)), "{error}");
    assert!(report.out_of_range.len() == 1 && report.out_of_range[0].share() > 0.8, "{report:?}");
    let allowed = DemonstrationOptions { allow_out_of_range: true, ..options(folder.path()) };
    assert_eq!(load(&allowed).0.expect("allowed").len(), 80);

    let (loaded, _) = load_changed(|step| step.positions.iter_mut().for_each(|value| *value *= 57.3));
    let error = loaded.expect_err("positions in degrees").to_string();
    assert!(error.contains("odd.mcap") && error.contains("positions"), "{error}");
    // Two of 40 are reported and trained on.
    let (loaded, report) = load_changed(|step| {
        if step.number < 2 {
            step.action[0] = 2.5;
        }
    });
    assert_eq!(loaded.expect("few").len(), 80);
    assert!(report.lines().iter().any(|line| line.contains("2 of 40 commands of joint `a` (5.0 %)")), "{report:?}");
}

#[test]
fn a_joint_without_limits_that_is_measured_in_degrees_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("odd.mcap"), |step| step.positions[0] *= 180.0);
    let mut torque = options(folder.path());
    torque.profile.joints[0].command = foresee_firmware_config::CommandKind::TorqueNewtonMetres;
    let error = load(&torque).0.expect_err("degrees").to_string();
    assert!(error.contains("positions of joint `a`") && error.contains("degrees"), "{error}");
}

#[test]
fn stamps_that_differ_are_matched_within_half_a_period_and_reported() {
    let late =
        |nanos: u64| move |step: &mut Step| (step.state_late_nanos, step.command_late_nanos) = (nanos, 2 * nanos);
    let (loaded, report) = load_changed(late(3_000_000));
    assert_eq!(loaded.expect("matched").len(), 80);
    assert!(
        (report.max_state_offset_millis - 3.0).abs() < 1e-9 && (report.max_command_offset_millis - 6.0).abs() < 1e-9
    );

    // Beyond every frame of the log.
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("good.mcap"), |_| ());
    write(&folder.path().join("odd.mcap"), late(900_000_000));
    let (loaded, report) = load(&options(folder.path()));
    assert_eq!(loaded.expect("the good one").len(), 40);
    assert!(report.logs.len() == 1 && report.logs[0].contains("odd.mcap: 0 of 40"), "{report:?}");
    assert!(report.logs[0].contains("120.0 ms") && report.logs[0].contains("--match-millis"), "{report:?}");
    let patient = DemonstrationOptions { match_tolerance: Some(Duration::from_secs(2)), ..options(folder.path()) };
    assert_eq!(load(&patient).0.expect("matched").len(), 80);
}

#[test]
fn stamps_of_another_clock_are_named_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("odd.mcap"), |step| step.state_late_nanos = 1_700_000_000_000_000_000);
    let (loaded, report) = load(&options(folder.path()));
    let error = loaded.expect_err("nothing belongs together").to_string();
    assert!(error.contains("another clock") && report.logs[0].contains("odd.mcap: 0 of 40"), "{error} {report:?}");
}

#[test]
fn a_column_that_never_changes_trains_and_is_reported() {
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("one.mcap"), |step| step.action[1] = 0.25);
    let (loaded, report) = load(&options(folder.path()));
    assert_eq!(loaded.expect("loaded").len(), 40);
    assert!(report.constant.len() == 1 && report.constant[0].contains("command of joint `b` is 0.25"), "{report:?}");
}

#[test]
fn logs_are_found_below_a_folder_and_a_cut_one_gives_its_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    write(&at("monday/bag/bag_0.mcap"), |_| ());
    write(&at("cut.mcap"), |_| ());
    std::fs::write(at("monday/bag/metadata.yaml"), "rosbag2_bagfile_information:\n").expect("written");
    std::fs::write(at("monday/._bag_0.mcap"), "junk").expect("written");
    let bytes = std::fs::read(at("cut.mcap")).expect("read");
    std::fs::write(at("cut.mcap"), &bytes[..bytes.len() - 20]).expect("cut");
    let (loaded, report) = load(&options(folder.path()));
    assert_eq!((loaded.expect("loaded").len(), report.num_logs), (80, 2));
    assert_eq!(report.skipped_files, [at("monday/._bag_0.mcap")]);
    // Within its one chunk, nothing is left of it.
    let start_is_lost = |kept: usize| {
        std::fs::write(at("cut.mcap"), &bytes[..bytes.len() * kept / 16]).expect("cut");
        let (loaded, report) = load(&options(folder.path()));
        let is_reported = report.logs.iter().any(|line| line.contains("cut.mcap") && line.contains("ends early"));
        loaded.is_ok_and(|samples| samples.len() == 40) && is_reported
    };
    assert!((1..16).any(start_is_lost));
}
