//! A scene of our own: an arm with a gripper on a table, a camera on its wrist and a fixed one. It is made of MuJoCo's
//! primitives and needs no assets.

mod arm;
pub(crate) mod calibration;
mod expert;
pub(crate) mod pick_place;

use std::path::Path;

use crate::error::SimError;
use crate::physics::{ModelSource, Physics};

const SCENE: &str = include_str!("table/scene.xml");

/// Seconds between actions; the physics steps every 2 ms.
const CONTROL_TIMESTEP_SECONDS: f64 = 0.04;

/// The scene with more in the world and in the hand, as MJCF.
pub(crate) fn load(name: &str, world: &str, hand: &str) -> Result<Physics, SimError> {
    let xml = SCENE.replace("{world}", world).replace("{hand}", hand);
    Physics::load(&ModelSource { name, xml: &xml, folder: Path::new(""), files: &[], texts: &[] })
}
