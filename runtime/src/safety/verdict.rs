//! What the filter has to say: what it did to an action, why the safe action is taken, and what the joints are doing.

use crate::time::Stamp;

/// What the filter did to an action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Joints whose value was moved into the range.
    pub num_clamped: u32,
    /// Joints that were slowed to their rate, acceleration or jerk.
    pub num_rate_limited: u32,
    /// Joints kept back from a position limit or from the side of the workspace.
    pub num_position_limited: u32,
    /// Why the safe action was taken instead, if it was.
    pub held: Option<Hold>,
}

/// Why the safe action is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The action or the joint state held NaN or infinity: a latched fault, until [`super::SafetyFilter::clear`].
    NotFinite,
    /// The action had the wrong number of values.
    WrongLength,
    /// A stage before the filter failed.
    StageFailed,
    /// The frame was older than the profile allows or than one before it, or none came in time.
    StaleFrame,
    /// Frames have come without any change for too long.
    FrozenFrame,
    /// No command was made in time: something hangs.
    NoCommand,
    /// The machine's clock jumped, or a frame's stamp lies in the future.
    ClockJumped,
    /// Ticks took longer than the declared budget.
    OverBudget,
    /// No action that is still valid: the chunk is used up or too old.
    NoAction,
    /// The joint state is missing, too old, or of a time that is yet to come.
    NoJointState,
    /// A link is outside the workspace, or could not stop inside it.
    OutsideWorkspace,
    /// Nothing is held and nothing sent: where a joint that takes positions stands was never measured.
    Unmeasured,
    /// The loop stops, by the operator, a signal or its end: the last commands of all.
    Stopped,
}

impl Hold {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::NotFinite,
        Self::WrongLength,
        Self::StageFailed,
        Self::StaleFrame,
        Self::FrozenFrame,
        Self::NoCommand,
        Self::ClockJumped,
        Self::OverBudget,
        Self::NoAction,
        Self::NoJointState,
        Self::OutsideWorkspace,
        Self::Unmeasured,
        Self::Stopped,
    ];

    /// The name used in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFinite => "not_finite",
            Self::WrongLength => "wrong_length",
            Self::StageFailed => "stage_failed",
            Self::StaleFrame => "stale_frame",
            Self::FrozenFrame => "frozen_frame",
            Self::NoCommand => "no_command",
            Self::ClockJumped => "clock_jumped",
            Self::OverBudget => "over_budget",
            Self::NoAction => "no_action",
            Self::NoJointState => "no_joint_state",
            Self::OutsideWorkspace => "outside_workspace",
            Self::Unmeasured => "unmeasured",
            Self::Stopped => "stopped",
        }
    }

    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotFinite => "an action or joint state that is not finite; latched until the fault is cleared",
            Self::WrongLength => "an action with the wrong number of values",
            Self::StageFailed => "a stage failed",
            Self::StaleFrame => "no frame that is new enough",
            Self::FrozenFrame => "a camera that shows the same frame again and again",
            Self::NoCommand => "no command in time; a stage hangs",
            Self::ClockJumped => "a clock that jumped",
            Self::OverBudget => "ticks longer than the declared budget",
            Self::NoAction => "no action that is still valid",
            Self::NoJointState => "no joint state that is new enough",
            Self::OutsideWorkspace => "a link outside the workspace",
            Self::Unmeasured => "nothing to hold, and nothing sent: no joint state came yet",
            Self::Stopped => "a stop",
        }
    }
}

/// What the joints are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SafetyState {
    /// Nothing was commanded yet.
    #[default]
    Starting,
    /// The policy is followed.
    Normal,
    /// The policy is followed, and something is not as it was declared.
    Degraded {
        /// Since when.
        since: Stamp,
    },
    /// The safe action is taken; the next sound action ends it.
    Holding {
        /// Since when.
        since: Stamp,
        /// Why.
        reason: Hold,
    },
    /// The safe action is taken, and nothing but a reset, or clearing the fault, ends it.
    Stopped {
        /// Why.
        reason: Hold,
    },
}

impl SafetyState {
    /// The state in which the safe action is taken for this reason from `stamp` on.
    pub(super) fn holding(self, stamp: Stamp, why: Hold) -> Self {
        match (self, why) {
            (Self::Stopped { reason }, _) => Self::Stopped { reason },
            (_, Hold::NotFinite | Hold::Stopped) => Self::Stopped { reason: why },
            (Self::Holding { since, .. }, _) => Self::Holding { since, reason: why },
            _ => Self::Holding { since: stamp, reason: why },
        }
    }

    /// Why the safe action is taken, if it is.
    pub fn reason(self) -> Option<Hold> {
        match self {
            Self::Holding { reason, .. } | Self::Stopped { reason } => Some(reason),
            Self::Starting | Self::Normal | Self::Degraded { .. } => None,
        }
    }
}
