//! The robot of the process rows: 50 frames a second out, commands in, and no torque when none came in time. A process of its own, so
//! that it can be stopped and killed, and can live in a network of its own. A line on its standard input spoils what it sends.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use foresee_firmware_config::DeviceProfile;
use foresee_runtime::{Clock, CommandGate, Observation, ZenohLink, ZenohRobot, ZenohRouter};

use crate::words::print;

pub(super) const PERIOD: Duration = Duration::from_millis(20);
pub(super) const SILENCE: Duration = Duration::from_millis(100);
pub(super) const RATE_PER_SECOND: f64 = 20.0;
/// Frames that may be sent before the one that a command answers is too old.
const MAX_FRAMES: u64 = 5;

/// What a robot did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// A command, and the largest torque in it.
    Obeyed(f64),
    /// None came in time: no torque.
    Silent,
    Unsafe,
}

impl Kind {
    /// As [`Kind::line`] wrote it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("obeyed", torque)) => torque.parse().ok().map(Self::Obeyed),
            None if line == "silent" => Some(Self::Silent),
            None if line == "unsafe" => Some(Self::Unsafe),
            _ => None,
        }
    }

    fn line(self) -> String {
        match self {
            Self::Obeyed(torque) => format!("obeyed {torque}"),
            Self::Silent => "silent".to_owned(),
            Self::Unsafe => "unsafe".to_owned(),
        }
    }
}

/// What is wrong with the messages of a robot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spoil {
    Nothing,
    /// Images with less pixels than they say: no decoder takes them.
    CutImages,
    /// Images of half the height.
    HalfImages,
    /// Joint states without velocities, as many drivers send them.
    NoVelocities,
}

impl Spoil {
    const ALL: [Self; 4] = [Self::Nothing, Self::CutImages, Self::HalfImages, Self::NoVelocities];

    /// The line on standard input that asks for it.
    pub(super) fn line(self) -> String {
        format!("{self:?}")
    }

    /// What the lines on standard input ask for, as they come.
    fn wishes() -> std::io::Result<Receiver<Self>> {
        let (wish, wishes) = channel();
        let read = move || {
            let spoil = |line: String| Self::ALL.into_iter().find(|spoil| spoil.line() == line);
            let lines = std::io::stdin().lines().map_while(Result::ok);
            // When nobody listens any more the robot ends.
            for spoil in lines.filter_map(spoil) {
                let _ = wish.send(spoil);
            }
        };
        std::thread::Builder::new().name("foresee-fault-wishes".to_owned()).spawn(read)?;
        Ok(wishes)
    }

    fn apply(self, observation: &mut Observation) {
        let frame = &mut observation.frame;
        match self {
            Self::Nothing => {}
            Self::CutImages => frame.data.truncate(1000),
            Self::HalfImages => {
                frame.height /= 2;
                frame.data.truncate(frame.data.len() / 2);
            }
            Self::NoVelocities => observation.joints.velocities.clear(),
        }
    }
}

/// Plays the robot on the profile's zenoh until `stop`, and prints a line for everything that it does.
///
/// # Errors
/// One line: no zenoh, or a command that is none.
pub(crate) fn play(profile: &DeviceProfile, stop: &AtomicBool) -> anyhow::Result<()> {
    let link = ZenohLink::open(&profile.robot, &profile.zenoh)?;
    let names: Vec<String> = profile.joints.iter().map(|joint| joint.name.clone()).collect();
    let mut robot = ZenohRobot::at_fixed_rate(&link, names)?;
    let mut gate = CommandGate::new(MAX_FRAMES);
    let mut observation = Observation::blank(profile.camera.width, profile.camera.height, profile.joints.len());
    observation.frame.encoding = profile.camera.encoding;
    let mut values = vec![0.0; profile.joints.len()];
    // What the C header calls FORESEE_COMMAND_TIMEOUT_MILLIS.
    let silence = Duration::from_millis(profile.watchdog.action_timeout_millis);
    let judge = Judge::at_rest(profile.joints.len());
    let (wishes, mut spoil) = (Spoil::wishes()?, Spoil::Nothing);
    let (mut obeyed, mut deadline) = (Instant::now(), Instant::now());
    for sequence in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        observation.frame.sequence = sequence;
        observation.frame.stamp = Clock::Wall.now();
        observation.joints.stamp = observation.frame.stamp;
        let bytes = (0_u64..).zip(&mut observation.frame.data);
        bytes.for_each(|(at, byte)| {
            *byte = ((at ^ sequence.wrapping_mul(0x9E37_79B9)).wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u8
        });
        gate.sent(sequence);
        spoil = wishes.try_iter().last().unwrap_or(spoil);
        let mut spoilt = observation.clone();
        spoil.apply(&mut spoilt);
        robot.publish(&spoilt)?;
        deadline += PERIOD;
        // Until the next frame is due, commands are looked for every millisecond.
        while Instant::now() < deadline {
            if robot.newest_command(&mut gate, &mut values)?.is_some() {
                obeyed = Instant::now();
                print(&judge.judge(Some(&values)).line());
            } else if obeyed.elapsed() > silence {
                judge.rest();
                print(&Kind::Silent.line());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        deadline = deadline.max(Instant::now() - PERIOD);
    }
    link.close().map_err(Into::into)
}

/// Plays the router at an endpoint until `stop`.
///
/// # Errors
/// One line: an endpoint that is none, or is in use.
pub(crate) fn route(endpoint: &str, stop: &AtomicBool) -> anyhow::Result<()> {
    let _router = ZenohRouter::start(endpoint)?;
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(SILENCE);
    }
    Ok(())
}

/// Limits as the wire shows them: arrivals jitter, so two periods are granted to a change.
pub(super) struct Judge {
    num_joints: usize,
    last: Mutex<Option<(Vec<f64>, Instant)>>,
}

impl Judge {
    /// For joints that rest.
    fn at_rest(num_joints: usize) -> Self {
        let judge = Self::amid(num_joints);
        judge.rest();
        judge
    }

    /// For joints that move already: the first command changes nothing that is known.
    pub(super) fn amid(num_joints: usize) -> Self {
        Self { num_joints, last: Mutex::new(None) }
    }

    /// A command as it came; `None`: one that cannot be read.
    pub(super) fn judge(&self, values: Option<&[f64]>) -> Kind {
        let Some(values) = values.filter(|values| values.len() == self.num_joints) else { return Kind::Unsafe };
        let mut last = super::lock(&self.last);
        let is_in_range = values.iter().all(|value| value.is_finite() && value.abs() <= 1.0);
        let is_in_rate = last.as_ref().is_none_or(|(last, at)| {
            let granted = RATE_PER_SECOND * (at.elapsed() + 2 * PERIOD).as_secs_f64();
            values.iter().zip(last).all(|(value, last)| (value - last).abs() <= granted)
        });
        *last = Some((values.to_vec(), Instant::now()));
        match is_in_range && is_in_rate {
            true => Kind::Obeyed(values.iter().fold(0.0, |largest, value| value.abs().max(largest))),
            false => Kind::Unsafe,
        }
    }

    /// The joints were let go.
    fn rest(&self) {
        *super::lock(&self.last) = Some((vec![0.0; self.num_joints], Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_robot_did_is_read_as_it_was_written() {
        for kind in [Kind::Obeyed(0.25), Kind::Obeyed(0.0), Kind::Silent, Kind::Unsafe] {
            assert_eq!(Kind::parse(&kind.line()), Some(kind));
        }
        assert_eq!(Kind::parse("zenoh says hello"), None);
    }

    #[test]
    fn a_jump_and_a_value_that_is_none_are_unsafe() {
        let judge = Judge::at_rest(2);
        assert_eq!(judge.judge(Some(&[0.1, -0.2])), Kind::Obeyed(0.2));
        for values in [Some(&[f64::NAN, 0.0][..]), Some(&[1.5, 0.0]), Some(&[0.0]), None] {
            assert_eq!(Judge::at_rest(2).judge(values), Kind::Unsafe, "{values:?}");
        }
        assert_eq!(Judge::at_rest(1).judge(Some(&[0.95])), Kind::Unsafe, "faster than 20 a second");
        assert_eq!(Judge::amid(1).judge(Some(&[0.95])), Kind::Obeyed(0.95));
    }
}
