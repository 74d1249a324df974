//! How commands are limited, watched over, budgeted and scheduled: the tables `[safety]`, `[watchdog]`, `[budget]`, `[threads]` and
//! `[rates]`; each as written and as checked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::check::{Checked, within, wrong};
use crate::profile::{CommandKind, HardwareProfile, JointProfile, Pace};
use crate::rig::CameraOrder;

/// What the joints are told when the policy cannot be followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SafeAction {
    /// Positions brake and stay, velocities brake to zero, torques stay as they are (they carry a load).
    Hold,
    /// Torques work against the measured velocity; positions and velocities brake.
    Damp,
    /// Positions brake and stay, velocities and torques go to zero.
    #[default]
    Stop,
    /// Positions brake, then go to each joint's `home`.
    ReturnHome,
}

/// What the safety filter does beyond each joint's own limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SafetyProfile {
    /// When the policy cannot be followed.
    pub action: SafeAction,
    /// The box that no link may leave; `None`: not watched.
    pub workspace: Option<WorkspaceProfile>,
}

/// A box in the frame of the robot's base, for every joint's origin and the tool point.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceProfile {
    /// Corner of the smallest x, y, z; metres.
    pub minimum_metres: [f64; 3],
    /// Corner of the largest x, y, z; metres.
    pub maximum_metres: [f64; 3],
    /// The tool point in the frame of the last joint; metres.
    pub tool_metres: [f64; 3],
}

/// The independent watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogProfile {
    /// It looks this often; 1 to 10.
    pub look_millis: u64,
    /// Without a fresh command for this long it takes the safe action.
    pub action_timeout_millis: u64,
}

/// How long a tick may take; proved at start-up and watched while running.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BudgetProfile {
    /// Frame in memory to command in memory.
    pub total_millis: f64,
    /// Of it, preprocessing; `None`: not watched by itself.
    pub preprocess_millis: Option<f64>,
    /// Of it, the encoder.
    pub encode_millis: Option<f64>,
    /// Of it, the policy.
    pub policy_millis: Option<f64>,
    /// Ticks in a row that may be late before the safe action is taken.
    pub tolerated_misses: u32,
    /// Ticks of the self-test at start-up.
    pub self_test_ticks: u32,
}

/// How the operating system schedules the loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadsProfile {
    /// The policy.
    pub scheduling: Scheduling,
    /// Of the thread that encodes, decides and sends commands.
    pub control: ThreadProfile,
    /// Of the watchdog.
    pub watchdog: ThreadProfile,
    /// Keep every page in memory (`mlockall`).
    pub lock_memory: bool,
}

/// One thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadProfile {
    /// 1 to 99, for [`Scheduling::Fifo`].
    pub priority: u8,
    /// Cores that it may run on; empty: any.
    pub cores: Vec<usize>,
}

/// A scheduling policy of Linux.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheduling {
    /// `SCHED_OTHER`.
    #[default]
    Normal,
    /// `SCHED_FIFO`.
    Fifo,
}

/// Encoder and policy at rates of their own, in ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatesProfile {
    /// The encoder runs at every n-th tick; between, the last features serve.
    pub encode_every_ticks: u32,
    /// The policy runs at every n-th tick; between, its chunk of actions is played.
    pub policy_every_ticks: u32,
    /// The time between two actions of a chunk.
    pub chunk_step_millis: f64,
    /// No action of a chunk is played later than this after its observation.
    pub chunk_expiry_millis: f64,
    /// When the images of several cameras go through the encoder.
    pub cameras: CameraOrder,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSafety {
    /// What the joints are told when the policy cannot be followed; `stop` without it.
    action: Option<SafeAction>,
    /// The box that no link may leave; every joint needs its axis.
    workspace: Option<WorkspaceProfile>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWatchdog {
    /// How often the watchdog looks, 1 to 10; 5 without it.
    look_millis: Option<u64>,
    /// Without a fresh command for this long it takes the safe action; the greatest frame age without it.
    action_timeout_millis: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBudget {
    /// Frame in memory to command in memory.
    total_millis: f64,
    /// Of it, preprocessing.
    preprocess_millis: Option<f64>,
    /// Of it, the encoder.
    encode_millis: Option<f64>,
    /// Of it, the policy.
    policy_millis: Option<f64>,
    /// Ticks in a row that may be late before the safe action is taken; 2 without it.
    tolerated_misses: Option<u32>,
    /// Ticks of the self-test at start-up; 50 without it.
    self_test_ticks: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawThreads {
    /// `fifo` needs the right to it (the systemd unit gives it); `normal` without it.
    scheduling: Option<Scheduling>,
    /// 1 to 99, of the thread that encodes, decides and sends commands; 70 without it.
    control_priority: Option<u8>,
    /// 1 to 99, of the watchdog; 80 without it.
    watchdog_priority: Option<u8>,
    /// Cores that the control thread may run on, counted from 0; any without it.
    control_cores: Option<Vec<usize>>,
    /// Cores that the watchdog may run on, counted from 0; any without it.
    watchdog_cores: Option<Vec<usize>>,
    /// Keep every page in memory (`mlockall`).
    lock_memory: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRates {
    /// The encoder runs at every n-th tick; 1 without it.
    encode_every_ticks: Option<u32>,
    /// The policy runs at every n-th tick; 1 without it.
    policy_every_ticks: Option<u32>,
    /// The time between two actions of a chunk; the period without it.
    chunk_step_millis: Option<f64>,
    /// No action of a chunk is played later than this after its observation.
    chunk_expiry_millis: Option<f64>,
    /// When the images of several cameras go through the encoder: all as one `batch`, or `round_robin`; `batch` without it.
    cameras: Option<CameraOrder>,
}

const MAX_MILLIS: f64 = 60_000.0;

pub(crate) fn safety(raw: RawSafety, joints: &[JointProfile]) -> Checked<SafetyProfile> {
    let action = raw.action.unwrap_or_default();
    for joint in joints {
        let is_torque = matches!(joint.command, CommandKind::TorqueNormalised | CommandKind::TorqueNewtonMetres);
        if action == SafeAction::Damp && is_torque && joint.damping_per_radian_per_second == 0.0 {
            let rule = format!("needs damping_per_radian_per_second of joint `{}`, which takes torques", joint.name);
            return Err(wrong("safety.action", "\"damp\"", &rule));
        }
        if action == SafeAction::ReturnHome && joint.command != CommandKind::PositionRadians {
            let rule =
                format!("needs positions, and joint `{}` does not take them; use hold, damp or stop", joint.name);
            return Err(wrong("safety.action", "\"return_home\"", &rule));
        }
        if action == SafeAction::ReturnHome && joint.home.is_none() {
            let rule = format!(
                "needs home = RADIANS of joint `{}`, a pose in which the robot rests safely; give it, or use hold or stop",
                joint.name
            );
            return Err(wrong("safety.action", "\"return_home\"", &rule));
        }
    }
    if let Some(workspace) = &raw.workspace {
        let pairs = workspace.minimum_metres.iter().zip(&workspace.maximum_metres);
        let finite = workspace.tool_metres.iter().chain(&workspace.minimum_metres).chain(&workspace.maximum_metres);
        if !{ pairs }.all(|(low, high)| low < high) || !{ finite }.all(|value| value.is_finite()) {
            let corners =
                format!("{:?} with maximum_metres = {:?}", workspace.minimum_metres, workspace.maximum_metres);
            let rule = "corners and tool must be finite, each minimum < its maximum";
            return Err(wrong("safety.workspace.minimum_metres", corners, rule));
        }
        if let Some(joint) = joints.iter().find(|joint| joint.link.is_none()) {
            let rule = format!("needs axis = [x, y, z] (and origin_metres) of joint `{}`", joint.name);
            return Err(wrong("safety.workspace", "given", &rule));
        }
    }
    Ok(SafetyProfile { action, workspace: raw.workspace })
}

pub(crate) fn watchdog(raw: &RawWatchdog, pace: Pace) -> Checked<WatchdogProfile> {
    let look_millis = raw.look_millis.unwrap_or(5);
    within("watchdog.look_millis", look_millis, 1..=10)?;
    let period_millis = pace.period().as_secs_f64() * 1e3;
    let patience = match pace {
        Pace::Lockstep { .. } => 10_000,
        Pace::Fixed { max_frame_age_millis, .. } => max_frame_age_millis,
    };
    let Some(action_timeout_millis) = raw.action_timeout_millis else {
        let action_timeout_millis = patience.max((1.5 * period_millis).ceil() as u64);
        return Ok(WatchdogProfile { look_millis, action_timeout_millis });
    };
    within("watchdog.action_timeout_millis", action_timeout_millis, 1..=60_000)?;
    if period_millis >= action_timeout_millis as f64 {
        let rule = format!("must be longer than the pace's period of {period_millis:.1} ms");
        return Err(wrong("watchdog.action_timeout_millis", action_timeout_millis, &rule));
    }
    Ok(WatchdogProfile { look_millis, action_timeout_millis })
}

pub(crate) fn budget(raw: Option<RawBudget>) -> Checked<Option<BudgetProfile>> {
    let Some(raw) = raw else { return Ok(None) };
    within("budget.total_millis", raw.total_millis, 0.001..=MAX_MILLIS)?;
    let stages = [
        ("budget.preprocess_millis", raw.preprocess_millis),
        ("budget.encode_millis", raw.encode_millis),
        ("budget.policy_millis", raw.policy_millis),
    ];
    for (key, millis) in stages {
        if let Some(millis) = millis {
            within(key, millis, 0.001..=raw.total_millis)?;
        }
    }
    let sum: f64 = stages.iter().filter_map(|(_, millis)| *millis).sum();
    if sum > raw.total_millis {
        let rule = format!("is less than the sum of its stages, {sum}");
        return Err(wrong("budget.total_millis", raw.total_millis, &rule));
    }
    let (tolerated_misses, self_test_ticks) = (raw.tolerated_misses.unwrap_or(2), raw.self_test_ticks.unwrap_or(50));
    within("budget.tolerated_misses", tolerated_misses, 0..=1000)?;
    within("budget.self_test_ticks", self_test_ticks, 1..=10_000)?;
    let RawBudget { total_millis, preprocess_millis, encode_millis, policy_millis, .. } = raw;
    Ok(Some(BudgetProfile {
        total_millis,
        preprocess_millis,
        encode_millis,
        policy_millis,
        tolerated_misses,
        self_test_ticks,
    }))
}

pub(crate) fn threads(raw: RawThreads, hardware: Option<HardwareProfile>) -> Checked<ThreadsProfile> {
    let scheduling = raw.scheduling.unwrap_or_default();
    let num_cores = hardware.map_or(1024, |hardware| hardware.cpu_cores as usize);
    let thread = |name: &str, priority: Option<u8>, cores: Option<Vec<usize>>, usual: u8| {
        let key = format!("threads.{name}_priority");
        if let (Some(priority), Scheduling::Normal) = (priority, scheduling) {
            return Err(wrong(&key, priority, "needs scheduling = \"fifo\""));
        }
        let priority = priority.unwrap_or(usual);
        within(&key, priority, 1..=99)?;
        let cores = cores.unwrap_or_default();
        for core in &cores {
            within(&format!("threads.{name}_cores"), *core, 0..=num_cores.saturating_sub(1))?;
        }
        Ok(ThreadProfile { priority, cores })
    };
    Ok(ThreadsProfile {
        scheduling,
        control: thread("control", raw.control_priority, raw.control_cores, 70)?,
        watchdog: thread("watchdog", raw.watchdog_priority, raw.watchdog_cores, 80)?,
        lock_memory: raw.lock_memory.unwrap_or_default(),
    })
}

pub(crate) fn rates(raw: &RawRates, pace: Pace) -> Checked<RatesProfile> {
    let (encode, policy) = (raw.encode_every_ticks.unwrap_or(1), raw.policy_every_ticks.unwrap_or(1));
    within("rates.encode_every_ticks", encode, 1..=1000)?;
    within("rates.policy_every_ticks", policy, 1..=1000)?;
    let period_millis = pace.period().as_secs_f64() * 1e3;
    let step_millis = raw.chunk_step_millis.unwrap_or(period_millis);
    within("rates.chunk_step_millis", step_millis, 0.1..=MAX_MILLIS)?;
    let between = f64::from(policy) * period_millis;
    let expiry_millis = raw.chunk_expiry_millis.unwrap_or(2.0 * between);
    within("rates.chunk_expiry_millis", expiry_millis, between..=MAX_MILLIS.max(between))?;
    Ok(RatesProfile {
        encode_every_ticks: encode,
        policy_every_ticks: policy,
        chunk_step_millis: step_millis,
        chunk_expiry_millis: expiry_millis,
        cameras: raw.cameras.unwrap_or_default(),
    })
}
