//! What a device is: camera, joints and their limits, rates, execution providers, transport.
//!
//! Depends on nothing of Foresee. A profile is TOML that may `inherit` another; keys are strict, units are in the names.
//! `RawProfile` (as written, `raw.rs`) becomes [`DeviceProfile`] (checked, `check.rs`) in [`load`](load()), and nothing further in
//! checks again.

mod check;
mod control;
mod encoding;
mod error;
mod inspect;
mod joint;
mod lens;
mod load;
mod nearest;
mod place;
mod profile;
mod raw;
mod render;
mod rig;

pub use check::is_endpoint;
pub use control::{
    BudgetProfile, RatesProfile, SafeAction, SafetyProfile, Scheduling, ThreadProfile, ThreadsProfile, WatchdogProfile,
    WorkspaceProfile,
};
pub use encoding::raw_refusal;
pub use error::{Place, ProfileError};
pub use inspect::{Difference, difference, notes, schema, show};
pub use joint::{JointLink, PositionLimits};
pub use lens::{IntrinsicsProfile, StraighteningProfile};
pub use load::{BUILT_IN_PROFILES, load, parse};
pub use profile::{
    CameraProfile, CommandKind, DeviceProfile, HardwareProfile, InferenceProfile, JointProfile, MountProfile, Pace,
    PixelEncoding, PowerProfile, Precision, Provider, ThermalProfile, ZenohMode, ZenohProfile,
};
pub use render::{
    RenderError, STOPPED, STOPPED_BADLY, UnitOptions, power_script, systemd_unit, zenoh_config, zenoh_pico_header,
};
pub use rig::{CameraOrder, ExtraCameraProfile};
