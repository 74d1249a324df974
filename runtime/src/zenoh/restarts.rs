//! A camera or driver that starts again, and what other programs attach: every message is taken at once.

use std::time::Duration;

use ::zenoh::Wait;
use ::zenoh::pubsub::Publisher;
use foresee_firmware_config::{DeviceProfile, Pace, PixelEncoding, ZenohProfile, parse};

use super::*;
use crate::{Frame, FrameSource, JointState, Observation, SourceEvent, Stamp};

const PATIENCE: Duration = Duration::from_secs(20);

/// The profile of a loop with a second camera, and what its robot listens on.
fn profile() -> (DeviceProfile, ZenohProfile) {
    let endpoint = free_loopback_endpoint().unwrap();
    let text =
        "inherit = \"desktop-sim\"\n[[extra_cameras]]\nname = \"side\"\nwidth = 8\nheight = 6\nencoding = \"rgb8\"\n";
    let mut profile = parse("two.toml", text).unwrap();
    profile.pace = Pace::Fixed { rate_hertz: 50.0, max_frame_age_millis: 100 };
    profile.zenoh.connect = vec![endpoint.clone()];
    (profile, ZenohProfile { listen: vec![endpoint], shared_memory: false, ..ZenohProfile::default() })
}

/// Publishers of joint states, of the second camera and of the first, as a driver of no kinship to ours declares them.
struct Driver {
    joints: Publisher<'static>,
    side: Publisher<'static>,
    images: Publisher<'static>,
}

impl Driver {
    fn new(link: &ZenohLink) -> Self {
        let [joints, side, images] =
            ["joint_states", "camera/side/image", "camera/image"].map(|name| link.publisher(name).unwrap());
        let driver = Self { joints, side, images };
        for publisher in [&driver.joints, &driver.side, &driver.images] {
            while !publisher.matching_status().wait().unwrap().matching() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        driver
    }

    fn publish(&self, number: u64, attachment: &[u8]) {
        let stamp = Stamp { nanos: 1_000_000_000 + number };
        let mut bytes = Vec::new();
        let joints = JointState { stamp, positions: vec![number as f64; 2], velocities: vec![0.0; 2] };
        crate::wire::encode_joints(&["shoulder".to_owned(), "wrist".to_owned()], &joints, &mut bytes);
        self.joints.put(bytes.clone()).attachment(attachment).wait().unwrap();
        for publisher in [&self.side, &self.images] {
            let frame = Frame { stamp, ..Frame::black(8, 6, PixelEncoding::Rgb8) };
            crate::wire::encode_image(&frame, &mut bytes);
            publisher.put(bytes.clone()).attachment(attachment).wait().unwrap();
        }
    }
}

/// As rmw_zenoh attaches it: an i64 sequence, an i64 time, the length of the publisher's id and the id.
fn of_rmw(sequence: i64) -> Vec<u8> {
    let time = 1_764_556_800_000_000_000_i64 + sequence;
    [&sequence.to_le_bytes()[..], &time.to_le_bytes(), &[16], &[7; 16]].concat()
}

#[test]
fn every_message_is_taken_whatever_is_attached() {
    let (profile, robot_zenoh) = profile();
    let ours = |sequence: u64| sequence.to_le_bytes().to_vec();
    let (rows, restarts, missing) = (
        [
            // A camera that ran for long, then starts again, then is overtaken by half a second.
            [ours(900), ours(901), ours(0), ours(1), ours(20), ours(21)],
            [of_rmw(500), of_rmw(501), of_rmw(1), of_rmw(2), of_rmw(3), of_rmw(1)],
            [(); 6].map(|()| b"wrist/l8".to_vec()),
            [(); 6].map(|()| b"camera=wrist;fmt=rgb8".to_vec()),
            [(); 6].map(|()| b"sixteen bytes ..".to_vec()),
            [ours(u64::MAX), ours(u64::MAX), ours(0), Vec::new(), ours(3), ours(3)],
        ],
        // Of three streams each.
        [3, 0, 0, 0, 0, 3],
        [18, 0, 0, 0, 0, 0],
    );
    for ((attachments, restarts), missing) in rows.into_iter().zip(restarts).zip(missing) {
        let robot = ZenohLink::open(&profile.robot, &robot_zenoh).unwrap();
        let link = ZenohLink::open(&profile.robot, &profile.zenoh).unwrap();
        let mut source = ZenohSource::new(&link, &profile).unwrap();
        let driver = Driver::new(&robot);
        let mut lent = Observation::of(&profile);
        for (number, attachment) in (1..).zip(&attachments) {
            driver.publish(number, attachment);
            let event = source.next(&mut lent, PATIENCE).unwrap();
            assert_eq!(event, SourceEvent::Observed, "{number}: {attachments:?}");
            let stamp = Stamp { nanos: 1_000_000_000 + number };
            assert_eq!((lent.frame.stamp, lent.extra[0].stamp), (stamp, stamp), "{attachments:?}");
            assert_eq!(lent.joints.positions, [number as f64; 2]);
        }
        assert_eq!((source.num_restarts(), source.num_dropped()), (restarts, missing), "{attachments:?}");
        drop(source);
        link.close().unwrap();
        robot.close().unwrap();
    }
}
