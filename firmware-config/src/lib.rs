//! What a device is: camera, joints and their limits, rates, execution providers, transport.
//!
//! Depends on nothing of Foresee. A profile is TOML that may `inherit` another; keys are strict, units are in the names.
//! `RawProfile` (as written) becomes [`DeviceProfile`] (checked) in [`load`], and nothing further in checks again.

mod control;
mod error;
mod profile;
mod raw;

pub use control::{
    BudgetProfile, JointLink, PositionLimits, RatesProfile, SafeAction, SafetyProfile, Scheduling, ThreadProfile,
    ThreadsProfile, WatchdogProfile, WorkspaceProfile,
};
pub use error::ProfileError;
pub use profile::{
    CameraProfile, CommandKind, DeviceProfile, InferenceProfile, JointProfile, Pace, PixelEncoding, Provider,
    ZenohProfile,
};
pub use raw::{BUILT_IN_PROFILES, load, parse};
