//! Both sides in one process, each with a session of its own, over loopback.

use std::time::Duration;

use foresee_firmware_config::{DeviceProfile, Pace, PixelEncoding, ZenohMode, ZenohProfile, load};

use super::*;
use crate::{
    Action, Actuator, Episode, EpisodePhase, Frame, FrameSource, Observation, RuntimeError, SafetyFilter, SourceEvent,
    Stamp,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Pair {
    profile: DeviceProfile,
    robot_zenoh: ZenohProfile,
}

impl Pair {
    fn new() -> Self {
        let endpoint = free_loopback_endpoint().unwrap();
        let mut profile = load("desktop-sim").unwrap();
        profile.zenoh.connect = vec![endpoint.clone()];
        let robot_zenoh = ZenohProfile { listen: vec![endpoint], shared_memory: true, ..ZenohProfile::default() };
        Self { profile, robot_zenoh }
    }

    /// The latest wins, and what cannot be read counts as none.
    fn fixed() -> Self {
        let mut pair = Self::new();
        pair.profile.pace = Pace::Fixed { rate_hertz: 50.0, max_frame_age_millis: 100 };
        pair
    }

    fn robot(&self) -> (ZenohLink, ZenohRobot) {
        let link = ZenohLink::open(&self.profile.robot, &self.robot_zenoh).unwrap();
        // In the other order than the profile's: names decide, not places.
        let robot = ZenohRobot::new(&link, vec!["wrist".to_owned(), "shoulder".to_owned()]).unwrap();
        (link, robot)
    }

    fn ends(&self) -> (ZenohLink, ZenohSource, ZenohActuator) {
        let link = ZenohLink::open(&self.profile.robot, &self.profile.zenoh).unwrap();
        let source = ZenohSource::new(&link, &self.profile).unwrap();
        let actuator = ZenohActuator::new(&link, &self.profile).unwrap();
        (link, source, actuator)
    }
}

fn observation(sequence: u64) -> Observation {
    let mut observation = Observation::blank(32, 24, 2);
    observation.frame.sequence = sequence;
    observation.frame.stamp = Stamp { nanos: 20_000_000 * (sequence + 1) };
    observation.frame.data.iter_mut().enumerate().for_each(|(idx, byte)| *byte = (idx as u64 + sequence) as u8);
    observation.joints.stamp = observation.frame.stamp;
    observation.joints.positions = vec![sequence as f64, -1.0];
    observation.joints.velocities = vec![0.5, 0.25];
    observation
}

/// Answers `num_frames` frames with the joint positions, swapped into the profile's order on the way in.
fn answer(pair: &Pair, num_frames: usize) -> Vec<Observation> {
    let (_link, mut source, mut actuator) = pair.ends();
    let mut filter = SafetyFilter::new(&pair.profile.joints, Duration::from_millis(20));
    let mut lent = Observation::blank(1, 1, 0);
    let mut seen = Vec::new();
    while seen.len() < num_frames {
        match source.next(&mut lent, PATIENCE).unwrap() {
            SourceEvent::Observed => {
                let action = Action { values: vec![0.25, -0.125] };
                let command = filter.filter(lent.frame.stamp, Some(&action));
                actuator.send(lent.frame.sequence, command).unwrap();
                seen.push(lent.clone());
            }
            SourceEvent::EpisodeStarted(episode) => assert_eq!(episode.task, "test"),
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Finished);
    assert_eq!(source.num_dropped(), 0);
    seen
}

fn play(robot: &mut ZenohRobot, num_frames: u64) {
    assert!(robot.wait_for_loop(PATIENCE));
    let episode = Episode { task: "test".to_owned(), ..Episode::default() };
    robot.announce(Stamp::default(), EpisodePhase::Started, &episode).unwrap();
    let mut values = [0.0; 2];
    for sequence in 0..num_frames {
        robot.publish(&observation(sequence)).unwrap();
        // A repeat is not answered twice, and does no harm.
        robot.publish(&observation(sequence)).unwrap();
        assert_eq!(robot.wait_command(sequence, PATIENCE, &mut values).unwrap(), CommandWait::Answered);
        assert_eq!(values, [-0.125, 0.25]);
    }
    robot.announce(Stamp::default(), EpisodePhase::Finished, &episode).unwrap();
}

#[test]
fn whoever_comes_first_every_frame_is_answered() {
    for robot_first in [true, false] {
        let pair = Pair::new();
        std::thread::scope(|scope| {
            let late = Duration::from_millis(300);
            let (robot_waits, ends_wait) = if robot_first { (Duration::ZERO, late) } else { (late, Duration::ZERO) };
            let ends = scope.spawn({
                let pair = &pair;
                move || {
                    std::thread::sleep(ends_wait);
                    answer(pair, 30)
                }
            });
            std::thread::sleep(robot_waits);
            let (_link, mut robot) = pair.robot();
            play(&mut robot, 30);
            for (sequence, seen) in ends.join().unwrap().into_iter().enumerate() {
                let mut sent = observation(sequence as u64);
                sent.joints.positions.reverse();
                sent.joints.velocities.reverse();
                assert_eq!(seen, sent);
            }
        });
    }
}

#[test]
fn each_side_learns_that_the_other_left() {
    let pair = Pair::new();
    let (robot_link, mut robot) = pair.robot();
    let (link, mut source, actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    drop(actuator);
    robot_link.close().unwrap();
    let error = loop {
        match source.next(&mut Observation::blank(1, 1, 0), PATIENCE) {
            Ok(SourceEvent::TimedOut) => panic!("nobody said that the robot left"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("left"), "{error}");
    link.close().unwrap();

    let (_robot_link, mut robot) = pair.robot();
    let (link, _source, _actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    link.close().unwrap();
    assert_eq!(robot.wait_command(0, PATIENCE, &mut [0.0; 2]).unwrap(), CommandWait::LoopLeft);
}

#[test]
fn a_gap_counts_as_dropped_and_a_missing_joint_is_named() {
    let pair = Pair::new();
    let (_robot_link, mut robot) = pair.robot();
    let (_link, mut source, _actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    let mut lent = Observation::blank(1, 1, 0);
    for sequence in [0, 1, 5] {
        robot.publish(&observation(sequence)).unwrap();
        assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
        assert_eq!(lent.frame.sequence, sequence);
    }
    assert_eq!(source.num_dropped(), 3);

    let mut other = pair.profile.clone();
    other.joints[1].name = "elbow".to_owned();
    let link = ZenohLink::open(&other.robot, &other.zenoh).unwrap();
    let mut source = ZenohSource::new(&link, &other).unwrap();
    // The token comes after the subscriptions, and the robot sees tokens in order: the second loop is there when it is seen.
    std::thread::sleep(Duration::from_millis(500));
    robot.publish(&observation(6)).unwrap();
    let error = source.next(&mut lent, PATIENCE).unwrap_err().to_string();
    assert!(error.contains("`elbow`") && error.contains("wrist, shoulder"), "{error}");
}

/// Everything goes through a router that neither side is; while it is away nothing does, and afterwards it goes on.
#[test]
fn clients_meet_at_a_router() {
    let mut pair = Pair::new();
    let endpoint = pair.profile.zenoh.connect[0].clone();
    pair.robot_zenoh = ZenohProfile { mode: ZenohMode::Client, connect: vec![endpoint.clone()], ..Default::default() };
    pair.profile.zenoh = pair.robot_zenoh.clone();
    let router = ZenohRouter::start(&endpoint).unwrap();
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| answer(&pair, 30));
        let (_link, mut robot) = pair.robot();
        play(&mut robot, 30);
        assert_eq!(ends.join().unwrap().len(), 30);
    });
    drop(router);
}

#[test]
fn an_image_before_the_first_joint_state_is_dropped_and_counted() {
    let pair = Pair::new();
    let (robot_link, mut robot) = pair.robot();
    let (_link, mut source, _actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    let mut bytes = Vec::new();
    crate::wire::encode_image(&observation(0).frame, &mut bytes);
    let images = robot_link.publisher("camera/image").unwrap();
    ::zenoh::Wait::wait(images.put(bytes).attachment(0_u64.to_le_bytes())).unwrap();
    let mut lent = Observation::blank(1, 1, 0);
    assert_eq!(source.next(&mut lent, Duration::from_millis(500)).unwrap(), SourceEvent::TimedOut);
    assert_eq!(source.num_dropped(), 1);
    // Sent again with its joints it is a frame.
    robot.publish(&observation(0)).unwrap();
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
    assert_eq!((lent.frame.sequence, source.num_dropped()), (0, 1));
}

/// A driver with joints of 1 kHz, and a loop that was busy: it sees what is, and hears what was said.
#[test]
fn the_latest_wins_and_no_event_is_lost() {
    let pair = Pair::fixed();
    let (robot_link, mut robot) = pair.robot();
    let (link, mut source, _actuator) = pair.ends();
    let (said, everything) = std::sync::mpsc::channel();
    let _hearing = link.hear("clear_fault", move || said.send(()).unwrap()).unwrap();
    assert!(robot.wait_for_loop(PATIENCE));
    for sequence in 0..200 {
        robot.publish(&observation(sequence)).unwrap();
        let episode = Episode { index: sequence as u32, ..Episode::default() };
        robot.announce(Stamp::default(), EpisodePhase::Started, &episode).unwrap();
    }
    robot.announce(Stamp::default(), EpisodePhase::Finished, &Episode::default()).unwrap();
    assert!(robot_link.say("clear_fault", PATIENCE).unwrap());
    everything.recv_timeout(PATIENCE).unwrap();
    let mut lent = Observation::blank(1, 1, 0);
    let (mut seen, mut episodes) = (Vec::new(), Vec::new());
    loop {
        match source.next(&mut lent, PATIENCE).unwrap() {
            SourceEvent::Observed => seen.push((lent.frame.sequence, lent.joints.positions[1], episodes.len())),
            SourceEvent::EpisodeStarted(episode) => episodes.push(episode.index),
            SourceEvent::Finished => break,
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(seen, [(199, 199.0, 199)], "after the episode before it, and before the one that came then");
    assert_eq!(episodes, (0..200).collect::<Vec<_>>());
}

/// Messages of drivers that are not as they should be; the robot's loop goes on.
#[test]
fn what_cannot_be_read_counts_as_none() {
    let pair = Pair::fixed();
    let (robot_link, mut robot) = pair.robot();
    let (_link, mut source, _actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    let mut lent = Observation::blank(1, 1, 0);
    robot.publish(&observation(0)).unwrap();
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
    let sound = lent.clone();
    let encoded = |change: fn(&mut Observation)| {
        let (mut image, mut joints, mut changed) = (Vec::new(), Vec::new(), observation(1));
        change(&mut changed);
        crate::wire::encode_image(&changed.frame, &mut image);
        crate::wire::encode_joints(&["wrist".to_owned(), "shoulder".to_owned()], &changed.joints, &mut joints);
        (image, joints)
    };
    let (image, joints) = encoded(|_| {});
    let mono = image.iter().map(|byte| if *byte == b'r' { b'm' } else { *byte }).collect();
    for (count, (topic, message)) in (1..).zip([
        ("camera/image", encoded(|observation| observation.frame.data.truncate(100)).0),
        ("camera/image", image[..60].to_vec()),
        ("camera/image", mono),
        ("joint_states", encoded(|observation| observation.joints.velocities.clear()).1),
        ("joint_states", joints.iter().map(|byte| if *byte == b'w' { b'f' } else { *byte }).collect()),
        ("joint_states", joints[..joints.len() - 9].to_vec()),
        ("episode", vec![1, 2, 3]),
    ]) {
        let publisher = robot_link.publisher(topic).unwrap();
        ::zenoh::Wait::wait(publisher.put(message).attachment(u64::to_le_bytes(count))).unwrap();
        while source.num_unreadable() < count {
            assert_eq!(source.next(&mut lent, Duration::from_millis(20)).unwrap(), SourceEvent::TimedOut, "{topic}");
        }
        assert_eq!(lent, sound, "{topic}: what came before is as it was");
    }
    robot.publish(&observation(8)).unwrap();
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
    assert_eq!((lent.frame.sequence, lent.joints.positions[1]), (8, 8.0));
    assert_eq!(source.num_unreadable(), 7);
}

#[test]
fn the_images_of_several_cameras_come_together() {
    let mut pair = Pair::new();
    let text =
        "inherit = \"desktop-sim\"\n[[extra_cameras]]\nname = \"side\"\nwidth = 8\nheight = 6\nencoding = \"rgb8\"\n";
    let zenoh = pair.profile.zenoh.clone();
    pair.profile = DeviceProfile { zenoh, ..foresee_firmware_config::parse("two.toml", text).unwrap() };
    let (link, robot) = pair.robot();
    let mut robot = robot.with_cameras(&link, &["side".to_owned()]).unwrap();
    let (_link, mut source, _actuator) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    let mut lent = Observation::of(&pair.profile);
    for sequence in 0..20 {
        let mut sent = observation(sequence);
        let mut side = Frame::black(8, 6, PixelEncoding::Rgb8);
        (side.stamp, side.sequence) = (sent.frame.stamp, sequence);
        side.data.fill(sequence as u8);
        sent.extra = vec![side];
        robot.publish(&sent).unwrap();
        assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
        assert_eq!(lent.extra, sent.extra);
    }
}

#[test]
fn a_robot_obeys_one_loop_and_the_other_is_told() {
    let pair = Pair::new();
    let (_robot_link, mut robot) = pair.robot();
    let (first_link, mut first, mut commands) = pair.ends();
    let (second_link, mut second, mut others) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    let filter = || SafetyFilter::new(&pair.profile.joints, Duration::from_millis(20));
    let (mut mine, mut foreign) = (filter(), filter());
    let (mut values, mut lent) = ([0.0; 2], Observation::blank(1, 1, 0));
    let (mut told, mut sequence) = (None, 0);
    let started = std::time::Instant::now();
    while told.is_none() && started.elapsed() < PATIENCE {
        robot.publish(&observation(sequence)).unwrap();
        assert_eq!(first.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
        let [plus, minus] = [0.01, -0.01].map(|value| Action { values: vec![value; 2] });
        commands.send(sequence, mine.filter(lent.frame.stamp, Some(&plus))).unwrap();
        assert_eq!(robot.wait_command(sequence, PATIENCE, &mut values).unwrap(), CommandWait::Answered);
        others.send(sequence + 1, foreign.filter(lent.frame.stamp, Some(&minus))).unwrap();
        assert!(values[0] > 0.0, "{values:?}");
        told = second.next(&mut lent, Duration::ZERO).err();
        sequence += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    let told = told.expect("the second loop is told").to_string();
    assert!(told.contains("obeys another loop") && robot.num_foreign() > 0, "{told}");
    // Both leave; the next that commands is obeyed.
    drop((first, commands, second, others));
    first_link.close().unwrap();
    second_link.close().unwrap();
    while robot.wait_command(u64::MAX, PATIENCE, &mut values).unwrap() != CommandWait::LoopLeft {}
    let (_third_link, mut third, mut commands) = pair.ends();
    assert!(robot.wait_for_loop(PATIENCE));
    robot.publish(&observation(sequence)).unwrap();
    assert_eq!(third.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
    commands.send(sequence, filter().last()).unwrap();
    assert_eq!(robot.wait_command(sequence, PATIENCE, &mut values).unwrap(), CommandWait::Answered);
}

#[test]
fn a_port_in_use_is_named() {
    let pair = Pair::new();
    let (_link, _robot) = pair.robot();
    let error = ZenohLink::open("other", &pair.robot_zenoh).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, RuntimeError::Transport(_)) && !message.contains('\n'), "{message}");
    assert!(message.contains(&pair.robot_zenoh.listen[0]) && message.contains("in use"), "{message}");
}

/// Frames come from a folder, joint states over zenoh; a frame without joint states is none.
#[cfg(feature = "camera")]
#[test]
fn a_camera_here_goes_with_joints_from_there() {
    use crate::{CameraDevice, CameraOptions, CameraSource, Clock, LiveCamera};

    let pair = Pair::new();
    let folder = tempfile::tempdir().unwrap();
    for name in ["1.ppm", "2.ppm", "3.ppm"] {
        let image = [b"P6\n128 128\n255\n".to_vec(), vec![7; 128 * 128 * 3]].concat();
        std::fs::write(folder.path().join(name), image).unwrap();
    }
    let options = CameraOptions { camera: pair.profile.camera.clone(), clock: Clock::Wall, any_size: false };
    let open = || {
        let device = CameraDevice::parse(&folder.path().display().to_string()).unwrap();
        LiveCamera::start(CameraSource::open(&device, options.clone()).unwrap()).unwrap()
    };
    let (_robot_link, mut robot) = pair.robot();
    let (_link, joints, _actuator) = pair.ends();
    let mut source = CameraRobot::new(open(), joints);
    let mut lent = Observation::blank(1, 1, 0);
    // Without a joint state a frame is none; the folder is over before one comes.
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Finished);
    assert!(robot.wait_for_loop(PATIENCE));
    robot.publish(&observation(7)).unwrap();
    let mut state = crate::JointState::zeros(2);
    while !source.joints.latest_joints(&mut state) {
        assert_eq!(source.joints.hear().unwrap(), None);
    }
    // A new camera in front of the same joints; the folder is read faster than it is asked for, and the last frame wins.
    source.camera = open();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Observed);
    assert_eq!((lent.frame.width, lent.frame.height, lent.frame.data[0]), (128, 128, 7));
    assert_eq!((lent.joints.positions.as_slice(), lent.joints.stamp.nanos), (&[-1.0, 7.0][..], 160_000_000));
    assert!(lent.frame.sequence == 2 && source.num_dropped() == 2, "{} {}", lent.frame.sequence, source.num_dropped());
    robot.announce(Stamp::default(), EpisodePhase::Finished, &Episode::default()).unwrap();
    assert_eq!(source.next(&mut lent, PATIENCE).unwrap(), SourceEvent::Finished);
}
