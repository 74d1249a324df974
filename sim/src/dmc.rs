//! The DeepMind Control Suite (Tunyasuvunakool et al. 2020, dm_control 1.0.50): one domain a file, seed-exact.

pub(crate) mod acrobot;
pub(crate) mod ball_in_cup;
pub(crate) mod cartpole;
pub(crate) mod cheetah;
pub(crate) mod dog;
pub(crate) mod finger;
pub(crate) mod fish;
pub(crate) mod hopper;
pub(crate) mod humanoid;
pub(crate) mod humanoid_cmu;
pub(crate) mod lqr;
pub(crate) mod manipulator;
pub(crate) mod pendulum;
mod planar_arm;
pub(crate) mod point_mass;
pub(crate) mod quadruped;
pub(crate) mod reacher;
pub(crate) mod stacker;
pub(crate) mod swimmer;
mod terrain;
pub(crate) mod walker;

use crate::error::SimError;
use crate::mjcf::Mjcf;
use crate::physics::{Assets, ModelSource, Physics, Textures, read_text};
use crate::verify::{Inexactness, REWARD_TOLERANCE};

/// Where the suite's MJCF lies below the folder of native parts.
pub(crate) const SUITE_FOLDER: &str = "dm_control/suite";
/// Stands in for the suite's skybox, whose texture is 11.5 MB a model.
const SMALL_SKYBOX: &str = r#"<mujoco><asset><texture name="skybox" type="skybox" builtin="gradient"
    rgb1=".4 .6 .8" rgb2="0 0 0" width="8" height="8"/></asset></mujoco>"#;
const COMMON_FILES: [&str; 3] = ["./common/materials.xml", "./common/skybox.xml", "./common/visual.xml"];

/// The MJCF of a domain, to be changed before it is loaded.
pub(crate) fn read_domain(assets: Assets<'_>, domain: &'static str) -> Result<Mjcf, SimError> {
    let text = read_text(&assets.native.join(SUITE_FOLDER).join(format!("{domain}.xml")))?;
    Ok(Mjcf::new(domain, &text))
}

/// The physics of a domain as it stands in its file.
pub(crate) fn load_domain(assets: Assets<'_>, domain: &'static str) -> Result<Physics, SimError> {
    load_mjcf(assets, &read_domain(assets, domain)?)
}

/// The physics of MJCF text that includes the suite's common files.
pub(crate) fn load_mjcf(assets: Assets<'_>, mjcf: &Mjcf) -> Result<Physics, SimError> {
    load_mjcf_with(assets, mjcf, Vec::new())
}

/// As [`load_mjcf`], with more files below the suite's folder.
pub(crate) fn load_mjcf_with(assets: Assets<'_>, mjcf: &Mjcf, mut files: Vec<String>) -> Result<Physics, SimError> {
    files.extend(COMMON_FILES.map(str::to_string));
    let texts: &[(&str, &str)] = match assets.textures {
        Textures::Full => &[],
        Textures::Small => &[("./common/skybox.xml", SMALL_SKYBOX)],
    };
    let folder = assets.native.join(SUITE_FOLDER);
    Physics::load(&ModelSource { name: mjcf.name(), xml: mjcf.text(), folder: &folder, files: &files, texts })
}

/// What of a task is not reproduced in every bit: numpy computes a few functions with vector code (Intel SVML, and its own
/// for `tanh`) that rounds the last bit otherwise than libm.
pub(crate) fn inexactness(task: &str) -> Option<Inexactness> {
    let domain = task.strip_prefix("dmc/")?.split('-').next()?;
    match domain {
        "finger" | "hopper" | "stacker" => Some(Inexactness {
            reason: "numpy's vectorised log1p of the touch sensors rounds the last bit otherwise than libm's",
            state: 0.0,
            observation: 1e-14,
            reward: REWARD_TOLERANCE,
        }),
        "quadruped" => Some(Inexactness {
            reason: "numpy's vectorised arcsinh and tanh of forces and ranges round the last bit otherwise than libm's",
            state: 0.0,
            observation: 1e-14,
            reward: REWARD_TOLERANCE,
        }),
        "manipulator" => Some(Inexactness {
            reason: "numpy's vectorised arctan2, which places an object in the hand, rounds the last bit otherwise than libm's; contacts multiply it with every step",
            state: 1e-7,
            observation: 1e-7,
            reward: REWARD_TOLERANCE,
        }),
        _ => None,
    }
}
