//! What other programs need to know of a profile, in their own languages: systemd, a Jetson's shell, zenoh, a motor controller's C.

mod header;
mod power;
mod systemd;
mod zenoh;

pub use header::zenoh_pico_header;
pub use power::power_script;
pub use systemd::{STOPPED, STOPPED_BADLY, UnitOptions, systemd_unit};
pub use zenoh::zenoh_config;

/// A profile that does not say what a file needs.
#[derive(Debug, thiserror::Error)]
#[error("profile `{profile}`: {key}: {rule}")]
pub struct RenderError {
    /// The profile.
    pub profile: String,
    /// The key, as a dotted path.
    pub key: String,
    /// What is missing or wrong, and what to do.
    pub rule: String,
}
