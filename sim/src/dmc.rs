//! The DeepMind Control Suite (Tunyasuvunakool et al. 2020, dm_control 1.0.50): one domain a file, seed-exact.

pub(crate) mod ball_in_cup;
pub(crate) mod cartpole;
pub(crate) mod cheetah;
pub(crate) mod finger;
pub(crate) mod point_mass;
pub(crate) mod reacher;
pub(crate) mod walker;

use std::path::Path;

use crate::error::SimError;
use crate::physics::{ModelSource, Physics, read_text};

/// Where the suite's MJCF lies below the folder of native parts.
const SUITE_FOLDER: &str = "dm_control/suite";
const COMMON_FILES: [&str; 3] = ["./common/materials.xml", "./common/skybox.xml", "./common/visual.xml"];

/// The MJCF text of a domain.
pub(crate) fn read_domain(native: &Path, domain: &str) -> Result<String, SimError> {
    read_text(&native.join(SUITE_FOLDER).join(format!("{domain}.xml")))
}

/// The physics of a domain as it stands in its file.
pub(crate) fn load_domain(native: &Path, domain: &str) -> Result<Physics, SimError> {
    let xml = read_domain(native, domain)?;
    load_xml(native, domain, &xml)
}

/// The physics of MJCF text that includes the suite's common files.
pub(crate) fn load_xml(native: &Path, name: &str, xml: &str) -> Result<Physics, SimError> {
    Physics::load(&ModelSource { name, xml, folder: &native.join(SUITE_FOLDER), files: &COMMON_FILES })
}

/// Replaces the one place where `from` stands in a domain's MJCF.
pub(crate) fn replace_once(domain: &str, xml: &str, from: &str, to: &str) -> Result<String, SimError> {
    if xml.matches(from).count() != 1 {
        let problem = format!("expected {from:?} once; the assets are not those of dm_control 1.0.50");
        return Err(SimError::Model { name: domain.to_string(), problem });
    }
    Ok(xml.replacen(from, to, 1))
}
