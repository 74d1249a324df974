//! What a log's commands are held against: the replay's, one by one, and what excuses a difference.

use foresee_firmware_config::{CommandKind, DeviceProfile, JointProfile, Pace, SafeAction};
use foresee_runtime::{RecordedCommand, Stamp, Verdict};

/// A command of the log is looked for among so many of the replay's.
const WINDOW: usize = 256;
/// Rounding does not carry a command off its way.
const ROUNDING: f64 = 1e-9;

/// What the replay made of a frame.
pub(super) struct Answer {
    pub(super) stamp: Stamp,
    pub(super) values: Vec<f64>,
    /// A limit or a hold made it, not the policy alone.
    pub(super) is_shaped: bool,
    /// Frames before it are not in the log, and the loop may have seen them.
    pub(super) is_behind_gap: bool,
}

/// Whether the time at which a command was made, which no log has, is in it.
pub(super) fn is_shaped(verdict: Verdict) -> bool {
    verdict.held.is_some() || verdict.num_rate_limited > 0 || verdict.num_position_limited > 0
}

/// How many commands were compared, and how they came out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Compared {
    pub(super) num_compared: u64,
    pub(super) num_equal: u64,
    /// Differing commands that a limit or a hold shaped, then or now.
    pub(super) num_excused: u64,
    pub(super) worst: f64,
}

impl Compared {
    /// Differing commands that nothing excuses.
    pub(super) fn num_unexplained(&self) -> u64 {
        self.num_compared - self.num_equal - self.num_excused
    }

    /// Compares a log's commands, of which so many came before each episode, with the replay's, which are by episode: first what came before
    /// any. Episode by episode, since on simulated time each one has the same stamps.
    pub(super) fn of(
        profile: &DeviceProfile,
        (recorded, begins): (&[RecordedCommand], &[usize]),
        replayed: &[Vec<Answer>],
    ) -> Self {
        let mut compared = Self::default();
        let mut begin = 0;
        for (episode_idx, replayed) in replayed.iter().enumerate() {
            let end = begins.get(episode_idx).copied().unwrap_or(recorded.len());
            compared.add_episode(profile, recorded.get(begin..end).unwrap_or_default(), replayed);
            begin = end;
        }
        compared
    }

    /// Compares an episode: commands of equal stamps, in order. What only one side has (what the watchdog commanded, the last stop, a
    /// lost end) is not compared. At a fixed pace limits count by the time at which a command was made, and holds by the age that a
    /// frame then had: what one of them shaped, then or now, is excused.
    fn add_episode(&mut self, profile: &DeviceProfile, recorded: &[RecordedCommand], replayed: &[Answer]) {
        let is_fixed = matches!(profile.pace, Pace::Fixed { .. });
        let mut rest = replayed;
        let mut follows_on = true;
        for (then_idx, then) in recorded.iter().enumerate() {
            let Some(found) = rest.iter().take(WINDOW).position(|now| now.stamp == then.stamp) else {
                follows_on = false;
                continue;
            };
            let Some((now, behind)) = rest.get(found..).and_then(<[_]>::split_first) else { continue };
            rest = behind;
            follows_on &= found == 0 && !now.is_behind_gap;
            let before = recorded.get(..then_idx).unwrap_or_default();
            let is_equal = bits(&then.values) == bits(&now.values);
            let is_way_of = |action| is_way(&profile.joints, action, (before, &then.values, &now.values));
            let is_excused = is_fixed
                && !is_equal
                && (!follows_on || now.is_shaped || is_way_of(None) || is_way_of(Some(profile.safety.action)));
            follows_on = true;
            self.num_compared += 1;
            self.num_equal += u64::from(is_equal);
            self.num_excused += u64::from(is_excused);
            let differences = then.values.iter().zip(&now.values).map(|(then, now)| (then - now).abs());
            self.worst = differences.fold(self.worst, f64::max);
        }
    }
}

fn bits(values: &[f64]) -> impl PartialEq {
    values.iter().map(|value| value.to_bits()).collect::<Vec<_>>()
}

/// Whether every joint was on its way from the command before to what is wanted now, or to where the safe action brings it.
fn is_way(
    joints: &[JointProfile],
    action: Option<SafeAction>,
    (before, then, wanted): (&[RecordedCommand], &[f64], &[f64]),
) -> bool {
    let [.., last] = before else { return false };
    let earlier = before.iter().rev().nth(1).unwrap_or(last);
    let values = last.values.iter().zip(&earlier.values).zip(then).zip(wanted);
    joints.iter().zip(values).all(|(joint, (((last, earlier), then), wanted))| {
        let target = match action {
            None => Some(*wanted),
            Some(action) => rest(joint, action, *last),
        };
        // A joint of limited acceleration cannot turn round at once.
        let carried = joint.max_acceleration_per_second_squared.map_or(*last, |_| 2.0 * last - earlier);
        target.is_none_or(|target| {
            let (low, high) = (last.min(target).min(carried), last.max(target).max(carried));
            (low - ROUNDING..=high + ROUNDING).contains(then)
        })
    })
}

/// Where a safe action brings a command that is at `last`; `None`: that depends on what was measured.
fn rest(joint: &JointProfile, action: SafeAction, last: f64) -> Option<f64> {
    let quiet = 0.0_f64.max(joint.minimum).min(joint.maximum);
    match (joint.command, action) {
        (CommandKind::PositionRadians, SafeAction::ReturnHome) => joint.home,
        (CommandKind::PositionRadians, _) => Some(last),
        (CommandKind::VelocityRadiansPerSecond, _) => Some(quiet),
        (_, SafeAction::Hold) => Some(last),
        (_, SafeAction::Damp) => None,
        (_, SafeAction::Stop | SafeAction::ReturnHome) => Some(quiet),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIXED: &str = "[pace]\nkind = \"fixed\"\nrate_hertz = 50.0\nmax_frame_age_millis = 100\n";

    fn profile(more: &str) -> DeviceProfile {
        let joint = "[[joints]]\nname = \"a\"\ncommand = \"torque_newton_metres\"\nminimum = -1.0\nmaximum = 1.0\nmax_rate_per_second = 5.0\n";
        foresee_firmware_config::parse("mine", &format!("inherit = \"desktop-sim\"\n{more}{joint}")).unwrap()
    }

    fn recorded(commands: &[(u64, f64)]) -> Vec<RecordedCommand> {
        let command =
            |(nanos, value): &(u64, f64)| RecordedCommand { stamp: Stamp { nanos: *nanos }, values: vec![*value] };
        commands.iter().map(command).collect()
    }

    fn replayed(commands: &[(u64, f64)]) -> Vec<Answer> {
        let answer = |(nanos, value): &(u64, f64)| Answer {
            stamp: Stamp { nanos: *nanos },
            values: vec![*value],
            is_shaped: false,
            is_behind_gap: false,
        };
        commands.iter().map(answer).collect()
    }

    /// Compared, equal, excused.
    fn check(more: &str, then: &[(u64, f64)], now: &[Answer], expected: [u64; 3]) {
        let mut compared = Compared::default();
        compared.add_episode(&profile(more), &recorded(then), now);
        let Compared { num_compared, num_equal, num_excused, .. } = compared;
        assert_eq!([num_compared, num_equal, num_excused], expected, "{then:?}");
    }

    #[test]
    fn commands_without_a_frame_do_not_shift_the_others() {
        // The watchdog commanded at 7 and 8, and a stop came last.
        let then = [(1, 0.1), (2, 0.2), (7, 0.0), (8, 0.0), (9, 0.3), (10, 0.4), (99, 0.0)];
        let now = replayed(&[(1, 0.1), (2, 0.2), (9, 0.3), (10, 0.5), (50, 0.0)]);
        check("", &then, &now, [4, 3, 0]);
        let mut compared = Compared::default();
        compared.add_episode(&profile(""), &recorded(&then), &now);
        assert!((compared.worst - 0.1).abs() < 1e-12 && compared.num_unexplained() == 1);
    }

    /// The third observation of the first episode is lost, and its command is not.
    #[test]
    fn a_lost_observation_is_not_looked_for_in_another_episode() {
        let episode = [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)];
        let then = recorded(&[episode, episode].concat());
        let now = [Vec::new(), replayed(&[(1, 0.1), (2, 0.2), (4, 0.4)]), replayed(&episode)];
        let compared = Compared::of(&profile(""), (&then, &[0, 4]), &now);
        assert_eq!((compared.num_compared, compared.num_equal), (7, 7));
        // What came before any episode is compared as well.
        let now = [replayed(&[(1, 0.1)]), replayed(&episode)];
        let compared = Compared::of(&profile(""), (&then, &[4]), &now);
        assert_eq!((compared.num_compared, compared.num_equal), (5, 5));
    }

    /// At a fixed pace a difference is one all the same, where neither a limit nor a hold can have made it.
    #[test]
    fn at_a_fixed_pace_only_what_a_limit_or_a_hold_shaped_is_excused() {
        let now = || replayed(&[(1, 0.1), (2, 0.2), (3, 0.6), (4, 0.6), (5, 0.6)]);
        check(FIXED, &[(1, 0.1), (2, 0.2), (3, 0.6), (4, 0.6), (5, 0.6)], &now(), [5, 5, 0]);
        // Beyond what was wanted: no limit does that.
        check(FIXED, &[(1, 0.1), (2, 0.25), (3, 0.7), (4, 0.6), (5, 0.6)], &now(), [5, 3, 0]);
        // On the way to it, held at zero, and still on the way from there.
        check(FIXED, &[(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.6), (5, 0.6)], &now(), [5, 4, 1]);
        check(FIXED, &[(1, 0.1), (2, 0.2), (3, 0.0), (4, 0.1), (5, 0.2)], &now(), [5, 2, 3]);
        // Behind what the watchdog commanded.
        check(FIXED, &[(1, 0.1), (2, 0.2), (7, -0.9), (3, 0.9), (4, 0.6)], &now(), [4, 3, 1]);
        let mut shaped = now();
        shaped[2].is_shaped = true;
        check(FIXED, &[(1, 0.1), (2, 0.2), (3, 0.9), (4, 0.6), (5, 0.6)], &shaped, [5, 4, 1]);
        // What a limit shaped excuses nothing behind it that is not on its way.
        let mut shaped = now();
        shaped[1].is_shaped = true;
        check(FIXED, &[(1, 0.1), (2, 0.9), (3, 1.0), (4, 1.1), (5, 1.2)], &shaped, [5, 1, 1]);
        let mut lost = now();
        lost[2].is_behind_gap = true;
        check(FIXED, &[(1, 0.1), (2, 0.2), (3, 0.9), (4, 0.6), (5, 0.6)], &lost, [5, 4, 1]);
        // In lockstep nothing is.
        check("", &[(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.6), (5, 0.6)], &now(), [5, 4, 0]);
    }
}
